"""Data-parallel training: several devices share every step (Li et al., VLDB 2020), one process for each.

The process of the fit loop leads. It keeps the weights, the optimiser, the epochs and the checkpoint, and computes its share of
a batch on the first device. The others get the weights and the positions of their share, and give back its gradients. The next
step needs nothing of what they hold: where a share does not fit into memory, the leader asks for it again in smaller batches.

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
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # documented, yet not in its list of names

from vitrail.engine import available_cores, limited_to, out_of_memory, processes_beside
from vitrail.errors import VitrailError
from vitrail.records import IntArray
from vitrail.training.device import ComputeDevice
from vitrail.training.exchange import learning_of, length_of, put_gradients, put_logits, state_of, take_gradients, take_state
from vitrail.training.one_device import Examples, OneDevice, Plan

GRADIENTS, LOGITS, END = "gradients", "logits", "end"
"""What the leader asks the others for."""
LOOPBACK = ("lo", "lo0")
"""Names of the network interface that no other machine reaches, on Linux and on macOS."""
LONGEST_WAIT = timedelta(days=1)
"""A process waits so long for what it is asked next; it ends with the leader anyway."""
START_SECONDS, STEP_SECONDS = 0.05, 0.0002
"""The leader looks this often whether the others have loaded what they need, and whether they have answered."""


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
        followers: What the others end with.
    """

    def __init__(
        self, module: torch.nn.Module, examples: Examples, plan: Plan, *, store: TCPStore, followers: Sequence[Future[None]]
    ) -> None:
        super().__init__(module, examples, plan)
        self._store, self._followers = store, followers
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
        learning = learning_of(self.module)
        with contextlib.closing(self.inputs([share[0] for share in shares], generator)) as prepared:
            for step, (positions, (own, *others), inputs) in enumerate(zip(batches, shares, prepared, strict=True)):
                whole = self.plan.weight_of(self.examples.training_labels[positions])
                # Asked for a product, not for its scale: only then does it begin to work.
                scale = float(scaler.scale(torch.ones((), device=self.plan.device.device)))

                def computed(
                    answer: torch.Tensor,
                    own: IntArray = own,
                    inputs: torch.Tensor = inputs,
                    whole: float = whole,
                    scale: float = scale,
                ) -> None:
                    put_gradients(self, inputs, own, whole=whole, scale=scale, answer=answer)

                asked = {"number": number, "step": step, "whole": whole, "scale": scale}
                found = self._together(GRADIENTS, others, asked, self.module, computed, length_of(learning))
                take_gradients(learning, found[:-1])
                yield found[-1].clone()  # not a view: it would keep all gradients of the epoch

    def logits(self, module: torch.nn.Module, *, size: int) -> torch.Tensor:
        """See :meth:`OneDevice.logits`."""
        count, classes = len(self.examples.validation_labels), self.plan.classes
        own, *others = np.array_split(np.arange(count), 1 + len(self._followers))

        def computed(answer: torch.Tensor) -> None:
            put_logits(self, module, own, size=size, answer=answer)

        return self._together(LOGITS, others, {"size": size}, module, computed, count * classes).reshape(count, classes).cpu()

    def end(self) -> None:
        """Tell the others that nothing will be asked any more."""
        self._ask(END)

    def _ask(self, what: str, asked: Sequence[dict[str, Any]] = ()) -> None:
        """Ask the others for the same, each with arguments of its own."""
        self._store.set(f"task/{self._asked + 1}", json.dumps([what, asked]))
        self._asked += 1
        if self._asked > 1:  # everyone has read the one before, or nobody could have answered it
            self._store.delete_key(f"task/{self._asked - 1}")

    def _together(
        self,
        what: str,
        others: Sequence[IntArray],
        asked: dict[str, Any],
        module: torch.nn.Module,
        own: Callable[[torch.Tensor], None],
        length: int,
    ) -> torch.Tensor:
        """Return the sum of what all answer, shape (length,).

        Raises:
            Exception: What the leader's own share raises.
            MemoryError: Another's share does not fit into memory.
            RuntimeError: Another's share failed, in its words.
            VitrailError: A process has ended.
        """
        # The leader takes its memory for the exchange before it asks anyone: from then on it has to go through with it.
        weights, answer = state_of(module), torch.zeros(length + 1, device=self.plan.device.device)
        self._ask(what, [{**asked, "positions": positions.tolist()} for positions in others])
        with _in_touch(self._followers):
            _wait(distributed.broadcast(weights, src=0, async_op=True), self._followers)
            del weights
            failure = _answered(own, answer)
            _wait(distributed.reduce(answer, dst=0, async_op=True), self._followers)
            failed = float(answer[-1]) > 0
        if failure is not None:
            raise failure
        if failed:
            errors = self._errors()
            words = "; ".join(words for words, _ in errors)
            raise MemoryError(words) if any(memory for _, memory in errors) else RuntimeError(words)
        return answer[:-1]

    def _errors(self) -> list[tuple[str, bool]]:
        """Take what the others said of their failures: words, and whether memory ran out."""
        keys = [f"error/{rank}" for rank, _ in enumerate(self._followers, start=1)]
        found = [key for key in keys if self._store.check([key])]
        errors = [tuple(json.loads(self._store.get(key))) for key in found]
        for key in found:
            self._store.delete_key(key)
        return errors


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
        VitrailError: A process cannot be started, or this one is part of a group of processes already.
    """
    if distributed.is_initialized():
        raise VitrailError(
            f"training.devices ({len(devices)}): this process belongs to a group of torch's processes already. vitrail starts "
            "the processes itself: run it without torchrun or accelerate."
        )
    count = len(devices)
    threads = max(1, available_cores() // count) if plan.device.device.type == "cpu" else available_cores()
    store = _own_store()
    with contextlib.ExitStack() as stack:
        stack.callback(_break_off)  # last of all: the others have been ended by then
        executor = stack.enter_context(processes_beside(count - 1))
        stack.enter_context(limited_to(threads, "torch"))
        followers = [
            executor.submit(_follow, rank, count, store.port, threads, module, examples, replace(plan, device=device))
            for rank, device in enumerate(devices)
            if rank > 0
        ]
        with _in_touch(followers):
            ready = [f"ready/{rank}" for rank, _ in enumerate(followers, start=1)]
            _wait_until(lambda: store.check(ready), followers, seconds=START_SECONDS)
            _join(store, 0, count, plan.device)
        module.to(plan.device.device)
        leader = SeveralDevices(module, examples, plan, store=store, followers=followers)
        yield leader
        leader.end()
        _leave()  # together with the others


def _own_store() -> TCPStore:
    """Return a store on a free port of the loopback interface: left alone, torch would listen on all of them."""
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    return TCPStore(
        "127.0.0.1",
        port,
        is_master=True,
        wait_for_workers=False,
        timeout=LONGEST_WAIT,
        master_listen_fd=listening.detach(),
        use_libuv=os.name != "nt",  # torch for Windows is built without it
    )


def _join(store: TCPStore, rank: int, count: int, device: ComputeDevice) -> None:
    """Become one of the processes that exchange tensors, over the loopback interface where its name is known.

    Torch waits here for the others. One that is killed at this very moment is missed after torch's own time (up to half an
    hour), at every later moment at once.
    """
    interface = next((name for _, name in socket.if_nameindex() if name in LOOPBACK), None)
    # NCCL takes a plain name for the beginning of one.
    wishes = {"GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": f"={interface}"} if interface else {}
    mine = {key: str(value) for key, value in wishes.items() if key not in os.environ}
    os.environ.update(mine)
    try:
        backend = distributed.get_default_backend_for_device(device.device)
        # With the device, NCCL connects now; without it, at the first exchange, when nothing is known of the interface.
        at_once = device.device if device.device.type != "cpu" else None
        distributed.init_process_group(backend, store=store, rank=rank, world_size=count, device_id=at_once)
    finally:
        for key in mine:
            del os.environ[key]


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _break_off() -> None:
    """Leave without the others. NCCL would wait for an exchange that nobody answers any more: it has to be told to give up."""
    if distributed.is_initialized() and distributed.get_backend() == "nccl":
        abort = getattr(distributed.distributed_c10d, "_abort_process_group", distributed.destroy_process_group)
        abort()
    _leave()


def _wait(work: Any, followers: Iterable[Future[None]]) -> None:
    """Wait for an exchange of tensors, as long as all others are there."""
    _wait_until(work.is_completed, followers, seconds=STEP_SECONDS)
    work.wait()


def _wait_until(done: Callable[[], bool], followers: Iterable[Future[None]], *, seconds: float) -> None:
    while not done():
        if any(follower.done() for follower in followers):
            raise ConnectionError("a process has ended")
        time.sleep(seconds)


@contextlib.contextmanager
def _in_touch(followers: Sequence[Future[None]]) -> Iterator[None]:
    """Say in words why an exchange with the others broke off."""
    try:
        yield
    except (RuntimeError, MemoryError, ConnectionError) as error:
        wait(followers, timeout=1, return_when=FIRST_COMPLETED)  # a broken connection is known a little earlier than its reason
        ended = any(follower.done() for follower in followers)
        advice = "Was it killed, or did main memory run out? A smaller training.devices needs less memory."
        what = _why_ended(followers) or (f"one of them has ended. {advice}" if ended else str(error))
        raise VitrailError(
            f"training.devices ({1 + len(followers)}): the processes that share the steps have lost each other: {what} "
            "The same command goes on where this training stood."
        ) from error


def _why_ended(followers: Iterable[Future[None]]) -> str:
    """Return what the others ended with, in words; empty where they were killed, or are still there."""
    errors = [follower.exception() for follower in followers if follower.done() and not follower.cancelled()]
    told = [str(error) for error in errors if error is not None and not isinstance(error, BrokenExecutor)]
    return f"{'; '.join(told)}." if told else ""


# ---------------------------------------------------------------------------------------------------- the others


def _follow(rank: int, count: int, port: int, threads: int, module: torch.nn.Module, examples: Examples, plan: Plan) -> None:
    """Do what the leader asks for until it asks for nothing more."""
    with limited_to(threads, "torch"):
        store = TCPStore("127.0.0.1", port, is_master=False, timeout=LONGEST_WAIT, use_libuv=os.name != "nt")
        module.to(plan.device.device)
        computing = OneDevice(module, examples, plan)
        store.set(f"ready/{rank}", "")
        _join(store, rank, count, plan.device)
        for number in itertools.count(1):
            what, asked = json.loads(store.get(f"task/{number}"))
            if what == END:
                break
            _answer(computing, what, asked[rank - 1], rank=rank, store=store)
        _leave()


def _answer(computing: OneDevice, what: str, asked: dict[str, Any], *, rank: int, store: TCPStore) -> None:
    """Take the weights, compute a share and give it back, or words instead of it."""
    module, plan = computing.module, computing.plan
    positions = np.array(asked.pop("positions"), dtype=np.int64)
    weights = state_of(module)
    distributed.broadcast(weights, src=0)

    def computed(answer: torch.Tensor) -> None:
        take_state(module, weights)
        if what == LOGITS:
            put_logits(computing, module, positions, size=asked["size"], answer=answer)
        elif len(positions):
            generator = np.random.default_rng([plan.seed, asked["number"], asked["step"], rank])
            torch.manual_seed(int(generator.integers(2**62)))
            inputs = computing.examples.training_batch(positions, generator)
            put_gradients(computing, inputs, positions, whole=asked["whole"], scale=asked["scale"], answer=answer)

    if what == GRADIENTS:
        computing.begin(asked["number"])  # says what learns, and so how long the answer is
    length = len(computing.examples.validation_labels) * plan.classes if what == LOGITS else length_of(learning_of(module))
    answer = torch.zeros(length + 1, device=plan.device.device)
    failure = _answered(computed, answer)
    if failure is not None:
        plan.device.free()
        words = f"{plan.device.device}: {str(failure) or type(failure).__name__}"
        store.set(f"error/{rank}", json.dumps([words, out_of_memory(failure)]))
    distributed.reduce(answer, dst=0)


def _answered(compute: Callable[[torch.Tensor], None], answer: torch.Tensor) -> Exception | None:
    """Let a share be put into an answer; where it fails, return the error and leave a one at the end of zeros.

    The error comes without its frames: they hold what filled the memory.
    """
    try:
        compute(answer[:-1])
    except Exception as error:
        failure = error.with_traceback(None)
        answer.zero_()
        answer[-1] = 1.0
        return failure
    return None
