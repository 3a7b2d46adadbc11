"""The one fit loop: every network of vitrail is trained by it, whether from pixels or from frozen features.

It reads top to bottom: for every epoch, train on shuffled batches, look at the validation images, keep the best weights, stop
when they stop getting better. All randomness of an epoch comes from (seed, epoch), so a resumed training and an uninterrupted
one take exactly the same steps.
"""

from __future__ import annotations

import copy
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from vitrail.errors import VitrailError
from vitrail.progress import SILENT, Progress
from vitrail.records import Epoch, IntArray
from vitrail.storage import write_bytes
from vitrail.study import TrainingSettings

PLATEAU = 3
"""Epochs without a lower validation loss after which the learning rate is halved."""
CHECKPOINT_SECONDS = 5.0
"""A killed training loses at most about this much work."""

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}


class Examples(Protocol):
    """Training and validation images in whatever form a network takes them."""

    training_labels: IntArray
    validation_labels: IntArray

    def training_batch(self, positions: IntArray, generator: np.random.Generator) -> torch.Tensor:
        """Return inputs for some training images (positions 0..n-1), augmented from ``generator`` if at all."""
        ...

    def validation_batch(self, positions: IntArray) -> torch.Tensor:
        """Return inputs for some validation images, never augmented."""
        ...


@dataclass(frozen=True)
class Fit:
    """How a training went. The module it was about holds the best weights.

    Attributes:
        epochs: All of them.
        best_epoch: The one whose weights were kept.
        stopped: Why it ended, in words.
        seconds: Wall-clock time over all resumed parts.
    """

    epochs: tuple[Epoch, ...]
    best_epoch: int
    stopped: str
    seconds: float


def fit(
    module: torch.nn.Module,
    examples: Examples,
    *,
    classes: int,
    settings: TrainingSettings,
    seed: int,
    checkpoint: Path,
    progress: Progress = SILENT,
    title: str = "Training",
) -> Fit:
    """Train a module with cross-entropy and leave it with the weights of its best epoch.

    Args:
        module: Maps a batch of inputs to logits (n, classes).
        examples: Its training and validation images.
        classes: Number of classes.
        settings: Fully resolved: nothing is left open.
        seed: Same seed, same machine, same weights.
        checkpoint: File to resume from and to save to. It is left there: a run that is killed before the weights are packed
            finds it again; whoever packs them removes it.
        progress: Told of every epoch.
        title: Of the progress bar.

    Raises:
        VitrailError: Training diverged: a loss is no finite number.
    """
    if settings.optimiser is None or settings.epochs is None or settings.patience is None:
        raise ValueError(f"training settings must be resolved (Study.training_for); found {settings}")
    # SGD without momentum is of historical interest only.
    extra = {"momentum": 0.9} if settings.optimiser == "sgd" else {}
    optimiser = OPTIMISERS[settings.optimiser](
        module.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, **extra
    )
    weight = class_weights(examples.training_labels, classes) if settings.imbalance == "weights" else None
    state = _State(module, optimiser)
    if checkpoint.exists():
        state.load(checkpoint)
        progress.say(f"{title}: resumed after epoch {len(state.epochs)}")
    with progress.task(title, settings.epochs) as advance:
        advance(len(state.epochs))
        while (stopped := _why_stop(state, settings)) is None:
            epoch = _one_epoch(module, optimiser, examples, weight, number=len(state.epochs) + 1, settings=settings, seed=seed)
            _check_finite(epoch, title=title)
            state.add(epoch)
            if state.epochs_since_best and state.epochs_since_best % PLATEAU == 0:
                for group in optimiser.param_groups:
                    group["lr"] *= 0.5
            if time.monotonic() - state.saved > CHECKPOINT_SECONDS:
                state.save(checkpoint)
            advance(1, f"loss {epoch.validation_loss:.3f}, balanced accuracy {epoch.validation_balanced_accuracy:.3f}")
    module.load_state_dict(state.best_weights)
    module.eval()
    return Fit(tuple(state.epochs), state.best_epoch, stopped, sum(epoch.seconds for epoch in state.epochs))


def class_weights(labels: IntArray, classes: int) -> torch.Tensor:
    """Return weights under which every class counts the same: n / (classes x images of the class)."""
    counts = np.bincount(labels, minlength=classes)
    return torch.from_numpy(len(labels) / (classes * np.maximum(counts, 1))).float()


