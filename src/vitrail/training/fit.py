"""The one fit loop: every network of vitrail is trained by it, whether from pixels or from frozen features.

It reads top to bottom: for every epoch, train on shuffled batches, look at the validation images, keep the best weights, stop
when they stop getting better. All randomness of an epoch comes from (seed, epoch), so a resumed training and an uninterrupted
one take exactly the same steps: bit for bit on the CPU, nearly so on an accelerator, whose sums have no fixed order.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vitrail.engine import memory_kept, out_of_memory
from vitrail.errors import VitrailError
from vitrail.progress import SILENT, Progress
from vitrail.records import Computation, Epoch, IntArray
from vitrail.settings import TrainingSettings
from vitrail.training.device import choose_devices
from vitrail.training.imbalance import class_weights, epoch_order
from vitrail.training.losses import validation_loss
from vitrail.training.one_device import Examples, OneDevice, Plan, Staged
from vitrail.training.schedules import rate_factor
from vitrail.training.state import TrainingState

BATCH_SIZE = 32
"""Images per step where nobody says."""
LEARNING_RATE = 1e-3
"""Learning rate where nobody says."""
CHECKPOINT_SECONDS = 5.0
"""A killed training loses at most about this much work."""
VALIDATION_BATCH = 256
"""Most images per validation batch, and four times a training batch: without gradients an image needs less memory."""

OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "rmsprop": torch.optim.RMSprop,
}


@dataclass(frozen=True)
class Fit:
    """How a training went. The module it was about holds the best weights.

    Attributes:
        epochs: All of them. The learning rate of an epoch is the largest of its steps; its training loss has smoothed labels
            where the settings smooth them, its validation loss never.
        best_epoch: The one whose weights were kept.
        stopped: Why it ended, in words.
        seconds: Wall-clock time over all resumed parts.
        batch_size: Images per step at the end: smaller than asked for where batches did not fit into memory.
        computed: On what.
        out_of_time: Whether ``minutes`` ended it: another machine, or a busier one, would have come to other weights.
    """

    epochs: tuple[Epoch, ...]
    best_epoch: int
    stopped: str
    seconds: float
    batch_size: int
    computed: Computation
    out_of_time: bool = False


def fit(
    module: torch.nn.Module,
    examples: Examples,
    *,
    classes: int,
    settings: TrainingSettings,
    seed: int,
    checkpoint: Path,
    split: str = "",
    progress: Progress = SILENT,
    title: str = "Training",
) -> Fit:
    """Train a module and leave it with the weights of its best epoch, averaged where the settings average them.

    Where every class shall count the same (``imbalance`` is not ``none``), it also does so in the validation loss: by the weights
    of the training classes under ``weights``, else by those of the validation classes.

    Args:
        module: Maps a batch of inputs to logits (n, classes). It may be :class:`Staged`. It comes from main memory and is back
            there at the end; in between it is on the device of the settings.
        examples: Its training and validation images. Under ``rotations`` the training images are filled up already
            (:func:`vitrail.training.imbalance.balanced_set`).
        classes: Number of classes.
        settings: Resolved: optimiser, epochs and patience are given. Of the rest, what is open is left out: cross-entropy without
            smoothing, halving on plateaus without warm-up, no average, no clipping.
        seed: Same seed, same machine, same number of devices, same weights (on the CPU).
        checkpoint: File to resume from and to save to. It is left there: a run that is killed before the weights are packed
            finds it again; whoever packs them removes it. One of other settings, another seed or split is written anew.
        split: Fingerprint of the split that the examples come from.
        progress: Told of every epoch.
        title: Of the progress bar.

    Raises:
        StudyError: This machine has no such device, or it does not compute in such precision.
        VitrailError: Training diverged (a loss is no finite number), or not even one image fits into memory.
    """
    if settings.optimiser is None or settings.epochs is None or settings.patience is None:
        raise ValueError(f"training settings must be resolved (Study.training_for); found {settings}")
    device, *others = devices = choose_devices(settings)
    plan = Plan(settings, classes, seed, device, *_weights(examples, settings, classes))
    with contextlib.ExitStack() as stack:
        if others:
            from vitrail.training.several_devices import several_devices

            progress.say(f"{title}: {len(devices)} devices share every step: {', '.join(one.name for one in devices)}")
            computing: OneDevice = stack.enter_context(several_devices(module, examples, plan, devices))
        else:
            module.to(device.device)
            computing = OneDevice(module, examples, plan)
        state = TrainingState(
            module,
            _optimiser(module, settings),
            device.scaler(),
            computed=Computation(device.name, device.precision, len(devices)),
            average=settings.average or 0.0,
            batch_size=settings.batch_size or BATCH_SIZE,
            # A killed training may go on where there are other devices.
            identity=json.dumps([settings.model_dump(mode="json", exclude={"device", "devices", "precision"}), seed, split]),
        )
        if checkpoint.exists():
            resumed = state.load(checkpoint)
            left = "begun anew, for what an interrupted training left is of other settings or another split"
            progress.say(f"{title}: resumed after epoch {len(state.epochs)}" if resumed else f"{title}: {left}")
        stopped = _epochs(state, computing, checkpoint, progress=progress, title=title)
    out_of_time = _why_stop(state, settings.model_copy(update={"minutes": None})) is None
    if out_of_time:
        progress.say(f"{title}: ended early, {stopped}")
    module.to("cpu").load_state_dict(state.best_weights)
    module.eval()
    return Fit(tuple(state.epochs), state.best_epoch, stopped, state.seconds, state.batch_size, state.computed, out_of_time)


def _epochs(state: TrainingState, computing: OneDevice, checkpoint: Path, *, progress: Progress, title: str) -> str:
    """Do epoch after epoch until there is a reason to stop; return it in words."""
    settings = computing.plan.settings
    with progress.task(title, settings.epochs or 0) as advance, memory_kept():
        advance(len(state.epochs))
        while (stopped := _why_stop(state, settings)) is None:
            epoch = _epoch_that_fits(state, computing, progress=progress, title=title)
            _check_finite(epoch, title=title)
            state.add(epoch)
            if time.monotonic() - state.saved > CHECKPOINT_SECONDS:
                state.save(checkpoint)
            advance(1, _note(epoch))
    return stopped


def _note(epoch: Epoch) -> str:
    """Return what the line of progress says of an epoch."""
    losses = f"loss {epoch.training_loss:.3f}, validation loss {epoch.validation_loss:.3f}"
    return f"{losses}, balanced accuracy {epoch.validation_balanced_accuracy:.3f}"


def _optimiser(module: torch.nn.Module, settings: TrainingSettings) -> torch.optim.Optimizer:
    rate, decay = settings.learning_rate or LEARNING_RATE, settings.weight_decay or 0.0
    # SGD without momentum is of historical interest only.
    extra = {"momentum": 0.9} if settings.optimiser == "sgd" else {}
    parameters = module.parameter_groups(rate, decay) if isinstance(module, Staged) else module.parameters()
    return OPTIMISERS[settings.optimiser or "adamw"](parameters, lr=rate, weight_decay=decay, **extra)


def _weights(examples: Examples, settings: TrainingSettings, classes: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the weights of the classes in training and in validation."""
    if settings.imbalance == "weights":
        weight = torch.from_numpy(class_weights(examples.training_labels, classes))
        return weight, weight
    if settings.imbalance in ("sampling", "rotations"):
        counts = np.bincount(examples.training_labels)
        if settings.imbalance == "rotations" and np.ptp(counts[counts > 0]) > 0:
            raise ValueError(f"imbalance: rotations needs examples of a balanced_set; found classes of {counts.tolist()} images")
        return None, torch.from_numpy(class_weights(examples.validation_labels, classes))
    return None, None


