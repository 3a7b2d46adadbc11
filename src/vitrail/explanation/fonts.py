"""The letters of overviews: Pillow's own font; for what that lacks DejaVu Sans, where matplotlib has brought it; else codes."""

from __future__ import annotations

import importlib.util
import unicodedata
from functools import cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont

IN_FONT = frozenset("©«°±·»‘’“”…™")
"""What Pillow's font has outside ASCII and is worth keeping."""
WIDE = Path("mpl-data", "fonts", "ttf", "DejaVuSans.ttf")
"""DejaVu Sans (Latin with all accents, Greek, Cyrillic, signs) within matplotlib, which ``vitrail[train]`` installs."""
_NOTHING = "\U0010ffff"
"""A character that no font has: it is drawn as the box for those that are missing."""


def drawable(text: str) -> str:
    r"""Return a text in characters that one of the fonts has.

    Where DejaVu Sans is not there, accents are left off (``Ödem`` becomes ``Odem``); of what no font has the codes stand (a
    Chinese letter becomes ``\u6b63``), also of scripts that run from right to left, whose letters must be joined: a name that can
    be looked up says more than a row of empty boxes.
    """
    composed = unicodedata.normalize("NFC", text)
    return "".join(one if _plain(one) or _in_wide(one) else _replaced(one) for one in composed)


@cache
def font_for(text: str, size: int) -> Font:
    """Return the font in which a drawable text is written: Pillow's own, where that has all of it."""
    wide = None if all(map(_plain, text)) else _wide(size)
    return wide or ImageFont.load_default(size=size)


def _plain(character: str) -> bool:
    return character.isascii() or character in IN_FONT


def _replaced(character: str) -> str:
    base = "".join(part for part in unicodedata.normalize("NFKD", character) if not unicodedata.combining(part))
    return base if base.isascii() else character.encode("ascii", "backslashreplace").decode("ascii")


@cache
def _in_wide(character: str) -> bool:
    """Whether DejaVu Sans is there and can write a character on its own."""
    font = _wide(12)
    alone = unicodedata.category(character)[0] in "LNPS" and unicodedata.bidirectional(character) not in ("R", "AL")
    return font is not None and alone and bytes(font.getmask(character)) != bytes(font.getmask(_NOTHING))


@cache
def _wide(size: int) -> ImageFont.FreeTypeFont | None:
    """Return DejaVu Sans, or ``None``: it is looked for among matplotlib's files, without loading that."""
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        return None
    try:
        return ImageFont.truetype(Path(found.origin).parent / WIDE, size)
    except OSError:  # a distribution may keep the font elsewhere, and Pillow may be built without FreeType
        return None
