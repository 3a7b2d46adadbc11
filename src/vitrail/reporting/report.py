"""The report: one HTML file that opens offline, prints, and can be read aloud.

The builders of the sections turn records into plain texts and pictures; the template only lays them out, with every value
escaped, because class and file names come from strangers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from vitrail.explanation import colour_bar
from vitrail.records import Evaluation, ModelResult, RunResult
from vitrail.reporting.data_section import data_view
from vitrail.reporting.figures import can_draw_roc, learning_curves
from vitrail.reporting.findings import finding_views, severity_counts
from vitrail.reporting.model_section import (
    STANDINGS,
    clean_confusion_figure,
    gallery_words,
    leaderboard,
    model_views,
    roc_figure,
)
from vitrail.reporting.page import render
from vitrail.reporting.thumbnails import Thumbnails, jpeg_uri
from vitrail.reporting.wording import GLOSSARY, LIMITS, Shown, electricity, points, show
from vitrail.storage import write_text

MOST_LISTED = 3000
"""Pieces of evidence that one finding lists; the audit's record in the run folder has them all."""


@dataclass(frozen=True)
class Headline:
    """The champion's two scores.

    Attributes:
        clean: Balanced accuracy on the clean test images.
        official: On all test images.
        n_clean: Number of clean test images.
        n_official: Number of test images.
        premium: Official minus clean in percentage points; empty when not estimable.
        flattering: Whether the official score is the higher one.
        in_accuracy: The same for plain accuracy, which copies of one well-recognised class move most; empty when not estimable.
    """

    clean: Shown
    official: Shown
    n_clean: int
    n_official: int
    premium: str
    flattering: bool
    in_accuracy: str


def write_report(result: RunResult, path: Path) -> None:
    """Write the report of a run as one self-contained HTML file, whole or not at all.

    The same result gives the same bytes. Images and thumbnails that are gone are replaced by a note.

    Args:
        result: The finished run.
        path: The HTML file.

    Raises:
        OutputError: The folder cannot be written.
    """
    write_text(path, _render(result))


def figure_files(result: RunResult, model: ModelResult) -> dict[str, str]:
    """Return the figures of one model for tracking: file name -> SVG text, as many as the model has.

    Args:
        result: The finished run; its name stands in the ids of the figures.
        model: One of its models.
    """
    key = re.sub(r"[^A-Za-z0-9-]", "", f"{result.name}-{model.name}")
    figures: dict[str, str] = {}
    if model.training is not None and model.training.epochs:
        figures["learning_curves.svg"] = learning_curves(model.training, key=f"{key}-curves")
    if model.evaluation is not None:
        figures["confusion_matrix.svg"] = clean_confusion_figure(model.evaluation, key=f"{key}-confusion")
        if model.predictions is not None and can_draw_roc(model.predictions):
            figures["roc_curves.svg"] = roc_figure(model.evaluation, model.predictions, key=f"{key}-roc")
    return figures


def _render(result: RunResult) -> str:
    thumbnails = Thumbnails(result.manifest)
    champion = next((model for model in result.models if model.name == result.champion and model.evaluation), None)
    content = {
        "result": result,
        "champion": champion,
        "headline": _headline(champion.evaluation) if champion and champion.evaluation else None,
        "trained": sum(1 for _ in result.trained()),
        "severities": severity_counts(result.audit.findings),
        "data": data_view(result, thumbnails),
        "findings": finding_views(result.audit.findings, thumbnails, most_listed=MOST_LISTED),
        "board": leaderboard(result),
        "standings": STANDINGS,
        "models": model_views(result, thumbnails),
        "glossary": GLOSSARY,
        "limits": LIMITS,
        "gallery_words": gallery_words,
        "map_colours": jpeg_uri(colour_bar(224, 14), quality=90),
        "electricity": electricity(result.energy),
        "drawn": Markup,  # marks the SVG of figures.py, whose texts are escaped there, as ready HTML
    }
    return render("report.html.j2", content)


def _headline(evaluation: Evaluation) -> Headline:
    clean, official = (scores.overall.get("balanced_accuracy") for scores in (evaluation.test_clean, evaluation.test))
    premium, flattering = "", False
    if clean is not None and official is not None and clean.value is not None and official.value is not None:
        premium, flattering = points(official.value - clean.value), official.value > clean.value
    return Headline(
        clean=show("balanced_accuracy", clean),
        official=show("balanced_accuracy", official),
        n_clean=evaluation.test_clean.n,
        n_official=evaluation.test.n,
        premium=premium,
        flattering=flattering,
        in_accuracy=_accuracy_premium(evaluation),
    )


def _accuracy_premium(evaluation: Evaluation) -> str:
    clean, official = (scores.overall.get("accuracy") for scores in (evaluation.test_clean, evaluation.test))
    if clean is None or official is None or clean.value is None or official.value is None:
        return ""
    return f"{100 * official.value:.1f} % against {100 * clean.value:.1f} %, {points(official.value - clean.value)}"
