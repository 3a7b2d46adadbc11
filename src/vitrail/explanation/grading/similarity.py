"""How alike two maps are: rank correlation, with what two maps of different images have in common taken out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import numpy.typing as npt

from vitrail.explanation.grading.cells import DoubleArray, grid_of
from vitrail.records import FloatArray, MapAgreement, Placement

GRID = 14
"""Cells along a side on which maps are compared: noise from pixel to pixel would hide what maps have in common."""


def on_grid(maps: FloatArray, placements: Sequence[Placement], *, cells: int = GRID) -> list[DoubleArray]:
    """Return the means of maps (n, size, size) on a grid over what is image: n arrays of up to cells x cells values."""
    return [grid_of(placement, cells=cells).means(one).ravel() for one, placement in zip(maps, placements, strict=True)]


def rank_correlation(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> float:
    """Return Spearman's correlation of two arrays of one length, -1..1; ties share their rank; NaN where one is constant."""
    from scipy.stats import rankdata  # takes half a second

    ranks = np.stack([rankdata(first.ravel()), rankdata(second.ravel())])
    ranks -= ranks.mean(axis=1, keepdims=True)
    norms = np.sqrt((ranks**2).sum(axis=1))
    if not norms.all():
        return float("nan")
    return float(np.clip((ranks[0] @ ranks[1]) / (norms[0] * norms[1]), -1.0, 1.0))


def agreements(maps: Mapping[str, FloatArray], placements: Sequence[Placement], *, cells: int = GRID) -> tuple[MapAgreement, ...]:
    """Compare every method with every other.

    Agreement is the mean rank correlation of two methods' maps of the same image. Maps of different images agree too, because
    findings stand near the middle of most images; that is chance, and it is measured: the first method's map of one image
    against the second's of the next. Corrected agreement is ``(agreement - chance) / (1 - chance)``: 0 is no more than chance, 1
    the same order of places.

    Args:
        maps: Method -> maps, shape (n, size, size).
        placements: What of the images is image.
        cells: Cells along a side of the grid.

    Returns:
        One entry per pair, in the order of the methods.
    """
    grids = {name: _same_grid(values, placements, cells) for name, values in maps.items()}
    found = []
    for first, second in combinations(grids, 2):
        pairs = list(zip(grids[first], grids[second], strict=True))
        same = np.array([rank_correlation(*pair) for pair in pairs])
        apart = np.array([rank_correlation(pairs[one][0], pairs[one - 1][1]) for one in range(len(pairs)) if len(pairs) > 1])
        agreement, chance = _mean(same), _mean(apart)
        corrected = None
        if agreement is not None and chance is not None and chance < 1:
            corrected = (agreement - chance) / (1 - chance)
        found.append(MapAgreement(first, second, agreement, chance, corrected, int(np.count_nonzero(~np.isnan(same)))))
    return tuple(found)


def _same_grid(maps: FloatArray, placements: Sequence[Placement], cells: int) -> list[DoubleArray]:
    """Bring maps to a grid that all images can have, so that those of different images can be compared."""
    fewest = min((min(p.inner_bottom - p.inner_top, p.inner_right - p.inner_left) for p in placements), default=cells)
    return on_grid(maps, placements, cells=min(cells, fewest))


def _mean(values: DoubleArray) -> float | None:
    """Return the mean of what is estimable, or ``None``."""
    kept = values[~np.isnan(values)]
    return float(kept.mean()) if len(kept) else None
