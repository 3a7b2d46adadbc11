"""Arrays that are too large for memory: rows of a ``.npy`` file, read when they are asked for."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy


class RowFile:
    """The rows of an array on disk.

    Unlike those of a memory map, rows that were read do not stay in memory once their copy is dropped: a pass over all rows, or
    a hundred thousand picks at random, needs the memory of one block. Threads may read at the same time.

    Attributes:
        shape: Of the whole array.
        dtype: Of its elements.
    """

    def __init__(self, path: Path) -> None:
        """Open a file that ``numpy.save`` wrote.

        Raises:
            OSError: It cannot be opened.
            ValueError: It is no such file, or shorter than its header says.
        """
        self._path = path
        with path.open("rb") as stream:
            version = npy.read_magic(stream)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            self.shape, fortran_order, self.dtype = read_header(stream)
            self._start = stream.tell()
        self._row_bytes = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        if fortran_order or self.dtype.hasobject or path.stat().st_size < self._start + len(self) * self._row_bytes:
            raise ValueError(f"{path}: not an array in rows, or not all of it")
        self._mapped = None if hasattr(os, "preadv") else np.load(path, mmap_mode="r", allow_pickle=False)
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __reduce__(self) -> tuple[type[RowFile], tuple[Path]]:
        """Open the file anew in another process: an open file has no meaning there."""
        return RowFile, (self._path,)

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: int | np.integer[Any] | slice | Sequence[int] | npt.NDArray[np.integer[Any]]) -> npt.NDArray[Any]:
        """Return a copy of one row, of a slice of rows, or of rows by their positions (or a Boolean mask)."""
        if self._mapped is not None:
            return np.array(self._mapped[rows])
        if isinstance(rows, int | np.integer):
            return np.asarray(self._read(np.array([range(len(self))[int(rows)]]))[0])
        if isinstance(rows, slice):
            return self._read(np.arange(len(self))[rows])
        positions = np.asarray(rows)
        if positions.dtype == np.bool_:
            return self._read(np.flatnonzero(positions))
        if len(positions) and not (-len(self) <= positions.min() and positions.max() < len(self)):
            raise IndexError(f"row {positions.max()} of an array of {len(self)} rows")
        return self._read(np.where(positions < 0, positions + len(self), positions).astype(np.int64))

    def _read(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        result = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        if not result.size:
            return result
        memory = result.reshape(-1).view(np.uint8).data
        # Neighbouring rows are read in one go.
        runs = np.flatnonzero(np.diff(rows) != 1) + 1
        for first, end in zip([0, *runs.tolist()], [*runs.tolist(), len(rows)], strict=True):
            piece = memory[first * self._row_bytes : end * self._row_bytes]
            place = self._start + int(rows[first]) * self._row_bytes
            while piece:
                count = os.preadv(self._file, [piece], place)
                if not count:
                    raise OSError(f"the array ends before row {int(rows[end - 1])}")
                piece, place = piece[count:], place + count
        return result
