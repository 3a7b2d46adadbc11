"""How scores become a class: the rule a model answers by. It is fixed on validation images and kept in the model's package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

Rule = Literal["highest", "balanced", "sensitivity", "specificity"]


@dataclass(frozen=True)
class Decision:
    """A rule and where it comes from.

    Attributes:
        rule: ``highest``: the class with the highest score (with two classes, a threshold of 0.5). For two classes also a
            threshold: ``balanced`` (largest balanced accuracy), ``sensitivity`` or ``specificity`` (that share is reached).
        reason: Why this rule or threshold, in one sentence.
        positive: The class whose score is held against the threshold; empty for ``highest``.
        negative: The other one.
        threshold: ``positive`` is predicted where its score reaches this, 0..1; ``None`` for ``highest``.
        low: Lower end of the threshold's 95 % interval; ``None``: none is known.
        high: Upper end.
        reach: The share that was to be reached on the validation images; ``None`` for other rules.
        images: Class -> validation images that chose the threshold; empty for ``highest``.
        groups: Independent groups among them.
        method: How the interval was made.
        note: Why there is no interval, or a caveat; else empty.
    """

    rule: Rule
    reason: str = ""
    positive: str = ""
    negative: str = ""
    threshold: float | None = None
    low: float | None = None
    high: float | None = None
    reach: float | None = None
    images: dict[str, int] = field(default_factory=dict)
    groups: int = 0
    method: str = ""
    note: str = ""

    @property
    def words(self) -> str:
        """The rule in one sentence, without its reason."""
        if self.threshold is None:
            return "the class with the highest score"
        reached = "1, which none reaches" if self.threshold > 1 else f"{self.threshold:.3g}"
        return f"{self.positive} where its score is at least {reached}, else {self.negative}"

    def problem(self, classes: Sequence[str]) -> str:
        """Say why the rule does not fit a model of these classes; empty where it does."""
        if self.threshold is None:
            return "" if self.rule == "highest" else f"rule {self.rule} has no threshold"
        if self.rule == "highest":
            return "rule highest takes no threshold"
        if not np.isfinite(self.threshold):
            return f"its threshold is {self.threshold}"
        if len(classes) != 2 or {self.positive, self.negative} != set(classes):
            return f"a threshold between {self.positive!r} and {self.negative!r} does not fit the classes {list(classes)}"
        return ""


def decide(scores: npt.NDArray[np.float64], classes: Sequence[str], decision: Decision | None) -> npt.NDArray[np.int64]:
    """Return the index of the class that is predicted, shape (n,).

    Args:
        scores: Shape (n, classes).
        classes: Class names, in the order of the scores.
        decision: The rule; ``None`` (packages from before there were any): the class with the highest score.
    """
    if decision is None or decision.threshold is None:
        return np.asarray(scores.argmax(axis=1), dtype=np.int64)
    positive, negative = classes.index(decision.positive), classes.index(decision.negative)
    return np.where(scores[:, positive] >= decision.threshold, positive, negative).astype(np.int64)
