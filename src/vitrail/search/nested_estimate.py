"""What came out of a nested cross-validation, as numbers, as plain data and in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vitrail.records import Estimate, Scores
from vitrail.search.cross_validation import SCORE

NOT_ALL = "not estimable: not every outer fold was predicted"


@dataclass(frozen=True)
class OuterFold:
    """One outer fold: who was chosen without it, and how that candidate did on it.

    Attributes:
        fold: Counted from 1.
        model: The model that was chosen; empty: none could be.
        parameters: Dotted key below the model -> value.
        inner_score: Mean balanced accuracy by which it was chosen; ``None``: none was.
        score: Balanced accuracy on the outer fold; ``None``: not estimable.
        n: Images of the outer fold.
        groups: Independent groups among them.
        failure: Why it was not predicted; else empty.
    """

    fold: int
    model: str
    parameters: dict[str, Any]
    inner_score: float | None
    score: float | None
    n: int
    groups: int
    failure: str = ""


@dataclass(frozen=True)
class Nested:
    """A finished nested cross-validation of one search.

    Attributes:
        fits: How many models were trained for it at the most.
        inner_folds: Folds of every search.
        model: Model of the search's own winner, chosen on all folds.
        parameters: Settings of that winner.
        inner_score: The winner's mean balanced accuracy over the folds that chose it: too good on average.
        inner_standard_error: Of that mean, from the spread between folds.
        folds: The outer folds.
        scores: Of all predictions of the outer folds together: the metrics of the predicted class, for scores of different models
            are not ranked together; ``None``: not every outer fold was predicted.
        continuous: Models of which a setting is drawn from a continuous range. No two searches draw the same value, so that only
            the model is counted in what was chosen, not its settings.
    """

    fits: int
    inner_folds: int
    model: str
    parameters: dict[str, Any]
    inner_score: float
    inner_standard_error: float
    folds: tuple[OuterFold, ...]
    scores: Scores | None
    continuous: tuple[str, ...] = ()

    @property
    def estimate(self) -> Estimate:
        """The pooled balanced accuracy. Its interval resamples groups of predicted images; who trained does not vary in it."""
        if self.scores is not None:
            return self.scores.overall[SCORE]
        n, groups = sum(one.n for one in self.folds), sum(one.groups for one in self.folds)
        return Estimate(None, None, None, n, groups, "no interval", NOT_ALL)

    @property
    def optimism(self) -> float | None:
        """By how much the winner's inner score is above the nested estimate; ``None``: not estimable."""
        return None if self.estimate.value is None else self.inner_score - self.estimate.value

    @property
    def choices(self) -> tuple[tuple[str, dict[str, Any], int], ...]:
        """Every candidate that was chosen, as model, settings and number of outer folds; the most frequent first. Models with
        continuous settings are counted whatever these were: they stand without."""
        counted: list[tuple[str, dict[str, Any], int]] = []
        for one in self.folds:
            choice = self._counted(one.model, one.parameters)
            if one.model and choice not in [known[:2] for known in counted]:
                counted.append((*choice, self._times(choice)))
        return tuple(sorted(counted, key=lambda choice: -choice[2]))

    @property
    def chose_the_winner(self) -> int:
        """How many outer folds chose the search's own winner; its model, where that has continuous settings."""
        return self._times(self._counted(self.model, self.parameters))

    @property
    def counts_settings(self) -> bool:
        """Whether :attr:`chose_the_winner` means the winner's settings too, not its model alone."""
        return self.model not in self.continuous

    def _counted(self, model: str, parameters: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return model, {} if model in self.continuous else parameters

    def _times(self, choice: tuple[str, dict[str, Any]]) -> int:
        return sum(self._counted(one.model, one.parameters) == choice for one in self.folds)


def meaning(nested: Nested) -> str:
    """Return what the difference between the inner score and the nested estimate means, in a sentence or two."""
    if nested.optimism is None:
        return "There is no nested estimate, as not every outer fold was predicted. The inner score remains too good on average."
    if nested.optimism > 0:
        return (
            f"The inner score is {nested.optimism:.3f} higher: the folds that gave it also chose the winner, so it is too good "
            "on average. Report the nested estimate."
        )
    inner, outer = 1 - 1 / nested.inner_folds, 1 - 1 / len(nested.folds)
    fewer = f"; but its models trained on {100 * inner:.0f} % of the images, not on {100 * outer:.0f} %" if inner < outer else ""
    return (
        "The inner score is no higher here, though the folds that gave it also chose the winner, which makes it too good on "
        f"average{fewer}. Report the nested estimate."
    )


UNTESTED = (
    "It is an estimate of the whole procedure: search, choose, train. The final model itself is not directly tested by it; that "
    "is for test images that had no part in this. Where a threshold decides between two classes, each image is decided by one "
    "that other images of its outer fold chose: what a threshold loses on its way to other images is not in it."
)
"""What a nested estimate does not say."""


def nested_row(nested: Nested) -> dict[str, Any]:
    """Return a nested cross-validation as plain data: what stands in its record and what ``--json`` prints."""
    return {
        "outer_folds": len(nested.folds),
        "inner_folds": nested.inner_folds,
        "fits": nested.fits,
        "estimate": asdict(nested.estimate),
        "inner_score": nested.inner_score,
        "inner_standard_error": nested.inner_standard_error,
        "optimism": nested.optimism,
        "meaning": f"{meaning(nested)} {UNTESTED}",
        "winner": {
            "model": nested.model,
            "settings": nested.parameters,
            "chosen_in": nested.chose_the_winner,
            "counted": "model and settings" if nested.counts_settings else "model alone",
        },
        "choices": [{"model": model, "settings": settings, "chosen_in": times} for model, settings, times in nested.choices],
        "folds": [
            {
                "fold": one.fold,
                "model": one.model or None,
                "settings": one.parameters,
                "inner_score": one.inner_score,
                "balanced_accuracy": one.score,
                "n": one.n,
                "groups": one.groups,
                "failure": one.failure,
            }
            for one in nested.folds
        ],
        "pooled": None if nested.scores is None else asdict(nested.scores),
    }
