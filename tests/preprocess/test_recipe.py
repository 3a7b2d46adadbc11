import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.datasets import Decoded
from vitrail.preprocess import make_recipe, normalise, prepare
from vitrail.records import Recipe
from vitrail.study import PreprocessSettings


def recipe_of(size=32, colour="grey", crop_margins=False, keep_aspect=False, scaling="unit", **statistics):
    return Recipe(size, colour, crop_margins, keep_aspect, scaling, **statistics)


def decoded(pixels, *, height=None, width=None):
    return Decoded(pixels=pixels, height=height or pixels.shape[0], width=width or pixels.shape[1], format="PNG", mode="L")


def plane(height, width, *, samples=None):
    """A plane over the unit square, as an image of ``samples`` pixels: its value at every place is known."""
    tall, wide = samples or (height, width)
    rows, columns = (np.arange(tall) + 0.5) / tall, (np.arange(wide) + 0.5) / wide
    return np.rint(40 + 120 * rows[:, None] + 80 * columns[None, :]).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------- from settings


def test_what_the_settings_leave_open_is_filled_in():
    assert make_recipe(PreprocessSettings(), size=96) == Recipe(96, "grey", False, False, "unit")
    assert make_recipe(PreprocessSettings(size=48, colour="rgb", crop_margins=True, keep_aspect=True), size=96) == Recipe(
        48, "rgb", True, True, "unit"
    )


@pytest.mark.parametrize(
    ("colour", "mean", "expected"),
    [
        ("rgb", (0.4, 0.5, 0.6), (0.4, 0.5, 0.6)),
        ("grey", (0.4, 0.5, 0.6), (0.5,)),
        ("rgb", (0.3,), (0.3, 0.3, 0.3)),
        ("rgb", (), (0.5, 0.5, 0.5)),
        ("grey", (), (0.5,)),
    ],
)
def test_channel_statistics_fit_the_colour(colour, mean, expected):
    asked = PreprocessSettings(scaling="channel", colour=colour)
    recipe = make_recipe(asked, size=32, mean=mean, deviation=mean)
    assert recipe.mean == pytest.approx(expected) and recipe.deviation == pytest.approx(expected)


def test_statistics_are_dropped_where_they_are_not_used():
    recipe = make_recipe(PreprocessSettings(scaling="minmax"), size=32, mean=(0.4, 0.5, 0.6), deviation=(1.0, 1.0, 1.0))
    assert recipe.mean == () and recipe.deviation == ()


