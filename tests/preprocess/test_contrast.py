import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter
from skimage.exposure import cumulative_distribution, equalize_adapthist

from vitrail.datasets import Decoded
from vitrail.errors import StudyError
from vitrail.preprocess import make_recipe, normalise, prepare
from vitrail.preprocess.contrast import adjusted, equalised, locally_equalised, windowed
from vitrail.records import Recipe
from vitrail.storage import read_record, write_record
from vitrail.study import FAMILIES, PreprocessSettings, Study

PLAIN = Recipe(48, "grey", False, True, "unit")
EVERYTHING = dataclasses.replace(PLAIN, colour="rgb", window=(1, 98.5), contrast="clahe", clip_limit=0.03, tiles=4)
RECIPES = st.builds(
    Recipe,
    size=st.integers(16, 48),
    colour=st.sampled_from(["grey", "rgb"]),
    crop_margins=st.booleans(),
    keep_aspect=st.booleans(),
    scaling=st.just("unit"),
    window=st.none() | st.tuples(st.floats(0, 40), st.floats(60, 100)),
    contrast=st.sampled_from(["none", "clahe", "equalise"]),
    clip_limit=st.floats(1e-4, 1),
    tiles=st.integers(1, 32),
)


def study(**settings_):
    return Study.from_mapping({"data": {"path": "/images"}, **settings_})


def decoded(pixels):
    return Decoded(pixels=pixels, height=pixels.shape[0], width=pixels.shape[1], format="PNG", mode="L")


def scene(height, width, *, channels=1, seed=0):
    """Smooth blobs with some noise, on black: grey values of every frequency."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 200, (6, 6, 3) if channels == 3 else (6, 6), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    noisy = smooth + generator.normal(0, 8, smooth.shape)
    noisy[: height // 3, : width // 3] = 0
    return np.clip(noisy, 0, 255).astype(np.uint8)


# ---------------------------------------------------------------------------------------------------- window


@pytest.mark.parametrize(("low", "high"), [(0.5, 99.5), (0, 100), (20, 60), (0, 37.3)])
def test_a_window_makes_its_percentiles_black_and_white(low, high):
    grey = scene(37, 53)
    ordered = np.sort(grey.ravel()).astype(float)
    places = np.array([low, high]) / 100 * (ordered.size - 1)
    dark, bright = np.interp(places, np.arange(ordered.size), ordered)

    changed = windowed(grey, low, high)

    expected = np.clip(255 * (grey.astype(float) - dark) / (bright - dark), 0, 255)
    assert np.abs(changed - expected).max() <= 0.5 + 1e-9
    assert changed.min() == 0 and changed.max() == 255


def test_a_window_within_one_grey_value_changes_nothing():
    grey = np.full((20, 20), 90, np.uint8)
    grey[0, 0], grey[1, 1] = 0, 255
    np.testing.assert_array_equal(windowed(grey, 5, 95), grey)


# ---------------------------------------------------------------------------------------------------- equalise, clahe


def test_equalised_is_the_cumulative_distribution_from_black_to_white():
    grey = scene(60, 44)
    shares, levels = cumulative_distribution(grey)  # scikit-image's
    lifted = np.interp(grey, levels, shares)
    expected = 255 * (lifted - lifted.min()) / (lifted.max() - lifted.min())
    assert np.abs(equalised(grey) - expected).max() <= 0.5 + 1e-9
    assert (equalised(grey)[:20, :14] == 0).all(), "a black background stays black"


def clipped(histogram, limit):
    """Cut a histogram at a limit and spread the excess evenly over the bins below it, in exact numbers."""
    low, high = 0.0, float(limit)
    for _ in range(60):  # the cut and the spread amount fit together at one height: found by halving
        middle = (low + high) / 2
        kept = np.minimum(np.minimum(histogram, limit) + middle, limit).sum()
        low, high = (low, middle) if kept > histogram.sum() else (middle, high)
    return np.minimum(np.minimum(histogram, limit) + low, limit)


def explicit_clahe(grey, *, tile, share):
    """CLAHE one pixel at a time: four neighbouring tiles' mappings, weighted by the distance to their centres."""
    rows, columns = grey.shape[0] // tile, grey.shape[1] // tile
    maps = np.empty((rows, columns, 256))
    for row, column in np.ndindex(rows, columns):
        part = grey[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
        counts = clipped(np.bincount(part.ravel(), minlength=256).astype(float), share * tile**2)
        maps[row, column] = 255 * (np.cumsum(counts) - counts[0]) / (counts.sum() - counts[0])
    result = np.empty(grey.shape)
    for y, x in np.ndindex(*grey.shape):
        down, across = (y + 0.5) / tile - 0.5, (x + 0.5) / tile - 0.5
        top, left = int(np.floor(down)), int(np.floor(across))
        result[y, x] = sum(
            (1 - abs(down - row)) * (1 - abs(across - column))
            * maps[min(max(row, 0), rows - 1), min(max(column, 0), columns - 1), grey[y, x]]
            for row in (top, top + 1)
            for column in (left, left + 1)
        )  # fmt: skip
    return result


@pytest.mark.parametrize("share", [1.0, 0.05, 0.01])
@pytest.mark.parametrize("tiles", [1, 2, 3])
def test_clahe_is_an_interpolation_between_the_clipped_histograms_of_tiles(tiles, share):
    grey = scene(24 * 2, 24 * 2)
    grey[:16, :16] = np.maximum(grey[:16, :16], np.arange(16, dtype=np.uint8))  # no tile is all black
    expected = explicit_clahe(grey, tile=48 // tiles, share=share)
    changed = locally_equalised(grey, clip_limit=share, tiles=tiles)
    assert np.abs(changed - expected).max() <= 0.5 + 1e-6
    assert np.abs(grey.astype(float) - expected).mean() > 2, "there was something to do"


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 99),
    height=st.integers(9, 60),
    width=st.integers(9, 60),
    limit=st.floats(1e-5, 1),
    tiles=st.integers(1, 32),
)
def test_clahe_keeps_black_and_white_and_changes_nothing_at_the_smallest_limit(seed, height, width, limit, tiles):
    grey = scene(height, width, seed=seed)
    grey[-1, -1] = 255
    changed = locally_equalised(grey, clip_limit=limit, tiles=tiles)
    assert (changed[grey == 0] == 0).all() and (changed[grey == 255] == 255).all()
    if limit <= 1 / 256:
        np.testing.assert_array_equal(changed, grey)


