"""``vitrail plan`` and a planned ``vitrail run``, from the door a user takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_data import answer, ask, contents, kept, options

from vitrail.study import Study

FAST = options("evaluation.resamples=200", "tracking.enabled=false", "explanation.gallery=0")


@pytest.fixture(scope="module")
def planned(tmp_path_factory, images):
    folder = tmp_path_factory.mktemp("plan")
    words = ("plan", images, "--budget", "3s", "--output", folder / "study.yaml", *FAST, *options(f"output={folder / 'runs'}"))
    return folder, words, answer(*words, "--quiet")


def test_plan_json_is_the_contract(planned, images):
    plan = planned[2]
    assert set(plan) >= {"study_file", "budget", "seconds", "models", "costs", "choices", "facts", "timings", "remarks", "study"}
    assert plan["budget"] == 3.0 and plan["models"] == ["forest"]
    assert set(plan["costs"][0]) == {"what", "seconds", "memory", "planned", "reason"}
    assert {choice["kind"] for choice in plan["choices"]} <= {"fixed", "rule", "measured", "given"}
    assert plan["facts"]["images"] == {"flat": 14, "round": 14, "stripes": 14}
    assert plan["seconds"] == pytest.approx(sum(cost["seconds"] for cost in plan["costs"] if cost["planned"]))


def test_the_written_study_is_the_planned_one_with_its_reasons(planned):
    folder, _, plan = planned
    study = Study.from_yaml(folder / "study.yaml")
    assert study == Study.from_mapping(plan["study"])
    text = (folder / "study.yaml").read_text(encoding="utf-8")
    assert "# Plan (rule): no left-right flips" in text and "# Plan (fixed): always: the cheapest" in text
    assert "Budget 3.0 s" in text


def test_too_small_a_budget_is_said_aloud(planned):
    _, words, plan = planned
    assert any("too small for anything: only the cheapest model (forest)" in remark for remark in plan["remarks"])
    shown = ask(*words, "--quiet", "--force")
    assert shown.exit_code == 0 and "too small for anything" in shown.stdout and "vitrail run" in shown.stdout


def test_the_same_plan_again_is_the_same(planned):
    _, words, plan = planned
    assert answer(*words, "--quiet", "--force") == plan


def test_a_file_is_replaced_only_when_told(planned):
    folder, words, _ = planned
    before = (folder / "study.yaml").read_bytes()
    result = ask(*words, "--quiet")
    assert result.exit_code == 2 and "exists already" in result.stderr and (folder / "study.yaml").read_bytes() == before


def test_run_plans_a_folder_and_goes_on_in_the_same_run(planned, images):
    folder, _, _ = planned
    words = ("run", images, "--budget", "3s", "--output", folder / "runs", *FAST)
    first = ask(*words, "--json")
    assert first.exit_code == 0, first.stderr
    run = json.loads(first.stdout)
    assert [row["model"] for row in run["leaderboard"]] == ["forest"]
    assert "too small for anything" in first.stderr and "Expected" in first.stderr
    assert (
        Study.from_yaml(folder / "runs" / "plans" / f"{images.name}.yaml").models
        == Study.from_yaml(Path(run["run"]) / "study.yaml").models
    )
    assert answer(*words, "--quiet")["run"] == run["run"]


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize("budget", ["abc", "-5m", "0s", "20"])
def test_budgets_that_are_none(images, tmp_path, monkeypatch, verb, budget):
    monkeypatch.chdir(tmp_path)
    result = ask(verb, images, "--budget", budget)
    assert result.exit_code == 2 and not result.stdout
    assert (
        f"--budget: must be a length of time above 0 with its unit, for example 90s, 20m or 1h30m. Found: {budget!r}"
        in result.stderr
    )
    assert not list(tmp_path.iterdir())


def test_wrong_use_is_told_before_work(images, finished, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    absent = ask("plan", tmp_path / "absent", "--budget", "1m")
    assert absent.exit_code == 2 and "there is no such folder" in absent.stderr
    for words in ((finished.study,), (images, "--models", "forest"), (images, "--set", "models.forest.trees=3")):
        refused = ask("run", *words, "--budget", "1m", "--output", tmp_path / "out")
        assert refused.exit_code == 2 and "--budget: plans a folder" in refused.stderr, words
    study = ask("plan", finished.study)
    assert study.exit_code == 2 and "plan takes images" in study.stderr
    backbone = ask("plan", images, "--backbone", f"local-dir:{tmp_path / 'none'}")
    assert backbone.exit_code == 2 and "models.probe.backbone" in backbone.stderr
    assert not contents(tmp_path) and not kept(tmp_path / "out")
    assert "--budget" not in ask("search", "--help").stdout
