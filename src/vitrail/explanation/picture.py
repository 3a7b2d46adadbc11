"""An explanation as a picture: the signed map laid over its image at the image's own geometry."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from vitrail.datasets import read_image
from vitrail.records import ByteArray, Explanation, FloatArray
from vitrail.storage import write_bytes

_STRONGEST_OPACITY = 0.72
_OUTLINE_LEVEL = 0.5
_FULL_STRENGTH = 0.995
"""Share of the pixels below full strength: in maps of single pixels, the largest few values would leave all others invisible."""
# Two diverging hues that stay apart for colour-blind readers: warm raises the score, blue lowers it; faint end, strong end.
_RAISES = np.array([[255, 205, 80], [214, 47, 26]], dtype=np.float64)
_LOWERS = np.array([[110, 205, 255], [38, 68, 200]], dtype=np.float64)
_GREY = np.array([[150, 150, 150], [150, 150, 150]], dtype=np.float64)
_SHARE = np.array([[120, 235, 190], [0, 175, 125]], dtype=np.float64)
"""Of shares, which have no sign: bluish green, which is neither of the two hues above."""


def draw_map(picture: ByteArray, values: npt.NDArray[np.float64], *, grey: bool = False) -> ByteArray:
    """Lay a signed map over a picture: hue is the sign, opacity the strength, a white line stands at half of full strength.

    The line is left out where it would be most of what it surrounds: around scattered pixels it would hide them.

    Args:
        picture: uint8, shape (height, width, 3).
        values: Any unit, shape (height, width); full strength is what all but the largest half a percent stay below.
        grey: Draw it without hues and without the line: for a map that does not hold what it says.

    Returns:
        uint8, shape (height, width, 3).
    """
    magnitude = np.abs(values)
    full = float(np.quantile(magnitude, _FULL_STRENGTH)) or float(magnitude.max(initial=0.0))
    if full == 0.0:
        return picture.copy()
    blended = _blended(picture, np.clip(values / full, -1.0, 1.0), *((_GREY, _GREY) if grey else (_RAISES, _LOWERS)))
    inside = magnitude / full >= _OUTLINE_LEVEL
    line = _edge(inside)
    if not grey and 2 * np.count_nonzero(line) <= np.count_nonzero(inside):
        blended[line] = (255, 255, 255)
    return np.asarray(np.clip(np.rint(blended), 0, 255), dtype=np.uint8)


def draw_shares(picture: ByteArray, shares: FloatArray) -> ByteArray:
    """Lay shares, 0..1, of shape (height, width), over a picture (height, width, 3): the more, the greener."""
    return np.asarray(np.rint(_blended(picture, shares.astype(np.float64), _SHARE, _SHARE)), dtype=np.uint8)


def colour_bar(width: int, height: int, *, shares: bool = False) -> Image.Image:
    """Return the colours of a map over plain grey, from what lowers most at the left to what raises most at the right.

    Args:
        width: In pixels.
        height: In pixels.
        shares: The colours of :func:`draw_shares` instead, from none at the left to all at the right.
    """
    picture = np.full((height, width, 3), 128, dtype=np.uint8)
    strength = np.broadcast_to(np.linspace(0.0 if shares else -1.0, 1.0, width), (height, width))
    colours = (_SHARE, _SHARE) if shares else (_RAISES, _LOWERS)
    return Image.fromarray(np.rint(_blended(picture, strength, *colours)).astype(np.uint8))


def _blended(
    picture: ByteArray, strength: npt.NDArray[np.float64], raises: npt.NDArray[np.float64], lowers: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Lay colours over a picture, by signed strength -1..1, shape (height, width); colours go from a faint to a strong end."""
    positive, share = (strength > 0)[..., None], np.abs(strength)[..., None]
    faint, strong = (np.where(positive, raises[end], lowers[end]) for end in (0, 1))
    opacity = _STRONGEST_OPACITY * share
    return np.asarray(picture * (1 - opacity) + (faint + (strong - faint) * share) * opacity, dtype=np.float64)