# ---------------------------------------------------------------------------------------------------- pixels


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(64, 200),
    width=st.integers(64, 200),
    size=st.integers(16, 64),
    keep_aspect=st.booleans(),
    draft=st.sampled_from([1, 2]),
)
def test_every_pixel_of_the_input_comes_from_where_the_placement_says(height, width, size, keep_aspect, draft):
    samples = (-(-height // draft), -(-width // draft))
    pixels, placement = prepare(
        decoded(plane(height, width, samples=samples), height=height, width=width),
        recipe_of(size=size, keep_aspect=keep_aspect),
    )
    assert (placement.height, placement.width) == (height, width)
    assert (placement.top, placement.left, placement.bottom, placement.right) == (0, 0, height, width)
    inner = pixels[placement.inner_top : placement.inner_bottom, placement.inner_left : placement.inner_right, 0]
    down, across = (np.arange(inner.shape[0]) + 0.5) / inner.shape[0], (np.arange(inner.shape[1]) + 0.5) / inner.shape[1]
    expected = 40 + 120 * down[:, None] + 80 * across[None, :]
    # At the border the antialiasing of the resize has only one side to draw from.
    np.testing.assert_allclose(inner[1:-1, 1:-1], expected[1:-1, 1:-1], atol=2)
    assert int(pixels.sum()) == int(inner.sum()), "padding is black"
    if keep_aspect:
        scale = size / max(height, width)
        assert abs(inner.shape[0] - height * scale) <= 0.5 and abs(inner.shape[1] - width * scale) <= 0.5
    else:
        assert inner.shape == (size, size)


@settings(deadline=None, max_examples=40)
@given(data=st.data(), draft=st.sampled_from([1, 2, 4]), keep_aspect=st.booleans())
def test_margins_are_cut_around_the_object_in_the_originals_pixels(data, draft, keep_aspect):
    height, width = data.draw(st.integers(40, 60)), data.draw(st.integers(40, 60))  # as decoded
    tall, wide = data.draw(st.integers(12, 30)), data.draw(st.integers(12, 30))
    top, left = data.draw(st.integers(0, height - tall)), data.draw(st.integers(0, width - wide))
    pixels = np.zeros((height, width), np.uint8)
    pixels[top : top + tall, left : left + wide] = plane(tall, wide)
    # libjpeg rounds the sides of a draft up: the original may be up to draft - 1 pixels smaller than draft times as many.
    short = data.draw(st.integers(0, draft - 1))
    image = decoded(pixels, height=draft * height - short, width=draft * width - short)

    prepared, placement = prepare(image, recipe_of(size=24, crop_margins=True, keep_aspect=keep_aspect))

    box = np.array([placement.top, placement.left, placement.bottom, placement.right])
    assert np.abs(box - draft * np.array([top, left, top + tall, left + wide])).max() <= draft
    assert 0 <= box[0] < box[2] <= image.height and 0 <= box[1] < box[3] <= image.width
    inner = prepared[placement.inner_top : placement.inner_bottom, placement.inner_left : placement.inner_right, 0]
    assert inner[1:-1, 1:-1].min() > 35, "nothing of the margin is left"  # at the border it is interpolated with
    down, across = (np.arange(inner.shape[0]) + 0.5) / inner.shape[0], (np.arange(inner.shape[1]) + 0.5) / inner.shape[1]
    expected = 40 + 120 * down[:, None] + 80 * across[None, :]
    np.testing.assert_allclose(inner[2:-2, 2:-2], expected[2:-2, 2:-2], atol=3)


@pytest.mark.parametrize(
    ("colour", "crop_margins", "keep_aspect", "shape"),
    list(itertools.product(["grey", "rgb"], [False, True], [False, True], [(50, 90), (90, 50, 3), (1, 400), (7, 7, 3)])),
)
def test_shape_and_type_hold_for_every_recipe_and_image(colour, crop_margins, keep_aspect, shape):
    picture = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    before = picture.copy()
    pixels, placement = prepare(decoded(picture), recipe_of(20, colour, crop_margins, keep_aspect))
    assert pixels.shape == (20, 20, 1 if colour == "grey" else 3) and pixels.dtype == np.uint8
    assert 0 <= placement.inner_top < placement.inner_bottom <= 20
    np.testing.assert_array_equal(picture, before)


def test_grey_is_the_luma_of_colour_and_colour_repeats_grey():
    picture = np.empty((30, 30, 3), np.uint8)
    picture[:] = (200, 100, 50)
    grey, _ = prepare(decoded(picture), recipe_of(16))
    assert np.abs(grey - (0.299 * 200 + 0.587 * 100 + 0.114 * 50)).max() <= 1  # ITU-R BT.601
    colour, _ = prepare(decoded(plane(30, 30)), recipe_of(16, "rgb"))
    assert np.ptp(colour.astype(int), axis=2).max() == 0 and np.ptp(colour[..., 0].astype(int)) > 100


# ---------------------------------------------------------------------------------------------------- scaling


def explicit(pixels, recipe):
    """The four scalings, one image and one channel at a time, in double precision."""
    result = np.empty((len(pixels), recipe.channels, recipe.size, recipe.size))
    for image, values in zip(result, pixels.astype(np.float64), strict=True):
        for channel in range(recipe.channels):
            plane = values[:, :, channel]
            if recipe.scaling == "unit":
                image[channel] = plane / 255
            elif recipe.scaling == "channel":
                image[channel] = (plane / 255 - recipe.mean[channel]) / recipe.deviation[channel]
            elif recipe.scaling == "minmax":
                image[channel] = (plane - values.min()) / (values.max() - values.min())
            else:
                image[channel] = (plane - values.mean()) / values.std()
    return result


STATISTICS = {"rgb": {"mean": (0.4, 0.5, 0.6), "deviation": (0.2, 0.3, 0.25)}, "grey": {"mean": (0.45,), "deviation": (0.2,)}}


@pytest.mark.parametrize("scaling", ["unit", "minmax", "standardise", "channel"])
@pytest.mark.parametrize("colour", ["grey", "rgb"])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_scalings_are_what_they_say(scaling, colour, kind):
    recipe = recipe_of(12, colour, scaling=scaling, **(STATISTICS[colour] if scaling == "channel" else {}))
    generator = np.random.default_rng(3)
    pixels = np.stack([generator.integers(low, high, (12, 12, recipe.channels)) for low, high in ((0, 256), (100, 103))])
    pixels = pixels.astype(kind)
    if kind is np.float32:
        pixels += generator.uniform(0, 0.9, pixels.shape).astype(np.float32)  # augmented pixels lie between the levels

    planes = normalise(pixels, recipe)

    assert planes.shape == (2, recipe.channels, 12, 12) and planes.dtype == np.float32 and planes.flags.c_contiguous
    np.testing.assert_allclose(planes, explicit(pixels, recipe), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scaling", ["minmax", "standardise"])
@pytest.mark.parametrize("level", [0, 1, 77, 255])
def test_a_constant_image_becomes_zeros(scaling, level):
    pixels = np.full((2, 64, 64, 3), level, np.uint8)
    assert (normalise(pixels, recipe_of(64, "rgb", scaling=scaling)) == 0).all()


@pytest.mark.parametrize("scaling", ["unit", "minmax", "standardise", "channel"])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_scaling_leaves_the_callers_pixels_alone(scaling, kind, channels):
    colour = "grey" if channels == 1 else "rgb"
    recipe = recipe_of(8, colour, scaling=scaling, **(STATISTICS[colour] if scaling == "channel" else {}))
    # Channels first in memory, as the augmentation gives them: the transposed array is contiguous and tempts to no copy.
    pixels = np.random.default_rng(4).integers(0, 256, (3, channels, 8, 8)).astype(kind).transpose(0, 2, 3, 1)
    before = pixels.copy()
    normalise(pixels, recipe)
    np.testing.assert_array_equal(pixels, before)


def test_images_of_a_batch_do_not_touch_one_another():
    pixels = np.random.default_rng(5).integers(0, 256, (4, 8, 8, 1), dtype=np.uint8)
    pixels[1] //= 4
    recipe = recipe_of(8, scaling="standardise")
    alone = np.concatenate([normalise(image[None], recipe) for image in pixels])
    np.testing.assert_array_equal(normalise(pixels, recipe), alone)
