"""From predictions to scores: every metric with its interval, on all images and on the clean ones.

The test images are opened here and nowhere before; what is chosen (epoch, champion) is chosen on validation images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from vitrail.decision import Decision
from vitrail.errors import DataError
from vitrail.evaluation.intervals import estimate, resample, sampling_design
from vitrail.evaluation.metrics import CLASS_METRICS, OVERALL_METRICS, DoubleArray, Metric
from vitrail.records import Estimate, Evaluation, IntArray, Predictions, Scores
from vitrail.study import EvaluationSettings


def evaluate(predictions: Predictions, *, settings: EvaluationSettings, seed: int, clean_only: bool = False) -> Scores:
    """Measure one model on one set of images: every metric of the two dictionaries, with a 95 % interval.

    Args:
        predictions: The model's scores.
        settings: Number of resamples.
        seed: Same seed, same intervals.
        clean_only: Leave out images with a copy in training or with conflicting copies. None may remain: then every
            estimate is ``None`` with a note.

    Raises:
        DataError: A score is not a number.
    """
    _require_numbers(predictions)
    chosen = predictions.clean if clean_only else np.ones(len(predictions.truth), dtype=np.bool_)
    truth, probabilities = predictions.truth[chosen], predictions.probabilities[chosen]
    predicted = predictions.predicted[chosen]
    classes = len(predictions.classes)
    design = sampling_design(truth, predictions.groups[chosen])
    measure = partial(_measure, truth, probabilities, predictions.answers[chosen])
    values = measure(np.ones((1, len(truth))))[0]
    draws = resample(measure, design, resamples=settings.resamples, seed=seed)
    estimates = [
        estimate(metric, float(value), column, images=_images(metric, truth, predicted, number), design=design)
        for (metric, number), value, column in zip(_columns(classes), values, draws.T, strict=True)
    ]
    confusion = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    return Scores(
        n=len(truth),
        groups=design.groups,
        overall=dict(zip(OVERALL_METRICS, estimates[: len(OVERALL_METRICS)], strict=True)),
        per_class={
            name: dict(zip(CLASS_METRICS, estimates[len(OVERALL_METRICS) + number :: classes], strict=True))
            for number, name in enumerate(predictions.classes)
        },
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
    )


def evaluation_of(
    model: str,
    validation: Predictions,
    test: Predictions,
    *,
    settings: EvaluationSettings,
    seed: int,
    test_openings: int,
    test_openings_of_data: int = 1,
    decision: Decision | None = None,
) -> Evaluation:
    """Evaluate one model on its validation images, all test images and the clean test images.

    Args:
        model: The model's name in the study.
        validation: Its scores for the validation images.
        test: Its scores for the test images.
        settings: Number of resamples.
        seed: Same seed, same intervals.
        test_openings: How often the test images were opened for this model of this study, this time included.
        test_openings_of_data: How often they were opened for any model of any study.
        decision: How the predictions were decided, for the record; with a threshold, the clean test images are also evaluated as
            0.5 would have decided them.

    Raises:
        DataError: The two sets of predictions have different classes, or a score is not a number.
    """
    if validation.classes != test.classes:
        raise DataError(
            f"{model}: validation and test predictions must have the same classes in the same order. "
            f"Found {validation.classes} and {test.classes}. Predict both again with the same model package."
        )
    at_half = None
    if decision is not None and decision.threshold is not None:
        at_half = evaluate(dataclasses.replace(test, decided=None), settings=settings, seed=seed, clean_only=True)
    return Evaluation(
        model=model,
        classes=test.classes,
        validation=evaluate(validation, settings=settings, seed=seed),
        test=evaluate(test, settings=settings, seed=seed),
        test_clean=evaluate(test, settings=settings, seed=seed, clean_only=True),
        test_openings=test_openings,
        test_openings_of_data=test_openings_of_data,
        decision=decision,
        test_clean_at_half=at_half,
    )


def champion(evaluations: Sequence[Evaluation]) -> str:
    """Return the name of the best model by balanced accuracy on the validation images; empty when there is none.

    Ties go to the lower validation log loss, then to the model that stands first (studies list the cheaper ones first). The test
    images are never looked at: the best of several test scores is too good by the luck of the draw, and a test set that has
    chosen the model can no longer say how good it is.
    """

    def rank(evaluation: Evaluation) -> tuple[float, float]:
        balanced = evaluation.validation.overall["balanced_accuracy"].value
        loss = evaluation.validation.overall["log_loss"].value
        return (-np.inf if balanced is None else balanced, -np.inf if loss is None else -loss)

    return max(evaluations, key=rank).model if evaluations else ""


def leaderboard_row(evaluation: Evaluation) -> dict[str, object]:
    """Return one model's scores as plain data: what ``--json`` prints.

    Keys: ``model``, ``classes``, ``test_openings``, and for each of ``test``, ``test_clean`` and ``validation`` every overall
    metric by name, ``per_class`` (class, then metric) and ``confusion_matrix`` (true class by row). Every estimate has the keys
    ``value``, ``low``, ``high``, ``n``, ``groups``, ``method`` and ``note``; what is not estimable is ``None``. ``decision`` is
    how scores become a class (see :class:`vitrail.decision.Decision`); where that is a threshold, ``test_clean_at_half`` is what
    0.5 would have given.
    """
    return {
        "model": evaluation.model,
        "classes": list(evaluation.classes),
        "test_openings": evaluation.test_openings,
        "test_openings_of_data": evaluation.test_openings_of_data,
        "test": _plain(evaluation.test),
        "test_clean": _plain(evaluation.test_clean),
        "validation": _plain(evaluation.validation),
        "decision": None if evaluation.decision is None else dataclasses.asdict(evaluation.decision),
        "test_clean_at_half": None if evaluation.test_clean_at_half is None else _plain(evaluation.test_clean_at_half),
    }


# ---------------------------------------------------------------------------------------------------- all metrics at once


def _columns(classes: int) -> Iterator[tuple[Metric, int]]:
    """Name the columns of :func:`_measure`: the metric, and the class it is about (0 and meaningless for overall metrics)."""
    yield from ((metric, 0) for metric in OVERALL_METRICS.values())
    yield from ((metric, number) for metric in CLASS_METRICS.values() for number in range(classes))


def _measure(truth: IntArray, probabilities: DoubleArray, answers: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Compute every metric, shape (b, overall metrics + class metrics x classes)."""
    metrics = [*OVERALL_METRICS.values(), *CLASS_METRICS.values()]
    return np.column_stack([metric.compute(truth, answers if metric.decides else probabilities, weights) for metric in metrics])


