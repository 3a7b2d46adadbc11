"""Trials: every candidate once, whatever kills the search and whenever."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from vitrail.errors import Problem, StudyError, UsageError, VitrailError
from vitrail.search import Trial, best_of, run_trials, trials
from vitrail.settings import RangeSettings, SearchSettings

GRID = {"trees": (10, 30, 50), "max_depth": (None, 4), "features": (["pixels"], ["hog", "pixels"])}
RANGES = {"rate": RangeSettings(low=1e-4, high=1e-1, log=True), "layers": RangeSettings(low=1, high=4, integer=True)}


class Killed(BaseException):
    """Stands for a kill: nothing in between may catch it."""


def goodness(parameters, fold):
    text = json.dumps(parameters, sort_keys=True)
    return sum(map(ord, text)) % 97 / 97 + fold / 1000


class Scorer:
    """Scores by formula, notes what it was asked, and kills the search at the calls that it is told."""

    def __init__(self, *, kill_at=(), fail=lambda parameters: False):
        self.asked = []
        self.kill_at = set(kill_at)
        self.fail = fail

    def __call__(self, parameters, folder, fold):
        self.asked.append((json.dumps(parameters, sort_keys=True), fold))
        if len(self.asked) in self.kill_at:
            raise Killed
        if self.fail(parameters):
            raise VitrailError("diverged")
        return {"balanced_accuracy": goodness(parameters, fold), "log_loss": 0.5}


def search(folder: Path, scorer, *, space=GRID, folds=3, **settings):
    return run_trials("m", space, SearchSettings(**settings), scorer, folds=folds, seed=0, folder=folder)


def outcome(searched):
    return {json.dumps(trial.parameters, sort_keys=True): (trial.state, trial.scores) for trial in searched.trials}


def as_told(searched):
    return [(trial.number, trial.parameters, trial.state, trial.scores) for trial in searched.trials]


def test_a_grid_tries_every_combination_once_on_every_fold(tmp_path):
    scorer = Scorer()
    searched = search(tmp_path, scorer)
    assert len(searched.trials) == 12 == len(outcome(searched))
    assert len(scorer.asked) == 36 == len(set(scorer.asked))
    assert [trial.number for trial in searched.trials] == list(range(1, 13))
    expected = max(searched.trials, key=lambda trial: np.mean([goodness(trial.parameters, fold) for fold in range(3)]))
    assert searched.best == expected.number
    assert expected.score == pytest.approx(np.mean([goodness(expected.parameters, fold) for fold in range(3)]))


def test_a_search_that_has_ended_does_nothing_when_it_is_called_again(tmp_path):
    first, again = search(tmp_path, Scorer()), Scorer()
    assert search(tmp_path, again) == first
    assert again.asked == []


@pytest.mark.parametrize("method", ["grid", "random", "tpe"])
@pytest.mark.parametrize("kill_at", [1, 2, 7, 18])
def test_a_killed_search_loses_and_doubles_nothing(tmp_path, method, kill_at):
    space = GRID if method == "grid" else RANGES
    settings = {"method": method, "trials": 14 if method == "tpe" else 8}  # the first ten of tpe are drawn at random
    done = []
    for _ in range(5):
        scorer = Scorer(kill_at=[kill_at])
        try:
            searched = search(tmp_path, scorer, space=space, **settings)
        except Killed:
            done += scorer.asked[:-1]
        else:
            done += scorer.asked
            break
    else:
        scorer = Scorer()
        searched = search(tmp_path, scorer, space=space, **settings)
        done += scorer.asked
    assert len(done) == len(set(done))  # no fold was computed twice
    count = {"grid": 12, "random": 8, "tpe": 14}[method]
    assert len(searched.trials) == count == len(outcome(searched))
    assert all(trial.state == "complete" and len(trial.folds) == 3 for trial in searched.trials)
    unkilled = search(tmp_path / "other", Scorer(), space=space, **settings)
    assert as_told(searched) == as_told(unkilled) and searched.best == unkilled.best


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_kill_before_a_candidate_was_begun_or_with_early_stopping_changes_no_trial(tmp_path, method):
    settings = {"method": method, "trials": 12, "stop_early": True}
    unkilled = search(tmp_path / "other", Scorer(), **settings)
    assert "stopped" in {trial.state for trial in unkilled.trials}
    with pytest.raises(Killed):
        search(tmp_path / "s", Scorer(kill_at=[20]), **settings)
    left = {"trees": "50", "max_depth": "4", "features": '["pixels"]'}
    trials._open(tmp_path / "s", SearchSettings(**settings)).enqueue_trial(left)
    searched = search(tmp_path / "s", Scorer(), **settings)
    assert as_told(searched) == as_told(unkilled) and searched.best == unkilled.best


def test_an_interrupted_trial_is_taken_up_where_it_was(tmp_path):
    first = Scorer(kill_at=[3])
    with pytest.raises(Killed):
        search(tmp_path, first, space=RANGES, method="random", trials=2)
    second = Scorer()
    search(tmp_path, second, space=RANGES, method="random", trials=2)
    assert second.asked[0] == first.asked[2]


def test_what_cannot_be_trained_is_a_failed_trial_and_is_not_tried_again(tmp_path):
    scorer = Scorer(fail=lambda parameters: parameters["trees"] == 30)
    searched = search(tmp_path, scorer)
    failed = [trial for trial in searched.trials if trial.state == "failed"]
    assert len(failed) == 4 and {trial.failure for trial in failed} == {"diverged"}
    assert all(math.isnan(trial.score) for trial in failed)
    assert search(tmp_path, again := Scorer()) == searched
    assert again.asked == []


def test_a_wrong_use_is_no_failed_trial(tmp_path):
    def wrong(parameters, folder, fold):
        raise UsageError("the images are gone")

    with pytest.raises(UsageError):
        search(tmp_path, wrong)


def test_ranges_are_kept_and_the_seed_decides(tmp_path):
    first = search(tmp_path / "1", Scorer(), space=RANGES, method="random", trials=12)
    second = search(tmp_path / "2", Scorer(), space=RANGES, method="random", trials=12)
    assert outcome(first) == outcome(second)
    rates = [trial.parameters["rate"] for trial in first.trials]
    assert all(1e-4 <= rate <= 1e-1 for rate in rates) and len(set(rates)) == 12
    assert {type(trial.parameters["layers"]) for trial in first.trials} == {int}


def test_tpe_looks_where_it_was_good(tmp_path):
    def near(parameters, folder, fold):
        return {"balanced_accuracy": 1 - abs(math.log10(parameters["rate"]) + 3)}

    space = {"rate": RangeSettings(low=1e-6, high=1.0, log=True)}
    searched = search(tmp_path, near, space=space, method="tpe", trials=40, folds=2)
    late = [abs(math.log10(trial.parameters["rate"]) + 3) for trial in searched.trials[20:]]
    assert np.median(late) < 1.0  # 1.5 is to be expected of what is drawn at random


def test_hopeless_trials_stop_early_when_asked(tmp_path):
    space = {"trees": tuple(range(1, 15))}

    def falling(parameters, folder, fold):
        return {"balanced_accuracy": 1 - parameters["trees"] / 20}

    searched = search(tmp_path, falling, space=space, stop_early=True)
    states = [trial.state for trial in sorted(searched.trials, key=lambda trial: trial.parameters["trees"])]
    assert states[:5] == ["complete"] * 5
    assert "stopped" in states
    assert all(len(trial.folds) < 3 for trial in searched.trials if trial.state == "stopped")
    assert searched.trials[searched.best - 1].parameters == {"trees": 1}


def test_the_best_of_equals_stands_first_in_the_space_and_may_be_missing():
    def trial(number, trees, score, state="complete", rate=0.1):
        return Trial(number, {"trees": trees, "rate": rate}, state, ({"balanced_accuracy": score},), 1.0)

    space = {"trees": (None, 50, 10), "rate": RangeSettings(low=0.0, high=1.0)}
    ended = [
        trial(1, None, 0.5),
        trial(2, 10, 0.8),
        trial(3, 50, 0.8, rate=0.3),
        trial(4, 50, 0.8),
        trial(5, None, 0.9, "stopped"),
    ]
    assert best_of(ended, space) == 4
    assert best_of(ended[4:], space) == 0
    assert best_of([], space) == 0


def test_a_kill_changes_nothing_in_who_wins_among_equals(tmp_path):
    def equal(parameters, folder, fold):
        return {"balanced_accuracy": 0.5}

    first = Scorer(kill_at=[1])
    with pytest.raises(Killed):
        search(tmp_path, first)
    searched = search(tmp_path, equal)
    assert searched.trials[searched.best - 1].parameters == {"trees": 10, "max_depth": None, "features": ["pixels"]}


def test_the_standard_error_is_that_of_a_mean():
    folds = tuple({"balanced_accuracy": value} for value in (0.6, 0.7, 0.9))
    assert Trial(1, {}, "complete", folds, 0.0).standard_error == pytest.approx(np.std([0.6, 0.7, 0.9], ddof=1) / np.sqrt(3))
    assert math.isnan(Trial(1, {}, "complete", folds[:1], 0.0).standard_error)


def test_settings_that_do_not_go_together_fail_their_candidate_alone(tmp_path):
    def scorer(parameters, folder, fold):
        if parameters["trees"] == 30:
            raise StudyError("study", (Problem("models.m.trees", "must not be 30", "30"),))
        return {"balanced_accuracy": 0.5}

    searched = search(tmp_path, scorer)
    failed = [trial for trial in searched.trials if trial.state == "failed"]
    assert len(failed) == 4 and all("must not be 30" in trial.failure for trial in failed)


def test_scores_that_are_no_numbers_fail_their_candidate_and_the_search_ends(tmp_path):
    def scorer(parameters, folder, fold):
        return {"balanced_accuracy": math.nan if parameters["trees"] == 30 and fold == 1 else 0.5}

    searched = search(tmp_path, scorer)
    failed = [trial for trial in searched.trials if trial.state == "failed"]
    assert len(searched.trials) == 12 and {trial.parameters["trees"] for trial in failed} == {30} and len(failed) == 4
    assert all("not estimable" in trial.failure for trial in failed)
    assert as_told(search(tmp_path, again := Scorer())) == as_told(searched) and again.asked == []


def test_half_a_record_at_the_end_of_the_journal_is_no_trial(tmp_path):
    whole = search(tmp_path / "whole", Scorer())
    with pytest.raises(Killed):
        search(tmp_path / "torn", Scorer(kill_at={8}))
    with (tmp_path / "torn/trials.log").open("ab") as journal:
        journal.write(b'{"op_code": 5, "trial_id"')
    assert outcome(search(tmp_path / "torn", Scorer())) == outcome(whole)


def test_a_search_needs_no_symbolic_links(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("os.symlink", refuse)
    assert len(search(tmp_path, Scorer()).trials) == 12
