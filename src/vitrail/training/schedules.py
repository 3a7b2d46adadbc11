"""Learning rates over a training.

They are functions of what has happened so far (the epochs and their validation losses), so a resumed training has nothing to
remember of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vitrail.errors import Problem, StudyError
from vitrail.settings import TrainingSettings

PLATEAU = 3
"""Epochs without a lower validation loss after which the learning rate is halved, where nobody says."""


def check_schedule(settings: TrainingSettings, *, source: str, key: str = "training") -> None:
    """Find out before training whether warm-up and epochs fit together.

    Args:
        settings: Resolved: :meth:`vitrail.study.Study.training_for`.
        source: What they come from, for the message.
        key: Path of the training settings, for the message.

    Raises:
        StudyError: The learning rate would grow until the end.
    """
    if settings.warmup and settings.epochs is not None and settings.warmup >= settings.epochs:
        rule = f"must be fewer than {key}.epochs ({settings.epochs}): lower the warm-up or train longer."
        raise StudyError(source, (Problem(f"{key}.warmup", rule, str(settings.warmup)),))


def rate_factor(settings: TrainingSettings, losses: Sequence[float], *, step: int, steps: int) -> float:
    """Return what the learning rate of the settings is multiplied by in one step.

    * Warm-up: it grows by the same amount in every step, to its full height in the last step of the warm-up (Goyal et al. 2017).
    * ``plateau``: halved whenever so many further epochs after the warm-up brought no lower validation loss.
    * ``cosine``: after the warm-up, ``(1 + cos(pi t)) / 2`` where t goes from 0 to 1 over the epochs left (Loshchilov & Hutter,
      ICLR 2017, without restarts).
    * ``constant``: 1.

    Args:
        settings: Schedule, plateau, warm-up, epochs.
        losses: Validation losses of the epochs before this one.
        step: Of this epoch, from 0.
        steps: In an epoch.
    """
    warmup = settings.warmup or 0
    growth = min(1.0, (len(losses) * steps + step + 1) / (warmup * steps)) if warmup else 1.0
    if settings.schedule == "constant":
        return growth
    if settings.schedule == "cosine":
        length = max((settings.epochs or 1) - warmup, 1)
        share = (len(losses) + step / steps - warmup) / length
        return growth * (1 + math.cos(math.pi * min(max(share, 0.0), 1.0))) / 2
    return growth * 0.5 ** halvings(losses[warmup:], plateau=settings.plateau or PLATEAU)


def halvings(losses: Sequence[float], *, plateau: int) -> int:
    """Return how often the learning rate has been halved after some epochs.

    Args:
        losses: Validation losses, one per epoch.
        plateau: Epochs without a lower one after which it is halved, and halved again after so many more.
    """
    best, since, count = math.inf, 0, 0
    for loss in losses:
        if loss < best:
            best, since = loss, 0
        else:
            since += 1
            count += since % plateau == 0
    return count
