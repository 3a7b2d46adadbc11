"""``vitrail explain --method attention --layer all``: a sheet of every head per image, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from explanation_networks import family
from PIL import Image
from typer.testing import CliRunner

from vitrail.cli import app
from vitrail.decision import Decision
from vitrail.models.heads import DenseHead
from vitrail.models.package import save_package


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    folder, made = tmp_path_factory.mktemp("packed") / "package", family("transformer")
    save_package(
        folder,
        name="small",
        family="transformer",
        description="",
        classes=made.classes,
        embedder=made.embedder,
        head=made.head,
        data_fingerprint="",
        study_fingerprint="",
    )
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("images") / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(path)
    return path


def explained(package: Path, *images: Path, output: Path, more: tuple[str, ...] = ()):
    words = ["explain", str(package), *map(str, images), "--method", "attention", "--layer", "all", "--output", str(output)]
    return CliRunner().invoke(app, [*words, *more])


def test_an_image_that_is_given_twice_has_two_sheets_and_both_are_told(package, image, tmp_path):
    found = explained(package, image, image, output=tmp_path)
    assert found.exit_code == 0, found.exception
    sheets = sorted(str(path) for path in tmp_path.glob("*-attention-all.png"))
    assert len(sheets) == 2 and all(found.stdout.count(path) == 1 for path in sheets)


def test_sheets_and_maps_have_the_same_keys(package, image, tmp_path):
    (tmp_path / "broken.png").write_text("this is no image")
    found = explained(package, image, tmp_path / "broken.png", output=tmp_path / "sheets", more=("--json",))
    sheet, broken = json.loads(found.stdout)
    words = ["explain", str(package), str(image), "--method", "occlusion", "--output", str(tmp_path / "maps"), "--json"]
    (single,) = json.loads(CliRunner().invoke(app, words).stdout)
    of_maps = {"quantity", "forward_passes", "backward_passes", "seconds", "seed", "package"}
    assert set(single) - set(sheet) == of_maps and set(sheet) <= set(single)
    assert found.exit_code == 1 and set(broken) == {*sheet, "error"} and broken["picture"] is None


@pytest.mark.parametrize(("threshold", "named"), [(0.0, "ill"), (1.1, "well")])
def test_a_sheet_is_about_the_class_that_the_package_names_by_its_own_rule(threshold, named, image, tmp_path):
    made = family("transformer")
    head = DenseHead((made.head.weights[0][:2],), (made.head.biases[0][:2],), made.head.activation)
    save_package(
        tmp_path / "package",
        name="small",
        family="transformer",
        description="",
        classes=("ill", "well"),
        embedder=made.embedder,
        head=head,
        data_fingerprint="",
        study_fingerprint="",
        decision=Decision("sensitivity", positive="ill", negative="well", threshold=threshold, reach=1.0),
    )
    (sheet,) = json.loads(explained(tmp_path / "package", image, output=tmp_path / "sheets", more=("--json",)).stdout)
    assert sheet["target"] == named
