"""Thumbnails and maps over images."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitrail.explanation import draw_map, write_picture
from vitrail.explanation.picture import shown_values
from vitrail.records import Explanation, RunResult
from vitrail.reporting.images import PICTURE_SIDE, map_pictures
from vitrail.reporting.thumbnails import Thumbnails


def opened(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def test_the_sign_of_the_map_is_its_hue() -> None:
    values = np.zeros((9, 9))
    values[2:5, 2:5], values[7, 7] = 1.0, -0.4
    drawn = draw_map(grey(9, 9), values).astype(int)
    assert drawn[3, 3, 0] > drawn[3, 3, 2] + 50
    assert drawn[7, 7, 2] > drawn[7, 7, 0] + 20
    assert (drawn[0, 0] == 100).all()


def test_a_single_extreme_pixel_does_not_hide_the_others_and_scattered_pixels_get_no_outline() -> None:
    values = np.zeros((60, 60))
    values[10:20, 10:20], values[40, 40] = 1.0, 1000.0
    assert (draw_map(grey(60, 60), values)[12:18, 12:18, 0] > 150).all()
    scattered = np.random.default_rng(0).random((60, 60)) * (np.indices((60, 60)).sum(axis=0) % 3 == 0)
    assert not (draw_map(grey(60, 60), scattered) == 255).all(axis=2).any()


def test_the_outline_encloses_half_of_full_strength() -> None:
    rows, columns = np.mgrid[-10:11, -10:11]
    values = 1 - np.hypot(rows, columns) / 14.2
    drawn = draw_map(grey(21, 21), values)
    white = (drawn == 255).all(axis=2)
    inside = values >= 0.5 * np.quantile(values, 0.995)
    assert white.any()
    assert not white[~inside].any()
    assert not white[10, 10]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(1e-6, 1e6), st.integers(0, 2**31))
def test_the_scale_of_a_map_does_not_matter(height: int, width: int, factor: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=(height, width))
    first = draw_map(grey(height, width), values).astype(int)
    second = draw_map(grey(height, width), values * factor).astype(int)
    assert first.shape == (height, width, 3)
    assert np.abs(first - second).max() <= 1


def test_an_empty_map_leaves_the_picture_as_it_is() -> None:
    assert (draw_map(grey(4, 5), np.zeros((4, 5))) == 100).all()


def test_pictures_keep_the_proportions_of_the_image_and_stay_small(tmp_path: Path) -> None:
    pixels = np.tile(np.arange(900, dtype=np.uint16) // 4, (300, 1)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    values = np.zeros((300, 900), np.float32)
    values[100:200, 600:700] = 2.0
    pictures = map_pictures(tmp_path / "wide.png", values, None)
    assert (pictures.width, pictures.height) == (PICTURE_SIDE, 107)
    assert pictures.note == ""
    original, overlay = (np.asarray(opened(uri), dtype=int) for uri in (pictures.original, pictures.overlay))
    assert original.shape == overlay.shape == (107, 320, 3)
    changed = np.abs(original - overlay).sum(axis=2) > 60
    rows, columns = np.nonzero(changed)
    assert 30 <= rows.min() <= 38
    assert 68 <= rows.max() <= 75
    assert 210 <= columns.min() <= 216
    assert 245 <= columns.max() <= 252


def test_an_image_of_another_size_is_not_drawn_under_the_map(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(tmp_path / "small.png")
    pictures = map_pictures(tmp_path / "small.png", np.ones((40, 20), np.float32), np.full((128, 128), 200, np.uint8))
    assert "changed its size" in pictures.note
    assert np.asarray(opened(pictures.original)).mean() > 190
    assert (pictures.width, pictures.height) == (20, 40)


def test_thumbnails_have_the_proportions_of_their_image(result: RunResult) -> None:
    thumbnails = Thumbnails(result.manifest)
    assert opened(thumbnails.uri("train/glioma/scan_001.png")).size == (102, 128)
    assert opened(thumbnails.uri("train/glioma/scan_000.png")).size == (128, 128)
    assert thumbnails.uri("train/glioma/torn.png") == ""
    assert thumbnails.uri("nowhere.png") == ""
    picture = thumbnails.picture("train/glioma/scan_001.png")
    assert (picture.width, picture.height) == (102, 128)
    assert (picture.label, picture.part) == ("glioma", "train")


def test_thumbnails_that_do_not_fit_the_manifest_are_left_out(result: RunResult, tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.zeros((2, 128, 128), np.uint8))
    thumbnails = Thumbnails(replace(result.manifest, thumbnails_path=tmp_path / "few.npy"))
    assert thumbnails.uri(result.manifest.files[-1].path) == ""


def test_a_picture_is_written_at_the_images_own_geometry(tmp_path: Path) -> None:
    Image.fromarray(np.full((33, 57), 90, np.uint8)).save(tmp_path / "scan.png")
    values = np.zeros((33, 57), np.float32)
    values[10:20, 30:50] = 1.0
    made = Explanation("scan.png", "m", "occlusion", "a", 0.5, values, ())
    path = write_picture(made, tmp_path / "scan.png", tmp_path / "out" / "map.png")
    drawn = np.asarray(Image.open(path))
    assert drawn.shape == (33, 57, 3)
    assert (drawn[0, 0] == 90).all()
    assert drawn[15, 40, 0] > drawn[15, 40, 2] + 50


def test_a_map_without_a_sign_is_drawn_from_its_smallest_value_on() -> None:
    values = np.array([[0.9, 1.0], [0.9, 0.9]], np.float32)
    told = {"image": "i", "model": "m", "method": "attention", "target": "t", "score": 0.5, "map": values, "warnings": ()}
    assert shown_values(Explanation(**told, parameters={"signed": False})).max() == pytest.approx(0.1)
    np.testing.assert_array_equal(shown_values(Explanation(**told)), values)
