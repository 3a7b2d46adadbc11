"""The voxels of a NIfTI file: unfolded within limits, kept for the next slice, turned into tones."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.datasets.nifti.head import (
    GZIP,
    HEAD_LENGTH,
    TRUNCATED,
    beginning,
    body_axes,
    parse,
    slice_axis,
    turned_shape,
    volume_shape,
)
from vitrail.errors import DataError
from vitrail.records import ByteArray

VOLUME_BYTES_LIMIT = 2_400_000_000
"""Volumes that take more memory are refused on sight of their header: 600 million voxels of four bytes."""

_GZIP_GAIN = 1100  # deflate makes data up to 1,032 times smaller
_CHUNK = 1 << 18
_SLACK = 1 << 20  # bytes that may follow the voxels
_KEPT_VOLUMES = 2
_KEPT_BYTES = 600_000_000
_RANKED = 1 << 24  # so many voxels are ranked exactly; of larger volumes, every second, third...


@dataclass(frozen=True, slots=True)
class Volume:
    """The first three dimensions of a file, in memory as stored.

    Attributes:
        voxels: A view whose axes run to the patient's right, front and top; slices are taken along ``axis``.
        axis: The axial axis, or the one of length 1 of a single picture.
        low: The value that becomes 0.
        high: The value that becomes 255.
        slope: What stored values are multiplied by.
        intercept: What is added then.
        size_bytes: Memory that the volume holds.
    """

    voxels: npt.NDArray[Any]
    axis: int
    low: float
    high: float
    slope: float
    intercept: float
    size_bytes: int


@dataclass(slots=True)
class _Slot:
    """A volume that is being read or has been; the lock is held while it is read."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    volume: Volume | None = None


