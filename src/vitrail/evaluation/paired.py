"""By how much a model is better than a baseline: both scored on the same images, both resampled together.

Intervals of two scores say little about their difference, for both rest on the same images: what is hard for one is often hard
for the other. So the difference itself is resampled, by groups (Efron and Tibshirani 1993, chapter 13; percentile interval).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vitrail.errors import DataError
from vitrail.evaluation.intervals import bootstrap_weights, estimate, sampling_design
from vitrail.evaluation.metrics import OVERALL_METRICS, DoubleArray
from vitrail.records import Difference, Estimate, Predictions, RunResult
from vitrail.study import EvaluationSettings

NUISANCE_ONLY = "nuisance-only"
"""Name of the baseline that knows the files and no place in the picture."""

MEANING = (
    "A model that does not surely beat these cheap answers (most frequent class, file properties, most similar small pictures) "
    "has shown no skill of its own."
)
"""What the baselines on a leaderboard are for, in a sentence."""

# Where no resample differs, a share has Wilson's interval; a difference of shares has none.
_METRIC = dataclasses.replace(OVERALL_METRICS["balanced_accuracy"], wilson_over="nothing", lowest=-1.0)


def paired_differences(
    models: Sequence[Predictions], baselines: Sequence[Predictions], *, settings: EvaluationSettings, seed: int
) -> tuple[Difference, ...]:
    """Compare every model with every baseline by balanced accuracy on the test images, with 95 % intervals over groups.

    On the clean test images; where their balanced accuracy is not estimable (a class has none), on all test images.

    Args:
        models: Test predictions.
        baselines: Test predictions for the same images.
        settings: Number of resamples.
        seed: Same seed, same intervals.

    Returns:
        Model by model, baseline by baseline, in their order.

    Raises:
        DataError: The predictions are not for the same images.
    """
    everybody = [*models, *baselines]
    if not everybody:
        return ()
    first = everybody[0]
    for other in everybody[1:]:
        if not (np.array_equal(first.rows, other.rows) and first.classes == other.classes):
            raise DataError(
                f"{other.model}: must have test predictions for the images and classes of {first.model} to be compared with it. "
                "Evaluate both again."
            )
    everything = np.ones(len(first.rows), dtype=np.bool_)
    clean = _measure(everybody, first.clean, np.ones((1, int(first.clean.sum()))))
    chosen = everything if np.isnan(clean).any() else first.clean
    truth = first.truth[chosen]
    design = sampling_design(truth, first.groups[chosen])
    values = _measure(everybody, chosen, np.ones((1, len(truth))))[0]
    chunks = [_measure(everybody, chosen, np.ones((0, len(truth))))]
    resampled = bootstrap_weights(design, resamples=settings.resamples, seed=seed)
    chunks += [_measure(everybody, chosen, weights) for weights in resampled]
    draws = np.concatenate(chunks)
    images = np.ones(len(truth), dtype=np.bool_)
    return tuple(
        Difference(
            model=model.model,
            baseline=baseline.model,
            part="test_clean" if chosen is first.clean else "test",
            balanced_accuracy=estimate(
                _METRIC, float(values[left] - values[right]), draws[:, left] - draws[:, right], images=images, design=design
            ),
        )
        for left, model in enumerate(models)
        for right, baseline in enumerate(baselines, start=len(models))
    )


def held_against_baselines(result: RunResult) -> tuple[str, ...]:
    """Say in words how the champion compares with the hardest baseline, and which models have not shown to see more than files.

    The champion is held against the hardest baseline: one that it does not surely beat, else the one it beats by least. As every
    baseline must be beaten, choosing it by the test images can only count against the champion.
    """
    of_champion = [one for one in result.differences if one.model == result.champion]
    sentences = [_champion_words(min(of_champion, key=_hardness))] if of_champion else []
    blind = [one for one in result.differences if one.baseline == NUISANCE_ONLY and _in_reach(one.balanced_accuracy)]
    if blind:
        names = ", ".join(f"{one.model} ({_points(one.balanced_accuracy)})" for one in blind)
        sentences.append(
            f"Not shown to see more than file properties: {names}. The baseline {NUISANCE_ONLY} knows the size, dimensions, "
            "compression and header of the files, their overall brightness and noise, and no place in the picture, and does as "
            "well or nearly so."
        )
    return tuple(sentences)


def _in_reach(difference: Estimate) -> bool:
    return difference.low is not None and difference.low <= 0


def _hardness(one: Difference) -> tuple[bool, float]:
    value = one.balanced_accuracy.value
    return one.beaten, -np.inf if value is None else value


def _champion_words(one: Difference) -> str:
    found = one.balanced_accuracy
    where = "the clean test images" if one.part == "test_clean" else "all test images (some class has no clean one)"
    if found.value is None:
        return f"Whether {one.model} beats the baselines on {where} cannot be said: {found.note}."
    count = f"n = {found.n:,} in {found.groups:,} group{'s' * (found.groups != 1)}"
    if found.low is None or found.high is None:
        return f"{one.model} against the baseline {one.baseline} on {where}: {_points(found)} ({count}; {found.note})."
    numbers = f"{_points(found)} of balanced accuracy, paired ({count})"
    if one.beaten:
        return f"{one.model} beats every baseline on {where}; the hardest is {one.baseline}: {numbers}."
    verdict = "is worse than" if found.high < 0 else "does not surely beat"
    return f"{one.model} {verdict} the baseline {one.baseline} on {where}: {numbers}."


def _points(estimate: Estimate) -> str:
    """Return a difference of two shares in percentage points with its interval."""
    if estimate.value is None:
        return "not estimable"
    value = f"{100 * estimate.value:+.1f} points"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _measure(everybody: Sequence[Predictions], chosen: npt.NDArray[np.bool_], weights: DoubleArray) -> DoubleArray:
    """Return everybody's balanced accuracy on every resample of the chosen images, shape (b, everybody)."""
    columns = [_METRIC.compute(one.truth[chosen], one.probabilities[chosen], weights) for one in everybody]
    return np.column_stack(columns)
