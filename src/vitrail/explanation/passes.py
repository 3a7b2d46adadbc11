"""What several methods share: one forward pass and one backward pass of the images, for all that they want.

Where only the last feature maps are wanted, nothing is differentiated but the head, in closed form and without torch. Where a
layer's maps are wanted that lie late in the network, ONNX Runtime computes up to them, and only what comes after them runs in
torch. Where more is wanted, the network's graph runs once, and one call of autograd gives the gradients at the input, at a layer
and at the attention. Guided backpropagation goes back through the same recorded pass a second time. The pass that goes back gives
the scores, too, where all images go through the graph together.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vitrail.errors import PackageError, UsageError
from vitrail.explanation.closed_form import has_closed_form, last_maps_and_gradient, maps_and_vector
from vitrail.explanation.explainer import ExplainableModel, GivesValues, Scores, ScoresWithMaps, Want
from vitrail.records import ByteArray, FloatArray, IntArray, NetworkParts, Quantity

if TYPE_CHECKING:
    from vitrail.explanation.graph import NetworkGraph
    from vitrail.explanation.layers import AttentionPlace, Layer, Layers
    from vitrail.explanation.recorded_pass import Found, RecordedPass

Precise = npt.NDArray[np.float64]

LAST_MAPS = "last feature maps"
"""What a result calls the layer where the closed form was used."""
ATTENTION_BYTES = 200_000_000
"""Attention that is kept at a time: of more images than that, some are explained after the others."""
SAME_ANSWER = 1e-3
"""Largest difference of a score between the package and its graph."""
LATE = 0.5
"""A layer is late where at most this share of the network's operations comes after it: it is faster to go on from there."""


