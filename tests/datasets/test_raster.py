"""The raster reader: every mode, every orientation, every size."""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import encoded, read_thumbnail, texture
from PIL import Image

from vitrail.datasets import THUMBNAIL_SIZE, read_image
from vitrail.datasets import raster as room
from vitrail.datasets.raster import RasterReader
from vitrail.errors import DataError

# ---------------------------------------------------------------------------------------------------- modes


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP", "JPEG2000", "PNM"])
def test_rgb_and_grey_come_back_exactly(kind):
    colour = texture()
    grey = colour[:, :, 0]
    options = {"lossless": True} if kind == "WEBP" else {}
    decoded = read_image(encoded(Image.fromarray(colour), kind, **options))
    assert (decoded.format, decoded.mode, decoded.height, decoded.width) == (kind, "RGB", 40, 56)
    np.testing.assert_array_equal(decoded.pixels, colour)
    decoded = read_image(encoded(Image.fromarray(grey), kind, **options))
    assert decoded.mode == ("RGB" if kind == "WEBP" else "L")  # WebP has no grey
    np.testing.assert_array_equal(decoded.pixels, grey[..., None].repeat(3, axis=2) if kind == "WEBP" else grey)
    assert not decoded.pixels.flags.writeable


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_an_image_for_a_look_is_grey_only_where_no_pixel_has_colour(kind):
    grey = texture()[:, :, 0]
    stored = np.dstack([grey] * 3)
    assert read_image(encoded(Image.fromarray(stored), kind)).pixels.shape == (40, 56, 3)
    looked_at = read_image(encoded(Image.fromarray(stored), kind), at_least=32)
    assert looked_at.mode == "RGB" and looked_at.pixels.shape == (40, 56)
    np.testing.assert_array_equal(looked_at.pixels, read_image(encoded(Image.fromarray(stored), kind)).pixels[:, :, 1])
    stored[20:28, 16:24, 2] ^= 128
    assert read_image(encoded(Image.fromarray(stored), kind), at_least=32).pixels.shape == (40, 56, 3)


def test_jpeg_keeps_grey_grey_and_colour_colour():
    colour = texture()
    decoded = read_image(encoded(Image.fromarray(colour), "JPEG", quality=95, subsampling=0))
    assert (decoded.format, decoded.mode, decoded.pixels.shape, decoded.pixels.dtype) == ("JPEG", "RGB", (40, 56, 3), np.uint8)
    assert np.abs(decoded.pixels.astype(int) - colour).mean() < 3
    assert read_image(encoded(Image.fromarray(colour[:, :, 0]), "JPEG")).pixels.shape == (40, 56)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_bilevel_becomes_black_and_white(kind):
    mask = texture()[:, :, 0] > 128
    decoded = read_image(encoded(Image.fromarray(mask), kind))
    assert set(np.unique(decoded.pixels)) == {0, 255}
    grey = decoded.pixels if decoded.pixels.ndim == 2 else decoded.pixels[:, :, 0]  # BMP stores bilevel as a palette
    np.testing.assert_array_equal(grey > 0, mask)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_palettes_become_rgb(kind):
    image = Image.fromarray(texture()).quantize(16)
    decoded = read_image(encoded(image, kind))
    assert decoded.mode == "P"
    palette = np.array(image.getpalette(), dtype=np.uint8).reshape(-1, 3)
    np.testing.assert_array_equal(decoded.pixels, palette[np.asarray(image)])


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_transparency_is_laid_over_black(kind, mode):
    colour = texture()
    alpha = texture(seed=8)[:, :, 1]
    opaque = colour if mode == "RGBA" else colour[:, :, :1]
    stored = np.dstack([opaque, alpha])
    decoded = read_image(encoded(Image.fromarray(stored, mode=mode), kind))
    expected = np.rint(opaque.astype(float) * alpha[:, :, None] / 255).squeeze()
    assert decoded.mode == mode
    assert decoded.pixels.shape == expected.shape
    assert np.abs(decoded.pixels - expected).max() <= 1


def test_a_transparent_palette_entry_is_laid_over_black():
    image = Image.new("P", (4, 2), 1)
    image.putpalette([200, 100, 50, 10, 20, 30])
    image.putpixel((0, 0), 0)
    decoded = read_image(encoded(image, "PNG", transparency=0))
    assert decoded.pixels[0, 0].tolist() == [0, 0, 0]
    assert decoded.pixels[1, 3].tolist() == [10, 20, 30]


