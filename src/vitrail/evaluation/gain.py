"""Whether one set of scores is better than another on the same images, or only seems so: a paired bootstrap of groups.

Both are measured on the same resamples, so what makes images easy or hard for both falls out (Efron and Tibshirani 1993,
chapter 16).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitrail.evaluation.intervals import CONFIDENCE, bootstrap_weights, sampling_design
from vitrail.evaluation.metrics import OVERALL_METRICS, DoubleArray
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
    measured = OVERALL_METRICS[metric]
    sign = 1.0 if measured.higher_is_better else -1.0
    once = np.ones((1, len(truth)))
    first, second = (float(measured.compute(truth, scores, once)[0]) for scores in (before, after))
    if not np.isfinite([first, second]).all():
        known = [value if np.isfinite(value) else None for value in (first, second)]
        return Gain(known[0], known[1], None, None, None)
    gain = sign * (second - first)
    design = sampling_design(truth, groups)
    if np.bincount(design.stratum, minlength=before.shape[1]).min() < FEWEST_GROUPS:
        return Gain(first, second, gain, None, None)
    draws = np.concatenate(
        [
            sign * (measured.compute(truth, after, weights) - measured.compute(truth, before, weights))
            for weights in bootstrap_weights(design, resamples=resamples, seed=seed)
        ]
    )
    draws = draws[~np.isnan(draws)]
    low, high = (float(end) for end in np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return Gain(first, second, gain, low, high)
