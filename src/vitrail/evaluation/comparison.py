"""Two models on the same images: by how much one is better, and how sure that is.

Intervals of paired differences, McNemar's and DeLong's tests, and Holm's correction for several challengers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Literal

import numpy as np

from vitrail.evaluation.metrics import OVERALL_METRICS, DoubleArray
from vitrail.evaluation.paired import PairedDifference, paired_differences, require_same_images
from vitrail.records import Estimate, Evaluation, IntArray, Predictions

COMPARED = ("balanced_accuracy", "accuracy", "auc_weighted")
"""Metrics whose difference is estimated; the first chooses the champion."""

PartName = Literal["validation", "test_clean", "test"]
PARTS: tuple[PartName, ...] = ("validation", "test_clean", "test")


@dataclass(frozen=True)
class PairedTest:
    """A test of "the two models are equally good".

    Attributes:
        method: What was done, in words.
        p_value: How often chance alone would give a difference at least as large, 0..1; ``None``: not estimable.
        adjusted: The same after Holm's correction for the number of challengers (Holm 1979); ``None``: not estimable.
        n: Number of images.
        groups: Number of independent groups.
        note: Why it is not estimable or not shown; else empty.
    """

    method: str
    p_value: float | None
    adjusted: float | None
    n: int
    groups: int
    note: str = ""


@dataclass(frozen=True)
class PairedComparison:
    """A challenger against the champion on one set of images.

    Attributes:
        differences: Metric -> challenger minus champion, with a 95 % interval.
        only_champion: Images that only the champion got right.
        only_challenger: Images that only the challenger got right.
        accuracy_test: Exact McNemar test of the accuracies.
        auc_test: DeLong's test of the areas under the curve; where it does not belong, its note says why.
    """

    differences: dict[str, Estimate]
    only_champion: int
    only_challenger: int
    accuracy_test: PairedTest
    auc_test: PairedTest


@dataclass(frozen=True)
class Candidate:
    """A model that is compared.

    Attributes:
        name: As it is called in the comparison: unique.
        run: Folder of its run.
        model: Its name in that run.
        family: Its family in the catalogue.
        description: One line that a reader understands.
        evaluation: How well it does on the images of the comparison; its ``model`` is ``name``.
    """

    name: str
    run: Path
    model: str
    family: str
    description: str
    evaluation: Evaluation

    @property
    def package(self) -> Path:
        """Folder of its model package."""
        return self.run / "models" / self.model / "package"


@dataclass(frozen=True)
class Comparison:
    """Several models on the same images.

    Attributes:
        name: Of the study.
        data_fingerprint: Of the data set.
        images: Which images the models are compared on, in words.
        champion: Name of the candidate with the best validation score, or of a member of it that does as well.
        candidates: Champion first, then by validation score.
        challengers: Name of every other candidate -> part -> how it does against the champion.
        resamples: Bootstrap resamples behind every interval.
        seed: Of the resampling.
        champion_reason: See :attr:`vitrail.records.RunResult.champion_reason`.
    """

    name: str
    data_fingerprint: str
    images: str
    champion: str
    candidates: tuple[Candidate, ...]
    challengers: dict[str, dict[PartName, PairedComparison]]
    resamples: int
    seed: int
    champion_reason: str = ""


def compare_pair(champion: Predictions, challenger: Predictions, *, resamples: int, seed: int) -> PairedComparison:
    """Compare two models on the same images.

    Args:
        champion: Scores of the one.
        challenger: Scores of the other, for the same images in the same order.
        resamples: Bootstrap resamples of groups.
        seed: Same seed, same interval.

    Raises:
        DataError: They are not about the same images, classes, labels and groups.
    """
    require_same_images(champion, challenger)
    truth, groups = champion.truth, champion.groups
    differences: dict[str, PairedDifference] = {}
    for decides in (True, False):  # the same seed draws the same resamples
        metrics = [name for name in COMPARED if OVERALL_METRICS[name].decides == decides]
        scores = [[one.answers if decides else one.probabilities] for one in (challenger, champion)]
        differences |= paired_differences(metrics, truth, groups, *scores, resamples=resamples, seed=seed)[0]
    gained = (challenger.predicted == truth).astype(np.int64) - (champion.predicted == truth)
    return PairedComparison(
        differences={metric: found.estimate for metric, found in differences.items()},
        only_champion=int((gained < 0).sum()),
        only_challenger=int((gained > 0).sum()),
        accuracy_test=mcnemar(gained, groups),
        auc_test=_delong_where_it_belongs(champion, challenger, groups=len(np.unique(groups))),
    )


def mcnemar(gained: IntArray, groups: IntArray) -> PairedTest:
    """Test whether two models are right equally often: McNemar's exact test, on groups.

    Under equality the two models' answers could change places. In McNemar's test (1947; exact: two-sided binomial) they do so
    image by image; images of one group are no independent evidence, so here whole groups change places. Where every image is
    its own group both are the same test. The distribution is exact, by convolution over the groups.

    Args:
        gained: Per image 1 where only the second model is right, -1 where only the first one is, else 0; shape (n,).
        groups: Group number per image, shape (n,).
    """
    from scipy import stats  # takes half a second, and only comparisons need it

    numbers, index = np.unique(groups, return_inverse=True)
    net = np.zeros(len(numbers), dtype=np.int64)
    np.add.at(net, index, gained)
    steps = np.abs(net[net != 0])
    alone = len(numbers) == len(gained)
    method = "McNemar, exact" if alone else "McNemar, exact, whole groups change places"
    if len(steps) == 0:
        note = "not estimable: no group on which one of the models is right more often"
        return PairedTest(method, None, None, len(gained), len(numbers), note)
    if (steps == 1).all():
        p_value = float(stats.binomtest(int((net > 0).sum()), len(steps), 0.5).pvalue)
    else:
        chances = np.ones(1)
        for step in steps:
            wider = np.zeros(len(chances) + 2 * int(step))
            wider[: len(chances)] += chances / 2
            wider[2 * int(step) :] += chances / 2
            chances = wider
        sums = np.arange(len(chances)) - int(steps.sum())
        p_value = min(1.0, float(chances[np.abs(sums) >= abs(int(net.sum()))].sum()))
    return PairedTest(method, p_value, p_value, len(gained), len(numbers))


def delong(positive: np.ndarray, first: DoubleArray, second: DoubleArray) -> tuple[float, float]:
    """Return the difference of two areas under the ROC curve on the same images, second minus first, and its standard error.

    The variance is that of the structural components of the two areas (DeLong, DeLong & Clarke-Pearson 1988), computed from
    midranks (Sun & Xu 2014). Every image must be independent of the others.

    Args:
        positive: Whether an image is of the class, bool, shape (n,); at least two are and two are not.
        first: Scores of the first model for the class, shape (n,).
        second: Scores of the second model.
    """
    from scipy import stats  # takes half a second, and only comparisons need it

    inside, outside = int(positive.sum()), int((~positive).sum())
    areas, of_positives, of_negatives = [], [], []
    for scores in (first, second):
        ranks = stats.rankdata(scores)
        won = (ranks[positive] - stats.rankdata(scores[positive])) / outside
        of_positives.append(won)
        of_negatives.append(1 - (ranks[~positive] - stats.rankdata(scores[~positive])) / inside)
        areas.append(float(won.mean()))
    covariance = np.cov(of_positives) / inside + np.cov(of_negatives) / outside
    variance = float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    return areas[1] - areas[0], float(np.sqrt(max(0.0, variance)))


def _delong_where_it_belongs(champion: Predictions, challenger: Predictions, *, groups: int) -> PairedTest:
    method, n = "DeLong", len(champion.truth)

    def without(reason: str) -> PairedTest:
        return PairedTest(method, None, None, n, groups, reason)

    if len(champion.classes) != 2:
        return without("for two classes only; the interval of the difference holds for more")
    if groups < n:
        return without("for independent images only; the interval of the difference counts groups")
    positive = champion.truth == 1
    if min(positive.sum(), (~positive).sum()) < 2:
        return without("not estimable: it needs two images of each class")
    difference, error = delong(positive, champion.probabilities[:, 1], challenger.probabilities[:, 1])
    if error < 1e-12:  # what rounding leaves
        return without("not estimable: the two models put the images in the same order")
    p_value = 2 * NormalDist().cdf(-abs(difference) / error)
    return PairedTest(method, p_value, p_value, n, groups)


def adjusted(rows: dict[str, PairedComparison]) -> dict[str, PairedComparison]:
    """Correct the tests of several challengers on one set of images for their number (Holm 1979)."""

    accuracy = _holm([row.accuracy_test for row in rows.values()])
    area = _holm([row.auc_test for row in rows.values()])
    return {
        name: replace(row, accuracy_test=of_accuracy, auc_test=of_area)
        for (name, row), of_accuracy, of_area in zip(rows.items(), accuracy, area, strict=True)
    }


def _holm(tests: Sequence[PairedTest]) -> list[PairedTest]:
    """Return the tests with adjusted p-values; those without one do not count."""
    known = sorted((test.p_value, place) for place, test in enumerate(tests) if test.p_value is not None)
    corrected, largest = list(tests), 0.0
    for rank, (p_value, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * p_value))
        corrected[place] = replace(tests[place], adjusted=largest)
    return corrected


def restricted(predictions: Predictions, places: IntArray) -> Predictions:
    """Return the predictions of some images, in the order of ``places``: positions in ``predictions``."""
    return replace(
        predictions,
        rows=predictions.rows[places],
        paths=tuple(predictions.paths[place] for place in places),
        truth=predictions.truth[places],
        probabilities=predictions.probabilities[places],
        groups=predictions.groups[places],
        clean=predictions.clean[places],
        decided=predictions.predicted[places],
    )
