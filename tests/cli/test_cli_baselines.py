"""The baselines of a leaderboard, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_data import answer, ask, contents, options

from vitrail.training import BASELINES

NAMES = [baseline.name for baseline in BASELINES]


@pytest.fixture(scope="module")
def evaluated(finished, tmp_path_factory) -> tuple[dict, list]:
    """An evaluated run in a folder of its own, and the words that made it."""
    words = ["evaluate", finished.study, "--models", "forest", "--output", tmp_path_factory.mktemp("baselines")]
    return answer(*words), words


def test_json_has_the_baselines_with_the_scores_of_models(finished):
    run = finished.json
    assert [row["model"] for row in run["baselines"]] == NAMES
    for row in run["baselines"]:
        assert set(row) >= set(run["leaderboard"][0]) - {"package"}
        assert row["test_openings"] == 1 and row["seconds"] >= 0
        for part in ("test", "test_clean", "validation"):
            assert row[part]["accuracy"]["n"] == run["leaderboard"][0][part]["accuracy"]["n"]
    constant = run["baselines"][0]["test"]
    assert constant["balanced_accuracy"]["value"] == pytest.approx(1 / 3)
    assert constant["auc_weighted"]["value"] == 0.5


def test_json_has_every_model_against_every_baseline(finished):
    rows = finished.json["differences"]
    assert [(row["model"], row["baseline"]) for row in rows] == [(model, name) for model in ("forest", "cnn") for name in NAMES]
    everybody = [*finished.json["leaderboard"], *finished.json["baselines"]]
    scores = {row["model"]: row["test"]["balanced_accuracy"]["value"] for row in everybody}
    for row in rows:
        assert row["balanced_accuracy"]["value"] == pytest.approx(scores[row["model"]] - scores[row["baseline"]])
        assert row["beaten"] == ((row["balanced_accuracy"]["low"] or 0) > 0)
    assert finished.json["champion"] in finished.json["against_baselines"][0]


def test_their_openings_are_counted_like_those_of_models(finished):
    noted = [one["model"] for one in json.loads((finished.output / "test-openings.json").read_text())]
    assert noted == ["forest", "cnn", *(f"baseline {name}" for name in NAMES)]


def test_people_see_them_in_the_terminal_and_in_the_report(finished):
    shown = ask("run", finished.study).stdout
    page = Path(finished.json["report"]).read_text()
    for name in NAMES:
        assert name[:8] in shown and name in page
    for text in (" ".join(shown.split()), page):
        assert "A model that does not surely beat these cheap answers" in text


def test_a_killed_run_goes_on_with_the_same_numbers(evaluated):
    before, words = evaluated
    folder = Path(before["run"]) / "baselines"
    whole = contents(folder)
    (folder / NAMES[1] / "evaluation.json").unlink()
    (folder / "differences.json").unlink()
    after = answer(*words)
    leave_out = ("seconds", "test_openings", "test_openings_of_data")

    def numbers(run: dict) -> list[dict]:
        return [{key: value for key, value in row.items() if key not in leave_out} for row in run["baselines"]]

    assert numbers(after) == numbers(before)
    assert after["differences"] == before["differences"]
    assert [row["test_openings"] for row in after["baselines"]] == [1, 2, 1]
    changed = {name for name, digest in contents(folder).items() if whole[name] != digest}
    assert changed <= {f"{NAMES[1]}/training.json", f"{NAMES[1]}/evaluation.json"}


def test_baselines_of_another_split_are_fitted_anew(evaluated):
    before, words = evaluated
    record = Path(before["run"]) / "baselines" / NAMES[0] / "training.json"
    told = json.loads(record.read_text())
    record.write_text(json.dumps({**told, "split": "0" * 16}))
    answer(*words)
    assert json.loads(record.read_text())["split"] == told["split"]


def test_a_study_can_do_without(finished, tmp_path):
    words = ("run", finished.study, "--models", "forest", "--output", tmp_path, *options("evaluation.baselines=false"))
    run = answer(*words)
    assert (run["baselines"], run["differences"], run["against_baselines"]) == ([], [], [])
    assert not (Path(run["run"]) / "baselines").exists()
    assert len(json.loads((tmp_path / "test-openings.json").read_text())) == 1
    assert "Baselines" not in Path(run["report"]).read_text()


def test_training_alone_fits_none(finished, tmp_path):
    run = answer("train", finished.study, "--models", "forest", "--output", tmp_path)
    assert run["baselines"] == [] and not (Path(run["run"]) / "baselines").exists()
