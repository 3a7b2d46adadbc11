"""One pass through a network's graph, recorded on its way forth, and what is found on its way back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vitrail.explanation.explainer import Scores, Want
from vitrail.explanation.graph import INPUT, LOGITS, explained
from vitrail.explanation.guided import WayBack
from vitrail.explanation.layers import Layers
from vitrail.records import ByteArray, FloatArray, IntArray, Quantity

Precise = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """What a pass forth and back gives; what was not wanted is empty.

    Attributes:
        input_gradient: Gradient at the scaled input, (n, channels, size, size).
        guided_gradient: The same by the rule of guided backpropagation.
        maps: The layer's activations, (n, C, h, w).
        map_gradient: Gradient there.
        attentions: Per place: what it attends to, (n windows, heads, queries, keys).
        speaking_attentions: Per place: how far that raises what is explained, (n windows, queries, keys).
        token_norms: Length of every image token's vector before the last attention, (n, tokens).
    """

    input_gradient: FloatArray
    guided_gradient: FloatArray
    maps: FloatArray
    map_gradient: FloatArray
    attentions: tuple[FloatArray, ...]
    speaking_attentions: tuple[Precise, ...]
    token_norms: FloatArray


class RecordedPass:
    """Some images, sent forth once: their scores are known, the way back is open.

    Args:
        layers: The network.
        wants: What is asked for.
        layer: Layer by name; empty: the default.
        pixels: The images, uint8 (n, size, size, channels).
        begin: Values by name from which the network can go on, the layer's among them, (n, ...); ``None``: at the input.
    """

    def __init__(
        self,
        layers: Layers,
        wants: Collection[Want],
        layer: str,
        *,
        pixels: ByteArray,
        begin: Mapping[str, FloatArray] | None = None,
    ) -> None:
        wants = frozenset(wants)
        attending = bool(wants & {"attention", "attention gradient"})
        self._layer = layers.layer(layer) if wants & {"feature maps", "feature map gradient"} else None
        self._stream = layers.stream if attending else None
        self._of_attention = [place.softmax for place in layers.attentions] if attending else []
        self._of_gradient = self._of_attention if "attention gradient" in wants else []
        self._of_input, self._guided = "input gradient" in wants, "guided gradient" in wants
        of_layer = [self._layer.value] if self._layer is not None else []
        self._of_map_gradient = of_layer if "feature map gradient" in wants else []
        leaves = (*self._of_map_gradient, *self._of_gradient)
        others = (*of_layer, *self._of_attention, *([] if self._stream is None else [self._stream.value]))
        if begin is None:
            feeds = {INPUT: layers.graph.scaled(pixels).requires_grad_(self._of_input or self._guided)}
        else:
            feeds = {name: torch.from_numpy(value).requires_grad_(name in leaves) for name, value in begin.items()}
        self._way = WayBack()
        rules = self._way.rules(layers.graph) if self._guided else layers.one_token if begin is not None else None
        plain = [name for name in others if name not in leaves]
        self._values = feeds | layers.graph.run(feeds, (LOGITS, *plain), leaves=leaves, rules=rules)

    @property
    def scores(self) -> Scores:
        """Scores, shape (n, classes)."""
        return np.asarray(self._values[LOGITS].detach().double().softmax(dim=1).numpy())

    def back(self, targets: IntArray, quantity: Quantity) -> Found:
        """Send them back once, and once more where a guided gradient is wanted. What was recorded is gone after that.

        Args:
            targets: The class of each image.
            quantity: What is differentiated.
        """
        values = self._values
        total = explained(values[LOGITS], targets, quantity).sum()
        wanted = [*([INPUT] if self._of_input else []), *self._of_map_gradient]
        gradients, speaking = _sent_back(total, values, wanted, self._of_gradient, again=self._guided)
        nothing = np.zeros((len(targets), 0), dtype=np.float32)
        self._way.guided = True
        guided_gradient = torch.autograd.grad(total, values[INPUT])[0].numpy() if self._guided else nothing
        maps = map_gradient = norms = nothing
        if self._layer is not None:
            name, layout = self._layer.value, self._layer.layout
            maps = layout.maps(values[name].detach()).numpy()
            map_gradient = layout.maps(gradients[name]).numpy() if self._of_map_gradient else nothing
        if self._stream is not None:
            norms = self._stream.layout.maps(values[self._stream.value].detach()).norm(dim=1).flatten(1).numpy()
        return Found(
            gradients[INPUT].numpy() if self._of_input else nothing,
            guided_gradient,
            maps,
            map_gradient,
            tuple(values[name].detach().numpy() for name in self._of_attention),
            tuple(speaking[name] for name in self._of_gradient),
            norms,
        )


def joined(parts: Sequence[Found]) -> Found:
    """Return what was found of images one after the other as if they had gone together."""
    if len(parts) == 1:
        return parts[0]
    attentions = zip(*(part.attentions for part in parts), strict=True)
    speaking = zip(*(part.speaking_attentions for part in parts), strict=True)
    return Found(
        input_gradient=np.concatenate([part.input_gradient for part in parts]),
        guided_gradient=np.concatenate([part.guided_gradient for part in parts]),
        maps=np.concatenate([part.maps for part in parts]),
        map_gradient=np.concatenate([part.map_gradient for part in parts]),
        attentions=tuple(np.concatenate(of_place) for of_place in attentions),
        speaking_attentions=tuple(np.concatenate(of_place) for of_place in speaking),
        token_norms=np.concatenate([part.token_norms for part in parts]),
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
