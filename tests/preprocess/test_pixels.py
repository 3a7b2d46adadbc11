import contextlib
import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from vitrail.datasets import read_image, scan_folder
from vitrail.errors import DataError
from vitrail.preprocess import decode_cache, pixel_batches, pixels, prepare, prepare_file, prepare_file_for_all
from vitrail.progress import SilentProgress
from vitrail.records import Recipe

RECIPE = Recipe(24, "grey", False, True, "unit")


class Impatient(SilentProgress):
    """Stops the work at its first step."""

    @contextlib.contextmanager
    def task(self, title, total):
        def advance(steps=1, note=""):
            raise KeyboardInterrupt

        yield advance


@pytest.fixture
def manifest(tmp_path):
    """Seven images of two classes, as PNG and JPEG, and one file that is cut off."""
    generator = np.random.default_rng(0)
    root = tmp_path / "images"
    for number in range(7):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        coarse.resize((60 + number, 90 - number), Image.Resampling.BICUBIC).save(
            folder / f"{number}.{'png' if number % 3 else 'jpg'}"
        )
    whole = (root / "a" / "0.jpg").read_bytes()
    (root / "b" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    return scan_folder(root, cache=tmp_path / "cache")


def readable_rows(manifest):
    return np.array([row for row, file in enumerate(manifest.files) if file.readable])


def test_the_cache_holds_what_prepare_file_gives_in_the_order_of_the_rows(manifest, tmp_path):
    rows = readable_rows(manifest)[::-2]
    pixels = decode_cache(manifest, rows, RECIPE, cache=tmp_path / "cache")
    assert pixels.shape == (len(rows), 24, 24, 1) and pixels.dtype == np.uint8
    for image, row in zip(pixels[:], rows, strict=True):
        np.testing.assert_array_equal(image, prepare_file(manifest.root / manifest.files[row].path, RECIPE)[0])
        assert image.max() > 0


def test_images_that_are_not_asked_for_stay_closed(manifest, tmp_path):
    rows = readable_rows(manifest)
    (manifest.root / manifest.files[rows[0]].path).unlink()
    assert len(decode_cache(manifest, rows[1:], RECIPE, cache=tmp_path / "cache")) == len(rows) - 1


def test_the_cache_is_made_once(manifest, tmp_path):
    rows = readable_rows(manifest)
    first = decode_cache(manifest, rows, RECIPE, cache=tmp_path / "cache")[:]
    for file in manifest.files:
        (manifest.root / file.path).unlink()
    np.testing.assert_array_equal(decode_cache(manifest, rows, RECIPE, cache=tmp_path / "cache")[:], first)
    scaled = dataclasses.replace(RECIPE, scaling="standardise")  # scaling comes after the cache
    np.testing.assert_array_equal(decode_cache(manifest, rows, scaled, cache=tmp_path / "cache")[:], first)
    with pytest.raises(DataError):
        decode_cache(manifest, rows, dataclasses.replace(RECIPE, size=32), cache=tmp_path / "cache")


def test_an_interrupted_cache_leaves_nothing_behind(manifest, tmp_path):
    rows = readable_rows(manifest)
    with pytest.raises(KeyboardInterrupt):
        decode_cache(manifest, rows, RECIPE, cache=tmp_path / "cache", progress=Impatient())
    assert [path.suffix for path in (tmp_path / "cache" / "pixels").iterdir()] == [".lock"]
    assert decode_cache(manifest, rows, RECIPE, cache=tmp_path / "cache")[:].any(axis=(1, 2, 3)).all()


def test_two_who_want_the_same_images_decode_them_once(manifest, tmp_path):
    rows, titles, both = readable_rows(manifest), [], threading.Barrier(2, timeout=20)

    class Noting(SilentProgress):
        def task(self, title, total):
            titles.append(title)
            time.sleep(0.2)
            return super().task(title, total)

    def decoded(_):
        both.wait()
        return decode_cache(manifest, rows, RECIPE, cache=tmp_path / "cache", progress=Noting())

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(decoded, range(2))
    np.testing.assert_array_equal(one[:], other[:])
    assert len(titles) == 1


def test_batches_follow_the_rows(manifest, tmp_path):
    rows = readable_rows(manifest)[::-1]
    batches = list(pixel_batches(manifest, rows, RECIPE, batch_size=3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    cached = decode_cache(manifest, rows, RECIPE, cache=tmp_path / "cache")
    np.testing.assert_array_equal(np.concatenate(batches), cached[:])
    assert list(pixel_batches(manifest, rows[:0], RECIPE, batch_size=3)) == []


# A draft rounds its sides up, so that its last row may stand for less than a whole one: at most half a pixel of the input.
@pytest.mark.parametrize(("height", "width", "tolerance"), [(800, 1000, 4), (801, 1003, 16)])
def test_a_large_jpeg_is_placed_in_its_own_pixels_and_looks_as_if_fully_decoded(tmp_path, height, width, tolerance):
    path = tmp_path / "large.jpg"
    coarse = Image.fromarray(np.random.default_rng(2).integers(0, 256, (8, 8), dtype=np.uint8))
    coarse.resize((width, height), Image.Resampling.BICUBIC).save(path, quality=95)
    assert read_image(path, at_least=2 * RECIPE.size).pixels.shape[0] < height, "it is decoded as a draft"

    pixels, placement = prepare_file(path, RECIPE)

    assert (placement.height, placement.width, placement.bottom, placement.right) == (height, width, height, width)
    full, full_placement = prepare(read_image(path), RECIPE)
    assert placement == full_placement
    assert np.abs(pixels.astype(int) - full).max() <= tolerance


def test_a_small_object_in_a_large_jpeg_stays_sharp_when_margins_are_cut(tmp_path):
    # Stripes of 16 px on an object of 200 px: five pixels each in the input, and gone in a draft of an eighth.
    picture = np.zeros((1600, 1600), np.uint8)
    picture[700:900, 700:900] = np.where(np.arange(200) % 16 < 8, 40, 240)
    path = tmp_path / "object.jpg"
    Image.fromarray(picture).save(path, quality=95)

    pixels, placement = prepare_file(path, Recipe(64, "grey", True, False, "unit"))

    assert abs(placement.left - 700) <= 8 and abs(placement.right - 900) <= 8
    assert pixels[20:44, 5:-5].std() > 60


def test_a_file_that_is_no_image_is_named(tmp_path):
    path = tmp_path / "notes.png"
    path.write_text("no image")
    with pytest.raises(DataError, match=r"notes\.png"):
        prepare_file(path, RECIPE)


@pytest.mark.parametrize(("ending", "decodes"), [("png", 1), ("jpg", 6)])
def test_several_recipes_share_one_decoding_where_that_changes_nothing(ending, decodes, tmp_path, monkeypatch):
    """Sizes around those at which a JPEG is decoded at another fraction: four fractions, and anew where one is just enough."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 255, 3), dtype=np.uint8)
    path = tmp_path / f"noise.{ending}"
    Image.fromarray(noise).save(path)
    recipes = [Recipe(size, "rgb", False, True, "unit") for size in (60, 12, 13, 24, 25, 26, 49, 50, 51, 100)]
    recipes += [Recipe(12, "grey", True, False, "unit"), Recipe(13, "grey", False, False, "unit")]
    expected = {recipe: prepare_file(path, recipe)[0] for recipe in recipes}
    asked = []

    def counted(source, *, at_least):
        asked.append(at_least)
        return read_image(source, at_least=at_least)

    monkeypatch.setattr(pixels, "read_image", counted)
    found = prepare_file_for_all(path, recipes)
    assert found.keys() == expected.keys() and len(asked) == decodes
    for recipe, wanted in expected.items():
        np.testing.assert_array_equal(found[recipe], wanted)
