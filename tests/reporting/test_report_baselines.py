"""The baselines on the page: apart from the models, with what it means not to beat them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from html_page import Page, assert_can_be_read_aloud, assert_well_formed

from vitrail.evaluation import MEANING, compare_with_baselines
from vitrail.records import ModelResult, RunResult
from vitrail.reporting import write_report
from vitrail.study import EvaluationSettings


def as_baseline(model: ModelResult, name: str, description: str) -> ModelResult:
    """A model of the run as if it were a baseline."""
    assert model.training and model.evaluation and model.predictions
    return ModelResult(
        name,
        "baseline",
        training=replace(model.training, model=name, description=description, epochs=()),
        evaluation=replace(model.evaluation, model=name),
        predictions=replace(model.predictions, model=name),
    )


@pytest.fixture(scope="module")
def held(result: RunResult, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunResult, str]:
    """A run whose forest does exactly as well as ``nuisance-only`` and whose probe does better; and its page."""
    forest, _, probe = result.models
    baseline = as_baseline(forest, "nuisance-only", "what <files> say")
    differences = compare_with_baselines(
        [forest.predictions, probe.predictions], [baseline.predictions], settings=EvaluationSettings(resamples=500), seed=0
    )
    run = replace(result, models=(replace(forest, explanations=()), replace(probe, explanations=())), baselines=(baseline,))
    low = replace(differences[0].balanced_accuracy, low=-0.02, high=0.02)
    run = replace(run, differences=(replace(differences[0], balanced_accuracy=low), differences[1]))
    path = tmp_path_factory.mktemp("held") / "report.html"
    write_report(run, path)
    return run, path.read_text(encoding="utf-8")


def test_baselines_stand_in_a_part_of_the_table_of_their_own(held: tuple[RunResult, str]) -> None:
    html = held[1]
    models, _, baselines = html.partition('<tbody class="baselines">')
    assert "what &lt;files&gt; say" in baselines and "what &lt;files&gt; say" not in models
    assert 'href="#model-3"' not in html  # no part of the page to go to
    assert_well_formed(Page(html))
    assert_can_be_read_aloud(Page(html))


def test_the_page_says_what_it_means_and_who_has_shown_nothing(held: tuple[RunResult, str]) -> None:
    run, html = held
    assert MEANING in html
    assert "Not shown to see more than file properties: forest (" in html
    assert f"{100 * run.differences[1].balanced_accuracy.value:+.1f} points" in html


def test_a_run_without_baselines_says_nothing_of_them(result: RunResult, tmp_path: Path) -> None:
    (forest, *_) = result.models
    write_report(replace(result, models=(replace(forest, explanations=()),), champion="forest"), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "aseline" not in html.partition("<body")[2]
