"""Lengths of time in and out, the grid, and hints at the kind of image."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.errors import UsageError
from vitrail.planning.budget import on_grid, parse_budget, settled, spoken
from vitrail.planning.facts import modality_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("20m", 1200), ("20min", 1200), ("1.5h", 5400), ("1h30m", 5400), (" 2H ", 7200), ("1m30s", 90)],
)
def test_lengths_of_time(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["abc", "-5m", "0m", "", "20", "m", "5m2h", "nan", "infm", "1d", "5 m 3"])
def test_what_is_none_is_told(text):
    with pytest.raises(
        UsageError, match="--budget: must be a length of time above 0 with its unit, for example 90s, 20m"
    ) as caught:
        parse_budget(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.44, "0.4 s"), (12.4, "12 s"), (60, "1 min"), (200, "3 min 20 s"), (3600, "1 h"), (7500, "2 h 5 min")],
)
def test_lengths_in_words(seconds, words):
    assert spoken(seconds) == words


@given(st.floats(1e-6, 1e6))
def test_the_grid_rounds_up_by_at_most_a_quarter_and_stays(seconds):
    rounded = on_grid(seconds)
    assert 0.999 * seconds <= rounded <= 1.27 * seconds
    assert on_grid(rounded) == rounded


def test_a_kept_value_stands_until_it_has_clearly_moved():
    assert settled(1.4, 1.0) == settled(0.7, 1.0) == 1.0
    assert settled(1.6, 1.0) == 1.6 and settled(0.6, 1.0) == 0.6


@pytest.mark.parametrize(
    ("folder", "classes", "source", "expected"),
    [
        ("chest-xray", ("NORMAL", "PNEUMONIA"), "", "X-ray"),
        ("brain_MRI", ("glioma",), "", "MR"),
        ("images", ("histology_a", "b"), "", "microscopy"),
        ("images", ("a", "b"), "Siemens | CT abdomen", "CT"),
        ("images", ("a", "octopus"), "", ""),
    ],
)
def test_kinds_of_image_by_name(folder, classes, source, expected):
    assert modality_of(Path("/data") / folder, classes, [source])[0] == expected
