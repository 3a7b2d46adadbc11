"""What a nested cross-validation says of itself, and what MLflow is told of it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from parallel_scorer import NotingScorer

from vitrail.engine import WorkerPool
from vitrail.records import Estimate, Scores
from vitrail.search import Nested, OuterFold, Searched, Trial, describe_search, meaning, nested_fits, nested_row, winner_of
from vitrail.search.nested import _outcomes
from vitrail.settings import RangeSettings, SearchSettings


def trial(number, *scores, state="complete", parameters=None):
    folds = tuple({"balanced_accuracy": score} for score in scores)
    return Trial(number, {"trees": number} if parameters is None else parameters, state, folds, 1.0)


def fold(number, model, parameters, score=0.7, failure=""):
    return OuterFold(number, model, parameters, 0.8 if model else None, score, 10, 8, failure)


def scores(value):
    estimate = Estimate(value, value - 0.1, value + 0.1, 30, 24, "bootstrap")
    return Scores(30, 24, {"balanced_accuracy": estimate}, {}, ((15, 0), (0, 15)))


def nested(*folds, value=0.72):
    pooled = None if value is None else scores(value)
    return Nested(9, 3, "forest", {"trees": 5}, 0.8, 0.02, folds, pooled)


FOREST, OTHER = {"trees": 5}, {"trees": 9}


def test_choices_are_counted_the_most_frequent_first():
    told = nested(fold(1, "svm", FOREST), fold(2, "forest", OTHER), fold(3, "forest", FOREST), fold(4, "forest", FOREST))
    assert told.choices == (("forest", FOREST, 2), ("svm", FOREST, 1), ("forest", OTHER, 1))
    assert told.chose_the_winner == 2


def test_settings_from_a_continuous_range_are_not_counted_only_their_model():
    folds = fold(1, "forest", {"max_features": 0.31}), fold(2, "svm", FOREST), fold(3, "forest", {"max_features": 0.32})
    told = replace(nested(*folds), parameters={"max_features": 0.3}, continuous=("forest",))
    assert told.choices == (("forest", {}, 2), ("svm", FOREST, 1)) and told.chose_the_winner == 2
    assert nested_row(told)["winner"]["counted"] == "model alone"
    assert nested_row(replace(told, continuous=()))["winner"]["counted"] == "model and settings"
    searched = (Searched("forest", (trial(1, 0.7, 0.9, parameters=FOREST),), 1),)
    metrics = describe_search(searched, name="run", experiment="e", files=(), nested=told).metrics
    assert metrics["nested.chose_the_model_of_the_winner"] == 2 and "nested.chose_the_winner" not in metrics


@pytest.mark.parametrize(("value", "words"), [(0.72, "0.080 higher"), (0.8, "no higher here"), (0.9, "no higher here")])
def test_the_difference_is_said_in_words_whatever_its_sign(value, words):
    told = nested(fold(1, "forest", FOREST), value=value)
    assert told.optimism == pytest.approx(0.8 - value)
    assert words in meaning(told) and "Report the nested estimate" in meaning(told)


def test_that_fewer_images_trained_inside_is_said_where_it_is_so():
    two, five = (nested(*(fold(number, "forest", FOREST) for number in range(1, count + 1)), value=0.9) for count in (2, 5))
    assert "; but its models trained on 67 % of the images, not on 80 %" in meaning(five)
    assert "trained on" not in meaning(two)


def test_what_is_not_estimable_is_said_to_be_so():
    told = nested(fold(1, "forest", FOREST), fold(2, "", {}, score=None, failure="diverged"), value=None)
    row = nested_row(told)
    assert row["estimate"]["value"] is row["optimism"] is row["pooled"] is row["folds"][1]["model"] is None
    assert (row["estimate"]["n"], row["estimate"]["groups"]) == (20, 16) and "not every outer fold" in row["estimate"]["note"]
    assert "no nested estimate" in row["meaning"]
    assert told.choices == (("forest", FOREST, 1),)


def test_the_winner_is_the_best_of_all_models_and_the_first_of_equals():
    forest = Searched("forest", (trial(1, 0.5, 0.7), trial(2, 0.9, state="stopped")), 1)
    svm = Searched("svm", (trial(1, 0.6, 0.6), trial(2, 0.7, 0.7)), 2)
    none = Searched("cnn", (trial(1, state="failed"),), 0)
    assert winner_of((none, forest, svm)) == ("svm", svm.trials[1])
    same = Searched("svm", (trial(1, 0.6, 0.6),), 1)
    assert winner_of((forest, same)) == ("forest", forest.trials[0])
    assert winner_of((none,)) is None


def test_the_fits_are_those_of_every_fold_and_of_what_is_chosen():
    grid = {"forest": {"trees": (1, 2), "max_depth": (3, 4)}, "svm": {"C": (1, 2)}}
    assert nested_fits(SearchSettings(folds=3, repeats=2, outer_folds=5), grid) == (36, 5 * 37)
    drawn = {"forest": {"trees": RangeSettings(low=1, high=9, integer=True)}}
    assert nested_fits(SearchSettings(method="tpe", trials=7, folds=2, outer_folds=3), drawn) == (14, 3 * 15)
    assert nested_fits(SearchSettings(), grid) == (18, 0)


def test_mlflow_is_told_of_every_outer_fold_and_of_the_estimate():
    searched = (Searched("forest", (trial(1, 0.7, 0.9, parameters=FOREST),), 1),)
    told = nested(fold(1, "forest", FOREST), fold(2, "", {}, score=None, failure="diverged"))
    plain = describe_search(searched, name="run", experiment="e", files=())
    run = describe_search(searched, name="run", experiment="e", files=(), nested=told)
    assert run.key != plain.key and run.models[:1] == plain.models  # a search that was told before is told anew
    first, second = run.models[1:]
    assert (first.name, first.params, first.failure) == ("outer fold 1", {"trees": "5"}, "")
    assert first.metrics == {"n": 10, "inner_balanced_accuracy": 0.8, "balanced_accuracy": 0.7}
    assert second.failure == "diverged" and second.metrics == {"n": 10}
    assert run.metrics["nested.balanced_accuracy"] == 0.72 and run.metrics["nested.balanced_accuracy.low"] == pytest.approx(0.62)
    assert run.metrics["nested.inner_balanced_accuracy"] == 0.8 and run.metrics["nested.chose_the_winner"] == 1
    assert run.tags["nested"] == meaning(told)
    assert all(math.isfinite(value) for value in run.metrics.values())


def test_a_fit_that_kills_its_process_fails_alone(tmp_path):
    scorer = NotingScorer(tmp_path / "notes", trouble=((30, "killed"),))
    work = [(scorer, {"trees": trees}, tmp_path / "chosen" / f"fold{fold + 1}", fold) for fold, trees in enumerate((10, 30, 50))]
    with WorkerPool(2) as pool:
        first, second, third = _outcomes(pool, work)
    assert first.fold is not None and third.fold is not None and not first.failure + third.failure
    assert second.fold is None and "killed on fold 2" in second.failure
    before = scorer.read()
    with WorkerPool(1) as pool:
        again = list(_outcomes(pool, [work[0], work[2]]))
    assert again == [first, third] and scorer.read() == before  # what is there is not done again


def test_a_fit_whose_memory_ran_out_beside_others_is_done_alone(tmp_path):
    scorer = NotingScorer(tmp_path / "notes", trouble=((30, "no memory once"), (50, "no memory")))
    work = [(scorer, {"trees": trees}, tmp_path / "chosen" / f"fold{fold + 1}", fold) for fold, trees in enumerate((10, 30, 50))]
    with WorkerPool(2) as pool:
        first, second, third = _outcomes(pool, work)
    assert first.fold is not None and second.fold is not None and third.fold is None
    assert "memory ran out on fold 3, though it ran alone" in third.failure
