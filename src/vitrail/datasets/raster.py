"""Pictures of everyday formats: from bytes to upright 8-bit pixels, whatever the stored mode and depth.

Pillow's readers are called by name, after a look at the first bytes: only these formats are ever tried, whatever else is
installed, and the pixel limit below stands in for Pillow's own, which would warn or refuse far smaller radiographs.
"""

from __future__ import annotations

import contextlib
import functools
import io
import math
import re
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ExifTags import Base as ExifTag
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile as PillowFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile, get_sampling
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from vitrail.datasets.decoded import Decoded, Header
from vitrail.errors import DataError
from vitrail.records import ByteArray

PIXEL_LIMIT = 300_000_000
"""Images with more pixels are refused on sight of their header: 8-bit RGB of this size takes 0.9 GB."""

SCAN_LIMIT = 200
"""JPEGs with more scans are refused: encoders write about ten, and every scan of a few bytes costs a pass over all pixels."""

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
    b"II+\x00": "TIFF",  # BigTIFF
    b"MM\x00+": "TIFF",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\xff\x4f\xff\x51": "JPEG2000",
}
_READERS: dict[str, type[PillowFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "GIF": GifImageFile,
    "WEBP": WebPImageFile,
    "JPEG2000": Jpeg2KImageFile,
    "PNM": PpmImageFile,
}
_SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
    ".webp": "WEBP",
    ".jp2": "JPEG2000",
    ".j2k": "JPEG2000",
    ".pgm": "PNM",
    ".ppm": "PNM",
    ".pnm": "PNM",
    ".pbm": "PNM",
}

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
_PIXELS_AT_A_TIME = 1 << 22
_ROWS_AT_A_TIME = 256
_REDUCED_FROM = 1 << 24  # pixels; smaller images of other formats than JPEG are measured as they are, with their finest detail
_ALONE_FROM = 50_000_000  # pixels; such images take up to half a gigabyte and more while they are decoded
_alone = threading.Lock()


class RasterReader:
    """JPEG, PNG, BMP, TIFF, GIF, WebP, JPEG 2000 and the PNM family.

    Grey images (modes 1, L, LA, I;16, I, F) become (height, width), all others (height, width, 3) RGB. Bilevel becomes
    0 and 255; CMYK and palettes become RGB; transparent images are laid over black. Integers of 16 or 32 bits and floating
    point are stretched linearly from the image's own finite minimum and maximum to 0..255, so that a 12-bit radiograph does
    not come out black; a constant one becomes 0, not-a-number too. (Colour of 16 bits per channel keeps its high byte.)
    Only the first frame of a file is read.
    """

    formats: ClassVar[tuple[str, ...]] = tuple(_READERS)
    suffixes: ClassVar[dict[str, str]] = _SUFFIXES

    def identify(self, start: bytes) -> str:
        """Return the format that the first bytes of a file announce; empty when it is none of ``formats``."""
        if start[:4] == b"RIFF":
            return "WEBP" if start[8:12] == b"WEBP" else ""
        if start[:1] == b"P" and start[1:2] in b"123456" and start[2:3].isspace():
            return "PNM"
        return next((name for signature, name in _SIGNATURES.items() if start.startswith(signature)), "")

    def open(self, content: bytes) -> OpenedRaster:
        """Read the header and check what it announces.

        Raises:
            DataError: It is empty, not an image, too large or damaged.
        """
        with _failures_as_data_errors():
            return OpenedRaster(content)


