"""Weights of the members of an ensemble, chosen on validation scores.

Greedy selection with replacement (Caruana et al., ICML 2004): the member that lowers the log loss of the mean most is added,
again and again; how often each was added is its weight. Chosen and judged on the same images, weights look better than they are,
so they have to beat equal weights on images that did not choose them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vitrail.evaluation import Gain, folds_of_groups, paired_gain
from vitrail.evaluation.metrics import SMALLEST_SCORE
from vitrail.models import weighted_mean
from vitrail.models.heads import Scores
from vitrail.records import IntArray

ROUNDS = 20
"""Most members that are added: no weight is finer than a twentieth."""
SMALLEST_GAIN = 1e-4
"""A longer list of members must lower the log loss by this much: what is gained later is noise."""
FOLDS = 5
"""Parts of the validation images for the comparison with equal weights."""


@dataclass(frozen=True)
class Weighting:
    """Weights and what chose them.

    Attributes:
        weights: Member -> weight, all members in the order of their names; they sum to 1.
        greedy: Whether they were selected; else they are equal.
        selected: The weights of the greedy selection, used or not.
        gain: Log loss of equal weights and of selected ones on validation images that did not choose them.
    """

    weights: dict[str, float]
    greedy: bool
    selected: dict[str, float]
    gain: Gain


def choose_weights(truth: IntArray, groups: IntArray, scores: Mapping[str, Scores], *, resamples: int, seed: int) -> Weighting:
    """Choose between greedy weights and equal ones.

    Greedy weights are used where their log loss is lower than that of equal weights by more than noise: the 95 % interval of the
    difference (paired bootstrap of groups) lies above zero, on validation images of which each part of five was scored with
    weights that the other four chose. Else weights are equal; so they are wherever a class has fewer than ten independent images.

    Args:
        truth: True class index of every validation image, shape (n,).
        groups: Group number of every image, shape (n,).
        scores: Member -> its scores, shape (n, classes); the order does not matter.
        resamples: Of the bootstrap.
        seed: Of folds and bootstrap.
    """
    members = sorted(scores)
    equal = dict.fromkeys(members, 1 / len(members))
    selected = greedy_weights(truth, scores)
    parts = folds_of_groups(truth, groups, folds=FOLDS, seed=seed)
    held_out = np.array(mixed(scores, equal))
    for fold in np.unique(parts):
        inside, outside = parts == fold, parts != fold
        if not outside.any():
            continue
        weights = greedy_weights(truth[outside], {name: scores[name][outside] for name in members})
        held_out[inside] = mixed({name: scores[name][inside] for name in members}, weights)
    gain = paired_gain("log_loss", truth, groups, mixed(scores, equal), held_out, resamples=resamples, seed=seed)
    return Weighting(selected if gain.beyond_noise else equal, gain.beyond_noise, selected, gain)


def greedy_weights(truth: IntArray, scores: Mapping[str, Scores]) -> dict[str, float]:
    """Select members with replacement; of equally good ones the first by name.

    Of the lists of one to :data:`ROUNDS` members that the selection goes through, the shortest is taken that no longer one beats
    by more than :data:`SMALLEST_GAIN`.

    Args:
        truth: True class index, shape (n,), n at least 1.
        scores: Member -> scores, shape (n, classes).

    Returns:
        Member -> weight, all members in the order of their names; they sum to 1.
    """
    members = sorted(scores)
    own = np.stack([scores[name][np.arange(len(truth)), truth] for name in members])
    total, counts = np.zeros(len(truth)), np.zeros(len(members))
    losses, lists = [], []
    for number in range(1, ROUNDS + 1):
        tried = -np.log(np.clip((total + own) / number, SMALLEST_SCORE, 1.0)).mean(axis=1)
        best = int(tried.argmin())
        total, counts[best] = total + own[best], counts[best] + 1
        losses.append(float(tried[best]))
        lists.append(counts / number)
    kept = next(place for place, loss in enumerate(losses) if loss <= min(losses) + SMALLEST_GAIN)
    return {name: float(weight) for name, weight in zip(members, lists[kept], strict=True)}


def mixed(scores: Mapping[str, Scores], weights: Mapping[str, float]) -> Scores:
    """Return the weighted mean of scores, added up in the order of the names."""
    return weighted_mean((weights[name], scores[name]) for name in sorted(weights) if weights[name] > 0)
