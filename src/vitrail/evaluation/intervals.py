"""How sure a number is: 95 % intervals that resample groups, not images.

Copies of one image (or slices of one patient) carry one piece of evidence, not several: an interval that resamples images
would be too narrow. So whole groups are drawn with replacement, within each class, so that no class vanishes (Efron and
Tibshirani 1993, chapters 8 and 13; percentile interval).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from vitrail.evaluation.metrics import DoubleArray, Metric
from vitrail.records import Estimate, IntArray

CONFIDENCE = 0.95
NUMBERS_PER_CHUNK = 4_000_000
"""Weights held at a time: 32 MB, whatever the number of images and resamples."""

_MOST_MISSING = 0.05
_NO_WIDTH = 1e-12  # what rounding leaves between resamples that agree


# ---------------------------------------------------------------------------------------------------- resampling


@dataclass(frozen=True)
class Design:
    """Which images are drawn together, and among which others.

    Attributes:
        group: Number of every image's group, 0..groups-1, shape (n,).
        stratum: Class of every group, ascending, shape (groups,): the most frequent one of its images (the first, if several).
    """

    group: IntArray
    stratum: IntArray

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.stratum)

    def smallest_stratum(self, groups: IntArray) -> int:
        """Number of groups in the smallest of the strata that ``groups`` stand in."""
        strata = self.stratum[groups]
        return min(int(np.count_nonzero(self.stratum == stratum)) for stratum in np.unique(strata))


def sampling_design(truth: IntArray, groups: IntArray) -> Design:
    """Arrange images for resampling.

    Args:
        truth: True class index of every image, shape (n,).
        groups: Group number of every image, any integers, shape (n,).
    """
    numbers, index = np.unique(groups, return_inverse=True)
    images = np.zeros((len(numbers), int(truth.max(initial=0)) + 1), dtype=np.int64)
    np.add.at(images, (index, truth), 1)
    stratum = images.argmax(axis=1)
    order = np.argsort(stratum, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return Design(place[index], stratum[order])


def bootstrap_weights(
    design: Design, *, resamples: int, seed: int, numbers_per_chunk: int = NUMBERS_PER_CHUNK
) -> Iterator[DoubleArray]:
    """Draw groups with replacement within their stratum, and say how often each image was drawn.

    Args:
        design: The images.
        resamples: Number of resamples in all.
        seed: Same seed, same resamples, whatever the size of the chunks.
        numbers_per_chunk: Most weights to hold at a time (at least one resample is held).

    Yields:
        Chunks of weights, float64, shape (b, n); their b sum to ``resamples``.
    """
    groups, images = design.groups, len(design.group)
    if groups == 0:
        return
    generator = np.random.default_rng(seed)
    first = np.searchsorted(design.stratum, design.stratum, side="left")
    size = np.searchsorted(design.stratum, design.stratum, side="right") - first
    rows = max(1, min(resamples, numbers_per_chunk // images))
    for done in range(0, resamples, rows):
        chunk = min(rows, resamples - done)
        drawn = first + (generator.random((chunk, groups)) * size).astype(np.int64)
        drawn += np.arange(chunk)[:, None] * groups
        times = np.bincount(drawn.ravel(), minlength=chunk * groups).reshape(chunk, groups)
        yield times.astype(np.float64)[:, design.group]


def folds_of_groups(truth: IntArray, groups: IntArray, *, folds: int, seed: int) -> IntArray:
    """Return the fold of every image, shape (n,): groups stay whole, every class is spread over the folds."""
    design = sampling_design(truth, groups)
    generator = np.random.default_rng(seed)
    fold = np.zeros(design.groups, dtype=np.int64)
    for stratum in np.unique(design.stratum):
        members = np.flatnonzero(design.stratum == stratum)
        fold[generator.permutation(members)] = np.arange(len(members)) % folds
    return np.asarray(fold[design.group])


def resample(measure: Callable[[DoubleArray], DoubleArray], design: Design, *, resamples: int, seed: int) -> DoubleArray:
    """Measure something on every resample: from weights of shape (b, n) to numbers of shape (b, ...).

    Returns:
        Shape (resamples, ...), the same for the same seed; no rows without images.
    """
    no_row = measure(np.ones((0, len(design.group))))
    return np.concatenate([no_row, *map(measure, bootstrap_weights(design, resamples=resamples, seed=seed))])


# ---------------------------------------------------------------------------------------------------- intervals


def wilson_interval(successes: float, trials: int, *, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Return Wilson's score interval for a proportion (Wilson 1927).

    (p + z^2/2n +- z sqrt(p (1-p)/n + z^2/4n^2)) / (1 + z^2/n): it has width even at 0 and 1.

    Args:
        successes: Number of successes, 0..``trials``; need not be whole.
        trials: Number of independent trials, at least 1.
        confidence: Coverage aimed at, between 0 and 1.

    Raises:
        ValueError: The arguments are out of range.
    """
    if trials < 1 or not 0 <= successes <= trials or not 0 < confidence < 1:
        raise ValueError(
            "wilson_interval: needs 0 <= successes <= trials, trials >= 1 and 0 < confidence < 1. "
            f"Found: successes={successes}, trials={trials}, confidence={confidence}."
        )
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = successes / trials
    middle = share + z**2 / (2 * trials)
    reach = z * float(np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)))
    scale = 1 + z**2 / trials
    # At 0 and 1 the formula gives the end itself; said outright, so that rounding cannot put the share outside its interval.
    low = 0.0 if successes == 0 else max(0.0, (middle - reach) / scale)
    high = 1.0 if successes == trials else min(1.0, (middle + reach) / scale)
    return low, high


