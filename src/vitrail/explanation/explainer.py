"""What an explainer is asked, what it answers, and what it may ask of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from vitrail.records import ByteArray, FloatArray, Placement, Recipe

Pooling = Literal["average", "max", "flatten", "none"]


class ExplainableModel(Protocol):
    """A loaded model package, as the explainers see it."""

    @property
    def name(self) -> str:
        """The model's name in its study."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the scores."""
        ...

    @property
    def recipe(self) -> Recipe:
        """How an image becomes the model's input."""
        ...

    @property
    def pooling(self) -> Pooling:
        """How activations (C, h, w) become the embedding: mean or maximum per map, or all values in C, h, w order.

        ``none``: there are no feature maps.
        """
        ...

    def scores(self, pixels: ByteArray) -> npt.NDArray[np.float64]:
        """Return scores (n, classes) that sum to 1 per row, for pixels (n, size, size, channels) of any n."""
        ...

    def embed_with_maps(self, pixels: ByteArray) -> tuple[FloatArray, FloatArray] | None:
        """Return the last activations (C, h, w) and the embedding (D,) of one image (1, size, size, channels).

        ``None`` when the model has no feature maps (a forest).
        """
        ...

    def embedding_gradient(self, embedding: FloatArray, target: int) -> FloatArray:
        """Return the gradient (D,) of the target's logit with respect to the embedding (D,)."""
        ...


@dataclass(frozen=True)
class Question:
    """Why does this image have this score for this class?

    Attributes:
        pixels: The model's input before scaling, uint8 of shape (size, size, channels), read-only.
        placement: Where those pixels stand in the original image, and which of them are padding.
        target: Index of the class whose score is explained.
        score: The model's score for that class, 0..1.
    """

    pixels: ByteArray
    placement: Placement
    target: int
    score: float


@dataclass(frozen=True)
class Relevance:
    """An explainer's answer, at the resolution of the model's input.

    Attributes:
        map: Signed relevance, shape (size, size): positive where the image speaks for the class, negative where against it.
        warnings: What this method knows to be doubtful about this map.
        details: What made it: the layer, the patch, the number of model runs.
    """

    map: FloatArray
    warnings: tuple[str, ...] = ()
    details: dict[str, object] = field(default_factory=dict)


class Explainer(Protocol):
    """One method of explanation: one class in one file, and one line in ``EXPLAINERS``."""

    @property
    def needs(self) -> str:
        """What a model must have for this method, to end the sentence "grad-cam needs ..."."""
        ...

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance | None:
        """Answer the question; ``None`` when the model does not have what the method needs."""
        ...
