"""Curves that the report draws."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from vitrail.evaluation.metrics import DoubleArray


class RocCurve(NamedTuple):
    """A receiver operating characteristic, from (0, 0) to (1, 1); all empty when there are no positives or no negatives.

    Attributes:
        false_positive_rate: 1 - specificity at each threshold, ascending, 0..1.
        sensitivity: At each threshold, ascending, 0..1.
        thresholds: An image counts as positive when its score reaches the threshold; descending, from infinity.
    """

    false_positive_rate: DoubleArray
    sensitivity: DoubleArray
    thresholds: DoubleArray


def roc_curve(truth: npt.NDArray[np.bool_], scores: DoubleArray) -> RocCurve:
    """Return the ROC curve. Equal scores make one slanted step; points on a straight line between others are left out.

    Args:
        truth: Whether each image is of the class, shape (n,).
        scores: Scores of the class, shape (n,).
    """
    positives = int(np.count_nonzero(truth))
    negatives = len(truth) - positives
    if positives == 0 or negatives == 0:
        return RocCurve(np.empty(0), np.empty(0), np.empty(0))
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last_of_score = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    hits = np.concatenate([[0], np.cumsum(truth[order])[last_of_score]])
    false_alarms = np.concatenate([[0], last_of_score + 1 - hits[1:]])
    step = np.stack([np.diff(hits), np.diff(false_alarms)])
    bends = step[0, :-1] * step[1, 1:] != step[0, 1:] * step[1, :-1]
    corners = np.concatenate([[True], bends, [True]])
    thresholds = np.concatenate([[np.inf], ordered[last_of_score]])
    return RocCurve((false_alarms / negatives)[corners], (hits / positives)[corners], thresholds[corners])
