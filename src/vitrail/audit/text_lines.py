"""Lines of text burned into images, found by their strokes and without reading them: first in thumbnails, then in the image.

Neither step knows letters. A line of text is a low, long place with many upright strokes of even brightness on even ground, and
quiet above and below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from vitrail.records import ByteArray, FloatArray, IntArray, Manifest

BLOCK = 128
"""So many thumbnails are looked at at a time."""
SIDE = 720
"""Images are reduced until no side is longer; text of less than about one hundredth of the height is not seen."""
LETTERS = 5
"""Strokes per row of a line, at least: a single letter such as a side marker is no text."""

_HEIGHTS = (5, 16)  # of a line, in pixels, at each level of a pyramid
_GAP = 7  # pixels: strokes of a line are nearer to one another
_SHIFTS = (1, 2, 3)  # together one less than that
_EIGHT = np.ones((3, 3), dtype=np.int8)
_LEAST_INK = 20  # pixels
_AROUND = 9  # radius of the neighbourhood whose mean is the ground
_STEPS = ((1, 30), (1, 70), (-1, 30))  # brighter or darker than the ground, by so many grey values
_STROKES = (0.7, 3.0)  # per length of one height of the line
_FILL = (0.12, 0.7)
_SMALLEST = 48

_BAND = 3  # rows of a thumbnail
_COLUMN = 14  # columns of a thumbnail; windows are two wide
_LOUDEST = 80  # one edge of a bone is not louder than a letter
_FLOOR = 1.5  # of the spread of loudness, in grey values
_SAMPLE = 5_000


@dataclass(frozen=True)
class TextLine:
    """A place that looks like a line of text.

    Attributes:
        top: First row, in pixels of the image as given.
        left: First column.
        bottom: Row after the last.
        right: Column after the last.
        strokes: Upright strokes per row: about one and a half per letter.
    """

    top: int
    left: int
    bottom: int
    right: int
    strokes: float


@dataclass(frozen=True)
class Proposals:
    """Where text may be, by the thumbnails alone.

    Attributes:
        alone: How far the loudest line of fine upright strokes stands out from the rows above and below, compared with the
            same place in other images; robust z-score of shape (n,).
        loud: The same without regard to the rows above and below.
        row: Middle of the line that stands out most, as a share of the height, 0..1; shape (n, 2): by ``alone``, by ``loud``.
    """

    alone: FloatArray
    loud: FloatArray
    row: FloatArray


def propose(manifest: Manifest, rows: IntArray) -> Proposals:
    """Look for lines of fine upright strokes in thumbnails, compared with the same place in the other images."""
    thumbnails = manifest.thumbnails
    sample = rows
    if len(rows) > _SAMPLE:
        sample = np.sort(np.random.default_rng(0).choice(rows, size=_SAMPLE, replace=False))
    seen = [np.concatenate(maps) for maps in zip(*(_loudness(thumbnails[block]) for block in _blocks(sample)), strict=True)]
    usual = []
    for every in seen:
        median = np.median(every, axis=0)
        usual.append((median, 1.4826 * np.median(np.abs(every - median), axis=0) + _FLOOR))
    score, place = np.empty((len(rows), 2), dtype=np.float32), np.empty((len(rows), 2), dtype=np.int64)

    def judge(positions: IntArray, maps: Sequence[FloatArray]) -> None:
        for column, (loud, (median, spread)) in enumerate(zip(maps, usual, strict=True)):
            loudest = ((loud - median) / spread).max(axis=2)
            score[positions, column], place[positions, column] = loudest.max(axis=1), loudest.argmax(axis=1)

    if len(rows):
        judge(np.searchsorted(rows, sample), seen)
    for positions in _blocks(np.flatnonzero(~np.isin(rows, sample))):
        judge(positions, _loudness(thumbnails[rows[positions]]))
    return Proposals(score[:, 0], score[:, 1], (place + 1.0).astype(np.float32) * np.float32(_BAND / 128))


def _blocks(rows: IntArray) -> Iterator[IntArray]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))


def _loudness(thumbnails: ByteArray) -> tuple[FloatArray, FloatArray]:
    """Return maps (n, bands, windows) of how strongly grey values bend along the rows: apart from the rows around, and plain."""
    # Upright strokes survive the sum over three rows, noise does not; and a third of the pixels is left to work on.
    rows = thumbnails.shape[1] // _BAND
    lines = thumbnails[:, 0 : rows * _BAND : _BAND].astype(np.int16)
    for offset in range(1, _BAND):
        lines += thumbnails[:, offset : rows * _BAND : _BAND]
    bands = 2 * lines[:, :, 1:-1]
    bands -= lines[:, :, :-2]
    bands -= lines[:, :, 2:]
    np.abs(bands, out=bands)
    np.minimum(bands, _BAND * _LOUDEST, out=bands)
    windows = np.repeat(np.eye(bands.shape[2] // _COLUMN, dtype=np.float32), _COLUMN, axis=0)
    columns = bands.astype(np.float32) @ windows  # a sum over neighbours, exact in this range, and quicker as a product
    loud = np.asarray((columns[:, :, :-1] + columns[:, :, 1:]) / np.float32(2 * _BAND * _COLUMN), dtype=np.float32)
    padded = np.pad(loud, ((0, 0), (1, 2), (0, 0)), mode="edge")
    above, here, below, further = padded[:, :-3], padded[:, 1:-2], padded[:, 2:-1], padded[:, 3:]
    one = here - (above + below) / 2
    two = (here + below - above - further) / 2  # a line may lie across two bands
    return np.maximum(one, two), np.asarray(0.5 * (here + below))


def find_lines(pixels: ByteArray) -> list[TextLine]:
    """Find lines of text in an image.

    Args:
        pixels: uint8, shape (rows, columns) or (rows, columns, 3).

    Returns:
        The lines, most strokes first. One line may be found at two scales.
    """
    grey = pixels[..., 1] if pixels.ndim == 3 else pixels
    factor = max(1, -(-max(grey.shape) // SIDE))
    picture = Image.fromarray(np.ascontiguousarray(grey))
    if factor > 1:
        picture = picture.reduce(factor)
    lines: list[TextLine] = []
    while min(picture.size) >= _SMALLEST:
        lines += [_scaled(line, factor) for line in _lines_at(picture)]
        picture, factor = picture.reduce(2), 2 * factor
    return sorted(lines, key=lambda line: (-line.strokes, line.top, line.left))


def _lines_at(picture: Image.Image) -> Iterator[TextLine]:
    """Yield the lines of one scale."""
    from scipy import ndimage

    values = np.asarray(picture)
    ground = np.asarray(picture.filter(ImageFilter.BoxBlur(_AROUND)))
    for sign, step in _STEPS:
        darker, lighter = (ground, values) if sign > 0 else (values, ground)
        ink = lighter > np.minimum(darker, 255 - step) + np.uint8(step)
        if np.count_nonzero(ink) < _LEAST_INK:
            continue
        labelled, _ = ndimage.label(_joined(ink), structure=_EIGHT)
        for number, place in enumerate(ndimage.find_objects(labelled), start=1):
            height, width = place[0].stop - place[0].start, place[1].stop - place[1].start
            if not (_HEIGHTS[0] <= height <= _HEIGHTS[1] and width >= 3 * height):
                continue
            own = ink[place] & (labelled[place] == number)
            strokes = _strokes(own)
            if strokes >= LETTERS and _is_even(values, ink, own, place, sign=sign, step=step):
                yield TextLine(place[0].start, place[1].start, place[0].stop, place[1].stop, strokes)


def _joined(ink: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Close gaps of up to six pixels along the rows: spread to the right, in steps that double, and shrink back."""
    spread = np.pad(ink, ((0, 0), (0, _GAP - 1)))
    for step in _SHIFTS:
        spread[:, step:] |= spread[:, :-step].copy()
    for step in _SHIFTS:
        spread[:, :-step] &= spread[:, step:].copy()
    return spread[:, : ink.shape[1]]


