"""The shortcut hunt in words."""

from __future__ import annotations

import dataclasses

from vitrail.records import Estimate, Intervention, RegionShare, ShortcutHunt
from vitrail.reporting.hunt import hunt_view
from vitrail.reporting.wording import NOT_ESTIMABLE
from vitrail.storage import read_record, write_record


def estimate(value: float | None, *, groups: int = 40) -> Estimate:
    if value is None:
        return Estimate(None, None, None, 0, 0, "no interval", "not estimable: no images")
    return Estimate(value, value - 0.05, value + 0.05, 48, groups, f"bootstrap of {groups} groups, 2,000 resamples")


def hunt() -> ShortcutHunt:
    whole = Intervention("nothing", estimate(0.9), estimate(0.8), None, {"a": estimate(0.9)})
    left = Intervention("the anatomy", estimate(0.66), estimate(0.5), estimate(0.41), {"a": estimate(0.66)})
    region = RegionShare("upper left corner", "a", estimate(0.34), estimate(0.04), None, "yes")
    return ShortcutHunt(
        model="cnn",
        package="f" * 64,
        images=("a/1.png",),
        n=48,
        with_anatomy=45,
        groups=40,
        method="grad-cam",
        regions=(region, dataclasses.replace(region, target="", share=estimate(None), above_chance="not estimable")),
        interventions=(whole, left),
        beyond_outline=estimate(0.4),
        points_outside="yes",
        survives="yes",
        verdict="found",
        message="Shortcut found: 41 % [36, 46] survives.",
        smallest_found=0.1,
        settings={"seed": 0},
        passes=7.0,
        notes=("3 images without an estimable anatomy: nothing stands out in it.",),
    )


def test_numbers_stand_with_their_interval_and_their_n():
    view = hunt_view(hunt())
    assert view.message == hunt().message and view.notes == hunt().notes
    assert view.lead == (
        "On 48 validation images in 40 groups, of which 45 have an anatomy that can be told from the ground; grad-cam maps of "
        "the true classes; 7 passes of the model per image."
    )
    (_, whole), (name, left) = view.changes.rows
    assert name == "the anatomy" and [shown.value for shown in left] == ["0.660", "50.0 %", "41.0 %"]
    assert left[2].interval == "[36.0, 46.0]" and whole[2].value == ""
    (first, numbers), (second, missing) = view.places.rows
    assert (first, second) == ("upper left corner, a", "upper left corner, all classes")
    assert [shown.value for shown in numbers] == ["34.0 %", "4.0 %", "", "yes"]
    assert missing[0].value == NOT_ESTIMABLE and missing[3].value == "not estimable"


def test_without_maps_there_is_no_table_of_places_and_without_a_hunt_nothing():
    assert hunt_view(dataclasses.replace(hunt(), regions=(), method="")).places is None
    assert hunt_view(None) is None


def test_a_hunt_is_written_and_read_back(tmp_path):
    write_record(tmp_path / "hunt.json", hunt())
    assert read_record(tmp_path / "hunt.json", ShortcutHunt) == hunt()
