"""Paired differences: by how much some scores are better than others on the same images, and how sure that is.

What is hard for one model is often hard for the other, so the intervals of two scores say little about their difference. Here
the difference itself is resampled, both scores on the same groups of images (Efron and Tibshirani 1993, chapters 13 and 16).
Comparisons with baselines, between models, and of options on validation images are all made of this.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vitrail.errors import DataError
from vitrail.evaluation.intervals import Design, estimate, resample, sampling_design
from vitrail.evaluation.metrics import OVERALL_METRICS, DoubleArray
from vitrail.records import Estimate, IntArray, Predictions


@dataclass(frozen=True)
class PairedDifference:
    """One metric of two sets of scores for the same images.

    Attributes:
        metric: Key of ``OVERALL_METRICS``.
        first: The metric of the first set, on all images; NaN when not estimable.
        second: Of the second.
        draws: First minus second on every resample, shape (resamples,); NaN where not estimable.
        design: How the images were resampled.
    """

    metric: str
    first: float
    second: float
    draws: DoubleArray
    design: Design

    @property
    def estimate(self) -> Estimate:
        """First minus second with its interval, or with the reason why there is none."""
        # Where no resample differs, a share has Wilson's interval; a difference of shares has none.
        metric = dataclasses.replace(OVERALL_METRICS[self.metric], wilson_over="nothing")
        images = np.ones(len(self.design.group), dtype=np.bool_)
        return estimate(metric, self.first - self.second, self.draws, images=images, design=self.design)


def paired_differences(
    metrics: Sequence[str],
    truth: IntArray,
    groups: IntArray,
    first: Sequence[DoubleArray],
    second: Sequence[DoubleArray],
    *,
    resamples: int,
    seed: int,
) -> list[dict[str, PairedDifference]]:
    """Compare each of some sets of scores with each of some others, all on the same resamples of groups.

    Args:
        metrics: Keys of ``OVERALL_METRICS``.
        truth: True class index of every image, shape (n,).
        groups: Group number of every image, shape (n,); whole groups are drawn.
        first: Sets of scores, each of shape (n, classes).
        second: Those that they are compared with.
        resamples: Number of resamples.
        seed: Same seed, same resamples.

    Returns:
        Metric -> difference, for the first of ``first`` against every one of ``second``, then for the next.
    """
    everybody = [*first, *second]
    compute = [OVERALL_METRICS[metric].compute for metric in metrics]

    def measured(weights: DoubleArray) -> DoubleArray:  # shape (b, everybody, metrics)
        return np.array([[one(truth, scores, weights) for one in compute] for scores in everybody]).transpose(2, 0, 1)

    design = sampling_design(truth, groups)
    values = measured(np.ones((1, len(truth))))[0]
    draws = resample(measured, design, resamples=resamples, seed=seed)
    return [
        {
            metric: PairedDifference(
                metric,
                first=float(values[left, number]),
                second=float(values[right, number]),
                draws=draws[:, left, number] - draws[:, right, number],
                design=design,
            )
            for number, metric in enumerate(metrics)
        }
        for left in range(len(first))
        for right in range(len(first), len(everybody))
    ]


def require_same_images(first: Predictions, second: Predictions) -> None:
    """Refuse to compare predictions that are not for the same images.

    Raises:
        DataError: Images, classes, labels or groups differ, or their order.
    """
    same = (
        first.classes == second.classes
        and first.paths == second.paths
        and np.array_equal(first.truth, second.truth)
        and np.array_equal(first.groups, second.groups)
    )
    if not same:
        raise DataError(
            f"{second.model}: must have predictions for the same images, classes, labels and groups as {first.model}, in the "
            f"same order. Found {len(second.paths)} and {len(first.paths)} images. Evaluate both on the same split."
        )
