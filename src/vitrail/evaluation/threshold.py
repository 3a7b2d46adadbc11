"""The threshold of a two-class model, chosen on validation images.

Only the order of the validation scores counts, so a whole interval of thresholds does equally well. Its middle on the scale of
log-odds is taken: the threshold that the scores of other images are least likely to straddle, also where validation scores of
the two classes lie far apart. ``balanced`` is the point with the largest Youden's J (Youden 1950). Where the best threshold lies
is known far less well than how good it is; its interval (percentiles of the bootstrap) says so roughly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.decision import Decision, Rule, decide
from vitrail.errors import Problem, StudyError
from vitrail.evaluation.intervals import bootstrap_weights, folds_of_groups, percentile_interval, sampling_design
from vitrail.evaluation.metrics import SMALLEST_SCORE, DoubleArray
from vitrail.records import IntArray
from vitrail.study import EvaluationSettings

ENOUGH = 50
"""Independent validation images that each class must have before ``auto`` moves a threshold away from 0.5."""
MOST_MISSING = 0.05
FOLDS = 5


class _Sorted(NamedTuple):
    """Images in the order of their scores.

    Attributes:
        order: Positions by ascending score, shape (n,).
        starts: Where each distinct score begins in ``order``, shape (k,).
        scores: The distinct scores, shape (k,).
        log_odds: Theirs, between those of the lowest and the highest possible score, shape (k + 2,).
    """

    order: IntArray
    starts: IntArray
    scores: DoubleArray
    log_odds: DoubleArray


def check_threshold(settings: EvaluationSettings, classes: Sequence[str]) -> None:
    """Find out whether the wished threshold is possible with these classes.

    Raises:
        StudyError: It is not.
    """
    problems = []
    if settings.threshold not in ("auto", "half") and len(classes) != 2:
        rule = "must be auto or half: a threshold divides two classes; with more, the class with the highest score is predicted."
        problems.append(Problem("evaluation.threshold", f"{rule} There are {len(classes)} classes.", repr(settings.threshold)))
    if settings.positive is not None and settings.positive not in classes:
        problems.append(Problem("evaluation.positive", f"must be one of the classes: {', '.join(classes)}.", settings.positive))
    if problems:
        raise StudyError("study", tuple(problems))


def fixed_decision(settings: EvaluationSettings, classes: Sequence[str]) -> Decision | None:
    """Return how a model decides where no score has a say in it; ``None``: a threshold must be chosen."""
    if len(classes) != 2:
        return Decision("highest", f"there are {len(classes)} classes, and a threshold divides two")
    if settings.threshold == "half":
        return Decision("highest", "the study asks for a threshold of 0.5")
    return None


def choose_decision(
    truth: IntArray,
    groups: IntArray,
    scores: DoubleArray,
    *,
    classes: Sequence[str],
    settings: EvaluationSettings,
    seed: int,
) -> Decision:
    """Choose how a model decides. The images must be validation images.

    Args:
        truth: True class index of every validation image, shape (n,).
        groups: Group number of every image, shape (n,).
        scores: Shape (n, classes).
        classes: Class names.
        settings: What is wished; number of resamples behind the threshold's interval.
        seed: Of the resampling.
    """
    chosen = _without_interval(truth, groups, scores, classes=classes, settings=settings)
    if chosen.threshold is None:
        return chosen
    number = classes.index(chosen.positive)
    positive, own = truth == number, np.asarray(scores[:, number], dtype=np.float64)
    low, high, method, note = _interval(
        positive, groups, own, rule=chosen.rule, reach=chosen.reach, resamples=settings.resamples, seed=seed
    )
    return replace(chosen, low=low, high=high, method=method, note=note)


def _without_interval(
    truth: IntArray, groups: IntArray, scores: DoubleArray, *, classes: Sequence[str], settings: EvaluationSettings
) -> Decision:
    """Choose how a model decides, all but the threshold's interval: see :func:`choose_decision`."""
    fixed = fixed_decision(settings, classes)
    if fixed is not None:
        return fixed
    if not np.isfinite(scores).all():  # the evaluation refuses them, with a reason
        return Decision("highest", "some scores are not numbers")
    number = 1 if settings.positive is None else classes.index(settings.positive)
    positive, images = truth == number, np.bincount(truth, minlength=2)
    independent = [len(np.unique(groups[truth == one])) for one in range(2)]
    few = int(np.argmin(independent))
    least = ENOUGH if settings.threshold == "auto" else 1
    if independent[few] < least:
        told = f"{independent[few]:,} independent validation image{'s' * (independent[few] != 1)}"
        return Decision("highest", f"the threshold stays at 0.5: {classes[few]} has {told}, and {least} of each class are needed")
    rule: Rule = "sensitivity" if settings.threshold == "sensitivity" else "balanced"
    rule = "specificity" if settings.threshold == "specificity" else rule
    reach = None if rule == "balanced" else settings.reach
    own = np.asarray(scores[:, number], dtype=np.float64)
    threshold = best_threshold(positive, own, rule=rule, reach=reach)
    if threshold is None:
        return Decision("highest", "no threshold does better than a constant answer on the validation images: it stays at 0.5")
    what = "the largest balanced accuracy" if reach is None else f"{rule} {reach:g} for {classes[number]}"
    return Decision(
        rule=rule,
        reason=f"{what} on {len(truth):,} validation images",
        positive=classes[number],
        negative=classes[1 - number],
        threshold=threshold,
        reach=reach,
        images={name: int(count) for name, count in zip(classes, images, strict=True)},
        groups=len(np.unique(groups)),
    )


