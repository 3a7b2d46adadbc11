"""What models answer, and how good that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrail.decision import Decision
from vitrail.records.types import IntArray


@dataclass(frozen=True)
class Predictions:
    """One model's scores for one part of the data, in the order of ``rows``.

    Attributes:
        model: The model's name in the study.
        part: ``validation`` or ``test``.
        classes: Class names; the columns of ``probabilities``.
        rows: Position of every image in the manifest, shape (n,).
        paths: Relative path of every image.
        truth: True class index, shape (n,).
        probabilities: Scores that sum to 1 per row, float64, shape (n, classes).
        groups: Group number per image, shape (n,); intervals resample groups.
        clean: Whether the image counts for the clean score (nothing of it stands in training for sure, no conflicting
            label), shape (n,).
        decided: Index of the class that the model's rule gave each image, shape (n,); on validation images by thresholds that
            other validation images chose; ``None``: the class with the highest score.
    """

    model: str
    part: Literal["validation", "test"]
    classes: tuple[str, ...]
    rows: IntArray
    paths: tuple[str, ...]
    truth: IntArray
    probabilities: npt.NDArray[np.float64]
    groups: IntArray
    clean: npt.NDArray[np.bool_]
    decided: IntArray | None = None

    @property
    def predicted(self) -> IntArray:
        """Index of the predicted class, shape (n,)."""
        return self.decided if self.decided is not None else np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @property
    def answers(self) -> npt.NDArray[np.float64]:
        """1 for the predicted class and 0 for the others, shape (n, classes): the decision in the form of scores."""
        return np.asarray(np.eye(len(self.classes))[self.predicted], dtype=np.float64)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and its origin; ``None`` means not estimable, and ``note`` says why.

    Attributes:
        value: Point estimate on all images it is about.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: Number of images it rests on (for sensitivity: the images of the class).
        groups: Number of independent groups among them.
        method: How the interval was made, for example "bootstrap of 251 groups, 2,000 resamples".
        note: Why it is not estimable, or a caveat; else empty.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int
    method: str
    note: str = ""


@dataclass(frozen=True)
class Scores:
    """All metrics of one model on one set of images.

    Attributes:
        n: Number of images.
        groups: Number of independent groups.
        overall: Metric name -> estimate, for example ``accuracy``, ``balanced_accuracy``, ``auc_weighted``.
        per_class: Class name -> metric name -> estimate, for example ``sensitivity``, ``specificity``, ``auc``.
        confusion: Counts, true class by row, predicted class by column, in the order of the classes.
    """

    n: int
    groups: int
    overall: dict[str, Estimate]
    per_class: dict[str, dict[str, Estimate]]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Evaluation:
    """One model, evaluated. The test images were opened here and nowhere before.

    Attributes:
        model: The model's name in the study.
        classes: Class names.
        validation: On the validation images (they chose the epoch and the champion: optimistic). A threshold is judged on
            those that did not choose it.
        test: On all test images: the official score.
        test_clean: Without test images that also stand in training and without conflicting copies: the headline.
        test_openings: How often the test images were opened for this model of this study; ``--fresh`` does not set it back.
        test_openings_of_data: How often the test images of this data set were opened from this output folder, for any model of
            any study: every look at them that guides a next study makes the scores more optimistic.
        decision: How scores become a class; ``None``: the highest score (evaluations from before there were any).
        test_clean_at_half: The clean test images with a threshold of 0.5; ``None`` where that is the rule.
    """

    model: str
    classes: tuple[str, ...]
    validation: Scores
    test: Scores
    test_clean: Scores
    test_openings: int
    test_openings_of_data: int = 1
    decision: Decision | None = None
    test_clean_at_half: Scores | None = None


@dataclass(frozen=True)
class Difference:
    """By how much a model is better than a baseline on the same test images.

    Attributes:
        model: The model's name in the study.
        baseline: The baseline's name.
        part: The images: ``test_clean``, or ``test`` where no clean test image of some class exists.
        balanced_accuracy: The model's minus the baseline's, -1..1; the interval resamples groups, for both at once.
    """

    model: str
    baseline: str
    part: Literal["test_clean", "test"]
    balanced_accuracy: Estimate

    @property
    def beaten(self) -> bool:
        """Whether the model is surely better: the whole interval lies above 0."""
        return self.balanced_accuracy.low is not None and self.balanced_accuracy.low > 0
