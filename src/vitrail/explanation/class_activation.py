"""Class activation maps: which cells of a layer's feature maps speak for a class.

All of them weight the maps by the gradient of what is explained with respect to them. At the last feature maps only the small
head is differentiated, in closed form; at another layer, the part of the network after it. Of a transformer the maps are its
image tokens.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vitrail.explanation.closed_form import logit_slopes
from vitrail.explanation.explainer import Cost, ExplainableModel, Passes, Question, Relevance, Want
from vitrail.explanation.passes import LAST_MAPS, SharedPasses, layer_refusal, network_of
from vitrail.records import FloatArray

COARSE_CELLS = 14  # below so many cells a side, one cell is wider than most findings in an image

Precise = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ClassActivation(abc.ABC):
    """What the methods by feature maps have in common. The papers' final rectification is left to the drawing, so that evidence
    against the class is not lost here.
    """

    needs: ClassVar[str] = "a model with feature maps and a head that has a gradient"
    wants: ClassVar[frozenset[Want]] = frozenset({"feature maps", "feature map gradient"})

    @abc.abstractmethod
    def cells(self, activations: Precise, gradient: Precise) -> Precise:
        """Return the map of cells (n, h, w) from activations and their gradient, both (n, C, h, w)."""

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return layer_refusal(model)

    def cost(self, model: ExplainableModel) -> Cost:
        """See :class:`~vitrail.explanation.explainer.Explainer`. At the last feature maps the head alone is differentiated."""
        return Cost(forward=1.0, backward=0.0 if model.pooling != "none" else 1.0)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        shared = shared_passes(model, question, self.wants)
        activations = np.asarray(shared.feature_maps(question.layer), dtype=np.float64)
        gradient = np.asarray(shared.feature_map_gradient(question.layer), dtype=np.float64)
        cells = self.cells(activations, gradient)
        layer = shared.layer_name
        silent = (gradient == 0).all(axis=(1, 2, 3))
        return answer_of_cells(cells, question, layer=layer, silent=silent, backward=0.0 if layer == LAST_MAPS else 1.0)


@dataclass(frozen=True)
class GradCam(ClassActivation):
    """Grad-CAM: every feature map, weighted by the mean gradient over it (Selvaraju et al., ICCV 2017).

    ``sum_c w_c A_c`` with ``w_c = mean_ij d y / d A_cij``; signed, in units of what is explained per cell. With average pooling
    and a linear head this is the class activation map of Zhou et al. (CVPR 2016), up to the factor 1 / (h w). It does not show
    where in a map the gradient is: with dense layers after a flattening, a cell can be marked that the class does not look at.
    """

    def cells(self, activations: Precise, gradient: Precise) -> Precise:
        """See :class:`ClassActivation`."""
        return np.asarray(np.einsum("nchw,nc->nhw", activations, gradient.mean(axis=(2, 3))))


@dataclass(frozen=True)
class HiResCam(ClassActivation):
    """HiResCAM: activations times gradient, cell by cell (Draelos and Carin, arXiv:2011.08891).

    The map is ``sum_c g_c A_c`` without the averaging of the gradient; with a linear head it adds up to the class logit
    (less its bias), which Grad-CAM guarantees for average pooling only, where the two are the same map.
    """

    def cells(self, activations: Precise, gradient: Precise) -> Precise:
        """See :class:`ClassActivation`."""
        return np.asarray((gradient * activations).sum(axis=1))


@dataclass(frozen=True)
class GradCamPlusPlus(ClassActivation):
    """Grad-CAM++: every feature map, weighted by its positive gradients (Chattopadhay et al., WACV 2018).

    ``sum_c w_c A_c`` with ``w_c = sum_ij a_cij max(0, g_cij)`` and ``a = g^2 / (2 g^2 + g^3 sum_ij A)``, the form that holds for
    the exponential of the explained quantity. Weights are never negative: with activations that are not negative either, the map
    shows only what speaks for the class. It has no unit.
    """

    def cells(self, activations: Precise, gradient: Precise) -> Precise:
        """See :class:`ClassActivation`."""
        square = gradient**2
        below = 2 * square + gradient * square * activations.sum(axis=(2, 3), keepdims=True)
        share = np.divide(square, below, out=np.zeros_like(below), where=(gradient != 0) & (np.abs(below) > _TINY))
        weights = (share * np.maximum(gradient, 0)).sum(axis=(2, 3))
        return np.asarray(np.einsum("nchw,nc->nhw", activations, weights))


_TINY = 1e-30


@dataclass(frozen=True)
class LayerCam(ClassActivation):
    """LayerCAM: activations times their positive gradients, cell by cell (Jiang et al., IEEE TIP 2021).

    ``sum_c max(0, g_c) A_c``; made for layers below the last. What speaks against the class is left out by definition.
    """

    def cells(self, activations: Precise, gradient: Precise) -> Precise:
        """See :class:`ClassActivation`."""
        return np.asarray((np.maximum(gradient, 0) * activations).sum(axis=1))


@dataclass(frozen=True)
class Cam:
    """CAM, the class activation map of Zhou et al. (CVPR 2016), in closed form: ``sum_c w_c A_c`` with the head's own weights
    ``w``.

    Defined for average pooling and one linear layer. The mean of the map plus the bias is the logit; of a probability or a
    contrast the weights are those of the logits, in the proportions in which they move it.
    """

    needs: ClassVar[str] = "feature maps that are averaged, and one linear layer after them"
    wants: ClassVar[frozenset[Want]] = frozenset({"last feature maps"})

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        if model.pooling != "average":
            has = "no feature maps that are pooled alone" if model.pooling == "none" else f"{model.pooling} pooling"
            return f"{model.name} has {has}."
        if model.network is None:
            return f"{model.name} has no network that ends in dense layers."
        layers = len(model.network.weights)
        return "" if layers == 1 else f"{model.name} has {layers} dense layers after its feature maps."

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - always the same
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return Cost(forward=1.0)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        head = network_of(model).weights[0].astype(np.float64)
        activations = shared_passes(model, question, self.wants).last_feature_maps().astype(np.float64)
        slopes = np.stack([logit_slopes(question.scores[i], int(c), question.quantity) for i, c in enumerate(question.targets)])
        return answer_of_cells(np.einsum("nchw,nc->nhw", activations, slopes @ head), question, layer=LAST_MAPS)


def shared_passes(model: ExplainableModel, question: Question, wants: frozenset[Want]) -> Passes:
    """Return the shared passes of a question, or passes of its own where it has none."""
    if question.shared is not None:
        return question.shared
    return SharedPasses(
        model,
        question.pixels,
        question.targets,
        question.scores,
        quantity=question.quantity,
        wants=wants,
        layer=question.layer,
    )


def answer_of_cells(
    cells: Precise,
    question: Question,
    *,
    layer: str,
    silent: npt.NDArray[np.bool_] | None = None,
    backward: float = 0.0,
) -> Relevance:
    """Bring maps of cells (n, h, w) to the size of the model's input and say how coarse they were.

    Args:
        cells: The maps.
        question: What was asked.
        layer: What they were made from.
        silent: Per image, whether the gradient there is zero everywhere.
        backward: Backward passes per image.
    """
    images, rows, columns = cells.shape
    height, width = question.pixels.shape[1:3]
    warnings: tuple[str, ...] = ()
    if min(rows, columns) < COARSE_CELLS:
        warnings = (
            f"The map has {rows} x {columns} cells, each covers {height / rows:.3g} x {width / columns:.3g} pixels of the "
            "model's input: it shows a region, not an outline.",
        )
    dead = (
        f"The gradient at {layer} is zero everywhere: what is explained does not depend on these places. Choose another layer.",
    )
    quiet = np.zeros(images, dtype=bool) if silent is None else silent
    return Relevance(
        maps=resize_bilinear(cells, height=height, width=width),
        warnings=tuple((*warnings, *dead) if none else warnings for none in quiet),
        details={"rows": rows, "columns": columns},
        layer=layer,
        forward_passes=1.0,
        backward_passes=backward,
    )


def resize_bilinear(cells: npt.NDArray[np.float64], *, height: int, width: int) -> FloatArray:
    """Enlarge maps by bilinear interpolation.

    Args:
        cells: One map (h, w) or several (n, h, w); each value stands at the centre of its cell, the cells tile the result evenly.
        height: Rows of the result, at least h.
        width: Columns of the result, at least w.

    Returns:
        Shape (height, width) or (n, height, width), float32; beyond the outermost centres the nearest value holds.
    """
    enlarged = _interpolation(cells.shape[-2], height) @ cells @ _interpolation(cells.shape[-1], width).T
    return enlarged.astype(np.float32)


@lru_cache(maxsize=16)
def _interpolation(cells: int, pixels: int) -> Precise:
    """Return the weights (pixels, cells) of linear interpolation between cell centres; rows sum to 1. Kept: maps come by the
    hundred."""
    positions = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    weights = np.maximum(0.0, 1.0 - np.abs(positions[:, np.newaxis] - np.arange(cells)))
    weights.flags.writeable = False
    return weights
