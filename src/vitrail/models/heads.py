"""The second half of every model: one vector per image in, one score per class out.

Two kinds serve every family: dense layers in numpy (for networks), whose gradient explanations need, and an estimator of
scikit-learn (forest, boosted trees, support vector machine) in ONNX Runtime.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vitrail.errors import PackageError
from vitrail.records import FloatArray
from vitrail.storage import write_bytes

Scores = npt.NDArray[np.float64]

TREES_ASTRAY = 3
"""A score of trees is not continuous: rounding elsewhere in the last digit may send a value to the other side of a threshold.
So many trees may go another way, and how far they then move a score is the ``step`` of their head."""


class Head(Protocol):
    """Vectors in, scores out."""

    kind: str

    def scores(self, embedding: FloatArray) -> Scores:
        """Return float64 scores that sum to 1, shape (n, classes), for vectors of shape (n, dimension)."""
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Write what is needed into a package folder and return what :func:`load_head` needs to know."""
        ...


class DenseHead:
    """Dense layers with an activation between them and softmax at the end.

    Args:
        weights: One matrix per layer, float32, shape (outputs, inputs).
        biases: One vector per layer, float32, shape (outputs,).
        activation: ``relu``, ``tanh``, ``sigmoid`` or ``gelu``: between the layers, not after the last; or one for each place
            between two layers.
    """

    kind = "dense"
    step = 0.0
    """Smallest change of a score that a tiny change of the input can make: none for a continuous function."""

    def __init__(
        self, weights: tuple[FloatArray, ...], biases: tuple[FloatArray, ...], activation: str | tuple[str, ...]
    ) -> None:
        self.weights = weights
        self.biases = biases
        self.activation = activation

    @property
    def activations(self) -> tuple[str, ...]:
        """The activation after each layer but the last."""
        places = len(self.weights) - 1
        return (self.activation,) * places if isinstance(self.activation, str) else self.activation

    def logits(self, embedding: FloatArray) -> Scores:
        """Return the values before softmax, float64, shape (n, classes)."""
        return self._forward(embedding)[-1]

    def scores(self, embedding: FloatArray) -> Scores:
        """See :class:`Head`."""
        from scipy.special import softmax  # here, as it takes a quarter of a second: an audit goes without

        return np.asarray(softmax(self.logits(embedding), axis=1))

    def gradient(self, embedding: FloatArray, target: int) -> FloatArray:
        """Return the gradient of one class's logit with respect to the vector.

        Args:
            embedding: Shape (dimension,).
            target: Class index.

        Returns:
            float32, shape (dimension,).
        """
        before = self._forward(embedding[None])
        gradient = np.zeros(len(self.biases[-1]))
        gradient[target] = 1.0
        for layer in reversed(range(len(self.weights))):
            gradient = gradient @ self.weights[layer].astype(np.float64)
            if layer:
                gradient = gradient * _slope(before[layer - 1][0], self.activations[layer - 1])
        return gradient.astype(np.float32)

    def _forward(self, embedding: FloatArray) -> list[Scores]:
        """Return what every layer gives before its activation. float64: small heads cost nothing and sums stay exact."""
        value: Scores = embedding.astype(np.float64)
        outputs: list[Scores] = []
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                value = _activate(outputs[-1], self.activations[number - 1])
            outputs.append(value @ weight.T.astype(np.float64) + bias)
        return outputs

    def save(self, folder: Path) -> dict[str, Any]:
        """See :class:`Head`."""
        from safetensors.numpy import save

        tensors = {}
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            tensors[f"layer{number}.weight"] = np.ascontiguousarray(weight)
            tensors[f"layer{number}.bias"] = np.ascontiguousarray(bias)
        write_bytes(folder / "head.safetensors", save(tensors))
        activation = self.activation if isinstance(self.activation, str) else list(self.activation)
        return {"kind": self.kind, "layers": len(self.weights), "activation": activation}


def _activate(value: Scores, activation: str) -> Scores:
    from scipy.special import erf, expit

    match activation:
        case "relu":
            return np.maximum(value, 0)
        case "tanh":
            return np.tanh(value)
        case "sigmoid":
            return np.asarray(expit(value))
        case "gelu":
            return np.asarray(value * 0.5 * (1 + erf(value / np.sqrt(2))))
    raise PackageError(f"unknown activation {activation!r}. Known: relu, tanh, sigmoid, gelu.")


def _slope(value: Scores, activation: str) -> Scores:
    """Return the derivative of the activation at ``value``."""
    from scipy.special import erf, expit

    match activation:
        case "relu":
            return (value > 0).astype(np.float64)
        case "tanh":
            return np.asarray(1 - np.tanh(value) ** 2)
        case "sigmoid":
            return np.asarray(expit(value) * (1 - expit(value)))
        case "gelu":
            density = np.exp(-(value**2) / 2) / np.sqrt(2 * np.pi)
            return np.asarray(0.5 * (1 + erf(value / np.sqrt(2))) + value * density)
    raise PackageError(f"unknown activation {activation!r}. Known: relu, tanh, sigmoid, gelu.")


class EstimatorHead:
    """A classifier of scikit-learn as an ONNX graph, run by ONNX Runtime on the CPU.

    Args:
        graph: The serialised ONNX model: input (n, dimension) float32, second output (n, classes) scores.
        step: How far a tiny change of the input can move a score: 0 for a continuous function; for trees, see
            :data:`TREES_ASTRAY`.
    """

    kind = "estimator"

    def __init__(self, graph: bytes, step: float) -> None:
        self.graph = graph
        self.step = step

    @cached_property
    def _session(self) -> Any:
        import onnxruntime

        from vitrail.engine import available_cores

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(self.graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises many kinds, all of them meaning: this is no usable graph
            raise PackageError(f"head.onnx: ONNX Runtime cannot load it ({error}). Make the package again.") from error

    def scores(self, embedding: FloatArray) -> Scores:
        """See :class:`Head`."""
        name = self._session.get_inputs()[0].name
        scores = self._session.run(None, {name: np.ascontiguousarray(embedding)})[1].astype(np.float64)
        return np.asarray(scores / scores.sum(axis=1, keepdims=True))

    def save(self, folder: Path) -> dict[str, Any]:
        """See :class:`Head`."""
        write_bytes(folder / "head.onnx", self.graph)
        return {"kind": self.kind, "step": self.step}


def load_head(folder: Path, description: dict[str, Any]) -> DenseHead | EstimatorHead:
    """Load the head of a package.

    Raises:
        PackageError: Its kind is unknown to this version of vitrail.
    """
    match description.get("kind"):
        case "dense":
            from safetensors.numpy import load_file

            tensors = load_file(folder / "head.safetensors")
            layers = range(description["layers"])
            weights = tuple(tensors[f"layer{number}.weight"] for number in layers)
            biases = tuple(tensors[f"layer{number}.bias"] for number in layers)
            activation = description["activation"]
            return DenseHead(weights, biases, activation if isinstance(activation, str) else tuple(activation))
        case "estimator":
            return EstimatorHead((folder / "head.onnx").read_bytes(), float(description["step"]))
        case "trees":  # a forest, as packages up to vitrail 0.1.0 say it
            return EstimatorHead((folder / "head.onnx").read_bytes(), TREES_ASTRAY / description["trees"])
        case unknown:
            raise PackageError(f"{folder}: unknown kind of head {unknown!r}. Known: dense, estimator, trees. Update vitrail.")
