"""The parts of an image that are no anatomy, and what of the relevance lies in them: the first half of the shortcut hunt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from vitrail.evaluation.gain import FEWEST_GROUPS
from vitrail.explanation.grading.cells import BoolArray, DoubleArray, inner_slices
from vitrail.explanation.grading.means import mean_estimates
from vitrail.records import FloatArray, IntArray, Placement, RegionShare

OUTSIDE, BORDER, TEXT = "outside the anatomy", "border", "text"
CORNERS = ("upper left corner", "upper right corner", "lower left corner", "lower right corner")
RING = 1 / 12
"""Width of the border, as a share of the shorter side."""
CORNER = 1 / 5
"""Sides of a corner, as a share of the image's sides."""
FALSE_ALARMS = 0.1
"""Of models whose maps point nowhere in particular, so many at most are said to point somewhere, over all parts and classes. No
less, as validation sets are small and this alone is no finding: taking the places away has to agree."""

Verdict = Literal["yes", "no", "not estimable"]


def border_of(placement: Placement, *, size: int) -> BoolArray:
    """Return the outermost ring of what is image, shape (size, size)."""
    answer = np.zeros((size, size), dtype=np.bool_)
    inner = inner_slices(placement)
    height, width = answer[inner].shape
    ring = max(1, round(RING * min(height, width)))
    answer[inner] = True
    answer[inner][ring : max(ring, height - ring), ring : max(ring, width - ring)] = False
    return answer


def places_of(placement: Placement, anatomy: BoolArray, text: BoolArray | None, *, with_text: bool) -> dict[str, BoolArray]:
    """Return the parts of one image that are looked at, none of them with anatomy in it, by name, each of shape (size, size).

    Args:
        placement: What of the input is image.
        anatomy: Shape (size, size); all false where it is not estimable, and the parts are then taken as they are.
        text: Where letters stand, shape (size, size); ``None``: not looked for.
        with_text: Whether text is a part at all.
    """
    size = len(anatomy)
    inside = np.zeros((size, size), dtype=np.bool_)
    inner = inner_slices(placement)
    inside[inner] = True
    free = inside & ~anatomy
    answer = {OUTSIDE: free if anatomy.any() else np.zeros_like(free), BORDER: border_of(placement, size=size) & free}
    height, width = inside[inner].shape
    down, across = max(1, round(CORNER * height)), max(1, round(CORNER * width))
    for number, name in enumerate(CORNERS):
        corner = np.zeros_like(inside)
        rows = slice(0, down) if number < 2 else slice(height - down, height)
        columns = slice(0, across) if number % 2 == 0 else slice(width - across, width)
        corner[inner][rows, columns] = True
        answer[name] = corner & free
    if with_text:
        answer[TEXT] = np.zeros_like(free) if text is None else text & inside
    return answer


def shares_in(maps: FloatArray, places: Sequence[Mapping[str, BoolArray]]) -> dict[str, DoubleArray]:
    """Return, per part, the share of each map's positive relevance that lies in it, 0..1, shape (n,).

    NaN where an image has no such part, or its map no positive relevance.
    """
    answer = {name: np.full(len(maps), np.nan) for name in places[0]}
    for number, (values, parts) in enumerate(zip(maps, places, strict=True)):
        positive = np.maximum(values.astype(np.float64), 0.0)
        whole = positive.sum()
        for name, mask in parts.items():
            if whole > 0 and mask.any():
                answer[name][number] = positive[mask].sum() / whole
    return answer


def areas_of(placements: Sequence[Placement], places: Sequence[Mapping[str, BoolArray]]) -> dict[str, DoubleArray]:
    """Return, per part, the share of each image that it takes, 0..1, shape (n,); NaN where an image has no such part."""
    answer = {name: np.full(len(places), np.nan) for name in places[0]}
    for number, (placement, parts) in enumerate(zip(placements, places, strict=True)):
        rows, columns = inner_slices(placement)
        whole = (rows.stop - rows.start) * (columns.stop - columns.start)
        for name, mask in parts.items():
            if mask.any():
                answer[name][number] = np.count_nonzero(mask) / whole
    return answer


def region_shares(
    shares: Mapping[str, DoubleArray],
    areas: Mapping[str, DoubleArray],
    untrained: Mapping[str, DoubleArray] | None,
    explained: IntArray,
    groups: IntArray,
    classes: Sequence[str],
    *,
    resamples: int,
    seed: int,
) -> tuple[RegionShare, ...]:
    """Hold the shares of relevance against their chance, for all images and for those of each class that is explained.

    A share is above chance where the lower ends of its mean distances to the area and to the untrained network are above zero;
    as many parts and classes are looked at, the (t) intervals are widened by their number (Bonferroni).
    """
    asked = list(_asked(shares, areas, untrained, explained, classes))
    known = [chosen for _, _, chosen in asked if len(np.unique(groups[chosen])) >= FEWEST_GROUPS]
    answer = []
    for name, target, chosen in asked:
        own, some = shares[name][chosen], groups[chosen]
        rivals = [areas[name][chosen], *([] if untrained is None else [untrained[name][chosen]])]
        found = mean_estimates(np.stack([own, *rivals], axis=1), some, seed=seed, resamples=resamples)
        verdict: Verdict = "not estimable"
        if len(np.unique(some)) >= FEWEST_GROUPS:
            lows = (_lower(own - rival, some, tests=len(known)) for rival in rivals)
            verdict = "yes" if all(low > 0 for low in lows) else "no"
        answer.append(RegionShare(name, target, found[0], found[1], found[2] if untrained else None, verdict))
    return tuple(answer)


def _asked(
    shares: Mapping[str, DoubleArray],
    areas: Mapping[str, DoubleArray],
    untrained: Mapping[str, DoubleArray] | None,
    explained: IntArray,
    classes: Sequence[str],
) -> Iterator[tuple[str, str, IntArray]]:
    """Yield every part, class (empty: all) and the positions of the images that say something of them; at least one."""
    for name in shares:
        known = ~np.isnan(shares[name]) & ~np.isnan(areas[name])
        if untrained is not None:
            known &= ~np.isnan(untrained[name])
        for target, of_class in [("", np.ones_like(known)), *((one, explained == k) for k, one in enumerate(classes))]:
            chosen = np.flatnonzero(known & of_class)
            if len(chosen):
                yield name, target, chosen.astype(np.int64)


def _lower(values: DoubleArray, groups: IntArray, *, tests: int) -> float:
    """Return the lower end of a mean's t interval over groups when so many means are looked at: ``m - t s / sqrt(k)``.

    Not a bootstrap: of few groups, its outer percentiles lie too close to the mean. With 24 tests of 10 groups each, where there
    was nothing to find, and 2.5 % promised, one or more of them found something in 29 % of simulated data sets.

    Args:
        values: Shape (n,).
        groups: Group number of each, shape (n,), at least two; each group counts once, by its mean.
        tests: How many means are looked at.
    """
    from scipy.special import stdtrit

    _, index = np.unique(groups, return_inverse=True)
    means = np.bincount(index, values) / np.bincount(index)
    quantile = stdtrit(len(means) - 1, 1 - FALSE_ALARMS / max(1, tests))
    return float(means.mean() - quantile * means.std(ddof=1) / np.sqrt(len(means)))
