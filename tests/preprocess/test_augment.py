import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.preprocess.augment import augment
from vitrail.study import AugmentSettings

SIDE = 40
NOTHING = {"rotation": 0, "zoom": 0, "translation": 0, "brightness": 0, "contrast": 0}


class Extreme:
    """Stands in for a generator: every draw is the upper (or lower) end of its range, every coin shows mirror."""

    def __init__(self, upper=True):
        self.upper = upper

    def uniform(self, low, high, size):
        return np.full(size, high if self.upper else low, dtype=float)

    def random(self, size):
        return np.zeros(size)


def settings_of(**ranges):
    return AugmentSettings(**{**NOTHING, **ranges})


def noise(count=3, channels=1, side=SIDE, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def blob(row, column):
    """A bright spot on black, at an offset from the centre of the image as shares of its side (rows down, columns right)."""
    rows, columns = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE - 0.5
    return (255 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 0.05**2))).astype(np.uint8)[None, :, :, None]


def place(image):
    """Centre of mass as shares of the side from the centre."""
    rows, columns = (np.mgrid[0:SIDE, 0:SIDE] + 0.5) / SIDE - 0.5
    weight = image[0, :, :, 0]
    return (rows * weight).sum() / weight.sum(), (columns * weight).sum() / weight.sum()


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_changes_when_all_ranges_are_zero(channels):
    pixels = noise(channels=channels)
    changed = augment(pixels, settings_of(), generator=np.random.default_rng(0))
    assert changed.shape == pixels.shape and changed.dtype == np.float32
    np.testing.assert_allclose(changed, pixels, atol=0.02)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), flip=st.booleans())
def test_the_range_holds_for_the_widest_settings_and_the_input_is_left_alone(seed, flip):
    pixels = noise(count=2, channels=3, side=12, seed=1)
    before = pixels.copy()
    widest = AugmentSettings(flip_horizontal=flip, rotation=180, zoom=0.5, stretch=1, translation=0.5, brightness=1, contrast=1)
    changed = augment(pixels, widest, generator=np.random.default_rng(seed))
    assert changed.shape == pixels.shape and changed.dtype == np.float32
    assert np.isfinite(changed).all() and changed.min() >= 0 and changed.max() <= 255
    np.testing.assert_array_equal(pixels, before)


def test_the_same_seed_gives_the_same_images_and_another_seed_others():
    pixels, chosen = noise(), AugmentSettings(flip_horizontal=True)
    first, again, other = (augment(pixels, chosen, generator=np.random.default_rng(seed)) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1


def test_every_image_of_a_batch_is_changed_in_its_own_way():
    pixels = np.repeat(noise(count=1), 4, axis=0)
    changed = augment(pixels, AugmentSettings(), generator=np.random.default_rng(0))
    for first in range(4):
        for second in range(first):
            assert np.abs(changed[first] - changed[second]).max() > 1


@pytest.mark.parametrize(("upper", "degrees"), [(True, 30), (False, 30), (True, 90), (True, 180)])
def test_a_rotation_turns_a_blob_about_the_centre(upper, degrees):
    changed = augment(blob(0.1, 0.2), settings_of(rotation=degrees), generator=Extreme(upper))
    angle = np.deg2rad(degrees if upper else -degrees)
    # Positive angles turn the picture anticlockwise as it is seen, that is with rows going down.
    expected = (0.1 * np.cos(angle) - 0.2 * np.sin(angle), 0.1 * np.sin(angle) + 0.2 * np.cos(angle))
    assert place(changed) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("upper", [True, False])
def test_a_translation_moves_a_blob_by_its_share_of_the_side(upper):
    changed = augment(blob(0.0, 0.1), settings_of(translation=0.2), generator=Extreme(upper))
    step = -0.2 if upper else 0.2
    assert place(changed) == pytest.approx((step, 0.1 + step), abs=0.01)


@pytest.mark.parametrize(("upper", "factor"), [(True, 1.25), (False, 1 / 1.25)])
def test_a_zoom_moves_a_blob_away_from_the_centre_or_towards_it(upper, factor):
    changed = augment(blob(0.1, -0.2), settings_of(zoom=0.25), generator=Extreme(upper))
    assert place(changed) == pytest.approx((0.1 * factor, -0.2 * factor), abs=0.01)


@pytest.mark.parametrize(("upper", "factor"), [(True, 1.2), (False, 1 / 1.2)])
def test_a_stretch_makes_wider_what_it_makes_lower(upper, factor):
    changed = augment(blob(0.1, -0.2), settings_of(stretch=0.44), generator=Extreme(upper))
    assert place(changed) == pytest.approx((0.1 / factor, -0.2 * factor), abs=0.01)
    assert changed.sum() == pytest.approx(blob(0.1, -0.2).sum(), rel=0.01), "the area stays"


def test_a_stretch_is_along_the_sides_of_the_image_as_it_was():
    changed = augment(blob(0.1, 0.2), settings_of(stretch=0.44, rotation=30), generator=Extreme())
    row, column, angle = 0.1 / 1.2, 0.2 * 1.2, np.deg2rad(30)
    expected = row * np.cos(angle) - column * np.sin(angle), row * np.sin(angle) + column * np.cos(angle)
    assert place(changed) == pytest.approx(expected, abs=0.01)


def test_a_mirror_swaps_left_and_right():
    pixels = noise()
    changed = augment(pixels, settings_of(flip_horizontal=True), generator=Extreme())
    np.testing.assert_allclose(changed, pixels[:, :, ::-1], atol=0.02)


def test_about_half_of_the_images_are_mirrored():
    pixels = np.repeat(noise(count=1, side=16), 200, axis=0)
    changed = augment(pixels, settings_of(flip_horizontal=True), generator=np.random.default_rng(0))
    mirrored = np.abs(changed - pixels).max(axis=(1, 2, 3)) > 1
    assert 70 <= mirrored.sum() <= 130


@pytest.mark.parametrize(("upper", "sign"), [(True, 1), (False, -1)])
def test_brightness_adds_a_share_of_the_full_range(upper, sign):
    pixels = np.clip(noise(), 100, 150)
    changed = augment(pixels, settings_of(brightness=0.2), generator=Extreme(upper))
    np.testing.assert_allclose(changed, pixels + sign * 0.2 * 255, atol=0.05)


@pytest.mark.parametrize(("upper", "factor"), [(True, 1.4), (False, 0.6)])
def test_contrast_stretches_around_the_mean(upper, factor):
    pixels = np.clip(noise(), 100, 150)
    changed = augment(pixels, settings_of(contrast=0.4), generator=Extreme(upper))
    mean = pixels.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(changed, mean + factor * (pixels - mean), atol=0.05)


def test_what_is_shifted_in_is_black():
    changed = augment(np.full((1, SIDE, SIDE, 1), 200, np.uint8), settings_of(translation=0.5), generator=Extreme())
    half = SIDE // 2
    np.testing.assert_allclose(changed[0, : half - 1, : half - 1], 200, atol=0.1)
    assert (changed[0, half + 1 :] == 0).all() and (changed[0, :, half + 1 :] == 0).all()
