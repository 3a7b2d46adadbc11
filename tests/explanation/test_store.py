import json

import numpy as np
import pytest
from PIL import Image

from vitrail.explanation import load_explanations, save_explanations, write_map, write_picture
from vitrail.records import Estimate, Explanation, MapGrade


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
        grade=MapGrade(0.1, (0.0, -0.2), 1.0, True, "a reason", Estimate(0.2, 0.1, 0.3, 32, 30, "bootstrap"), "no"),
    )


def test_saved_explanations_come_back_whole_and_in_order(tmp_path):
    saved = [an_explanation(), an_explanation("ü.png", (3, 5), seed=1)]
    save_explanations(tmp_path / "maps", saved)
    loaded = load_explanations(tmp_path / "maps")
    assert [one.image for one in loaded] == ["a/b.png", "ü.png"]
    for before, after in zip(saved, loaded, strict=True):
        np.testing.assert_array_equal(before.map, after.map)
        assert after.map.dtype == np.float32
        assert (before.layer, before.grade, before.forward_passes) == (after.layer, after.grade, after.forward_passes)
        if before.standard_error is not None:
            np.testing.assert_array_equal(before.standard_error, after.standard_error)
        assert (after.standard_error is None) == (before.standard_error is None)
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


def test_what_earlier_versions_saved_is_still_read(tmp_path):
    save_explanations(tmp_path / "maps", [an_explanation()])
    index = tmp_path / "maps" / "index.json"
    (entry,) = json.loads(index.read_text())
    kept = ("image", "model", "method", "target", "score", "warnings")
    details = {"layer": "last feature maps", "rows": 7, "model_runs": 144}
    index.write_text(json.dumps([{**{key: entry[key] for key in kept}, "details": details}]))
    (loaded,) = load_explanations(tmp_path / "maps")
    assert (loaded.layer, loaded.forward_passes, loaded.parameters) == ("last feature maps", 144, {"rows": 7})
