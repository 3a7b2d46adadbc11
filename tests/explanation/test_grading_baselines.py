"""Maps that know nothing of the model, and single maps held against them."""

from __future__ import annotations

import numpy as np
import pytest
from explanation_models import whole_image
from grading_models import SIZE, LinearModel, boxed, images

from vitrail.explanation.grading.baselines import BASELINE_MAPS, baseline_maps, centre_map, edge_map, random_map
from vitrail.explanation.grading.faithfulness import Removal, removal_curves
from vitrail.explanation.grading.means import mean_estimates
from vitrail.explanation.grading.one_map import grade_maps
from vitrail.records import Estimate, MapGrade, MethodGrade

FEW = Removal(steps=8, cell=1)


def grade_map(scores, pixels, placement, values, *, target, method, of_method=None, removal, seed) -> MapGrade:
    known = {} if of_method is None else {method: of_method}
    given = {method: values}
    return grade_maps(scores, pixels, placement, given, target=target, of_methods=known, removal=removal, seed=seed)[method]


def test_random_maps_have_a_gain_of_zero_on_average():
    model, (pixels, placements) = LinearModel(), images(60)
    maps = {"random": np.stack([random_map(one, placements[0], 0) for one in pixels])}
    targets = np.ones(60, dtype=np.int64)
    found = removal_curves(model.scores, pixels, placements, targets, maps, removal=FEW, seed=0)["random"]
    (mean,) = mean_estimates(found.relevance_gain[:, np.newaxis], np.arange(60), seed=0, resamples=500)
    assert mean.low < 0 < mean.high
    assert found.relevance_gain.std() > 0


def test_edges_are_where_brightness_changes_and_not_at_the_padding():
    pixels = np.zeros((SIZE, SIZE, 1), dtype=np.uint8)
    placement = boxed(SIZE, 2, 2, 10, 10)
    pixels[2:10, 2:6], pixels[2:10, 6:10] = 50, 150
    values = edge_map(pixels, placement)
    assert (values[2:10, 5:7] == 400).all()  # (1 + 2 + 1) times the step
    values[2:10, 5:7] = 0
    assert not values.any()


def test_the_centre_is_the_centre_of_what_is_image():
    values = centre_map(np.zeros((SIZE, SIZE, 1), dtype=np.uint8), boxed(SIZE, 0, 1, 5, 10))
    assert np.unravel_index(values.argmax(), values.shape) == (2, 5)
    np.testing.assert_allclose(values[2, 1:10], values[2, 1:10][::-1])
    assert not values[:, :1].any() and not values[5:].any() and values.max() <= 1


def test_every_baseline_stays_inside_the_image_and_is_the_same_again():
    pixels, _ = images(2)
    placements = (whole_image(SIZE), boxed(SIZE, 3, 0, 9, SIZE))
    maps = baseline_maps(pixels, placements, seed=3)
    assert set(maps) == set(BASELINE_MAPS)
    again = baseline_maps(pixels[1:], placements[1:], seed=3)
    for name, values in maps.items():
        assert values.dtype == np.float32 and not values[1, :3].any() and not values[1, 9:].any()
        np.testing.assert_array_equal(values[1], again[name][0])


def test_the_true_contributions_pass_and_their_opposite_does_not():
    model, (pixels, placements) = LinearModel(), images(1)
    true = model.contributions(pixels, 0)[0]
    given = {"target": 1, "method": "true", "removal": FEW, "seed": 0}
    good = grade_map(model.scores, pixels[0], placements[0], true, **given)
    bad = grade_map(model.scores, pixels[0], placements[0], -true, **given)
    assert good.passed and good.reason == "" and good.share_beaten == 1
    assert not bad.passed and bad.share_beaten == 0 and "it beats 0 of 20 random maps" in bad.reason
    assert bad.relevance_gain == pytest.approx(-good.relevance_gain)
    assert len(good.random_gains) == 20 and sum(good.random_gains) == pytest.approx(0)


def test_the_opposite_of_a_random_map_has_the_opposite_gain():
    """What lets ten maps stand for twenty."""
    model, (pixels, placements) = LinearModel(signed=True), images(1)
    values = random_map(pixels[0], placements[0], 0)[np.newaxis]
    maps = {"one": values, "other": -values}
    found = removal_curves(model.scores, pixels, placements, np.array([1]), maps, removal=Removal(steps=7, cell=2), seed=0)
    assert found["one"].relevance_gain[0] == pytest.approx(-found["other"].relevance_gain[0], abs=1e-15)


def test_chance_passes_seldom():
    """An unrelated map beats 19 of 20 random ones, ten pairs of opposite gains, in 1 of 11 images."""
    model, (pixels, placements) = LinearModel(), images(300)
    passed = [
        grade_map(
            model.scores, one, placements[0], random_map(one, placements[0], 99), target=1, method="x", removal=FEW, seed=0
        ).passed
        for one in pixels
    ]
    assert np.mean(passed) == pytest.approx(1 / 11, abs=3 * 0.017)  # three standard errors of a share of 300


def test_a_method_that_fails_elsewhere_makes_no_good_map_here():
    model, (pixels, placements) = LinearModel(), images(1)
    true = model.contributions(pixels, 0)[0]
    gain = Estimate(0.1, 0.0, 0.2, 40, 40, "")
    grade = MethodGrade("true", False, gain, gain, best_baseline="centre of the image", beats_baselines="no")
    found = grade_map(model.scores, pixels[0], placements[0], true, target=1, method="true", of_method=grade, removal=FEW, seed=0)
    assert found.passed
    assert "On 40 other images, true maps of this model do not beat" in found.reason and "centre of the image" in found.reason
