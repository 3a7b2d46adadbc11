"""Data-parallel training: several devices share every step (Li et al., VLDB 2020), one process for each.

The process of the fit loop leads. It keeps the weights, the optimiser, the epochs and the checkpoint, and computes its share of
a batch on the first device. The others get the weights and the positions of their share, and give back its gradients. They keep
nothing from one step to the next: whatever happens in a step, the leader can ask for another, with smaller batches for example.

A batch stays as large as the settings say, and its loss is the mean over all of its images: as long as nothing is drawn and no
layer looks at the whole batch, shared steps are those of one device up to rounding. Batch normalisation takes its mean and
variance from each device's share, as in torch's own DistributedDataParallel; the leader's are kept.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, yet not in its list of names

from vitrail.engine import available_cores, limited_to, processes_beside
from vitrail.errors import VitrailError
from vitrail.records import IntArray
from vitrail.training.device import ComputeDevice
from vitrail.training.one_device import Examples, OneDevice, Plan

LONGEST_WAIT = timedelta(days=1)
"""A process waits so long for what it is asked next; it ends with the leader anyway."""
LOOK_SECONDS = 0.05
"""The leader looks this often whether the others have loaded what they need."""
FAILED = 1.0
"""What a process that could not compute its share adds to the last number of what all give back."""

GRADIENTS, LOGITS, END = "gradients", "logits", "end"
"""What the leader asks the others for."""
LOOPBACK = ("lo", "lo0")
"""Names of the network interface that no other machine reaches, on Linux and on macOS."""


def shares_of(positions: IntArray, count: int) -> list[IntArray]:
    """Cut a batch into a share for each device, as even as can be.

    A share has two images or more, for batch normalisation has no variance of one: small batches leave devices idle.

    Args:
        positions: Of the images, shape (n,), n at least 1.
        count: Number of devices.
    """
    busy = max(1, min(count, len(positions) // 2))
    return [*np.array_split(positions, busy), *[positions[:0]] * (count - busy)]


class SeveralDevices(OneDevice):
    """Computes steps together with the processes of other devices. Made by :func:`several_devices`.

    Args:
        module: What is trained, on the first device.
        examples: Its images.
        plan: Of the training, on the first device.
        store: Through which the others are told what to do.
        followers: What the others end with, in the order of their devices.
        names: Of their devices.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        examples: Examples,
        plan: Plan,
        *,
        store: TCPStore,
        followers: Sequence[Future[None]],
        names: Sequence[str],
    ) -> None:
        super().__init__(module, examples, plan)
        self._store, self._followers, self._names = store, followers, names
        self._asked = 0

    def gradients(
        self,
        batches: Sequence[IntArray],
        generator: np.random.Generator,
        scaler: torch.amp.GradScaler,
        *,
        number: int,
    ) -> Generator[torch.Tensor, None, None]:
        """See :meth:`OneDevice.gradients`; the leader draws from ``generator`` for its own share alone."""
        shares = [shares_of(positions, 1 + len(self._followers)) for positions in batches]
        learning = [parameter for parameter in self.module.parameters() if parameter.requires_grad]
        length = 1 + sum(parameter.numel() for parameter in learning)
        with contextlib.closing(self.inputs([share[0] for share in shares], generator)) as prepared:
            for step, (positions, (own, *others), inputs) in enumerate(zip(batches, shares, prepared, strict=True)):
                whole = self.plan.weight_of(self.examples.training_labels[positions])
                asked = {"number": number, "step": step, "whole": whole, "scale": scaler.get_scale()}

                def computed(own: IntArray = own, inputs: torch.Tensor = inputs, asked: dict[str, Any] = asked) -> torch.Tensor:
                    return share_gradients(self, inputs, own, whole=asked["whole"], scale=asked["scale"])

                found = self._together(GRADIENTS, others, asked, self.module, computed, length)
                _put_gradients(learning, found[:-1])
                yield found[-1]

    def logits(self, module: torch.nn.Module, *, size: int) -> torch.Tensor:
        """See :meth:`OneDevice.logits`."""
        count, classes = len(self.examples.validation_labels), self.plan.classes
        own, *others = np.array_split(np.arange(count), 1 + len(self._followers))

        def computed() -> torch.Tensor:
            return share_logits(self, module, own, size=size)

        return self._together(LOGITS, others, {"size": size}, module, computed, count * classes).reshape(count, classes).cpu()

    def end(self) -> None:
        """Tell the others that nothing will be asked any more."""
        self._ask(END)

    def _ask(self, what: str, asked: Sequence[dict[str, Any]] = ()) -> None:
        """Ask the others for the same, each with arguments of its own."""
        self._asked += 1
        self._store.set(f"task/{self._asked}", json.dumps([what, asked]))
        if self._asked > 1:  # everyone has read the one before, or nobody could have answered it
            self._store.delete_key(f"task/{self._asked - 1}")

    def _together(
        self,
        what: str,
        others: Sequence[IntArray],
        asked: dict[str, Any],
        module: torch.nn.Module,
        own: Callable[[], torch.Tensor],
        length: int,
    ) -> torch.Tensor:
        """Return the sum of what all compute of their shares, shape (length,).

        Raises:
            Whatever the leader's own share raises; ``RuntimeError`` with the words of another's error.
            VitrailError: A process has ended.
        """
        self._ask(what, [{**asked, "positions": positions.tolist()} for positions in others])
        failure: Exception | None = None
        with self._told_of_ends():
            distributed.broadcast(_state(module), src=0)
            try:
                part = own()
            except Exception as error:
                failure, part = error, torch.zeros(length, device=self.plan.device.device)
            total = _with_flag(part, failed=failure is not None)
            distributed.reduce(total, dst=0)
            failed = float(total[-1]) > 0
        if failure is not None:
            raise failure
        if failed:
            words = [self._store.get(key).decode() for key in self._errors() if self._store.check([key])]
            for key in self._errors():
                self._store.delete_key(key)
            raise RuntimeError("; ".join(words))
        return total[:-1]

    def _errors(self) -> list[str]:
        return [f"error/{rank}" for rank, _ in enumerate(self._followers, start=1)]

    @contextlib.contextmanager
    def _told_of_ends(self) -> Iterator[None]:
        """Say who is gone where a connection breaks."""
        try:
            yield
        except RuntimeError as error:
            gone = [name for name, one in zip(self._names, self._followers, strict=True) if _ends_soon(one)]
            if not gone:
                raise
            raise VitrailError(
                f"training.devices ({1 + len(self._followers)}): the process of {', '.join(gone)} has ended: every device that "
                "shares the steps is needed to the end. Was it killed, or did main memory run out? Give the same command again: "
                "it goes on where this training stood. A smaller training.devices needs less memory."
            ) from error


