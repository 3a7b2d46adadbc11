"""How well a few properties of images predict the label, and whether chance could do as well.

Every property is cut into bins, and a ridge regression on the bins (additive, so it can follow any curve of one property, but
cannot memorise images) names the class. It is cross-validated with groups kept whole and judged by balanced accuracy; the same
is done with labels that were dealt anew among the groups (Ojala & Garriga 2010).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from vitrail.records import IntArray

DoubleArray = npt.NDArray[np.float64]

FOLDS = 5
"""Parts of the cross-validation; a class needs so many groups."""
PERMUTATIONS = 200
"""Times that labels are dealt anew; the smallest p-value is 1 / (PERMUTATIONS + 1)."""
BINS = 8
"""Bins of a numeric property at most, besides values that many images share and not-a-number."""

_GROUPS_PER_BIN = 10
_RARE = 5  # groups: categories with fewer are pooled, for a category of one patient is that patient's name
_RIDGE = 5.0  # as so many images without an effect added to every bin
_NUMBERS_PER_BLOCK = 2**24  # single precision: 64 MB of relabelled targets at a time
_GRID = 2.0**18  # see _judge


@dataclass(frozen=True)
class Property:
    """One property of every image.

    Attributes:
        name: In words, for example ``file size``.
        values: Shape (n,). Numbers, not-a-number where unknown; or, of a category, its position in ``levels``.
        levels: Names of the categories; empty where the values are numbers.
        unit: What the numbers count, for example ``bytes``; empty where the number is all there is to say.
    """

    name: str
    values: DoubleArray
    levels: tuple[str, ...] = ()
    unit: str = ""


@dataclass(frozen=True)
class Trial:
    """Who is predicted from whom, and the labels dealt anew. The rows of all arrays are the images.

    Attributes:
        labels: Class index, 0..classes-1, shape (n,).
        groups: Group number, 0..number of groups - 1, shape (n,). Groups stand on one side of every fold.
        classes: Number of classes.
        folds: Number of folds.
        fold: Fold in which the image is predicted, shape (n,).
        dealt: Labels, shape (n, 1 + permutations): the true ones, then those dealt anew. Images of one group and one label
            stay together, and every fold keeps its labels: the folds were drawn with the labels in sight, and only so are the
            dealt labels as likely as the true ones where the properties mean nothing.
    """

    labels: IntArray
    groups: IntArray
    classes: int
    folds: int
    fold: IntArray
    dealt: npt.NDArray[np.int16]

    @cached_property
    def parts(self) -> tuple[IntArray, ...]:
        """Positions of the images of every fold."""
        return tuple(np.flatnonzero(self.fold == number) for number in range(self.folds))


@dataclass(frozen=True)
class Single:
    """What one property achieves alone.

    Attributes:
        balanced_accuracy: Mean sensitivity over the classes.
        accuracy: Share of images named rightly by a classifier that aims at that.
    """

    balanced_accuracy: float
    accuracy: float


@dataclass(frozen=True)
class Predictability:
    """How well properties predict the label, cross-validated.

    Attributes:
        balanced_accuracy: Mean sensitivity over the classes.
        low: Lower end of the 95 % interval over groups.
        high: Upper end.
        sensitivity: Share of every class's images named rightly, shape (classes,).
        p_value: Share of dealt labels that were predicted as well as the true ones, the true ones counted in.
        margins: Score of the true class minus the best other one, shape (n,): positive where it is named rightly; scores are
            probabilities relative to the frequency of the class.
        singles: What every property achieves alone, in the order of the properties.
        null: Balanced accuracies of the dealt labels, shape (permutations,).
    """

    balanced_accuracy: float
    low: float
    high: float
    sensitivity: DoubleArray
    p_value: float
    margins: DoubleArray
    singles: tuple[Single, ...]
    null: DoubleArray

    @property
    def stands_out(self) -> bool:
        """Whether chance can be ruled out: the p-value is below 0.01, and the gap to the dealt labels is 3 of their deviations.

        The second matters because an audit asks many questions of a data set, and 200 dealt labels cannot tell 0.005 from less.
        """
        return self.p_value < 0.01 and self.balanced_accuracy > float(self.null.mean() + 3.0 * self.null.std())

    @property
    def most_telling(self) -> int:
        """Position of the property that achieves most alone."""
        return int(np.argmax([single.balanced_accuracy for single in self.singles]))


# ---------------------------------------------------------------------------------------------------- folds and labels


def sample_rows(groups: IntArray, limit: int, *, seed: int = 0) -> IntArray:
    """Choose at most ``limit`` images: one of every group first, then a second of every group that has one, and so on.

    Args:
        groups: Group number of every image, any integers, shape (n,).
        limit: How many to choose; all where there are no more.
        seed: Of the choice among images that have the same claim.

    Returns:
        Positions, ascending.
    """
    if len(groups) <= limit:
        return np.arange(len(groups))
    chance = np.random.default_rng(seed).random(len(groups))
    order = np.lexsort((chance, groups))
    starts = np.flatnonzero(np.diff(groups[order], prepend=groups[order[0]] - 1))
    place = np.empty(len(groups), dtype=np.int64)
    place[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
    chosen: IntArray = np.sort(np.lexsort((chance, place))[:limit])
    return chosen


def draw_trial(
    labels: IntArray, groups: IntArray, *, folds: int = FOLDS, permutations: int = PERMUTATIONS, seed: int = 0
) -> Trial:
    """Draw folds, stratified by class with groups whole, and deal the labels anew among the groups of every fold.

    Neither depends on the order of the rows.

    Args:
        labels: Class index, 0..classes-1, every class present, shape (n,).
        groups: Group number of every image, any integers, shape (n,).
        folds: Number of folds; with fewer groups of a class some folds do without it.
        permutations: How often labels are dealt.
        seed: Of both.
    """
    rng = np.random.default_rng(seed)
    classes = int(labels.max()) + 1
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    units, unit = np.unique(groups * classes + labels, return_inverse=True)
    unit_group, unit_label = units // classes, units % classes
    first = np.unique(unit_group, return_index=True)[1]  # a group of several labels counts as one of its lowest
    order = np.lexsort((rng.random(len(first)), unit_label[first]))
    group_fold = np.empty(len(first), dtype=np.int64)
    group_fold[order] = np.arange(len(first)) % folds
    unit_fold = group_fold[unit_group]
    in_folds = np.argsort(unit_fold, kind="stable")
    dealt = np.empty((len(units), 1 + permutations), dtype=np.int16)
    dealt[:, 0] = unit_label
    for column in range(1, 1 + permutations):
        dealt[in_folds, column] = unit_label[np.argsort(unit_fold + rng.random(len(units)))]
    return Trial(labels, groups, classes, folds, group_fold[groups], dealt[unit])


# ---------------------------------------------------------------------------------------------------- the classifier


def predictability(families: Sequence[Sequence[Property]], trial: Trial) -> tuple[Predictability, ...]:
    """Cross-validate the additive classifier on the properties of every family by itself.

    Args:
        families: Each with at least one property; the rows of their values are those of the trial.
        trial: Folds and labels.

    Returns:
        One result per family.
    """
    if not families:
        return ()
    binned = [[_binned(item, trial.groups) for item in family] for family in families]
    fits = [_Fit.of(_indicators(family), trial) for family in binned]
    for block in _blocks(trial):
        _judge(fits, trial, block)
    totals = np.stack([np.count_nonzero(trial.dealt == name, axis=0) for name in range(trial.classes)])
    results = []
    for fit, family in zip(fits, binned, strict=True):
        achieved = (fit.hits / totals).mean(axis=0)
        margins = _margins(fit.scores, trial.labels)
        low, high = interval(margins > 0, trial)
        results.append(
            Predictability(
                balanced_accuracy=float(achieved[0]),
                low=low,
                high=high,
                sensitivity=fit.hits[:, 0] / totals[:, 0],
                p_value=float(np.count_nonzero(achieved >= achieved[0] - 1e-12)) / len(achieved),
                margins=margins,
                singles=tuple(_single(codes, bins, trial) for codes, bins in family),
                null=achieved[1:],
            )
        )
    return tuple(results)


@dataclass(frozen=True)
class _Fit:
    """One family in the making.

    Attributes:
        matrix: A column per bin of every property, 1 where the image lies in the bin; single precision.
        shares: Mean of every column over the training images of every fold, shape (folds, columns).
        inverses: Inverse of the ridge regression's normal matrix for every fold, shape (folds, columns, columns).
        hits: Images named rightly, shape (classes, 1 + permutations); filled block by block.
        scores: Scores for the true labels, shape (n, classes).
    """

    matrix: npt.NDArray[np.float32]
    shares: DoubleArray
    inverses: DoubleArray
    hits: DoubleArray
    scores: DoubleArray

    @classmethod
    def of(cls, matrix: npt.NDArray[np.float32], trial: Trial) -> _Fit:
        """Invert once for every fold; all dealt labels share the inverse."""
        parts = [matrix[rows] for rows in trial.parts]
        # Sums of zeros and ones are exact in single precision, in any order.
        grams = np.stack([part.T @ part for part in parts]).astype(np.float64)
        sums = np.stack([part.sum(axis=0, dtype=np.float64) for part in parts])
        sizes = np.array([len(matrix) - len(part) for part in parts], dtype=np.float64)
        grams, shares = grams.sum(axis=0) - grams, (sums.sum(axis=0) - sums) / sizes[:, None]
        centred = grams - sizes[:, None, None] * shares[:, :, None] * shares[:, None, :]
        inverses = np.linalg.inv(centred + _RIDGE * np.eye(matrix.shape[1]))
        hits = np.zeros((trial.classes, trial.dealt.shape[1]))
        return cls(matrix, shares, inverses, hits, np.zeros((len(matrix), trial.classes)))


def _judge(fits: Sequence[_Fit], trial: Trial, block: slice) -> None:
    """Fit every family on all folds but one and predict that one, for a block of dealt labels: matrix products do all at once.

    A ridge regression on indicators of the classes estimates their probabilities; divided by the frequency of the class in
    training, the largest names the class (which is what balanced accuracy asks for).
    """
    names = np.arange(trial.classes, dtype=np.int16)[:, None]
    dealt = [trial.dealt[rows, block] for rows in trial.parts]
    width = dealt[0].shape[1]
    targets = [(part[:, None, :] == names).astype(np.float32).reshape(len(part), -1) for part in dealt]
    counts = np.stack([part.sum(axis=0, dtype=np.float64) for part in targets])
    sizes = np.array([len(part) for part in dealt], dtype=np.float64)
    frequencies = (counts.sum(axis=0) - counts) / (sizes.sum() - sizes)[:, None]
    weights = np.divide(1.0, frequencies, out=np.zeros_like(frequencies), where=frequencies > 0).astype(np.float32)
    truths = [[part == name for name in range(trial.classes)] for part in dealt]
    # One product per fold for all families, for every call to a threaded library waits for its threads.
    matrices = [np.concatenate([fit.matrix[rows] for fit in fits], axis=1) for rows in trial.parts]
    all_sums = np.stack([matrix.T @ part for matrix, part in zip(matrices, targets, strict=True)]).astype(np.float64)
    all_sums = all_sums.sum(axis=0) - all_sums
    end = 0
    for fit in fits:
        start, end = end, end + fit.matrix.shape[1]
        sums = all_sums[:, start:end]
        for number, rows in enumerate(trial.parts):
            shares, frequency = fit.shares[number], frequencies[number]
            size = float(len(trial.labels) - len(rows))
            slopes = fit.inverses[number] @ (sums[number] - size * np.outer(shares, frequency))
            offset = frequency - shares @ slopes
            # On a grid of 2^-18 the few terms of every sum below add up without rounding: no order of adding changes a tie.
            slopes, offset = np.rint(slopes * _GRID) / _GRID, np.rint(offset * _GRID) / _GRID
            scores = fit.matrix[rows] @ slopes.astype(np.float32)
            scores += offset.astype(np.float32)
            scores *= weights[number]
            scores = scores.reshape(len(rows), trial.classes, width)
            named = _largest(scores)
            for name in range(trial.classes):
                fit.hits[name, block] += np.count_nonzero((named == name) & truths[number][name], axis=0)
            if block.start == 0:
                fit.scores[rows] = scores[:, :, 0]


def _largest(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.int16]:
    """Return the class of the largest score, the first of equals: argmax over the middle axis of (n, classes, columns), fast."""
    named, best = np.zeros((len(scores), scores.shape[2]), dtype=np.int16), scores[:, 0].copy()
    for name in range(1, scores.shape[1]):
        named[scores[:, name] > best] = name
        np.maximum(best, scores[:, name], out=best)
    return named


def _single(codes: IntArray, bins: int, trial: Trial) -> Single:
    """Name the class of every bin by its training images, in every fold.

    For balanced accuracy the class most frequent in the bin relative to all of training, for accuracy the most frequent one. Of
    one property this is the same classifier, for a ridge does not change what it names.
    """
    shape = (trial.folds, bins, trial.classes)
    cells = np.bincount((trial.fold * bins + codes) * trial.classes + trial.labels, minlength=math.prod(shape))
    counts = cells.reshape(shape).astype(np.float64)
    counts = counts.sum(axis=0) - counts
    totals = counts.sum(axis=1, keepdims=True)
    counts += 1e-6 * totals  # where a bin has no training image, the whole of training speaks
    relative = np.round(counts / np.maximum(totals, 1.0), 12)
    right = relative.argmax(axis=2)[trial.fold, codes] == trial.labels
    often = counts.argmax(axis=2)[trial.fold, codes] == trial.labels
    return Single(float(_sensitivity(right, trial).mean()), float(often.mean()))


def _blocks(trial: Trial) -> Iterator[slice]:
    """Columns of dealt labels that are held at a time."""
    size, columns = trial.dealt.shape
    step = max(1, _NUMBERS_PER_BLOCK // (size * trial.classes))
    return (slice(start, min(start + step, columns)) for start in range(0, columns, step))


def _margins(scores: DoubleArray, labels: IntArray) -> DoubleArray:
    """Return the score of the true class minus the best other one; a tie counts as the classifier's choice, the lower class."""
    rows = np.arange(len(labels))
    own = scores[rows, labels]
    others = scores.copy()
    others[rows, labels] = -np.inf
    difference: DoubleArray = own - others.max(axis=1)
    tied = (difference == 0) & (scores.argmax(axis=1) == labels)
    return np.where(tied, 1e-12, difference)


