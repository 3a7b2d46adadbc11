"""All maps of one image on one sheet, for people: the image, every method's map with its title, where they agree, and what the
colours mean.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vitrail.datasets import read_image
from vitrail.explanation.agreement import TOP, Agreement, agreement_of
from vitrail.explanation.fonts import drawable, font_for
from vitrail.explanation.picture import colour_bar, draw_map, draw_shares, has_sign, is_grey, shown_values
from vitrail.records import Explanation, FloatArray, MapGrade
from vitrail.storage import write_bytes

PANEL = 256
"""Longer side of a panel in pixels, at most. Small images are enlarged by a whole number, so that their pixels stay squares."""
MOST_COLUMNS = 6
GREY_WORDS = "grey: does not hold what it says"
WHAT_MAPS_SAY = "A map shows what this model's score rests on, as one method sees it. It does not show where disease is."
_SCALE = (
    "The more opaque, the stronger. Every map has its own full strength; the white line encloses what is at least half as strong."
)
_NARROWEST_CELL, _NARROWEST_SHEET = 224, 466
_MARGIN, _GAP = 24, 18
_BAR_WIDTH, _BAR_HEIGHT = 220, 14
_INK, _MUTED, _WARNING = (28, 36, 48), (95, 107, 122), (138, 90, 0)

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class _Line:
    """A line of text."""

    text: str
    size: int = 12
    colour: Colour = _MUTED
    room: int = 0
    """Pixels left free below it."""

    @property
    def height(self) -> int:
        return round(1.4 * self.size) + self.room


@dataclass(frozen=True)
class _Bar:
    """A colour bar with words at both ends."""

    low: str
    high: str
    shares: bool = False
    height: int = 26


@dataclass(frozen=True)
class _Panel:
    """A picture and the lines above it."""

    picture: Image.Image
    title: tuple[_Line, ...]


def draw_overview(explanations: Sequence[Explanation], image: Path, *, agreement: Agreement | None = None) -> Image.Image:
    """Return one picture: the image, every map over it side by side with its title, where the methods agree, and colour bars.

    Every map is drawn as it is alone: the same colours, its own full strength, grey where its grade says that it does not hold
    what it shows.

    Args:
        explanations: Of one image and one class, one per method; at least one.
        image: The image file.
        agreement: Where they agree, if that is known already.

    Raises:
        DataError: The image cannot be decoded.
        UsageError: The explanations are not of one image and one class.
    """
    found = agreement or agreement_of(explanations)
    height, width = explanations[0].map.shape
    original = Image.fromarray(read_image(image).pixels).convert("RGB").resize((width, height))
    size = _panel_size(width, height)
    below = np.asarray(original.resize(size, _filter(width, size)))
    panels = [_Panel(Image.fromarray(below), (_Line("image", 15, _INK), _Line(f"{width} x {height} pixels")))]
    for one in explanations:
        values = _resized(shown_values(one), size).astype(np.float64)
        panels.append(_Panel(Image.fromarray(draw_map(below, values, grey=is_grey(one))), tuple(_title(one))))
    if found.n >= 2:
        panels.append(_Panel(Image.fromarray(draw_shares(below, _resized(found.shares, size))), tuple(_agreement_title(found))))
    return _sheet(panels, list(_header(explanations, image)), list(_footer(explanations, found)))


def write_overview(explanations: Sequence[Explanation], image: Path, path: Path, *, agreement: Agreement | None = None) -> Path:
    """Write what :func:`draw_overview` returns as PNG, whole or not at all, and return ``path``."""
    buffer = io.BytesIO()
    draw_overview(explanations, image, agreement=agreement).save(buffer, format="PNG")
    write_bytes(path, buffer.getvalue())
    return path


# ---------------------------------------------------------------------------------------------------- what is said


def _header(explanations: Sequence[Explanation], image: Path) -> Iterator[_Line]:
    """Yield what is explained: the image, the model, the class, and what is doubtful about all maps alike."""
    first = explanations[0]
    yield _Line(image.name, 20, _INK)
    yield _Line(f"Model {first.model}, class {first.target}, score {first.score:.2f}", 15, _INK)
    shared = set(first.warnings).intersection(*(one.warnings for one in explanations))
    yield from (_Line(warning, 13, _WARNING) for warning in first.warnings if warning in shared)


def _title(explanation: Explanation) -> Iterator[_Line]:
    """Yield what stands above a map: its method, how that is graded, how this map is graded, and that it is grey."""
    yield _Line(explanation.method, 15, _INK)
    if explanation.grade is not None:
        yield from map(_Line, grade_words(explanation.grade))
    if not has_sign(explanation):
        yield _Line("no sign: for and against look alike")
    if is_grey(explanation):
        yield _Line(GREY_WORDS, 12, _WARNING)
    elif not np.ptp(explanation.map):
        yield _Line("the same everywhere: nothing to see", 12, _WARNING)


def grade_words(grade: MapGrade) -> tuple[str, ...]:
    """Return the grade of a map in short texts: that of its method on other images first, its own last."""
    of_method, gain = "method: not graded", grade.method_gain
    if gain is not None and gain.value is not None:
        interval = "no interval" if gain.low is None or gain.high is None else f"[{gain.low:.2f}, {gain.high:.2f}]"
        of_method = f"method: gain {gain.value:.2f} {interval}, n = {gain.n:,}"
    elif gain is not None:
        of_method = "method: gain not estimable"
    below = ("method: does not beat its baselines",) if grade.method_beats_baselines == "no" else ()
    return of_method, *below, f"this map: {_map_grade_words(grade)}"


def _map_grade_words(grade: MapGrade) -> str:
    """Return how a map does beside random maps of its image."""
    if grade.share_beaten is None:
        return "not graded"
    count = len(grade.random_gains)
    return f"beats {grade.share_beaten * count:g} of {count} random maps"


def _agreement_title(agreement: Agreement) -> Iterator[_Line]:
    yield _Line("agreement", 15, _INK)
    yield _Line(f"share of {agreement.n} methods: in their top {TOP:.0%}")
    mean = agreement.mean_rank_correlation
    alike = "rank correlation not estimable" if mean is None else f"rank correlation {mean:.2f}"
    yield _Line(f"by chance {agreement.chance:.0%}; {alike}")


def _footer(explanations: Sequence[Explanation], agreement: Agreement) -> Iterator[_Line | _Bar]:
    """Yield what the colours mean, and what the sheet does not show."""
    yield _Bar("lowers the class", "raises the class")
    if agreement.n >= 2:
        yield _Bar("no method", f"all {agreement.n} methods", shares=True)
    yield _Line(WHAT_MAPS_SAY, 13, _INK, room=4)
    yield _Line(_SCALE, 13, room=4)
    if any(map(is_grey, explanations)):
        yield _Line(
            "Grey maps do not hold what they say: they are no better than maps that know nothing of the model.", 13, room=4
        )
    if len(explanations) > 1:
        yield _Line(agreement.words, 13, room=4)
    if any(one.grade is not None for one in explanations):
        yield _Line(
            "Gain (SRG, -1 to 1): how much lower the score is while the places are removed in the order of the map than in the "
            "opposite order; 0 is a map that knows nothing; with a 95 % interval, on other images of this model.",
            13,
        )


# ---------------------------------------------------------------------------------------------------- how it is laid out


def _panel_size(width: int, height: int) -> tuple[int, int]:
    """Return the width and height at which an image is shown."""
    longest = max(width, height)
    if 2 * longest <= PANEL:
        return width * (PANEL // longest), height * (PANEL // longest)
    return max(1, round(width * PANEL / longest)), max(1, round(height * PANEL / longest))


def _filter(width: int, size: tuple[int, int]) -> Image.Resampling:
    """Return how an image is brought to a size: its own pixels as squares where it is enlarged by a whole number."""
    return Image.Resampling.NEAREST if size[0] % width == 0 else Image.Resampling.LANCZOS


def _resized(values: FloatArray, size: tuple[int, int]) -> FloatArray:
    """Bring a map to the size of a panel: the mean of what falls into a pixel, or the nearest value; no sign turns over."""
    found = Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BOX)
    return np.asarray(found, dtype=np.float32)


def _sheet(panels: Sequence[_Panel], header: Sequence[_Line], footer: Sequence[_Line | _Bar]) -> Image.Image:
    """Lay panels out in rows, the header above and the footer below."""
    rows = -(-len(panels) // MOST_COLUMNS)
    columns = -(-len(panels) // rows)
    panel_width, panel_height = panels[0].picture.size
    cell = max(panel_width, _NARROWEST_CELL)
    inner = max(columns * (cell + _GAP) - _GAP, _NARROWEST_SHEET)
    top, bottom = _wrapped(header, inner), _wrapped(footer, inner)
    titles = [[line for line in _wrapped(panel.title, cell) if isinstance(line, _Line)] for panel in panels]
    tallest = [max(map(_height, titles[row * columns : (row + 1) * columns])) + 6 for row in range(rows)]
    grid_top = _MARGIN + _height(top) + _GAP
    grid_bottom = grid_top + sum(tallest) + rows * (panel_height + _GAP)
    sheet = Image.new("RGB", (inner + 2 * _MARGIN, grid_bottom + _height(bottom) + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    _write(sheet, draw, top, _MARGIN, _MARGIN)
    for number, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        row, column = divmod(number, columns)
        left = _MARGIN + column * (cell + _GAP)
        picture_top = grid_top + sum(tallest[: row + 1]) + row * (panel_height + _GAP)
        _write(sheet, draw, title, left, picture_top - tallest[row])
        sheet.paste(panel.picture, (left, picture_top))
    _write(sheet, draw, bottom, _MARGIN, grid_bottom)
    return sheet


def _height(lines: Sequence[_Line | _Bar]) -> int:
    return sum(line.height for line in lines)


def _write(sheet: Image.Image, draw: ImageDraw.ImageDraw, lines: Sequence[_Line | _Bar], left: int, top: int) -> None:
    """Write lines and bars one below the other; bars begin at the same place."""
    low = [draw.textlength(line.low, font=font_for(line.low, 13)) for line in lines if isinstance(line, _Bar)]
    for line in lines:
        if isinstance(line, _Line):
            draw.text((left, top), line.text, fill=line.colour, font=font_for(line.text, line.size))
        else:
            font, begin = font_for(line.low + line.high, 13), left + round(max(low)) + 10
            draw.text((begin - 10, top), line.low, fill=_INK, font=font, anchor="ra")
            sheet.paste(colour_bar(_BAR_WIDTH, _BAR_HEIGHT, shares=line.shares), (begin, top + 2))
            draw.text((begin + _BAR_WIDTH + 10, top), line.high, fill=_INK, font=font)
        top += line.height


def _wrapped(lines: Sequence[_Line | _Bar], width: int) -> list[_Line | _Bar]:
    """Break lines that are wider than there is room, between words, or within a word that is itself too wide."""
    broken: list[_Line | _Bar] = []
    for line in lines:
        if isinstance(line, _Line):
            *others, last = list(_parts(line.text, line.size, width)) or [""]
            broken += [*(_Line(part, line.size, line.colour) for part in others), replace(line, text=last)]
        else:
            broken.append(line)
    return broken


def _parts(text: str, size: int, width: int) -> Iterator[str]:
    written = drawable(text)
    font, part = font_for(written, size), ""
    for word in written.split():
        longer = f"{part} {word}".lstrip()
        if part and font.getlength(longer) > width:
            yield part
            longer = word
        while font.getlength(longer) > width and len(longer) > 1:
            fits = next(end for end in range(len(longer) - 1, 0, -1) if end == 1 or font.getlength(longer[:end]) <= width)
            yield longer[:fits]
            longer = longer[fits:]
        part = longer
    if part:
        yield part