def _ends_soon(follower: Future[None]) -> bool:
    """Return whether a process has ended; that its connection broke may be known a little earlier than that."""
    with contextlib.suppress(Exception):
        follower.result(timeout=2)
    return follower.done()


@contextlib.contextmanager
def several_devices(
    module: torch.nn.Module, examples: Examples, plan: Plan, devices: Sequence[ComputeDevice]
) -> Iterator[SeveralDevices]:
    """Start a process for every device but the first, whose process is this one.

    Args:
        module: In main memory; on the first device while the context lasts.
        examples: Its images; they are pickled.
        plan: Of the training, on the first device.
        devices: At least two, of one kind. The CPU may come several times: its cores are divided.

    Raises:
        VitrailError: A process cannot be started.
    """
    count = len(devices)
    threads = max(1, available_cores() // count) if plan.device.device.type == "cpu" else available_cores()
    store = _own_store()
    with processes_beside(count - 1) as executor, limited_to(threads, "torch"):
        followers = [
            _started(executor, rank, count, store.port, threads, module, examples, replace(plan, device=device))
            for rank, device in enumerate(devices)
            if rank > 0
        ]
        _wait_for(store, followers)
        _join(store, 0, count, plan.device)
        try:
            module.to(plan.device.device)
            names = [device.name for device in devices[1:]]
            leader = SeveralDevices(module, examples, plan, store=store, followers=followers, names=names)
            yield leader
            leader.end()
        finally:
            distributed.destroy_process_group()


def _own_store() -> TCPStore:
    """Return a store on a free port of the loopback interface: left alone, torch would listen on all of them."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    return TCPStore(
        "127.0.0.1", port, is_master=True, wait_for_workers=False, timeout=LONGEST_WAIT, master_listen_fd=listening.detach()
    )


def _started(executor: Executor, *arguments: Any) -> Future[None]:
    return executor.submit(_follow, *arguments)


def _wait_for(store: TCPStore, followers: Sequence[Future[None]]) -> None:
    """Wait until all others have loaded what they need: who waits in torch would not hear that one of them is gone."""
    for rank, follower in enumerate(followers, start=1):
        while not store.check([f"ready/{rank}"]):
            if follower.done():
                error = follower.exception()
                raise VitrailError(f"training.devices: the process of device {rank + 1} ended before the first step: {error}")
            time.sleep(LOOK_SECONDS)


def _join(store: TCPStore, rank: int, count: int, device: ComputeDevice) -> None:
    if device.device.type != "cpu":
        getattr(torch, device.device.type).set_device(device.device)
    backend = distributed.get_default_backend_for_device(device.device)
    with _over_loopback():
        distributed.init_process_group(backend, store=store, rank=rank, world_size=count)


@contextlib.contextmanager
def _over_loopback() -> Iterator[None]:
    """Let torch's processes meet where no other machine can reach them, unless the user has said otherwise."""
    interface = next((name for _, name in socket.if_nameindex() if name in LOOPBACK), None)
    keys = [key for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME") if interface and key not in os.environ]
    os.environ.update(dict.fromkeys(keys, interface or ""))
    try:
        yield
    finally:
        for key in keys:
            del os.environ[key]


# ---------------------------------------------------------------------------------------------------- the others


def _follow(rank: int, count: int, port: int, threads: int, module: torch.nn.Module, examples: Examples, plan: Plan) -> None:
    """Do what the leader asks for until it asks for nothing more."""
    with limited_to(threads, "torch"):
        store = TCPStore("127.0.0.1", port, is_master=False, timeout=LONGEST_WAIT)
        module.to(plan.device.device)
        follower = _Follower(OneDevice(module, examples, plan), rank)
        store.set(f"ready/{rank}", "")
        _join(store, rank, count, plan.device)
        try:
            for number in itertools.count(1):
                what, asked = json.loads(store.get(f"task/{number}"))
                if what == END:
                    break
                follower.answer(what, asked[rank - 1], store)
        finally:
            distributed.destroy_process_group()


class _Follower:
    """Computes shares of one device."""

    def __init__(self, computing: OneDevice, rank: int) -> None:
        self.computing = computing
        self.rank = rank

    def answer(self, what: str, asked: dict[str, Any], store: TCPStore) -> None:
        """Take the weights, compute a share, and give it back; words instead of it where it fails."""
        asked["positions"] = np.array(asked["positions"], dtype=np.int64)
        module = self.computing.module
        weights = _state(module)
        distributed.broadcast(weights, src=0)
        _put_state(module, weights)
        if what == GRADIENTS:
            self.computing.begin(asked["number"])
        failure = ""
        try:
            part = self.gradients(**asked) if what == GRADIENTS else self.logits(**asked)
        except Exception as error:
            failure = f"{self.computing.plan.device.device}: {error or type(error).__name__}"
        if failure:  # outside the except clause: the error holds what filled the memory
            self.computing.plan.device.free()
            part = torch.zeros(self.length(what), device=weights.device)
            store.set(f"error/{self.rank}", failure)
        distributed.reduce(_with_flag(part, failed=bool(failure)), dst=0)

    def length(self, what: str) -> int:
        """Return how many numbers an answer has."""
        if what == LOGITS:
            return len(self.computing.examples.validation_labels) * self.computing.plan.classes
        return 1 + sum(parameter.numel() for parameter in self.computing.module.parameters() if parameter.requires_grad)

    def gradients(self, *, positions: IntArray, number: int, step: int, whole: float, scale: float) -> torch.Tensor:
        """Return :func:`share_gradients`; what is drawn follows from the seed, the step and the device."""
        if not len(positions):
            return torch.zeros(self.length(GRADIENTS), device=self.computing.plan.device.device)
        generator = np.random.default_rng([self.computing.plan.seed, number, step, self.rank])
        torch.manual_seed(int(generator.integers(2**62)))
        inputs = self.computing.examples.training_batch(positions, generator)
        return share_gradients(self.computing, inputs, positions, whole=whole, scale=scale)

    def logits(self, *, positions: IntArray, size: int) -> torch.Tensor:
        """Return :func:`share_logits`."""
        return share_logits(self.computing, self.computing.module, positions, size=size)


# ---------------------------------------------------------------------------------------------------- what is given back


def share_gradients(
    computing: OneDevice, inputs: torch.Tensor, positions: IntArray, *, whole: float, scale: float
) -> torch.Tensor:
    """Return what a share adds to the gradients of the batch's mean loss, scaled, and to that loss, in one vector.

    Args:
        computing: Begun with an epoch.
        inputs: Of the share.
        positions: Of its images.
        whole: How much all images of the batch count: :meth:`Plan.weight_of`.
        scale: Of the gradients.
    """
    computing.module.zero_grad(set_to_none=True)
    share = computing.plan.weight_of(computing.examples.training_labels[positions]) / whole
    loss = computing.loss(inputs, positions) * share
    torch.autograd.backward(loss * scale)
    learning = [parameter for parameter in computing.module.parameters() if parameter.requires_grad]
    # A part that this step did not need has no gradient.
    parts = [torch.zeros_like(one) if one.grad is None else one.grad for one in learning]
    return torch.cat([*(part.flatten() for part in parts), loss.detach()[None]])


def share_logits(computing: OneDevice, module: torch.nn.Module, positions: IntArray, *, size: int) -> torch.Tensor:
    """Return the logits of all validation images in one vector, 0 for those of others."""
    every = torch.zeros((len(computing.examples.validation_labels), computing.plan.classes))
    if len(positions):
        every[torch.from_numpy(positions)] = computing.logits_of(module, positions, size=size)
    return every.flatten().to(computing.plan.device.device)


def _with_flag(part: torch.Tensor, *, failed: bool) -> torch.Tensor:
    return torch.cat([part, part.new_tensor([FAILED if failed else 0.0])])


def _put_gradients(parameters: Sequence[torch.Tensor], found: torch.Tensor) -> None:
    sizes = [parameter.numel() for parameter in parameters]
    for parameter, part in zip(parameters, torch.split(found, sizes), strict=True):
        if parameter.grad is None:
            parameter.grad = torch.empty_like(parameter)  # laid out as the weights are
        parameter.grad.copy_(part.view_as(parameter))


def _state(module: torch.nn.Module) -> torch.Tensor:
    """Return all weights and statistics of a module in one vector; counters stay."""
    return torch.cat([value.flatten() for value in module.state_dict().values() if value.is_floating_point()])


@torch.no_grad()
def _put_state(module: torch.nn.Module, state: torch.Tensor) -> None:
    values = [value for value in module.state_dict().values() if value.is_floating_point()]
    for value, part in zip(values, torch.split(state, [value.numel() for value in values]), strict=True):
        value.copy_(part.view(value.shape))
