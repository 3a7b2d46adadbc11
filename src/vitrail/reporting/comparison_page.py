"""The page of a comparison: champion and challengers on the same images, as one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from markupsafe import Markup

from vitrail.evaluation.comparison import COMPARED, PARTS, Candidate, Comparison, PairedComparison, PairedTest, PartName
from vitrail.records import Estimate
from vitrail.reporting.drawing import GRID, INK, MUTED, SERIES, canvas, short_name, to_svg
from vitrail.reporting.figures import confusion_matrix, score_intervals
from vitrail.reporting.page import render
from vitrail.reporting.wording import GLOSSARY, LIMITS, Shown, caveats, methods, metric, points, show
from vitrail.storage import write_text

PART_WORDS = {"validation": "Validation images", "test_clean": "Clean test images", "test": "All test images (official)"}
TERMS = ("Balanced accuracy", "AUC", "Accuracy", "95 % interval", "n and groups", "Clean score and official score", "Validation")


@dataclass(frozen=True)
class Standing:
    """A candidate and its scores: validation, clean test (balanced accuracy, AUC), all test images."""

    name: str
    description: str
    scores: tuple[Shown, ...]


@dataclass(frozen=True)
class Row:
    """A challenger against the champion on one set of images, in words: its name, its differences, its tests."""

    name: str
    differences: tuple[Shown, ...]
    discordant: str
    accuracy_test: str
    auc_test: str


@dataclass(frozen=True)
class PartView:
    """One set of images: the figure of the differences (SVG), and the table."""

    key: str
    title: str
    figure: str
    rows: tuple[Row, ...]
    methods: tuple[str, ...]
    notes: tuple[str, ...]


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write the page of a comparison, whole or not at all; the same comparison gives the same bytes.

    Raises:
        OutputError: The folder cannot be written.
    """
    candidates = comparison.candidates
    chance = 1 / max(1, len(candidates[0].evaluation.classes))
    scores = [
        (one.name, one.evaluation.test_clean.overall["balanced_accuracy"], one.evaluation.test.overall["balanced_accuracy"])
        for one in candidates
    ]
    content = {
        "comparison": comparison,
        "champion": candidates[0],
        "standings": [_standing(one) for one in candidates],
        "standing_methods": methods(estimate for one in candidates for estimate in _standing_estimates(one)),
        "standing_notes": caveats(_standing(one).scores for one in candidates),
        "scores_figure": score_intervals(scores, chance=chance, key="scores"),
        "parts": [_part(comparison, part) for part in PARTS if part != "test" or _test_differs(comparison)],
        "same": not _test_differs(comparison),
        "verdicts": [verdict(name, parts["test_clean"]) for name, parts in comparison.challengers.items()],
        "confusions": [
            confusion_matrix(
                one.evaluation.classes,
                one.evaluation.test_clean.confusion,
                title=short_name(one.name, 40),
                key=f"confusion-{number}",
            )
            for number, one in enumerate(candidates)
        ],
        "n_clean": candidates[0].evaluation.test_clean.n,
        "terms": [(term, meaning) for term, meaning in GLOSSARY if term in TERMS],
        "limits": [limit for limit in LIMITS if not limit.startswith("Models are compared side by side")],
        "version": version("vitrail"),
        "drawn": Markup,
    }
    write_text(path, render("comparison.html.j2", content))


def verdict(name: str, row: PairedComparison) -> str:
    """Return in one sentence what the clean test images say of a challenger: better, worse, or not decided."""
    difference = row.differences["balanced_accuracy"]
    if difference.value is None or difference.low is None or difference.high is None:
        return f"{name}: the difference on clean test images is not estimable ({difference.note or 'no interval'})."
    shown = _shown("balanced_accuracy", difference)
    told = f"{shown.value}, {shown.spoken}"
    if difference.low > 0:
        return f"{name} does better than the champion on clean test images ({told})."
    if difference.high < 0:
        return f"{name} does worse than the champion on clean test images ({told})."
    return f"{name}: the clean test images do not decide between it and the champion ({told})."


