"""The shortcut hunt, from the run to the report and to ``--json``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_data import answer, write_study

from vitrail.explanation import load_explanations


@pytest.mark.parametrize("model", ["forest", "cnn"])
def test_a_run_hunts_every_model_on_validation_images(finished, model):
    hunt = json.loads((finished.package(model).parent / "hunt.json").read_text(encoding="utf-8"))
    split = (finished.folder / "split.csv").read_text(encoding="utf-8").splitlines()
    validation = {line for line in split if "validation" in line}
    assert 0 < hunt["n"] <= 12 and all(any(path in line for line in validation) for path in hunt["images"])
    assert hunt["verdict"] == "not estimable" and "are needed (explanation.hunt_images)" in hunt["message"]
    assert [one["name"] for one in hunt["interventions"]] == ["nothing", "all but the border"]
    assert finished.json["shortcut_hunts"][model] == hunt


def test_the_report_tells_the_hunt_of_every_model(finished):
    report = Path(finished.json["report"]).read_text(encoding="utf-8")
    assert report.count("Where does it look, and does it need to?") == 2
    assert "are needed (explanation.hunt_images)" in report


def test_the_gallery_has_the_study_s_seed_and_the_hunt_asks_hires_cam_whatever_the_gallery_shows(images, tmp_path):
    cnn = {"model": "cnn", "filters": [4, 8], "training": {"epochs": 1}, "preprocess": {"size": 32}}
    wished = {"gallery": 1, "methods": ["grad-cam"], "grade_images": 0, "hunt_images": 6}
    done = answer("run", write_study(tmp_path / "study.yaml", images, output="runs", models=[cnn], seed=3, explanation=wished))
    explanations = load_explanations(Path(done["run"]) / "models" / "cnn" / "explanations")
    assert {(one.method, one.seed) for one in explanations} == {("grad-cam", 3)}
    assert done["shortcut_hunts"]["cnn"]["method"] == "hires-cam"