class OpenedRaster:
    """A picture whose header was read. See :class:`~vitrail.datasets.decoded.OpenedFile`."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._image: PillowFile | None
        self._image, self._kind = _open(content)

    def _opened(self) -> PillowFile:
        """Return the opened image; it is opened again after its pixels were decoded, perhaps at a fraction of their size."""
        if self._image is None:
            self._image = _open(self._content)[0]
        return self._image

    def header(self) -> Header:
        """Read how the image was compressed, what made it, and which of its EXIF fields point to a person.

        Raises:
            DataError: The header is damaged.
        """
        with _failures_as_data_errors():
            return _header(self._opened())

    def decode(self, *, frame: int | None = None, at_least: int | None = None) -> Decoded:
        """Decode the image to upright 8-bit pixels; see the reader.

        Args:
            frame: Must be ``None`` or 0: only the first frame is read.
            at_least: Allows a result of 1/2, 1/4 or 1/8 of the size, as long as both sides keep at least so many pixels: of
                JPEGs, which is faster, and of other images with more than 16 million pixels, which takes less memory. The
                original's size is in the result all the same. Allows a grey result, too, of an RGB image without colour.

        Raises:
            DataError: It is truncated, too large or damaged.
        """
        if frame:
            raise DataError(f"has no frame {frame}: of such files only the first frame is read.")
        with _failures_as_data_errors():
            image, self._image = self._opened(), None
            mode, width, height = image.mode, image.width, image.height
            if self._kind == "JPEG":
                _check_scans(self._content)
            with _alone if width * height > _ALONE_FROM else contextlib.nullcontext():
                factor = 1
                if at_least is not None and isinstance(image, JpegImageFile):
                    image.draft(None, (at_least, at_least))
                elif at_least is not None and width * height > _REDUCED_FROM:
                    factor = next((step for step in (8, 4, 2) if min(width, height) // at_least >= step), 1)
                _load(image)
                pixels = _eight_bit(image if at_least is None else _without_equal_channels(image), factor)
            return _upright(pixels, orientation=_orientation(image), height=height, width=width, kind=self._kind, mode=mode)


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
    kind = RasterReader().identify(content)
    if not kind:
        raise DataError(f"not an image: the bytes are none of {', '.join(_READERS)}.")
    with _own_pixel_limit() if kind == "WEBP" else contextlib.nullcontext():  # that reader checks on its own
        image = _READERS[kind](io.BytesIO(content))
    if image.width * image.height > PIXEL_LIMIT:
        raise DataError(f"too large: {image.width} x {image.height} pixels; at most {PIXEL_LIMIT:,} pixels are read.")
    return image, kind


# ITU-T T.81, annex B: markers after which two bytes give the length of the segment; between them may lie compressed pixels.
_SEGMENT = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd8])")
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xd9"


def _check_scans(content: bytes) -> None:
    """Refuse a JPEG of too many scans; what other segments (a preview, say) or bytes behind the image look like is none."""
    if content.count(_START_OF_SCAN) <= SCAN_LIMIT:
        return
    scans, position = 0, 2
    while (found := _SEGMENT.search(content, position)) and found[1] != _END_OF_IMAGE:
        scans += found[1] == _START_OF_SCAN[1:]
        position = found.end() + int.from_bytes(content[found.end() : found.end() + 2])
    if scans > SCAN_LIMIT:
        raise DataError(f"too large: the image is stored in {scans:,} scans; at most {SCAN_LIMIT} are read.")


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
    """Put our pixel limit in the place of Pillow's: for WebP, and while one of the rare very large TIFFs loads."""
    with _LIMIT_LOCK:
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = PIXEL_LIMIT
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _without_equal_channels(image: Image.Image) -> Image.Image:
    """Return one channel of an RGB image whose channels are the same everywhere, as most radiographs stored in colour are."""
    if image.mode != "RGB":
        return image
    red, green, blue = image.split()
    grey = all(ImageChops.difference(red, other).getbbox() is None for other in (green, blue))
    return red if grey else image


def _eight_bit(image: Image.Image, factor: int) -> ByteArray:
    """Return the loaded image as stored, not upright: (height, width) when it is grey, else (height, width, 3).

    With a ``factor``, each pixel is the mean of so many rows and columns. Large images are worked on in strips: besides what
    Pillow holds, only the result takes memory.
    """
    strip_of = _flat
    if image.mode in _DEEP_MODES:
        limits = [_finite_limits(np.asarray(strip)) for strip in _strips(image)]
        low, high = min(low for low, _ in limits), max(high for _, high in limits)
        strip_of = functools.partial(_stretched, low=low, high=high)
    strips = [np.asarray(_reduced(strip_of(strip), factor)) for strip in _strips(image)]
    return strips[0] if len(strips) == 1 else np.concatenate(strips)


def _reduced(image: Image.Image, factor: int) -> Image.Image:
    # Pillow's JPEG 2000 reader hides the method behind a number of the same name.
    return image if factor == 1 else Image.Image.reduce(image, factor)


