"""The grades of explanations in words."""

from __future__ import annotations

import dataclasses

from vitrail.records import Estimate, GradeTable, LocalisationGrade, MapAgreement, MethodGrade, RandomisationTest
from vitrail.reporting.grades import COLUMNS, grade_view
from vitrail.reporting.wording import NOT_ESTIMABLE


def estimate(value: float, *, groups: int = 40) -> Estimate:
    return Estimate(value, value - 0.05, value + 0.05, 48, groups, f"bootstrap of {groups} groups, 2,000 resamples")


def table() -> GradeTable:
    test = RandomisationTest(("all weights",), (0.61,), estimate(0.61), 0.3, False)
    grades = (
        MethodGrade(
            "grad-cam",
            False,
            estimate(0.123),
            estimate(0.4),
            estimate(0.7),
            best_baseline="edges of the image",
            difference=estimate(0.01),
            beats_baselines="no",
            completeness_error=estimate(0.055),
            sensitivity=estimate(0.25),
            randomisation=test,
            passes=1.0,
        ),
        MethodGrade("edges of the image", True, estimate(0.113), estimate(0.45), None),
    )
    return GradeTable(
        model="cnn",
        package="f" * 64,
        images=(),
        n=48,
        groups=40,
        settings={"sensitivity_radius": 5, "sensitivity_samples": 3},
        grades=grades,
        agreement=(MapAgreement("grad-cam", "occlusion", 0.4, 0.1, 1 / 3, 48), MapAgreement("a", "b", None, None, None, 0)),
        gains={},
        chosen="grad-cam",
        why="grad-cam has the highest gain (0.123).",
        notes=("rise: not graded.",),
    )


def test_numbers_stand_with_their_interval_and_their_n():
    view = grade_view(table())
    assert view.lead == "On 48 validation images in 40 groups: grad-cam has the highest gain (0.123)."
    assert view.columns == COLUMNS and [name for name, _ in view.rows] == ["grad-cam", "edges of the image"]
    gain, deletion, insertion, difference, beats, passes = view.rows[0][1]
    assert (gain.value, gain.interval, gain.n) == ("0.123", "[0.073, 0.173]", "n = 48")
    assert (deletion.value, insertion.value, difference.value) == ("0.400", "0.700", "0.010")
    assert (beats.value, passes.value) == ("no", "1")
    baseline = view.rows[1][1]
    assert baseline[2].value == NOT_ESTIMABLE and baseline[3].value == "" and baseline[4].value == "baseline"
    assert view.methods == ("bootstrap of groups, 2,000 resamples",)


def test_what_is_not_in_the_table_is_said_in_sentences():
    text = " ".join(grade_view(table()).remarks)
    for piece in (
        "changes by up to 25% of its size (3 changes of 48 images)",
        "miss the sum that they promise by 5.5%",
        "randomisation test failed",
        "rank correlation of 0.61",
        "rise: not graded.",
    ):
        assert piece in text
    assert grade_view(table()).agreement == (
        "grad-cam and occlusion: 0.33 (rank correlation 0.40, of different images 0.10; n = 48)",
    )


def test_masks_add_their_columns():
    found = LocalisationGrade(estimate(0.5), estimate(0.3), estimate(0.4), estimate(0.1))
    first, *others = table().grades
    with_masks = dataclasses.replace(table(), grades=(dataclasses.replace(first, localisation=found), *others))
    view = grade_view(with_masks)
    assert len(view.columns) == len(COLUMNS) + 3
    assert [shown.value for shown in view.rows[0][1][-3:]] == ["0.500", "0.300", "0.100"]
    assert {shown.value for shown in view.rows[1][1][-3:]} == {NOT_ESTIMABLE}


def test_without_grades_there_is_nothing_to_show():
    assert grade_view(None) is None
    assert grade_view(dataclasses.replace(table(), grades=())) is None


def test_where_nothing_could_be_graded_the_reason_is_all_that_is_said():
    empty = dataclasses.replace(table(), n=0, grades=(), agreement=(), gains={}, chosen="", why="", notes=("Not estimable. So.",))
    view = grade_view(empty)
    assert (view.lead, view.rows) == ("Not estimable. So.", ()) and grade_view(dataclasses.replace(empty, notes=())) is None
