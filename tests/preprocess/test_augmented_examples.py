import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from vitrail.preprocess import remarks
from vitrail.preprocess.augment import augment
from vitrail.preprocess.examples import augmented_examples
from vitrail.study import AugmentSettings

NOTHING = {"rotation": 0, "zoom": 0, "translation": 0, "brightness": 0, "contrast": 0}


def settings_of(**ranges):
    return AugmentSettings(**{**NOTHING, **ranges})


def noise(count=3, channels=1, side=40, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), dtype=np.uint8)


def coins(seed, count=1):
    return np.random.default_rng(seed).random(count) < 0.5


# ---------------------------------------------------------------------------------------------------- what was, stays


@pytest.mark.parametrize(
    ("chosen", "mean", "next_draw"),
    [
        (AugmentSettings(), 116.82974, 0.676689351831066),
        (AugmentSettings(flip_horizontal=True, rotation=0), 110.6947, 0.27145160453010153),
    ],
)
def test_settings_without_the_new_steps_give_the_images_they_gave(chosen, mean, next_draw):
    """Figures from before blur, noise, erasing and the vertical flip existed."""
    generator = np.random.default_rng(5)
    changed = augment(noise(), chosen, generator=generator)
    assert changed.mean(dtype=np.float64) == pytest.approx(mean, abs=1e-3)
    assert generator.random() == next_draw, "nothing more was drawn"


# ---------------------------------------------------------------------------------------------------- the new steps


def test_a_vertical_flip_swaps_top_and_bottom_of_about_half_of_the_images():
    pixels = np.repeat(noise(count=1, side=16), 200, axis=0)
    changed = augment(pixels, settings_of(flip_vertical=True), generator=np.random.default_rng(0))
    turned = np.abs(changed - pixels).max(axis=(1, 2, 3)) > 1
    assert 70 <= turned.sum() <= 130
    np.testing.assert_allclose(changed[turned], pixels[turned][:, ::-1], atol=0.02)


def test_both_flips_together_are_half_a_turn():
    pixels = np.repeat(noise(count=1, side=16), 100, axis=0)
    changed = augment(pixels, settings_of(flip_vertical=True, flip_horizontal=True), generator=np.random.default_rng(0))
    kinds = {
        "as it was": pixels[0],
        "mirror": pixels[0, :, ::-1],
        "upside down": pixels[0, ::-1],
        "turned": pixels[0, ::-1, ::-1],
    }
    counts = {name: sum(np.abs(image - kind).max() < 0.1 for image in changed) for name, kind in kinds.items()}
    assert sum(counts.values()) == 100 and min(counts.values()) >= 10


@pytest.mark.parametrize("share", [0.01, 0.05])
def test_noise_has_the_standard_deviation_it_says_and_is_grey(share):
    pixels = np.full((4, 64, 64, 3), 128, np.uint8)
    changed = augment(pixels, settings_of(noise=share), generator=np.random.default_rng(1))
    added = changed[:, 1:-1, 1:-1] - 128
    assert added.std() == pytest.approx(255 * share, rel=0.03)
    assert abs(added.mean()) < 255 * share * 0.05
    np.testing.assert_allclose(changed[..., 0], changed[..., 2], atol=1e-3)
    assert np.abs(changed[0] - changed[1]).max() > 1


def test_blur_is_a_gaussian_of_its_own_for_every_image():
    pixels = noise(count=5, channels=3)
    changed = augment(pixels, settings_of(blur=2.0), generator=np.random.default_rng(2))
    before = augment(pixels, settings_of(), generator=np.random.default_rng(2))
    drawn = []
    for image, blurred in zip(before, changed, strict=True):
        sigmas = np.linspace(0, 2.0, 201)
        # One channel alone against a two-dimensional filter: the best sigma fits, and fits well.
        errors = [np.abs(gaussian_filter(image[..., 1], sigma, mode="nearest") - blurred[..., 1]).max() for sigma in sigmas]
        assert min(errors) < 3
        drawn.append(sigmas[int(np.argmin(errors))])
    assert np.ptp(drawn) > 0.2 and max(drawn) <= 2


def test_erasing_puts_noise_in_one_rectangle_of_half_of_the_images():
    pixels = np.full((200, 32, 32, 3), 300 // 3, np.uint8)
    changed = augment(pixels, settings_of(erase=0.3), generator=np.random.default_rng(3))
    shares = []
    for image in changed:
        other = np.abs(image[..., 0] - 100) > 0.5
        if not other.any():
            continue
        rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert other[box].mean() > 0.9, "one filled rectangle"
        np.testing.assert_array_equal(image[box][..., 0], image[box][..., 1])
        shares.append(other.sum() / other.size)
    assert 70 <= len(shares) <= 130
    assert max(shares) <= 0.3 and max(shares) > 0.2 and min(shares) < 0.1


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), channels=st.sampled_from([1, 3]), side=st.integers(1, 20))
def test_the_range_holds_and_the_same_seed_gives_the_same_images(seed, channels, side):
    pixels = noise(count=3, channels=channels, side=side)
    before = pixels.copy()
    widest = AugmentSettings(
        flip_horizontal=True, flip_vertical=True, rotation=180, brightness=1, contrast=1, blur=10, noise=0.5, erase=0.5
    )
    first, again = (augment(pixels, widest, generator=np.random.default_rng(seed)) for _ in range(2))
    assert first.shape == pixels.shape and first.dtype == np.float32
    assert first.min() >= 0 and first.max() <= 255
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(pixels, before)


# ---------------------------------------------------------------------------------------------------- examples


@pytest.mark.parametrize("channels", [1, 3])
def test_examples_are_the_images_and_their_variants(channels):
    pixels = noise(count=3, channels=channels)
    pictures = augmented_examples(pixels, AugmentSettings(noise=0.02), variants=4, seed=7)
    assert pictures.shape == (3, 5, 40, 40, channels) and pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures[:, 0], pixels)
    digests = {hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures.reshape(-1, 40, 40, channels)}
    assert len(digests) == 15, "no two are alike"
    np.testing.assert_array_equal(augmented_examples(pixels, AugmentSettings(noise=0.02), variants=4, seed=7), pictures)
    other = augmented_examples(pixels, AugmentSettings(noise=0.02), variants=4, seed=8)
    assert (other[:, 1:] != pictures[:, 1:]).any() and (other[:, 0] == pictures[:, 0]).all()


def test_variants_are_what_training_sees():
    pixels = noise()
    pictures = augmented_examples(pixels, AugmentSettings(), variants=1, seed=7)
    np.testing.assert_allclose(pictures[:, 1], augment(pixels, AugmentSettings(), generator=np.random.default_rng(7)), atol=0.5)


# ---------------------------------------------------------------------------------------------------- remarks


def test_flips_get_a_sentence_each_and_the_defaults_none():
    assert remarks(AugmentSettings()) == ()
    (mirrored,) = remarks(AugmentSettings(flip_horizontal=True))
    assert "augment.flip_horizontal" in mirrored and "side" in mirrored
    both = remarks(AugmentSettings(flip_horizontal=True, flip_vertical=True))
    assert len(both) == 2 and "augment.flip_vertical" in both[1]
