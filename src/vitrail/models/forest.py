"""Random forest on hand-made features (Breiman 2001): the cheap model every other one has to beat."""

from __future__ import annotations

from typing import Any

import numpy as np

from vitrail.models.embedders import DescriptorEmbedder
from vitrail.models.heads import TreesHead
from vitrail.records import FloatArray, IntArray, Recipe
from vitrail.study import ForestSettings


def embedder(settings: ForestSettings, recipe: Recipe) -> DescriptorEmbedder:
    """Return the descriptors that the forest is grown on."""
    return DescriptorEmbedder(recipe, settings.features)


def describe(settings: ForestSettings) -> str:
    """Return one line for tables."""
    names = {"pixels": "grey pixels", "hog": "HOG"}
    return f"random forest, {settings.trees} trees on {' + '.join(names[feature] for feature in settings.features)}"


def fit(
    settings: ForestSettings, embedding: FloatArray, labels: IntArray, *, class_weights: bool, seed: int
) -> tuple[TreesHead, int]:
    """Grow the forest.

    Args:
        settings: Trees, depth and so on.
        embedding: float32, shape (n, dimension).
        labels: Class indices 0..classes-1, every class present, shape (n,).
        class_weights: Weight images so that every class counts the same.
        seed: Same seed, same forest.

    Returns:
        The head, and the number of nodes of all trees.
    """
    from sklearn.ensemble import RandomForestClassifier

    from vitrail.engine import available_cores

    forest = RandomForestClassifier(
        n_estimators=settings.trees,
        max_depth=settings.max_depth,
        min_samples_split=settings.min_samples_split,
        max_features=settings.max_features,
        class_weight="balanced" if class_weights else None,
        random_state=seed,
        n_jobs=available_cores(),
    )
    forest.fit(embedding, labels)
    return TreesHead(_to_onnx(forest, embedding), settings.trees), sum(tree.tree_.node_count for tree in forest.estimators_)


def _to_onnx(forest: Any, embedding: FloatArray) -> bytes:
    from skl2onnx import to_onnx

    graph = to_onnx(forest, embedding[:1].astype(np.float32), options={"zipmap": False})
    return bytes(graph.SerializeToString())