def _edge(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the pixels of a region that touch its outside (4-neighbourhood); the picture's border is no outside."""
    padded = np.pad(inside, 1, mode="edge")
    core = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~core


def is_grey(explanation: Explanation) -> bool:
    """Whether a map is drawn in grey, because its grade says that it does not hold what it shows."""
    return explanation.grade is not None and bool(explanation.grade.reason)


def has_sign(explanation: Explanation) -> bool:
    """Whether a map tells what raises the class from what lowers it; attention and activations do not."""
    return explanation.parameters.get("signed") is not False


def draw_channels(pixels: ByteArray, maps: FloatArray, titles: Sequence[str], *, columns: int, side: int = 128) -> ByteArray:
    """Draw maps side by side, the image first: black is zero, then red, yellow, and white at each map's own largest magnitude.

    Args:
        pixels: The image, uint8 of shape (h, w, 1 or 3).
        maps: Any unit, shape (panels, rows, columns); signs are not drawn.
        titles: One per map.
        columns: Maps a row.
        side: Height and width of a panel in pixels.

    Returns:
        uint8, shape (height, width, 3): the image stands alone in the first row.
    """
    rows, label, gap = -(-len(maps) // columns), 26, 4
    cell = side + label + gap
    sheet = Image.new("RGB", (columns * (side + gap) + gap, (rows + 1) * cell + gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)

    def place(panel: Image.Image, row: int, column: int, lines: Sequence[str]) -> None:
        left, top = gap + column * (side + gap), gap + row * cell
        for number, line in enumerate(lines):
            draw.text((left, top + 12 * number), _shortened(line, draw, font, side), fill="black", font=font)
        sheet.paste(panel, (left, top + label))

    plain = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    place(Image.fromarray(np.ascontiguousarray(plain)).convert("RGB").resize((side, side)), 0, 0, ("image",))
    for number, (values, title) in enumerate(zip(maps, titles, strict=True)):
        largest = float(np.abs(values).max(initial=0.0))
        share = np.abs(values.astype(np.float64)) / (largest or 1.0)
        colours = np.stack([np.interp(share, _HEAT[:, 0], _HEAT[:, channel]) for channel in (1, 2, 3)], axis=-1)
        panel = Image.fromarray(np.rint(colours).astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
        place(panel, 1 + number // columns, number % columns, (title, f"largest {largest:.3g}"))
    return np.asarray(sheet)


_HEAT = np.array([[0, 0, 0, 0], [0.4, 170, 20, 30], [0.75, 250, 170, 40], [1, 255, 255, 255]], dtype=np.float64)
"""Share of the largest value, then red, green, blue."""


def _shortened(line: str, draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """Return a line that fits; what is left out is at the front, where names are alike."""
    if draw.textlength(line, font=font) <= width:
        return line
    while len(line) > 1 and draw.textlength(f"..{line}", font=font) > width:
        line = line[1:]
    return f"..{line}"


def shown_values(explanation: Explanation) -> FloatArray:
    """Return the map as it is drawn: one without a sign, such as attention, less its smallest value, which is everywhere."""
    return explanation.map if has_sign(explanation) else explanation.map - explanation.map.min()


def draw_explanation(explanation: Explanation, image: Path) -> Image.Image:
    """Return an explanation over its image, at the image's own height and width: warm raises what is explained, blue lowers it.

    Raises:
        DataError: The image cannot be decoded.
    """
    height, width = explanation.map.shape
    picture = Image.fromarray(read_image(image).pixels).convert("RGB").resize((width, height))
    values = shown_values(explanation).astype(np.float64)
    return Image.fromarray(draw_map(np.asarray(picture), values, grey=is_grey(explanation)))


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
    buffer = io.BytesIO()
    draw_explanation(explanation, image).save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())
    return path
