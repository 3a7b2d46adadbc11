"""JPEG, PNG, BMP and TIFF: from bytes to upright 8-bit pixels, whatever the stored mode and depth.

Pillow's readers are called by name, after a look at the first bytes: only these four formats are ever tried, whatever else
is installed, and the pixel limit below stands in for Pillow's own, which would warn or refuse far smaller radiographs.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import Base as ExifTag
from PIL.ImageFile import ImageFile as PillowFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from vitrail.errors import DataError
from vitrail.records import ByteArray

THUMBNAIL_SIZE = 128
"""Height and width of a thumbnail in pixels."""

PIXEL_LIMIT = 300_000_000
"""Images with more pixels are refused on sight of their header: 8-bit RGB of this size takes 0.9 GB."""

SIGNATURE_LENGTH = 8
"""So many first bytes tell the format."""

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",  # BigTIFF
    b"MM\x00+": "TIFF",
}
_READERS: dict[str, type[PillowFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}
FORMATS = tuple(_READERS)
"""What is read."""

# EXIF 2.32, tag 0x0112: how the stored image must be turned to stand upright. 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_GREY_MODES = frozenset({"1", "L", "LA", "La"})
_DEEP_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N", "I", "F"})
_ROWS_AT_A_TIME = 256


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image in 8 bits, upright.

    Attributes:
        pixels: uint8, read-only, shape (rows, columns) when grey or (rows, columns, 3) when RGB. May be smaller than the
            original, to the same scale both ways (to within one pixel), when the caller allowed it.
        height: Height of the upright original in pixels.
        width: Width of the upright original in pixels.
        format: What the bytes are: one of ``FORMATS``.
        mode: Pillow's pixel mode of the stored image.
        turned: Whether the stored pixels were turned or mirrored to stand upright, as EXIF asks.
    """

    pixels: ByteArray
    height: int
    width: int
    format: str
    mode: str
    turned: bool = False


def identify(content: bytes) -> str:
    """Return the format that the first bytes of a file announce (one of ``FORMATS``); empty when it is none of them."""
    return next((name for signature, name in _SIGNATURES.items() if content.startswith(signature)), "")


def read_image(source: Path | bytes, *, at_least: int | None = None) -> Decoded:
    """Decode an image to upright 8-bit pixels.

    Grey images (modes 1, L, LA, I;16, I, F) become (height, width), all others (height, width, 3) RGB. Bilevel becomes
    0 and 255; CMYK and palettes become RGB; transparent images are laid over black. Integers of 16 or 32 bits and floating
    point are stretched linearly from the image's own finite minimum and maximum to 0..255, so that a 12-bit radiograph does
    not come out black; a constant one becomes 0, not-a-number too. (Colour of 16 bits per channel keeps its high byte.)
    Only the first frame of a file is read.

    Args:
        source: A file or its bytes.
        at_least: Allows a JPEG to be decoded at 1/2, 1/4 or 1/8 of its size, which is faster, as long as both sides keep
            at least so many pixels. The original's size is in the result all the same.

    Raises:
        DataError: It cannot be read, is empty, not an image, truncated, too large or damaged.
    """
    if isinstance(source, bytes):
        return _decode(source, at_least=at_least)
    try:
        return _decode(source.read_bytes(), at_least=at_least)
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror or error}).") from error
    except DataError as error:
        raise DataError(f"{source}: {error}") from error


def read_thumbnail(content: bytes) -> Decoded:
    """Decode an image to a grey thumbnail of ``THUMBNAIL_SIZE`` squared, upright, stretched to the square.

    Every byte is decoded, so truncation is noticed, but a large JPEG costs little more than its entropy decoding.

    Raises:
        DataError: As :func:`read_image`.
    """
    with _failures_as_data_errors():
        image, kind = _open(content)
        mode, width, height = image.mode, image.width, image.height
        if isinstance(image, JpegImageFile):
            image.draft("L", (2 * THUMBNAIL_SIZE, 2 * THUMBNAIL_SIZE))
        _load(image)
        grey = _eight_bit(image).convert("L")
        small = grey.resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BILINEAR, reducing_gap=2.0)
        return _upright(small, orientation=_orientation(image), height=height, width=width, kind=kind, mode=mode)


