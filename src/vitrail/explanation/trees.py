"""TreeSHAP: exact Shapley values of the features that trees decide by, drawn where in the image each feature is read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vitrail.errors import PackageError, UsageError
from vitrail.explanation.explainer import Cost, ExplainableModel, Question, Relevance, Want
from vitrail.explanation.perturbing import inside
from vitrail.records import FloatArray, Placement, TreeParts

Values = npt.NDArray[np.float64]

INSTALL = 'pip install "vitrail[trees]"'
ADDS_UP = 1e-4
"""How far a sum of values may be from what it must be: scores of trees are sums of numbers of four bytes."""
DIGITS = 6
"""Of numbers in the record's details: those of the trees have no more."""
WORTH_SAYING = 0.01
"""Share of the evidence below which it is not worth a warning that it is not in the map."""


@dataclass(frozen=True)
class TreeArrays:
    """The trees of a head, as its ONNX graph holds them.

    Attributes:
        trees: Per tree, arrays by node: ``children_left``, ``children_right``, ``children_default``, ``features``,
            ``thresholds``, ``values`` (nodes, outputs) and ``node_sample_weight``; a feature goes left where it is at most the
            threshold.
        base: What is added to the sum of the trees, shape (outputs,).
        unit: ``probability`` of a forest, ``logit`` of boosted trees.
        outputs: 1 where two classes share one output, that of the second; else one per class.
        offset: Taken from every feature before the trees see it, shape (dimension,) or (1,).
        scale: What it is multiplied by then, the same shape.
    """

    trees: tuple[dict[str, npt.NDArray[Any]], ...]
    base: Values
    unit: str
    outputs: int
    offset: FloatArray
    scale: FloatArray