class SharedPasses:
    """The shared passes of some images; see :class:`~vitrail.explanation.explainer.Passes`. Nothing is computed before it is
    asked for.

    Args:
        model: Whose answers are explained.
        pixels: uint8, shape (n, size, size, channels).
        targets: Class per image; ``None``: see :meth:`aim`.
        scores: The package's scores, shape (n, classes); ``None``: they are found on the way, see :attr:`scores`.
        quantity: What is differentiated.
        wants: What the methods will ask for.
        layer: Layer by name; empty: the default.
    """

    def __init__(
        self,
        model: ExplainableModel,
        pixels: ByteArray,
        targets: IntArray | None = None,
        scores: Scores | None = None,
        *,
        quantity: Quantity = "logit",
        wants: Collection[Want] = (),
        layer: str = "",
    ) -> None:
        self.model = model
        self.pixels = pixels
        self.quantity = quantity
        self.wants = frozenset(wants)
        self.named = layer
        self._targets = targets
        self._given = scores
        self._last: tuple[FloatArray, FloatArray] | None = None
        self._ahead: RecordedPass | None = None

    @property
    def targets(self) -> IntArray:
        """The class that is explained, per image."""
        if self._targets is None:
            raise ValueError("the shared passes were not told which classes to explain: call aim first")
        return self._targets

    def aim(self, targets: IntArray) -> None:
        """Say which class of each image is explained, once its scores are known."""
        self._targets = targets

    @cached_property
    def scores(self) -> Scores:
        """The model's scores, shape (n, classes): those that were given, or of the run that gives what the methods want (the same
        up to rounding).
        """
        if self._given is not None:
            return self._given
        found = self._scores_with_more()
        return self.model.scores(self.pixels) if found is None else found

    @property
    def scores_serve(self) -> bool:
        """Whether the run that gave the scores gave more, so that its time is the methods'."""
        _ = self.scores
        return self._last is not None or self._ahead is not None

    def _scores_with_more(self) -> Scores | None:
        """Return the scores and keep what came with them; ``None`` where no run gives more."""
        if not self.wants:
            return None
        if self.closed_form:
            with_maps = self.model.scores_with_maps(self.pixels) if isinstance(self.model, ScoresWithMaps) else None
            if with_maps is None:
                return None
            self._last = with_maps[1:]
            return with_maps[0]
        if len(self.pixels) > self._together or self._plain is not self.model:
            return None
        self._ahead = self._recorded(slice(0, len(self.pixels)))
        return self._ahead.scores

    @cached_property
    def _late(self) -> tuple[str, ...]:
        """Return the values from which the network can go on where nothing before a late layer is asked for; empty: it must begin
        at the input.
        """
        from vitrail.explanation.graph import INPUT

        if not self.wants <= {"feature maps", "feature map gradient"}:
            return ()
        names = (self.layer.value, *self.graph.cut(self.layer.value))
        if INPUT in names or not all(map(self._layers.is_of_images, names)):
            return ()
        return names if self.graph.share_after(names) <= LATE else ()

    @cached_property
    def closed_form(self) -> bool:
        """Whether the last feature maps and the head's own gradient do, without the graph."""
        return has_closed_form(self.model, self.wants, self.named)

    @property
    def graph(self) -> NetworkGraph:
        """The network as torch operations.

        Raises:
            UsageError: It has none.
        """
        return self._layers.graph

    @property
    def _layers(self) -> Layers:
        from vitrail.explanation.layers import network_layers

        return network_layers(network_of(self.model))

    @cached_property
    def layer(self) -> Layer:
        """The layer that was asked for, or the default.

        Raises:
            UsageError: There is none of that name.
        """
        return self._layers.layer(self.named)

    @property
    def layer_name(self) -> str:
        """What a result calls it."""
        return LAST_MAPS if self.closed_form else self.layer.name

    @property
    def places(self) -> tuple[AttentionPlace, ...]:
        """Where the network attends, from the input to the logits."""
        return self._layers.attentions

    def input_gradient(self) -> FloatArray:
        """Return the gradient with respect to the network's scaled input, (n, channels, size, size)."""
        return self._found.input_gradient

    def guided_gradient(self) -> FloatArray:
        """Return the same by the rule of guided backpropagation."""
        return self._found.guided_gradient

    def feature_maps(self, layer: str = "") -> FloatArray:
        """Return the layer's activations, (n, C, h, w).

        Args:
            layer: As it was announced.
        """
        return self._maps(layer)[0]

    def feature_map_gradient(self, layer: str = "") -> FloatArray:
        """Return the gradient at the layer, (n, C, h, w); nothing where it was not announced."""
        return self._maps(layer)[1]

    def last_feature_maps(self) -> FloatArray:
        """Return the activations that become the embedding, (n, C, h, w), from what ran already where it can."""
        if self.closed_form:
            return self._closed[0]
        if "feature maps" in self.wants and self._takes_last_maps:
            return self._found.maps
        return np.stack([maps_and_vector(self.model, self.pixels[image : image + 1])[0] for image in range(len(self.pixels))])

    @property
    def _takes_last_maps(self) -> bool:
        from vitrail.explanation.graph import ACTIVATIONS

        return self.layer.value == ACTIVATIONS

    def attentions(self) -> tuple[FloatArray, ...]:
        """Return what every place of :attr:`places` attends to: (n windows, heads, queries, keys), rows sum to 1."""
        return self._found.attentions

    def speaking_attentions(self) -> tuple[Precise, ...]:
        """Return how far each of those raises what is explained, (n windows, queries, keys); none where the gradient was not
        announced.
        """
        return self._found.speaking_attentions

    def token_norms(self) -> FloatArray:
        """Return the length of every image token's vector before the last attention, (n, tokens); (n, 0): there are none."""
        return self._found.token_norms

    # ---------------------------------------------------------------- computing

    def prepare(self) -> None:
        """Compute now what was announced, so that its time is nobody's in particular."""
        if self.wants:
            _ = self._closed if self.closed_form else self._found

    def _maps(self, layer: str) -> tuple[FloatArray, FloatArray]:
        if layer != self.named:
            raise ValueError(f"the shared passes were made for layer {self.named!r}, not {layer!r}")
        return self._closed if self.closed_form else (self._found.maps, self._found.map_gradient)

    @cached_property
    def _closed(self) -> tuple[FloatArray, FloatArray]:
        pairs = [
            last_maps_and_gradient(
                self.model,
                self.pixels[image : image + 1],
                int(target),
                self.scores[image],
                self.quantity,
                found=None if self._last is None else (self._last[0][image], self._last[1][image]),
            )
            for image, target in enumerate(self.targets)
        ]
        maps, gradients = (np.stack([pair[place] for pair in pairs]) for place in (0, 1))
        return maps, gradients

    @cached_property
    def _found(self) -> Found:
        from vitrail.explanation.recorded_pass import joined

        return joined([self._chunk(start) for start in range(0, len(self.pixels), self._together)])

    @property
    def _together(self) -> int:
        """How many images go through the graph together."""
        return self.graph.images_per_pass if len(self.pixels) > 1 else 1

    def _recorded(self, chunk: slice) -> RecordedPass:
        """Send some images forth, in torch from a late layer on where that is all that is asked for."""
        from vitrail.explanation.recorded_pass import RecordedPass

        self._check()
        pixels, names = self.pixels[chunk], self._late
        begin = self.model.values_inside(pixels, names) if names and isinstance(self.model, GivesValues) else None
        return RecordedPass(self._layers, self.wants, self.named, pixels=pixels, begin=begin)

    def _chunk(self, start: int) -> Found:
        """Send some images forth and back."""
        chunk = slice(start, start + self._together)
        recorded, self._ahead = self._ahead or self._recorded(chunk), None
        if self._plain is self.model:
            self._hold(recorded.scores, self.scores[chunk])
        return recorded.back(self.targets[chunk], self.quantity)

    @property
    def _plain(self) -> ExplainableModel:
        """The model without test-time augmentation: what its network says."""
        plain: ExplainableModel = getattr(self.model, "plain", self.model)
        return plain

    def _check(self) -> None:
        """Hold the graph against the package, once, by a drawn image and the first of the question."""
        from vitrail.explanation.graph import INPUT, LOGITS

        graph = self.graph
        if graph.agrees:
            return
        drawn = np.random.default_rng(0).integers(0, 256, (1, *self.pixels.shape[1:]), dtype=np.uint8)
        images = np.concatenate([drawn, self.pixels[:1]])
        expected = self._plain.scores(images)
        self._hold(graph.run({INPUT: graph.scaled(images)})[LOGITS].double().softmax(dim=1).numpy(), expected)
        graph.agrees = bool(np.isfinite(expected).all())

    def _hold(self, found: Scores, expected: Scores) -> None:
        """Compare scores: what is explained must be what answers. Scores that are not finite are told elsewhere."""
        difference = float(np.abs(found - expected).max())
        if np.isfinite(expected).all() and not difference <= SAME_ANSWER:
            raise PackageError(
                f"{self.model.name}: its network, rebuilt for gradients, gives other scores than the package (difference "
                f"{difference:.4f}, allowed {SAME_ANSWER}). Use a method that needs nothing but scores, such as occlusion."
            )


