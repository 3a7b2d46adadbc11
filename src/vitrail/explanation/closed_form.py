"""The last feature maps and the gradient at them in closed form: the head's own gradient, carried back through the pooling.
Needs no torch.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt

from vitrail.errors import PackageError
from vitrail.explanation.explainer import ExplainableModel, Pooling, Scores, Want
from vitrail.records import ByteArray, FloatArray, Quantity


def has_closed_form(model: ExplainableModel, wants: Collection[Want], layer: str) -> bool:
    """Return whether the last feature maps and the head's own gradient do, without the graph."""
    return model.pooling != "none" and not layer and set(wants) <= {"last feature maps", "feature maps", "feature map gradient"}


def maps_and_vector(model: ExplainableModel, pixels: ByteArray) -> tuple[FloatArray, FloatArray]:
    """Return the last feature maps (C, h, w) and the embedding (D,) of one image.

    Raises:
        PackageError: The model has none, though it says so.
    """
    found = model.embed_with_maps(pixels)
    if found is None:
        raise PackageError(f"{model.name}: it says that it has feature maps, and gives none. Train the model again.")
    return found


def last_maps_and_gradient(
    model: ExplainableModel,
    pixels: ByteArray,
    target: int,
    scores: Scores,
    quantity: Quantity,
    *,
    found: tuple[FloatArray, FloatArray] | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return the last feature maps of one image and the gradient of the explained quantity there, both (C, h, w).

    The gradient is that of the head, carried back through the pooling in closed form.

    Raises:
        PackageError: Maps, vector and gradient do not fit together.
    """
    activations, embedding = found or maps_and_vector(model, pixels)
    gradient = _quantity_gradient(model, embedding, target, scores, quantity)
    expected = activations.size if model.pooling == "flatten" else len(activations)
    if activations.ndim != 3 or gradient.shape != (expected,):
        raise PackageError(
            f"{model.name}: activations of shape {activations.shape} with {model.pooling} pooling need a gradient of "
            f"{expected} values. Found: shape {gradient.shape}. The model package is damaged or foreign; train the model again."
        )
    through = _gradient_of_maps(np.asarray(activations, dtype=np.float64), gradient, pooling=model.pooling)
    return np.asarray(activations, dtype=np.float32), through.astype(np.float32)


def _quantity_gradient(
    model: ExplainableModel, embedding: FloatArray, target: int, scores: Scores, quantity: Quantity
) -> npt.NDArray[np.float64]:
    """Return the gradient (D,) of the explained quantity with respect to the embedding (D,), from those of the logits."""

    def of_logit(index: int) -> npt.NDArray[np.float64]:
        return np.asarray(model.embedding_gradient(embedding, index), dtype=np.float64)

    slopes = enumerate(logit_slopes(scores, target, quantity))
    return np.asarray(np.sum([slope * of_logit(index) for index, slope in slopes if slope], axis=0))


def logit_slopes(scores: Scores, target: int, quantity: Quantity) -> npt.NDArray[np.float64]:
    """Return how much the explained quantity changes with each logit, shape (classes,), at these scores."""
    slopes = np.zeros(len(scores))
    slopes[target] = 1.0
    if quantity == "probability":  # the softmax: d p_c / d f_j = p_c (1[j = c] - p_j)
        return np.asarray(scores[target] * (slopes - scores))
    if quantity == "contrast":
        others = np.where(np.arange(len(scores)) == target, -np.inf, scores)
        slopes[int(others.argmax())] = -1.0
    return slopes


def _gradient_of_maps(
    activations: npt.NDArray[np.float64], gradient: npt.NDArray[np.float64], *, pooling: Pooling
) -> npt.NDArray[np.float64]:
    """Carry a gradient (D,) of the embedding back through the pooling to the activations (C, h, w)."""
    if pooling == "flatten":
        return np.asarray(gradient.reshape(activations.shape))
    per_map = gradient[:, np.newaxis, np.newaxis]
    if pooling == "average":
        cells = activations.shape[1] * activations.shape[2]
        return np.broadcast_to(per_map / cells, activations.shape)
    highest = activations == activations.max(axis=(1, 2), keepdims=True)
    shared = highest / highest.sum(axis=(1, 2), keepdims=True)  # cells that share the maximum share its gradient
    return np.asarray(per_map * shared, dtype=np.float64)