def test_clahe_is_close_to_scikit_images():
    grey = scene(128, 128)
    grey[-1, -1] = 255  # scikit-image stretches to the full range
    theirs = 255 * equalize_adapthist(grey, kernel_size=32, clip_limit=0.02)
    ours = locally_equalised(grey, clip_limit=0.02, tiles=4)
    assert np.corrcoef(theirs.ravel(), ours.ravel())[0, 1] > 0.98
    assert np.abs(ours - theirs).mean() < 0.5 * np.abs(grey - theirs).mean()


def test_a_smaller_limit_is_gentler():
    grey = scene(64, 64) // 4 + 90
    grey[0, 0], grey[-1, -1] = 0, 255
    spread = [locally_equalised(grey, clip_limit=limit, tiles=4)[5:-5, 5:-5].std() for limit in (0.005, 0.02, 1.0)]
    assert spread == sorted(spread) and spread[2] > 2 * spread[0]


def test_tiles_are_never_too_small_for_a_histogram():
    grey = scene(16, 16)
    np.testing.assert_array_equal(
        locally_equalised(grey, clip_limit=0.1, tiles=32), locally_equalised(grey, clip_limit=0.1, tiles=2)
    )


# ---------------------------------------------------------------------------------------------------- colour


@pytest.mark.parametrize("step", [{"window": (2.0, 98.0)}, {"contrast": "clahe"}, {"contrast": "equalise"}])
def test_colour_changes_its_luminance_and_keeps_its_chroma(step):
    picture = (scene(40, 40, channels=3) // 6 + 100).astype(np.uint8)  # pale: nothing is cut off at 0 or 255
    picture[0, 0], picture[0, 1] = 20, 235
    recipe = dataclasses.replace(PLAIN, colour="rgb", **step)
    before, after = picture.astype(float), adjusted(picture, recipe).astype(float)
    luminance = np.asarray(Image.fromarray(picture).convert("L"))
    expected = adjusted(luminance, dataclasses.replace(PLAIN, **step)).astype(float)
    inside = (after > 0).all(axis=2) & (after < 255).all(axis=2)
    assert inside.mean() > 0.5
    np.testing.assert_allclose((after @ [0.299, 0.587, 0.114])[inside], expected[inside], atol=1)
    chroma = [image - (image @ [0.299, 0.587, 0.114])[:, :, None] for image in (before, after)]
    np.testing.assert_allclose(chroma[1][inside], chroma[0][inside], atol=1e-9)


@pytest.mark.parametrize("contrast", ["none", "clahe", "equalise"])
def test_a_grey_image_is_the_same_in_grey_and_in_colour(contrast):
    grey = dataclasses.replace(PLAIN, window=(1.0, 99.0), contrast=contrast)
    image = decoded(scene(70, 50))
    colour, _ = prepare(image, dataclasses.replace(grey, colour="rgb"))
    np.testing.assert_array_equal(colour, np.repeat(prepare(image, grey)[0], 3, axis=2))


# ---------------------------------------------------------------------------------------------------- the recipe as a whole


@settings(deadline=None, max_examples=60)
@given(recipe=RECIPES, height=st.integers(1, 70), width=st.integers(1, 70), coloured=st.booleans(), seed=st.integers(0, 99))
def test_every_recipe_keeps_shape_type_place_and_black_padding(recipe, height, width, coloured, seed):
    picture = np.random.default_rng(seed).integers(40, 256, (height, width, 3) if coloured else (height, width), dtype=np.uint8)
    before = picture.copy()

    pixels, placement = prepare(decoded(picture), recipe)

    assert pixels.shape == (recipe.size, recipe.size, recipe.channels) and pixels.dtype == np.uint8
    np.testing.assert_array_equal(picture, before)
    np.testing.assert_array_equal(prepare(decoded(picture), recipe)[0], pixels)
    assert placement == prepare(decoded(picture), dataclasses.replace(recipe, window=None, contrast="none"))[1]
    pixels[placement.inner_top : placement.inner_bottom, placement.inner_left : placement.inner_right] = 0
    assert not pixels.any(), "padding is black"


@settings(deadline=None, max_examples=60)
@given(recipe=RECIPES, level=st.integers(0, 255), height=st.integers(1, 70), width=st.integers(1, 70), coloured=st.booleans())
def test_a_constant_image_stays_constant(recipe, level, height, width, coloured):
    picture = np.full((height, width, 3) if coloured else (height, width), level, np.uint8)
    if coloured:
        picture[..., 1] //= 2
    plain = dataclasses.replace(recipe, window=None, contrast="none")
    np.testing.assert_array_equal(prepare(decoded(picture), recipe)[0], prepare(decoded(picture), plain)[0])


@pytest.mark.parametrize("step", [{"window": (5.0, 90.0)}, {"contrast": "clahe"}, {"contrast": "equalise"}])
def test_padding_has_no_say_in_the_steps(step):
    recipe = dataclasses.replace(PLAIN, **step)
    wide = scene(24, 48)  # at its own size: nothing is resized
    pixels, _ = prepare(decoded(wide), recipe)
    np.testing.assert_array_equal(pixels[12:36, :, 0], adjusted(wide, recipe))
    assert (pixels[12:36, :, 0] != wide).any()


def test_the_window_comes_before_the_contrast():
    recipe = dataclasses.replace(PLAIN, window=(10.0, 80.0), contrast="clahe", clip_limit=0.05, tiles=3)
    grey = scene(48, 48)
    expected = locally_equalised(windowed(grey, 10, 80), clip_limit=0.05, tiles=3)
    np.testing.assert_array_equal(prepare(decoded(grey), recipe)[0][..., 0], expected)
    other = windowed(locally_equalised(grey, clip_limit=0.05, tiles=3), 10, 80)
    assert (other != expected).any()


# ---------------------------------------------------------------------------------------------------- fingerprints and packages


@pytest.mark.parametrize(
    ("recipe", "of_pixels", "whole"),
    [  # as they were before windows and contrast existed
        (Recipe(96, "grey", False, False, "standardise"), "00b25a2d3550dd41", "5f5180d4461e8198"),
        (
            Recipe(224, "rgb", False, True, "channel", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            "6b121906dd37cbb6",
            "6b9d4352d564c75d",
        ),
        (Recipe(64, "grey", True, False, "unit", clip_limit=0.5, tiles=2), "0a06aed8606301ff", "82963744eb5e68d2"),
    ],
)
def test_recipes_without_the_steps_keep_their_fingerprints(recipe, of_pixels, whole):
    assert (recipe.pixels_fingerprint, recipe.fingerprint) == (of_pixels, whole)


def test_fingerprints_change_exactly_when_pixels_do():
    image = decoded(scene(70, 60))
    clahe = dataclasses.replace(PLAIN, contrast="clahe")
    changes = [
        PLAIN,
        dataclasses.replace(PLAIN, window=(1, 99)),
        dataclasses.replace(PLAIN, window=(1, 95)),
        dataclasses.replace(PLAIN, window=(30, 99)),
        dataclasses.replace(PLAIN, contrast="equalise"),
        clahe,
        dataclasses.replace(clahe, clip_limit=0.1),
        dataclasses.replace(clahe, tiles=3),
        dataclasses.replace(clahe, window=(1, 99)),
    ]
    assert len({recipe.pixels_fingerprint for recipe in changes}) == len(changes)
    assert len({recipe.fingerprint for recipe in changes}) == len(changes)
    assert len({prepare(image, recipe)[0].tobytes() for recipe in changes}) == len(changes)
    for same in (
        (dataclasses.replace(PLAIN, window=(1, 99)), dataclasses.replace(PLAIN, window=(1.0, 99.0))),
        (PLAIN, dataclasses.replace(PLAIN, clip_limit=0.3, tiles=2)),
        (dataclasses.replace(PLAIN, contrast="equalise"), dataclasses.replace(PLAIN, contrast="equalise", tiles=2)),
    ):
        assert same[0].pixels_fingerprint == same[1].pixels_fingerprint


def test_a_recipe_with_every_step_comes_back_from_a_file_and_gives_equal_pixels(tmp_path):
    write_record(tmp_path / "recipe.json", EVERYTHING)
    again = read_record(tmp_path / "recipe.json", Recipe)
    assert again == EVERYTHING and again.fingerprint == EVERYTHING.fingerprint
    image = decoded(scene(70, 50, channels=3))
    pixels = prepare(image, EVERYTHING)[0]
    np.testing.assert_array_equal(prepare(image, again)[0], pixels)
    np.testing.assert_array_equal(normalise(pixels[None], again), normalise(pixels[None], EVERYTHING))


def test_a_recipe_of_an_older_package_has_none_of_the_steps():
    old = {
        "size": 48,
        "colour": "grey",
        "crop_margins": False,
        "keep_aspect": True,
        "scaling": "unit",
        "mean": [],
        "deviation": [],
    }
    assert TypeAdapter(Recipe).validate_python(old) == PLAIN


# ---------------------------------------------------------------------------------------------------- settings


def test_settings_become_a_recipe():
    asked = PreprocessSettings(window=(1, 99), contrast="clahe", clip_limit=0.02, tiles=6)
    recipe = make_recipe(asked, size=32)
    assert (recipe.window, recipe.contrast, recipe.clip_limit, recipe.tiles) == ((1, 99), "clahe", 0.02, 6)
    idle = make_recipe(PreprocessSettings(window="none", contrast="equalise", clip_limit=0.02, tiles=6), size=32)
    assert idle == make_recipe(PreprocessSettings(contrast="equalise"), size=32)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_asks_for_the_steps_unasked(family):
    made = study(models=[family])
    recipe = make_recipe(made.preprocess_for(made.models[0]), size=32)
    assert recipe.window is None and recipe.contrast == "none"


def test_one_model_can_do_without_the_window_of_the_study():
    made = study(
        preprocess={"window": [1, 99], "contrast": "clahe"},
        models=["forest", {"model": "cnn", "preprocess": {"window": "none"}}],
    )
    forest, cnn = (make_recipe(made.preprocess_for(model), size=32) for model in made.models)
    assert (forest.window, cnn.window) == ((1, 99), None)
    assert (forest.contrast, cnn.contrast) == ("clahe", "clahe")
    assert Study.from_mapping(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    "window", [[99, 1], [5, 5], [-1, 99], [1, 101], [1], [1, 2, 3], "off", False, 3, ["a", "b"], [float("nan"), 9]]
)
def test_a_window_that_is_none_is_refused_in_one_sentence(window):
    with pytest.raises(StudyError) as caught:
        Study.from_mapping({"data": {"path": "/images"}, "preprocess": {"window": window}})
    (problem,) = caught.value.problems
    assert problem.key == "preprocess.window"
    assert problem.message == "must be two rising percentiles from 0 to 100, such as [0.5, 99.5], or none."
