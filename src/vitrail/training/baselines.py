"""What a score must be held against: baselines that take seconds and cannot know the disease.

They are fitted on the training images, from what the scan of the data set already has: no image is opened. They are no models to
be packed and served. To add a baseline, write a class and its line in :data:`BASELINES`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from vitrail.audit.additive import Property
from vitrail.audit.nuisance import global_properties
from vitrail.evaluation.against_baselines import NUISANCE_ONLY
from vitrail.models.heads import Scores
from vitrail.records import FloatArray, IntArray, Manifest, Split, Training

Predict = Callable[[IntArray], Scores]
"""From positions of readable images in the manifest to their scores, shape (n, classes), rows that sum to 1."""

TREES = 100
LEAF = 3  # images in a leaf at least: a forest of single images would remember file sizes
RARE = 5  # training images: categories (of compression, of scanner) with fewer say nothing that holds for others
NEIGHBOURS = 5
SIDE = 32  # pixels: means of 4 x 4 of a thumbnail's, which small shifts change little
BLOCK = 512  # thumbnails at a time


class Baseline(Protocol):
    """One baseline.

    Attributes:
        name: As on the leaderboard; no two share one.
        description: One line a reader understands.
    """

    name: ClassVar[str]
    description: ClassVar[str]

    def fit(self, manifest: Manifest, rows: IntArray, *, seed: int) -> Predict:
        """Learn from the training images, and from nothing else of the data set.

        Args:
            manifest: The data set.
            rows: Positions of the training images, at least one.
            seed: Same seed, same scores.
        """
        ...


class Majority:
    """Always the same answer: how frequent every class is among the training images."""

    name: ClassVar[str] = "majority-class"
    description: ClassVar[str] = "the most frequent class of the training images, whatever the image"

    def fit(self, manifest: Manifest, rows: IntArray, *, seed: int) -> Predict:  # noqa: ARG002 - nothing is drawn
        """Count the classes."""
        shares = class_shares(manifest, rows)
        return lambda asked: np.tile(shares, (len(asked), 1))


class NuisanceOnly:
    """A random forest on what says nothing of the disease: file, dimensions, compression, scanner, overall grey values, noise."""

    name: ClassVar[str] = NUISANCE_ONLY
    description: ClassVar[str] = (
        f"random forest, {TREES} trees, on file size, dimensions, compression, header, overall brightness and noise; "
        "no place in the picture"
    )

    def fit(self, manifest: Manifest, rows: IntArray, *, seed: int) -> Predict:
        """Grow the forest; every class counts the same, as it does for most families of models."""
        from sklearn.ensemble import RandomForestClassifier

        known = global_properties(manifest, rows)
        levels = [_frequent(item) for item in known]
        forest = RandomForestClassifier(
            n_estimators=TREES,
            min_samples_leaf=LEAF,
            class_weight="balanced",
            random_state=seed,
        )
        forest.fit(_columns(known, levels), manifest.labels[rows])

        def predict(asked: IntArray) -> Scores:
            scores = np.zeros((len(asked), len(manifest.classes)))
            if len(asked):
                scores[:, forest.classes_] = forest.predict_proba(_columns(global_properties(manifest, asked), levels))
            return scores

        return predict


class NearestThumbnail:
    """The labels of the training images that look most alike as small grey pictures.

    Nearer ones count more (by one over the Euclidean distance; copies outvote all others). The frequencies of the classes count
    as one more neighbour, so that no score is 0 for want of neighbours.
    """

    name: ClassVar[str] = "nearest-thumbnail"
    description: ClassVar[str] = (
        f"labels of the {NEIGHBOURS} training images whose grey thumbnails, shrunk to {SIDE} x {SIDE} pixels, are nearest"
    )

    def fit(self, manifest: Manifest, rows: IntArray, *, seed: int) -> Predict:  # noqa: ARG002 - nothing is drawn
        """Keep the training thumbnails."""
        from sklearn.neighbors import KNeighborsClassifier

        count = min(NEIGHBOURS, len(rows))
        neighbours = KNeighborsClassifier(count, weights="distance", algorithm="brute")
        neighbours.fit(small_pictures(manifest, rows), manifest.labels[rows])
        shares = class_shares(manifest, rows)

        def predict(asked: IntArray) -> Scores:
            scores = np.tile(shares, (len(asked), 1))
            for start in range(0, len(asked), BLOCK):
                block = slice(start, start + BLOCK)
                votes = neighbours.predict_proba(small_pictures(manifest, asked[block]))
                scores[block, neighbours.classes_] += count * votes
            return scores / (count + 1)

        return predict


BASELINES: tuple[Baseline, ...] = (Majority(), NuisanceOnly(), NearestThumbnail())
"""The baselines of every leaderboard, simplest first. A new baseline adds a line here."""


def fit_baseline(baseline: Baseline, manifest: Manifest, split: Split, *, seed: int) -> tuple[Predict, Training]:
    """Fit one baseline on the training images of a split.

    Returns:
        What gives scores, and the record of how it was fitted.
    """
    rows, started = split.rows("train"), time.monotonic()
    predict = baseline.fit(manifest, rows, seed=seed)
    training = Training(
        model=baseline.name,
        family="baseline",
        description=baseline.description,
        parameters=0,
        images=len(rows),
        epochs=(),
        best_epoch=0,
        stopped="fitted in one go",
        seconds=time.monotonic() - started,
        split=split.fingerprint,
    )
    return predict, training


def class_shares(manifest: Manifest, rows: IntArray) -> Scores:
    """Return the share of every class among some images, shape (classes,)."""
    return np.bincount(manifest.labels[rows], minlength=len(manifest.classes)) / len(rows)


def small_pictures(manifest: Manifest, rows: IntArray) -> Scores:
    """Return the thumbnails at 32 x 32 pixels, flat: sums of 4 x 4 grey values, whole numbers, shape (rows, 1024)."""
    blocks = [np.empty((0, SIDE * SIDE))]
    for start in range(0, len(rows), BLOCK):
        pictures = manifest.thumbnails[rows[start : start + BLOCK]]
        step = pictures.shape[1] // SIDE
        cells = pictures.reshape(len(pictures), SIDE, step, SIDE, step).sum(axis=(2, 4), dtype=np.int64)
        blocks.append(cells.reshape(len(pictures), -1).astype(np.float64))
    return np.concatenate(blocks)


def _frequent(item: Property) -> tuple[str, ...]:
    """Return the categories that enough images have; none where the property is a number."""
    if not item.levels:
        return ()
    often = np.bincount(item.values.astype(np.int64), minlength=len(item.levels)) >= RARE
    return tuple(level for level, enough in zip(item.levels, often, strict=True) if enough)


def _columns(properties: Sequence[Property], levels: Sequence[tuple[str, ...]]) -> FloatArray:
    """Return numbers as they are (unknown ones as not-a-number), and a column of 0 and 1 per category, shape (n, columns)."""
    columns: list[npt.NDArray[np.generic]] = []
    for item, known in zip(properties, levels, strict=True):
        if not item.levels:
            columns.append(item.values)
            continue
        named = np.array(item.levels)[item.values.astype(np.int64)]
        columns += [named == level for level in known]
    return np.stack(columns, axis=1).astype(np.float32)
