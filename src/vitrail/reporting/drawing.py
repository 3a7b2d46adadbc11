"""From a matplotlib figure to an inline SVG that follows the page: its colours, its font, light and dark.

Figures are drawn with the light palette below. The SVG then gets CSS variables in place of those colours, with the light
colour as the fallback, so the same text also stands alone as an ``.svg`` file (this is what MLflow is given).
"""

from __future__ import annotations

import io
import re
import unicodedata
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#1c2430"
MUTED = "#5f6b7a"
GRID = "#d9dde3"
ON_SERIES = "#fffffe"
SERIES = ("#23508f", "#b4442f", "#3c7d55", "#8a5a9e", "#b07d12", "#2b8a94", "#a8476f", "#6d7420")
DASHES = ("solid", "dashed", "dashdot", "dotted")

_CSS_COLOUR = {
    INK: "currentColor",
    MUTED: f"var(--muted, {MUTED})",
    GRID: f"var(--line, {GRID})",
    ON_SERIES: f"var(--on-series, {ON_SERIES})",
} | {colour: f"var(--series-{number}, {colour})" for number, colour in enumerate(SERIES, start=1)}

_STYLE: dict[str, object] = {
    "axes.axisbelow": True,
    "axes.edgecolor": MUTED,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "lines.linewidth": 1.6,
    "text.color": INK,
    "text.parse_math": False,  # a class called "$x" is a name, not a formula
    "xtick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.color": MUTED,
    "ytick.labelcolor": MUTED,
}
_FONT_FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_PIXELS_PER_POINT = 4 / 3
_SMALLEST_SCALE = 0.78
_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")
_COLOUR = re.compile(r"#[0-9a-f]{6}\b")
_FONT_NAMES = re.compile(r"font-family: [^;]*;? ?")
_FONT = re.compile(r"font: (?P<weight>bold |[5-9]00 )?(?P<size>[\d.]+)px [^;]*")


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """Give an empty figure in the house's style; the person's own matplotlib settings have no say.

    Args:
        width: In inches.
        height: In inches.
    """
    with style.context(["default", _STYLE]):
        yield Figure(figsize=(width, height))


def plain_axes(axes: Axes) -> None:
    """Take grid, ticks and frame away, for tables drawn as pictures."""
    axes.grid(False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def short_name(name: str, length: int = 22) -> str:
    """Return a name that fits beside an axis and is legal in XML: no control characters, at most ``length`` letters."""
    printable = "".join(letter if unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Co", "Cn"} else "?" for letter in name)
    return printable if len(printable) <= length else f"{printable[: length - 1]}…"


def to_svg(figure: Figure, *, key: str, label: str) -> str:
    """Return the figure as SVG text: the same figure and key give the same bytes.

    Args:
        figure: Drawn with the colours of this file.
        key: Prefix of every id, so that figures of one page do not share any.
        label: What the figure shows, for people who cannot see it.
    """
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}), warnings.catch_warnings():
        # The page's own font shows the text; that matplotlib's lacks a letter matters only for the width it reckons with.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", transparent=True)
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - matplotlib's own output
    _drop(root, {"metadata", "style"})
    _rename_ids(root, key)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: _tidy(name, value) for name, value in element.attrib.items()}
        if element.tag != "text":
            element.text = element.tail = None
        element.tail = None
    _, _, width, height = (float(number) for number in root.get("viewBox", "0 0 0 0").split())
    root.attrib = {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": root.get("viewBox", ""),
        "width": f"{width * _PIXELS_PER_POINT:.0f}",
        "height": f"{height * _PIXELS_PER_POINT:.0f}",
        "role": "img",
        "aria-label": label,
        "style": f"min-width: {width * _PIXELS_PER_POINT * _SMALLEST_SCALE:.0f}px",  # below this, the box scrolls
        "color": INK,
        "font-family": _FONT_FAMILY,
        "stroke-linejoin": "round",
    }
    return ElementTree.tostring(root, encoding="unicode")


def _drop(root: ElementTree.Element, names: set[str]) -> None:
    """Remove elements by name: dates and addresses (metadata), rules that would reach the whole page (style)."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in names:
                parent.remove(child)


def _rename_ids(root: ElementTree.Element, key: str) -> None:
    """Keep only the ids that something refers to, and prefix them."""
    used: set[str] = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            used.update(re.findall(r"url\(#([^)]+)\)", value))
            if name.endswith("href"):
                used.add(value.removeprefix("#"))
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            if name == "id":
                if value in used:
                    element.set("id", f"{key}-{value}")
                else:
                    del element.attrib["id"]
            elif name.endswith("href"):
                element.set(name, f"#{key}-{value.removeprefix('#')}")
            elif "url(#" in value:
                element.set(name, value.replace("url(#", f"url(#{key}-"))


def _tidy(name: str, value: str) -> str:
    """Shorten one attribute: page colours, page font, one decimal of a point."""
    if name == "style":
        value = _FONT_NAMES.sub("", value)
        value = _COLOUR.sub(lambda match: _CSS_COLOUR.get(match[0], match[0]), value)
        return _FONT.sub(lambda match: f"font-weight: {(match['weight'] or '400').strip()}; font-size: {match['size']}px", value)
    if name in {"d", "x", "y", "transform", "width", "height", "points"}:
        digits = 2 if name == "transform" else 1
        value = _NUMBER.sub(lambda match: f"{float(match[0]):.{digits}f}".rstrip("0").rstrip("."), value)
        return " ".join(value.split())
    return value
