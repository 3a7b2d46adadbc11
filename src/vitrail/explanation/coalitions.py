"""Which superpixels are shown together, and what is fitted to the answers: the Shapley kernel's values and LIME's coefficients.

One bank of coalitions serves both. Its law is that of the Shapley kernel, which prefers very small and very large coalitions;
LIME's fit weights each by how much more or less often its own law would have drawn it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Coalitions:
    """Sets of shown players (superpixels), neither none of them nor all; the second half are the complements of the first.

    Attributes:
        masks: Shape (2 m, players): row i + m is the complement of row i.
        counts: How often the pair was drawn, shape (m,); 1 where all coalitions of its size are in the bank.
        drawn: Whether the pair was drawn by chance, shape (m,). Pairs that are in the bank because all of their size are cause no
            error of sampling.
        weights: Weight of each of the two in sums that stand for the law of the Shapley kernel, shape (m,); the weights of the
            whole bank sum to 1. Of drawn pairs, it includes their count.
    """

    masks: Bools
    counts: npt.NDArray[np.int64]
    drawn: Bools
    weights: Values

    @property
    def players(self) -> int:
        """Number of players."""
        return int(self.masks.shape[1])

    @property
    def exact(self) -> bool:
        """Whether every coalition is in the bank."""
        return not bool(self.drawn.any())


def shapley_law(players: int) -> Values:
    """Return how much of the Shapley kernel (Lundberg and Lee, NeurIPS 2017) coalitions of 0 .. players have: sums to 1.

    A coalition of s has the weight (n - 1) / (comb(n, s) s (n - s)), and there are comb(n, s) of them.
    """
    sizes = np.arange(1, players, dtype=np.float64)
    law = np.zeros(players + 1)
    law[1:-1] = 1 / (sizes * (players - sizes))
    return np.asarray(law / law.sum())


def draw_coalitions(generator: np.random.Generator, players: int, budget: int) -> Coalitions:
    """Choose coalitions to ask about, in pairs with their complements.

    Sizes are gone through from the outside in (1 and n - 1, 2 and n - 2, ...). As long as chance would draw a size at least as
    often as it has coalitions, all of them are taken; the rest of the budget is drawn by the law of the Shapley kernel.

    Args:
        generator: Source of chance.
        players: At least 2.
        budget: Number of coalitions; where there are no more than that (2^n - 2), all are taken. Coalitions that are drawn twice
            are asked about once, so there may be fewer.
    """
    law = shapley_law(players)
    half = players // 2
    paired = np.array([law[size] * (1 if 2 * size == players else 2) for size in range(half + 1)])
    pairs_of_size = [0, *(_pairs(players, size) for size in range(1, half + 1))]
    masks: list[Bools] = []
    weights: list[Values] = []
    left = max(1, budget // 2)
    size = 1
    everything = sum(pairs_of_size) <= left
    while size <= half and (everything or left * paired[size] / paired[size:].sum() >= pairs_of_size[size]):
        found = _all_of_size(players, size)
        masks.append(found)
        weights.append(np.full(len(found), paired[size] / len(found) / 2))
        left -= len(found)
        size += 1
    taken = sum(len(part) for part in masks)
    counts = np.ones(taken, dtype=np.int64)
    if size <= half and left > 0:
        rest = paired[size:].sum()
        found, times = _draw(generator, players, generator.choice(np.arange(size, half + 1), left, p=paired[size:] / rest))
        masks.append(found)
        weights.append(times * (rest / left / 2))
        counts = np.concatenate([counts, times])
    first = np.concatenate(masks)
    return Coalitions(
        masks=np.concatenate([first, ~first]),
        counts=counts,
        drawn=np.arange(len(first)) >= taken,
        weights=np.concatenate(weights),
    )


def _pairs(players: int, size: int) -> int:
    return comb(players, size) // (2 if 2 * size == players else 1)


def _all_of_size(players: int, size: int) -> Bools:
    """Return one of every pair of complements of a size, shape (pairs, players)."""
    from itertools import combinations

    members = np.array(list(combinations(range(players), size)), dtype=np.int64)
    masks = np.zeros((len(members), players), dtype=bool)
    np.put_along_axis(masks, members, True, axis=1)
    return masks[masks[:, 0]] if 2 * size == players else masks


def _draw(generator: np.random.Generator, players: int, sizes: npt.NDArray[np.int64]) -> tuple[Bools, npt.NDArray[np.int64]]:
    """Draw one coalition of each size; return the different pairs, as those that hold player 0, and how often each came."""
    ranks = generator.random((len(sizes), players)).argsort(axis=1).argsort(axis=1)
    masks = ranks < sizes[:, np.newaxis]
    masks ^= ~masks[:, :1]
    packed, times = np.unique(np.packbits(masks, axis=1), axis=0, return_counts=True)
    return np.unpackbits(packed, axis=1, count=players).astype(bool), times.astype(np.int64)


def shapley_values(coalitions: Coalitions, answers: Values, *, none: float, all_: float) -> tuple[Values, Values]:
    """Fit the Shapley kernel: weighted least squares under the constraint that the values sum to ``all_ - none``.

    Args:
        coalitions: What was shown.
        answers: For each row of ``coalitions.masks``.
        none: Answer where nothing is shown.
        all_: Answer for the whole image.

    Returns:
        Values and standard errors (of the sampling of coalitions), both of shape (players,). Where all coalitions were asked
        about, they are the Shapley values themselves, and the errors are 0.
    """
    shown = coalitions.masks.astype(np.float64)
    last = shown[:, -1:]
    features = shown[:, :-1] - last
    aims = answers - none - last[:, 0] * (all_ - none)
    inverse = _inverse(features.T @ (_both(coalitions.weights)[:, np.newaxis] * features))
    solved = inverse @ (features.T @ (_both(coalitions.weights) * aims))
    slopes = features * (aims - features @ solved)[:, np.newaxis]
    covariance = _sampling_covariance(coalitions, slopes, np.ones(len(slopes)), inverse)
    values = np.append(solved, all_ - none - solved.sum())
    variances = np.append(np.diag(covariance), covariance.sum())
    return values, np.sqrt(np.maximum(variances, 0.0))


def lime_coefficients(
    coalitions: Coalitions, answers: Values, *, none: float, all_: float, width: float, ridge: float
) -> tuple[Values, Values, float]:
    """Fit LIME's linear model (Ribeiro et al., KDD 2016): ridge regression, weighted by nearness to the whole image.

    The law of the coalitions is that of the paper: the number of shown superpixels is uniform over 0 .. n, and which they are is
    uniform too. The nearness of a coalition of s is ``exp(-d^2 / (2 width^2))`` with the cosine distance ``d = 1 - sqrt(s / n)``,
    as in the authors' code. Minimised is the mean, over the law, of nearness times squared error, plus ``ridge`` times the sum
    of the squared coefficients; the constant is not penalised.

    Args:
        coalitions: What was shown.
        answers: For each row of ``coalitions.masks``.
        none: Answer where nothing is shown.
        all_: Answer for the whole image.
        width: Of the kernel of nearness.
        ridge: Penalty.

    Returns:
        Coefficients and their standard errors (of the sampling of coalitions), both of shape (players,); and the share of the
        weighted variance of the answers that the linear model explains (R squared, 1 where they do not vary).
    """
    players = coalitions.players
    sizes = coalitions.masks.sum(axis=1)
    nearness = np.exp(-((1 - np.sqrt(np.arange(players + 1) / players)) ** 2) / (2 * width**2))
    law = shapley_law(players)
    ratio = np.divide(nearness / (players + 1), law, out=np.zeros(players + 1), where=law > 0)
    change = np.asarray(ratio[sizes], dtype=np.float64)
    ends = nearness[[0, -1]] / (players + 1)
    weights = np.concatenate([_both(coalitions.weights) * change, ends])
    ends_shown = np.stack([np.zeros(players), np.ones(players)])
    shown = np.concatenate([coalitions.masks.astype(np.float64), ends_shown])
    features = np.column_stack([np.ones(len(shown)), shown])
    aims = np.concatenate([answers, [none, all_]]) - none  # the constant takes it up; where all is the same, all is 0 exactly
    penalty = np.diag([0.0, *[ridge] * players])
    inverse = _inverse(features.T @ (weights[:, np.newaxis] * features) + penalty)
    solved = inverse @ (features.T @ (weights * aims))
    missed = aims - features @ solved
    covariance = _sampling_covariance(coalitions, (features * missed[:, np.newaxis])[:-2], change, inverse)
    spread = float(weights @ (aims - weights @ aims / weights.sum()) ** 2)
    fit = 1 - float(weights @ missed**2) / spread if spread > 0 else 1.0
    return solved[1:], np.sqrt(np.maximum(np.diag(covariance)[1:], 0.0)), fit


def _inverse(products: Values) -> Values:
    return np.asarray(np.linalg.pinv(products, hermitian=True), dtype=np.float64)


def _both(of_pairs: Values) -> Values:
    """Repeat what belongs to pairs for both of each pair, in the order of the masks."""
    return np.concatenate([of_pairs, of_pairs])


def _sampling_covariance(coalitions: Coalitions, slopes: Values, change: Values, inverse: Values) -> Values:
    """Return the covariance of a weighted fit over repetitions of the drawing: the sandwich estimator, clustered by pairs.

    Residuals of a fit are smaller than its errors; the usual correction for the number of fitted values is made.

    Args:
        coalitions: What was shown.
        slopes: Features times residual of every row, shape (2 m, k).
        change: Factor on the weight of each row, shape (2 m,).
        inverse: Of the weighted matrix of the features' products, shape (k, k).
    """
    drawn, half = coalitions.drawn, len(coalitions.drawn)
    draws = int(coalitions.counts[drawn].sum())
    if draws < 2:
        return np.zeros_like(inverse)
    once = (coalitions.weights / coalitions.counts)[drawn, np.newaxis]
    weighted = slopes * change[:, np.newaxis]
    of_pairs = (weighted[:half] + weighted[half:])[drawn] * once
    times = coalitions.counts[drawn, np.newaxis]
    centred = of_pairs - (times * of_pairs).sum(axis=0) / draws
    spread = centred.T @ (times * centred) * (draws / max(1, draws - len(inverse)))
    return np.asarray(inverse @ spread @ inverse)
