"""Gradient-boosted trees on hand-made features (Friedman 2001): every round adds trees that correct those before."""

from __future__ import annotations

from typing import Any

import numpy as np

from vitrail.models.embedders import DescriptorEmbedder
from vitrail.models.estimators import feature_names, standardised, to_onnx
from vitrail.models.heads import TREES_ASTRAY, EstimatorHead
from vitrail.records import FloatArray, IntArray, Recipe
from vitrail.study import BoostedSettings


def embedder(settings: BoostedSettings, recipe: Recipe) -> DescriptorEmbedder:
    """Return the descriptors that the trees are grown on."""
    return DescriptorEmbedder(recipe, settings.features)


def describe(settings: BoostedSettings) -> str:
    """Return one line for tables."""
    return f"gradient-boosted trees, {settings.rounds} rounds on {feature_names(settings.features, settings.components)}"


def fit(
    settings: BoostedSettings,
    embedding: FloatArray,
    labels: IntArray,
    *,
    groups: IntArray,  # noqa: ARG001 - nothing is held out here
    class_weights: bool,
    seed: int,
) -> tuple[EstimatorHead, int]:
    """Grow the trees.

    Features are binned by their quantiles (at most 255 bins), as LightGBM does (Ke et al., NeurIPS 2017). All rounds are used:
    no image is held back to stop earlier.

    Args:
        settings: Rounds, leaves and so on.
        embedding: float32, shape (n, dimension).
        labels: Class indices 0..classes-1, every class present, shape (n,).
        groups: Group number per image, shape (n,); not needed, as nothing is held out.
        class_weights: Weight images so that every class counts the same.
        seed: Same seed, same trees.

    Returns:
        The head, and the number of nodes of all trees.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    boosting = HistGradientBoostingClassifier(
        max_iter=settings.rounds,
        learning_rate=settings.learning_rate,
        max_leaf_nodes=settings.leaves,
        min_samples_leaf=settings.min_samples_leaf,
        l2_regularization=settings.l2,
        class_weight="balanced" if class_weights else None,
        early_stopping=False,
        random_state=seed,
    )
    # Trees ask which of two values is the larger: nothing to standardise, but for principal components.
    count = settings.components
    before = None if count is None else standardised(embedding, components=count, seed=seed)
    seen = embedding if before is None else before.apply(embedding)
    with threadpool_limits(1, user_api="openmp"):  # work for microseconds: threads would wait for one another, minutes in sum
        boosting.fit(seen, labels)
    trees = [tree.nodes for trees_of_round in boosting._predictors for tree in trees_of_round]
    head = EstimatorHead(to_onnx(boosting, seen.shape[1], after=before), _step(trees))
    return head, sum(len(nodes) for nodes in trees)


def _step(trees: list[Any]) -> float:
    """Return how far a score moves when some trees, of the usual spread of leaves, go another way.

    The leaves are shares of a logit, and a score moves by at most a quarter of what a logit does (softmax at 1/2).
    """
    spreads = [np.ptp(nodes["value"][nodes["is_leaf"] == 1]) for nodes in trees]
    return min(1.0, TREES_ASTRAY * float(np.mean(spreads)) / 4)
