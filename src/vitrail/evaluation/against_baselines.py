"""Models held against baselines: by how much each is better on the test images, and what to say of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Literal

import numpy as np

from vitrail.evaluation.paired import paired_differences, require_same_images
from vitrail.records import Difference, Estimate, Predictions, RunResult
from vitrail.study import EvaluationSettings

NUISANCE_ONLY = "nuisance-only"
"""Name of the baseline that knows the files and no place in the picture."""

MEANING = (
    "A model that does not surely beat these cheap answers (most frequent class, file properties, most similar small pictures) "
    "has shown no skill of its own."
)
"""What the baselines on a leaderboard are for, in a sentence."""

_METRIC = "balanced_accuracy"


def compare_with_baselines(
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
        require_same_images(first, other)
    every_class = np.isin(np.arange(len(first.classes)), first.truth[first.clean]).all()
    chosen = first.clean if every_class else np.ones(len(first.rows), dtype=np.bool_)
    differences = paired_differences(
        [_METRIC],
        first.truth[chosen],
        first.groups[chosen],
        [model.answers[chosen] for model in models],
        [baseline.answers[chosen] for baseline in baselines],
        resamples=settings.resamples,
        seed=seed,
    )
    part: Literal["test_clean", "test"] = "test_clean" if every_class else "test"
    return tuple(
        Difference(model.model, baseline.model, part, found[_METRIC].estimate)
        for (model, baseline), found in zip(product(models, baselines), differences, strict=True)
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
