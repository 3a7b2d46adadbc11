"""``vitrail search``: settings compared by cross-validation, from the door a user takes."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from cli_data import answer, ask, process, write_study

from vitrail.models import DescriptorEmbedder
from vitrail.study import Study

SPACE = {"models.forest.trees": [2, 12], "models.forest.max_depth": [1, None], "models.cnn.filters": [[2], [4, 8]]}


@pytest.fixture(scope="module")
def searched(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("search")
    study = write_study(folder / "study.yaml", images, search={"space": SPACE, "folds": 3, "workers": 1, "threads": 1})
    return study, answer("search", study, "--output", folder / "runs", "--quiet")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_combination_of_every_model_is_scored_on_every_fold(searched):
    _, result = searched
    forest, cnn = result["models"]
    assert (forest["model"], cnn["model"]) == ("forest", "cnn")
    assert len(forest["trials"]) == 4 and len(cnn["trials"]) == 2
    assert all(len(trial["folds"]) == 3 and trial["state"] == "complete" for trial in forest["trials"] + cnn["trials"])
    best = max(forest["trials"], key=lambda trial: (trial["balanced_accuracy"], -trial["trial"]))
    assert forest["best"] == best["trial"]
    mean = sum(fold["balanced_accuracy"] for fold in best["folds"]) / 3
    assert best["balanced_accuracy"] == pytest.approx(mean)
    assert len(table(Path(result["search"]) / "trials.csv")) == 6


def test_the_test_images_are_in_no_fold_and_groups_stay_whole(searched):
    folder = Path(searched[1]["search"])
    parts = {row["path"]: row["part"] for row in table(folder / "split.csv")}
    folds = {row["path"]: (row["group"], int(row["repeat 1"])) for row in table(folder / "folds.csv")}
    assert {fold > 0 for path, (_, fold) in folds.items() if parts[path] == "test"} == {False}
    assert {fold > 0 for path, (_, fold) in folds.items() if parts[path] in ("train", "validation")} == {True}
    of_group: dict[str, set[int]] = {}
    for group, fold in folds.values():
        of_group.setdefault(group, set()).add(fold)
    assert all(len(numbers) == 1 for numbers in of_group.values())


def test_the_best_study_is_a_study_with_the_best_settings(searched):
    study, result = searched
    best = Study.from_yaml(result["best_study"])
    chosen = {one["model"]: one["trials"][one["best"] - 1]["settings"] for one in result["models"]}
    models = {model.name: model for model in best.models}
    assert (models["forest"].trees, models["forest"].max_depth) == (chosen["forest"]["trees"], chosen["forest"]["max_depth"])
    assert list(models["cnn"].filters) == chosen["cnn"]["filters"]
    assert best.search.space == {} and best.data.path == Study.from_yaml(study).data.path


def test_the_same_search_is_not_done_twice(searched):
    study, result = searched
    again = answer("search", study, "--output", Path(result["search"]).parents[1], "--quiet")
    assert again == result


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_trials(searched, tmp_path):
    study, result = searched
    again = answer("search", study, "--output", tmp_path, "--quiet", "--set", "search.workers=2")
    for one, other in zip(again["models"], result["models"], strict=True):
        assert [without_time(trial) for trial in one["trials"]] == [without_time(trial) for trial in other["trials"]]


def without_time(trial):
    return {key: value for key, value in trial.items() if key != "seconds"}


def test_people_see_a_table_and_what_to_do_next(searched):
    study, result = searched
    shown = ask("search", study, "--output", Path(result["search"]).parents[1], "--quiet")
    assert shown.exit_code == 0
    assert "forest: the best of 4 trials" in shown.stdout and "vitrail run" in shown.stdout


def test_wrong_spaces_are_told_before_an_image_is_read(tmp_path, images):
    study = write_study(tmp_path / "study.yaml", images, search={"space": {"models.forest.tree": [1], "models.cnn.kernel": [4]}})
    ended = process("search", study, "--output", tmp_path / "runs")
    assert ended.returncode == 2
    assert "search.space.models.forest.tree" in ended.stderr and "search.space.models.cnn.kernel" in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_a_study_without_a_space_says_how_to_write_one(tmp_path, images):
    ended = process("search", write_study(tmp_path / "study.yaml", images))
    assert ended.returncode == 2 and "search.space" in ended.stderr and "models.forest.trees" in ended.stderr


@pytest.mark.parametrize(
    ("threshold", "words"),
    [({"positive": "cirlce"}, "cirlce"), ({"threshold": "sensitivity", "positive": "round"}, "evaluation.threshold")],
)
def test_a_threshold_that_cannot_be_chosen_is_told_before_a_fold_is_trained(tmp_path, images, threshold, words):
    search = {"space": SPACE, "folds": 2, "workers": 1, "threads": 1}
    study = write_study(tmp_path / "study.yaml", images, search=search, evaluation=threshold)
    refused = ask("search", study, "--output", tmp_path / "runs")
    assert refused.exit_code == 2 and words in refused.stderr and "evaluation." in refused.stderr
    assert not (tmp_path / "runs" / "searches").exists()


def no_memory():
    return MemoryError("Unable to allocate 9.00 TiB for an array")


def no_memory_of_onnx():
    return type("RuntimeException", (Exception,), {})("Failed to allocate memory for requested buffer of size 9895604649984")


@pytest.mark.parametrize("error", [no_memory, no_memory_of_onnx])
def test_a_candidate_without_memory_for_its_features_fails_alone(tmp_path, images, monkeypatch, error):
    embed = DescriptorEmbedder.embed

    def tight(self, pixels):
        if self.recipe.size > 32:
            raise error()
        return embed(self, pixels)

    monkeypatch.setattr(DescriptorEmbedder, "embed", tight)
    space = {"models.forest.preprocess.size": [64, 32]}
    forest = [{"model": "forest", "trees": 3, "features": ["pixels"]}]
    study = write_study(
        tmp_path / "s.yaml", images, models=forest, search={"space": space, "folds": 2, "workers": 1, "threads": 1}
    )
    (found,) = answer("search", study, "--output", tmp_path / "runs", "--quiet")["models"]
    large, small = found["trials"]
    assert (large["state"], small["state"], found["best"]) == ("failed", "complete", small["trial"])
    assert "memory ran out on fold 1" in large["failure"] and "allocate" in large["failure"]
    assert len(small["folds"]) == 2


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path, images, monkeypatch):
    def broken(self, pixels):
        raise ZeroDivisionError("a mistake in the programme")

    monkeypatch.setattr(DescriptorEmbedder, "embed", broken)
    search = {"space": {"models.forest.trees": [2]}, "folds": 2, "workers": 1, "threads": 1}
    study = write_study(tmp_path / "study.yaml", images, models=["forest"], search=search)
    with pytest.raises(ZeroDivisionError):
        ask("search", study, "--output", tmp_path / "runs", "--quiet")


def test_n4_in_a_space_without_its_package_is_told_before_work(tmp_path, images, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    space = {"models.forest.preprocess.bias_correction": ["none", "n4"]}
    study = write_study(tmp_path / "study.yaml", images, search={"space": space})
    refused = ask("search", study, "--output", tmp_path / "runs")
    assert refused.exit_code == 2 and not (tmp_path / "runs").exists()
    told = " ".join(refused.stderr.split())
    assert "search.space.models.forest.preprocess.bias_correction" in told and "pip install 'vitrail[n4]'" in told
