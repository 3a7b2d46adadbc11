from __future__ import annotations

import numpy as np
import pytest
from audit_data import data_set, entry
from picture_data import blob, blobs, letters, named, scanned
from PIL import Image, ImageFilter

from vitrail.audit import AuditContext, NotApplicable
from vitrail.audit.quality import BlankImages, ClippedImages, LowResolution, OddShapes, OutOfFocus

CHECKS = (BlankImages(), ClippedImages(), OutOfFocus(), LowResolution(), OddShapes())


def resized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory):
    return scanned(tmp_path_factory.mktemp("ordinary"), blobs(40))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_ordinary_images_pass(check, ordinary):
    assert check.run(ordinary) is None


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_without_readable_images_no_check_applies(check):
    with pytest.raises(NotApplicable):
        check.run(AuditContext.of(data_set(entry("cyst/a.png", status="unreadable"), entry("healthy/a.png", status="empty"))))


def faint(level: int) -> np.ndarray:
    return level + np.random.default_rng(level).integers(0, 4, (160, 160), dtype=np.uint8)


def marked(value: int) -> np.ndarray:
    picture = np.full((160, 160), value, dtype=np.uint8)
    picture[:4, :4] = 128
    return picture


@pytest.mark.parametrize("picture", [faint(0), faint(90), np.full((160, 160), 7, np.uint8), marked(0), marked(255)])
def test_qlt601_finds_blank_images(picture, tmp_path):
    found = BlankImages().run(scanned(tmp_path, blobs(6) | {"cyst/blank.png": picture}))
    assert named(found) == {"cyst/blank.png"}
    assert found.severity == "warning"


def test_qlt601_passes_dark_images_in_which_something_can_be_made_out(tmp_path):
    dark = blob(1) // 8
    assert BlankImages().run(scanned(tmp_path, blobs(6) | {"cyst/dark.png": dark})) is None


def test_qlt602_finds_overexposed_images_worst_first(tmp_path):
    bright = {
        f"cyst/bright{letters(gain)}.png": np.clip(blob(gain).astype(int) * gain, 0, 255).astype(np.uint8) for gain in (3, 20)
    }
    found = ClippedImages().run(scanned(tmp_path, blobs(20) | bright))
    assert [piece.paths[0] for piece in found.evidence] == [f"cyst/bright{letters(gain)}.png" for gain in (20, 3)]


def test_qlt602_passes_a_white_ground_that_all_images_have(tmp_path):
    white = {path: np.where(pixels < 60, 255, pixels).astype(np.uint8) for path, pixels in blobs(20).items()}
    assert ClippedImages().run(scanned(tmp_path, white)) is None


def test_qlt603_finds_blurred_and_noisy_images(tmp_path):
    blurred = np.asarray(Image.fromarray(blob(501)).filter(ImageFilter.GaussianBlur(3)))
    noisy = np.clip(blob(502) + np.random.default_rng(0).normal(0, 40, (160, 160)), 0, 255).astype(np.uint8)
    found = OutOfFocus().run(scanned(tmp_path, blobs(30) | {"cyst/blurred.png": blurred, "glioma/noisy.png": noisy}))
    assert named(found) == {"cyst/blurred.png", "glioma/noisy.png"}
    assert "1 blurred, 1 noisy" in found.message
    notes = {piece.paths[0]: piece.note for piece in found.evidence}
    assert notes["cyst/blurred.png"].startswith("blurred")
    assert notes["glioma/noisy.png"].startswith("noisy")


def test_qlt603_does_not_take_darkness_for_blur(tmp_path):
    dark = {f"cyst/dark{letters(number)}.png": blob(600 + number) // 3 for number in range(2)}
    assert OutOfFocus().run(scanned(tmp_path, blobs(30) | dark)) is None


def test_qlt603_compares_sizes_with_their_like(tmp_path):
    large = {
        f"{label}/large{letters(number)}.png": resized(blob(700 + 50 * place + number), 480, 480)
        for place, label in enumerate(("cyst", "glioma"))
        for number in range(12)
    }
    assert OutOfFocus().run(scanned(tmp_path, blobs(30) | large)) is None


def test_qlt604_finds_previews_and_enlarged_images(tmp_path):
    large = {f"cyst/large{letters(number)}.png": blob(800 + number, rows=400, columns=400) for number in range(24)}
    odd = {"cyst/preview.png": resized(blob(1), 40, 40), "cyst/enlarged.png": resized(resized(blob(2), 80, 80), 400, 400)}
    found = LowResolution().run(scanned(tmp_path, blobs(40) | large | odd))
    assert [piece.paths[0] for piece in found.evidence] == ["cyst/preview.png", "cyst/enlarged.png"]
    assert found.severity == "warning"
    assert found.evidence[0].note == "40 x 40 pixels"
    assert "softer than others of that size" in found.evidence[1].note


def test_qlt604_is_information_where_all_images_are_small_by_design(tmp_path):
    found = LowResolution().run(scanned(tmp_path, blobs(5, rows=28, columns=28)))
    assert (found.severity, found.count) == ("info", 10)


def test_qlt605_finds_long_images_either_way(tmp_path):
    long = {"cyst/wide.png": blob(1, rows=100, columns=260), "cyst/high.png": blob(2, rows=200, columns=100)}
    found = OddShapes().run(scanned(tmp_path, blobs(20) | long))
    assert [piece.paths[0] for piece in found.evidence] == ["cyst/wide.png", "cyst/high.png"]
    assert found.severity == "info"
    assert found.evidence[0].note == "260 x 100 pixels, 2.60 to 1; usual: 1.00 to 1"


def test_qlt605_passes_shapes_that_vary_anyway(tmp_path):
    rng = np.random.default_rng(0)
    varied = {
        f"{label}/{letters(number)}.png": blob(number, rows=int(rng.integers(60, 200)), columns=120)
        for label in ("cyst", "glioma")
        for number in range(20)
    }
    assert OddShapes().run(scanned(tmp_path, varied)) is None
