"""The randomisation test: a map of a model must change when what the model has learnt is taken away.

A gate, passed or failed; how low the similarity falls says nothing of which method is better (Binder et al., CVPR 2023).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from vitrail.explanation.grading.cells import DoubleArray, inner_slices
from vitrail.explanation.grading.means import mean_estimates
from vitrail.explanation.grading.similarity import rank_correlation
from vitrail.records import FloatArray, IntArray, Placement, RandomisationTest

THRESHOLD = 0.3
"""A method passes when, with all weights re-drawn, the mean rank correlation with its maps of the model is below this."""


def randomisation_test(
    maps: FloatArray,
    randomised: Iterable[tuple[str, FloatArray]],
    placements: Sequence[Placement],
    groups: IntArray,
    *,
    seed: int,
    threshold: float = THRESHOLD,
) -> RandomisationTest:
    """Compare maps of a model with maps of the same model whose weights are re-drawn, layer after layer from the scores down.

    The similarity is Spearman's correlation of the absolute maps, pixel by pixel of what is image, averaged over the images
    (Adebayo et al., NeurIPS 2018). A map that is constant after re-drawing shares nothing with the model's: 0.

    Args:
        maps: Of the model, shape (n, size, size).
        randomised: The last layer re-drawn at each stage, and the maps then; the last stage is the network with all weights
            re-drawn.
        placements: What of the images is image.
        groups: Group number of every image, shape (n,).
        seed: Of the interval.
        threshold: See :data:`THRESHOLD`.

    Returns:
        The similarity at every stage, and whether the method passes: ``None`` where the model's own maps are constant.
    """
    stages: list[str] = []
    means: list[float | None] = []
    last = None
    for stage, values in randomised:
        similar = _similarities(maps, values, placements)
        kept = ~np.isnan(similar)
        stages.append(stage)
        means.append(float(similar[kept].mean()) if kept.any() else None)
        last = mean_estimates(similar[kept, np.newaxis], groups[kept], seed=seed)[0]
    passed = None if last is None or last.value is None else bool(last.value < threshold)
    return RandomisationTest(tuple(stages), tuple(means), last, threshold, passed)


def _similarities(maps: FloatArray, others: FloatArray, placements: Sequence[Placement]) -> DoubleArray:
    """Return the similarity of every image's maps, NaN where the first is constant."""
    found = np.empty(len(maps))
    for image, placement in enumerate(placements):
        inner = inner_slices(placement)
        first, second = np.abs(maps[image][inner]), np.abs(others[image][inner])
        found[image] = np.nan if not np.ptp(first) else 0.0 if not np.ptp(second) else rank_correlation(first, second)
    return found
