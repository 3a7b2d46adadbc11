"""Grades of explanations, from the run to the report and to ``vitrail explain``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_data import answer, ask, make_images, write_study
from PIL import Image

from vitrail.errors import PackageError
from vitrail.explanation import load_explanations
from vitrail.records import GradeTable
from vitrail.storage import read_record


@pytest.mark.parametrize("model", ["forest", "cnn"])
def test_a_run_grades_every_model_on_validation_images(finished, model):
    table = read_record(finished.package(model).parent / "grades.json", GradeTable)
    split = (finished.folder / "split.csv").read_text(encoding="utf-8").splitlines()
    validation = {line for line in split if "validation" in line}
    assert 0 < table.n <= 12 and len(table.images) == table.n
    assert all(any(path in line for line in validation) for path in table.images)
    names = [grade.name for grade in table.grades]
    assert "occlusion" in names and {"random map", "edges of the image", "centre of the image"} < set(names)
    assert table.chosen in names
    explanations = load_explanations(finished.package(model).parent / "explanations")
    assert {one.method for one in explanations} == {table.chosen}
    assert all(one.grade is not None and len(one.grade.random_gains) == 20 for one in explanations)
    assert all(table.why in str(one.parameters["chosen"]) for one in explanations)


def test_the_report_shows_the_grades_and_what_was_drawn_in_grey(finished):
    report = Path(finished.json["report"]).read_text(encoding="utf-8")
    assert report.count("Can the maps be trusted?") == 2
    assert "centre of the image" in report and "Relevance gain (SRG)" in report
    folders = [finished.package(model).parent / "explanations" for model in ("forest", "cnn")]
    grey = sum(bool(one.grade and one.grade.reason) for folder in folders for one in load_explanations(folder))
    assert report.count("Drawn in grey.") == grey


def test_auto_follows_the_grades_beside_the_package_and_a_package_alone_has_none(finished, tmp_path):
    image = finished.images / "round" / "0.png"
    chosen = json.loads((finished.package("cnn").parent / "grades.json").read_text())["chosen"]
    (item,) = answer("explain", finished.package("cnn"), image, "--method", "auto", "--output", tmp_path)
    assert item["method"] == chosen and "by grades on" in item["parameters"]["chosen"]
    assert len(item["grade"]["random_gains"]) == 20
    alone = tmp_path / "alone" / "package"
    shutil.copytree(finished.package("cnn"), alone)
    (item,) = answer("explain", alone, image, "--output", tmp_path / "maps")
    assert item["method"] == "grad-cam" and item["grade"] is None
    assert "none was graded" in item["parameters"]["chosen"]


def test_an_unknown_method_in_a_study_is_told_before_any_work(finished, tmp_path):
    study = write_study(tmp_path / "study.yaml", finished.images, explanation={"methods": ["gradcam"]})
    result = ask("run", study, "--output", tmp_path / "runs")
    assert result.exit_code == 2 and "explanation.methods[0]: no method has this name." in result.stderr
    assert not (tmp_path / "runs").exists()


def test_masks_beside_images_are_those_of_their_images(tmp_path):
    images = make_images(tmp_path / "images", per_class=8)
    for picture in sorted(images.glob("round/*.png")):
        mask = np.asarray(Image.open(picture)) > 120
        Image.fromarray(mask.astype(np.uint8) * 255).save(picture.with_name(f"{picture.stem}_mask.png"))
    forest = [{"model": "forest", "trees": 5, "features": ["pixels"], "preprocess": {"size": 16}}]
    wished = {"gallery": 1, "methods": ["occlusion"], "grade_images": 64, "shortcut_hunt": False, "masks": str(images)}
    study = write_study(tmp_path / "study.yaml", images, models=forest, explanation=wished)
    run = answer("run", study, "--output", tmp_path / "runs")
    table = read_record(Path(run["run"]) / "models" / "forest" / "grades.json", GradeTable)
    masked = sum(path.startswith("round/") for path in table.images)
    assert f"explanation.masks: {masked} of {table.n} graded images have a mask." in table.notes
    assert masked and table.grade_of("occlusion").localisation.chance.n == masked
    assert table.grade_of("occlusion").localisation.chance.value < 0.3


def test_masks_are_looked_for_before_training(tmp_path):
    images = make_images(tmp_path / "images", per_class=4)
    for folder in ("one", "two"):
        (tmp_path / "masks" / folder).mkdir(parents=True)
        (tmp_path / "masks" / folder / "unlike.png").touch()
    (images / "round" / "0.png").rename(images / "round" / "unlike.png")
    study = write_study(tmp_path / "study.yaml", images, explanation={"masks": str(tmp_path / "masks")})
    result = ask("run", study, "--output", tmp_path / "runs")
    assert result.exit_code == 2 and "explanation.masks: round/unlike.png must have one mask." in result.stderr
    assert not list((tmp_path / "runs").glob("*/models"))
    shutil.rmtree(tmp_path / "masks" / "one")
    (tmp_path / "masks" / "two" / "unlike.png").rename(tmp_path / "masks" / "two" / "other.png")
    result = ask(
        "run", study, "--output", tmp_path / "runs", "--set", "models.cnn.training.epochs=1", "--set", "explanation.gallery=0"
    )
    assert "explanation.masks: none of 12 images of the data set has a mask" in result.stderr


def test_a_run_whose_maps_fail_ends_with_its_report_and_says_so(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise PackageError("cnn: its scores are not finite.")

    monkeypatch.setattr("vitrail.explanation.passes.SAME_ANSWER", -1.0)  # no network agrees with its package that well
    monkeypatch.setattr("vitrail.steps.hunt_package", fail)
    images = make_images(tmp_path / "images", per_class=8)
    cnn = [{"model": "cnn", "filters": [4], "training": {"epochs": 1}, "preprocess": {"size": 16}}]
    study = write_study(tmp_path / "study.yaml", images, models=cnn, explanation={"gallery": 1, "methods": ["gradient"]})
    result = ask("run", study, "--output", tmp_path / "runs")
    assert result.exit_code == 0, result.stderr
    said = "its network, rebuilt for gradients, gives other scores than the package"
    assert "cnn: not hunted for shortcuts. cnn: its scores are not finite." in result.stderr
    (folder,) = (tmp_path / "runs").glob("*/models/cnn")
    table = read_record(folder / "grades.json", GradeTable)
    assert any(note.startswith(f"gradient: not graded. cnn: {said}") for note in table.notes)
    assert any("images of the gallery have no map. cnn: its network" in note for note in table.notes)
    assert load_explanations(folder / "explanations") == ()
    assert "images of the gallery have no map" in (folder.parent.parent / "report.html").read_text(encoding="utf-8")
