"""The header of a NIfTI file: what it is, how it lies in the body, what it says besides."""

from __future__ import annotations

import contextlib
import re
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.errors import DataError

VOXEL_LIMIT = 600_000_000
"""Volumes with more voxels are refused on sight of their header."""

HEAD_LENGTH = 1 << 16
"""So many bytes of a file, unfolded, are looked at for its header and what hangs behind it."""

GZIP = b"\x1f\x8b\x08"
TRUNCATED = "truncated: the file ends before the volume does."

_CHUNK = 1 << 18
_DICOM_EXTENSION = 2
_NAME = re.compile(r"[^\W\d_]{2,}( ?\^+ ?|, ?)[^\W\d_]{2,}( [^\W\d_]+)*\^*")


def beginning(content: bytes, length: int) -> bytes:
    """Return the first bytes of a file, unfolded where they are compressed; fewer when there are fewer or they are damaged."""
    if not content.startswith(GZIP):
        return content[:length]
    try:
        return zlib.decompressobj(wbits=31).decompress(content[:_CHUNK], length)
    except zlib.error:
        return b""


def byte_order(head: bytes) -> str:
    """Return ``<`` or ``>`` when these are the first bytes of a NIfTI file, else empty. Length and magic of NIfTI-1 or -2."""
    for order in "<>":
        length = struct.pack(f"{order}i", 348)
        if head[:4] == length and head[344:348] in (b"n+1\0", b"ni1\0"):
            return order
        if head[:4] == struct.pack(f"{order}i", 540) and head[4:12] in (b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n"):
            return order
    return ""


def parse(head: bytes) -> Any:
    """Return nibabel's header of a NIfTI file."""
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    except ImportError as error:
        raise DataError("NIfTI needs the extra: pip install 'vitrail[dicom]'.") from error
    order = byte_order(head)
    if not order:
        raise DataError("damaged: the header cannot be read.")
    kind: Any = Nifti1Header if head[:4] == struct.pack(f"{order}i", 348) else Nifti2Header
    size = kind.template_dtype.itemsize
    if len(head) < size:
        raise DataError(TRUNCATED)
    parsed = kind(head[:size], endianness=order, check=False)
    if b"i" in bytes(parsed["magic"])[:2]:
        raise DataError("not supported: a header without its voxels (.hdr and .img); save it as one .nii file.")
    return parsed


def volume_shape(parsed: Any) -> tuple[int, int, int]:
    """Return the lengths of the first three axes as stored."""
    dimensions = [int(length) for length in parsed["dim"]]
    if not 1 <= dimensions[0] <= 7 or any(length < 1 for length in dimensions[1 : dimensions[0] + 1]):
        raise DataError("damaged: the header announces impossible dimensions.")
    padded = [*dimensions[1 : min(dimensions[0], 3) + 1], 1, 1]
    shape = padded[0], padded[1], padded[2]
    if (voxels := shape[0] * shape[1] * shape[2]) > VOXEL_LIMIT:
        raise DataError(f"too large: {voxels:,} voxels; at most {VOXEL_LIMIT:,} are read.")
    return shape


def body_axes(parsed: Any) -> npt.NDArray[np.int64]:
    """Return, per stored axis, the axis of the body nearest to it (0 right, 1 front, 2 top) and its direction (1 or -1)."""
    from nibabel.orientations import io_orientation

    orientation: Any = io_orientation  # has no types
    for read in (parsed.get_best_affine, parsed.get_base_affine):
        with contextlib.suppress(Exception), np.errstate(all="ignore"):  # a damaged affine does not damage the voxels
            turns = np.asarray(orientation(read()))
            if np.isfinite(turns).all():
                return turns.astype(np.int64)
    return np.array([[0, 1], [1, 1], [2, 1]])


def turned_shape(shape: tuple[int, int, int], turns: npt.NDArray[np.int64]) -> tuple[int, int, int]:
    """Return the lengths along the patient's right, front and top."""
    lengths = dict(zip(turns[:, 0].tolist(), shape, strict=True))
    return lengths[0], lengths[1], lengths[2]


def slice_axis(shape: tuple[int, int, int]) -> int:
    """Return the axis along which slices are taken: the axial one, or that of length 1 of a single picture."""
    return 2 if 1 not in shape or shape[2] == 1 else shape.index(1)


def text(value: Any) -> str:
    """Return a field of the header when it is text that can be printed; empty otherwise."""
    raw = bytes(value).split(b"\0")[0]
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError:
        return ""
    return " ".join(text.split()) if text.isprintable() else ""


def looks_like_a_name(text: str) -> bool:
    """Tell whether a field looks like the name of a person as DICOM or a list would write it: ``Doe^Jane``, ``Doe, Jane``."""
    return _NAME.fullmatch(text) is not None


def has_dicom_extension(head: bytes, parsed: Any) -> bool:
    """Tell whether a whole DICOM header hangs behind the header (NIfTI extension code 2), as far as ``head`` reaches."""
    position = parsed.template_dtype.itemsize + 4
    if head[position - 4 : position - 3] in (b"", b"\0"):
        return False
    end = min(len(head), int(parsed["vox_offset"]))
    while position + 8 <= end:
        size, code = struct.unpack_from(f"{parsed.endianness}ii", head, position)
        if code == _DICOM_EXTENSION:
            return True
        if size < 8:
            return False
        position += size
    return False
