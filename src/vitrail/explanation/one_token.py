"""Where one token is read: nothing is computed of the others from the last attention on.

A transformer whose head reads the class token computes, after its last attention, every token's way through the rest of the
block and then drops all but one. Forth and back, that is most of the work after the layer at which class activation maps look.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from torch import Tensor

from vitrail.explanation.graph import NetworkGraph
from vitrail.explanation.onnx_operators import OPERATORS, Node, Rule, Values

_BY_ITSELF = frozenset(("Cast", "Clip", "Dropout", "Elu", "Erf", "Gelu", "HardSwish", "Identity", "LeakyRelu", "Mish", "Neg",
                        "Relu", "Selu", "Sigmoid", "Softplus", "Swish", "Tanh"))  # fmt: skip
_MIXING = frozenset(("Add", "Sub", "Mul", "Div"))


def one_token_rules(graph: NetworkGraph, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Rule]:
    """Return what nodes do instead, by name, so that of what is read of one token alone only that token is computed.

    Values keep all tokens up to where the first of these nodes takes its one, so that gradients there have their full shape.

    Args:
        graph: The network.
        shapes: Shape of every value.
    """
    takers: dict[str, list[str]] = defaultdict(list)
    for node in graph.nodes:
        for name in node.inputs:
            takers[name].append(node.name)
    rules: dict[str, Rule] = {}
    for reader in graph.nodes:
        token = _token_read(reader, graph, shapes)
        if token is None:
            continue
        value = reader.inputs[0]
        tokens, alone, asked = shapes[value][1], {reader.name}, {value}
        for node in reversed(graph.nodes):
            made = node.outputs[0]
            if made in asked and alone.issuperset(takers[made]) and _token_by_token(node, graph, shapes):
                alone.add(node.name)
                asked.update(name for name in node.inputs if shapes.get(name) and shapes[name][:2] == shapes[made][:2])
        if len(alone) > 1:
            rules |= dict.fromkeys(alone, _of_one(token, tokens))
            rules[reader.name] = _the_only
    return rules


def _token_read(node: Node, graph: NetworkGraph, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Return which token a node reads, where it reads one of several."""
    if node.operator != "Gather" or len(shapes.get(node.inputs[0], ())) != 3 or node.attributes.get("axis", 0) not in (1, -2):
        return None
    place, tokens = graph.constant(node.inputs[1]), shapes[node.inputs[0]][1]
    return int(place) % tokens if place is not None and place.ndim == 0 and tokens > 1 else None


def _token_by_token(node: Node, graph: NetworkGraph, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Return whether a node's answer for a token depends on that token of its inputs alone."""
    if node.operator in _BY_ITSELF:
        return True
    if node.operator == "LayerNormalization":
        return node.attributes.get("axis", -1) in (-1, 2)
    constants = [graph.constant(name) for name in node.inputs]
    if node.operator == "MatMul":
        return constants[1] is not None and constants[1].ndim == 2
    made = shapes[node.outputs[0]]
    return node.operator in _MIXING and all(
        constant.ndim < 2 if constant is not None else shapes[name] == made
        for name, constant in zip(node.inputs, constants, strict=True)
    )


def _of_one(token: int, tokens: int) -> Rule:
    def rule(node: Node, inputs: Values) -> Tensor | tuple[Tensor, ...]:
        def chosen(value: Tensor | None) -> Tensor | None:
            has_all = value is not None and value.ndim == 3 and value.shape[1] == tokens
            return value[:, token : token + 1] if value is not None and has_all else value

        return OPERATORS[node.operator](node, [chosen(value) for value in inputs])

    return rule


def _the_only(node: Node, inputs: Values) -> Tensor:
    value = inputs[0]
    if value is None:
        raise TypeError(f"{node.name}: nothing is read")
    return value[:, 0]