def _check_finite(epoch: Epoch, *, title: str) -> None:
    if not (math.isfinite(epoch.training_loss) and math.isfinite(epoch.validation_loss)):
        raise VitrailError(
            f"{title} diverged: the loss must be a finite number, epoch {epoch.number} has {epoch.training_loss} in training and "
            f"{epoch.validation_loss} in validation. Lower training.learning_rate (it was {epoch.learning_rate:g})."
        )


def _why_stop(state: TrainingState, settings: TrainingSettings) -> str | None:
    if settings.patience is not None and state.epochs_since_best >= settings.patience:
        return f"no lower validation loss for {settings.patience} epochs"
    if settings.epochs is not None and len(state.epochs) >= settings.epochs:
        return f"all {settings.epochs} epochs done"
    if settings.minutes is not None and state.seconds >= 60 * settings.minutes:
        return (
            f"its time was over (training.minutes {settings.minutes:g}) after {len(state.epochs)} of {settings.epochs} epochs; "
            "the best weights so far are kept. Not reproducible: another machine comes further, or less far, in this time"
        )
    return None


def _epoch_that_fits(state: TrainingState, computing: OneDevice, *, progress: Progress, title: str) -> Epoch:
    """Do the next epoch; where its batches do not fit into memory, halve them for good and begin the epoch again."""
    before = state.moving_parts()
    number = len(state.epochs) + 1
    while True:
        try:
            return _one_epoch(state, computing, number=number)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            reason = " ".join(str(error).split())[:200] or type(error).__name__
        # Outside the except clause: the error holds the frames of the epoch and so what filled the memory.
        size = min(state.batch_size, len(computing.examples.training_labels))
        if size == 1:
            raise VitrailError(
                f"{title}: a batch must fit into memory, and not even one image does ({reason}). "
                "Lower preprocess.size, choose a smaller model, or close other programmes."
            )
        state.batch_size = size // 2
        state.restore(before)
        computing.plan.device.free()
        progress.say(f"{title}: {size} images at a time do not fit into memory; epoch {number} begins again with {size // 2}")


