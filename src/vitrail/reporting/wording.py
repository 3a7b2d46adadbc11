"""The report's words and numbers that are not tied to one place of the page; whole sentences, so that they can be translated."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from vitrail.records import Energy, Estimate

NOT_ESTIMABLE = "not estimable"


@dataclass(frozen=True)
class Metric:
    """How a metric is called and written.

    Attributes:
        label: Column heading.
        percent: Written as a percentage (a share of images), else as a plain number with three decimals.
    """

    label: str
    percent: bool


METRICS = {
    "accuracy": Metric("Accuracy", True),
    "balanced_accuracy": Metric("Balanced accuracy", True),
    "matthews_correlation": Metric("Matthews correlation (-1 to 1)", False),
    "auc_macro": Metric("AUC (mean of classes)", False),
    "auc_weighted": Metric("AUC (weighted)", False),
    "log_loss": Metric("Log loss (0 is best)", False),
    "brier_score": Metric("Brier score (0 is best, 2 worst)", False),
    "sensitivity": Metric("Sensitivity", True),
    "specificity": Metric("Specificity", True),
    "positive_predictive_value": Metric("PPV", True),
    "f1_score": Metric("F1", False),
    "auc": Metric("AUC", False),
    "share": Metric("Share", True),
}


def metric(name: str) -> Metric:
    """Return how a metric is written; one that is not known here keeps its own name."""
    return METRICS.get(name, Metric(name.replace("_", " ").capitalize(), False))


@dataclass(frozen=True)
class Shown:
    """An estimate in words.

    Attributes:
        value: For example ``96.2 %``, or ``not estimable``.
        interval: For example ``[94.1, 98.0]``; empty when there is none.
        spoken: The interval for a screen reader.
        n: For example ``n = 311``.
        groups: For example ``in 300 groups``; empty when every image is its own group.
        note: The caveat, or why it is not estimable.
        estimable: Whether there is a number.
    """

    value: str
    interval: str
    spoken: str
    n: str
    groups: str
    note: str
    estimable: bool


def show(name: str, estimate: Estimate | None) -> Shown:
    """Return the estimate of a metric in words: the number, its 95 % interval, its n."""
    if estimate is None:
        return Shown(NOT_ESTIMABLE, "", "", "", "", "not computed in this run", False)
    how = metric(name)
    count = f"n = {estimate.n:,}"
    groups = "" if estimate.groups == estimate.n else f"in {counted(estimate.groups, 'group', 'groups')}"
    if estimate.value is None:
        return Shown(NOT_ESTIMABLE, "", "", count, groups, estimate.note.removeprefix(f"{NOT_ESTIMABLE}: "), False)
    value = f"{100 * estimate.value:.1f} %" if how.percent else f"{estimate.value:.3f}"
    if estimate.low is None or estimate.high is None:
        return Shown(value, "", "", count, groups, estimate.note or "no interval", True)
    factor, digits = (100, 1) if how.percent else (1, 3)
    low, high = f"{factor * estimate.low:.{digits}f}", f"{factor * estimate.high:.{digits}f}"
    return Shown(value, f"[{low}, {high}]", f"95 % interval from {low} to {high}", count, groups, estimate.note, True)


def methods(estimates: Iterable[Estimate | None]) -> tuple[str, ...]:
    """Return how the intervals were made, each way once, in the order met; the number of groups stands with each number."""
    ways = (estimate.method for estimate in estimates if estimate is not None and estimate.low is not None)
    return tuple(dict.fromkeys(re.sub(r"\b[\d,]+ groups?\b", "groups", way) for way in ways if way))


def caveats(rows: Iterable[Iterable[Shown]]) -> tuple[str, ...]:
    """Return the notes of estimable numbers, each once, in the order met: they stand under a table as footnotes."""
    return tuple(dict.fromkeys(shown.note for row in rows for shown in row if shown.estimable and shown.note))


def points(difference: float) -> str:
    """Return a difference of two shares in percentage points, signed, for example ``+1.3 points``."""
    rounded = round(100 * difference, 1) + 0.0  # + 0.0 turns minus zero into zero
    return f"{rounded:+.1f} points".replace("-", "\N{MINUS SIGN}") if rounded else "0.0 points"


def duration(seconds: float) -> str:
    """Return a time in words of two units at most, for example ``3 min 20 s``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def electricity(energy: Energy) -> str:
    """Return what some work took, for example ``12.4 Wh, 0.70 g CO2eq, in 3 min 20 s (...)``, or why it is not known."""
    if energy.kwh is None:
        return energy.note or "not measured"
    carbon = f", {_in_grams(energy.co2_kg)} CO2eq" if energy.co2_kg is not None else ""
    amount = f"{_three_digits(energy.kwh)} kWh" if energy.kwh >= 1 else f"{_three_digits(1000 * energy.kwh)} Wh"
    note = f". {energy.note[:1].upper()}{energy.note[1:]}" if energy.note else ""
    return f"{amount}{carbon}, in {duration(energy.seconds)} ({energy.method}){note}"


