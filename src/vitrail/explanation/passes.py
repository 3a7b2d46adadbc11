"""What several methods share: one forward pass and one backward pass of the images, for all that they want.

Where only the last feature maps are wanted, nothing is differentiated but the head, in closed form and without torch. Where more
is wanted, the network's graph runs once, and one call of autograd gives the gradients at the input, at a layer and at the
attention. Guided backpropagation goes back through the same recorded pass a second time.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from vitrail.errors import PackageError, UsageError
from vitrail.explanation.closed_form import has_closed_form, last_maps_and_gradient, maps_and_vector
from vitrail.explanation.explainer import ExplainableModel, Scores, Want
from vitrail.records import ByteArray, FloatArray, IntArray, NetworkParts, Quantity

if TYPE_CHECKING:
    from torch import Tensor

    from vitrail.explanation.graph import NetworkGraph
    from vitrail.explanation.layers import AttentionPlace, Layer, Layers

Precise = npt.NDArray[np.float64]

LAST_MAPS = "last feature maps"
"""What a result calls the layer where the closed form was used."""
ATTENTION_BYTES = 200_000_000
"""Attention that is kept at a time: of more images than that, some are explained after the others."""
SAME_ANSWER = 1e-3
"""Largest difference of a score between the package and its graph."""


class SharedPasses:
    """The shared passes of some images; see :class:`~vitrail.explanation.explainer.Passes`. Nothing is computed before it is
    asked for.

    Args:
        model: Whose answers are explained.
        pixels: uint8, shape (n, size, size, channels).
        targets: Class per image.
        scores: The package's scores, shape (n, classes).
        quantity: What is differentiated.
        wants: What the methods will ask for.
        layer: Layer by name; empty: the default.
        last: Last feature maps (n, C, h, w) and embeddings (n, D), where they came with the scores.
    """

    def __init__(
        self,
        model: ExplainableModel,
        pixels: ByteArray,
        targets: IntArray,
        scores: Scores,
        *,
        quantity: Quantity = "logit",
        wants: Collection[Want] = (),
        layer: str = "",
        last: tuple[FloatArray, FloatArray] | None = None,
    ) -> None:
        self.model = model
        self.pixels = pixels
        self.targets = targets
        self.scores = scores
        self.quantity = quantity
        self.wants = frozenset(wants)
        self.named = layer
        self.last = last

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
        if self.closed_form:
            _ = self._closed
        elif self.wants:
            _ = self._found

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
                found=None if self.last is None else (self.last[0][image], self.last[1][image]),
            )
            for image, target in enumerate(self.targets)
        ]
        maps, gradients = (np.stack([pair[place] for pair in pairs]) for place in (0, 1))
        return maps, gradients

    @cached_property
    def _found(self) -> _Found:
        together = self.graph.images_per_pass if len(self.pixels) > 1 else 1
        parts = [self._chunk(start, together) for start in range(0, len(self.pixels), together)]
        if len(parts) == 1:
            return parts[0]

        attentions = zip(*(part.attentions for part in parts), strict=True)
        speaking = zip(*(part.speaking_attentions for part in parts), strict=True)
        return _Found(
            input_gradient=np.concatenate([part.input_gradient for part in parts]),
            guided_gradient=np.concatenate([part.guided_gradient for part in parts]),
            maps=np.concatenate([part.maps for part in parts]),
            map_gradient=np.concatenate([part.map_gradient for part in parts]),
            attentions=tuple(np.concatenate(of_place) for of_place in attentions),
            speaking_attentions=tuple(np.concatenate(of_place) for of_place in speaking),
            token_norms=np.concatenate([part.token_norms for part in parts]),
        )

    def _chunk(self, start: int, images: int) -> _Found:
        """Send some images forth and back once, and back once more where a guided gradient is wanted."""
        import torch

        from vitrail.explanation.graph import INPUT, LOGITS, explained
        from vitrail.explanation.guided import WayBack

        chunk = slice(start, start + images)
        inputs = self.graph.scaled(self.pixels[chunk])
        of_layer = [self.layer.value] if self.wants & {"feature maps", "feature map gradient"} else []
        attending = bool(self.wants & {"attention", "attention gradient"})
        of_attention = [place.softmax for place in self.places] if attending else []
        of_gradient = of_attention if "attention gradient" in self.wants else []
        stream = self._layers.stream if attending else None
        of_input, guided = "input gradient" in self.wants, "guided gradient" in self.wants
        of_map_gradient = of_layer if "feature map gradient" in self.wants else []
        leaves = (*of_map_gradient, *of_gradient)
        plain = [name for name in (*of_layer, *of_attention, *([] if stream is None else [stream.value])) if name not in leaves]
        way = WayBack()
        rules = way.rules(self.graph) if guided else None
        values = self.graph.run({INPUT: inputs.requires_grad_(of_input or guided)}, (LOGITS, *plain), leaves=leaves, rules=rules)
        logits = values[LOGITS]
        if start == 0:
            self._check(logits[:1])
        values[INPUT] = inputs
        total = explained(logits, self.targets[chunk], self.quantity).sum()
        wanted = [*([INPUT] if of_input else []), *of_map_gradient]
        gradients, speaking = _sent_back(total, values, wanted, of_gradient, again=guided)
        nothing = np.zeros((len(inputs), 0), dtype=np.float32)
        input_gradient = gradients[INPUT].numpy() if of_input else nothing
        way.guided = True
        guided_gradient = torch.autograd.grad(total, inputs)[0].numpy() if guided else nothing
        maps = map_gradient = nothing
        if of_layer:
            value, layout = values[of_layer[0]], self.layer.layout
            maps = layout.maps(value.detach()).numpy()
            map_gradient = layout.maps(gradients[of_layer[0]]).numpy() if of_map_gradient else nothing
        norms = nothing if stream is None else stream.layout.maps(values[stream.value].detach()).norm(dim=1).flatten(1).numpy()
        return _Found(
            input_gradient,
            guided_gradient,
            maps,
            map_gradient,
            tuple(values[name].detach().numpy() for name in of_attention),
            tuple(speaking[name] for name in of_gradient),
            norms,
        )

    def _check(self, logits: Tensor) -> None:
        """Hold the graph against the package: what is explained must be what answers."""
        plain = getattr(self.model, "plain", self.model)
        expected = self.scores[:1] if plain is self.model else plain.scores(self.pixels[:1])
        self.graph.parts.make_room()
        difference = float(np.abs(logits.detach().double().softmax(dim=1).numpy() - expected).max())
        if not difference <= SAME_ANSWER:
            raise PackageError(
                f"{self.model.name}: its network, rebuilt for gradients, gives other scores than the package (difference "
                f"{difference:.4f}, allowed {SAME_ANSWER}). Use a method that needs nothing but scores, such as occlusion."
            )


def _sent_back(
    total: Tensor, values: dict[str, Tensor], wanted: Sequence[str], attentions: Sequence[str], *, again: bool
) -> tuple[dict[str, Tensor], dict[str, Precise]]:
    """Return gradients by the name of a value, and what of attention raises the total.

    Gradients at the attention are as large as the attention itself: each is let go as soon as it was used.

    Args:
        total: What is differentiated.
        values: Recorded values by name.
        wanted: Values whose gradients are returned.
        attentions: Values of which it is returned how far they raise the total.
        again: Whether the recorded pass will be needed once more.
    """
    import torch

    gradients = {name: torch.zeros_like(values[name]) for name in wanted}
    speaking = {name: np.zeros((len(values[name]), *values[name].shape[2:])) for name in attentions}

    def note(name: str, gradient: Tensor) -> None:
        speaking[name] = speaking_attention(values[name].detach().numpy(), gradient.numpy())

    hooks = [values[name].register_hook(partial(note, name)) for name in attentions]  # type: ignore[no-untyped-call]
    # On the way to where the recording begins, everything recorded is passed.
    begins = [name for name, value in values.items() if attentions and value.is_leaf and value.requires_grad]
    sources = dict.fromkeys((*wanted, *begins))
    if sources:
        found = torch.autograd.grad(total, [values[name] for name in sources], allow_unused=True, retain_graph=again)
        gradients |= {name: one for name, one in zip(sources, found, strict=True) if one is not None}
    for hook in hooks:
        hook.remove()
    return gradients, speaking


def speaking_attention(attention: FloatArray, gradient: FloatArray) -> Precise:
    """Return ``E = mean over heads of max(0, A * dy/dA)``, (n, tokens, tokens), from both of shape (n, heads, tokens, tokens)."""
    total = np.zeros((len(attention), *attention.shape[2:]))
    for head in range(attention.shape[1]):  # head by head: the product of all of them is as large as the attention itself
        total += np.maximum(attention[:, head] * gradient[:, head], 0)
    return np.asarray(total / attention.shape[1])


@dataclass(frozen=True)
class _Found:
    input_gradient: FloatArray
    guided_gradient: FloatArray
    maps: FloatArray
    map_gradient: FloatArray
    attentions: tuple[FloatArray, ...]
    speaking_attentions: tuple[Precise, ...]
    token_norms: FloatArray


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
