"""What the report says of the rule by which a model's scores become a class: threshold, origin, what 0.5 would have given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vitrail.decision import Decision
from vitrail.records import Estimate, Evaluation, Scores
from vitrail.reporting.wording import Shown, counted, metric, show

OVERALL = ("balanced_accuracy", "accuracy")
OF_POSITIVE = ("sensitivity", "specificity", "positive_predictive_value")


@dataclass(frozen=True)
class AtHalf:
    """The clean test images at the model's threshold and at 0.5.

    Attributes:
        columns: Headings of the two columns.
        rows: Metric, and its value in either column.
        estimates: What the values were made from, in any order.
        errors: A sentence that counts the errors in either way.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shown, ...]], ...]
    estimates: tuple[Estimate | None, ...]
    errors: str


def decision_facts(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Yield (name, text) for how scores become a class."""
    decision = evaluation.decision
    if decision is None:
        return
    yield "Predicted class", decision.words
    if decision.threshold is None:
        yield "Origin of this rule", decision.reason
        return
    yield "Threshold", threshold_words(decision)
    images = ", ".join(f"{name} {count:,}" for name, count in decision.images.items())
    groups = f"in {counted(decision.groups, 'group', 'groups')}"
    yield "Origin of the threshold", f"{decision.reason} ({images}; {groups}); no test image had a say"


def threshold_words(decision: Decision) -> str:
    """Return the threshold with its 95 % interval, or with the reason why there is none."""
    if decision.low is None or decision.high is None:
        return f"{decision.threshold:.3g} ({decision.note or 'no interval'})"
    note = f"; {decision.note}" if decision.note else ""
    return f"{decision.threshold:.3g} [{decision.low:.3g}, {decision.high:.3g}], {decision.method}{note}"


def at_half(evaluation: Evaluation) -> AtHalf | None:
    """Hold the threshold against 0.5 on the clean test images; ``None`` where there is no threshold."""
    decision, half = evaluation.decision, evaluation.test_clean_at_half
    if decision is None or decision.threshold is None or half is None:
        return None
    both = (evaluation.test_clean, half)
    found = [(metric(name).label, name, tuple(scores.overall.get(name) for scores in both)) for name in OVERALL]
    for name in OF_POSITIVE:
        label, of_class = (
            f"{metric(name).label} for {decision.positive}",
            (scores.per_class[decision.positive] for scores in both),
        )
        found.append((label, name, tuple(metrics.get(name) for metrics in of_class)))
    at_threshold, at_one_half = (_errors(scores, evaluation.classes, decision) for scores in both)
    return AtHalf(
        columns=(f"At the model's threshold, {decision.threshold:.3g}", "At 0.5, for comparison"),
        rows=tuple((label, tuple(show(name, one) for one in pair)) for label, name, pair in found),
        estimates=tuple(one for _, _, pair in found for one in pair),
        errors=f"At the threshold {at_threshold}; at 0.5 {at_one_half}.",
    )


def _errors(scores: Scores, classes: tuple[str, ...], decision: Decision) -> str:
    yes, no = classes.index(decision.positive), classes.index(decision.negative)
    missed, alarms = scores.confusion[yes][no], scores.confusion[no][yes]
    of_yes, of_no = sum(scores.confusion[yes]), sum(scores.confusion[no])
    return f"{missed:,} of {of_yes:,} {decision.positive} missed and {alarms:,} of {of_no:,} {decision.negative} taken for it"
