"""Means over images with the interval that resamples whole groups, and the question whether one is better than another."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrail.evaluation.gain import FEWEST_GROUPS
from vitrail.evaluation.intervals import estimate, resample, sampling_design
from vitrail.evaluation.metrics import Metric
from vitrail.records import Estimate, IntArray

RESAMPLES = 2000
ROUNDING = 1e-9
"""What is no further from zero is zero, up to rounding."""

Verdict = Literal["yes", "no", "not estimable"]


def mean_estimates(
    values: npt.NDArray[np.float64], groups: IntArray, *, seed: int, resamples: int = RESAMPLES
) -> tuple[Estimate, ...]:
    """Return the means of some columns, each with its 95 % interval, all on the same resamples of groups.

    Args:
        values: Shape (n, k), one row per image; finite.
        groups: Group number of every image, shape (n,): images of one patient are drawn together.
        seed: Same seed, same intervals.
        resamples: Number of resamples.
    """
    truth = np.zeros(len(values), dtype=np.int64)  # a mean over all images: no class must be kept from vanishing
    design = sampling_design(truth, groups)
    everybody = np.ones(len(values), dtype=np.bool_)
    if not len(values):
        return tuple(Estimate(None, None, None, 0, 0, "no interval", "not estimable: no images") for _ in range(values.shape[1]))

    def means(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(weights @ values / weights.sum(axis=1, keepdims=True))

    draws = resample(means, design, resamples=resamples, seed=seed)
    return tuple(
        estimate(_MEAN, float(mean), column, images=everybody, design=design)
        for mean, column in zip(values.mean(axis=0), draws.T, strict=True)
    )


def is_above_zero(difference: Estimate) -> Verdict:
    """Say whether a mean difference is above zero: its whole interval must be, and enough groups must stand behind it.

    Where the difference is the same in all of them there is no interval, and more images would give none: the value decides.
    """
    if difference.value is None or difference.groups < FEWEST_GROUPS:
        return "not estimable"
    if difference.low is not None:
        return "yes" if difference.low > 0 else "no"
    if "resamples agree" not in difference.note:
        return "not estimable"
    return "yes" if difference.value > ROUNDING else "no"


def _weighted_mean(
    truth: IntArray,  # noqa: ARG001 - the signature of a metric
    scores: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    return np.asarray(weights @ scores[:, 0] / weights.sum(axis=1))


_MEAN = Metric(_weighted_mean, "Mean over images", "no images", lowest=-np.inf, highest=np.inf)
