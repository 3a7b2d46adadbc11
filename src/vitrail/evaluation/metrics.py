"""What is measured: one function per metric, and two dictionaries that list them.

Every metric has the same signature, ``metric(truth, probabilities, weights)``:

- ``truth``: true class index of every image, shape (n,);
- ``probabilities``: scores of every image, shape (n, classes); metrics of the predicted class take the one with the highest score
  for it, and are given decisions in that form (see ``Metric.decides``);
- ``weights``: shape (b, n); row k says how often each image counts in resample k. All ones is the data set as it is.

An overall metric returns shape (b,), a metric per class (that class against the rest) shape (b, classes), always float64.
NaN means not estimable: zero is not a default. To add a metric, write the function and its line in a dictionary below.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.records import IntArray

DoubleArray = npt.NDArray[np.float64]
Compute = Callable[[IntArray, DoubleArray, DoubleArray], DoubleArray]

SMALLEST_SCORE = float(np.finfo(np.float64).eps)
"""A score below this counts as this in the log loss: one image may not make it infinite."""


@dataclass(frozen=True)
class Metric:
    """A metric and what a reader must know of it.

    Attributes:
        compute: The function (see the top of this file).
        title: Its name in tables.
        undefined: When it is not estimable, in words.
        higher_is_better: Its direction.
        lowest: Lower end of its range.
        highest: Upper end of its range.
        rests_on: The images it is computed from; for a metric per class: those of the class, of the other classes, predicted
            as the class, or either (of the class or predicted as it).
        wilson_over: For shares of images: the groups that Wilson's interval counts when no resample differs. A mean of shares
            over the classes counts those of the smallest class, which is conservative.
        decides: Whether it is about the predicted class, and not about the scores. It is then given the decisions in the form of
            scores (1 for the predicted class), because a model need not predict the class with the highest score.
    """

    compute: Compute
    title: str
    undefined: str
    higher_is_better: bool = True
    lowest: float = 0.0
    highest: float = 1.0
    rests_on: Literal["all", "class", "others", "predicted", "either"] = "all"
    wilson_over: Literal["nothing", "all groups", "smallest class"] = "nothing"
    decides: bool = False


# ---------------------------------------------------------------------------------------------------- counts


class Counts(NamedTuple):
    """Weighted counts behind the metrics of the predicted class.

    Attributes:
        correct: Images of the class that were given it (true positives), shape (b, classes).
        actual: Images of the class, shape (b, classes).
        predicted: Images that were given the class, shape (b, classes).
        total: All images, shape (b, 1).
    """

    correct: DoubleArray
    actual: DoubleArray
    predicted: DoubleArray
    total: DoubleArray


def count(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> Counts:
    """Count per resample and class. One matrix product; never more than 3 x classes columns."""
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    is_class = truth[:, None] == classes
    given_class = predicted[:, None] == classes
    columns = np.hstack([is_class & given_class, is_class, given_class]).astype(np.float64)
    correct, actual, given = np.split(weights @ columns, 3, axis=1)
    return Counts(correct, actual, given, weights.sum(axis=1, keepdims=True))


def ratio(numerator: DoubleArray, denominator: DoubleArray, *, where: npt.NDArray[np.bool_] | None = None) -> DoubleArray:
    """Divide; NaN where the denominator is not positive, or where ``where`` is false."""
    possible = denominator > 0 if where is None else (denominator > 0) & where
    result: DoubleArray = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=result, where=possible)
    return result


# ---------------------------------------------------------------------------------------------------- per class


def sensitivity(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Share of the class's images that were given the class (recall), 0..1, shape (b, classes)."""
    counts = count(truth, probabilities, weights)
    return ratio(counts.correct, counts.actual)