def _in_grams(kilograms: float) -> str:
    return f"{_three_digits(kilograms)} kg" if kilograms >= 1 else f"{_three_digits(1000 * kilograms)} g"


def _three_digits(value: float) -> str:
    """Return a number of at least 0 with three digits that say something, never in powers of ten."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(value)))
    return f"{value:,.{digits}f}"


def counted(number: int, one: str, many: str) -> str:
    """Return a count with its noun, for example ``1 image`` or ``3,264 images``."""
    return f"{number:,} {one if number == 1 else many}"


def printable(text: str) -> str:
    """Return text that can be written as UTF-8 HTML: undecodable bytes of file names and control characters become marks."""
    kept = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", "\ufffd", text)
    return kept.encode("utf-8", "replace").decode("utf-8")


GLOSSARY: tuple[tuple[str, str], ...] = (
    (
        "Sensitivity",
        "Of the images that truly belong to a class, the share that the model gives to this class. Also called recall. "
        "A low value means missed cases.",
    ),
    (
        "Specificity",
        "Of the images that do not belong to a class, the share that the model keeps out of it. A low value means false alarms.",
    ),
    (
        "PPV",
        "Positive predictive value, also called precision: of the images that the model gives to a class, the share that truly "
        "belongs to it. It depends on how common the class is in these images and does not carry over to another population.",
    ),
    (
        "F1",
        "Harmonic mean of sensitivity and PPV, from 0 to 1. It is high only when both are.",
    ),
    (
        "Accuracy",
        "The share of all images that get their true class. With classes of unequal size, the large classes dominate it.",
    ),
    (
        "Balanced accuracy",
        "The mean of the sensitivities of all classes: every class counts the same, however many images it has. Guessing gives "
        "1 divided by the number of classes.",
    ),
    (
        "AUC",
        "Area under the ROC curve: how likely a random image of the class gets a higher score for it than a random image of "
        "another class. 0.5 is guessing, 1 is perfect order. It looks at the order of the scores, not at a threshold. "
        "“Weighted” means the mean over the classes, weighted by their number of images.",
    ),
    (
        "95 % interval",
        "The range of values that fit the test images, written [low, high]. Repeated with new test images of the same kind, "
        "about 95 of 100 such intervals would hold the true value. It does not cover a retrained model, another hospital, "
        "another scanner or another population.",
    ),
    (
        "n and groups",
        "n is the number of images behind a number. Copies of one picture, slices of one volume and images of one patient "
        "form one group, as far as they are known; intervals resample groups.",
    ),
    (
        "Leak",
        "A test image that also stands among the training or validation images: byte for byte, as a near or mirrored copy, as "
        "another slice of the same volume, or as another image of the same patient where that is known for sure. The model may "
        "remember it instead of recognising it.",
    ),
    (
        "Clean score and official score",
        "The official score uses all test images. The clean score leaves out leaked images and copies with conflicting labels: "
        "it is the headline of this report. The difference is the leakage premium.",
    ),
    (
        "Validation",
        "Images held out of training that chose the epoch and the champion. Scores on them are therefore optimistic.",
    ),
    (
        "Grad-CAM",
        "A map of where the last feature maps of a network speak for (or against) a class (Selvaraju et al. 2017). It is "
        "coarse, and it shows where the model looked, not why.",
    ),
    (
        "Occlusion",
        "A map of how much the score changes when a patch of the image is covered (Zeiler & Fergus 2014). It works for every "
        "model. The cover itself is unusual to the model, which can distort the map.",
    ),
    (
        "Score",
        "The number from 0 to 1 that a model gives to a class; the scores of one image add up to 1. It is not the probability "
        "of a disease, and it is not a diagnosis.",
    ),
)

LIMITS: tuple[str, ...] = (
    "All images come from one folder. Nothing here says how the models do on images of another hospital, scanner, protocol or "
    "population: that takes an external validation.",
    "Images are grouped by copies, volumes and patients as far as files, names and tables tell. Where nothing tells which images "
    "show one patient, they may stand on both sides of the split, and every score and interval is then too favourable.",
    "The labels are taken as the truth. The audit can find some wrong labels, not all.",
    "The audit finds what its checks look for. “Passed” means that a check found nothing, not that there is nothing.",
    "The share of each class in this folder is not its share among patients: PPV and accuracy do not carry over.",
    "Intervals describe the chance in drawing the test images, not the chance in training; another seed gives another model.",
    "Models are compared side by side. Overlapping intervals are no proof that two models are equal, nor is a higher number a "
    "proof that one is better.",
    "A map shows which pixels moved this model's score. It is not a segmentation and does not prove that the model uses "
    "medically sound signs.",
)
