"""What the families fitted by scikit-learn share: the names of their features, the steps before an estimator, the way to ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.records import FloatArray

Values = npt.NDArray[np.float64]

_NAMES = {"pixels": "grey pixels", "hog": "HOG", "texture": "texture"}


def feature_names(features: tuple[str, ...], components: int | None = None) -> str:
    """Return the features in words, for the line that describes a model."""
    names = " + ".join(_NAMES[feature] for feature in features)
    return names if components is None else f"{names} ({components} principal components)"


@dataclass(frozen=True)
class Standardised:
    """What features go through before an estimator: mean 0 and deviation 1, then principal components where they are wished.

    Both in double precision and rounded to single precision once, at the end, in training (:meth:`apply`) and in the ONNX graph
    (:meth:`before`) alike: an estimator meets the very numbers that it was fitted on.

    Attributes:
        centre: Taken from the features first, float64, shape (dimension,).
        matrix: What they are multiplied by then: one factor per feature, shape (dimension,); or, with principal components, a
            column for each, shape (dimension, components). float64.
    """

    centre: Values
    matrix: Values

    @property
    def dimension(self) -> int:
        """Number of values that the estimator sees."""
        return int(self.matrix.shape[-1])

    def apply(self, embedding: FloatArray) -> FloatArray:
        """Return what the estimator sees, float32, shape (n, :attr:`dimension`), of vectors of shape (n, dimension)."""
        centred = embedding.astype(np.float64) - self.centre
        return np.asarray(centred @ self.matrix if self.matrix.ndim == 2 else centred * self.matrix, dtype=np.float32)

    def before(self, graph: Any) -> None:
        """Put the same steps before the estimator of an ONNX model whose one input is ``X``."""
        from onnx import TensorProto, helper, numpy_helper

        body, seen = graph.graph, "standardised"
        for node in body.node:
            node.input[:] = [seen if name == "X" else name for name in node.input]
        step = "Mul" if self.matrix.ndim == 1 else "MatMul"
        steps = (
            helper.make_node("Cast", ["X"], ["exact"], to=TensorProto.DOUBLE),
            helper.make_node("Sub", ["exact", "centre"], ["centred"]),
            helper.make_node(step, ["centred", "matrix"], ["exactly_standardised"]),
            helper.make_node("Cast", ["exactly_standardised"], [seen], to=TensorProto.FLOAT),
        )
        for place, node in enumerate(steps):
            body.node.insert(place, node)
        body.initializer.append(numpy_helper.from_array(self.centre, "centre"))
        body.initializer.append(numpy_helper.from_array(self.matrix, "matrix"))
        body.input[0].type.tensor_type.shape.dim[1].dim_value = len(self.centre)


def standardised(embedding: FloatArray, *, components: int | None, seed: int) -> Standardised:
    """Return what brings every feature of some vectors to mean 0 and deviation 1, and then to principal components.

    Args:
        embedding: What it is fitted on, shape (n, dimension). A feature that never changes is centred and not stretched.
        components: Principal components; no more are made than there are images and features. ``None``: none, all features.
        seed: Of the principal components, which are found by a random projection where there are many features.
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    exact = embedding.astype(np.float64)
    scaler = StandardScaler().fit(exact)
    centre, spread = scaler.mean_, scaler.scale_
    if components is None:
        return Standardised(centre, 1 / spread)
    exact -= centre
    exact /= spread
    reduction = PCA(min(components, *embedding.shape), random_state=seed).fit(exact)
    return Standardised(centre + spread * reduction.mean_, reduction.components_.T / spread[:, np.newaxis])


def to_onnx(estimator: Any, dimension: int, *, after: Standardised | None = None) -> bytes:
    """Return a fitted classifier of trees of scikit-learn as a serialised ONNX model.

    Trees decide for every float32 vector as they do in scikit-learn, which compares with thresholds in double precision: of a
    threshold between two neighbours in single precision, the lower one is kept.

    Args:
        estimator: Fitted.
        dimension: Number of its features.
        after: What the features go through before it sees them; ``None``: nothing.

    Returns:
        A graph with one input (n, dimension) float32 and two outputs: the classes, and their scores (n, classes) float32.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.ensemble import HistGradientBoostingClassifier

    graph = convert_sklearn(
        estimator,
        name="estimator",  # else a random one: the same model would not be the same bytes
        initial_types=[("X", FloatTensorType([None, dimension]))],
        options={"zipmap": False},
        custom_conversion_functions={HistGradientBoostingClassifier: _convert_boosted},
    )
    for name, values in _nodes(estimator).items():
        _overwrite(graph, name, values)
    if after is not None:
        after.before(graph)
    return bytes(graph.SerializeToString())


def _nodes(estimator: Any) -> dict[str, list[float]]:
    """Return what ONNX keeps of the nodes of all trees, tree by tree, by its name there: thresholds (of leaves: 0), and how much
    of the training images went through each; nothing where there are no trees.
    """
    if hasattr(estimator, "_predictors"):  # boosted trees of scikit-learn
        grown = [tree.nodes for of_round in estimator._predictors for tree in of_round]
        trees = [(nodes["is_leaf"] == 1, nodes["num_threshold"], nodes["count"]) for nodes in grown]
    else:
        found = [tree.tree_ for tree in getattr(estimator, "estimators_", []) if hasattr(tree, "tree_")]
        trees = [(tree.children_left < 0, tree.threshold, tree.weighted_n_node_samples) for tree in found]
    if not trees:
        return {}
    leaf, threshold, visits = (np.concatenate(parts) for parts in zip(*trees, strict=True))
    return {
        "nodes_values": _below(np.where(leaf, 0.0, threshold)).tolist(),
        "nodes_hitrates": visits.astype(np.float64).tolist(),
    }


def _below(thresholds: Values) -> FloatArray:
    """Return the largest float32 values that are not above some float64 ones: ``x <= t`` stays what it was for float32 ``x``."""
    with np.errstate(over="ignore"):  # the largest threshold of boosted trees is above all float32 numbers
        nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _overwrite(graph: Any, name: str, values: list[float]) -> None:
    """Write what is known of all nodes over what skl2onnx has rounded (thresholds, to the nearest) or written as ones (visits).

    Visits change no answer; explanations need them: what a tree expects where it is not told a feature is the mean of both ways,
    by their visits.

    Raises:
        RuntimeError: The graph has no such list, several, or one of another length: skl2onnx writes trees in another way now.
    """
    found = [attribute for node in graph.graph.node for attribute in node.attribute if attribute.name == name]
    lengths = [len(attribute.floats) for attribute in found]
    if lengths != [len(values)]:
        raise RuntimeError(
            f"an ONNX graph of trees must have one list {name} of {len(values)} numbers; found lists of {lengths} numbers. This "
            "version of skl2onnx is not one that vitrail knows."
        )
    found[0].floats[:] = values


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