def _strokes(ink: npt.NDArray[np.bool_]) -> float:
    """Return the number of strokes per row where there are most; 0 where they are not as dense as in a line of text."""
    height, width = ink.shape
    runs = np.count_nonzero(ink[:, 1:] & ~ink[:, :-1], axis=1) + ink[:, 0]
    strokes = float(np.sort(runs)[-max(3, int(0.7 * height)) :].mean())
    dense = _STROKES[0] <= strokes * height / width <= _STROKES[1]
    return strokes if dense and _FILL[0] <= ink.mean() <= _FILL[1] else 0.0


def _is_even(
    values: ByteArray,
    ink: npt.NDArray[np.bool_],
    own: npt.NDArray[np.bool_],
    place: tuple[slice, slice],
    *,
    sign: int,
    step: int,
) -> bool:
    """Whether strokes have one brightness and stand on even ground with quiet above and below; on uneven ground, clearly so."""
    inside = values[place].astype(np.int16) * sign
    strokes, ground = np.sort(inside[own]), np.sort(inside[~own])
    middle = ground[len(ground) // 2]
    contrast = float(strokes[len(strokes) // 2] - middle)
    # Where a smooth edge happens to lie at the limit between ink and ground, noise looks like strokes: halfway it does not.
    if _strokes(inside > middle + contrast / 2) < LETTERS - 1:
        return False
    unevenness = float(strokes[int(0.9 * len(strokes))] - strokes[int(0.6 * len(strokes))])
    relief = 1.4826 * float(np.median(np.abs(ground - middle)))
    around, disturbed = _surroundings(values, ink, place)
    on_even_ground = contrast > 40 and unevenness < 60 and relief < 26 and around < 0.7 * contrast and disturbed <= 0.08
    return on_even_ground or (step >= 60 and contrast > 70 and unevenness < 25 and disturbed <= 0.03)


def _surroundings(values: ByteArray, ink: npt.NDArray[np.bool_], place: tuple[slice, slice]) -> tuple[float, float]:
    """Return the range of grey values above and below a line (nine tenths less one tenth), and the share of ink there."""
    across, down = place[1], place[0]
    reach = max(2, (down.stop - down.start + 1) // 2)
    columns = slice(max(0, across.start - reach), across.stop + reach)
    above = slice(max(0, down.start - reach), max(0, down.start - 1))
    below = slice(down.stop + 1, down.stop + reach)
    grey = np.concatenate([values[above, columns].ravel(), values[below, columns].ravel()])
    if len(grey) == 0:
        return 0.0, 0.0
    marked = np.concatenate([ink[above, columns].ravel(), ink[below, columns].ravel()])
    low, high = np.quantile(grey, (0.1, 0.9))
    return float(high - low), float(marked.mean())


def _scaled(line: TextLine, factor: int) -> TextLine:
    return TextLine(line.top * factor, line.left * factor, line.bottom * factor, line.right * factor, line.strokes)
