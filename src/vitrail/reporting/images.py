"""Pictures as data URIs: thumbnails of the data set, and maps drawn over their image at the image's own geometry."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.datasets import read_image
from vitrail.errors import VitrailError
from vitrail.explanation import draw_map
from vitrail.records import ByteArray, FloatArray, Manifest

THUMBNAIL_SIDE = 96
PICTURE_SIDE = 320


@dataclass(frozen=True)
class MapPictures:
    """One explained image, drawn.

    Attributes:
        original: Data URI of the image without the map.
        overlay: Data URI of the image under the map.
        width: Of both, in pixels.
        height: Of both, in pixels.
        note: Why a thumbnail stands in for the image, or why nothing is seen; else empty.
    """

    original: str
    overlay: str
    width: int
    height: int
    note: str


class Thumbnails:
    """The manifest's thumbnails as data URIs, at the images' own proportions. A missing one is an empty string.

    Args:
        manifest: The data set.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._files = manifest.files
        self._rows = {file.path: row for row, file in enumerate(manifest.files)}
        try:
            self._pixels: ByteArray | None = manifest.thumbnails
        except (OSError, ValueError):
            self._pixels = None
        self._made: dict[int, str] = {}

    def uri(self, path: str) -> str:
        """Return the thumbnail of a file (JPEG, at most 96 pixels a side), or an empty string when there is none."""
        row = self._rows.get(path)
        if row is None or self.grey(path) is None:
            return ""
        if row not in self._made:
            self._made[row] = _thumbnail_uri(self._grey(row), self._files[row].width, self._files[row].height)
        return self._made[row]

    def grey(self, path: str) -> ByteArray | None:
        """Return the grey 128 x 128 thumbnail of a readable file, or nothing."""
        row = self._rows.get(path)
        if row is None or self._pixels is None or row >= len(self._pixels) or not self._files[row].readable:
            return None
        return self._grey(row)

    def _grey(self, row: int) -> ByteArray:
        pixels = np.zeros((1, 1), np.uint8) if self._pixels is None else self._pixels[row]
        return np.asarray(pixels, dtype=np.uint8)


def map_pictures(image: Path, values: FloatArray, stand_in: ByteArray | None) -> MapPictures:
    """Draw a signed map over its image, and the image alone.

    Args:
        image: The original file; it is only read.
        values: Signed relevance, shape (height, width) of the upright original.
        stand_in: Grey thumbnail for when the file is gone or has changed its size since.
    """
    height, width = values.shape
    pixels, note = _pixels_of(image, height, width, stand_in)
    scale = min(1.0, PICTURE_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    picture = Image.fromarray(pixels).convert("RGB").resize(size, Image.Resampling.LANCZOS)
    finite = np.nan_to_num(values.astype(np.float32))
    small = np.asarray(Image.fromarray(finite).resize(size, Image.Resampling.BOX), dtype=np.float64)
    if not small.any():
        note = f"{note} The map is zero everywhere: there is nothing to see in it.".strip()
    overlay = Image.fromarray(draw_map(np.asarray(picture), small))
    return MapPictures(_uri(picture, quality=82), _uri(overlay, quality=82), size[0], size[1], note)


def _pixels_of(image: Path, height: int, width: int, stand_in: ByteArray | None) -> tuple[ByteArray, str]:
    """Return the original's pixels at any scale, or a stand-in with the reason in words."""
    try:
        decoded = read_image(image, at_least=PICTURE_SIDE)
        if (decoded.height, decoded.width) == (height, width):
            return decoded.pixels, ""
        reason = "The image file has changed its size since it was explained"
    except (OSError, VitrailError):
        reason = "The image file could not be read when this report was written"
    if stand_in is None:
        return np.zeros((1, 1), np.uint8), f"{reason}; the map stands on black."
    return stand_in, f"{reason}; a coarse grey preview stands in for it."


def _thumbnail_uri(grey: ByteArray, width: int, height: int) -> str:
    """Return a square thumbnail as a data URI at the proportions of its image."""
    longest = max(width, height, 1)
    size = tuple(max(8, round(THUMBNAIL_SIDE * side / longest)) if side else THUMBNAIL_SIDE for side in (width, height))
    return _uri(Image.fromarray(grey).resize((size[0], size[1]), Image.Resampling.LANCZOS), quality=70)


def _uri(picture: Image.Image, *, quality: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
