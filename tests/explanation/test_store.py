import numpy as np
import pytest
from PIL import Image

from vitrail.explanation import load_explanations, save_explanations, write_map, write_picture
from vitrail.records import Explanation


def an_explanation(image="a/b.png", shape=(12, 17), seed=0):
    generator = np.random.default_rng(seed)
    return Explanation(
        image=image,
        model="cnn",
        method="grad-cam",
        target="glioma",
        score=0.1 + 0.2,  # no short decimal: it must come back bit for bit
        map=generator.normal(size=shape).astype(np.float32),
        warnings=("coarse",),
        parameters={"cells": [7, 7]},
        layer="blocks.6",
        forward_passes=1.0,
        standard_error=generator.normal(size=shape).astype(np.float32) if seed else None,
        grade={"srg": 0.1},
    )


def test_saved_explanations_come_back_whole_and_in_order(tmp_path):
    saved = [an_explanation(), an_explanation("ü.png", (3, 5), seed=1)]
    save_explanations(tmp_path / "maps", saved)
    loaded = load_explanations(tmp_path / "maps")
    assert [one.image for one in loaded] == ["a/b.png", "ü.png"]
    for before, after in zip(saved, loaded, strict=True):
        np.testing.assert_array_equal(before.map, after.map)
        assert after.map.dtype == np.float32
        assert (before.score, before.warnings, before.parameters) == (after.score, after.warnings, after.parameters)


def test_an_empty_gallery_comes_back_empty(tmp_path):
    save_explanations(tmp_path / "maps", [])
    assert load_explanations(tmp_path / "maps") == ()


def test_a_written_map_has_the_shape_of_the_image(tmp_path):
    path = write_map(an_explanation(), tmp_path / "map.npy")
    assert np.load(path, allow_pickle=False).shape == (12, 17)


def test_a_failed_save_leaves_nothing(tmp_path):
    broken = an_explanation()
    broken.parameters["drop"] = float("nan")  # no number that a record may hold
    with pytest.raises(ValueError, match="finite"):
        save_explanations(tmp_path / "maps", [broken])
    assert list(tmp_path.iterdir()) == []


def test_the_picture_has_the_size_of_the_upright_original(tmp_path):
    original = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: stored 40 wide and 30 high, shown 30 wide and 40 high
    Image.fromarray(np.full((30, 40), 90, np.uint8)).save(original, exif=exif)
    before = original.read_bytes()
    path = write_picture(an_explanation(shape=(40, 30)), original, tmp_path / "out" / "map.png")
    with Image.open(path) as picture:
        assert picture.size == (30, 40)
    assert original.read_bytes() == before
