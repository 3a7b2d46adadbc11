"""The champion: best on validation images, unless it is an ensemble that is not surely better than one of its members."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from vitrail.evaluation.evaluate import champion
from vitrail.evaluation.paired import paired_differences, require_same_images
from vitrail.records import Estimate, Evaluation, Predictions

SCORE = "balanced_accuracy"


class Chosen(NamedTuple):
    """A champion; ``reason`` is empty where the model with the best validation score was simply taken."""

    name: str
    reason: str


def choose_champion(
    evaluations: Sequence[Evaluation],
    *,
    members: Mapping[str, Sequence[str]],
    validation: Callable[[str], Predictions],
    resamples: int,
    seed: int,
) -> Chosen:
    """Choose the best model by balanced accuracy on the validation images (see :func:`champion`).

    An ensemble costs as much as its members together, and is better by the luck of the draw as often as not. So it becomes
    champion only where it is better than the best of its members beyond noise: the whole 95 % interval of the paired difference
    (bootstrap of groups) lies above zero. Else that member is the champion, and the reason says so.

    Args:
        evaluations: Of all models; empty: nobody is champion.
        members: Name of every ensemble -> names of its members that count.
        validation: Validation predictions of a model.
        resamples: Of the bootstrap.
        seed: Same seed, same interval.
    """
    best = champion(evaluations)
    member = champion([one for one in evaluations if one.model in members.get(best, ())])
    if not member:
        return Chosen(best, "")
    ours, theirs = validation(best), validation(member)
    require_same_images(ours, theirs)
    pair = ([ours.answers], [theirs.answers])
    (found,) = paired_differences([SCORE], ours.truth, ours.groups, *pair, resamples=resamples, seed=seed)
    difference = found[SCORE].estimate
    where = f"balanced accuracy on {difference.n:,} validation images"
    told = f"{best} is ahead of its member {member} by {_points(difference)} of {where}"
    if difference.low is not None and difference.low > 0:
        return Chosen(best, f"{told}: beyond noise, so the ensemble is the champion")
    return Chosen(member, f"{told}: not beyond noise, so the simpler model is the champion")


def _points(difference: Estimate) -> str:
    if difference.value is None:
        return "an unknown amount"
    value = f"{100 * difference.value + 0.0:.1f} points"
    if difference.low is None or difference.high is None:
        return f"{value} (no interval: {difference.note.removeprefix('interval not estimable: ')})"
    return f"{value} [{100 * difference.low + 0.0:.1f}, {100 * difference.high + 0.0:.1f}]"