# ---------------------------------------------------------------------------------------------------- what a model has


def gradient_refusal(model: ExplainableModel) -> str:
    """Return why a model has no gradient here, in a sentence; empty: it has one."""
    if model.network is None:
        return f"{model.name} has no network that ends in dense layers: trees and support vectors have no gradient."
    missing = [name for name in ("torch", "onnx") if importlib.util.find_spec(name) is None]
    if missing:
        return f"{' and '.join(missing)} must be installed for it: pip install 'vitrail[train]'."
    from vitrail.explanation.graph import UnknownOperator, network_graph

    try:
        network_graph(model.network)
    except UnknownOperator as error:
        return str(error)
    return ""


def layer_refusal(model: ExplainableModel) -> str:
    """Return why a model has no layer that lies on the image, with a gradient, in a sentence; empty: it has one."""
    if model.pooling != "none":
        return ""
    reason = gradient_refusal(model)
    if reason or model.network is None:
        return f"{model.name} has no feature maps. {reason}" if model.network is None else reason
    from vitrail.explanation.layers import network_layers

    if network_layers(model.network).default is None:
        return f"{model.name} has no feature maps: none of its layers lies on the image."
    return ""


def images_together(model: ExplainableModel, wants: Collection[Want]) -> int | None:
    """Return how many images' attention can be kept at a time, at least one; ``None``: as many as there are."""
    if not {"attention", "attention gradient"} & set(wants):
        return None
    from vitrail.explanation.layers import network_layers

    places = network_layers(network_of(model)).attentions
    numbers = sum(place.windows * place.heads * place.queries * place.keys for place in places)
    return max(1, ATTENTION_BYTES // (4 * max(1, numbers)))


def named_layer(model: ExplainableModel, name: str) -> Layer:
    """Return a layer of a model by name.

    Raises:
        UsageError: There is none of that name, or the model has no network with a gradient.
    """
    from vitrail.explanation.layers import network_layers

    reason = gradient_refusal(model)
    if reason:
        raise UsageError(f"{reason} Leave the layer out, or use occlusion.")
    return network_layers(network_of(model)).layer(name)


def network_of(model: ExplainableModel) -> NetworkParts:
    """Return the network of a model.

    Raises:
        UsageError: It has none.
    """
    if model.network is None:
        raise UsageError(f"{model.name} has no network that ends in dense layers. Use occlusion.")
    return model.network
