"""Training that goes on from a trained network's weights, and what its record says of it.

What goes on is the weights of the best epoch. The optimiser and the schedule of the learning rate begin anew (a warm restart,
Loshchilov & Hutter 2017), and the shuffling is another one than in the epochs before: it is drawn from the study's seed and the
hash of the package that is continued.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vitrail.models.continued import Start
from vitrail.records import Continuation, Epoch
from vitrail.settings import TrainingSettings
from vitrail.storage import fingerprint

if TYPE_CHECKING:
    from vitrail.training.fit import Fit


def seed_of(start: Start | None, seed: int) -> int:
    """Return the seed of a training: the study's, or one of its own for every package that is continued."""
    return seed if start is None else int(fingerprint(seed, start.package), 16) % 2**31


def epochs_before(start: Start) -> tuple[Epoch, ...]:
    """Return the epochs behind the weights that a training goes on from: those after the best one are not."""
    return start.training.epochs[: start.training.best_epoch]


def start_is_best(start: Start, outcome: Fit, settings: TrainingSettings) -> bool:
    """Return whether no new epoch has a lower validation loss than the weights that training began with.

    Only where both losses are the same measure; else the new epochs are judged among themselves.
    """
    then: Any = start.training.settings.get("training", {})
    same = all(getattr(settings, name) == then.get(name) for name in ("loss", "focusing", "imbalance"))
    if not same:
        return False
    return outcome.epochs[outcome.best_epoch - 1].validation_loss >= epochs_before(start)[-1].validation_loss


def continued_record(start: Start, outcome: Fit, *, kept_start: bool) -> dict[str, Any]:
    """Return what the record says of a continued training: its epochs follow those before, and count on.

    Args:
        start: What it went on from.
        outcome: The new epochs, numbered from 1.
        kept_start: Whether the weights it began with are still the best.
    """
    before = epochs_before(start)
    new = tuple(replace(epoch, number=len(before) + epoch.number) for epoch in outcome.epochs)
    stopped = f"{outcome.stopped}, after {len(before)} before"
    return {
        "epochs": before + new,
        "best_epoch": len(before) + (0 if kept_start else outcome.best_epoch),
        "stopped": f"{stopped}; none of them is better than the weights it began with" if kept_start else stopped,
        "seconds": start.training.seconds + outcome.seconds,
        "continues": Continuation(start.package, start.folder.parents[1].name, start.training.model, len(before)),
    }
