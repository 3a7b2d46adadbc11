"""An explanation as a picture: the signed map laid over its image at the image's own geometry."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitrail.datasets import read_image
from vitrail.records import ByteArray, Explanation
from vitrail.storage import write_bytes

_STRONGEST_OPACITY = 0.72
_OUTLINE_LEVEL = 0.5
# Two diverging hues that stay apart for colour-blind readers: warm raises the score, blue lowers it; faint end, strong end.
_RAISES = np.array([[255, 205, 80], [214, 47, 26]], dtype=np.float64)
_LOWERS = np.array([[110, 205, 255], [38, 68, 200]], dtype=np.float64)
_GREY = np.array([[150, 150, 150], [150, 150, 150]], dtype=np.float64)


def draw_map(picture: ByteArray, values: npt.NDArray[np.float64], *, grey: bool = False) -> ByteArray:
    """Lay a signed map over a picture: hue is the sign, opacity the strength, a white line stands at half the strongest value.

    Args:
        picture: uint8, shape (height, width, 3).
        values: Any unit, shape (height, width); scaled by its own largest magnitude.
        grey: Draw it without hues and without the line: for a map that does not hold what it says.

    Returns:
        uint8, shape (height, width, 3).
    """
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        return picture.copy()
    strength = (np.abs(values) / largest)[..., None]
    raises, lowers = (_GREY, _GREY) if grey else (_RAISES, _LOWERS)
    faint, strong = (np.where((values > 0)[..., None], raises[end], lowers[end]) for end in (0, 1))
    colour = faint + (strong - faint) * strength
    opacity = _STRONGEST_OPACITY * strength
    blended = picture * (1 - opacity) + colour * opacity
    if not grey:
        blended[_edge(strength[..., 0] >= _OUTLINE_LEVEL)] = (255, 255, 255)
    return np.asarray(np.clip(np.rint(blended), 0, 255), dtype=np.uint8)


def _edge(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels of a region that touch its outside (4-neighbourhood); the picture's border is no outside."""
    padded = np.pad(inside, 1, mode="edge")
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core


def is_grey(explanation: Explanation) -> bool:
    """Whether a map is drawn in grey, because its grade says that it does not hold what it shows."""
    return explanation.grade is not None and bool(explanation.grade.reason)


def write_picture(explanation: Explanation, image: Path, path: Path) -> Path:
    """Draw an explanation over its image at the image's own height and width and write it as PNG, whole or not at all.

    Args:
        explanation: Its map decides the geometry.
        image: The original file; it is only read.
        path: The ``.png`` file.

    Returns:
        ``path``.

    Raises:
        DataError: The image cannot be decoded.
        OutputError: The folder cannot be written.
    """
    height, width = explanation.map.shape
    picture = Image.fromarray(read_image(image).pixels).convert("RGB").resize((width, height))
    overlay = draw_map(np.asarray(picture), explanation.map.astype(np.float64), grey=is_grey(explanation))
    buffer = io.BytesIO()
    Image.fromarray(overlay).save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())
    return path