def test_a_transparent_grey_value_is_laid_over_black():
    image = Image.new("L", (4, 2), 90)
    image.putpixel((0, 0), 200)
    decoded = read_image(encoded(image, "PNG", transparency=200))
    assert decoded.pixels.tolist() == [[0, 90, 90, 90], [90] * 4]


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk_becomes_rgb(kind):
    inks = np.dstack([texture(), texture(seed=8)[:, :, 0] // 4])
    decoded = read_image(encoded(Image.fromarray(inks, mode="CMYK"), kind, **({"quality": 100} if kind == "JPEG" else {})))
    light = 255 - inks.astype(float)
    expected = light[:, :, :3] * light[:, :, 3:] / 255
    assert decoded.mode == "CMYK"
    assert np.abs(decoded.pixels - expected).mean() < (4 if kind == "JPEG" else 1)


def stretched(values: np.ndarray) -> list[list[int]]:
    """Exact integer arithmetic, one pixel at a time; halves to even."""
    low, high = int(values.min()), int(values.max())
    return [[round((int(value) - low) * 255 / (high - low)) for value in row] for row in values]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_a_12_bit_radiograph_in_16_bits_does_not_come_out_black(kind):
    values = np.random.default_rng(1).integers(300, 4096, size=(300, 20)).astype(np.uint16)
    decoded = read_image(encoded(Image.fromarray(values), kind))
    assert decoded.mode == "I;16"
    assert decoded.pixels.tolist() == stretched(values)


def test_big_endian_16_bits_are_read_as_such():
    values = np.array([[0, 1000], [2000, 4000]], dtype=">u2")
    decoded = read_image(encoded(Image.frombytes("I;16B", (2, 2), values.tobytes()), "TIFF"))
    assert decoded.mode == "I;16B"
    assert decoded.pixels.tolist() == [[0, 64], [128, 255]]


def test_32_bit_integers_are_stretched():
    values = np.array([[-2_000_000_000, 0], [1, 2_000_000_000]], dtype=np.int32)
    decoded = read_image(encoded(Image.fromarray(values), "TIFF"))
    assert decoded.mode == "I"
    assert decoded.pixels.tolist() == stretched(values)


def test_floats_are_stretched_over_their_finite_values():
    values = np.array([[np.nan, -1.0, 0.0], [1.0, np.inf, -np.inf]], dtype=np.float32)
    decoded = read_image(encoded(Image.fromarray(values), "TIFF"))
    assert decoded.mode == "F"
    assert decoded.pixels.tolist() == [[0, 0, 128], [255, 255, 0]]


@pytest.mark.parametrize("value", [0.0, 5.0, np.nan])
def test_constant_floats_become_black_without_a_warning(value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded = read_image(encoded(Image.fromarray(np.full((3, 4), value, dtype=np.float32)), "TIFF"))
    np.testing.assert_array_equal(decoded.pixels, np.zeros((3, 4)))


@pytest.mark.parametrize("kind", ["TIFF", "GIF"])
def test_only_the_first_frame_is_read(kind):
    first, second = Image.new("L", (5, 3), 10), Image.new("L", (5, 3), 200)
    content = encoded(first, kind, save_all=True, append_images=[second])
    pixels = read_image(content).pixels
    assert (pixels.shape[:2], np.unique(pixels).tolist()) == ((3, 5), [10])
    assert RasterReader().open(content).header().frames == 1
    with pytest.raises(DataError, match="has no frame 1: of such files only the first frame is read"):
        RasterReader().open(content).decode(frame=1)


def test_large_images_are_worked_on_in_strips_with_the_same_result(monkeypatch):
    colour = texture(130, 90)
    images = {
        "RGB": Image.fromarray(colour),
        "P": Image.fromarray(colour).quantize(200),
        "LA": Image.fromarray(np.dstack([colour[..., 0], texture(130, 90, seed=8)[..., 0]]), mode="LA"),
        "I;16": Image.fromarray(colour[..., 0].astype(np.uint16) * np.arange(1, 131, dtype=np.uint16)[:, None]),
    }
    for mode, image in images.items():
        content = encoded(image, "PNG", exif=exif(6))
        whole = read_image(content)
        with monkeypatch.context() as patch:
            patch.setattr(room, "_PIXELS_AT_A_TIME", 90 * 16)
            strips = read_image(content)
        assert (strips.mode, strips.pixels.shape[:2]) == (mode, (90, 130))
        np.testing.assert_array_equal(strips.pixels, whole.pixels)


# ---------------------------------------------------------------------------------------------------- orientation

# EXIF 2.32, table 6: where the 0th row and the 0th column of the stored image stand on the visual image.
SIDES = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def as_seen(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Put every stored pixel where the standard's words say it is seen."""
    height, width = stored.shape[:2]
    sides = SIDES[orientation]
    seen = np.zeros_like(stored if sides[0] in ("top", "bottom") else stored.swapaxes(0, 1))
    for row in range(height):
        for column in range(width):
            place = {}
            for number, length, side in ((row, height, sides[0]), (column, width, sides[1])):
                axis = "y" if side in ("top", "bottom") else "x"
                place[axis] = number if side in ("top", "left") else length - 1 - number
            seen[place["y"], place["x"]] = stored[row, column]
    return seen


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_images_stand_upright(kind, orientation):
    image = Image.fromarray(texture(24, 40))
    stored = read_image(encoded(image, kind)).pixels
    decoded = read_image(encoded(image, kind, exif=exif(orientation)))
    expected = as_seen(stored, orientation)
    np.testing.assert_array_equal(decoded.pixels, expected)
    assert (decoded.height, decoded.width) == expected.shape[:2]


@pytest.mark.parametrize("orientation", SIDES)
def test_16_bit_images_and_thumbnails_stand_upright_too(orientation):
    values = texture(30, 50)[:, :, 0].astype(np.uint16) * 16
    content = encoded(Image.fromarray(values), "PNG", exif=exif(orientation))
    expected = as_seen(np.array(stretched(values), dtype=np.uint8), orientation)
    np.testing.assert_array_equal(read_image(content).pixels, expected)
    thumbnail = read_thumbnail(content)
    assert (thumbnail.height, thumbnail.width) == expected.shape
    upright = read_thumbnail(encoded(Image.fromarray(expected), "PNG")).pixels
    assert np.abs(thumbnail.pixels.astype(int) - upright).max() <= 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("damaged", [b"Exif\x00\x00garbage", b"Exif\x00\x00II*\x00\xff\xff\xff\xff"])
def test_damaged_exif_leaves_the_pixels_readable(damaged):
    content = encoded(Image.fromarray(texture()), "JPEG", exif=damaged)
    assert read_image(content).pixels.shape == (40, 56, 3)


def test_an_orientation_that_does_not_exist_is_ignored():
    content = encoded(Image.fromarray(texture()), "PNG", exif=exif(9))
    np.testing.assert_array_equal(read_image(content).pixels, texture())


# ---------------------------------------------------------------------------------------------------- reduced decoding


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(9, 420),
    width=st.integers(9, 420),
    at_least=st.integers(8, 160),
    orientation=st.sampled_from(sorted(SIDES)),
)
def test_reduced_jpegs_keep_their_geometry(height, width, at_least, orientation):
    image = Image.fromarray(texture(height, width)[:, :, 0])
    content = encoded(image, "JPEG", quality=95, exif=exif(orientation))
    full, reduced = read_image(content), read_image(content, at_least=at_least)
    assert (reduced.height, reduced.width) == (full.height, full.width) == full.pixels.shape
    rows, columns = reduced.pixels.shape
    assert rows >= min(at_least, full.height)
    assert columns >= min(at_least, full.width)
    scales = [scale for scale in (1, 2, 4, 8) if (rows, columns) == (-(-full.height // scale), -(-full.width // scale))]
    assert scales
    scale = scales[-1]
    assert min(full.height, full.width) < 2 * scale * at_least or scale == 8  # as small as allowed


def test_a_reduced_pixel_is_the_mean_of_its_block():
    image = Image.fromarray(texture(256, 320)[:, :, 0])
    content = encoded(image, "JPEG", quality=95)
    full, reduced = read_image(content), read_image(content, at_least=64)
    assert reduced.pixels.shape == (64, 80)
    blocks = full.pixels.reshape(64, 4, 80, 4).mean(axis=(1, 3))
    assert np.abs(reduced.pixels - blocks).max() < 3


def test_other_images_than_jpegs_are_reduced_only_when_they_are_large():
    assert read_image(encoded(Image.fromarray(texture()), "PNG"), at_least=8).pixels.shape == (40, 56, 3)
    large = Image.new("L", (4100, 4098), 7)
    assert read_image(encoded(large, "BMP")).pixels.shape == (4098, 4100)
    decoded = read_image(encoded(large, "BMP"), at_least=256)
    assert (decoded.height, decoded.width, decoded.pixels.shape) == (4098, 4100, (513, 513))
    assert (decoded.pixels == 7).all()


@pytest.mark.parametrize(("at_least", "factor"), [(8, 8), (17, 8), (18, 4), (60, 2), (100, 1)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16", "1"])
def test_a_large_png_is_reduced_to_the_means_of_blocks_and_turned(mode, at_least, factor, monkeypatch):
    monkeypatch.setattr(room, "_REDUCED_FROM", 1000)
    monkeypatch.setattr(room, "_PIXELS_AT_A_TIME", 200 * 24)
    colour, alpha = texture(136, 200), texture(136, 200, seed=8)[..., :1]
    image = {
        "RGB": Image.fromarray(colour),
        "RGBA": Image.fromarray(np.dstack([colour, alpha])),
        "I;16": Image.fromarray(colour[..., 0].astype(np.uint16) * 13 + 70),
        "1": Image.fromarray(colour[..., 0] > 128),
    }[mode]
    content = encoded(image, "PNG", exif=exif(8))
    full, reduced = read_image(content), read_image(content, at_least=at_least)
    assert (reduced.height, reduced.width, reduced.turned) == (full.height, full.width, True) == (200, 136, True)
    blocks = full.pixels.reshape(200 // factor, factor, 136 // factor, factor, -1).mean(axis=(1, 3)).squeeze()
    assert reduced.pixels.shape == blocks.shape
    assert np.abs(reduced.pixels - blocks).max() <= 0.5 + 1e-6


def test_very_large_images_are_decoded_one_at_a_time(monkeypatch):
    monkeypatch.setattr(room, "_ALONE_FROM", 1000)
    real, inside, most = room._load, [], []

    def slow(image):
        inside.append(image)
        most.append(len(inside))
        time.sleep(0.02)
        real(image)
        inside.pop()

    monkeypatch.setattr(room, "_load", slow)
    for side, together in ((40, 1), (20, 2)):
        most.clear()
        content = encoded(Image.new("L", (side, side)), "PNG")
        with ThreadPoolExecutor(4) as pool:
            assert {decoded.height for decoded in pool.map(read_image, [content] * 8)} == {side}
        assert (max(most) >= 2) == (together == 2)


# ---------------------------------------------------------------------------------------------------- thumbnails


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_thumbnail_is_the_grey_image_stretched_to_a_square(kind):
    colour = texture(4 * THUMBNAIL_SIZE, 6 * THUMBNAIL_SIZE)
    thumbnail = read_thumbnail(encoded(Image.fromarray(colour), kind, **({"quality": 95} if kind == "JPEG" else {})))
    luma = colour @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    expected = luma.reshape(THUMBNAIL_SIZE, 4, THUMBNAIL_SIZE, 6).mean(axis=(1, 3))
    assert (thumbnail.height, thumbnail.width, thumbnail.mode) == (512, 768, "RGB")
    assert thumbnail.pixels.shape == (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    assert np.abs(thumbnail.pixels - expected).max() < 6
    assert np.abs(thumbnail.pixels - expected).mean() < 1


def test_a_cmyk_jpeg_has_a_thumbnail():
    inks = np.dstack([texture(300, 300), texture(300, 300, seed=8)[:, :, 0] // 4])
    content = encoded(Image.fromarray(inks, mode="CMYK"), "JPEG", quality=95)
    grey = np.asarray(Image.fromarray(read_image(content).pixels).convert("L").resize((128, 128), Image.Resampling.BOX))
    assert np.abs(read_thumbnail(content).pixels.astype(int) - grey).mean() < 2


def test_the_bytes_decide_not_the_name(tmp_path: Path):
    path = tmp_path / "really_a_png.jpg"
    path.write_bytes(encoded(Image.fromarray(texture()), "PNG"))
    assert read_image(path).format == "PNG"
