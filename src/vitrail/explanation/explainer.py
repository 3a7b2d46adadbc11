"""What an explainer is asked, what it answers, and what it may ask of a model.

A question is about several images of one model; their answers do not depend on one another. What one forward and one backward
pass give is computed once for all methods that want it (:class:`Passes`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from vitrail.records import ByteArray, FloatArray, IntArray, NetworkParts, Placement, Quantity, Recipe

if TYPE_CHECKING:
    from vitrail.explanation.layers import AttentionPlace

Pooling = Literal["average", "max", "flatten", "none"]

Want = Literal[
    "input gradient",
    "guided gradient",
    "last feature maps",
    "feature maps",
    "feature map gradient",
    "attention",
    "attention gradient",
]
"""What a method may ask of the shared passes. One that wants ``feature maps`` can be asked for a layer by name; ``last feature
maps`` are those that become the embedding, whatever layer others ask for."""

Scores: TypeAlias = npt.NDArray[np.float64]


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
    def fingerprint(self) -> str:
        """SHA-256 of the package's ``hashes.json``: which package answered; empty where it is in no package."""
        ...

    @property
    def pooling(self) -> Pooling:
        """How activations (C, h, w) become the embedding: mean or maximum per map, or all values in C, h, w order.

        ``none``: there are no feature maps.
        """
        ...

    @property
    def network(self) -> NetworkParts | None:
        """What the network is made of, for gradients; ``None`` where it has none (trees, support vectors)."""
        ...

    def scores(self, pixels: ByteArray) -> Scores:
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


@runtime_checkable
class ScoresWithMaps(Protocol):
    """A model that gives scores and last feature maps in one run, so that a class activation map costs no second one."""

    def scores_with_maps(self, pixels: ByteArray) -> tuple[Scores, FloatArray, FloatArray] | None:
        """Return what ``scores`` returns, the last activations (n, C, h, w) and the embeddings (n, D).

        ``None`` where one run does not give them: there are no feature maps, or scores are the mean over several views.
        """
        ...


@runtime_checkable
class GivesValues(Protocol):
    """A model that gives values inside its network without torch, so that only what comes after them is computed there."""

    def values_inside(self, pixels: ByteArray, names: tuple[str, ...]) -> Mapping[str, FloatArray] | None:
        """Return values by their names in the graph, (n, ...); ``None`` of a large network."""
        ...


class Passes(Protocol):
    """What one forward and one backward pass over the images of a question give, and a second, guided way back where it is
    wanted. Computed when first asked for, and kept.
    """

    def input_gradient(self) -> FloatArray:
        """Return the gradient of the explained quantity with respect to the network's input, (n, channels, size, size)."""
        ...

    def guided_gradient(self) -> FloatArray:
        """Return the same by the rule of guided backpropagation: another way back through the same pass forth."""
        ...

    def feature_maps(self, layer: str = "") -> FloatArray:
        """Return the activations of a layer, (n, C, h, w); empty: the one that class activation maps use by default."""
        ...

    def feature_map_gradient(self, layer: str = "") -> FloatArray:
        """Return the gradient of the explained quantity with respect to those, (n, C, h, w)."""
        ...

    def last_feature_maps(self) -> FloatArray:
        """Return the activations that become the embedding, (n, C, h, w), whatever layer was asked for."""
        ...

    @property
    def layer_name(self) -> str:
        """What a result calls the layer of those maps."""
        ...

    @property
    def places(self) -> tuple[AttentionPlace, ...]:
        """Where the network attends, from the input to the logits."""
        ...

    def attentions(self) -> tuple[FloatArray, ...]:
        """Return what each of :attr:`places` attends to, (n windows, heads, queries, keys)."""
        ...

    def speaking_attentions(self) -> tuple[npt.NDArray[np.float64], ...]:
        """Return for each of those what raises the explained quantity, mean over heads of max(0, A * dy/dA), (n windows, queries,
        keys).
        """
        ...

    def token_norms(self) -> FloatArray:
        """Return the length of every image token's vector before the last attention, (n, tokens); (n, 0): there are none."""
        ...


