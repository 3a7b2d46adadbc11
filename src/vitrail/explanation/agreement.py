"""Where methods of explanation agree on one image. That they agree does not make them right: they may share a bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vitrail.errors import UsageError
from vitrail.explanation.grading.cells import BoolArray, Cells, DoubleArray, grid_of
from vitrail.explanation.grading.similarity import GRID, rank_correlation
from vitrail.explanation.picture import has_sign, is_grey
from vitrail.records import Explanation, FloatArray, Placement

TOP = 0.1
"""Share of the cells of a map that count as its top."""
NOT_CORRECTNESS = "Agreement is not correctness: methods that share a bias agree."


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far methods agree on one image: where their tops meet, and how alike they rank all places.

    Maps are compared by the mean in each cell of a coarse grid over the image, as in the grade table: noise from pixel to pixel
    would hide what maps have in common. The top of a map are the tenth of the cells that raise the class most, of those that
    raise it at all; cells that are equal count all (feature agreement, Krishna et al. 2022, arXiv:2202.01602, per place instead
    of per pair).

    Attributes:
        methods: Those that are compared.
        left_out: Method -> why it is not, in words.
        shares: Share of the methods that have a place in their top, 0..1, float32, shape (height, width) of the image.
        cells: Rows and columns of the grid.
        chance: What ``shares`` would be everywhere if the tops were scattered at random, 0..1: its mean.
        rank_correlations: Spearman's correlation of every pair over the cells, -1..1, one row and one column per method;
            ``None``: not estimable, a map is the same in all cells.
    """

    methods: tuple[str, ...]
    left_out: dict[str, str]
    shares: FloatArray
    cells: tuple[int, int]
    chance: float
    rank_correlations: tuple[tuple[float | None, ...], ...]

    @property
    def n(self) -> int:
        """How many methods are compared."""
        return len(self.methods)

    @property
    def mean_rank_correlation(self) -> float | None:
        """Mean over all pairs where it is estimable; ``None``: there is no such pair."""
        known = [self.rank_correlations[one][other] for one, other in combinations(range(self.n), 2)]
        values = [value for value in known if value is not None]
        return float(np.mean(values)) if values else None

    @property
    def words(self) -> str:
        """The agreement in sentences, what it does not say included."""
        left = f" Left out: {self.left_out_words}." if self.left_out else ""
        mean = self.mean_rank_correlation
        if self.n < 2:
            return f"Agreement of methods: not estimable, fewer than two can be compared.{left}"
        most = f"at most {round(float(self.shares.max()) * self.n)} of {self.n} have the same place in their top {TOP:.0%}"
        if mean is None:
            alike = "rank correlation not estimable, in no pair do both maps differ from cell to cell"
            return f"Agreement of {self.n} methods: {alike}; {most}.{left} {NOT_CORRECTNESS}"
        return f"Agreement of {self.n} methods: mean rank correlation {mean:.2f}; {most}.{left} {NOT_CORRECTNESS}"

    @property
    def left_out_words(self) -> str:
        """Which methods are not compared, and why, by reason."""
        reasons = dict.fromkeys(self.left_out.values())
        return "; ".join(
            f"{', '.join(name for name, why in self.left_out.items() if why == reason)} ({reason})" for reason in reasons
        )


def agreement_of(explanations: Sequence[Explanation]) -> Agreement:
    """Say where several methods agree on one image, and how far.

    Left out are maps without a sign (attention, activations): they do not answer what speaks for the class; those whose grade
    says that they do not hold what they show; and those that are the same everywhere.

    Args:
        explanations: Of one image and one class, one per method.

    Raises:
        UsageError: They are not of one image and one class.
    """
    _check(explanations)
    left_out = {one.method: why for one in explanations if (why := _why_not(one))}
    compared = {one.method: one.map for one in explanations if one.method not in left_out}
    shape = explanations[0].map.shape
    grid = grid_of(_seen(list(compared.values()), (shape[0], shape[1])), cells=GRID)
    means = {method: grid.means(values) for method, values in compared.items()}
    tops = [_top(values) for values in means.values()]
    pairs = [[_correlation(one, other) for other in means.values()] for one in means.values()]
    return Agreement(
        methods=tuple(compared),
        left_out=left_out,
        shares=_shares(tops, grid, (shape[0], shape[1])),
        cells=grid.shape,
        chance=float(np.mean([top.mean() for top in tops])) if tops else 0.0,
        rank_correlations=tuple(tuple(row) for row in pairs),
    )


def _check(explanations: Sequence[Explanation]) -> None:
    """Refuse what cannot be laid side by side."""
    kinds = {(one.image, one.target, one.map.shape) for one in explanations}
    if len(kinds) != 1 or len({one.method for one in explanations}) != len(explanations):
        found = ", ".join(f"{one.method} of {one.image} for {one.target}" for one in explanations) or "none"
        raise UsageError(f"explanations to compare: must be of one image and one class, one per method. Found: {found[:300]}.")


def _why_not(explanation: Explanation) -> str:
    """Return why a map is not compared with others; empty where it is."""
    if not has_sign(explanation):
        return "no sign: for and against look alike"
    if is_grey(explanation):
        return "grey: does not hold what it says"
    return "the same everywhere" if np.ptp(explanation.map) == 0 else ""


def _seen(maps: Sequence[FloatArray], shape: tuple[int, int]) -> Placement:
    """Return the image as if it were a model's input: the box outside of which all maps are zero, as what no model saw is."""
    height, width = shape
    somewhere = np.any([values != 0 for values in maps], axis=0) if maps else np.ones(shape, dtype=np.bool_)
    rows, columns = (np.flatnonzero(somewhere.any(axis=axis)) for axis in (1, 0))
    top, bottom, left, right = (int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1)
    return Placement(
        height=height,
        width=width,
        top=top,
        left=left,
        bottom=bottom,
        right=right,
        inner_top=top,
        inner_left=left,
        inner_bottom=bottom,
        inner_right=right,
    )


def _top(values: DoubleArray) -> BoolArray:
    """Return which cells (r, c) raise the class most: a tenth; fewer where fewer raise it, more where some are equal."""
    count = max(1, round(TOP * values.size))
    least = np.partition(values.ravel(), -count)[-count]
    return np.asarray((values >= least) & (values > 0), dtype=np.bool_)


def _correlation(one: DoubleArray, other: DoubleArray) -> float | None:
    found = rank_correlation(one, other)
    return None if np.isnan(found) else found


def _shares(tops: Sequence[BoolArray], grid: Cells, shape: tuple[int, int]) -> FloatArray:
    """Return the share of the tops that each pixel of the image lies in."""
    shares = np.zeros(shape, dtype=np.float32)
    inside = (slice(int(grid.rows[0]), int(grid.rows[-1])), slice(int(grid.columns[0]), int(grid.columns[-1])))
    for top in tops:
        shares[inside] += grid.spread(top)
    return shares / np.float32(max(1, len(tops)))