class KeptVolumes:
    """The last volumes, by their content: threads that want the same one wait for the first to have read it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: OrderedDict[tuple[int, int], _Slot] = OrderedDict()

    def get(self, content: bytes) -> Volume:
        """Return the volume of a file, from memory if it is one of the last.

        Raises:
            DataError: It cannot be read.
        """
        key = (len(content), hash(content))  # Python keeps the hash of bytes: the next slice costs nothing
        with self._lock:
            slot = self._slots.setdefault(key, _Slot())
            self._slots.move_to_end(key)
            self._trim()
        with slot.lock:
            if slot.volume is None:
                slot.volume = _load(content)
        with self._lock:
            self._trim()
        return slot.volume

    def _trim(self) -> None:
        """Forget the oldest volumes beyond the limits; who is using one holds it by itself."""
        while self._slots and (len(self._slots) > _KEPT_VOLUMES or self._size() > _KEPT_BYTES):
            self._slots.popitem(last=False)

    def _size(self) -> int:
        return sum(slot.volume.size_bytes for slot in self._slots.values() if slot.volume is not None)


def _load(content: bytes) -> Volume:
    """Read the first volume of a file and turn it."""
    from nibabel.orientations import apply_orientation

    turned: Any = apply_orientation  # has no types
    parsed = parse(beginning(content, HEAD_LENGTH))
    shape, turns = volume_shape(parsed), body_axes(parsed)
    try:
        stored_type = np.dtype(parsed.get_data_dtype())
    except Exception as error:
        raise DataError(f"not supported: voxels of NIfTI type {int(parsed['datatype'])} are not read.") from error
    colour = stored_type.names is not None
    if not colour and stored_type.kind not in "iuf":
        raise DataError(f"not supported: {stored_type.name} voxels are not read.")
    count = shape[0] * shape[1] * shape[2]
    if count * stored_type.itemsize > VOLUME_BYTES_LIMIT:
        raise DataError(f"too large: the volume takes {count * stored_type.itemsize:,} bytes; at most {VOLUME_BYTES_LIMIT:,}.")
    offset = int(parsed["vox_offset"]) if np.isfinite(parsed["vox_offset"]) else -1
    if not parsed.template_dtype.itemsize <= offset <= VOLUME_BYTES_LIMIT:
        raise DataError("damaged: the header does not say where the voxels begin.")
    last = int(np.prod([max(1, int(length)) for length in parsed["dim"][4 : int(parsed["dim"][0]) + 1]], dtype=object)) == 1
    raw = _raw_voxels(content, offset, count * stored_type.itemsize, last=last)
    flat = raw.view(stored_type)
    slope, intercept = (float(parsed[name]) for name in ("scl_slope", "scl_inter"))
    if not (np.isfinite(slope) and slope and np.isfinite(intercept)):
        slope, intercept = 1.0, 0.0
    low, high = (0.0, 255.0) if colour else _window(flat, slope, intercept)
    voxels = turned(flat.reshape(shape, order="F"), turns)
    axis = slice_axis(turned_shape(shape, turns))
    return Volume(voxels, axis, low, high, slope, intercept, size_bytes=raw.nbytes)


def _raw_voxels(content: bytes, offset: int, length: int, *, last: bool) -> ByteArray:
    """Return the bytes of the first volume.

    Args:
        content: The file.
        offset: Where the voxels begin, in the unfolded file.
        length: Number of bytes that the volume takes.
        last: Whether nothing may follow but a little filling; then the checksum of compressed files is looked at too.
    """
    if not content.startswith(GZIP):
        if len(content) < offset + length:
            raise DataError(TRUNCATED)
        stored = np.frombuffer(content, dtype=np.uint8, count=length, offset=offset)
        return stored if last else stored.copy()  # a view would hold the other volumes in memory too
    if offset + length > _GZIP_GAIN * len(content):  # before memory is taken for what cannot be there
        raise DataError(TRUNCATED)
    result = np.empty(length, dtype=np.uint8)
    position = 0  # in the unfolded file
    for piece in _unfolded(content):
        begin, end = max(position, offset), min(position + len(piece), offset + length)
        if begin < end:
            result[begin - offset : end - offset] = np.frombuffer(piece, dtype=np.uint8)[begin - position : end - position]
        position += len(piece)
        if position >= offset + length and not last:
            return result
        if position > offset + length + _SLACK:
            raise DataError("damaged: it unfolds to far more than its header announces.")
    if position < offset + length:
        raise DataError(TRUNCATED)
    return result


def _unfolded(content: bytes) -> Iterator[bytes]:
    """Yield what a gzip file unfolds to, in small pieces; members one after the other are read as one."""
    view, position = memoryview(content), 0
    while content[position : position + 3] == GZIP:
        unfolding = zlib.decompressobj(wbits=31)
        pending: bytes | memoryview = b""
        while not unfolding.eof:
            if not pending:
                pending = view[position : position + _CHUNK]
                position += len(pending)
                if not pending:
                    raise DataError(TRUNCATED)
            yield unfolding.decompress(pending, _CHUNK)
            pending = unfolding.unconsumed_tail
        position -= len(unfolding.unused_data)


def _window(flat: npt.NDArray[Any], slope: float, intercept: float) -> tuple[float, float]:
    """Return the values, after slope and intercept, that become black and white."""
    step = -(-flat.size // _RANKED)
    ranked = flat[::step]
    if flat.dtype.kind == "f":
        ranked = ranked[np.isfinite(ranked)]
    if not ranked.size:
        return 0.0, 0.0
    low, high = (float(value) for value in np.percentile(ranked, (0.5, 99.5)))
    if low == high:
        finite = flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat
        low, high = float(finite.min()), float(finite.max())
    low, high = low * slope + intercept, high * slope + intercept
    return min(low, high), max(low, high)


def eight_bit(plane: npt.NDArray[Any], volume: Volume) -> ByteArray:
    """Return a slice (rows, columns) as tones from 0 to 255, or as RGB."""
    if plane.dtype.names is not None:
        return np.ascontiguousarray(np.stack([plane[name] for name in plane.dtype.names[:3]], axis=-1))
    if not volume.high > volume.low:
        return np.zeros(plane.shape, dtype=np.uint8)
    with np.errstate(all="ignore"):
        values = plane.astype(np.float64) * volume.slope + volume.intercept
        tones = np.clip((values - volume.low) * (255 / (volume.high - volume.low)), 0, 255)
    return np.rint(np.nan_to_num(tones)).astype(np.uint8, order="C")
