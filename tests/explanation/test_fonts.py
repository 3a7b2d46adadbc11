"""The letters of overviews: names in other scripts can be read, and what cannot be drawn can be looked up."""

from __future__ import annotations

import importlib.util

import pytest
from PIL import ImageFont

from vitrail.explanation import fonts
from vitrail.explanation.fonts import IN_FONT, drawable, font_for


@pytest.fixture(params=["with matplotlib", "without"])
def wide(request, monkeypatch):
    if request.param == "without":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for one in (fonts.font_for, fonts._in_wide, fonts._wide):
        one.cache_clear()
    yield request.param == "with matplotlib"
    for one in (fonts.font_for, fonts._in_wide, fonts._wide):
        one.cache_clear()


def test_names_in_other_scripts_are_letters_where_there_is_a_font_and_codes_elsewhere(wide):
    assert drawable("\u00d6dem, gliome \u2013 m\u00e9lanome") == (
        "\u00d6dem, gliome \u2013 m\u00e9lanome" if wide else "Odem, gliome \\u2013 melanome"
    )
    assert drawable("\u03b1 \u0434") == ("\u03b1 \u0434" if wide else "\\u03b1 \\u0434")
    assert drawable("O\u0308dem") == ("\u00d6dem" if wide else "Odem")


def test_what_no_font_has_or_must_be_joined_is_a_code(wide):
    assert drawable("\u6b63") == "\\u6b63" and drawable("\u0633") == "\\u0633"
    assert drawable("plain [1.0] 20 \u00b0") == "plain [1.0] 20 \u00b0"


def test_nothing_drawable_is_an_empty_box(wide):
    texts = [drawable(chr(code)) for code in (*range(33, 127), *map(ord, IN_FONT), *range(0xC0, 0x180), *range(0x3B1, 0x3CA))]
    for text in texts:
        font = font_for(text, 12)
        box = bytes(font.getmask("\U0010ffff"))
        assert all(bytes(font.getmask(character)) != box for character in text), text


def test_what_pillow_s_own_font_has_is_written_in_it(wide):
    assert font_for("glioma", 12).getname() == ImageFont.load_default(size=12).getname()
    assert (font_for(drawable("m\u00e9lanome"), 12).getname()[0] == "DejaVu Sans") == wide