# ---------------------------------------------------------------------------------------------------- bins


def _binned(item: Property, groups: IntArray) -> tuple[IntArray, int]:
    """Return the bin of every image and the number of bins.

    Bins are made without a look at the labels, so all images may take part; the same bins then serve all folds and all dealt
    labels.
    """
    if item.levels:
        return _pooled(item, groups)
    known = item.values[~np.isnan(item.values)]
    bins = min(BINS, max(3, (int(groups.max()) + 1) // _GROUPS_PER_BIN))
    quantiles = np.quantile(known, np.arange(1, bins) / bins, method="inverted_cdf") if len(known) else np.empty(0)
    borders, times = np.unique(quantiles, return_counts=True)
    # A value so frequent that it is two quantiles gets a bin of its own.
    borders = np.unique(np.concatenate([borders, np.nextafter(borders[times > 1], np.inf)]))
    codes = np.searchsorted(borders, item.values, side="right")
    codes[np.isnan(item.values)] = len(borders) + 1
    return _used(codes)


def _pooled(item: Property, groups: IntArray) -> tuple[IntArray, int]:
    """Return a bin per category, and one for all categories that fewer than five groups have."""
    codes = item.values.astype(np.int64)
    pairs = np.unique(groups * len(item.levels) + codes) % len(item.levels)
    often = np.bincount(pairs, minlength=len(item.levels)) >= _RARE
    return _used(np.where(often[codes], codes, len(item.levels)))


def _used(codes: npt.NDArray[np.intp]) -> tuple[IntArray, int]:
    """Number the bins that hold an image from 0."""
    used, numbered = np.unique(codes, return_inverse=True)
    return numbered.astype(np.int64), len(used)


def _indicators(binned: Sequence[tuple[IntArray, int]]) -> npt.NDArray[np.float32]:
    """Return a column per bin of every property: 1 where the image lies in the bin."""
    starts = np.cumsum([0, *(bins for _, bins in binned)])
    matrix = np.zeros((len(binned[0][0]), starts[-1]), dtype=np.float32)
    for start, (codes, _) in zip(starts, binned, strict=False):
        matrix[np.arange(len(codes)), start + codes] = 1.0
    return matrix


# ---------------------------------------------------------------------------------------------------- statistics


def interval(right: npt.NDArray[np.bool_], trial: Trial) -> tuple[float, float]:
    """Return the 95 % interval of a balanced accuracy over groups.

    The variance is that of a sum of ratios over whole groups (linearised; Cochran 1977, section 6). As Agresti & Coull (1998)
    do for a proportion, two made-up groups per class, one right and one wrong, keep it from vanishing where all are right.

    Args:
        right: Whether every image is named rightly, shape (n,).
        trial: Whose images they are.
    """
    sensitivity = _sensitivity(right, trial)
    groups = int(trial.groups.max()) + 1
    images = np.bincount(trial.labels, minlength=trial.classes).astype(np.float64)
    pairs = np.unique(trial.groups * trial.classes + trial.labels) % trial.classes
    usual = images / np.bincount(pairs, minlength=trial.classes)
    padded = images + 2.0 * usual
    centre = (sensitivity * images + usual) / padded
    weight = 1.0 / (padded * trial.classes)
    influence = np.bincount(trial.groups, weights=(right - centre[trial.labels]) * weight[trial.labels], minlength=groups)
    made_up = ((1.0 - centre) ** 2 + centre**2) * (usual * weight) ** 2
    spread = 1.959963984540054 * math.sqrt(float(influence @ influence + made_up.sum()) * groups / max(1, groups - 1))
    value = float(sensitivity.mean())
    return max(0.0, value - spread), min(1.0, value + spread)


def _sensitivity(right: npt.NDArray[np.bool_], trial: Trial) -> DoubleArray:
    """Return the share of every class's images that are right."""
    images = np.bincount(trial.labels, minlength=trial.classes)
    found: DoubleArray = np.bincount(trial.labels, weights=right, minlength=trial.classes) / images
    return found
