"""``search.outer_folds``: a search within every outer fold, from the door a user takes, and by hand."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from cli_data import CLASSES, answer, ask, command, make_images, process, write_study
from PIL import Image
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score

from vitrail.datasets import scan_folder
from vitrail.errors import VitrailError
from vitrail.evaluation import predictions_of
from vitrail.models import svm
from vitrail.search import cross_validation
from vitrail.study import Study
from vitrail.training import features, frozen_embedder
from vitrail.training.train import Job

MODELS = [
    {"model": "forest", "features": ["pixels"], "preprocess": {"size": 16}},
    {"model": "svm", "features": ["pixels"], "preprocess": {"size": 16}},
]
SPACE = {"models.forest.trees": [1, 6], "models.svm.C": [0.05, 3.0]}
SEARCH = {"space": SPACE, "folds": 2, "outer_folds": 3, "workers": 1, "threads": 1}
FITS = 3 * (4 * 2 + 1)


@pytest.fixture(scope="module")
def copies(tmp_path_factory) -> Path:
    """Images of which some stand twice: these belong together."""
    folder = make_images(tmp_path_factory.mktemp("nested") / "shapes", per_class=16, seed=5)
    for label in CLASSES:
        for number in range(3):
            shutil.copy(folder / label / f"{number}.png", folder / label / f"copy{number}.png")
    return folder


def study_file(path: Path, images: Path, **search: object) -> Path:
    return write_study(path / "study.yaml", images, models=MODELS, search=SEARCH | search, split={"test": 0.25})


@pytest.fixture(scope="module")
def nested(tmp_path_factory, copies):
    folder = tmp_path_factory.mktemp("nested-search")
    study = study_file(folder, copies)
    plain = answer("search", study, "--output", folder / "runs", "--quiet", "--set", "search.outer_folds=0")
    return study, plain, answer("search", study, "--output", folder / "runs", "--quiet")


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def folder_of(result) -> Path:
    return Path(result["search"]) / f"nested-{result['nested']['outer_folds']}"


# ---------------------------------------------------------------------------------------------------- the numbers


def fitted(name, settings, vectors, labels, groups):
    """What a candidate says of vectors, fitted by hand."""
    if name == "forest":
        trees = RandomForestClassifier(settings["trees"], class_weight="balanced", random_state=0).fit(vectors, labels)
        return lambda some: trees.predict(some)
    wished = Study.model_validate({"data": {"path": "."}, "models": [MODELS[1] | settings]}).models[0]
    head, _ = svm.fit(wished, vectors, labels, groups=groups, class_weights=True, seed=0)
    return lambda some: head.scores(some).argmax(axis=1)


def test_the_estimate_is_that_of_nested_loops_by_hand(nested, copies, tmp_path):
    study, _, result = nested
    asked, manifest = Study.from_yaml(study), scan_folder(copies, cache=tmp_path)
    embedder = frozen_embedder(asked.models[0], Job(asked, manifest, None, tmp_path, tmp_path))
    vectors, labels = features(embedder, manifest, np.arange(len(manifest)), cache=tmp_path), manifest.labels
    assert embedder.fingerprint == frozen_embedder(asked.models[1], Job(asked, manifest, None, tmp_path, tmp_path)).fingerprint
    candidates = [("forest", {"trees": 1}), ("forest", {"trees": 6}), ("svm", {"C": 0.05}), ("svm", {"C": 3.0})]

    outer_lines = table(folder_of(result) / "folds.csv")
    outer, groups = (np.array([int(line[name]) for line in outer_lines]) for name in ("repeat 1", "group"))
    predicted, chosen = np.full(len(outer), -1), []

    def answers(candidate, train, held):
        return fitted(*candidate, vectors[train], labels[train], groups[train])(vectors[held])

    for fold in (1, 2, 3):
        inner = np.array([int(line["repeat 1"]) for line in table(folder_of(result) / f"fold{fold}" / "folds.csv")])
        means = []
        for candidate in candidates:
            folds = [(np.flatnonzero((inner > 0) & (inner != held)), np.flatnonzero(inner == held)) for held in (1, 2)]
            scores = [balanced_accuracy_score(labels[held], answers(candidate, train, held)) for train, held in folds]
            means.append(np.mean(scores))
        best = candidates[int(np.argmax(means))]
        train, held = np.flatnonzero((outer > 0) & (outer != fold)), np.flatnonzero(outer == fold)
        predicted[held] = answers(best, train, held)
        score = balanced_accuracy_score(labels[held], predicted[held])
        chosen.append((*best, pytest.approx(max(means)), pytest.approx(score), len(held), len(set(groups[held]))))

    known = predicted >= 0
    keys = ("model", "settings", "inner_score", "balanced_accuracy", "n", "groups")
    assert [tuple(one[key] for key in keys) for one in result["nested"]["folds"]] == chosen
    estimate = result["nested"]["estimate"]
    assert estimate["value"] == pytest.approx(balanced_accuracy_score(labels[known], predicted[known]))
    assert (estimate["n"], estimate["groups"]) == (known.sum(), len(set(groups[known])))
    assert estimate["low"] <= estimate["value"] <= estimate["high"] and "bootstrap" in estimate["method"]
    confusion = [[int(((labels == row) & (predicted == column)).sum()) for column in range(3)] for row in range(3)]
    assert [list(row) for row in result["nested"]["pooled"]["confusion"]] == confusion


def test_the_choice_is_counted_and_held_against_the_winner(nested):
    _, _, result = nested
    told = result["nested"]
    best = max(
        (trial | {"model": one["model"]} for one in result["models"] for trial in one["trials"]),
        key=lambda trial: trial["balanced_accuracy"],
    )
    assert (told["winner"]["model"], told["winner"]["settings"]) == (best["model"], best["settings"])
    assert told["inner_score"] == best["balanced_accuracy"] and told["inner_standard_error"] == best["standard_error"]
    assert told["optimism"] == pytest.approx(told["inner_score"] - told["estimate"]["value"])
    counted = Counter((one["model"], json.dumps(one["settings"])) for one in told["folds"])
    assert {(one["model"], json.dumps(one["settings"])): one["chosen_in"] for one in told["choices"]} == counted
    assert told["winner"]["chosen_in"] == counted[best["model"], json.dumps(best["settings"])]
    assert "not directly tested" in told["meaning"]
    assert told["fits"] == FITS
    assert json.loads((folder_of(result) / "nested.json").read_text()) == told


def test_groups_stay_whole_and_nobody_sees_what_is_predicted(nested):
    _, _, result = nested
    parts = {row["path"]: row["part"] for row in table(Path(result["search"]) / "split.csv")}
    rows = table(folder_of(result) / "folds.csv")
    outer = {row["path"]: int(row["repeat 1"]) for row in rows}
    assert {path for path, fold in outer.items() if fold} == {path for path in outer if parts[path] in ("train", "validation")}
    assert any(part == "test" for part in parts.values())
    shared = [group for group, count in Counter(row["group"] for row in rows if outer[row["path"]]).items() if count > 1]
    assert shared  # copies trained or validated: what follows says something of them
    assert all(len({outer[row["path"]] for row in rows if row["group"] == group}) == 1 for group in shared)
    for fold in (1, 2, 3):
        inner = {row["path"]: int(row["repeat 1"]) for row in table(folder_of(result) / f"fold{fold}" / "folds.csv")}
        assert {path for path, number in inner.items() if number} == {path for path in outer if outer[path] not in (0, fold)}
        assert all(len({inner[row["path"]] for row in rows if row["group"] == group}) == 1 for group in shared)
    predictions = [row["path"] for row in table(folder_of(result) / "predictions.csv")]
    assert sorted(predictions) == sorted(path for path, fold in outer.items() if fold)


def test_outer_folds_are_added_to_a_search_and_change_nothing_in_it(nested):
    _, plain, result = nested
    assert plain["nested"] is None
    assert {**result, "nested": None} == plain


# ---------------------------------------------------------------------------------------------------- killed, repeated, shared


class Counted:
    """``train``, counted, and interrupted at some calls."""

    def __init__(self, interrupt_at=()):
        self.calls = 0
        self.interrupt_at = interrupt_at
        self.train = cross_validation.train

    def __call__(self, settings, job):
        self.calls += 1
        if self.calls in self.interrupt_at:
            raise KeyboardInterrupt
        return self.train(settings, job)


def without_time(result):
    """What a search measured, without places and times."""
    trials = [
        [{key: value for key, value in trial.items() if key != "seconds"} for trial in one["trials"]] for one in result["models"]
    ]
    return trials, result["nested"]


def test_what_is_done_is_not_done_again(nested, monkeypatch):
    study, _, result = nested
    monkeypatch.setattr(cross_validation, "train", counted := Counted())
    assert answer("search", study, "--output", Path(result["search"]).parents[1], "--quiet") == result
    assert counted.calls == 0


def test_an_interrupted_search_goes_on_and_trains_nothing_twice(nested, copies, tmp_path, monkeypatch):
    study, _, result = nested
    whole = 4 * 2 + FITS
    counted = Counted(interrupt_at=(13, 14, 30, whole + 2, whole + 4))  # in outer folds 1 and 3, and among the chosen ones
    monkeypatch.setattr(cross_validation, "train", counted)
    words = ("search", study, "--output", tmp_path / "runs", "--quiet", "--json")
    stopped = [ask(*words).exit_code for _ in counted.interrupt_at]
    ended = ask(*words)
    assert stopped == [130] * 5 and ended.exit_code == 0
    assert counted.calls == whole + len(counted.interrupt_at)
    assert without_time(json.loads(ended.stdout)) == without_time(result)


@pytest.mark.slow
def test_a_killed_search_ends_with_the_same_numbers(nested, tmp_path):
    study, _, result = nested
    words = ("search", study, "--output", tmp_path / "runs", "--set", "search.workers=2")
    for moment in ("fold1/models/svm/trials/*/fold1.json", "fold2/models/forest/trials.log", "chosen/fold1.json"):
        with subprocess.Popen(command(*words), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as started:
            while started.poll() is None and not list((tmp_path / "runs").glob(f"searches/*/nested-3/{moment}")):
                time.sleep(0.005)
            started.send_signal(signal.SIGKILL)
    assert without_time(answer(*words)) == without_time(result)
    assert not list((tmp_path / "runs" / "searches").rglob("*.partial"))


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_estimate(nested, tmp_path):
    study, _, result = nested
    again = answer("search", study, "--output", tmp_path, "--quiet", "--set", "search.workers=2")
    assert without_time(again) == without_time(result)


def test_what_is_drawn_is_drawn_the_same_again(copies, tmp_path):
    space = {"models.forest.trees": {"low": 1, "high": 9, "integer": True}}
    study = study_file(tmp_path, copies, space=space, method="tpe", trials=2, outer_folds=2)
    first, second = (answer("search", study, "--output", tmp_path / place, "--quiet") for place in ("1", "2"))
    assert first["nested"] == second["nested"] and len(first["nested"]["folds"]) == 2
    assert first["nested"]["fits"] == 2 * (2 * 2 + 1)


# ---------------------------------------------------------------------------------------------------- what people read


def test_people_are_told_the_cost_before_and_what_it_means_after(nested):
    shown = ask("search", nested[0], "--output", Path(nested[2]["search"]).parents[1])
    told = " ".join(shown.stderr.split())
    assert f"{8 + FITS} models are trained: 8 for the search, {FITS} for its nested estimate" in told
    assert told.index("models are trained") < told.index("forest: searching")
    assert f"nested selection: {FITS} of {FITS} in" in told
    result = nested[2]["nested"]
    words = " ".join(shown.stdout.split())
    value, low, high = (result["estimate"][key] for key in ("value", "low", "high"))
    assert f"Nested estimate: {value:.3f} [{low:.2f}, {high:.2f}], n = {result['estimate']['n']}" in words
    assert f"{result['inner_score']:.3f} ± {result['inner_standard_error']:.3f}" in words
    assert result["meaning"] in words
    assert f"{result['choices'][0]['chosen_in']} of 3" in words


def test_where_settings_come_from_a_range_models_are_counted(copies, tmp_path):
    space = {"models.forest.max_features": {"low": 0.2, "high": 0.9}, "models.forest.trees": [1, 2]}
    study = study_file(tmp_path, copies, space=space, method="random", trials=2, outer_folds=2)
    words = ("search", study, "--output", tmp_path / "runs", "--quiet")
    told = answer(*words)["nested"]
    assert told["choices"] == [{"model": "forest", "settings": {}, "chosen_in": 2}]
    assert (told["winner"]["chosen_in"], told["winner"]["counted"]) == (2, "model alone")
    assert "forest in 2 of 2. Settings from a continuous range" in " ".join(ask(*words).stdout.split())


def test_an_outer_fold_that_cannot_be_predicted_leaves_no_estimate(nested, tmp_path, monkeypatch):
    def train(settings, job):
        assert job.folder.parts[-2:] == ("chosen", "fold2")
        raise VitrailError("no memory [here]")

    monkeypatch.setattr(cross_validation, "train", train)
    study, _, result = nested
    shutil.copytree(Path(result["search"]).parents[1], tmp_path / "runs")
    (lost,) = (tmp_path / "runs").glob("searches/*/nested-3/chosen/fold2.json")
    lost.unlink()
    words = ("search", study, "--output", tmp_path / "runs", "--quiet")
    told = answer(*words)["nested"]
    assert told["estimate"]["value"] is None and told["optimism"] is None and told["pooled"] is None
    assert [one["failure"] for one in told["folds"]] == ["", "no memory [here]", ""]
    shown = ask(*words).stdout
    assert "[here]" in shown and "Nested estimate: not estimable, n = 42" in " ".join(shown.split())
    monkeypatch.undo()
    assert answer(*words)["nested"] == result["nested"]  # what failed is tried again


# ---------------------------------------------------------------------------------------------------- wrong settings


@pytest.mark.parametrize("number", ["1", "-1", "21", "true", "2.5"])
def test_wrong_numbers_are_told_before_an_image_is_read(copies, tmp_path, number):
    ended = ask("search", study_file(tmp_path, copies), "--output", tmp_path / "runs", "--set", f"search.outer_folds={number}")
    assert ended.exit_code == 2 and "search.outer_folds: must be" in ended.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("folds", [2, 5])
def test_more_folds_than_the_images_carry_are_told_with_the_most_there_can_be(copies, tmp_path, monkeypatch, folds):
    counted = Counted(interrupt_at=(1,))
    monkeypatch.setattr(cross_validation, "train", counted)

    def ends(number):
        counted.calls = 0
        study = study_file(tmp_path, copies, folds=folds, outer_folds=number)
        return ask("search", study, "--output", tmp_path / "runs", "--quiet")

    refused = ends(20)
    assert refused.exit_code == 2 and counted.calls == 0
    words = " ".join(refused.stderr.split())
    most = int(re.search(r"search\.outer_folds: must .* Set search\.outer_folds: (\d+), .* Found: 20\.", words)[1])
    assert ends(most).exit_code == 130  # it began to train
    assert ends(most + 1).exit_code == 2


def test_where_no_outer_folds_are_possible_that_is_said(tmp_path):
    images = make_images(tmp_path / "few", per_class=5, seed=1)
    ended = process("search", study_file(tmp_path, images, folds=3, outer_folds=2), "--output", tmp_path / "runs")
    assert ended.returncode == 2 and "Set search.outer_folds: 0" in " ".join(ended.stderr.split())


# ---------------------------------------------------------------------------------------------------- why it is there


def test_the_best_of_many_that_guess_looks_good_and_the_estimate_does_not(copies, tmp_path, monkeypatch):
    def guess(study, settings, job):
        rows = job.split.rows("test")
        generator = np.random.default_rng((0, settings.trees, *rows.tolist()))
        scores = generator.dirichlet(np.ones(3), len(rows))
        return predictions_of(settings.name, job.manifest, job.split, part="test", probabilities=scores)

    monkeypatch.setattr(cross_validation, "predict_fold", guess)
    study = study_file(tmp_path, copies, space={"models.forest.trees": list(range(1, 13))})
    told = answer("search", study, "--output", tmp_path / "runs", "--quiet")["nested"]
    assert told["inner_score"] > 1 / 3 + 0.05
    assert told["estimate"]["low"] < 1 / 3 < told["estimate"]["high"]
    assert told["optimism"] > 0


@pytest.mark.slow
def test_with_random_labels_the_winner_looks_good_and_the_estimate_does_not(tmp_path):
    generator = np.random.default_rng(3)
    for number in range(60):
        folder = tmp_path / "noise" / ("no", "yes")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (24, 24), dtype=np.uint8)).save(folder / f"{number}.png")
    space = {"models.forest.trees": [1, 2, 3], "models.forest.max_depth": [1, 2, 4], "models.forest.max_features": ["sqrt", 0.3]}
    study = write_study(tmp_path / "study.yaml", tmp_path / "noise", models=MODELS[:1], search=SEARCH | {"space": space})
    told = answer("search", study, "--output", tmp_path / "runs", "--quiet")["nested"]
    assert told["inner_score"] > 0.55
    assert told["estimate"]["low"] < 0.5 < told["estimate"]["high"]
    assert told["optimism"] > 0
