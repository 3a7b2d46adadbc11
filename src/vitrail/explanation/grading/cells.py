"""The squares of an image that are ranked, removed and compared as one, and randomness that belongs to an image."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitrail.records import ByteArray, IntArray, Placement

DoubleArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


def generator_of(pixels: ByteArray, seed: int, purpose: str) -> np.random.Generator:
    """Return randomness that depends on the seed, the image's content and what it is for, and on nothing else.

    So the same image is treated in the same way whatever images are graded with it.
    """
    digest = hashlib.sha256(purpose.encode() + np.ascontiguousarray(pixels).tobytes()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest[:16], dtype=np.uint32)])


def inner_slices(placement: Placement) -> tuple[slice, slice]:
    """Return the rows and columns of the model's input that show image, not padding."""
    return (
        slice(placement.inner_top, placement.inner_bottom),
        slice(placement.inner_left, placement.inner_right),
    )


@dataclass(frozen=True)
class Cells:
    """A grid of nearly equal squares over the part of the model's input that shows image.

    Attributes:
        rows: Where the rows of cells begin, and one past the end, shape (r + 1,), pixels of the input.
        columns: The same across, shape (c + 1,).
    """

    rows: IntArray
    columns: IntArray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        return len(self.rows) - 1, len(self.columns) - 1

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def means(self, values: npt.NDArray[np.floating]) -> DoubleArray:
        """Return the mean of a map, shape (size, size), in every cell: float64, shape (r, c)."""
        inner = values[self.rows[0] : self.rows[-1], self.columns[0] : self.columns[-1]].astype(np.float64)
        down = np.add.reduceat(inner, self.rows[:-1] - self.rows[0], axis=0)
        sums = np.add.reduceat(down, self.columns[:-1] - self.columns[0], axis=1)
        return np.asarray(sums / np.outer(np.diff(self.rows), np.diff(self.columns)))

    def spread(self, cells: BoolArray) -> BoolArray:
        """Return the pixels of the inner part that lie in the chosen cells (r, c), shape (height, width) of the inner part."""
        return np.repeat(np.repeat(cells, np.diff(self.rows), axis=0), np.diff(self.columns), axis=1)


def cells_of(placement: Placement, *, side: int) -> Cells:
    """Lay cells of about ``side`` pixels over the part of the input that shows image; at least one."""
    return Cells(
        _edges(placement.inner_top, placement.inner_bottom, side), _edges(placement.inner_left, placement.inner_right, side)
    )


def grid_of(placement: Placement, *, cells: int) -> Cells:
    """Lay ``cells`` x ``cells`` cells over the part of the input that shows image; fewer where it has fewer pixels."""
    height = placement.inner_bottom - placement.inner_top
    width = placement.inner_right - placement.inner_left
    return Cells(
        _even(placement.inner_top, placement.inner_bottom, min(cells, height)),
        _even(placement.inner_left, placement.inner_right, min(cells, width)),
    )


def _edges(start: int, stop: int, side: int) -> IntArray:
    return _even(start, stop, max(1, round((stop - start) / side)))


def _even(start: int, stop: int, count: int) -> IntArray:
    return np.rint(np.linspace(start, stop, count + 1)).astype(np.int64)
