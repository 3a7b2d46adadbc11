"""What an interrupted training needs to go on, and what an epoch that fails needs to begin again."""

from __future__ import annotations

import copy
import io
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitrail.records import Computation, Epoch
from vitrail.storage import write_bytes

THEN = ", then "


class WeightAverage:
    """An exponential moving average of a module's weights (Polyak & Juditsky 1992): calmer than the weights themselves.

    After step t (from 0) it is ``d x average + (1 - d) x weights`` with ``d = min(decay, (1 + t) / (10 + t))``: in the first
    steps it follows closely, or short trainings would keep the weights they began with. The running means and variances of batch
    normalisation are averaged in the same way, since they describe the weights they were seen with; counters are copied.

    Args:
        module: What it begins with; copied.
        decay: Above 0, below 1: 0.99 looks back about a hundred steps.
    """

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module)
        self.decay = decay
        self.steps = 0

    def update(self, module: torch.nn.Module) -> None:
        """Take in the weights after one more step."""
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        with torch.no_grad():
            for mean, value in zip(self.module.state_dict().values(), module.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, share)
                else:
                    mean.copy_(value)


class TrainingState:
    """Weights now and at best, their average, the optimiser, the epochs so far, the size of batches that fits into memory.

    Args:
        module: What is trained, on its device; what is kept of it is kept in main memory.
        optimiser: What moves it.
        scaler: Scales the loss for it, where products are in float16.
        computed: On what this part of the training is computed.
        average: Decay of the average of the weights; 0: none.
        batch_size: Images per step at the beginning.
        identity: What the training follows from, as plain data: a checkpoint of another training is not gone on from.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        optimiser: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        *,
        computed: Computation,
        average: float,
        batch_size: int,
        identity: str,
    ) -> None:
        self.module = module
        self.optimiser = optimiser
        self.scaler = scaler
        self.computed = computed
        self.average = WeightAverage(module, average) if average else None
        self.batch_size = batch_size
        self.identity = identity
        self.epochs: list[Epoch] = []
        self.best_epoch = 0
        self.best_weights: dict[str, Any] = _copied(module.state_dict())
        self.saved = time.monotonic()

    @property
    def judged(self) -> torch.nn.Module:
        """What is validated and kept: the averaged weights where there are some, else the weights."""
        return self.average.module if self.average else self.module

    @property
    def epochs_since_best(self) -> int:
        """Epochs since the lowest validation loss."""
        return len(self.epochs) - self.best_epoch

    @property
    def seconds(self) -> float:
        """Wall-clock time of the epochs so far, over all resumed parts; what a kill took away does not count."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def losses(self) -> list[float]:
        """Validation losses so far."""
        return [epoch.validation_loss for epoch in self.epochs]

    def add(self, epoch: Epoch) -> None:
        """Take in an epoch that is done; the weights are kept if it is the best."""
        self.epochs.append(epoch)
        best = self.epochs[self.best_epoch - 1].validation_loss if self.best_epoch else float("inf")
        if epoch.validation_loss < best:
            self.best_epoch = epoch.number
            self.best_weights = _copied(self.judged.state_dict())

    # ------------------------------------------------------------------------------------------ back to where an epoch began

    def moving_parts(self) -> dict[str, Any]:
        """Return a copy of all that an epoch moves."""
        return {
            "module": _copied(self.module.state_dict()),
            "optimiser": _copied(self.optimiser.state_dict()),
            "scaler": self.scaler.state_dict(),
            "average": _copied(self.average.module.state_dict()) if self.average else None,
            "average_steps": self.average.steps if self.average else 0,
        }

    def restore(self, parts: dict[str, Any]) -> None:
        """Go back to :meth:`moving_parts`, which stay as they are."""
        self.module.load_state_dict(parts["module"])
        self.optimiser.load_state_dict(copy.deepcopy(parts["optimiser"]))  # the optimiser would go on working in the copy itself
        self.optimiser.zero_grad(set_to_none=True)
        if parts.get("scaler"):  # a checkpoint may come from a device that needs none
            self.scaler.load_state_dict(parts["scaler"])
        if self.average:
            self.average.module.load_state_dict(parts["average"])
            self.average.steps = parts["average_steps"]

    # ------------------------------------------------------------------------------------------ on disk

    def save(self, path: Path) -> None:
        """Write everything, whole or not at all."""
        buffer = io.BytesIO()
        content = {
            "identity": self.identity,
            **self.moving_parts(),
            "computed": vars(self.computed),
            "batch_size": self.batch_size,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "epochs": [list(vars(epoch).values()) for epoch in self.epochs],
        }
        torch.save(content, buffer)
        write_bytes(path, buffer.getvalue())
        self.saved = time.monotonic()

    def load(self, path: Path) -> bool:
        """Go on where a checkpoint was written; return whether it belongs to this training. If not, nothing is changed."""
        content = torch.load(path, weights_only=True)  # tensors and plain data only: nothing in the file is executed
        if content.get("identity") != self.identity:
            return False
        self.restore(content)
        before = Computation(**content.get("computed", {}))
        self.computed = replace(
            self.computed,
            device=_then(before.device, self.computed.device),
            precision=_then(before.precision, self.computed.precision),
            processes=max(before.processes, self.computed.processes),
        )
        self.batch_size = content["batch_size"]
        self.best_epoch = content["best_epoch"]
        self.best_weights = content["best_weights"]
        self.epochs = [Epoch(*values) for values in content["epochs"]]
        return True


def _then(before: str, now: str) -> str:
    """Return in words what came before and what comes now, once where it is the same."""
    return before if before.split(THEN)[-1] == now else THEN.join(filter(None, (before, now)))


def _copied(value: Any) -> Any:
    """Return tensors, however deep in dicts and lists, as copies in main memory, which is larger than an accelerator's and there
    on every machine; layouts stay.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: _copied(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(part) for part in value)
    return value
