"""From predictions to scores, the leaderboard's rows and the champion."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import numpy as np
import pytest

from vitrail.errors import DataError
from vitrail.evaluation import CLASS_METRICS, OVERALL_METRICS, champion, evaluate, evaluation_of, leaderboard_row
from vitrail.records import Estimate, Evaluation, Predictions, Scores
from vitrail.storage import record_to_json
from vitrail.study import EvaluationSettings

MakePredictions = Callable[..., Predictions]
QUICK = EvaluationSettings(resamples=200)


def every_estimate(scores: Scores) -> list[Estimate]:
    return [*scores.overall.values(), *(one for metrics in scores.per_class.values() for one in metrics.values())]


def without(predictions: Predictions, name: str) -> Predictions:
    """The predictions without the images of one class."""
    kept = predictions.truth != predictions.classes.index(name)
    return dataclasses.replace(
        predictions,
        rows=predictions.rows[kept],
        paths=tuple(path for path, keep in zip(predictions.paths, kept, strict=True) if keep),
        truth=predictions.truth[kept],
        probabilities=predictions.probabilities[kept],
        groups=predictions.groups[kept],
        clean=predictions.clean[kept],
    )


def test_every_metric_is_there_with_its_own_value(make_predictions: MakePredictions) -> None:
    predictions = make_predictions()
    scores = evaluate(predictions, settings=QUICK, seed=0)
    ones = np.ones((1, 60))
    assert list(scores.overall) == list(OVERALL_METRICS)
    assert list(scores.per_class) == list(predictions.classes)
    for name, metric in OVERALL_METRICS.items():
        assert scores.overall[name].value == metric.compute(predictions.truth, predictions.probabilities, ones)[0]
    for name, metric in CLASS_METRICS.items():
        expected = metric.compute(predictions.truth, predictions.probabilities, ones)[0]
        assert [scores.per_class[one][name].value for one in predictions.classes] == expected.tolist()


def test_every_value_lies_in_its_interval_and_says_how_it_was_made(make_predictions: MakePredictions) -> None:
    for one in every_estimate(evaluate(make_predictions(group_size=2), settings=QUICK, seed=0)):
        assert one.value is not None
        assert one.low is not None
        assert one.high is not None
        assert one.low <= one.value <= one.high
        assert one.low < one.high
        assert one.method == f"bootstrap of {one.groups} groups, 200 resamples"


def test_an_estimate_counts_the_images_and_groups_it_rests_on(make_predictions: MakePredictions) -> None:
    predictions = make_predictions(n=62, group_size=2)
    scores = evaluate(predictions, settings=QUICK, seed=0)
    of_class = predictions.truth == 1
    given_class = predictions.predicted == 1
    masks = {
        "sensitivity": of_class,
        "specificity": ~of_class,
        "positive_predictive_value": given_class,
        "f1_score": of_class | given_class,
        "auc": np.ones(62, dtype=bool),
    }
    for name, mask in masks.items():
        found = scores.per_class["none"][name]
        assert (found.n, found.groups) == (mask.sum(), len(set(predictions.groups[mask])))
    assert all((one.n, one.groups) == (62, 31) for one in scores.overall.values())
    assert (scores.n, scores.groups) == (62, 31)


def test_the_confusion_matrix_counts_true_classes_by_row(make_predictions: MakePredictions) -> None:
    predictions = make_predictions()
    scores = evaluate(predictions, settings=QUICK, seed=0)
    expected = [[0, 0, 0], [0, 0, 0], [0, 0, 0]]
    for true, given in zip(predictions.truth, predictions.predicted, strict=True):
        expected[true][given] += 1
    assert [list(row) for row in scores.confusion] == expected


def test_the_clean_score_leaves_out_the_other_images(make_predictions: MakePredictions) -> None:
    predictions = make_predictions()
    right = predictions.predicted == predictions.truth
    scores = evaluate(predictions, settings=QUICK, seed=0, clean_only=True)
    assert scores.n == 48
    assert scores.overall["accuracy"].value == pytest.approx(right[predictions.clean].mean())


def test_same_seed_same_scores_and_another_seed_moves_only_the_intervals(make_predictions: MakePredictions) -> None:
    predictions = make_predictions()
    first, again, other = (evaluate(predictions, settings=QUICK, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other
    assert [one.value for one in every_estimate(first)] == [one.value for one in every_estimate(other)]


@pytest.mark.parametrize("skill", [0.0, 1.0, 50.0])
def test_an_empty_clean_set_is_not_estimable(make_predictions: MakePredictions, skill: float) -> None:
    predictions = make_predictions(skill=skill)
    predictions = dataclasses.replace(predictions, clean=np.zeros(60, dtype=np.bool_))
    scores = evaluate(predictions, settings=QUICK, seed=0, clean_only=True)
    assert (scores.n, scores.groups) == (0, 0)
    assert scores.confusion == ((0, 0, 0), (0, 0, 0), (0, 0, 0))
    expected = Estimate(None, None, None, 0, 0, "no interval", "not estimable: no images")
    assert every_estimate(scores) == [expected] * (len(OVERALL_METRICS) + 3 * len(CLASS_METRICS))


def test_an_absent_class_is_not_estimable_and_the_others_are(make_predictions: MakePredictions) -> None:
    scores = evaluate(without(make_predictions(), "none"), settings=QUICK, seed=0)
    assert scores.overall["accuracy"].value is not None
    assert scores.overall["balanced_accuracy"].value is None
    assert scores.overall["balanced_accuracy"].note == "not estimable: a class has no image"
    assert scores.per_class["none"]["sensitivity"].value is None
    assert scores.per_class["none"]["specificity"].value is not None
    assert scores.per_class["glioma"]["sensitivity"].low is not None


def test_one_image_has_values_where_it_can_and_no_intervals(make_predictions: MakePredictions) -> None:
    scores = evaluate(make_predictions(n=1), settings=QUICK, seed=0)
    assert scores.overall["accuracy"].value is not None
    assert all(one.low is None and one.high is None and one.note for one in every_estimate(scores))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(make_predictions: MakePredictions, number: float) -> None:
    predictions = make_predictions()
    predictions.probabilities[7, 1] = number
    with pytest.raises(DataError, match=r"cnn: .*finite.* 1 image.*none/7\.png"):
        evaluate(predictions, settings=QUICK, seed=0)


def evaluated(
    make: MakePredictions, model: str, *, validation_skill: float, test_skill: float = 1.0, seed: int = 0
) -> Evaluation:
    validation = make(model=model, part="validation", skill=validation_skill, seed=seed)
    test = make(model=model, skill=test_skill, seed=seed + 50)
    return evaluation_of(model, validation, test, settings=QUICK, seed=0, test_openings=1)


def test_an_evaluation_holds_three_sets_of_scores(make_predictions: MakePredictions) -> None:
    validation, test = make_predictions(part="validation", n=30), make_predictions(seed=1)
    evaluation = evaluation_of("cnn", validation, test, settings=QUICK, seed=5, test_openings=3)
    assert evaluation.validation == evaluate(validation, settings=QUICK, seed=5)
    assert evaluation.test == evaluate(test, settings=QUICK, seed=5)
    assert evaluation.test_clean == evaluate(test, settings=QUICK, seed=5, clean_only=True)
    assert (evaluation.model, evaluation.classes, evaluation.test_openings) == ("cnn", test.classes, 3)


def test_predictions_of_different_classes_do_not_make_an_evaluation(make_predictions: MakePredictions) -> None:
    other = make_predictions(classes=("a", "b", "c"), part="validation")
    with pytest.raises(DataError, match="same classes"):
        evaluation_of("cnn", other, make_predictions(), settings=QUICK, seed=0, test_openings=1)


# ---------------------------------------------------------------------------------------------------- leaderboard


def test_a_leaderboard_row_is_plain_and_complete(make_predictions: MakePredictions) -> None:
    evaluation = evaluated(make_predictions, "cnn", validation_skill=1.0)
    row = json.loads(json.dumps(leaderboard_row(evaluation), allow_nan=False))
    assert row["model"] == "cnn"
    for part, scores in (("test", evaluation.test), ("test_clean", evaluation.test_clean), ("validation", evaluation.validation)):
        assert set(row[part]) == {*OVERALL_METRICS, "per_class", "confusion_matrix"}
        for name, value in scores.overall.items():
            assert row[part][name] == dataclasses.asdict(value)
        for class_name, metrics in scores.per_class.items():
            assert row[part]["per_class"][class_name] == {name: dataclasses.asdict(value) for name, value in metrics.items()}
        assert row[part]["confusion_matrix"] == [list(line) for line in scores.confusion]


def test_what_is_not_estimable_is_null_in_json(make_predictions: MakePredictions) -> None:
    validation, test = make_predictions(part="validation"), make_predictions()
    test = dataclasses.replace(test, clean=np.zeros(60, dtype=np.bool_))
    evaluation = evaluation_of("cnn", validation, test, settings=QUICK, seed=0, test_openings=1)
    assert json.loads(record_to_json(evaluation))["test_clean"]["overall"]["accuracy"]["value"] is None
    row = json.loads(json.dumps(leaderboard_row(evaluation), allow_nan=False))
    assert row["test_clean"]["accuracy"]["value"] is None


# ---------------------------------------------------------------------------------------------------- champion


def test_the_champion_is_chosen_on_validation_and_never_on_test(make_predictions: MakePredictions) -> None:
    good_on_test = evaluated(make_predictions, "good-on-test", validation_skill=0.0, test_skill=50.0)
    good_on_validation = evaluated(make_predictions, "good-on-validation", validation_skill=3.0, test_skill=0.0)
    assert champion([good_on_test, good_on_validation]) == "good-on-validation"
    assert champion([good_on_validation, good_on_test]) == "good-on-validation"


def with_validation(evaluation: Evaluation, *, model: str, balanced_accuracy: float | None, log_loss: float | None) -> Evaluation:
    overall = dict(evaluation.validation.overall)
    for name, value in (("balanced_accuracy", balanced_accuracy), ("log_loss", log_loss)):
        overall[name] = dataclasses.replace(overall[name], value=value)
    return dataclasses.replace(evaluation, model=model, validation=dataclasses.replace(evaluation.validation, overall=overall))


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([(0.8, 0.5), (0.8, 0.4), (0.7, 0.1)], 1),
        ([(0.8, 0.5), (0.8, 0.5)], 0),
        ([(0.8, None), (0.8, 0.9)], 1),
        ([(None, 0.1), (0.2, 0.9)], 1),
        ([(None, 0.3), (None, 0.2)], 1),
        ([(None, None), (None, None)], 0),
    ],
)
def test_ties_go_to_the_lower_log_loss_then_to_the_first(
    make_predictions: MakePredictions, scores: list[tuple[float | None, float | None]], best: int
) -> None:
    base = evaluated(make_predictions, "base", validation_skill=1.0)
    candidates = [
        with_validation(base, model=str(number), balanced_accuracy=balanced, log_loss=loss)
        for number, (balanced, loss) in enumerate(scores)
    ]
    assert champion(candidates) == str(best)


def test_without_models_there_is_no_champion() -> None:
    assert champion([]) == ""
