"""``vitrail train --continue``: more epochs for a network of a finished run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_data import answer, ask, make_images

from vitrail.run_folder import RunFolder
from vitrail.study import Study


@pytest.fixture(scope="module")
def more(finished) -> Path:
    return Path(answer("train", "--continue", finished.folder, "--epochs", 3, "--quiet")["run"])


def test_a_new_run_on_the_same_split_whose_record_says_what_it_continues(finished, more):
    assert more != finished.folder and more.parent == finished.folder.parent
    before, after = (RunFolder(folder).result() for folder in (finished.folder, more))
    assert after.split.fingerprint == before.split.fingerprint
    (model,) = after.models
    record, first = model.training, next(one.training for one in before.models if one.name == "cnn")
    assert (record.continues.run, record.continues.epochs) == (finished.folder.name, first.best_epoch)
    assert len(record.epochs) == first.best_epoch + 3 and record.settings["training"]["epochs"] == 3
    assert model.evaluation is None and not (more / "models/cnn/predictions-test.csv").exists()


def test_the_same_command_finds_it_done_and_a_package_names_its_run(finished, more):
    weights = (more / "models/cnn/weights.safetensors").read_bytes()
    again = answer("train", "--continue", finished.package("cnn"), "--epochs", 3, "--quiet")
    assert Path(again["run"]) == more and (more / "models/cnn/weights.safetensors").read_bytes() == weights


def test_the_continued_run_is_evaluated_reported_and_compared_like_any(finished, more, tmp_path):
    ran = answer("run", more)
    assert "after " in Path(ran["report"]).read_text() and "Goes on from" in Path(ran["report"]).read_text()
    told = answer("compare", finished.folder, more, "--output", tmp_path)
    assert told["images"].startswith("the same split") and f"{more.name}/cnn" in {one["name"] for one in told["candidates"]}


def test_a_study_file_says_the_same(finished, more):
    study = Study.from_yaml(more / "study.yaml")
    assert study.models[0].continues == finished.folder / "models/cnn" and study.split.file == finished.folder / "split.csv"


def test_what_cannot_go_on_is_refused_with_the_reason(finished, tmp_path):
    for words, told in (
        ((finished.folder, "--models", "forest", "--epochs", 2), "fitted in one go, there are no epochs to add"),
        ((finished.folder, "--models", "nobody", "--epochs", 2), "must be one model of the run (forest, cnn). Found: nobody"),
        ((finished.folder, "--epochs", 0), "--epochs: must be at least 1. Found: 0"),
        ((finished.folder,), "needs --epochs"),
        ((finished.folder, "--epochs", 2, "--seed", 1), "Leave out the images"),
        ((finished.folder, "--epochs", 2, "--set", "models.cnn.kernel=5"), "these settings differ: kernel"),
        ((finished.images, "--epochs", 2), "not the folder of a run"),
        ((shutil.copytree(finished.package("cnn"), tmp_path / "package"), "--epochs", 2), "not the folder of a run"),
    ):
        refused = ask("train", "--continue", *words, "--output", tmp_path / "runs")
        assert refused.exit_code == 2 and told in refused.stderr, words
    assert "belongs to --continue" in ask("train", finished.images, "--epochs", 2).stderr
    assert ask("train").exit_code == 2
    assert not list((tmp_path / "runs").glob("*-*"))


def test_other_images_are_refused_before_a_folder_is_made(finished, tmp_path):
    """The images changed since: what validates now may have been trained on before."""
    images = make_images(tmp_path / "shapes", seed=7)
    refused = ask(
        "train",
        "--continue",
        finished.folder,
        "--epochs",
        2,
        "--set",
        f"data.path={json.dumps(str(images))}",
        "--output",
        tmp_path / "runs",
    )
    assert refused.exit_code == 2 and "models.cnn.continues: must go on with the data" in refused.stderr
    assert not list((tmp_path / "runs").glob("shapes-*"))
