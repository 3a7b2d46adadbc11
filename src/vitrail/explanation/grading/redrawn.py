"""A network that has forgotten what it learnt: the same graph with its weights drawn anew, as a model that can be explained."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from vitrail.errors import UsageError
from vitrail.explanation.explainer import ExplainableModel, Pooling, Scores
from vitrail.records import ByteArray, FloatArray, NetworkParts, Recipe

if TYPE_CHECKING:
    from vitrail.explanation.graph import NetworkGraph

CHUNK = 8
"""Images that pass through the graph together."""


class RedrawnModel:
    """A model whose learned values are put in random order, tensor by tensor, from the logits down.

    So every layer keeps the distribution of its weights, and with it the size of its answers, but none of what it learnt.
    Kernels, matrices, biases, scales, positions and tokens are all drawn anew; a tensor of equal values stays what it is.

    Args:
        model: The model; it is left as it is.
        seed: Same seed, same weights.
        share: Which share of the tensors, counted from the logits, is drawn anew, 0..1; at least one is.

    Raises:
        UsageError: The model has no network of which the weights are known, or torch is missing.
        PackageError: The network has an operation that cannot be rebuilt.
    """

    fingerprint = ""
    """It stands in no package."""

    def __init__(self, model: ExplainableModel, *, seed: int, share: float = 1.0) -> None:
        missing = [name for name in ("torch", "onnx") if importlib.util.find_spec(name) is None]
        if model.network is None or missing:
            what = f"{' and '.join(missing)} must be installed" if missing else f"{model.name} has no network"
            raise UsageError(f"re-drawn weights: {what}. Leave the test with re-drawn weights out.")
        from vitrail.explanation.graph import network_graph

        self._model = model
        weights = network_graph(model.network).weights
        names = list(weights)[::-1][: max(1, round(share * len(weights)))]
        self.last = names[-1]
        generator = np.random.default_rng(seed)
        drawn = {name: _shuffled(weights[name].numpy(), generator) for name in names}
        self._parts = replace(model.network, replaced=drawn)

    @property
    def network(self) -> NetworkParts | None:
        """See :class:`~vitrail.explanation.explainer.ExplainableModel`."""
        return self._parts

    @property
    def name(self) -> str:
        """Of the model, said to be re-drawn."""
        return f"{self._model.name} with re-drawn weights"

    @property
    def classes(self) -> tuple[str, ...]:
        """See :class:`~vitrail.explanation.explainer.ExplainableModel`."""
        return self._model.classes

    @property
    def recipe(self) -> Recipe:
        """See :class:`~vitrail.explanation.explainer.ExplainableModel`."""
        return self._model.recipe

    @property
    def pooling(self) -> Pooling:
        """See :class:`~vitrail.explanation.explainer.ExplainableModel`."""
        return self._model.pooling

    @cached_property
    def _graph(self) -> NetworkGraph:
        from vitrail.explanation.graph import network_graph

        return network_graph(self._parts)

    def scores(self, pixels: ByteArray) -> Scores:
        """See :class:`~vitrail.explanation.explainer.ExplainableModel`."""
        from vitrail.explanation.graph import INPUT, LOGITS

        parts = []
        for start in range(0, len(pixels), CHUNK):
            logits = self._graph.run({INPUT: self._graph.scaled(pixels[start : start + CHUNK])})[LOGITS]
            parts.append(logits.double().softmax(dim=1).numpy())
        return np.concatenate(parts)

    def embed_with_maps(self, pixels: ByteArray) -> tuple[FloatArray, FloatArray] | None:
        """See :class:`~vitrail.explanation.explainer.ExplainableModel`."""
        from vitrail.explanation.graph import ACTIVATIONS, EMBEDDING, INPUT

        if self.pooling == "none":
            return None
        found = self._graph.run({INPUT: self._graph.scaled(pixels)}, (ACTIVATIONS, EMBEDDING))
        return found[ACTIVATIONS][0].numpy(), found[EMBEDDING][0].numpy()

    def embedding_gradient(self, embedding: FloatArray, target: int) -> FloatArray:
        """See :class:`~vitrail.explanation.explainer.ExplainableModel`."""
        from vitrail.explanation.graph import EMBEDDING, LOGITS

        anything = next(iter(self._graph.weights.values()))
        begin = anything.new_tensor(np.array(embedding[np.newaxis], dtype=np.float32)).requires_grad_()
        self._graph.run({EMBEDDING: begin})[LOGITS][0, target].backward()  # type: ignore[no-untyped-call]
        return np.zeros_like(embedding) if begin.grad is None else begin.grad[0].numpy()


def cascade(model: ExplainableModel, *, seed: int, stages: int = 4) -> Iterator[tuple[str, RedrawnModel]]:
    """Yield the model with more and more of its weights drawn anew, from the logits down, each with its last tensor drawn anew.

    Args:
        model: A model with a network.
        seed: Same seed, same weights; what is drawn at one stage stays so at the next.
        stages: Number of stages; at the last, all weights are drawn anew.

    Raises:
        UsageError: The model has no network.
    """
    for stage in range(1, stages + 1):
        redrawn = RedrawnModel(model, seed=seed, share=stage / stages)
        yield redrawn.last if stage < stages else "all weights", redrawn


def _shuffled(values: FloatArray, generator: np.random.Generator) -> FloatArray:
    return np.asarray(generator.permutation(values.ravel()).reshape(values.shape), dtype=values.dtype)