def _one_epoch(state: TrainingState, computing: OneDevice, *, number: int) -> Epoch:
    started = time.monotonic()
    plan, labels = computing.plan, computing.examples.training_labels
    settings = plan.settings
    generator = np.random.default_rng([plan.seed, number])
    losses: list[tuple[torch.Tensor, float]] = []
    largest_rate = 0.0
    computing.begin(number)
    share_of_rate = state.module.rate_share if isinstance(state.module, Staged) else 1.0
    # Dropout draws from torch's own generator: seed it for this epoch, and leave the caller's as it was.
    with plan.device.own_randomness():
        torch.manual_seed(int(generator.integers(2**62)))
        batches = list(_batches(epoch_order(labels, settings.imbalance, generator), state.batch_size))
        with contextlib.closing(computing.gradients(batches, generator, state.scaler, number=number)) as steps:
            for step, (positions, loss) in enumerate(zip(batches, steps, strict=True)):
                factor = rate_factor(settings, state.losses, step=step, steps=len(batches))
                rate = (settings.learning_rate or LEARNING_RATE) * factor * share_of_rate
                largest_rate = max(largest_rate, rate)
                _step(state, rate=rate, clip=settings.clip or 0.0)
                losses.append((loss, plan.weight_of(labels[positions])))
    # Only now: asking one accelerator for a number makes it wait for all steps before.
    mean_loss = sum(float(loss) * share for loss, share in losses) / sum(share for _, share in losses)
    loss_after, balanced_accuracy = _validate(state, computing)
    return Epoch(number, mean_loss, loss_after, balanced_accuracy, largest_rate, time.monotonic() - started)


def _step(state: TrainingState, *, rate: float, clip: float) -> None:
    """Move the weights once along their gradients, and their average after them."""
    for group in state.optimiser.param_groups:
        group["lr"] = rate * group.get("lr_scale", 1.0)
    if clip:
        state.scaler.unscale_(state.optimiser)
        torch.nn.utils.clip_grad_norm_(state.module.parameters(), clip)
    state.scaler.step(state.optimiser)
    state.scaler.update()
    if state.average:
        state.average.update(state.module)


def _batches(order: IntArray, size: int) -> Iterator[IntArray]:
    """Cut an order into batches. A remainder of one image is left out: its statistics would mislead batch normalisation."""
    for start in range(0, len(order), size):
        batch = order[start : start + size]
        if len(batch) > 1 or size == 1 or len(order) == 1:
            yield batch


def _validate(state: TrainingState, computing: OneDevice) -> tuple[float, float]:
    """Return the mean loss over all validation images and the mean sensitivity over their classes."""
    plan, truth = computing.plan, computing.examples.validation_labels
    logits = computing.logits(state.judged, size=min(VALIDATION_BATCH, 4 * state.batch_size))
    labels, weight = torch.from_numpy(truth), plan.validation_weight
    loss = float(validation_loss(plan.settings)(logits.double(), labels, weight.double() if weight is not None else None))
    right = (logits.argmax(dim=1) == labels).numpy()
    return loss, float(np.mean([right[truth == label].mean() for label in np.unique(truth)]))