@dataclass(frozen=True)
class TreeShap:
    """TreeSHAP (Lundberg et al., Nature Machine Intelligence 2020): the exact Shapley values of what trees decide by.

    A feature's value is the mean, over all orders in which features may become known, of how far the answer moves when this one
    does. What a tree answers while a feature is unknown is the mean of both ways, weighted by the training images that went each
    way ("path dependent"). The values of an image sum to its answer less the mean answer; that is checked.

    The unit is the score for a forest, and the logit before the softmax for boosted trees, whose scores are no sums over trees.
    The value of a pixel is its own; that of a cell of HOG, or of a region's texture, is spread evenly over its pixels; the sum of
    the map stays the sum of the values. Features of the whole image have no place: their values are in the record's details, and
    a warning says how much they are of the whole.

    It shows what the trees decide by, given how features went together in the training images; where features tell the same,
    the values are shared among them by how the trees happened to grow.
    """

    needs: ClassVar[str] = "trees on features of the image"
    wants: ClassVar[frozenset[Want]] = frozenset()

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        parts = tree_parts(model)
        if parts is None:
            return f"{model.name} has no trees."
        if find_spec("shap") is None or find_spec("onnx") is None:
            return f"The packages shap and onnx, which read them, are not both installed: {INSTALL}."
        try:
            read_trees(parts.graph)
        except UsageError as error:
            return f"{model.name}: {error}"
        return ""

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - the same for all
        """See :class:`~vitrail.explanation.explainer.Explainer`: one, as the features are made once."""
        return Cost(forward=1)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`.

        Raises:
            UsageError: The method is not defined for the model.
            PackageError: The values do not sum to the answer.
        """
        parts = tree_parts(model)
        if parts is None:
            raise UsageError(f"tree-shap: needs {self.needs}. {self.refusal(model)}")
        arrays = read_trees(parts.graph)
        explainer = _explainer(parts.graph)
        features = parts.embed(question.pixels)
        contrast = question.quantity == "contrast" and arrays.unit == "logit"
        maps = np.zeros(question.pixels.shape[:3])
        warnings, details = [], []
        for number, vector in enumerate(features):
            values, expected = feature_values(explainer, arrays, vector)
            _check_sum(model.name, arrays, values.sum(axis=0) + expected, parts.scores(features[number : number + 1])[0])
            target = int(question.targets[number])
            other = int(np.where(np.arange(len(model.classes)) == target, -1.0, question.scores[number]).argmax())
            explained, mean = _of_class(
                values, expected, target, other=other if contrast else None, whole=1.0 if arrays.unit == "probability" else 0.0
            )
            maps[number] = spread(explained, parts, question.pixels.shape[1])
            warnings.append(_warnings(explained, parts, maps[number], question.placements[number]))
            details.append({"expected": round(float(mean), DIGITS), "values": _bars(explained, parts)})
        return Relevance(
            maps=maps.astype(np.float32),
            warnings=tuple(warnings),
            details={"trees": len(arrays.trees), "unknown features": "by the training images that went each way"},
            details_of=tuple(details),
            quantity="contrast" if contrast else ("probability" if arrays.unit == "probability" else "logit"),
            forward_passes=1,
        )


def tree_parts(model: ExplainableModel) -> TreeParts | None:
    """Return what a model on features of the image is made of, or ``None`` where it is another kind of model."""
    return getattr(model, "trees", None)


def feature_values(explainer: Any, arrays: TreeArrays, vector: FloatArray) -> tuple[Values, Values]:
    """Return the Shapley values (dimension, outputs) of one vector's features, and the mean answer (outputs,), base included."""
    seen = ((vector - arrays.offset) * arrays.scale).astype(np.float32)  # in four bytes, as ONNX Runtime does
    values = np.asarray(explainer.shap_values(seen[np.newaxis].astype(np.float64), check_additivity=False), dtype=np.float64)
    values = values.reshape(len(vector), arrays.outputs)
    return values, np.reshape(np.asarray(explainer.expected_value, dtype=np.float64), arrays.outputs) + arrays.base


def _of_class(values: Values, expected: Values, target: int, *, other: int | None, whole: float) -> tuple[Values, float]:
    """Return the values and the mean answer of one class, less those of another where there is one.

    ``whole``: what the answers of two classes that share one output sum to.
    """
    if values.shape[1] == 1 and target == 1:
        return values[:, 0], float(expected[0])
    if values.shape[1] == 1:  # of two classes, the first has the rest of 1, or the negative logit
        return -values[:, 0], float(whole - expected[0])
    if other is None:
        return values[:, target], float(expected[target])
    return values[:, target] - values[:, other], float(expected[target] - expected[other])


def spread(values: Values, parts: TreeParts, size: int) -> Values:
    """Draw the values (dimension,) of features on a map (size, size): each evenly over its box, without those that have none."""
    drawn = np.zeros((size, size))
    top, left, bottom, right = parts.places.boxes.T
    area = (bottom - top) * (right - left)
    single = area == 1
    np.add.at(drawn, (top[single], left[single]), values[single])
    larger = area > 1
    boxes, box = np.unique(parts.places.boxes[larger], axis=0, return_inverse=True)
    sums = np.bincount(box.ravel(), weights=values[larger], minlength=len(boxes))
    for (first_row, first_column, last_row, last_column), total in zip(boxes, sums, strict=True):
        cells = (last_row - first_row) * (last_column - first_column)
        drawn[first_row:last_row, first_column:last_column] += total / cells
    return drawn


def _bars(values: Values, parts: TreeParts) -> dict[str, float]:
    """Return the sum of the values of every kind of features."""
    sums = np.bincount(parts.places.group, weights=values, minlength=len(parts.places.groups))
    return {name: round(float(total), DIGITS) for name, total in zip(parts.places.groups, sums, strict=True)}


def _warnings(values: Values, parts: TreeParts, drawn: Values, placement: Placement) -> tuple[str, ...]:
    """Say how much of the evidence is not in the map: that of the whole image, and that on the padding."""
    warnings = []
    everywhere = (parts.places.boxes[:, 2:] <= parts.places.boxes[:, :2]).any(axis=1)
    total = float(np.abs(values).sum())
    share = float(np.abs(values[everywhere]).sum()) / total if total else 0.0
    if share >= WORTH_SAYING:
        warnings.append(
            f"{share:.0%} of the evidence are features of the whole image, which have no place: the map does not show them; "
            f"together they move the answer by {float(values[everywhere].sum()):+.3g}."
        )
    rows, columns = inside(placement)
    shown, seen = float(np.abs(drawn).sum()), float(np.abs(drawn[rows, columns]).sum())
    if shown > 0 and 1 - seen / shown >= WORTH_SAYING:
        warnings.append(f"{1 - seen / shown:.0%} of the map lies on the padding beside the image, which is cut off.")
    return tuple(warnings)


def _check_sum(name: str, arrays: TreeArrays, answer: Values, scores: Values) -> None:
    """Find out whether values and mean answer sum to what the package answers.

    Raises:
        PackageError: They do not.
    """
    if arrays.unit == "probability":
        found = np.array([1 - answer[0], answer[0]]) if arrays.outputs == 1 else answer / answer.sum()
    else:
        logits = np.array([0.0, answer[0]]) if arrays.outputs == 1 else answer
        found = np.exp(logits - logits.max())
        found /= found.sum()
    if not np.allclose(found, scores, rtol=0, atol=ADDS_UP):
        raise PackageError(
            f"{name}: the values of the features sum to scores {np.round(found, 4).tolist()}, the package gives "
            f"{np.round(scores, 4).tolist()}. Its trees are of a kind that vitrail does not read rightly; use occlusion."
        )


# ------------------------------------------------------------------------------------------------ reading the trees


@lru_cache(maxsize=2)
def _explainer(graph: bytes) -> Any:
    """Return shap's explainer of a head; made once for all images, as a large forest takes a while."""
    from shap import TreeExplainer

    arrays = read_trees(graph)
    model = {
        "trees": list(arrays.trees),
        "input_dtype": np.float64,  # both sides of every comparison are exact numbers of four bytes
        "internal_dtype": np.float64,
        "tree_output": "raw_value",
        "objective": "squared_error",
    }
    return TreeExplainer(model, feature_perturbation="tree_path_dependent")


@lru_cache(maxsize=2)
def read_trees(graph: bytes) -> TreeArrays:
    """Read the trees of a head.

    Args:
        graph: A serialised ONNX model: a ``TreeEnsembleClassifier``, after a ``Scaler`` or not.

    Raises:
        UsageError: It is something else, or does not say how many training images went through its nodes.
    """
    import onnx

    nodes = list(onnx.load_from_string(graph).graph.node)
    kinds = [node.op_type for node in nodes]
    if "TreeEnsembleClassifier" not in kinds:
        raise UsageError("its head has no trees.")
    if kinds not in (["TreeEnsembleClassifier"], ["Scaler", "TreeEnsembleClassifier"]):
        before = ", ".join(kind for kind in kinds if kind != "TreeEnsembleClassifier")
        raise UsageError(
            f"its trees decide by mixtures of features ({before}), such as principal components, which have no place in an image."
        )
    found = [{each.name: onnx.helper.get_attribute_value(each) for each in node.attribute} for node in nodes]
    scaler = found[0] if len(found) == 2 else {"offset": [0.0], "scale": [1.0]}
    trees, outputs = _split(found[-1])
    logit = found[-1].get("post_transform", b"NONE") != b"NONE"
    base = np.zeros(outputs)
    base[:] = found[-1].get("base_values", base)
    return TreeArrays(
        trees=trees,
        base=base,
        unit="logit" if logit else "probability",
        outputs=outputs,
        offset=np.asarray(scaler["offset"], dtype=np.float32),
        scale=np.asarray(scaler["scale"], dtype=np.float32),
    )


def _split(found: dict[str, Any]) -> tuple[tuple[dict[str, npt.NDArray[Any]], ...], int]:
    """Cut the arrays of all nodes into one set per tree; return them and the number of outputs."""
    modes = np.array(found["nodes_modes"])
    if not np.isin(modes, [b"LEAF", b"BRANCH_LEQ"]).all():
        raise UsageError("its trees decide by other rules than 'at most'.")
    tree_of = np.asarray(found["nodes_treeids"])
    number_of = np.asarray(found["nodes_nodeids"])
    leaf = modes == b"LEAF"
    classes = len(found.get("classlabels_int64s") or found.get("classlabels_strings") or [])
    class_ids = np.asarray(found["class_ids"])
    outputs = 1 if classes == 2 and len(np.unique(class_ids)) == 1 else classes
    class_ids = np.zeros_like(class_ids) if outputs == 1 else class_ids
    visits = np.asarray(found["nodes_hitrates"], dtype=np.float64)
    trees = []
    leaf_trees, leaf_numbers = np.asarray(found["class_treeids"]), np.asarray(found["class_nodeids"])
    leaf_weights = np.asarray(found["class_weights"], dtype=np.float64)
    for tree in np.unique(tree_of):
        of_tree = np.flatnonzero(tree_of == tree)
        of_tree = of_tree[np.argsort(number_of[of_tree])]
        if (number_of[of_tree] != np.arange(len(of_tree))).any():
            raise UsageError("the nodes of its trees are not numbered from 0.")
        ends = leaf[of_tree]
        left = np.where(ends, -1, np.asarray(found["nodes_truenodeids"])[of_tree])
        right = np.where(ends, -1, np.asarray(found["nodes_falsenodeids"])[of_tree])
        values = np.zeros((len(of_tree), outputs))
        mine = leaf_trees == tree
        np.add.at(values, (leaf_numbers[mine], class_ids[mine]), leaf_weights[mine])
        weight = visits[of_tree]
        _check_visits(weight, left, right)
        trees.append(
            {
                "children_left": left,
                "children_right": right,
                "children_default": right,  # no value is missing
                "features": np.where(ends, -2, np.asarray(found["nodes_featureids"])[of_tree]),
                "thresholds": np.asarray(found["nodes_values"], dtype=np.float64)[of_tree],
                "values": values,
                "node_sample_weight": weight,
            }
        )
    return tuple(trees), outputs


def _check_visits(weight: Values, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> None:
    """Find out whether the training images that went through the nodes of a tree were counted.

    Raises:
        UsageError: The visits of two nodes do not sum to those of their parent.
    """
    inner = left >= 0
    if not np.allclose(weight[left[inner]] + weight[right[inner]], weight[inner], rtol=1e-3):
        raise UsageError(
            "its trees do not say how many training images went through their nodes, as packages of vitrail 0.1.0 did not. "
            "Train the model again, or use occlusion."
        )
