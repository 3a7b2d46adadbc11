"""Scores of images of the data set, through the feature cache."""

from __future__ import annotations

from pathlib import Path

from vitrail.models import Package, Part, weighted_mean
from vitrail.models.heads import Scores
from vitrail.progress import SILENT, Progress
from vitrail.records import IntArray, Manifest
from vitrail.training.features import features


def score_rows(
    package: Package,
    manifest: Manifest,
    rows: IntArray,
    *,
    cache: Path,
    progress: Progress = SILENT,
    title: str = "Scoring",
) -> Scores:
    """Return what a package says of some images of the data set.

    Args:
        package: A loaded package, as any user has it.
        manifest: The data set.
        rows: Positions of readable files.
        cache: Folder of the caches: a model's vectors are computed once, also where it stands in several packages.
        progress: Told of every batch computed.
        title: Of the progress bar.

    Returns:
        Shape (len(rows), classes).
    """

    def scores(part: Part) -> Scores:
        embedder, head = part.model.embedder, part.model.head
        return head.scores(features(embedder, manifest, rows, cache=cache, progress=progress, title=title))

    return weighted_mean((part.weight, scores(part)) for part in package.parts)
