"""Whether an option makes scores better on the same validation images, or only seems to: views, weights of an ensemble."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitrail.evaluation.intervals import percentile_interval
from vitrail.evaluation.metrics import OVERALL_METRICS, DoubleArray
from vitrail.evaluation.paired import paired_differences
from vitrail.records import IntArray

FEWEST_GROUPS = 10
"""With fewer independent images of a class, a resample says too little of what others would say: nothing is called better."""


@dataclass(frozen=True)
class Gain:
    """How much better the second set of scores is in one metric; positive is better, whatever the metric's direction.

    Attributes:
        before: The metric of the first set; ``None``: not estimable.
        after: Of the second.
        gain: The difference, positive where the second is better.
        low: Lower end of its 95 % interval; ``None``: too few groups to tell.
        high: Upper end.
    """

    before: float | None
    after: float | None
    gain: float | None
    low: float | None
    high: float | None

    @property
    def beyond_noise(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low is not None and self.low > 0


def paired_gain(
    metric: str, truth: IntArray, groups: IntArray, before: DoubleArray, after: DoubleArray, *, resamples: int, seed: int
) -> Gain:
    """Compare two sets of scores for the same images.

    Args:
        metric: A key of ``OVERALL_METRICS``.
        truth: True class index of every image, shape (n,).
        groups: Group number of every image, shape (n,); whole groups are drawn.
        before: First set of scores, shape (n, classes).
        after: Second set.
        resamples: Number of resamples.
        seed: Same seed, same resamples.
    """
    higher_is_better = OVERALL_METRICS[metric].higher_is_better
    pair = ([after], [before]) if higher_is_better else ([before], [after])
    (found,) = paired_differences([metric], truth, groups, *pair, resamples=resamples, seed=seed)
    difference = found[metric]
    measured = (difference.second, difference.first) if higher_is_better else (difference.first, difference.second)
    first, second = (value if np.isfinite(value) else None for value in measured)
    if first is None or second is None:
        return Gain(first, second, None, None, None)
    gain = difference.first - difference.second
    if np.bincount(difference.design.stratum, minlength=before.shape[1]).min() < FEWEST_GROUPS:
        return Gain(first, second, gain, None, None)
    return Gain(first, second, gain, *percentile_interval(difference.draws))