@dataclass(frozen=True)
class Question:
    """Why do these images have these scores for these classes?

    Attributes:
        pixels: The model's inputs before scaling, uint8 of shape (n, size, size, channels), read-only.
        placements: Where those pixels stand in each original image, and which of them are padding.
        targets: Index of the class that is explained, per image.
        scores: The package's scores, up to rounding, shape (n, classes).
        seed: All randomness comes from it and from the image itself: see :meth:`generator`.
        quantity: What is explained: the logit of the class, its probability, or its logit minus the largest other logit.
        layer: Layer whose maps are asked for, by name; empty: the method's own choice.
        background: Images of the data set, prepared in the same way, uint8 (m, size, size, channels), for methods that compare
            with them; ``None``: there are none at hand.
        shared: What the methods of this question share; ``None``: the model has no network that can be differentiated, or none
            of the methods needs it.
    """

    pixels: ByteArray
    placements: tuple[Placement, ...]
    targets: IntArray
    scores: Scores
    seed: int = 0
    quantity: Quantity = "logit"
    layer: str = ""
    background: ByteArray | None = None
    shared: Passes | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def generator(self, image: int) -> np.random.Generator:
        """Return the random generator of one image, from the seed and its pixels: a batch of one equals a batch of many."""
        digest = hashlib.sha256(np.ascontiguousarray(self.pixels[image]).tobytes()).digest()
        return np.random.default_rng([self.seed, *np.frombuffer(digest[:16], dtype=np.uint32).tolist()])


@dataclass(frozen=True)
class Relevance:
    """An explainer's answer for all images of a question, at the resolution of the model's input.

    Attributes:
        maps: Signed relevance, float32, shape (n, size, size): positive where the image speaks for the class, negative where
            against it.
        warnings: What this method knows to be doubtful, per image.
        details: What made the maps: the patch, the number of samples; the same for all images.
        details_of: More of that, per image; empty where nothing differs.
        layer: The layer whose maps these are; empty where there is none.
        quantity: What was explained, where the method does not follow the question (occlusion: the probability); else empty.
        forward_passes: Images that passed through the model, per image explained.
        backward_passes: The same, backwards.
        standard_errors: Of the maps, float32, same shape, where the method draws at random; else ``None``.
    """

    maps: FloatArray
    warnings: tuple[tuple[str, ...], ...]
    details: Mapping[str, object] = field(default_factory=dict)
    details_of: tuple[Mapping[str, object], ...] = ()
    layer: str = ""
    quantity: Quantity | Literal[""] = ""
    forward_passes: float = 0.0
    backward_passes: float = 0.0
    standard_errors: FloatArray | None = None


@dataclass(frozen=True)
class Cost:
    """What a method costs per image when it is asked alone, known before it runs.

    Attributes:
        forward: Images that pass through the model.
        backward: The same, backwards.
    """

    forward: float
    backward: float = 0.0


class Explainer(Protocol):
    """One method of explanation: one class in one file, and one line in ``EXPLAINERS``. A frozen dataclass of its parameters."""

    needs: ClassVar[str]
    """What a model must have for this method, to end the sentence "grad-cam needs ..."."""
    wants: ClassVar[frozenset[Want]]
    """What it asks of the shared passes."""

    def refusal(self, model: ExplainableModel) -> str:
        """Return why the method is not defined for a model, in a sentence that names what the model has; empty: it is defined."""
        ...

    def cost(self, model: ExplainableModel) -> Cost:
        """Return what an image costs."""
        ...

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """Answer the question. It is only asked of a model that it does not refuse."""
        ...


@runtime_checkable
class SharesAnswers(Protocol):
    """A method that asks the model about changed images, and takes the answers where another method asked about the same."""

    @property
    def answers(self) -> tuple[str, int, int]:
        """What is asked about: methods of which it is the same ask once."""
        ...


def picture_of(pixels: ByteArray) -> ByteArray:
    """Return what there is to see of pixels (..., channels), one channel or three: of the inputs of several models, which lie one
    behind the other, the first three.
    """
    return pixels[..., : 3 if pixels.shape[-1] >= 3 else 1]
