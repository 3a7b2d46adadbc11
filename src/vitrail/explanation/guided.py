"""The rule of guided backpropagation, chosen on the way back: one recorded pass forth serves it and the plain gradient."""

from __future__ import annotations

from torch import Tensor

from vitrail.explanation.graph import NetworkGraph
from vitrail.explanation.onnx_operators import OPERATORS, Node, Rule, Values, clip_limits

_OTHER_ACTIVATIONS = frozenset(
    ("Elu", "Erf", "Gelu", "HardSwish", "LeakyRelu", "Mish", "Selu", "Softplus", "Swish", "Tanh"),
)
"""Activations for which guided backpropagation has no definition; SiLU and the like, written as two operations, are found
apart.
"""


class WayBack:
    """What rectifiers do on the way back through a recorded pass: they ask when a gradient comes, so the rule can change from
    one way back to the next.

    Attributes:
        guided: Whether they let through only what is positive.
    """

    def __init__(self) -> None:
        self.guided = False

    def rules(self, graph: NetworkGraph) -> dict[str, Rule]:
        """Return what rectifiers do instead, by node, in a run whose gradients are to be guided."""
        return dict.fromkeys(rectifiers(graph), self._rectify)

    def _rectify(self, node: Node, values: Values) -> Tensor:
        rectified = OPERATORS[node.operator](node, values)
        if not isinstance(rectified, Tensor):
            raise TypeError(f"{node.name}: {node.operator} must give one value")
        if rectified.requires_grad:
            rectified.register_hook(self._pass_back)  # type: ignore[no-untyped-call]
        return rectified

    def _pass_back(self, gradient: Tensor) -> Tensor:
        return gradient.clamp(min=0) if self.guided else gradient


def rectifiers(graph: NetworkGraph) -> tuple[str, ...]:
    """Return the names of the nodes that are ReLU or ReLU6."""
    return tuple(node.name for node in graph.nodes if _is_rectifier(graph, node))


def _is_rectifier(graph: NetworkGraph, node: Node) -> bool:
    if node.operator == "Clip":
        limits = clip_limits(node, [None, *[graph.constant(name) if name else None for name in node.inputs[1:]]])
        return limits in ((0, None), (0, 6))
    return node.operator == "Relu"


def other_activations(graph: NetworkGraph) -> tuple[str, ...]:
    """Return the names, for people, of the activations for which there is no rule, in alphabetical order."""
    return tuple(sorted({name for node in graph.nodes if (name := _other_activation(graph, node))}))


def _other_activation(graph: NetworkGraph, node: Node) -> str:
    """Return the name of an activation that is no ReLU; empty: the node is none."""
    if node.operator in _OTHER_ACTIVATIONS:
        return {"Erf": "GELU", "Gelu": "GELU", "Swish": "SiLU"}.get(node.operator, node.operator)
    if node.operator == "Mul":  # x sigmoid(x); a sigmoid of something else is a gate, which weighs channels and stays as it is
        for name, other in (node.inputs, node.inputs[::-1]):
            gate = graph.maker(name)
            if gate is not None and gate.operator in ("Sigmoid", "HardSigmoid") and gate.inputs[0] == other:
                return "SiLU" if gate.operator == "Sigmoid" else "HardSwish"
    if node.operator == "Sigmoid" and node.name.startswith("head."):
        return "sigmoid"
    return ""