def percentile_interval(draws: DoubleArray) -> tuple[float, float]:
    """Return the ends of the middle 95 % of some resamples; those that are NaN are left out."""
    low, high = np.nanquantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def estimate(metric: Metric, value: float, draws: DoubleArray, *, images: npt.NDArray[np.bool_], design: Design) -> Estimate:
    """Put a value, its resamples and what it rests on together. Never NaN: what is not estimable is ``None`` with a note.

    Args:
        metric: What was measured.
        value: On all images; NaN when not estimable.
        draws: On every resample, shape (resamples,); NaN where not estimable.
        images: The images that the metric rests on, shape (n,).
        design: How the images were resampled.
    """
    n = int(np.count_nonzero(images))
    stood = np.unique(design.group[images])
    groups = len(stood)
    if np.isnan(value):
        note = metric.undefined if len(images) else "no images"
        return Estimate(None, None, None, n, groups, "no interval", f"not estimable: {note}")

    def without_interval(reason: str) -> Estimate:
        return Estimate(float(value), None, None, n, groups, "no interval", f"interval not estimable: {reason}")

    if groups < 2:
        return without_interval("a single group cannot be resampled")
    kept = draws[~np.isnan(draws)]
    missing = len(draws) - len(kept)
    if len(kept) == 0 or missing > _MOST_MISSING * len(draws):
        return without_interval(f"in {missing:,} of {len(draws):,} resamples {metric.undefined}")
    low, high = percentile_interval(kept)
    if high - low < _NO_WIDTH:
        if metric.wilson_over == "nothing":
            return without_interval("all resamples agree, which is no proof of certainty")
        trials = groups if metric.wilson_over == "all groups" else design.smallest_stratum(stood)
        low, high = wilson_interval(min(max(value, 0.0), 1.0) * trials, trials)
        where = "" if metric.wilson_over == "all groups" else " of the smallest class"
        method = f"Wilson, {_counted(trials, 'group')}{where}"
        return Estimate(float(value), low, high, n, groups, method, "all resamples agree: Wilson's interval instead")
    notes = []
    if missing:
        notes.append(f"{missing:,} of {len(draws):,} resamples left out: {metric.undefined}")
    if design.smallest_stratum(stood) == 1:
        notes.append("a class stands in a single group, which resampling cannot vary: the interval is too narrow")
    method = f"bootstrap of {groups:,} groups, {len(draws):,} resamples"
    return Estimate(float(value), low, high, n, groups, method, "; ".join(notes))


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