def _strips(image: Image.Image) -> Iterator[Image.Image]:
    """Give an image strip by strip; the number of rows of all but the last is a multiple of eight."""
    rows = max(1, _PIXELS_AT_A_TIME // image.width // 8) * 8
    if rows >= image.height:
        yield image
        return
    for row in range(0, image.height, rows):
        yield image.crop((0, row, image.width, min(row + rows, image.height)))


def _flat(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits per channel in mode L (when it is grey) or RGB, transparent parts laid over black."""
    mode = "L" if image.mode in _GREY_MODES else "RGB"
    if not image.has_transparency_data:
        return image if image.mode == mode else image.convert(mode)
    with_alpha = image.convert("RGBA")
    black = Image.new("RGB", image.size)
    black.paste(with_alpha, mask=with_alpha.getchannel("A"))
    return black.getchannel("R") if mode == "L" else black


def _finite_limits(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Return the smallest and largest finite value; infinity and minus infinity where there is none."""
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (math.inf, -math.inf)


def _stretched(image: Image.Image, *, low: float, high: float) -> Image.Image:
    """Map low..high linearly to 0..255, some rows at a time: double precision takes eight bytes a pixel."""
    values = np.asarray(image)
    result = np.zeros(values.shape, dtype=np.uint8)
    if high > low:
        for row in range(0, len(values), _ROWS_AT_A_TIME):
            scaled = (values[row : row + _ROWS_AT_A_TIME].astype(np.float64) - low) * (255.0 / (high - low))
            result[row : row + _ROWS_AT_A_TIME] = np.rint(np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0))
    return Image.fromarray(result)


def _header(image: PillowFile) -> Header:
    """Collect what the header of an opened image says; damaged metadata says nothing."""
    quality, encoding = math.nan, ""
    if isinstance(image, JpegImageFile):
        quality = _jpeg_quality(image)
        sampling = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}.get(get_sampling(image), "") if image.layers == 3 else ""
        progressive = "progressive" if image.info.get("progressive") else ""
        encoding = ", ".join(word for word in (f"quality {quality:.0f}", sampling, progressive) if word)
        if "exif" not in image.info:  # most have none, and to ask for it takes as long as the rest of the header
            return Header(encoding=encoding, quality=quality)
    elif compression := image.info.get("compression"):
        encoding = str(compression)[:40]
    try:
        exif = image.getexif()
        camera = exif.get_ifd(ExifTag.ExifOffset)
        private = {
            tag.name
            for table, tags in ((exif, _PRIVATE_TAGS), (camera, _PRIVATE_CAMERA_TAGS))
            for tag in tags
            if str(table.get(tag, "")).strip(" \0")
        }
        if exif.get_ifd(ExifTag.GPSInfo):
            private.add("GPSInfo")
        made_by = [exif.get(tag, "") for tag in (ExifTag.Make, ExifTag.Model, ExifTag.Software)]
    except Exception:
        return Header(encoding=encoding, quality=quality)
    source = " | ".join(text for value in made_by if (text := _plain_text(value)))
    return Header(encoding=encoding, source=source, private=tuple(sorted(private)), quality=quality)


_PRIVATE_TAGS = (ExifTag.Artist, ExifTag.XPAuthor, ExifTag.HostComputer)
_PRIVATE_CAMERA_TAGS = (ExifTag.CameraOwnerName, ExifTag.BodySerialNumber, ExifTag.LensSerialNumber)

# ITU-T T.81 (1992), table K.1: the luminance table that most encoders scale by the quality, and its sum for quality 1 to 100.
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
_SCALES = np.array([5000 // quality if quality < 50 else 200 - 2 * quality for quality in range(1, 101)])
_SUMS = np.clip((np.outer(_SCALES, _LUMINANCE) + 50) // 100, 1, 255).sum(axis=1)


def _jpeg_quality(image: JpegImageFile) -> float:
    """Estimate the quality 1 to 100 that scales the usual table of T.81 annex K to this image's (libjpeg's convention)."""
    tables = image.quantization
    if not tables:
        return math.nan
    return 1.0 + int(np.abs(_SUMS - sum(tables[min(tables)])).argmin())


def _plain_text(value: object) -> str:
    """Return a metadata value as one line of printable text."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())[:60]


def _orientation(image: PillowFile) -> int:
    """Return the EXIF orientation of a loaded image, 1 to 8. (The TIFF reader has turned the pixels itself and reports 1.)"""
    try:
        value = image.getexif().get(ExifTag.Orientation, 1)
    except Exception:  # damaged metadata does not make the pixels unreadable
        return 1
    return value if value in _TURNS else 1


def _upright(pixels: ByteArray, *, orientation: int, height: int, width: int, kind: str, mode: str) -> Decoded:
    """Turn the pixels upright and put the record together; ``height`` and ``width`` are those of the original as stored."""
    turned = orientation in _TURNS
    if turned:
        pixels = np.asarray(Image.fromarray(pixels).transpose(_TURNS[orientation]))
    if orientation >= 5:
        height, width = width, height
    pixels.flags.writeable = False
    return Decoded(pixels=pixels, height=height, width=width, format=kind, mode=mode, turned=turned)
