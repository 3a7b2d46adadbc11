"""What the families fitted by scikit-learn share: the names of their features, the steps before an estimator, the way to ONNX."""

from __future__ import annotations

import warnings
from typing import Any

from vitrail.records import FloatArray

_NAMES = {"pixels": "grey pixels", "hog": "HOG", "texture": "texture"}


def feature_names(features: tuple[str, ...], components: int | None = None) -> str:
    """Return the features in words, for the line that describes a model."""
    names = " + ".join(_NAMES[feature] for feature in features)
    return names if components is None else f"{names} ({components} principal components)"


def standardised(estimator: Any, embedding: FloatArray, *, components: int | None, seed: int) -> Any:
    """Return an unfitted pipeline: every feature to mean 0 and deviation 1, then principal components, then the estimator.

    Args:
        estimator: A classifier of scikit-learn.
        embedding: What it will be fitted on, shape (n, dimension).
        components: Principal components; no more are made than there are images and features. ``None``: none, all features.
        seed: Of the principal components, which are found by a random projection where there are many features.
    """
    from sklearn.decomposition import PCA
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    steps = [("standardise", StandardScaler())]
    if components is not None:
        steps.append(("components", PCA(min(components, *embedding.shape), random_state=seed)))
    return Pipeline([*steps, ("estimator", estimator)])


def to_onnx(estimator: Any, dimension: int) -> bytes:
    """Return a fitted classifier of scikit-learn as a serialised ONNX model.

    Args:
        estimator: Fitted; a classifier or a pipeline that ends in one.
        dimension: Number of its features.

    Returns:
        A graph with one input (n, dimension) float32 and two outputs: the classes, and their scores (n, classes) float32.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import HistGradientBoostingClassifier

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Attribute `prob[AB]_`", FutureWarning)  # skl2onnx asks for what is no longer used
        graph = convert_sklearn(
            estimator,
            name="estimator",  # else a random one: the same model would not be the same bytes
            initial_types=[("X", FloatTensorType([None, dimension]))],
            options={"zipmap": False},
            custom_conversion_functions={HistGradientBoostingClassifier: _convert_boosted},
        )
    _tell_visits(graph, _visits(estimator))
    return bytes(graph.SerializeToString())


def _visits(estimator: Any) -> list[float]:
    """Return how much of the training images went through each node, tree by tree; nothing where there are no trees."""
    last = getattr(estimator, "steps", [("", estimator)])[-1][1]
    if hasattr(last, "_predictors"):  # boosted trees of scikit-learn
        return [float(count) for of_round in last._predictors for tree in of_round for count in tree.nodes["count"]]
    trees = [getattr(tree, "tree_", None) for tree in getattr(last, "estimators_", [])]
    return [float(weight) for tree in trees if tree is not None for weight in tree.weighted_n_node_samples]


def _tell_visits(graph: Any, visits: list[float]) -> None:
    """Write the visits of the nodes where ONNX has a place for them and skl2onnx writes ones; they change no answer.

    Explanations need them: what a tree expects where it is not told a feature is the mean of both ways, by their visits.
    """
    for node in graph.graph.node:
        for attribute in node.attribute:
            if attribute.name == "nodes_hitrates" and len(attribute.floats) == len(visits):
                attribute.floats[:] = visits


def _convert_boosted(scope: Any, operator: Any, container: Any) -> None:
    """Convert boosted trees as skl2onnx does, with whole numbers where it mixes them with booleans.

    skl2onnx 1.20 marks the leaves with ``False`` in a list of integers; protobuf 6 and later take no booleans there.
    """
    from skl2onnx.common._registration import get_converter

    add_node = container.add_node

    def with_whole_numbers(*arguments: Any, **attributes: Any) -> None:
        for name, values in attributes.items():
            if isinstance(values, list) and any(isinstance(value, bool) for value in values):
                attributes[name] = [int(value) for value in values]
        add_node(*arguments, **attributes)

    container.add_node = with_whole_numbers
    try:
        get_converter("SklearnHistGradientBoostingClassifier")(scope, operator, container)
    finally:
        container.add_node = add_node
