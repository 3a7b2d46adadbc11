"""Three witnesses about every label of a data set, and a rehearsal that tells how far to trust them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitrail.audit.descriptors import Neighbours
from vitrail.records import FloatArray, IntArray

FOLDS = 5
"""The labels of a fifth of the groups are judged by a classifier that saw the others."""
REHEARSALS = 5
"""So often LBL402 makes labels wrong on purpose, to see how well it finds them."""
WRONG_SHARE = 0.02
"""Share of labels that a rehearsal makes wrong."""
LOOK_AT = 20
"""The beginning of the list, for which the rehearsals' precision is told."""
WORTH_PRECISION = 0.25
"""The list ends where, in the rehearsals, fewer of the images above were planted, but not before half of those are seen."""
SEEN_SHARE = 0.9
"""The list ends at the score that so many of the planted errors reach."""

_SHRINKAGE = 0.1  # towards a round covariance
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """What three witnesses say of every label, as if every class were equally frequent.

    Attributes:
        looks: Probability of each class by a classifier that did not see the image nor its group; shape (n, classes).
        near: The same by the labels of the nearest images of other groups.
        group: The same by the labels of the other images of its own group; equal for all where it is alone.
    """

    looks: Scores
    near: Scores
    group: Scores

    @property
    def together(self) -> Scores:
        """Logarithm of the product, shape (n, classes), up to a constant."""
        return np.log(self.looks + 1e-4) + np.log(self.near) + np.log(self.group)

    def suspicion(self, labels: IntArray) -> Scores:
        """Return by how much another class fits better than the given one (a difference of logarithms), shape (n,)."""
        fit = self.together
        line = np.arange(len(labels))
        own = fit[line, labels].copy()
        fit[line, labels] = -np.inf
        result: Scores = fit.max(axis=1) - own
        return result

    def likely(self, labels: IntArray) -> IntArray:
        """Return the best class other than the given one."""
        fit = self.together
        fit[np.arange(len(labels)), labels] = -np.inf
        best: IntArray = fit.argmax(axis=1)
        return best


class Jury:
    """Judges any labelling of the same images: what does not depend on the labels is computed once.

    Args:
        descriptors: float32, shape (n, d).
        near: Their neighbours of other groups.
        groups: Group number per image.
        classes: Number of classes.
    """

    def __init__(self, descriptors: FloatArray, near: Neighbours, groups: IntArray, classes: int) -> None:
        self._vectors = np.concatenate([descriptors, np.ones((len(descriptors), 1), dtype=np.float32)], axis=1)
        self._near = near
        self._group = np.unique(groups, return_inverse=True)[1]
        self._classes = classes

    def judge(self, labels: IntArray) -> Judged:
        """Ask the three witnesses about ``labels``, class numbers of shape (n,)."""
        shares = np.bincount(labels, minlength=self._classes) / len(labels)
        return Judged(self._looks(labels), self._neighbours(labels, shares), self._own_group(labels, shares))

    def _looks(self, labels: IntArray) -> Scores:
        """Linear discriminant analysis with equal priors (Fisher 1936), out of fold, its covariance shrunk to be safe."""
        fold = _folds(labels, self._group, self._classes)
        result = np.empty((len(labels), self._classes))
        moments = [self._moments(fold == number, labels) for number in range(FOLDS)]
        scatter, sums = sum(moment[0] for moment in moments), sum(moment[1] for moment in moments)
        for number, (own_scatter, own_sums) in enumerate(moments):
            rows = fold == number
            if rows.any():
                result[rows] = _discriminant(self._vectors[rows, :-1], scatter - own_scatter, sums - own_sums)
        return result

    def _moments(self, rows: npt.NDArray[np.bool_], labels: IntArray) -> tuple[Scores, Scores]:
        """Return the sum of squares and products (d, d), and sum and number per class (classes, d + 1)."""
        vectors = self._vectors[rows]
        members = np.zeros((len(vectors), self._classes), dtype=np.float32)
        members[np.arange(len(vectors)), labels[rows]] = 1
        plain = vectors[:, :-1]
        return (plain.T @ plain).astype(np.float64), (members.T @ vectors).astype(np.float64)

    def _neighbours(self, labels: IntArray, shares: Scores) -> Scores:
        rows, there = self._near.rows, self._near.rows >= 0
        near = np.where(there, labels[rows], -1)
        votes = np.stack([(near == number).sum(axis=1) for number in range(self._classes)], axis=1)
        return _likelihood(votes + shares, shares)

    def _own_group(self, labels: IntArray, shares: Scores) -> Scores:
        """Share of each class in the image's own group, weighed by how much groups in this data set agree.

        The intraclass correlation of the labels gives the weight of the prior (a Dirichlet-multinomial model): where groups
        are of one class almost always, one other image of the patient says much; where they mix freely, it says nothing.
        """
        counts = np.zeros((int(self._group.max()) + 1, self._classes))
        np.add.at(counts, (self._group, labels), 1)
        sizes = counts.sum(axis=1)
        pairs = (sizes * (sizes - 1)).sum()
        chance = float((shares**2).sum())
        if pairs == 0 or chance >= 1:
            return np.ones((len(labels), self._classes))
        agree = float((counts * (counts - 1)).sum() / pairs)
        correlation = float(np.clip((agree - chance) / (1 - chance), 0.01, 0.99))
        others = counts[self._group]
        others[np.arange(len(labels)), labels] -= 1
        return _likelihood(others + (1 - correlation) / correlation * shares, shares)