def specificity(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Share of the other classes' images that were not given the class, 0..1, shape (b, classes)."""
    counts = count(truth, probabilities, weights)
    others = counts.total - counts.actual
    return ratio(others - (counts.predicted - counts.correct), others)


def positive_predictive_value(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Share of the images given the class that are of the class (precision), 0..1, shape (b, classes).

    It holds at the prevalence of these images only: where the disease is rarer than in the test set, it is lower.
    """
    counts = count(truth, probabilities, weights)
    return ratio(counts.correct, counts.predicted, where=counts.actual > 0)


def f1_score(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Harmonic mean of sensitivity and positive predictive value, 0..1, shape (b, classes). Moves with prevalence."""
    counts = count(truth, probabilities, weights)
    return ratio(2 * counts.correct, counts.actual + counts.predicted, where=counts.actual > 0)


def auc(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Area under the ROC curve of the class against the rest, 0..1, shape (b, classes).

    The probability that an image of the class scores higher than another image; equal scores count half (Mann-Whitney; Hanley
    and McNeil 1982). Exact: the rest is sorted once, and the weight below an image's score is read off a running sum.
    """
    result = np.full((len(weights), probabilities.shape[1]), np.nan)
    for positive in range(probabilities.shape[1]):
        inside, outside = np.flatnonzero(truth == positive), np.flatnonzero(truth != positive)
        if len(inside) == 0 or len(outside) == 0:
            continue
        outside = outside[np.argsort(probabilities[outside, positive])]
        scores, rest = probabilities[inside, positive], probabilities[outside, positive]
        below = np.zeros((len(weights), len(outside) + 1))
        np.cumsum(weights[:, outside], axis=1, out=below[:, 1:])
        wins = below[:, np.searchsorted(rest, scores, side="left")]
        wins += below[:, np.searchsorted(rest, scores, side="right")]
        own = weights[:, inside]
        won = np.einsum("bi,bi->b", wins, own) / 2
        result[:, positive] = ratio(won, own.sum(axis=1) * below[:, -1])
    return result


# ---------------------------------------------------------------------------------------------------- overall


def accuracy(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Share of images that were given their class, 0..1, shape (b,). Flatters a model where one class dominates."""
    counts = count(truth, probabilities, weights)
    return ratio(counts.correct.sum(axis=1), counts.total[:, 0])


def balanced_accuracy(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Mean sensitivity over all classes, 0..1, shape (b,); 1/classes for a constant answer.

    Not estimable when a class has no image: a mean over the remaining classes would be another quantity.
    """
    return np.asarray(sensitivity(truth, probabilities, weights).mean(axis=1))


def matthews_correlation(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Correlation of true and predicted class, -1..1, 0 for a guess, shape (b,) (Matthews 1975; several classes: Gorodkin 2004).

    With s images, c of them right, t and p the images of, and given, each class:
    (c s - sum t p) / sqrt((s^2 - sum p^2) (s^2 - sum t^2)). Not estimable when all images have, or were given, one class.
    """
    counts = count(truth, probabilities, weights)
    total = counts.total[:, 0]
    covariance = counts.correct.sum(axis=1) * total - (counts.actual * counts.predicted).sum(axis=1)
    spread_actual = total**2 - (counts.actual**2).sum(axis=1)
    spread_predicted = total**2 - (counts.predicted**2).sum(axis=1)
    return ratio(covariance, np.sqrt(spread_actual * spread_predicted))


def auc_macro(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Plain mean of the classes' AUC, 0..1, shape (b,). Not estimable when a class has no image."""
    return np.asarray(auc(truth, probabilities, weights).mean(axis=1))


def auc_weighted(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Mean of the classes' AUC weighted by their share of the images, 0..1, shape (b,). Moves with prevalence.

    Not estimable when a class has no image.
    """
    images = weights @ (truth[:, None] == np.arange(probabilities.shape[1])).astype(np.float64)
    return ratio((auc(truth, probabilities, weights) * images).sum(axis=1), images.sum(axis=1))


def log_loss(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Mean of -ln(score of the true class), 0 is best, shape (b,); scores below ``SMALLEST_SCORE`` are raised to it."""
    own = probabilities[np.arange(len(truth)), truth]
    return ratio(weights @ -np.log(np.clip(own, SMALLEST_SCORE, 1.0)), weights.sum(axis=1))


def brier_score(truth: IntArray, probabilities: DoubleArray, weights: DoubleArray) -> DoubleArray:
    """Mean squared distance of an image's scores to its truth, over all classes, 0 (best) to 2, shape (b,) (Brier 1950)."""
    target = truth[:, None] == np.arange(probabilities.shape[1])
    return ratio(weights @ ((probabilities - target) ** 2).sum(axis=1), weights.sum(axis=1))


# ---------------------------------------------------------------------------------------------------- the lists

_NO_IMAGE = "no image of this class"
_ABSENT = "a class has no image"
_ONE_SIDED = "no image of this class, or of no other"
_ONE_CLASS = "all images have, or were given, the same class"
_NOT_GIVEN = "no image of this class, or none was given it"

OVERALL_METRICS: dict[str, Metric] = {
    "accuracy": Metric(accuracy, "Accuracy", "no images", wilson_over="all groups", decides=True),
    "balanced_accuracy": Metric(balanced_accuracy, "Balanced accuracy", _ABSENT, wilson_over="smallest class", decides=True),
    "matthews_correlation": Metric(matthews_correlation, "Matthews correlation", _ONE_CLASS, lowest=-1.0, decides=True),
    "auc_macro": Metric(auc_macro, "AUC, mean over classes", _ABSENT),
    "auc_weighted": Metric(auc_weighted, "AUC, weighted by prevalence", _ABSENT),
    "log_loss": Metric(log_loss, "Log loss", "no images", higher_is_better=False, highest=float(-np.log(SMALLEST_SCORE))),
    "brier_score": Metric(brier_score, "Brier score", "no images", higher_is_better=False, highest=2.0),
}
"""Metrics of the whole set of images, in the order of the tables."""

CLASS_METRICS: dict[str, Metric] = {
    "sensitivity": Metric(sensitivity, "Sensitivity", _NO_IMAGE, rests_on="class", wilson_over="all groups", decides=True),
    "specificity": Metric(
        specificity, "Specificity", "no image of another class", rests_on="others", wilson_over="all groups", decides=True
    ),
    "positive_predictive_value": Metric(
        positive_predictive_value,
        "Positive predictive value",
        _NOT_GIVEN,
        rests_on="predicted",
        wilson_over="all groups",
        decides=True,
    ),
    "f1_score": Metric(f1_score, "F1 score", _NO_IMAGE, rests_on="either", decides=True),
    "auc": Metric(auc, "AUC against the rest", _ONE_SIDED),
}
"""Metrics of each class against the rest, in the order of the tables."""
