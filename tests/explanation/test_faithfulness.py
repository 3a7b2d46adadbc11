"""Removal curves against a slow reference, closed forms, and what must not change them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from explanation_models import whole_image
from grading_models import SIZE, LinearModel, boxed, images
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vitrail.errors import UsageError
from vitrail.explanation.grading.cells import cells_of, generator_of
from vitrail.explanation.grading.faithfulness import Removal, RemovalCurves, filled, removal_curves

PIXELWISE = Removal(steps=SIZE * SIZE, cell=1)
YES = np.ones(3, dtype=np.int64)


def curves(model, pixels, placements, values, removal=PIXELWISE, targets=YES, seed=0) -> RemovalCurves:
    found = removal_curves(model.scores, pixels, placements, targets[: len(pixels)], {"map": values}, removal=removal, seed=seed)
    return found["map"]


def slow_curve(model, image, values, order, *, insertion=False):
    """One pixel at a time, one image at a time."""
    fill = np.rint(np.median(image, axis=(0, 1)))
    now = filled(image, whole_image(len(image)), "blurred") if insertion else image.copy()
    found = [model.scores(now[None])[0, 1]]
    for row, column in order:
        now[row, column] = image[row, column] if insertion else fill
        found.append(model.scores(now[None])[0, 1])
    return np.array(found)


def trapezoid(values):
    """The area by its definition: the mean height of every step, times its width."""
    return sum((one + other) / 2 for one, other in pairwise(values)) / (len(values) - 1)


@pytest.mark.parametrize("channels", [1, 3])
def test_curves_are_those_of_removing_one_pixel_after_the_other(channels):
    model = LinearModel(channels=channels)
    pixels, placements = images(2, channels=channels)
    values = np.random.default_rng(5).standard_normal((2, SIZE, SIZE)).astype(np.float32)
    found = curves(model, pixels, placements, values)
    for number in range(2):
        order = [divmod(int(place), SIZE) for place in np.argsort(-values[number].ravel())]
        most, least = (slow_curve(model, pixels[number], values, way) for way in (order, order[::-1]))
        insertion = slow_curve(model, pixels[number], values, order, insertion=True)
        np.testing.assert_allclose(found.most_first[number], most, atol=1e-12)
        np.testing.assert_allclose(found.least_first[number], least, atol=1e-12)
        np.testing.assert_allclose(found.insertion[number], insertion, atol=1e-12)
        assert found.relevance_gain[number] == pytest.approx(trapezoid(least) - trapezoid(most), abs=1e-12)
        assert found.insertion_area[number] == pytest.approx(trapezoid(insertion), abs=1e-12)


def test_no_order_beats_the_true_contributions_of_a_linear_model():
    model, (pixels, placements) = LinearModel(), images(1)
    true = model.contributions(pixels, 0)
    best = curves(model, pixels, placements, true).relevance_gain[0]
    generator = np.random.default_rng(3)
    others = {str(n): generator.permutation(true.ravel()).reshape(true.shape) for n in range(60)}
    found = removal_curves(model.scores, pixels, placements, YES[:1], others, removal=PIXELWISE, seed=0)
    assert max(one.relevance_gain[0] for one in found.values()) < best
    # In closed form: what is removed at place k of N counts for the steps after it.
    sorted_up = np.sort(true.ravel().astype(np.float64))
    places = (np.arange(len(sorted_up)) + 0.5) / len(sorted_up)
    assert best == pytest.approx(float((2 * places - 1) @ sorted_up), abs=1e-7)


def test_an_inverted_map_has_the_opposite_gain():
    model, (pixels, placements) = LinearModel(signed=True), images(3)
    values = np.random.default_rng(4).standard_normal((3, SIZE, SIZE)).astype(np.float32)
    removal = Removal(steps=7, cell=2)
    one, other = (curves(model, pixels, placements, sign * values, removal).relevance_gain for sign in (1, -1))
    assert np.abs(one).min() > 0
    np.testing.assert_allclose(one, -other, atol=1e-12)


def test_a_map_of_what_speaks_against_the_class_is_ranked_last():
    model, (pixels, placements) = LinearModel(signed=True), images(1)
    true = model.contributions(pixels, 0)
    signed = curves(model, pixels, placements, true).relevance_gain[0]
    assert curves(model, pixels, placements, np.abs(true)).relevance_gain[0] < signed


def test_constant_maps_are_random_orders_not_the_order_of_rows():
    model, (pixels, placements) = LinearModel(), images(1)
    model.weights = np.linspace(0, 1, SIZE * SIZE).reshape(SIZE, SIZE) / (255 * SIZE * SIZE)
    pixels[:] = np.where(np.arange(SIZE) % 3 == 0, 255, 0)[:, np.newaxis]  # bright columns; lower rows count for more
    flat = np.zeros((1, SIZE, SIZE), dtype=np.float32)
    raster = -np.arange(SIZE * SIZE, dtype=np.float32).reshape(1, SIZE, SIZE)
    gains = np.array([curves(model, pixels, placements, flat, seed=seed).relevance_gain[0] for seed in range(12)])
    assert len(set(gains)) == 12
    assert np.abs(gains.mean()) < 3 * gains.std() / np.sqrt(12)
    assert np.abs(gains).max() < abs(curves(model, pixels, placements, raster).relevance_gain[0])


@settings(max_examples=25, deadline=None)
@given(
    values=arrays(np.float32, (1, SIZE, SIZE), elements=st.integers(-8, 8).map(float)),
    scale=st.integers(-6, 6),
    curve=st.sampled_from([np.exp, np.cbrt, np.arctan]),
)
def test_only_the_order_of_a_map_counts_and_curves_stay_in_range(values, scale, curve):
    model, (pixels, placements) = LinearModel(signed=True), images(1)
    removal = Removal(steps=9, cell=1)
    before = curves(model, pixels, placements, values, removal)
    for other in (np.ldexp(values, scale), curve(values)):
        after = curves(model, pixels, placements, other.astype(np.float32), removal)
        np.testing.assert_array_equal(before.most_first, after.most_first)
        np.testing.assert_array_equal(before.insertion, after.insertion)
    everything = np.concatenate([before.most_first, before.least_first, before.insertion])
    assert (everything >= 0).all() and (everything <= 1).all()
    assert -1 <= before.relevance_gain[0] <= 1 and 0 <= before.deletion_area[0] <= 1


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_images_do_not_depend_on_their_company_nor_on_the_batch(batch):
    model, (pixels, placements) = LinearModel(), images(3)
    values = np.round(np.random.default_rng(4).standard_normal((3, SIZE, SIZE))).astype(np.float32)  # many ties
    removal = Removal(steps=6, cell=2, batch=batch)
    together = curves(model, pixels, placements, values, removal)
    assert max(model.calls) <= batch
    for number in range(3):
        alone = curves(model, pixels[number : number + 1], placements[:1], values[number : number + 1], removal)
        np.testing.assert_allclose(together.most_first[number], alone.most_first[0], atol=1e-15)


def test_as_many_images_are_scored_as_promised():
    model, (pixels, placements) = LinearModel(), images(2)
    values = np.random.default_rng(4).standard_normal((2, SIZE, SIZE)).astype(np.float32)
    for insertion in (True, False):
        model.calls.clear()
        removal = Removal(steps=6, cell=2, insertion=insertion)
        removal_curves(model.scores, pixels, placements, YES[:2], {"a": values, "b": -values}, removal=removal, seed=0)
        assert sum(model.calls) == 2 * removal.passes(2)


def test_padding_is_neither_removed_nor_part_of_the_fill():
    seen = []

    def scores(pixels):
        seen.append(pixels.copy())
        return np.full((len(pixels), 2), 0.5)

    pixels = np.zeros((1, SIZE, SIZE, 1), dtype=np.uint8)
    placement = boxed(SIZE, 2, 3, 9, 11)
    pixels[0, 2:9, 3:11] = 200
    values = np.random.default_rng(0).standard_normal((1, SIZE, SIZE)).astype(np.float32)
    removal_curves(scores, pixels, (placement,), YES[:1], {"map": values}, removal=Removal(steps=4, cell=1), seed=0)
    everything = np.concatenate(seen)
    assert (everything[:, 2:9, 3:11] == 200).all()  # the median of what is image is 200, not 0
    everything[:, 2:9, 3:11] = 0
    assert not everything.any()


def test_the_contrast_is_the_log_odds_against_the_strongest_other_class():
    def scores(pixels):
        return np.tile([0.2, 0.5, 0.3], (len(pixels), 1))

    pixels, placements = images(1)
    flat = np.zeros((1, SIZE, SIZE), dtype=np.float32)
    removal = Removal(steps=2, measured="contrast")
    for target, other in ((0, 0.5), (1, 0.3)):
        found = removal_curves(scores, pixels, placements, np.array([target]), {"map": flat}, removal=removal, seed=0)["map"]
        np.testing.assert_allclose(found.most_first, np.log([0.2, 0.5][target] / other))


@given(box=st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(6, SIZE), st.integers(6, SIZE)), side=st.integers(1, SIZE))
def test_cells_tile_what_is_image_and_their_means_are_means(box, side):
    cells = cells_of(boxed(SIZE, *box), side=side)
    values = np.random.default_rng(1).standard_normal((SIZE, SIZE))
    means = cells.means(values)
    for row in range(cells.shape[0]):
        for column in range(cells.shape[1]):
            chosen = np.zeros(cells.shape, dtype=bool)
            chosen[row, column] = True
            inside = values[box[0] : box[2], box[1] : box[3]][cells.spread(chosen)]
            assert means[row, column] == pytest.approx(inside.mean())
    assert cells.spread(np.ones(cells.shape, dtype=bool)).shape == (box[2] - box[0], box[3] - box[1])


def test_randomness_belongs_to_the_image_the_seed_and_the_purpose():
    pixels, _ = images(2)
    draws = [generator_of(*arguments).random() for arguments in ((pixels[0], 0, "a"), (pixels[0], 0, "a"))]
    assert draws[0] == draws[1]
    for other in ((pixels[1], 0, "a"), (pixels[0], 1, "a"), (pixels[0], 0, "b")):
        assert generator_of(*other).random() != draws[0]


@pytest.mark.parametrize(("wrong", "message"), [({"steps": 1}, "steps: must be at least 2"), ({"cell": 0}, "cell: must be")])
def test_impossible_settings_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        Removal(**wrong)
