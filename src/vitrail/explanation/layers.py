"""Where the values of a network lie on the image: feature maps, tokens, attention. What a person can name with ``--layer``.

The layout of a value follows from that of the values it is made of: a convolution keeps maps, a flattening makes tokens of them,
a class token put before them is a prefix. What cannot be followed has no layout, and is not offered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial

import torch
from torch import Tensor

from vitrail.errors import UsageError
from vitrail.explanation.graph import ACTIVATIONS, INPUT, LOGITS, NetworkGraph, network_graph
from vitrail.explanation.layout import Layout, reshaped, turned
from vitrail.explanation.onnx_operators import OPERATORS, Node, Rule
from vitrail.records import NetworkParts

_PROBE_IMAGES = 2
# fmt: off
_KEEPING = frozenset((
    "Abs", "BatchNormalization", "Cast", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu", "GroupNormalization",
    "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Mish", "Neg",
    "Pow", "Relu", "Selu", "Sigmoid", "Softplus", "Sqrt", "Swish", "Tanh",
))
# fmt: on
"""Operators that work place by place, or on maps as a whole."""
_MIXING = frozenset(("Add", "Sub", "Mul", "Div", "Where", "Max", "Min", "Sum"))


@dataclass(frozen=True)
class Layer:
    """A layer that a person can choose.

    Attributes:
        name: For people: the path of the module, then the operation, for example ``blocks.6.conv_pwl.Conv``.
        value: Name of the value in the graph.
        channels: C.
        layout: Where its places lie.
    """

    name: str
    value: str
    channels: int
    layout: Layout

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        return self.channels, self.layout.rows, self.layout.columns


@dataclass(frozen=True)
class AttentionPlace:
    """Where a network attends: softmax(query key^T scale + mask), then times the values.

    Attributes:
        name: For people, for example ``blocks.0.attn``.
        softmax: Value of the attention, (n, heads, queries, keys).
        scores: What the softmax is taken of.
        product: Value of attention times values.
        values: What it is multiplied with, (n, heads, keys, dimension).
        heads: Number of heads.
        queries: Tokens that look.
        keys: Tokens that are looked at.
        windows: Parts of the image that attend apart, per image; 1: every token can look at all others.
        layout: Where the keys lie on the image; ``None`` where it cannot be said (windows).
    """

    name: str
    softmax: str
    scores: str
    product: str
    values: str
    heads: int
    queries: int
    keys: int
    windows: int
    layout: Layout | None


class Layers:
    """What the values of a graph are, found by sending two images of noise through it, and one of them back.

    Args:
        graph: The network.
    """

    def __init__(self, graph: NetworkGraph) -> None:
        self.graph = graph

    @cached_property
    def _probe(self) -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[Tensor, ...]]]:
        """Return the shape of every value; and of those on which the logits depend, per axis after the first, at which places
        they do. Only that is kept, and each value is let go as soon as it was used: together they fill much memory.
        """
        recipe = self.graph.parts.recipe
        noise = torch.rand(_PROBE_IMAGES, recipe.channels, recipe.size, recipe.size, generator=torch.Generator().manual_seed(0))
        shapes: dict[str, tuple[int, ...]] = {INPUT: tuple(noise.shape)}
        reached: dict[str, tuple[Tensor, ...]] = {}

        def noting(name: str, gradient: Tensor) -> None:
            reached[name] = _places(gradient)

        def watched(node: Node, inputs: Sequence[Tensor | None]) -> Tensor | tuple[Tensor, ...]:
            answer = OPERATORS[node.operator](node, inputs)
            for name, value in zip(node.outputs, answer if isinstance(answer, tuple) else (answer,), strict=False):
                shapes.setdefault(name, tuple(value.shape))
                if value.requires_grad and name != LOGITS and value.ndim > 2:
                    value.register_hook(partial(noting, name))  # type: ignore[no-untyped-call]
            return answer

        rules: dict[str, Rule] = {node.name: watched for node in self.graph.nodes}
        taken = {name for node in self.graph.nodes for name in node.inputs}
        ends = [name for name in self.graph.values if name not in taken]
        self.graph.run({INPUT: noise}, (LOGITS, *ends), rules=rules)  # shapes show by two images what belongs to an image
        one = noise[:1].requires_grad_()
        logits = self.graph.run({INPUT: one}, rules=rules)[LOGITS]  # of one, as what is recorded of many fills memory
        weighting = torch.linspace(-1, 1, logits.shape[1]) + 0.1
        if logits.requires_grad:
            torch.autograd.grad((logits * weighting).sum(), one, allow_unused=True)
        return shapes, reached

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """The layout of every value that has one."""
        shapes, _ = self._probe
        size = self.graph.parts.recipe.size
        found: dict[str, Layout] = {INPUT: Layout("maps", size, size)}
        for node in self.graph.nodes:
            layout = self._follow(node, found, shapes)
            if layout is not None:
                found[node.outputs[0]] = layout
        return found

    def _shape(self, name: str, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
        constant = self.graph.constant(name)
        return shapes.get(name, ()) if constant is None else tuple(constant.shape)

    def _follow(self, node: Node, known: dict[str, Layout], shapes: dict[str, tuple[int, ...]]) -> Layout | None:
        """Return the layout of a node's first output, from those of its inputs."""
        output = shapes[node.outputs[0]]
        layout = known.get(node.inputs[0]) if node.inputs else None
        before = self._shape(node.inputs[0], shapes) if node.inputs else ()
        if node.operator in ("Conv", "MaxPool", "AveragePool") or (node.operator == "Pad" and output[1:2] == before[1:2]):
            # Padding comes before a convolution that takes it off again.
            followed = (
                Layout("maps", *output[2:]) if layout is not None and layout.kind == "maps" and len(output) == 4 else layout
            )
        elif node.operator in _KEEPING:
            followed = layout
        elif node.operator == "MatMul":
            square = self.graph.constant(node.inputs[1])
            followed = layout if layout and square is not None and layout.kind in ("maps last", "tokens") else None
        elif node.operator in _MIXING:
            fitting = (known[name] for name in node.inputs if name in known and shapes[name] == output)
            followed = next(fitting, None)
        elif node.operator == "Concat":
            followed = self._joined(node, known, shapes)
        elif node.operator == "Transpose" and layout is not None:
            followed = turned(layout, tuple(node.attributes.get("perm", ())))
        elif node.operator in ("Reshape", "Flatten", "Slice", "Pad") and layout is not None:
            followed = reshaped(layout, before, output, cut=self._cut(node))
        else:
            followed = None
        if followed is not None and followed.fits(output, _PROBE_IMAGES):
            return followed
        return self._supposed(node, output) if self._is_stream(node) else None

    def _supposed(self, node: Node, shape: tuple[int, ...]) -> Layout | None:
        """Return the layout of what ends a block where it could not be followed (windows, merged patches): a square grid whose
        side divides that of the image; ``None`` where it is none.
        """
        size = self.graph.parts.recipe.size
        if len(shape) == 4 and shape[0] == _PROBE_IMAGES and node.operator == "LayerNormalization":
            side, layout = shape[1], Layout("maps last", shape[1], shape[2])
        elif len(shape) == 3 and shape[0] == _PROBE_IMAGES:
            side = math.isqrt(shape[1])
            layout = Layout("tokens", side, side)
        else:
            return None
        return (
            layout
            if 1 < side < size and size % side == 0 and layout.fits(shape, _PROBE_IMAGES) and layout.rows == layout.columns
            else None
        )

    def _cut(self, node: Node) -> tuple[int, int] | None:
        """Return the axis and the first place of a ``Slice`` along one axis with step 1."""
        if node.operator != "Slice":
            return None
        starts, axes = (self.graph.constant(node.inputs[place]) if len(node.inputs) > place else None for place in (1, 3))
        if starts is None or axes is None or starts.numel() != 1:
            return None
        return int(axes.reshape(-1)[0]), int(starts.reshape(-1)[0])

    def _joined(self, node: Node, known: dict[str, Layout], shapes: dict[str, tuple[int, ...]]) -> Layout | None:
        """Return the layout of a concatenation: along the channels, or of tokens with others before and after them."""
        axis, output = node.attributes["axis"] % len(shapes[node.outputs[0]] or (1,)), shapes[node.outputs[0]]
        with_layout = [name for name in node.inputs if name in known]
        if not with_layout:
            return None
        layout = known[with_layout[0]]
        if (
            axis == layout.channel_axis
            and len(with_layout) == len(node.inputs)
            and all(known[name] == layout for name in with_layout)
        ):
            return layout
        if layout.kind == "tokens" and axis == 1 and len(with_layout) == 1 and len(output) == 3:
            place = node.inputs.index(with_layout[0])
            sizes = [self._shape(name, shapes)[1] for name in node.inputs]
            return replace(layout, prefix=layout.prefix + sum(sizes[:place]), suffix=layout.suffix + sum(sizes[place + 1 :]))
        return None

    def is_of_images(self, value: str) -> bool:
        """Return whether the first axis of a value is the images': no size, and nothing that lies in windows."""
        shape = self._probe[0].get(value, ())
        return len(shape) > 1 and shape[0] == _PROBE_IMAGES

    @cached_property
    def one_token(self) -> dict[str, Rule]:
        """What nodes do instead so that nothing is computed of tokens that nobody reads; see
        :func:`~vitrail.explanation.one_token.one_token_rules`.
        """
        from vitrail.explanation.one_token import one_token_rules

        return one_token_rules(self.graph, self._probe[0])

    # ---------------------------------------------------------------- for people

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """All layers that lie on the image and on which the logits depend, from the input to the logits."""
        shapes, reached = self._probe
        found: list[Layer] = []
        names: set[str] = set()
        for node in self.graph.nodes:
            value = node.outputs[0]
            layout = self.layouts.get(value)
            if layout is None or value not in reached or layout.rows * layout.columns < 2 or node.operator == "Pad":
                continue
            name = value if value == ACTIVATIONS else _friendly(value)
            if name in names:
                name = f"{name}:{len(names)}"
            names.add(name)
            channels = shapes[value][layout.channel_axis]
            found.append(Layer(name, value, channels, layout))
        return tuple(found)

    @cached_property
    def default(self) -> Layer | None:
        """The layer that class activation maps use: the last on whose places the logits depend; ``None``: there is none.

        Of convolutional networks that is what is pooled. Of transformers it is a normalisation, or the sum at the end of a
        block: where a class token is read, the last one whose image tokens still reach it (the normalisation before the last
            attention).
        """
        _, reached = self._probe
        for layer in reversed(self.layers):
            node = self.graph.maker(layer.value)
            if layer.layout.kind != "maps" and not self._is_stream(node):
                continue
            if layer.layout.reached(reached[layer.value]):
                return layer
        return None

    def _is_stream(self, node: Node | None) -> bool:
        """Return whether a node ends a block: a normalisation, or the sum of a shortcut and what it goes round."""
        if node is None:
            return False
        if node.operator == "LayerNormalization":
            return True
        return node.operator == "Add" and all(self.graph.constant(name) is None for name in node.inputs)

    def layer(self, name: str) -> Layer:
        """Return a layer by its name; the name of a module means the last layer in it; empty: the default.

        Raises:
            UsageError: There is none of that name, or none at all.
        """
        if not name:
            if self.default is None:
                raise UsageError("layer: the network has none whose places lie on the image. Use a method without layers.")
            return self.default
        for layer in self.layers:
            if name in (layer.name, layer.value):
                return layer
        within = [layer for layer in self.layers if layer.name.startswith(f"{name}.")]
        if within:
            return within[-1]
        modules = list(dict.fromkeys(layer.name.rpartition(".")[0] or layer.name for layer in self.layers))
        raise UsageError(f"layer: must be one of {', '.join(modules[-30:])}, or a part of such a name. Found: {name!r}.")

    @cached_property
    def attentions(self) -> tuple[AttentionPlace, ...]:
        """Every attention: MatMul, then at most scale, bias and mask, Softmax, MatMul; from the input to the logits."""
        shapes, _ = self._probe
        users: dict[str, list[Node]] = {}
        for node in self.graph.nodes:
            for name in node.inputs:
                users.setdefault(name, []).append(node)
        found = []
        last: Layout | None = None
        for node in self.graph.nodes:
            layout = self.layouts.get(node.outputs[0])
            last = layout if layout is not None and layout.kind in ("tokens", "maps last") else last
            shape = shapes[node.outputs[0]]
            if node.operator != "Softmax" or len(shape) != 4 or not self._is_product(node.inputs[0]):
                continue
            value = node.outputs[0]
            while len(users[value]) == 1 and users[value][0].operator in ("Identity", "Dropout", "Cast"):
                value = users[value][0].outputs[0]
            after = [user for user in users[value] if user.operator == "MatMul" and user.inputs[0] == value]
            if not after:
                continue
            windows = shape[0] // _PROBE_IMAGES
            found.append(
                AttentionPlace(
                    name=_friendly(node.outputs[0]).removesuffix(".Softmax").removesuffix(".softmax"),
                    softmax=node.outputs[0],
                    scores=node.inputs[0],
                    product=after[0].outputs[0],
                    values=after[0].inputs[1],
                    heads=shape[1],
                    queries=shape[2],
                    keys=shape[3],
                    windows=windows,
                    layout=last if last is not None and windows == 1 and last.tokens == shape[3] else None,
                )
            )
        return tuple(found)

    @cached_property
    def stream(self) -> Layer | None:
        """The sum of a shortcut and what it goes round that the last attention over the whole image takes; ``None``: none."""
        places = [place for place in self.attentions if place.layout is not None]
        if not places:
            return None
        order = {name: number for number, name in enumerate(self.graph.values)}
        before = [
            layer
            for layer in self.layers
            if layer.layout == places[-1].layout
            and order[layer.value] < order[places[-1].softmax]
            and (node := self.graph.maker(layer.value)) is not None
            and node.operator == "Add"
            and self._is_stream(node)
        ]
        return before[-1] if before else None

    def read_queries(self, place: AttentionPlace) -> tuple[int, ...]:
        """Return the tokens whose sums of values at a place reach the logits: of the last place, those that the head reads."""
        _, reached = self._probe
        found = reached.get(place.product)
        return () if found is None else tuple(torch.nonzero(found[1]).reshape(-1).tolist())

    def _is_product(self, value: str) -> bool:
        """Return whether a value is a matrix product, with at most scale, bias, mask and changes of shape after it."""
        for _ in range(12):
            node = self.graph.maker(value)
            if node is None:
                return False
            if node.operator == "MatMul":
                return all(self.graph.constant(name) is None for name in node.inputs)
            if node.operator not in _MIXING | {"Reshape", "Unsqueeze", "Squeeze", "Identity", "Cast", "Clip"}:
                return False
            varying = [name for name in node.inputs if name and self.graph.constant(name) is None and self._depth(name)]
            value = max(varying, key=self._depth, default="")
        return False

    def _depth(self, value: str) -> int:
        """Return the dimensions of a value that the image shapes; 0 for shapes and scales."""
        shapes, reached = self._probe
        return len(shapes[value]) if value in reached else 0


def _places(gradient: Tensor) -> tuple[Tensor, ...]:
    """Return at which places of each axis after the first a gradient is not zero."""
    away = gradient != 0
    axes = range(1, gradient.ndim)
    return tuple(away.any(dim=0).amax(dim=[other - 1 for other in axes if other != axis]) for axis in axes)


@lru_cache(maxsize=2)
def network_layers(parts: NetworkParts) -> Layers:
    """Return the layers of a package's network, found once; see :func:`vitrail.explanation.graph.network_graph`."""
    return Layers(network_graph(parts))


def _friendly(value: str) -> str:
    """Return a value's name as the path of its module and the operation: ``/blocks/blocks.6/act/Relu_output_0`` ->
    ``blocks.6.act.Relu``.
    """
    parts = value.removesuffix("_output_0").strip("/").split("/")
    kept = [part for part, following in zip(parts, [*parts[1:], ""], strict=True) if not following.startswith(f"{part}.")]
    return ".".join(kept)
