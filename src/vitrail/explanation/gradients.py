"""Maps of gradients: how what is explained changes with every pixel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from vitrail.explanation.class_activation import shared_passes
from vitrail.explanation.explainer import Cost, ExplainableModel, Question, Relevance, Want
from vitrail.explanation.passes import gradient_refusal, network_of
from vitrail.records import ByteArray, FloatArray, IntArray, Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from vitrail.explanation.graph import NetworkGraph


@dataclass(frozen=True)
class Gradient:
    """The gradient of what is explained with respect to the pixels (Simonyan et al., arXiv:1312.6034), with its sign.

    ``sum_channels d y / d x``: by how much it rises when the pixel grows brighter by one grey level (of 255) in all channels.
    Where the recipe scales every image by its own range, that range counts as constant. It is local: in a saturated region the
    gradient is small however much the pixel matters.
    """

    needs: ClassVar[str] = "a network with a gradient"
    wants: ClassVar[frozenset[Want]] = frozenset({"input gradient"})

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return gradient_refusal(model)

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - always the same
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return Cost(forward=1.0, backward=1.0)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        per_level = _per_grey_level(model, question, self.wants)
        return _answer(per_level.sum(axis=1))


@dataclass(frozen=True)
class GradientTimesInput:
    """Gradient times grey level (Shrikumar et al., arXiv:1605.01713), summed over the channels.

    ``sum_channels x d y / d x`` with x in grey levels, so that black is zero: to first order, what would be lost if the pixel
    were black. Of a network without biases that is fed 0..255 the map adds up to the logit; of others it does not add up to
    anything.
    """

    needs: ClassVar[str] = Gradient.needs
    wants: ClassVar[frozenset[Want]] = Gradient.wants

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return gradient_refusal(model)

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - always the same
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return Cost(forward=1.0, backward=1.0)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        per_level = _per_grey_level(model, question, self.wants)
        levels = question.pixels.transpose(0, 3, 1, 2).astype(np.float64)
        return _answer((per_level * levels).sum(axis=1))


@dataclass(frozen=True)
class GuidedBackpropagation:
    """Guided backpropagation (Springenberg et al., arXiv:1412.6806): the gradient, but every ReLU passes back only what is
    positive.

    At ``max(0, z)`` the rule is ``r 1[z > 0] 1[r > 0]``, at ``min(6, max(0, z))`` it is ``r 1[0 < z < 6] 1[r > 0]``. There is no
    rule for other activations, so networks with SiLU, GELU and the like are refused. It draws sharp pictures that hardly depend
    on the class or on the upper layers (Adebayo et al., NeurIPS 2018): it shows what the network sees, not why it decides.
    """

    needs: ClassVar[str] = "a network whose activations are all ReLU or ReLU6"
    wants: ClassVar[frozenset[Want]] = frozenset({"guided gradient"})

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        reason = gradient_refusal(model)
        if reason or model.network is None:
            return reason
        from vitrail.explanation.graph import network_graph
        from vitrail.explanation.guided import other_activations, rectifiers

        graph = network_graph(model.network)
        others = other_activations(graph)
        if others:
            return f"{model.name} has {', '.join(others)}, for which the method has no rule."
        return "" if rectifiers(graph) else f"{model.name} has no ReLU: its map would be the plain gradient."

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - always the same
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return Cost(forward=1.0, backward=1.0)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        from vitrail.explanation.graph import network_graph
        from vitrail.explanation.guided import rectifiers

        network = network_of(model)
        gradient = shared_passes(model, question, self.wants).guided_gradient()
        per_level = gradient * grey_level_slope(question.pixels, network.recipe)
        return _answer(per_level.sum(axis=1), {"rectifiers": len(rectifiers(network_graph(network)))})


def value_and_gradient(graph: NetworkGraph, inputs: Tensor, targets: IntArray, question: Question) -> tuple[Tensor, Tensor]:
    """Return what is explained, (n,), and its gradient at the network's scaled inputs, both of shape (n, channels, size, size).

    Args:
        graph: The network.
        inputs: Scaled inputs; not changed.
        targets: Class per input.
        question: Says what is explained.
    """
    import torch

    from vitrail.explanation.graph import INPUT, LOGITS, explained

    leaf = inputs.detach().requires_grad_()
    value = explained(graph.run({INPUT: leaf})[LOGITS], targets, question.quantity)
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    return value.detach(), gradient


def grey_level_slope(pixels: ByteArray, recipe: Recipe) -> FloatArray:
    """Return by how much the network's input changes per grey level, (n, channels, 1, 1); see
    :func:`vitrail.preprocess.normalise`.

    What an image is scaled by (its range, its deviation) counts as constant.
    """
    planes = pixels.transpose(0, 3, 1, 2).astype(np.float32)
    slope = np.ones((*planes.shape[:2], 1, 1), dtype=np.float32)
    if recipe.scaling in ("unit", "channel"):
        slope /= 255.0
        if recipe.scaling == "channel":
            slope /= np.asarray(recipe.deviation, dtype=np.float32)[:, None, None]
        return slope
    axes = (1, 2, 3)
    spread = np.ptp(planes, axis=axes, keepdims=True) if recipe.scaling == "minmax" else planes.std(axis=axes, keepdims=True)
    return np.asarray(slope * np.where(spread > 0.01, 1.0 / np.maximum(spread, 0.01), 0.0), dtype=np.float32)


def _per_grey_level(model: ExplainableModel, question: Question, wants: frozenset[Want]) -> FloatArray:
    gradient = shared_passes(model, question, wants).input_gradient()
    return gradient * grey_level_slope(question.pixels, network_of(model).recipe)


def _answer(maps: FloatArray, details: dict[str, object] | None = None) -> Relevance:
    return Relevance(
        maps=maps.astype(np.float32),
        warnings=((),) * len(maps),
        details=details or {},
        forward_passes=1.0,
        backward_passes=1.0,
    )
