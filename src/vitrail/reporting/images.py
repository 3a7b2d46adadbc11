"""Maps drawn over their image at the image's own geometry, as data URIs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.datasets import read_image
from vitrail.errors import VitrailError
from vitrail.explanation import draw_map
from vitrail.records import ByteArray, FloatArray
from vitrail.reporting.thumbnails import jpeg_uri

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


def map_pictures(image: Path, values: FloatArray, stand_in: ByteArray | None, *, grey: bool = False) -> MapPictures:
    """Draw a signed map over its image, and the image alone.

    Args:
        image: The original file; it is only read.
        values: Signed relevance, shape (height, width) of the upright original.
        stand_in: Grey thumbnail for when the file is gone or has changed its size since.
        grey: Whether the map is drawn without hues, because it does not hold what it says.
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
    overlay = Image.fromarray(draw_map(np.asarray(picture), small, grey=grey))
    return MapPictures(jpeg_uri(picture, quality=82), jpeg_uri(overlay, quality=82), size[0], size[1], note)


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