def _decode(content: bytes, *, at_least: int | None) -> Decoded:
    with _failures_as_data_errors():
        image, kind = _open(content)
        mode, width, height = image.mode, image.width, image.height
        if at_least is not None and isinstance(image, JpegImageFile):
            image.draft(None, (at_least, at_least))
        _load(image)
        return _upright(_eight_bit(image), orientation=_orientation(image), height=height, width=width, kind=kind, mode=mode)


@contextlib.contextmanager
def _failures_as_data_errors() -> Iterator[None]:
    """Turn whatever a reader raises on bad bytes (OSError, SyntaxError, struct.error, zlib.error...) into a short reason."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError("too large: there is not enough memory to decode it.") from error
    except Exception as error:
        reason = " ".join(str(error).split())
        if not any(letter.isalpha() for letter in reason):  # a bare number or nothing, from a lookup that failed
            reason = "the header announces something unknown"
        if "truncated" in reason.lower():
            raise DataError("truncated: the file ends before the image does.") from error
        raise DataError(f"damaged or not supported: {reason[:200].rstrip('.')}.") from error


def _open(content: bytes) -> tuple[PillowFile, str]:
    """Read the header only, and check what it announces."""
    if not content:
        raise DataError("empty: the file has zero bytes.")
    kind = identify(content)
    if not kind:
        raise DataError(f"not an image: the bytes are none of {', '.join(FORMATS)}.")
    image = _READERS[kind](io.BytesIO(content))
    if image.width * image.height > PIXEL_LIMIT:
        raise DataError(f"too large: {image.width} x {image.height} pixels; at most {PIXEL_LIMIT:,} pixels are read.")
    return image, kind


def _load(image: PillowFile) -> None:
    """Decode all pixels."""
    pillow_limit = Image.MAX_IMAGE_PIXELS
    if isinstance(image, TiffImageFile) and pillow_limit is not None and image.width * image.height > pillow_limit:
        with _own_pixel_limit():
            image.load()
    else:
        image.load()


_LIMIT_LOCK = threading.Lock()


@contextlib.contextmanager
def _own_pixel_limit() -> Iterator[None]:
    """Put our pixel limit in the place of Pillow's while one of the rare very large TIFFs loads: that reader checks again."""
    with _LIMIT_LOCK:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = PIXEL_LIMIT
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _eight_bit(image: Image.Image) -> Image.Image:
    """Return the loaded image in mode L (when it is grey) or RGB, still as stored, not upright."""
    if image.mode in _DEEP_MODES:
        return Image.fromarray(_stretched(np.asarray(image)))
    mode = "L" if image.mode in _GREY_MODES else "RGB"
    if not image.has_transparency_data:
        return image if image.mode == mode else image.convert(mode)
    with_alpha = image.convert("RGBA")
    black = Image.new("RGB", image.size)
    black.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return black.getchannel("R") if mode == "L" else black


def _stretched(values: npt.NDArray[Any]) -> ByteArray:
    """Map the finite minimum..maximum of an array (height, width) linearly to 0..255, some rows at a time."""
    low, high = np.inf, -np.inf
    for rows in _row_blocks(values):
        finite = values[rows][np.isfinite(values[rows])]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    result = np.zeros(values.shape, dtype=np.uint8)
    if high > low:
        for rows in _row_blocks(values):
            scaled = (values[rows].astype(np.float64) - low) * (255.0 / (high - low))
            result[rows] = np.rint(np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0))
    return result


def _row_blocks(values: npt.NDArray[Any]) -> Iterator[slice]:
    """Yield slices of a few rows each: double precision for a whole radiograph would take eight bytes a pixel."""
    return (slice(row, row + _ROWS_AT_A_TIME) for row in range(0, len(values), _ROWS_AT_A_TIME))


def _orientation(image: PillowFile) -> int:
    """Return the EXIF orientation of a loaded image, 1 to 8. (The TIFF reader has turned the pixels itself and reports 1.)"""
    try:
        value = image.getexif().get(ExifTag.Orientation, 1)
    except Exception:  # damaged metadata does not make the pixels unreadable
        return 1
    return value if value in _TURNS else 1


def _upright(image: Image.Image, *, orientation: int, height: int, width: int, kind: str, mode: str) -> Decoded:
    """Turn the pixels upright and put the record together; ``height`` and ``width`` are those of the original as stored."""
    if orientation in _TURNS:
        image = image.transpose(_TURNS[orientation])
    if orientation >= 5:
        height, width = width, height
    turned = orientation in _TURNS
    return Decoded(pixels=np.asarray(image), height=height, width=width, format=kind, mode=mode, turned=turned)
