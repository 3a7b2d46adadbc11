"""Random forest on hand-made features (Breiman 2001): the cheap model every other one has to beat."""

from __future__ import annotations

from vitrail.models.embedders import DescriptorEmbedder
from vitrail.models.estimators import feature_names, to_onnx
from vitrail.models.heads import TREES_ASTRAY, EstimatorHead
from vitrail.records import FloatArray, IntArray, Recipe
from vitrail.study import ForestSettings


def embedder(settings: ForestSettings, recipe: Recipe) -> DescriptorEmbedder:
    """Return the descriptors that the forest is grown on."""
    return DescriptorEmbedder(recipe, settings.features)


def describe(settings: ForestSettings) -> str:
    """Return one line for tables."""
    return f"random forest, {settings.trees} trees on {feature_names(settings.features)}"


def fit(
    settings: ForestSettings,
    embedding: FloatArray,
    labels: IntArray,
    *,
    groups: IntArray,  # noqa: ARG001 - nothing is held out here
    class_weights: bool,
    seed: int,
) -> tuple[EstimatorHead, int]:
    """Grow the forest.

    Args:
        settings: Trees, depth and so on.
        embedding: float32, shape (n, dimension).
        labels: Class indices 0..classes-1, every class present, shape (n,).
        groups: Group number per image, shape (n,); not needed, as nothing is held out.
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
    nodes = sum(tree.tree_.node_count for tree in forest.estimators_)
    return EstimatorHead(to_onnx(forest, embedding.shape[1]), TREES_ASTRAY / settings.trees), nodes
