"""vitrail explain: every method at once, layers, quantities, and the Python door."""

import json
from pathlib import Path

import numpy as np
import pytest
from cli_data import answer, ask
from PIL import Image

import vitrail
from vitrail.errors import UsageError
from vitrail.explanation import EXPLAINERS


@pytest.fixture
def image(finished):
    return finished.images / "round" / "0.png"


def test_all_gives_every_method_that_is_defined_and_says_why_others_are_not(finished, image, tmp_path):
    found = ask("explain", finished.package("cnn"), image, "--method", "all", "--output", tmp_path, "--json")
    items = json.loads(found.stdout)
    assert [item["method"] for item in items if "refused" not in item] == [
        name for name in EXPLAINERS if name not in {item["method"] for item in items if "refused" in item}
    ]
    assert {item["method"] for item in items} == set(EXPLAINERS)
    for item in items:
        if "refused" in item:
            assert item["refused"] and item["map"] is None
        else:
            assert Path(item["map"]).is_file() and Path(item["picture"]).is_file()
            assert item["forward_passes"] > 0 and item["seconds"] > 0 and len(item["package"]) == 64
    assert len({item["map"] for item in items if item["map"]}) == len([item for item in items if item["map"]])


def test_the_cost_is_told_before(finished, image, tmp_path):
    found = ask("explain", finished.package("forest"), image, "--method", "all", "--output", tmp_path)
    assert found.exit_code == 0
    told = " ".join(found.stderr.split())
    assert "Passes per image" in told and "together" in told
    assert "gradient: not defined." in told and "trees and support vectors have no gradient" in told


def test_layer_quantity_and_seed_are_taken_and_recorded(finished, image, tmp_path):
    words = ("--method", "layer-cam", "--layer", "activations", "--quantity", "contrast", "--seed", "5", "--output", tmp_path)
    (item,) = answer("explain", finished.package("cnn"), image, *words)
    assert (item["layer"], item["quantity"], item["seed"]) == ("activations", "contrast", 5)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--method", "layer-cam", "--layer", "nowhere"), "layer: must be one of"),
        (("--quantity", "loss"), "--quantity: must be one of logit, probability, contrast. Found: 'loss'."),
        (("--method", "gradient", "--layer", "activations"), "gradient does not explain by a layer"),
    ],
)
def test_wishes_that_cannot_be_are_told_before_work_begins(finished, image, tmp_path, words, expected):
    found = ask("explain", finished.package("cnn"), image, *words, "--output", tmp_path / "maps")
    assert found.exit_code == 2 and expected in " ".join(found.stderr.replace("│", " ").split())
    assert not (tmp_path / "maps").exists()


def test_activations_come_with_a_sheet_of_channels(finished, image, tmp_path):
    (item,) = answer("explain", finished.package("cnn"), image, "--method", "activations", "--output", tmp_path)
    with Image.open(item["sheet"]) as sheet, Image.open(item["picture"]) as picture:
        assert sheet.size[0] > 128 and sheet.size != picture.size
    told = ask("explain", finished.package("cnn"), image, "--method", "activations", "--output", tmp_path)
    assert f"single channels: {item['sheet']}" in told.stdout
    refused = ask(
        "explain", finished.package("cnn"), image, "--method", "attention", "--layer", "all", "--output", tmp_path / "a"
    )
    assert refused.exit_code == 2 and "has no attention" in " ".join(refused.stderr.replace("│", " ").split())


def test_in_python_an_explanation_is_looked_at_and_saved(finished, image, tmp_path):
    package = vitrail.load_package(finished.package("cnn"))
    found = vitrail.explain(package, image, method="smooth-grad", seed=3)
    assert found.plot().size == found.map.shape[::-1] == Image.open(image).size
    np.testing.assert_array_equal(np.load(found.save(tmp_path / "map.npy")), found.map)
    with np.load(found.save(tmp_path / "map.npz")) as both:
        np.testing.assert_array_equal(both["standard_error"], found.standard_error)
    assert Image.open(found.save(tmp_path / "map.png")).size == found.plot().size
    record = json.loads(found.save(tmp_path / "map.json").read_text())
    assert (record["method"], record["seed"], record["package"]) == ("smooth-grad", 3, found.package)
    assert "map" not in record
    assert found._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"must end in .npy, .npz, .png or .json. Found: map.txt"):
        found.save(tmp_path / "map.txt")
    again = vitrail.explain(package, image, method="smooth-grad", seed=3)
    np.testing.assert_array_equal(found.map, again.map)
