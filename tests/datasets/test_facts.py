"""Thumbnails and measurements, each against a computation of its own on images made for it."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from pictures import encoded, texture
from PIL import Image
from scipy import ndimage, signal

from vitrail.datasets import FACTS, THUMBNAIL_SIZE
from vitrail.datasets.facts import UNKNOWN, look
from vitrail.datasets.raster import RasterReader


def facts_of(pixels, *, quality=math.nan, whole=True):
    return look(np.asarray(pixels, dtype=np.uint8), quality=quality, whole=whole)[1]


def thumbnail_of(pixels):
    return look(np.asarray(pixels, dtype=np.uint8), quality=math.nan, whole=True)[0]


def grey_noise(height, width, *, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=(height, width), dtype=np.uint8)


# ---------------------------------------------------------------------------------------------------- grey values


@pytest.mark.parametrize("shape", [(300, 200), (40, 700), (1, 1), (3, 5)])
def test_grey_statistics_equal_those_of_numpy(shape):
    pixels = np.clip(np.random.default_rng(1).normal(128, 90, size=shape), 0, 255).astype(np.uint8)
    facts = facts_of(pixels)
    assert facts.dtype == FACTS
    assert facts["mean"] == pytest.approx(pixels.mean(), abs=1e-3)
    assert facts["deviation"] == pytest.approx(pixels.std(), abs=1e-3)
    assert facts["levels"] == len(np.unique(pixels))
    assert facts["black"] == pytest.approx((pixels == 0).mean(), abs=1e-6)
    assert facts["white"] == pytest.approx((pixels == 255).mean(), abs=1e-6)


def test_colour_images_are_measured_in_their_luma():
    colour = texture(200, 300)
    luma = colour @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    facts = facts_of(colour)
    assert facts["mean"] == pytest.approx(luma.mean(), abs=0.5)
    assert facts["deviation"] == pytest.approx(luma.std(), abs=0.5)


def test_a_constant_image_has_nothing_to_measure():
    facts = facts_of(np.full((100, 100), 77))
    names = ("mean", "deviation", "levels", "sharpness", "noise", "blockiness")
    assert [float(facts[name]) for name in names] == [77, 0, 1, 0, 0, 1]


# ---------------------------------------------------------------------------------------------------- colour


def test_the_share_of_coloured_pixels():
    half = np.full((400, 600, 3), 90)
    half[:, :300, 0] = 200
    assert facts_of(half)["colour"] == pytest.approx(0.5, abs=0.02)
    assert facts_of(np.full((20, 20, 3), (100, 116, 132)))["colour"] == 0  # a tint, 32 apart
    assert facts_of(np.full((20, 20, 3), (100, 116, 133)))["colour"] == 1
    assert facts_of(np.full((20, 20, 3), (255, 0, 0)))["colour"] == 1
    assert facts_of(grey_noise(50, 50))["colour"] == 0


def test_the_share_of_coloured_pixels_equals_that_of_all_pixels():
    colour = texture(500, 700)
    share = (np.ptp(colour.astype(int), axis=2) > 32).mean()
    assert 0.05 < share < 0.95
    assert facts_of(colour)["colour"] == pytest.approx(share, abs=0.02)


# ---------------------------------------------------------------------------------------------------- sharpness and noise


@pytest.mark.parametrize(("height", "width"), [(16, 16), (160, 160), (300, 200), (161, 1000)])
def test_sharpness_is_the_variance_of_the_laplacian_in_the_middle(height, width):
    pixels = grey_noise(height, width)
    top, left = (max(0, (length - 160) // 2) // 8 * 8 for length in (height, width))
    centre = pixels[top : top + 160, left : left + 160].astype(float)
    laplacian = signal.convolve2d(centre, [[0, 1, 0], [1, -4, 1], [0, 1, 0]], mode="valid")
    assert facts_of(pixels)["sharpness"] == pytest.approx(laplacian.var(), rel=1e-4)


def test_a_blurred_image_is_less_sharp_and_the_margin_does_not_count():
    sharp = texture(300, 300)[..., 0].copy()
    sharp[140:160, 140:160] = 255
    blurred = ndimage.gaussian_filter(sharp, 2)
    assert facts_of(blurred)["sharpness"] < facts_of(sharp)["sharpness"] / 5
    framed = sharp.copy()
    framed[:40], framed[-40:] = grey_noise(40, 300), grey_noise(40, 300)
    assert facts_of(framed)["sharpness"] == facts_of(sharp)["sharpness"]


@pytest.mark.parametrize("sigma", [2, 5, 15])
@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_noise_of_known_deviation_is_found_on_flat_ground_and_on_slopes(sigma, slope):
    ground = 128 + slope * (np.arange(200) - 100)
    noisy = np.random.default_rng(2).normal(ground, sigma, size=(240, 200))
    expected = math.hypot(sigma, math.sqrt(1 / 12))  # rounding to whole grey values is noise too
    assert facts_of(np.rint(np.clip(noisy, 0, 255)))["noise"] == pytest.approx(expected, rel=0.05)


def test_structure_is_hardly_taken_for_noise():
    step = np.full((200, 200), 40)
    step[:, 100:] = 220
    assert facts_of(step)["noise"] == 0
    assert facts_of(texture(200, 200)[..., 0])["noise"] < 1


@pytest.mark.parametrize("shape", [(15, 400), (400, 15), (1, 1), (1, 1, 3)])
def test_what_is_too_small_for_details_has_none(shape):
    facts = facts_of(np.full(shape, 9))
    assert all(math.isnan(facts[name]) for name in ("sharpness", "noise", "blockiness"))
    assert facts["mean"] == 9


# ---------------------------------------------------------------------------------------------------- compression


def natural(height=320, width=320, *, seed=3):
    """Grey noise whose fine parts are weak, like those of a photograph."""
    generator = np.random.default_rng(seed)
    values = sum(scale * ndimage.gaussian_filter(generator.normal(size=(height, width)), scale) for scale in (1, 2, 4, 8))
    return np.uint8(np.clip(128 + 40 * values / values.std(), 0, 255))


def compressed(pixels, quality):
    return np.asarray(Image.open(io.BytesIO(encoded(Image.fromarray(pixels), "JPEG", quality=quality))))


def test_borders_of_blocks_are_seen_in_what_was_once_a_poor_jpeg():
    original = natural()
    assert facts_of(original)["blockiness"] == pytest.approx(1, abs=0.05)
    found = [float(facts_of(compressed(original, quality))["blockiness"]) for quality in (5, 10, 20, 95)]
    assert found == sorted(found, reverse=True)
    assert found[1] > 1.5
    assert found[-1] == pytest.approx(1, abs=0.05)


def test_blockiness_by_its_definition():
    pixels = compressed(natural(160, 160), 20).astype(float)
    steps = np.abs(np.diff(pixels, axis=1)).mean(axis=0)
    border = np.arange(1, 160) % 8 == 0
    expected = (steps[border].mean() + 0.5) / (steps[~border].mean() + 0.5)
    assert facts_of(pixels)["blockiness"] == pytest.approx(expected, rel=1e-4)


def test_the_grid_is_found_whatever_the_size_and_not_looked_for_in_reduced_images():
    for height, width in ((320, 320), (333, 259), (170, 401)):
        assert facts_of(compressed(natural(height, width), 10))["blockiness"] > 1.5
    assert math.isnan(facts_of(compressed(natural(), 10), whole=False)["blockiness"])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_the_quality_of_a_jpeg_is_read_back_from_its_tables(mode):
    image = Image.fromarray(texture()).convert(mode)
    for quality in range(1, 101):
        header = RasterReader().open(encoded(image, "JPEG", quality=quality)).header()
        assert header.quality == quality
    assert facts_of(texture(), quality=header.quality)["quality"] == 100


def test_tables_of_another_kind_are_given_the_nearest_quality():
    image = Image.fromarray(texture()[..., 0])
    for value, expected in ((1, 100), (255, 1)):
        assert RasterReader().open(encoded(image, "JPEG", qtables=[[value] * 64])).header().quality == expected
    flat = RasterReader().open(encoded(image, "JPEG", qtables=[[58] * 64])).header().quality  # 3,712 in all; 3,688 at quality 50
    assert abs(flat - 50) <= 1


def test_other_formats_have_no_quality():
    assert math.isnan(RasterReader().open(encoded(Image.fromarray(texture()), "PNG")).header().quality)
    assert math.isnan(facts_of(texture())["quality"])
    assert all(math.isnan(UNKNOWN[name]) for name in FACTS.names)


# ---------------------------------------------------------------------------------------------------- thumbnails


@pytest.mark.parametrize(("height", "width"), [(256, 384), (512, 128), (1280, 640)])
def test_a_pixel_of_a_thumbnail_is_about_the_mean_of_what_it_covers(height, width):
    pixels = ndimage.gaussian_filter(grey_noise(height, width).astype(float), 12)
    pixels = np.rint((pixels - pixels.min()) / np.ptp(pixels) * 255)
    blocks = pixels.reshape(THUMBNAIL_SIZE, height // THUMBNAIL_SIZE, THUMBNAIL_SIZE, width // THUMBNAIL_SIZE)
    thumbnail = thumbnail_of(pixels)
    assert (thumbnail.shape, thumbnail.dtype) == ((THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
    difference = np.abs(thumbnail - blocks.mean(axis=(1, 3)))
    assert difference.mean() < 1.5
    assert np.corrcoef(thumbnail.ravel(), blocks.mean(axis=(1, 3)).ravel())[0, 1] > 0.99


@pytest.mark.parametrize(("height", "width"), [(3, 5), (64, 32), (700, 333), (128, 128), (1, 1)])
def test_the_sides_of_an_image_stay_where_they_are(height, width):
    rows, columns = (np.arange(length) / max(1, length - 1) for length in (height, width))
    if height > 1:
        downwards = thumbnail_of(np.rint(255 * rows)[:, None].repeat(width, axis=1)).astype(int)
        assert (np.diff(downwards, axis=0) >= 0).all()
        assert (np.diff(downwards, axis=1) == 0).all()
        assert downwards[-1, 0] - downwards[0, 0] > 240
        rightwards = thumbnail_of(np.rint(255 * columns)[None].repeat(height, axis=0)).astype(int)
        assert rightwards[0, -1] - rightwards[0, 0] > 240
    assert (thumbnail_of(np.full((height, width), 33)) == 33).all()


def test_a_thumbnail_of_the_right_size_is_the_image():
    pixels = grey_noise(THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    np.testing.assert_array_equal(thumbnail_of(pixels), pixels)