def decide_held_out(
    truth: IntArray, groups: IntArray, scores: DoubleArray, *, classes: Sequence[str], decision: Decision, seed: int
) -> IntArray:
    """Decide on the validation images themselves, each by a threshold that four fifths of the others chose; shape (n,).

    A threshold looks better on the images that chose it than it is, most of all for a poor model. So validation scores, which
    choose the champion, are of the rule and not of the very threshold.

    Args:
        truth: True class index of every validation image, shape (n,).
        groups: Group number of every image; groups are not divided.
        scores: Shape (n, classes).
        classes: Class names.
        decision: What was chosen on all of these images.
        seed: Of the fifths.
    """
    predicted = decide(scores, classes, None)
    if decision.threshold is None:
        return predicted
    number = classes.index(decision.positive)
    fold, positive = folds_of_groups(truth, groups, folds=FOLDS, seed=seed), truth == number
    for part in np.unique(fold):
        inside, outside = fold == part, fold != part
        found = best_threshold(positive[outside], scores[outside, number], rule=decision.rule, reach=decision.reach)
        if found is not None:
            predicted[inside] = np.where(scores[inside, number] >= found, number, 1 - number)
    return predicted


def held_out_decisions(
    truth: IntArray, groups: IntArray, scores: DoubleArray, *, classes: Sequence[str], settings: EvaluationSettings, seed: int
) -> IntArray:
    """Decide on images by the study's rule, as it applies to them: each by a threshold that others of them chose.

    For what compares models, or settings of one, before any of them has a rule of its own: a threshold of 0.5 would favour those
    whose scores happen to lie around it. Where the rule is ``auto``, it is these images that are enough for a threshold or not; a
    run's validation images may be more or fewer.

    Args:
        truth: True class index of every image, shape (n,). None of the images trained the model.
        groups: Group number of every image; groups are not divided.
        scores: Shape (n, classes).
        classes: Class names.
        settings: What is wished.
        seed: Of the fifths.

    Returns:
        Index of the predicted class of every image, shape (n,).
    """
    decision = _without_interval(truth, groups, scores, classes=classes, settings=settings)
    return decide_held_out(truth, groups, scores, classes=classes, decision=decision, seed=seed)


def best_threshold(
    positive: npt.NDArray[np.bool_], scores: DoubleArray, *, rule: Rule, reach: float | None = None
) -> float | None:
    """Return the best threshold by a rule: an image counts as positive where its score reaches it.

    - ``balanced``: largest sum of sensitivity and specificity.
    - ``sensitivity``: largest specificity among the thresholds whose sensitivity is at least ``reach``; of those, the largest
      sensitivity. ``specificity``: the same the other way round.

    Of an interval of equally good thresholds the middle on the scale of log-odds; of several intervals the widest there, then
    the one nearest to 0.5.

    Args:
        positive: Whether each image is of the positive class, shape (n,).
        scores: Of the positive class, 0..1, shape (n,).
        rule: Which.
        reach: The share to reach, above 0 to 1.

    Returns:
        The threshold; ``None`` where a class has no image, or (``balanced``) none is better than a constant answer.
    """
    ordered = _sorted(scores)
    (found,) = _best(ordered, positive, np.ones((1, len(scores))), rule=rule, reach=reach) if len(scores) else (np.nan,)
    return None if np.isnan(found) else float(found)


