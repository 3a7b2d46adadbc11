"""Scores of images of the data set, through the feature cache."""

from __future__ import annotations

from pathlib import Path

from vitrail.models import DenseHead, Embedder, EstimatorHead, ModelPackage, Package, weighted_mean
from vitrail.models.heads import Scores
from vitrail.preprocess import View
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

    def scores(model: ModelPackage) -> Scores:
        return view_scores(
            model.embedder, model.head, manifest, rows, views=model.views, cache=cache, progress=progress, title=title
        )

    return weighted_mean((part.weight, scores(part.model)) for part in package.parts)


def view_scores(
    embedder: Embedder,
    head: DenseHead | EstimatorHead,
    manifest: Manifest,
    rows: IntArray,
    *,
    views: tuple[View, ...],
    cache: Path,
    progress: Progress = SILENT,
    title: str = "Scoring",
) -> Scores:
    """Return the mean of a model's scores over views of some images, shape (len(rows), classes); see :func:`score_rows`."""

    def scores(view: View) -> Scores:
        return head.scores(features(embedder, manifest, rows, view=view, cache=cache, progress=progress, title=title))

    return weighted_mean((1 / len(views), scores(view)) for view in views)