def _images(metric: Metric, truth: IntArray, predicted: IntArray, number: int) -> npt.NDArray[np.bool_]:
    """Say which images the metric rests on, shape (n,)."""
    of_class, given_class = truth == number, predicted == number
    choices: dict[str, npt.NDArray[np.bool_]] = {
        "all": np.ones(len(truth), dtype=np.bool_),
        "class": of_class,
        "others": ~of_class,
        "predicted": given_class,
        "either": of_class | given_class,
    }
    return choices[metric.rests_on]


def _require_numbers(predictions: Predictions) -> None:
    finite = np.isfinite(predictions.probabilities).all(axis=1)
    if not finite.all():
        path = predictions.paths[int(np.argmin(finite))]
        raise DataError(
            f"{predictions.model}: every score must be a finite number. Found {int((~finite).sum())} image(s) where it is not, "
            f"first {path!r}. Train the model again, with a lower learning rate."
        )


def _plain(scores: Scores) -> dict[str, object]:
    def plain(estimates: dict[str, Estimate]) -> dict[str, object]:
        return {name: dataclasses.asdict(value) for name, value in estimates.items()}

    return {
        **plain(scores.overall),
        "per_class": {name: plain(estimates) for name, estimates in scores.per_class.items()},
        "confusion_matrix": [list(row) for row in scores.confusion],
    }