def _check_finite(epoch: Epoch, *, title: str) -> None:
    if not (math.isfinite(epoch.training_loss) and math.isfinite(epoch.validation_loss)):
        raise VitrailError(
            f"{title} diverged: the loss must be a finite number, epoch {epoch.number} has {epoch.training_loss} in training and "
            f"{epoch.validation_loss} in validation. Lower training.learning_rate (it was {epoch.learning_rate:g})."
        )


def _why_stop(state: _State, settings: TrainingSettings) -> str | None:
    if settings.patience is not None and state.epochs_since_best >= settings.patience:
        return f"no lower validation loss for {settings.patience} epochs"
    if settings.epochs is not None and len(state.epochs) >= settings.epochs:
        return f"all {settings.epochs} epochs done"
    return None


def _one_epoch(
    module: torch.nn.Module,
    optimiser: torch.optim.Optimizer,
    examples: Examples,
    weight: torch.Tensor | None,
    *,
    number: int,
    settings: TrainingSettings,
    seed: int,
) -> Epoch:
    started = time.monotonic()
    generator = np.random.default_rng([seed, number])
    rate = float(optimiser.param_groups[0]["lr"])
    loss_sum = torch.zeros((), dtype=torch.float64)
    weight_sum = 0.0
    module.train()
    # Dropout draws from torch's own generator: seed it for this epoch, and leave the caller's as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator.integers(2**62)))
        for positions in _batches(generator.permutation(len(examples.training_labels)), settings.batch_size or 32):
            labels = torch.from_numpy(examples.training_labels[positions])
            loss = torch.nn.functional.cross_entropy(module(examples.training_batch(positions, generator)), labels, weight)
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            share = float(weight[labels].sum()) if weight is not None else len(positions)
            loss_sum += loss.detach().double() * share
            weight_sum += share
    validation_loss, balanced_accuracy = _validate(module, examples, weight)
    return Epoch(number, float(loss_sum) / weight_sum, validation_loss, balanced_accuracy, rate, time.monotonic() - started)


def _batches(order: IntArray, size: int) -> Iterator[IntArray]:
    """Cut an order into batches. A remainder of one image is left out: its statistics would mislead batch normalisation."""
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        if len(batch) > 1 or size == 1 or len(order) == 1:
            yield batch


def _validate(module: torch.nn.Module, examples: Examples, weight: torch.Tensor | None) -> tuple[float, float]:
    """Return the mean loss over all validation images and the mean sensitivity over their classes."""
    module.eval()
    positions = np.arange(len(examples.validation_labels))
    with torch.no_grad():
        logits = torch.cat([module(examples.validation_batch(batch)) for batch in _all_batches(positions, 256)])
    labels = torch.from_numpy(examples.validation_labels)
    loss = float(torch.nn.functional.cross_entropy(logits.double(), labels, weight.double() if weight is not None else None))
    right = (logits.argmax(dim=1) == labels).numpy()
    sensitivities = [right[examples.validation_labels == label].mean() for label in np.unique(examples.validation_labels)]
    return loss, float(np.mean(sensitivities))


def _all_batches(order: IntArray, size: int) -> Iterator[IntArray]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


class _State:
    """What an interrupted training needs to go on: weights now, weights at best, the optimiser, the epochs so far."""

    def __init__(self, module: torch.nn.Module, optimiser: torch.optim.Optimizer) -> None:
        self.module = module
        self.optimiser = optimiser
        self.epochs: list[Epoch] = []
        self.best_epoch = 0
        self.best_weights: dict[str, Any] = copy.deepcopy(module.state_dict())
        self.saved = time.monotonic()

    @property
    def epochs_since_best(self) -> int:
        return len(self.epochs) - self.best_epoch

    def add(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)
        best = self.epochs[self.best_epoch - 1].validation_loss if self.best_epoch else float("inf")
        if epoch.validation_loss < best:
            self.best_epoch = epoch.number
            self.best_weights = copy.deepcopy(self.module.state_dict())

    def save(self, path: Path) -> None:
        buffer = io.BytesIO()
        content = {
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "epochs": [list(vars(epoch).values()) for epoch in self.epochs],
        }
        torch.save(content, buffer)
        write_bytes(path, buffer.getvalue())
        self.saved = time.monotonic()

    def load(self, path: Path) -> None:
        content = torch.load(path, weights_only=True)  # tensors and plain data only: nothing in the file is executed
        self.module.load_state_dict(content["module"])
        self.optimiser.load_state_dict(content["optimiser"])
        self.best_epoch = content["best_epoch"]
        self.best_weights = content["best_weights"]
        self.epochs = [Epoch(*values) for values in content["epochs"]]
