"""Class activation maps: which cells of the last feature maps speak for a class.

Only the small head after the feature maps is differentiated, and that gradient is known in closed form from the way the
maps are pooled; nothing is propagated back through the backbone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vitrail.errors import PackageError
from vitrail.explanation.explainer import Cost, ExplainableModel, Pooling, Question, Relevance, Want
from vitrail.records import FloatArray

COARSE_CELLS = 14  # below so many cells a side, one cell is wider than most findings in an image


@dataclass(frozen=True)
class GradCam:
    """Grad-CAM: every feature map, weighted by the mean gradient of the class logit over it (Selvaraju et al., ICCV 2017).

    The map is ``sum_c w_c A_c`` with ``w_c = mean_ij d logit / d A_cij``. The paper's final rectification is left to the
    drawing, so that evidence against the class is not lost here. With average pooling and a linear head this is the class
    activation map of Zhou et al. (CVPR 2016), up to the factor 1 / (h w).
    """

    needs: ClassVar[str] = "a model with feature maps and a head that has a gradient"
    wants: ClassVar[frozenset[Want]] = frozenset({"feature maps", "feature map gradient"})

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return _refusal(model)

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - the head alone is differentiated
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return Cost(forward=1.0)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        activations, gradient = _activations_and_gradient(model, question)
        return _answer(np.einsum("nchw,nc->nhw", activations, gradient.mean(axis=(2, 3))), question)


@dataclass(frozen=True)
class HiResCam:
    """HiResCAM: activations times gradient, cell by cell (Draelos and Carin, arXiv:2011.08891).

    The map is ``sum_c g_c A_c`` without the averaging of the gradient; with a linear head it adds up to the class logit
    (less its bias), which Grad-CAM guarantees for average pooling only, where the two are the same map.
    """

    needs: ClassVar[str] = GradCam.needs
    wants: ClassVar[frozenset[Want]] = GradCam.wants

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return _refusal(model)

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - the head alone is differentiated
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return Cost(forward=1.0)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        activations, gradient = _activations_and_gradient(model, question)
        return _answer((gradient * activations).sum(axis=1), question)


def _refusal(model: ExplainableModel) -> str:
    return "" if model.pooling != "none" else f"{model.name} has no feature maps."


def _activations_and_gradient(
    model: ExplainableModel, question: Question
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the last activations and the gradient of the explained quantity with respect to them, both (n, C, h, w)."""
    pairs = [_of_image(model, question, image) for image in range(len(question))]
    return np.stack([pair[0] for pair in pairs]), np.stack([pair[1] for pair in pairs])


def _of_image(model: ExplainableModel, question: Question, image: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    found = model.embed_with_maps(question.pixels[image : image + 1])
    if found is None:
        raise PackageError(f"{model.name}: it says that it has feature maps, and gives none. Train the model again.")
    activations, embedding = found
    gradient = _quantity_gradient(model, question, image, embedding)
    expected = activations.size if model.pooling == "flatten" else len(activations)
    if activations.ndim != 3 or gradient.shape != (expected,):
        raise PackageError(
            f"{model.name}: activations of shape {activations.shape} with {model.pooling} pooling need a gradient of "
            f"{expected} values. Found: shape {gradient.shape}. The model package is damaged or foreign; train the model again."
        )
    precise = np.asarray(activations, dtype=np.float64)
    return precise, _gradient_of_maps(precise, gradient, pooling=model.pooling)


def _quantity_gradient(model: ExplainableModel, question: Question, image: int, embedding: FloatArray) -> npt.NDArray[np.float64]:
    """Return the gradient (D,) of the explained quantity with respect to the embedding (D,), from those of the logits."""

    def of_logit(index: int) -> npt.NDArray[np.float64]:
        return np.asarray(model.embedding_gradient(embedding, index), dtype=np.float64)

    target, scores = int(question.targets[image]), question.scores[image]
    gradient = of_logit(target)
    if question.quantity == "probability":  # the softmax's slope: p_c (d f_c - sum_j p_j d f_j)
        mean = np.sum([score * of_logit(index) for index, score in enumerate(scores)], axis=0)
        return np.asarray(scores[target] * (gradient - mean))
    if question.quantity == "contrast":
        others = np.where(np.arange(len(scores)) == target, -np.inf, scores)
        return np.asarray(gradient - of_logit(int(others.argmax())))
    return gradient


def _gradient_of_maps(
    activations: npt.NDArray[np.float64], gradient: npt.NDArray[np.float64], *, pooling: Pooling
) -> npt.NDArray[np.float64]:
    """Carry a gradient (D,) of the embedding back through the pooling to the activations (C, h, w)."""
    if pooling == "flatten":
        return gradient.reshape(activations.shape)
    per_map = gradient[:, np.newaxis, np.newaxis]
    if pooling == "average":
        cells = activations.shape[1] * activations.shape[2]
        return np.broadcast_to(per_map / cells, activations.shape)
    highest = activations == activations.max(axis=(1, 2), keepdims=True)
    shared = highest / highest.sum(axis=(1, 2), keepdims=True)  # cells that share the maximum share its gradient
    return np.asarray(per_map * shared, dtype=np.float64)


def _answer(cells: npt.NDArray[np.float64], question: Question) -> Relevance:
    """Bring maps of cells (n, h, w) to the size of the model's input and say how coarse they were."""
    images, rows, columns = cells.shape
    height, width = question.pixels.shape[1:3]
    warnings: tuple[str, ...] = ()
    if min(rows, columns) < COARSE_CELLS:
        warnings = (
            f"The map has {rows} x {columns} cells, each covers {height / rows:.3g} x {width / columns:.3g} pixels of the "
            "model's input: it shows a region, not an outline.",
        )
    return Relevance(
        maps=np.stack([resize_bilinear(one, height=height, width=width) for one in cells]),
        warnings=(warnings,) * images,
        details={"rows": rows, "columns": columns},
        layer="last feature maps",
        forward_passes=1.0,
    )


def resize_bilinear(cells: npt.NDArray[np.float64], *, height: int, width: int) -> FloatArray:
    """Enlarge a map by bilinear interpolation.

    Args:
        cells: Map of shape (h, w); each value stands at the centre of its cell, the cells tile the result evenly.
        height: Rows of the result, at least h.
        width: Columns of the result, at least w.

    Returns:
        Shape (height, width), float32; beyond the outermost centres the nearest value holds.
    """
    enlarged = _interpolation(cells.shape[0], height) @ cells @ _interpolation(cells.shape[1], width).T
    return enlarged.astype(np.float32)


def _interpolation(cells: int, pixels: int) -> npt.NDArray[np.float64]:
    """Return the weights (pixels, cells) of linear interpolation between cell centres; rows sum to 1."""
    positions = np.clip((np.arange(pixels) + 0.5) * cells / pixels - 0.5, 0, cells - 1)
    return np.maximum(0.0, 1.0 - np.abs(positions[:, np.newaxis] - np.arange(cells)))
