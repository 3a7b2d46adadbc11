"""From stored values to grey tones: the standard's pipeline (PS3.4 N.2), on arrays alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.records import ByteArray

Values = npt.NDArray[Any]
Positions = npt.NDArray[np.float64]

_PIXELS_AT_A_TIME = 1 << 20


@dataclass(frozen=True, slots=True)
class Table:
    """A lookup table (PS3.3 C.11.1.1 and C.11.2.1.1): values below the first and above the last take those entries.

    Attributes:
        first: The value that the first entry stands for.
        entries: Not empty.
        top: The largest value that an entry can have by its depth in bits.
    """

    first: int
    entries: npt.NDArray[np.uint16]
    top: int

    def __call__(self, values: Values) -> Positions:
        """Look values up; not-a-number stays."""
        places = np.clip(np.nan_to_num(values.astype(np.float64)) - self.first, 0, len(self.entries) - 1)
        found = self.entries[places.astype(np.int64)].astype(np.float64)
        return np.where(np.isnan(values), np.nan, found) if values.dtype.kind == "f" else found


@dataclass(frozen=True, slots=True)
class Window:
    """What part of the values is shown (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Attributes:
        centre: In the units after the modality transformation.
        width: Same units, above 0.
        function: ``LINEAR``, ``LINEAR_EXACT`` or ``SIGMOID``.
    """

    centre: float
    width: float
    function: str = "LINEAR"

    def __call__(self, values: Positions) -> Positions:
        """Return where values lie in the window: 0 at its lower end and below, 1 at its upper end and above."""
        if self.function == "SIGMOID":
            return np.asarray(1 / (1 + np.exp(np.clip(-4 * (values - self.centre) / self.width, -700, 700))))
        centre, width = self.centre, self.width
        if self.function == "LINEAR" and width >= 1:  # for LINEAR, the ends of the window are whole values that belong to it
            centre, width = centre - 0.5, width - 1
        if width == 0:
            return np.where(np.isnan(values), np.nan, values > centre)
        return np.clip((values - centre) / width + 0.5, 0, 1)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The steps from stored values to tones, in this order; ``None`` where the file has no such step.

    Attributes:
        modality: Lookup table from stored values to the modality's units; comes before slope and intercept.
        slope: Rescale slope; 1 for none.
        intercept: Rescale intercept.
        voi: Lookup table from the modality's units to what is shown; comes before the window.
        window: What is shown when there is no such table.
        limits: Stored values that become 0 and 255 when there is neither; ``None``: the frame's own minimum and maximum.
        padding: Lowest and highest stored value that stand for no measurement, shown as 0.
        inverted: Whether low values are bright (MONOCHROME1).
    """

    modality: Table | None = None
    slope: float = 1.0
    intercept: float = 0.0
    voi: Table | None = None
    window: Window | None = None
    limits: tuple[float, float] | None = None
    padding: tuple[float, float] | None = None
    inverted: bool = False

    def __call__(self, stored: Values) -> ByteArray:
        """Turn a frame (rows, columns) of stored values, integer or floating point, into tones from 0 to 255."""
        with np.errstate(all="ignore"):
            if stored.dtype.kind in "iu" and stored.dtype.itemsize <= 2:
                return self._by_table(stored)
            limits = self._limits(_blocks(stored))
            tones = np.empty(stored.shape, dtype=np.uint8)
            for source, target in zip(_blocks(stored), _blocks(tones), strict=True):
                target[...] = self._tones(source, limits)
            return tones

    def _by_table(self, stored: Values) -> ByteArray:
        """Run each value that occurs through the pipeline once: pixels are many, values of up to 16 bits are few."""
        size = 1 << (8 * stored.dtype.itemsize)
        bits = stored.view(f"u{stored.dtype.itemsize}")
        counts = np.zeros(size, dtype=np.int64)
        for block in _blocks(bits):
            counts += np.bincount(block.ravel(), minlength=size)
        present = np.flatnonzero(counts)
        values = present.astype(bits.dtype).view(stored.dtype)
        table = np.zeros(size, dtype=np.uint8)
        table[present] = self._tones(values, self._limits([values]))
        tones = np.empty(stored.shape, dtype=np.uint8)
        for source, target in zip(_blocks(bits), _blocks(tones), strict=True):
            target[...] = table[source]
        return tones

    def _measured(self, stored: Values) -> Positions:
        """Return values in the modality's units (PS3.3 C.11.1)."""
        values = self.modality(stored) if self.modality else stored.astype(np.float64)
        return values * self.slope + self.intercept

    def _padded(self, stored: Values) -> npt.NDArray[np.bool_]:
        low, high = self.padding or (np.inf, -np.inf)
        return (stored >= low) & (stored <= high)

    def _limits(self, blocks: Iterable[Values]) -> tuple[float, float]:
        """Return the values in the modality's units that become black and white when no window says so."""
        if self.voi or self.window:
            return 0.0, 1.0
        if self.limits is not None:
            ends = self._measured(np.asarray(self.limits))
            return float(ends.min()), float(ends.max())
        low, high = np.inf, -np.inf
        for block in blocks:
            measured = self._measured(block)[~self._padded(block)]
            finite = measured[np.isfinite(measured)]
            if finite.size:
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        return low, high

    def _tones(self, stored: Values, limits: tuple[float, float]) -> ByteArray:
        """Turn stored values of any shape into tones."""
        measured = self._measured(stored)
        low, high = limits
        if self.voi:
            positions = self.voi(measured) / self.voi.top
        elif self.window:
            positions = self.window(measured)
        elif high > low:
            positions = np.clip((measured - low) / (high - low), 0, 1)
        else:
            return np.zeros(stored.shape, dtype=np.uint8)
        if self.inverted:
            positions = 1 - positions
        positions[np.isnan(positions) | self._padded(stored)] = 0
        return np.rint(positions * 255).astype(np.uint8)


def eight_bit_colour(stored: Values, top: int) -> ByteArray:
    """Scale colour channels (rows, columns, 3) from 0..``top`` to 0..255."""
    if top == 255 and stored.dtype == np.uint8:
        return np.ascontiguousarray(stored)
    result = np.empty(stored.shape, dtype=np.uint8)
    for source, target in zip(_blocks(stored), _blocks(result), strict=True):
        target[...] = np.rint(np.clip(source.astype(np.float64) / top, 0, 1) * 255)
    return result


def _blocks(values: Values) -> Iterator[Values]:
    """Yield views of a few rows each: double precision for a whole radiograph would take eight bytes a pixel."""
    rows = max(1, _PIXELS_AT_A_TIME // max(1, values[:1].size))
    return (values[row : row + rows] for row in range(0, len(values), rows))
