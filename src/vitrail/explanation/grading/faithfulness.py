"""Faithfulness: take away what a map calls important, and see whether the model's score agrees.

Squares of the image are ranked by the map and replaced step by step, the most relevant first and the least relevant first; the
score of the explained class is followed. A faithful map makes the first curve fall early and the second late.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitrail.errors import UsageError
from vitrail.explanation.grading.cells import BoolArray, Cells, DoubleArray, cells_of, generator_of, inner_slices
from vitrail.explanation.perturbing import blurred_inside, median_inside
from vitrail.records import ByteArray, FloatArray, IntArray, Placement

Scorer = Callable[[ByteArray], DoubleArray]
"""From pixels, uint8 of shape (n, size, size, channels), to scores (n, classes) that sum to 1."""

Fill = Literal["median", "blurred"]
Measured = Literal["probability", "contrast"]

CELLS_ALONG = 28
"""Cells along a side where none is asked for: 8 pixels of a 224-pixel input, finer than any class activation map."""
BLUR = 1 / 20
"""Standard deviation of the blur, as a share of the input's side."""
_LEAST_SCORE = 1e-7


@dataclass(frozen=True)
class Removal:
    """How parts of an image are removed.

    Attributes:
        steps: Equal steps from the whole image to none of it.
        cell: Side in pixels of the squares that are ranked (by the mean of the map in them) and removed as one; ``None``: a
            28th of the input's side. Removing single pixels leaves confetti, which is a stimulus of its own.
        fill: What stands where something was removed: the median of the image per channel (padding left out), or the image
            blurred (Gaussian, standard deviation a twentieth of the input's side).
        measured: What is followed: ``probability``, the score of the class, 0..1; or ``contrast``, its log-odds against the
            strongest other class, for models whose scores are saturated. (A logit alone cannot be had from scores.)
        insertion: Whether to follow a third curve: from the blurred image, the most relevant squares put back first.
        batch: Changed images handed to the model at a time.
    """

    steps: int = 20
    cell: int | None = None
    fill: Fill = "median"
    measured: Measured = "probability"
    insertion: bool = True
    batch: int = 64

    def __post_init__(self) -> None:
        rules = {"steps": self.steps >= 2, "cell": self.cell is None or self.cell >= 1, "batch": self.batch >= 1}
        for name, kept in rules.items():
            if not kept:
                least = 2 if name == "steps" else 1
                raise UsageError(f"removal {name}: must be at least {least}. Found: {getattr(self, name)}. Give a larger number.")

    def side(self, size: int) -> int:
        """Return the side of a cell for an input of ``size`` pixels."""
        return self.cell or max(1, round(size / CELLS_ALONG))

    def passes(self, maps: int) -> int:
        """Return how often an image passes the model to follow the curves of so many maps of it, all of different orders."""
        ends = 3 if self.insertion else 2
        return ends + maps * (self.steps - 1) * (3 if self.insertion else 2)


@dataclass(frozen=True)
class RemovalCurves:
    """What removal does to the score of the explained class of every image.

    Attributes:
        removed: Share of the cells that are removed (or put back) at each step, 0..1, shape (steps + 1,).
        most_first: Score while the most relevant cells go first, shape (n, steps + 1); probability 0..1, or log-odds.
        least_first: Score while the least relevant cells go first: in exactly the opposite order.
        insertion: Score while the most relevant cells come first into the blurred image; ``None`` when not followed.
    """

    removed: DoubleArray
    most_first: DoubleArray
    least_first: DoubleArray
    insertion: DoubleArray | None

    @property
    def deletion_area(self) -> DoubleArray:
        """Area under the curve with the most relevant first, shape (n,): 0..1 of probability; low is faithful."""
        return area(self.removed, self.most_first)

    @property
    def insertion_area(self) -> DoubleArray | None:
        """Area under the insertion curve, shape (n,): 0..1 of probability; high is faithful."""
        return None if self.insertion is None else area(self.removed, self.insertion)

    @property
    def relevance_gain(self) -> DoubleArray:
        """Symmetric relevance gain (SRG), shape (n,): -1..1 of probability; 0 is a map that knows nothing (arXiv:2401.06654).

        SRG = area(least relevant first) - area(most relevant first). Both curves suffer alike from images unlike any that the
        model has seen, so that their difference depends little on how things are removed. It does somewhat: methods that cover
        parts with the same fill (occlusion) are favoured.
        """
        return area(self.removed, self.least_first) - self.deletion_area


def area(removed: DoubleArray, curves: DoubleArray) -> DoubleArray:
    """Return the area under curves (n, steps + 1) by the trapezoidal rule, shape (n,)."""
    return np.asarray(np.trapezoid(curves, removed, axis=1), dtype=np.float64)


