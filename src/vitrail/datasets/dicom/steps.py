"""The steps from stored values to what is shown, as a header gives them: tables, windows, padding, palettes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vitrail.datasets.dicom.grey import Pipeline, Table, Window, eight_bit_colour
from vitrail.datasets.dicom.opening import OpenFile
from vitrail.errors import DataError
from vitrail.records import ByteArray

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_PALETTE_ENTRIES = 1 << 16


def pipeline_for(file: OpenFile, number: int, *, keyword: str, bits: int, signed: bool) -> Pipeline:
    """Read the steps from stored values to tones for one frame; all but the inversion of MONOCHROME1.

    Args:
        file: The file.
        number: Number of the frame, from 0.
        keyword: Name of the element that holds the pixels.
        bits: Bits stored per value.
        signed: Whether values are signed.
    """
    dataset = file.dataset
    rescale = _for_frame(dataset, number, "PixelValueTransformationSequence")
    shown = _for_frame(dataset, number, "FrameVOILUTSequence")
    modality, voi = _table(file, "ModalityLUTSequence"), _table(file, "VOILUTSequence")
    slope, intercept = _decimal(rescale, "RescaleSlope"), _decimal(rescale, "RescaleIntercept")
    plain = keyword == "PixelData" and not signed and bits <= 8 and modality is None
    return Pipeline(
        modality=modality,
        slope=slope if slope and modality is None else 1.0,
        intercept=intercept if intercept and modality is None else 0.0,
        voi=voi,
        window=_window(shown),
        limits=(0.0, float((1 << bits) - 1)) if plain else None,
        padding=_padding(dataset, keyword, bits, signed=signed),
    )


def _for_frame(dataset: Dataset, number: int, macro: str) -> Dataset:
    """Return the item that describes one frame of an enhanced multi-frame image (PS3.3 C.7.6.16), else the data set itself."""
    for groups, place in (("PerFrameFunctionalGroupsSequence", number), ("SharedFunctionalGroupsSequence", 0)):
        with contextlib.suppress(Exception):  # damage here must not hide what stands elsewhere
            items = dataset.get(groups) or []
            if place < len(items) and (found := items[place].get(macro)):
                item: Dataset = found[0]
                return item
    return dataset


def _decimal(dataset: Dataset, keyword: str) -> float | None:
    """Return a finite decimal number, the first where there are several; ``None`` when there is none."""
    with contextlib.suppress(Exception):
        value = dataset.get(keyword)
        first = float(value[0] if hasattr(value, "__getitem__") and not isinstance(value, str) else value)
        return first if np.isfinite(first) else None
    return None


def _window(dataset: Dataset) -> Window | None:
    """Return the first window that makes sense."""
    centre, width = _decimal(dataset, "WindowCenter"), _decimal(dataset, "WindowWidth")
    if centre is None or width is None or width <= 0:
        return None
    function = str(dataset.get("VOILUTFunction") or "LINEAR").strip().upper()
    return Window(centre, width, function if function in ("LINEAR_EXACT", "SIGMOID") else "LINEAR")


def _table(file: OpenFile, sequence: str) -> Table | None:
    """Return the first lookup table of a sequence; ``None`` when there is none or it is damaged."""
    with contextlib.suppress(Exception):
        item = file.dataset[sequence].value[0]
        count, first, depth = (int(value) for value in item.LUTDescriptor)
        data = item["LUTData"].value
        if isinstance(data, bytes):
            count = count or _PALETTE_ENTRIES
            entry = "u1" if len(data) in (count, count + 1) and count > 1 else f"{'<' if file.little else '>'}u2"
            entries = np.frombuffer(data[: len(data) // np.dtype(entry).itemsize * np.dtype(entry).itemsize], dtype=entry)
        else:
            entries = np.atleast_1d(np.asarray(data))
        entries = entries[: count or _PALETTE_ENTRIES].astype(np.uint16)
        if entries.size:
            return Table(first, entries, max((1 << min(max(depth, 1), 16)) - 1, int(entries.max())))
    return None


def _padding(dataset: Dataset, keyword: str, bits: int, *, signed: bool) -> tuple[float, float] | None:
    """Return the lowest and the highest stored value that stand for no measurement (PS3.3 C.7.5.1.1.2)."""
    prefix = {"PixelData": "Pixel", "FloatPixelData": "FloatPixel", "DoubleFloatPixelData": "DoubleFloatPixel"}[keyword]
    ends = [_decimal(dataset, f"{prefix}PaddingValue"), _decimal(dataset, f"{prefix}PaddingRangeLimit")]
    if ends[0] is None:
        return None
    values = [value for value in ends if value is not None]
    if keyword == "PixelData":  # the same bits as the pixels: whether the element was written as signed does not count
        span = 1 << bits
        values = [int(value) % span for value in values]
        if signed:
            values = [value - span if value >= span // 2 else value for value in values]
    return min(values), max(values)


def paint(stored: npt.NDArray[Any], file: OpenFile) -> ByteArray:
    """Return palette indices as RGB (PS3.3 C.7.6.3.1.5 and C.7.9).

    Raises:
        DataError: The palette is damaged, or in segments that are not read.
    """
    from pydicom.pixels.processing import apply_color_lut

    brightest = 0
    try:
        depth = int(file.dataset["RedPaletteColorLookupTableDescriptor"].value[2])
        for colour in ("Red", "Green", "Blue"):
            _check_segments(file, file.dataset.get(f"Segmented{colour}PaletteColorLookupTableData"), depth)
            data = file.dataset.get(f"{colour}PaletteColorLookupTableData") or b"\xff\xff"
            brightest = max(brightest, int(np.frombuffer(data[: len(data) // 2 * 2], dtype=np.uint16).max()))
        painted = apply_color_lut(stored, file.dataset)[..., :3]
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError("damaged or not supported: the palette cannot be read.") from error
    narrow = painted.dtype.itemsize == 1 or depth <= 8 or brightest <= 255  # 8-bit colours in 16-bit entries are common
    return eight_bit_colour(painted, 255 if narrow else 65535)


def _check_segments(file: OpenFile, data: bytes | None, depth: int) -> None:
    """Refuse a palette in segments (PS3.3 C.7.9.2) that unfolds to more colours than a palette can have."""
    if not data:
        return
    words = np.frombuffer(data, dtype="u1" if depth <= 8 else f"{'<' if file.little else '>'}u2")
    position = total = 0
    while position + 1 < len(words):
        kind, length = int(words[position]), int(words[position + 1])
        if kind > 1:
            raise DataError("not supported: palettes with indirect segments are not read.")
        total += length
        position += 2 + (length if kind == 0 else 1)
        if total > _PALETTE_ENTRIES:
            raise DataError("damaged: the palette unfolds to more colours than a palette can have.")
