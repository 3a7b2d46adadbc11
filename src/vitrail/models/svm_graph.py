"""A calibrated support vector machine of scikit-learn as an ONNX graph in double precision.

ONNX has an operator for support vector machines, in single precision. For more than two classes they count votes of pairs: where
a vote is close, single precision casts it otherwise for some images, and a vote moves a score far.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.models.estimators import Standardised

Values = npt.NDArray[np.float64]

OPSET = 17
SMALLEST = 1e-300
"""Scores of classes before they are scaled to sum to 1 are no smaller, so that their sum is never 0."""


class _Graph:
    """Nodes and constants, named as they come."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float64) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), f"constant{len(self.constants)}"))
        return str(self.constants[-1].name)

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, list(inputs), [output or f"value{len(self.nodes)}"], **attributes))
        return str(self.nodes[-1].output[0])


def svm_to_onnx(calibrated: Any, before: Standardised) -> bytes:
    """Return a calibrated support vector machine as a serialised ONNX model.

    Args:
        calibrated: A fitted ``CalibratedClassifierCV`` of one ``SVC`` with a linear or an RBF kernel, ``ensemble=False``,
            ``method="sigmoid"``, on classes 0 to n - 1.
        before: What the features go through before the support vector machine sees them.

    Returns:
        A graph with one input (n, dimension) float32 and two outputs: the classes, and their scores (n, classes) float32.
    """
    from onnx import TensorProto, helper

    (fitted,) = calibrated.calibrated_classifiers_
    classes = len(calibrated.classes_)
    graph = _Graph()
    seen = graph.add("Cast", "X", to=TensorProto.DOUBLE)
    decisions = _decisions(graph, fitted.estimator, seen)
    if classes > 2:
        decisions = _one_against_rest(graph, decisions, classes)
    slopes = graph.constant([-calibrator.a_ for calibrator in fitted.calibrators])
    shifts = graph.constant([-calibrator.b_ for calibrator in fitted.calibrators])
    scores = graph.add("Sigmoid", graph.add("Add", graph.add("Mul", decisions, slopes), shifts))
    if classes == 2:
        scores = graph.add("Concat", graph.add("Sub", graph.constant([1.0]), scores), scores, axis=1)
    else:
        scores = graph.add("Max", scores, graph.constant([SMALLEST]))
        scores = graph.add("Div", scores, graph.add("ReduceSum", scores, graph.constant([1], np.int64)))
    graph.add("ArgMax", scores, output="label", axis=1, keepdims=0)
    graph.add("Cast", scores, output="probabilities", to=TensorProto.FLOAT)
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, classes]),
    ]
    inputs = [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, before.dimension])]
    made = helper.make_graph(graph.nodes, "estimator", inputs, outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8, producer_name="vitrail")
    before.before(model)
    return bytes(model.SerializeToString())


def _decisions(graph: _Graph, svm: Any, seen: str) -> str:
    """Add the distances to the borders: one where there are two classes, else one per pair of them, positive for the first."""
    vectors = np.asarray(svm.support_vectors_, dtype=np.float64)
    products = graph.add("MatMul", seen, graph.constant(vectors.T))
    if svm.kernel == "rbf":
        lengths = graph.add("ReduceSum", graph.add("Mul", seen, seen), graph.constant([1], np.int64))
        twice = graph.add("Mul", products, graph.constant([2.0]))
        distances = graph.add("Sub", graph.add("Add", lengths, graph.constant((vectors**2).sum(axis=1))), twice)
        products = graph.add("Exp", graph.add("Mul", distances, graph.constant([-svm._gamma])))
    weights = graph.constant(_pair_weights(svm))
    return graph.add("Add", graph.add("MatMul", products, weights), graph.constant(svm.intercept_))


def _pair_weights(svm: Any) -> Values:
    """Return the weight of every support vector in every distance, shape (vectors, distances).

    For more than two classes libsvm keeps, for a vector, one weight per other class, in the order of the classes.
    """
    weights, classes = np.asarray(svm.dual_coef_, dtype=np.float64), len(svm.classes_)
    if classes == 2:
        return weights.T
    ends = np.concatenate([[0], np.cumsum(svm.n_support_)])
    pairs = list(itertools.combinations(range(classes), 2))
    made = np.zeros((weights.shape[1], len(pairs)))
    for number, (first, second) in enumerate(pairs):
        of_first, of_second = (slice(ends[one], ends[one + 1]) for one in (first, second))
        made[of_first, number] = weights[second - 1, of_first]
        made[of_second, number] = weights[first, of_second]
    return made


def _one_against_rest(graph: _Graph, decisions: str, classes: int) -> str:
    """Add a value per class: the pairs that it wins, and a part below 1/3 that grows with its distances."""
    from onnx import TensorProto

    pairs = list(itertools.combinations(range(classes), 2))
    wins, losses = np.zeros((len(pairs), classes)), np.zeros((len(pairs), classes))
    for number, (first, second) in enumerate(pairs):
        wins[number, first], losses[number, second] = 1, 1
    against = graph.constant(wins - losses)
    lost = graph.add("Cast", graph.add("Less", decisions, graph.constant([0.0])), to=TensorProto.DOUBLE)
    won = graph.add("Sub", graph.constant([1.0]), lost)
    votes = graph.add("Add", graph.add("MatMul", won, against), graph.constant(losses.sum(axis=0)))
    sums = graph.add("MatMul", decisions, against)
    larger = graph.add("Mul", graph.add("Add", graph.add("Abs", sums), graph.constant([1.0])), graph.constant([3.0]))
    return graph.add("Add", votes, graph.add("Div", sums, larger))