def removal_curves(
    scores: Scorer,
    pixels: ByteArray,
    placements: Sequence[Placement],
    targets: IntArray,
    maps: Mapping[str, FloatArray],
    *,
    removal: Removal | None = None,
    seed: int,
) -> dict[str, RemovalCurves]:
    """Follow the score of every image's class while its maps say what is removed.

    A signed map is ranked as it is: what speaks most for the class first, what speaks most against it last. Ties (a constant
    map, the zeros of a rectified one) are broken by an order drawn from the seed and the image, never by the order of pixels.

    Args:
        scores: The model; it sees batches of changed images.
        pixels: Prepared images, uint8, shape (n, size, size, channels).
        placements: What of them is image, n of them; padding is never removed.
        targets: Class of each, shape (n,).
        maps: Name -> maps, shape (n, size, size).
        removal: How parts are removed.
        seed: Same seed, same result.

    Returns:
        The curves under the name of each set of maps.
    """
    removal = removal or Removal()
    removed = np.arange(removal.steps + 1) / removal.steps
    kinds = 3 if removal.insertion else 2
    followed = np.empty((len(maps), kinds, len(pixels), removal.steps + 1))
    changed = _changed(pixels, placements, targets, maps, removal, seed)
    for batch in _batches(changed, removal.batch):
        found = measured(scores(np.stack([one.pixels for one in batch])), np.array([one.target for one in batch]), removal)
        for one, value in zip(batch, found, strict=True):
            for place in one.places:
                followed[place] = value
    return {
        name: RemovalCurves(removed, curves[0], curves[1], curves[2] if removal.insertion else None)
        for name, curves in zip(maps, followed, strict=True)
    }


def measured(scores: DoubleArray, targets: IntArray, removal: Removal) -> DoubleArray:
    """Return what is followed, shape (n,), from scores (n, classes): see :class:`Removal`."""
    of_class = np.take_along_axis(scores, targets[:, np.newaxis], axis=1)[:, 0].astype(np.float64)
    if removal.measured == "probability":
        return of_class
    others = scores.astype(np.float64).copy()
    np.put_along_axis(others, targets[:, np.newaxis], 0.0, axis=1)
    return np.asarray(np.log(np.maximum(of_class, _LEAST_SCORE)) - np.log(np.maximum(others.max(axis=1), _LEAST_SCORE)))


def filled(pixels: ByteArray, placement: Placement, fill: Fill) -> ByteArray:
    """Return one image (size, size, channels) with everything removed; padding stays."""
    return median_inside(pixels, placement) if fill == "median" else blurred_inside(pixels, placement, BLUR * len(pixels))


def ranks(values: FloatArray, cells: Cells, order: IntArray) -> IntArray:
    """Return the rank of every cell by the mean of a map in it, 0 for the highest, shape (r, c).

    Args:
        values: The map, shape (size, size).
        cells: The grid.
        order: A permutation of the cells that decides among equals.
    """
    means = cells.means(values).ravel()
    place = np.empty(len(cells), dtype=np.int64)
    place[np.lexsort((order, -means))] = np.arange(len(cells))
    return place.reshape(cells.shape)


# ---------------------------------------------------------------------------------------------------- the stream of images

_MOST, _LEAST, _INSERT = 0, 1, 2


@dataclass(frozen=True)
class _Changed:
    """A changed image, its class, and where its score belongs: (map, curve, image, step)."""

    pixels: ByteArray
    target: int
    places: tuple[tuple[int, int, int, int], ...]


def _changed(
    pixels: ByteArray,
    placements: Sequence[Placement],
    targets: IntArray,
    maps: Mapping[str, FloatArray],
    removal: Removal,
    seed: int,
) -> Iterator[_Changed]:
    """Yield every changed image of every curve, one after the other; the ends of the curves are shared by all maps."""
    last, numbers = removal.steps, range(len(maps))
    for image, (whole, placement, target) in enumerate(zip(pixels, placements, targets, strict=True)):
        inner = inner_slices(placement)
        cells = cells_of(placement, side=removal.side(len(whole)))
        order = generator_of(whole, seed, "order among equals").permutation(len(cells))
        counts = [round(step * len(cells) / last) for step in range(last + 1)]
        empty = filled(whole, placement, removal.fill)
        begin, end = ([(number, curve, image, step) for number in numbers for curve in (_MOST, _LEAST)] for step in (0, last))
        full = [(number, _INSERT, image, last) for number in numbers if removal.insertion]
        yield _Changed(whole, int(target), (*begin, *full))
        yield _Changed(empty, int(target), tuple(end))
        blurred = filled(whole, placement, "blurred") if removal.insertion else empty
        if removal.insertion:
            yield _Changed(blurred, int(target), tuple((number, _INSERT, image, 0) for number in numbers))
        for rank, alike in _orders(maps, image, cells, order):
            for step in range(1, last):
                first = cells.spread(rank < counts[step])
                final = cells.spread(rank >= len(cells) - counts[step])
                most, least, insert = (
                    tuple((number, curve, image, step) for number in alike) for curve in (_MOST, _LEAST, _INSERT)
                )
                yield _Changed(_replaced(whole, empty, inner, first), int(target), most)
                yield _Changed(_replaced(whole, empty, inner, final), int(target), least)
                if removal.insertion:
                    yield _Changed(_replaced(blurred, whole, inner, first), int(target), insert)


def _orders(maps: Mapping[str, FloatArray], image: int, cells: Cells, order: IntArray) -> list[tuple[IntArray, list[int]]]:
    """Return the different orders of the cells of one image, and the numbers of the maps that have each: some methods agree."""
    found: dict[bytes, tuple[IntArray, list[int]]] = {}
    for number, values in enumerate(maps.values()):
        rank = ranks(values[image], cells, order)
        found.setdefault(rank.tobytes(), (rank, []))[1].append(number)
    return list(found.values())


def _replaced(base: ByteArray, other: ByteArray, inner: tuple[slice, slice], where: BoolArray) -> ByteArray:
    """Return ``base`` with the pixels of ``other`` in some places of the inner part."""
    answer = base.copy()
    answer[inner][where] = other[inner][where]
    return answer


def _batches(changed: Iterator[_Changed], size: int) -> Iterator[list[_Changed]]:
    batch: list[_Changed] = []
    for one in changed:
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
