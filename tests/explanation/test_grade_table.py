"""The grade table: what it rests on, who wins, and when it does not know."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from grading_models import SIZE, LinearModel, images

from vitrail.errors import PackageError
from vitrail.explanation.grading.baselines import centre_map, random_map
from vitrail.explanation.grading.faithfulness import Removal, removal_curves
from vitrail.explanation.grading.grade import UNTRAINED, Images, Maps, grade_methods
from vitrail.explanation.grading.means import is_above_zero, mean_estimates
from vitrail.records import GradeTable
from vitrail.storage import read_record, write_record

FEW = Removal(steps=8, cell=2)
MODEL = LinearModel()


def true_map(passes=5.0, noise=0.0):
    def method(pixels, placements, targets):
        values = MODEL.contributions(pixels, 0)
        values += noise * np.random.default_rng(0).standard_normal(values.shape).astype(np.float32) * values.std()
        errors = np.arange(len(pixels)) / 10
        return Maps(values, passes=passes, completeness_error=errors)

    return method


def random_method(pixels, placements, targets):
    return Maps(np.stack([random_map(*pair, 77) for pair in zip(pixels, placements, strict=True)]), passes=1.0)


def some(n=24, *, groups=None):
    pixels, placements = images(n)
    return Images(pixels, placements, np.ones(n, dtype=np.int64), np.arange(n) if groups is None else groups)


def table_of(methods, given=None, **options):
    return grade_methods("linear", MODEL.scores, given or some(), methods, removal=FEW, seed=0, resamples=300, **options)


def test_a_faithful_method_beats_its_baselines_and_a_random_one_does_not():
    table = table_of({"true": true_map(), "random": random_method})
    true, random = table.grade_of("true"), table.grade_of("random")
    assert true.beats_baselines == "yes" and random.beats_baselines == "no"
    assert true.difference.low > 0 and true.relevance_gain.n == 24 and true.relevance_gain.groups == 24
    assert random.relevance_gain.low < 0 < random.relevance_gain.high
    assert table.chosen == "true" and "true has the highest gain" in table.why
    assert [grade.name for grade in table.grades if grade.baseline] == [
        "random map",
        "edges of the image",
        "centre of the image",
    ]


def test_numbers_are_those_of_the_curves_of_all_images_at_once():
    given = some(11)
    table = table_of({"true": true_map()}, given)
    maps = {
        "true": MODEL.contributions(given.pixels, 0),
        "centre of the image": np.stack([centre_map(*pair) for pair in zip(given.pixels, given.placements, strict=True)]),
    }
    curves = removal_curves(MODEL.scores, given.pixels, given.placements, given.targets, maps, removal=FEW, seed=0)
    for name, one in curves.items():
        grade = table.grade_of(name)
        np.testing.assert_allclose(table.gains[name], one.relevance_gain, atol=1e-12)
        assert grade.relevance_gain.value == pytest.approx(one.relevance_gain.mean())
        assert grade.deletion_area.value == pytest.approx(one.deletion_area.mean())
        assert grade.insertion_area.value == pytest.approx(one.insertion_area.mean())
    grade = table.grade_of("true")
    assert grade.difference.value == pytest.approx(
        grade.relevance_gain.value - table.grade_of(grade.best_baseline).relevance_gain.value
    )
    assert grade.passes == 5
    assert grade.completeness_error.value == pytest.approx(np.mean([*np.arange(8), *np.arange(3)]) / 10)


def test_few_groups_say_nothing_however_many_images_there_are():
    table = table_of({"true": true_map()}, some(24, groups=np.arange(24) % 4))
    grade = table.grade_of("true")
    assert grade.beats_baselines == "not estimable" and grade.relevance_gain.groups == 4
    assert "too few images" in table.why


def test_a_score_that_never_moves_is_said_and_more_images_are_not_asked_for():
    def constant(pixels):
        return np.tile([0.3, 0.7], (len(pixels), 1))

    table = grade_methods("constant", constant, some(), {"true": true_map()}, removal=FEW, seed=0, resamples=300)
    assert table.grade_of("true").beats_baselines == "no" and table.chosen == "true"
    assert "the score does not move" in table.why and "drawn in grey" in table.why and "too few images" not in table.why


@pytest.mark.parametrize(
    ("value", "groups", "expected"),
    [(0.2, 12, "yes"), (0.0, 12, "no"), (1e-15, 12, "no"), (-0.2, 12, "no"), (0.2, 4, "not estimable")],
)
def test_a_difference_that_is_the_same_in_enough_groups_is_known(value, groups, expected):
    (same,) = mean_estimates(np.full((groups, 1), value), np.arange(groups), seed=0, resamples=100)
    assert same.low is None and is_above_zero(same) == expected


def test_the_cheaper_of_two_that_are_equal_within_the_noise_is_chosen():
    table = table_of({"dear": true_map(passes=700), "cheap": true_map(passes=1, noise=1e-3)})
    assert table.chosen == "cheap"
    assert "cheap is as good within the noise" in table.why or "cheap has the highest gain" in table.why


def test_a_method_no_better_than_on_an_untrained_network_does_not_beat_its_baselines():
    table = table_of({"true": true_map()}, untrained={"true": true_map(), "absent": true_map()})
    grade = table.grade_of("true")
    assert grade.beats_baselines != "yes"
    assert grade.best_baseline == f"{UNTRAINED}: true"
    assert table.grade_of(f"{UNTRAINED}: true").baseline and table.grade_of(f"{UNTRAINED}: absent") is None


def test_the_time_limit_ends_with_the_images_that_were_done():
    table = table_of({"true": true_map()}, minutes=0.0)
    assert table.n == 16 and len(table.gains["true"]) == 16
    assert table.notes == ("The time limit of 0 minutes was reached after 16 of 24 images.",)


def test_a_method_that_ignores_what_the_model_has_learnt_is_not_chosen():
    def untrained(pixels, placements, targets):
        return Maps(-MODEL.contributions(pixels, 0))  # the same places, absolute: the randomisation test fails

    table = table_of({"true": true_map(), "random": random_method}, untrained={"true": untrained})
    assert table.grade_of("true").randomisation.passed is False
    assert table.chosen == "random" and "of those that pass the randomisation test, which true (" in table.why
    alone = table_of({"true": true_map()}, untrained={"true": untrained})
    assert alone.chosen == "true"


def test_a_method_that_says_nothing_about_the_class_is_graded_and_not_chosen_where_there_is_another():
    table = table_of({"attention": true_map(), "random": random_method})
    gain = table.grade_of("attention").relevance_gain.value
    assert gain > table.grade_of("random").relevance_gain.value and table.chosen == "random"
    assert f"of those that depend on the class, which attention ({gain:.3f}) does not" in table.why
    assert table_of({"attention": true_map()}).chosen == "attention"


def test_the_same_seed_gives_the_same_table_apart_from_the_times_and_it_can_be_kept(tmp_path):
    tables = [table_of({"true": true_map(), "random": random_method}) for _ in range(2)]
    timeless = [
        dataclasses.replace(table, grades=tuple(dataclasses.replace(grade, seconds=0.0) for grade in table.grades))
        for table in tables
    ]
    assert timeless[0] == timeless[1]
    write_record(tmp_path / "grades.json", tables[0])
    assert read_record(tmp_path / "grades.json", GradeTable) == tables[0]


def test_masks_give_localisation_with_its_chance_level():
    given = some(12)
    masks = np.zeros((12, SIZE, SIZE), dtype=bool)
    masks[:10] = MODEL.contributions(given.pixels[:10], 0) > np.quantile(MODEL.contributions(given.pixels, 0), 0.9)
    table = table_of({"true": true_map()}, dataclasses.replace(given, masks=masks))
    found, chance = table.grade_of("true").localisation, masks[:10].mean()
    assert found.pointing.value == 1 and found.rank_accuracy.value == 1 and found.pointing.n == 10
    assert found.chance.value == pytest.approx(chance, abs=1e-6)
    assert table.grade_of("random map").localisation.rank_accuracy.value < 0.5
    assert table_of({"true": true_map()}, given).grade_of("true").localisation is None


def test_intervals_cover_the_mean_about_as_often_as_they_say():
    generator, covered = np.random.default_rng(0), 0
    for trial in range(200):
        (mean,) = mean_estimates(generator.exponential(size=(40, 1)), np.arange(40), seed=trial, resamples=200)
        covered += mean.low <= 1 <= mean.high
    assert 0.87 <= covered / 200 <= 0.98


def test_groups_are_drawn_whole():
    values = np.repeat(np.random.default_rng(0).standard_normal(12), 10)[:, np.newaxis]
    alone, together = (
        mean_estimates(values, groups, seed=0, resamples=500)[0] for groups in (np.arange(120), np.repeat(np.arange(12), 10))
    )
    assert together.high - together.low > 2 * (alone.high - alone.low)


def failing(method, *, after):
    """Return a method that fails when it is asked once more than so many times."""
    left = [after]

    def asked(pixels, placements, targets):
        left[0] -= 1
        if left[0] < 0:
            raise PackageError("toy: its map holds values that are not finite.")
        return method(pixels, placements, targets)

    return asked


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_method_that_fails_is_dropped_and_takes_nothing_else_with_it(after):
    methods = {"true": true_map(), "random": random_method}
    broken = {
        "a": failing(true_map(), after=after),
        "true": true_map(),
        "random": random_method,
        "b": failing(true_map(), after=1),
    }
    table = table_of(broken, untrained={"a": random_method, "true": random_method}, sensitivity_images=4)
    plain = table_of(methods, untrained={"true": random_method}, sensitivity_images=4)
    assert table.notes == ("a, b: not graded. toy: its map holds values that are not finite.",)
    assert [timeless(one) for one in table.grades] == [timeless(one) for one in plain.grades]
    assert (table.agreement, table.gains, table.chosen) == (plain.agreement, plain.gains, "true")


def test_where_the_untrained_network_alone_fails_that_baseline_is_dropped():
    table = table_of({"true": true_map()}, untrained={"true": failing(random_method, after=1)})
    assert table.notes == (f"{UNTRAINED}: true: not graded. toy: its map holds values that are not finite.",)
    assert table.chosen == "true" and table.grade_of("true").randomisation is None
    assert not any(one.name.startswith(UNTRAINED) for one in table.grades)


def test_where_every_method_fails_the_table_says_so_and_chooses_none():
    table = table_of({"a": failing(true_map(), after=0)})
    assert table.chosen == "" and table.agreement == () and "a: not graded" in table.notes[0]
    assert all(one.baseline for one in table.grades)


def timeless(grade):
    """Return a grade without what a clock says."""
    return dataclasses.replace(grade, seconds=0.0)
