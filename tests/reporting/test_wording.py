"""Numbers in words."""

from __future__ import annotations

import pytest

from vitrail.evaluation import CLASS_METRICS, OVERALL_METRICS
from vitrail.records import Estimate
from vitrail.reporting.model_section import CLASS_METRICS as SHOWN_CLASS_METRICS
from vitrail.reporting.model_section import STANDINGS
from vitrail.reporting.wording import METRICS, caveats, duration, methods, points, printable, show


def test_every_metric_of_the_evaluation_has_a_name_in_the_report() -> None:
    assert set(METRICS) == set(OVERALL_METRICS) | set(CLASS_METRICS) | {"share"}  # of what a map shows, for the shortcut hunt
    assert set(SHOWN_CLASS_METRICS) == set(CLASS_METRICS)
    assert {name for _, name in STANDINGS} <= set(OVERALL_METRICS)


def test_a_share_is_a_percentage_with_interval_n_and_groups() -> None:
    shown = show("sensitivity", Estimate(0.9615, 0.9412, 0.98, 311, 300, "bootstrap"))
    assert (shown.value, shown.interval, shown.n, shown.groups) == ("96.2 %", "[94.1, 98.0]", "n = 311", "in 300 groups")
    assert shown.spoken == "95 % interval from 94.1 to 98.0"


def test_an_area_is_a_number_of_three_decimals() -> None:
    shown = show("auc", Estimate(0.98765, 0.9, 1.0, 1234, 1234, "bootstrap"))
    assert (shown.value, shown.interval, shown.n) == ("0.988", "[0.900, 1.000]", "n = 1,234")


def test_a_number_without_interval_says_why() -> None:
    shown = show("auc", Estimate(0.5, None, None, 3, 1, "no interval", "interval not estimable: a single group"))
    assert (shown.value, shown.interval, shown.note) == ("0.500", "", "interval not estimable: a single group")
    assert (shown.n, shown.groups) == ("n = 3", "in 1 group")


def test_what_was_not_computed_is_not_a_zero() -> None:
    assert show("auc", None).value == "not estimable"
    assert show("auc", None).note == "not computed in this run"


@pytest.mark.parametrize(
    ("difference", "words"), [(0.0131, "+1.3 points"), (-0.0623, "−6.2 points"), (0.0, "0.0 points"), (-0.0001, "0.0 points")]
)
def test_differences_are_signed_points(difference: float, words: str) -> None:
    assert points(difference) == words


@pytest.mark.parametrize(("seconds", "words"), [(3.24, "3.2 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (7384, "2 h 3 min")])
def test_durations_have_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_ways_to_an_interval_are_told_once() -> None:
    made = [
        Estimate(0.5, 0.4, 0.6, 9, 9, "bootstrap of 1,251 groups, 2,000 resamples"),
        Estimate(0.5, 0.4, 0.6, 9, 9, "bootstrap of 7 groups, 2,000 resamples"),
        Estimate(1.0, 0.7, 1.0, 9, 9, "Wilson, 1 group"),
        Estimate(None, None, None, 0, 0, "no interval"),
        None,
    ]
    assert methods(made) == ("bootstrap of groups, 2,000 resamples", "Wilson, groups")


def test_caveats_are_those_of_numbers() -> None:
    known = show("auc", Estimate(0.5, 0.4, 0.6, 9, 9, "", "narrow"))
    assert caveats([[known, show("auc", None)], [known]]) == ("narrow",)


def test_text_can_always_be_written() -> None:
    assert printable("a\x00b\ud800c\n") == "a\ufffdb?c\n"