def difference_intervals(rows: Sequence[tuple[str, Estimate]], *, title: str, key: str) -> str:
    """Draw one line per challenger: its balanced accuracy minus the champion's with its 95 % interval, zero marked.

    Args:
        rows: Name and difference, from top to bottom.
        title: Which images these are.
        key: Prefix of the ids.
    """
    ends = [100 * end for _, one in rows for end in (one.value, one.low, one.high) if end is not None]
    reach = 1.15 * max((abs(end) for end in ends), default=1.0) + 1
    with canvas(7.0, 1.15 + 0.4 * len(rows)) as figure:
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=1)
        for height, (_, one) in enumerate(rows):
            if one.low is not None and one.high is not None:
                colour = SERIES[2] if one.low > 0 else SERIES[1] if one.high < 0 else MUTED
                axes.plot([100 * one.low, 100 * one.high], [height, height], color=colour, linewidth=2.2)
            else:
                colour = MUTED
            if one.value is not None:
                axes.plot([100 * one.value], [height], "o", color=colour, markersize=6)
        axes.set_yticks(np.arange(len(rows)), [short_name(name, 30) for name, _ in rows], color=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(-reach, reach)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_color(GRID)
        axes.set_xlabel("balanced accuracy minus the champion's, points")
        axes.set_title(title)
        told = "; ".join(f"{name} {points(one.value)}" for name, one in rows if one.value is not None)
        return to_svg(figure, key=key, label=short_name(f"{title}, difference to the champion: {told}", 2000))


def _test_differs(comparison: Comparison) -> bool:
    return any(one.evaluation.test.n != one.evaluation.test_clean.n for one in comparison.candidates)


def _standing_estimates(one: Candidate) -> Iterable[Estimate]:
    evaluation = one.evaluation
    return (
        scores.overall[name]
        for scores, name in (
            (evaluation.validation, "balanced_accuracy"),
            (evaluation.test_clean, "balanced_accuracy"),
            (evaluation.test_clean, "auc_weighted"),
            (evaluation.test, "balanced_accuracy"),
        )
    )


def _standing(one: Candidate) -> Standing:
    names = ("balanced_accuracy", "balanced_accuracy", "auc_weighted", "balanced_accuracy")
    shown = tuple(show(name, estimate) for name, estimate in zip(names, _standing_estimates(one), strict=True))
    return Standing(one.name, one.description, shown)


def _part(comparison: Comparison, part: PartName) -> PartView:
    found = {name: parts[part] for name, parts in comparison.challengers.items()}
    rows = tuple(_row(name, row) for name, row in found.items())
    balanced = [(name, row.differences["balanced_accuracy"]) for name, row in found.items()]
    title = PART_WORDS[part]
    return PartView(
        key=part.replace("_", "-"),
        title=title,
        figure=difference_intervals(balanced, title=title, key=f"difference-{part.replace('_', '-')}"),
        rows=rows,
        methods=methods(estimate for row in found.values() for estimate in row.differences.values()),
        notes=caveats(row.differences for row in rows),
    )


def _row(name: str, row: PairedComparison) -> Row:
    return Row(
        name=name,
        differences=tuple(_shown(key, row.differences[key]) for key in COMPARED),
        discordant=f"{row.only_challenger:,} / {row.only_champion:,}",
        accuracy_test=_tested(row.accuracy_test),
        auc_test=_tested(row.auc_test),
    )


def _shown(name: str, difference: Estimate) -> Shown:
    """Return a difference in words: signed, shares in percentage points."""
    plain = show(name, difference)
    if difference.value is None:
        return plain
    factor, digits = (100, 1) if metric(name).percent else (1, 3)

    def signed(value: float) -> str:
        rounded = round(factor * value, digits)
        return f"{rounded:+.{digits}f}".replace("-", "\N{MINUS SIGN}") if rounded else f"{0:.{digits}f}"

    interval = spoken = ""
    if difference.low is not None and difference.high is not None:
        low, high = signed(difference.low), signed(difference.high)
        interval, spoken = f"[{low}, {high}]", f"95 % interval from {low} to {high}"
    unit = " points" if metric(name).percent else ""
    return Shown(f"{signed(difference.value)}{unit}", interval, spoken, plain.n, plain.groups, plain.note, True)


def _tested(test: PairedTest) -> str:
    if test.p_value is None or test.adjusted is None:
        return test.note
    return f"p {_p_value(test.p_value)}; adjusted {_p_value(test.adjusted)} ({test.method})"


def _p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"