def _sorted(scores: DoubleArray) -> _Sorted:
    order = np.argsort(scores, kind="stable")
    distinct, starts = np.unique(scores[order], return_index=True)
    ends = np.clip(np.concatenate([[0.0], distinct, [1.0]]), SMALLEST_SCORE, 1 - SMALLEST_SCORE)
    return _Sorted(order, starts, distinct, np.log(ends) - np.log1p(-ends))


def _best(
    ordered: _Sorted, positive: npt.NDArray[np.bool_], weights: DoubleArray, *, rule: Rule, reach: float | None
) -> DoubleArray:
    """Return the best threshold of every resample, shape (b,); NaN where there is none. ``weights``: whole, shape (b, n)."""
    own = positive[ordered.order]
    of_images = weights[:, ordered.order]
    # Column j is about the thresholds above score j - 1, up to score j: images of scores j and higher count as positive.
    hits = _from_the_top(np.add.reduceat(of_images * own, ordered.starts, axis=1))
    alarms = _from_the_top(np.add.reduceat(of_images * ~own, ordered.starts, axis=1))
    positives, negatives = hits[:, :1], alarms[:, :1]
    # All merits are whole numbers, so that equally good thresholds are equal to the last bit.
    if rule == "balanced":
        merit = hits * negatives - alarms * positives
        possible = merit.max(axis=1) > 0
    else:
        share = 0.0 if reach is None else reach
        first, second = (-alarms, hits) if rule == "sensitivity" else (hits, -alarms)
        reached = hits >= share * positives - 1e-9 if rule == "sensitivity" else negatives - alarms >= share * negatives - 1e-9
        merit = np.where(reached, first * (1 + positives + negatives) + second, -np.inf)
        possible = np.ones(len(weights), dtype=np.bool_)
    possible &= (positives[:, 0] > 0) & (negatives[:, 0] > 0)
    best = merit == merit.max(axis=1, keepdims=True)
    return np.array([_middle(ordered, np.flatnonzero(row)) if fine else np.nan for row, fine in zip(best, possible, strict=True)])


def _from_the_top(counts: DoubleArray) -> DoubleArray:
    """Return sums over each column and those after it, then 0: from shape (b, k) to (b, k + 1)."""
    sums = np.zeros((len(counts), counts.shape[1] + 1))
    sums[:, :-1] = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
    return sums


def _middle(ordered: _Sorted, columns: IntArray) -> float:
    """Return the middle of the widest run of columns; see :func:`_best` for what a column is."""
    breaks = np.flatnonzero(np.diff(columns) > 1)
    first, last = columns[np.append(0, breaks + 1)], columns[np.append(breaks, len(columns) - 1)]
    below, above = ordered.log_odds[first], ordered.log_odds[last + 1]
    middle = (below + above) / 2
    kept = int(np.lexsort((np.abs(middle), below - above))[0])
    threshold = float(1 / (1 + np.exp(-middle[kept])))
    # Between neighbouring numbers, or at the ends of the scale, the middle is rounded away: the end that decides alike is taken.
    if first[kept] > 0 and threshold <= ordered.scores[first[kept] - 1]:
        threshold = float(np.nextafter(ordered.scores[first[kept] - 1], np.inf))
    return min(threshold, float(ordered.scores[last[kept]])) if last[kept] < len(ordered.scores) else threshold


def _interval(
    positive: npt.NDArray[np.bool_],
    groups: IntArray,
    scores: DoubleArray,
    *,
    rule: Rule,
    reach: float | None,
    resamples: int,
    seed: int,
) -> tuple[float | None, float | None, str, str]:
    """Return the ends of the threshold's 95 % interval, how it was made, and what must be said of it."""
    design = sampling_design(positive.astype(np.int64), groups)
    ordered = _sorted(scores)
    chunks = bootstrap_weights(design, resamples=resamples, seed=seed)
    draws = np.concatenate([_best(ordered, positive, weights, rule=rule, reach=reach) for weights in chunks])
    missing = int(np.isnan(draws).sum())
    if missing > MOST_MISSING * len(draws):
        note = f"interval not estimable: in {missing:,} of {len(draws):,} resamples there is no best threshold"
        return None, None, "no interval", note
    note = f"{missing:,} of {len(draws):,} resamples left out: no best threshold" if missing else ""
    return *percentile_interval(draws), f"bootstrap of {design.groups:,} groups, {len(draws):,} resamples", note
