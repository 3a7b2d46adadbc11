"""Ensembles and test-time augmentation through the command line: run, predict, explain, resumed, asked for what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_data import answer, ask, contents, numbers, write_study

from vitrail import steps
from vitrail.errors import VitrailError
from vitrail.records import GradeTable, Training
from vitrail.storage import read_record

MODELS = [
    {"model": "ensemble"},
    {"model": "forest", "trees": 10},
    {"model": "svm", "components": 8, "features": ["pixels"], "preprocess": {"size": 32}, "test_time_augmentation": "shifts"},
    {"model": "boosted", "rounds": 5, "features": ["pixels"], "preprocess": {"size": 24}},
]
EXPLANATION = {"gallery": 1, "grade_images": 4, "hunt_images": 12}


@pytest.fixture(scope="module")
def study(images, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    return write_study(folder / "study.yaml", images, output="runs", models=MODELS, explanation=EXPLANATION)


@pytest.fixture(scope="module")
def run(study):
    return answer("run", study)


def training(run, model="ensemble") -> Training:
    return read_record(Path(run["run"]) / "models" / model / "training.json", Training)


def package(run, model) -> Path:
    return Path(run["run"]) / "models" / model / "package"


def predicted(run, model, images) -> np.ndarray:
    return np.array([list(one["probabilities"].values()) for one in answer("predict", package(run, model), *images)])


def test_it_stands_on_the_leaderboard_and_was_shown_the_test_images_once(run):
    rows = {row["model"]: row for row in run["leaderboard"]}
    assert list(rows) == ["ensemble", "forest", "svm", "boosted"]
    assert rows["ensemble"]["test_openings"] == 1
    assert Path(rows["ensemble"]["package"]).is_dir()


def test_an_ensemble_that_is_first_by_little_leaves_the_crown_to_its_best_member(run):
    scores = {
        row["model"]: (row["validation"]["balanced_accuracy"]["value"], -row["validation"]["log_loss"]["value"])
        for row in run["leaderboard"]
    }
    best, *others = sorted(scores, key=scores.get, reverse=True)
    if best != "ensemble":
        assert (run["champion"], run["champion_reason"]) == (best, "")
    else:  # of the few validation images of this run no difference is beyond noise
        assert run["champion"] == others[0] and "not beyond noise" in run["champion_reason"]
        assert run["champion_reason"] in Path(run["report"]).read_text(encoding="utf-8")


def test_predict_says_the_weighted_mean_of_what_its_members_say(run, images):
    members = training(run).members
    assert [member.name for member in members] == ["boosted", "forest", "svm"]
    assert sum(member.weight for member in members) == pytest.approx(1)
    some = sorted(images.rglob("*.png"))[::9]
    expected = sum(member.weight * predicted(run, member.name, some) for member in members)
    np.testing.assert_allclose(predicted(run, "ensemble", some), expected, atol=1e-12)


def test_what_was_evaluated_is_what_serves(run, images):
    lines = (Path(run["run"]) / "models" / "ensemble" / "predictions-test.csv").read_text().splitlines()[1:]
    places = [line.split(",")[0] for line in lines]
    noted = np.array([[float(score) for score in line.split(",")[6:9]] for line in lines])
    np.testing.assert_allclose(predicted(run, "ensemble", [images / place for place in places]), noted, atol=1e-6)


def test_it_is_explained_by_occlusion_and_described_in_the_report(run, images, tmp_path):
    image = next(images.rglob("*.png"))
    (one,) = answer("explain", package(run, "ensemble"), image, "--output", tmp_path)
    assert one["method"] == "occlusion" and np.load(one["map"]).shape == (40, 40)
    refused = ask("explain", package(run, "ensemble"), image, "--output", tmp_path, "--method", "grad-cam")
    assert refused.exit_code == 2 and "averages 3 models" in " ".join(refused.stderr.replace("│", " ").split())
    page = Path(run["report"]).read_text(encoding="utf-8")
    for words in ("weighted mean of the scores of", "Members and weights", "equal weights", "shifted four ways"):
        assert words in page


def test_it_is_graded_and_hunted_as_one_model(run, images, tmp_path):
    grades = read_record(package(run, "ensemble").parent / "grades.json", GradeTable)
    assert grades.chosen == "occlusion" and 0 < grades.n <= 4 and grades.grade_of("occlusion").relevance_gain.value is not None
    assert any(note.startswith("Maps and their grades are of the image itself") for note in grades.notes)
    assert run["shortcut_hunts"]["ensemble"]["method"] == "occlusion"
    assert [one["name"] for one in run["shortcut_hunts"]["ensemble"]["interventions"]] == ["nothing", "all but the border"]
    page = Path(run["report"]).read_text(encoding="utf-8")
    assert page.count("Can the maps be trusted?") == page.count("Where does it look, and does it need to?") == 4
    (one,) = answer("explain", package(run, "ensemble"), next(images.rglob("*.png")), "--output", tmp_path)
    assert "by grades on" in one["parameters"]["chosen"] and one["grade"]["random_gains"]
    assert "svm 0.33" in one["parameters"]["members"] and any("mean over 5 views" in words for words in one["warnings"])


def test_it_is_asked_by_every_method_that_wants_scores_alone(run, images, tmp_path):
    made = answer("explain", package(run, "ensemble"), next(images.rglob("*.png")), "--output", tmp_path, "--method", "lime")
    assert [one["method"] for one in made] == ["lime"] and made[0]["forward_passes"] > 60


def test_few_validation_images_get_equal_weights_and_the_numbers_are_kept(run):
    (choice,) = training(run).choices
    assert (choice.what, choice.chosen) == ("weights", "equal weights")
    assert "too few independent validation images" in choice.reason
    assert set(choice.validation) == {"boosted", "forest", "svm", "equal weights", "selected weights"}


def test_the_same_again_does_nothing_and_another_folder_gives_the_same_package(run, study, tmp_path):
    before = contents(Path(run["run"]) / "models")
    assert answer("run", study) == run
    assert contents(Path(run["run"]) / "models") == before
    again = answer("evaluate", study, "--output", tmp_path)
    assert numbers(again) == numbers(run)
    for model in ("ensemble", "svm"):
        assert contents(package(again, model)) == contents(package(run, model))


@pytest.mark.parametrize("step", ["combine", "save_ensemble", "evaluation_of"])
def test_an_interrupted_run_goes_on_to_the_same_numbers(run, study, tmp_path, monkeypatch, step):
    words = ("evaluate", study, "--output", tmp_path)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(steps, step, interrupt)
        assert ask(*words).exit_code == 130
    again = answer(*words)
    assert numbers(again) == numbers(run)
    assert contents(package(again, "ensemble")) == contents(package(run, "ensemble"))


def test_a_member_that_cannot_be_trained_is_left_out_aloud_and_taken_in_when_it_can(study, tmp_path, monkeypatch):
    words = ("train", study, "--output", tmp_path)
    train = steps.train

    def failing(settings, job):
        if settings.name in broken:
            raise VitrailError(f"{settings.name}: broken on purpose")
        return train(settings, job)

    monkeypatch.setattr(steps, "train", failing)
    broken = {"svm"}
    result = ask(*words, "--json")
    assert "ensemble: svm left out, not trained." in result.stderr
    made = training(json.loads(result.stdout))
    assert {member.name: member.weight for member in made.members} == {"boosted": 0.5, "forest": 0.5, "svm": 0.0}

    broken = set()
    result = ask(*words, "--json")
    assert "ensemble: its members have changed; combining anew" in result.stderr
    assert [member.weight for member in training(json.loads(result.stdout)).members] == pytest.approx([1 / 3] * 3)


def test_without_two_trained_members_there_is_no_ensemble_and_the_run_goes_on(study, tmp_path, monkeypatch):
    train = steps.train

    def failing(settings, job):
        if settings.name != "forest":
            raise VitrailError(f"{settings.name}: broken on purpose")
        return train(settings, job)

    monkeypatch.setattr(steps, "train", failing)
    result = ask("train", study, "--output", tmp_path, "--json")
    assert result.exit_code == 0
    (folder,) = tmp_path.glob("shapes-*/models/ensemble")
    assert "at least two trained members. Found: forest (not trained: boosted, svm)" in (folder / "failure.txt").read_text()


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (
            ["forest", {"model": "ensemble", "members": ["forest", "frst"]}],
            "models.ensemble.members: unknown model. Did you",
        ),
        (["forest", "ensemble"], "models.ensemble.members: must be at least two models"),
        (["ensemble"], "models.ensemble.members: must be at least two models"),
    ],
)
def test_wrong_members_are_told_before_an_image_is_read(images, tmp_path, models, words):
    asked = write_study(tmp_path / "study.yaml", images, output="runs", models=models)
    result = ask("run", asked)
    assert result.exit_code == 2 and "Reading images" not in result.stderr
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert not list((tmp_path / "runs").glob("shapes-*"))


def test_an_ensemble_has_nothing_to_search(images, tmp_path):
    space = {"models.ensemble.members": [["forest", "svm"]]}
    asked = write_study(tmp_path / "study.yaml", images, output="runs", models=MODELS, search={"space": space})
    result = ask("search", asked)
    assert result.exit_code == 2 and "an ensemble has nothing to search" in " ".join(result.stderr.replace("│", " ").split())


def test_auto_notes_both_numbers_and_few_images_prove_nothing(images, tmp_path):
    models = [{"model": "forest", "trees": 10, "test_time_augmentation": "auto"}]
    asked = write_study(tmp_path / "study.yaml", images, output="runs", models=models)
    made = training(answer("train", asked, "--set", "augment.flip_horizontal=true"), "forest")
    (choice,) = made.choices
    assert made.test_time_augmentation == choice.chosen == "none"
    assert set(choice.validation) == {"none", "mirror", "shifts"}
    assert all(set(values) == {"balanced_accuracy", "log_loss"} for values in choice.validation.values())


def test_a_mirror_is_remarked_upon(images, tmp_path):
    models = [{"model": "forest", "trees": 3, "test_time_augmentation": "mirror"}]
    asked = write_study(tmp_path / "study.yaml", images, output="runs", models=models)
    result = ask("train", asked)
    assert result.exit_code == 0 and "models.forest.test_time_augmentation: mirror" in " ".join(result.stderr.split())


def test_views_can_be_searched_and_change_the_scores(images, tmp_path):
    space = {"models.forest.test_time_augmentation": ["none", "shifts"]}
    models = [{"model": "forest", "trees": 5, "preprocess": {"size": 32}}]
    asked = write_study(tmp_path / "study.yaml", images, output="runs", models=models, search={"space": space, "folds": 2})
    (searched,) = answer("search", asked)["models"]
    losses = {
        trial["settings"]["test_time_augmentation"]: [fold["log_loss"] for fold in trial["folds"]] for trial in searched["trials"]
    }
    assert set(losses) == {"none", "shifts"} and losses["none"] != losses["shifts"]


def test_an_ensemble_cannot_be_trained_further(run, tmp_path):
    refused = ask("train", "--continue", run["run"], "--models", "ensemble", "--epochs", 2, "--output", tmp_path)
    assert refused.exit_code == 2 and "Go on with one of the members" in refused.stderr