def _likelihood(votes: Scores, shares: Scores) -> Scores:
    """Turn votes with a prior into probabilities as if all classes were equally frequent."""
    weighed = votes / np.maximum(shares, 1e-12)
    weighed[:, shares == 0] = 1e-12
    result: Scores = np.maximum(weighed / weighed.sum(axis=1, keepdims=True), 1e-6)
    return result


def _discriminant(vectors: FloatArray, scatter: Scores, sums: Scores) -> Scores:
    """Return the posterior probabilities of classes given second moments and class sums of the training images."""
    counts = np.maximum(sums[:, -1:], 1.0)
    means = sums[:, :-1] / counts
    size = means.shape[1]
    within = (scatter - (means * counts).T @ means) / counts.sum()
    within += (_SHRINKAGE * np.trace(within) / size + 1e-9) * np.eye(size)
    slopes = np.linalg.solve(within, means.T)
    scores = vectors @ slopes - 0.5 * (means.T * slopes).sum(axis=0)
    scores[:, sums[:, -1] == 0] = -np.inf
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    result: Scores = scores / scores.sum(axis=1, keepdims=True)
    return result


def _folds(labels: IntArray, group: IntArray, classes: int) -> IntArray:
    """Deal groups into folds, class by class (a group counts to the class of its first image)."""
    rng = np.random.default_rng(0)
    first = np.unique(group, return_index=True)[1]
    fold = np.empty(len(first), dtype=np.int64)
    for number in range(classes):
        members = rng.permutation(np.flatnonzero(labels[first] == number))
        fold[members] = (np.arange(len(members)) + rng.integers(FOLDS)) % FOLDS
    return fold[group]


@dataclass(frozen=True)
class Rehearsal:
    """How well wrong labels were found where it was known which were wrong.

    Attributes:
        wrong: Number of labels made wrong in each rehearsal.
        first: Length of the beginning of the list that was looked at.
        precision: Share of planted errors in that beginning, on average. What is wrong in the data already counts against it;
            real errors are harder to find than random ones.
        seen: Share of the planted errors that stand in the first twentieth of the list; by chance it would be a twentieth.
        median: Suspicion that half of the planted errors reach.
        limit: Suspicion down to which a list is worth reading.
    """

    wrong: int
    first: int
    precision: float
    seen: float
    median: float
    limit: float


def rehearse(jury: Jury, labels: IntArray, classes: int) -> Rehearsal:
    """Make labels wrong at random, image by image, and see where they stand in the list."""
    wrong = max(3, round(WRONG_SHARE * len(labels)))
    first = min(LOOK_AT, wrong)
    found, scores, planted = [], [], []
    for seed in range(REHEARSALS):
        rng = np.random.default_rng((0, seed))
        rows = rng.choice(len(labels), size=wrong, replace=False)
        changed = labels.copy()
        changed[rows] = (changed[rows] + rng.integers(1, classes, size=wrong)) % classes
        suspicion = jury.judge(changed).suspicion(changed)
        truth = np.zeros(len(labels), dtype=bool)
        truth[rows] = True
        order = np.argsort(-suspicion, kind="stable")
        found.append((truth[order[:first]].mean(), truth[order[: max(wrong, len(labels) // 20)]].sum() / wrong))
        scores.append(suspicion)
        planted.append(truth)
    score, truth = np.concatenate(scores), np.concatenate(planted)
    order = np.argsort(-score, kind="stable")
    precision = np.cumsum(truth[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(precision >= WORTH_PRECISION)
    worth = float(score[order[good[-1]]]) if len(good) else float("inf")
    reached = np.quantile(score[truth], (1 - SEEN_SHARE, 0.5))
    share, seen = np.mean(found, axis=0)
    limit = max(min(worth, float(reached[1])), float(reached[0]), 0.0)
    return Rehearsal(wrong, first, float(share), float(seen), float(reached[1]), limit)
