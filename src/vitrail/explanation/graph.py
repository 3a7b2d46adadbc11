"""The packed network, rebuilt as torch operations: what is explained is what answers.

The ONNX trunk and the dense head become one list of nodes that is run here, node by node. So every value can be captured, a run
can begin at any value, weights can be replaced for one run, and the rule of a node can be replaced for one run. There are no
hooks, and nothing is ever changed in place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitrail.errors import PackageError
from vitrail.explanation.onnx_operators import OPERATORS, TYPES, Node, Rule, Values
from vitrail.preprocess import normalise
from vitrail.records import ByteArray, IntArray, NetworkParts, Quantity

INPUT, EMBEDDING, ACTIVATIONS, LOGITS = "pixels", "embedding", "activations", "logits"
"""Names of values: the scaled input, the vector, the last feature maps (where there are any), what the softmax takes."""

_HEAD_ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "gelu": "Gelu"}
MOST_TOGETHER = 4
"""Images sent forth and back at a time, at most: more are no faster on a CPU."""
RECORDED_BYTES = 2**29
"""Of what those images may leave behind on their way forth; one image may leave more."""


class UnknownOperator(PackageError):
    """The network has an operation that cannot be rebuilt."""


class NetworkGraph:
    """A packed network as a list of torch operations, in evaluation mode, float32, on the CPU.

    Args:
        parts: What the package holds.

    Attributes:
        parts: The same.
        nodes: The operations in the order in which they run: the trunk, then the dense layers of the head (``head.0``...).
        agrees: Whether its scores were found to be those of the package.

    Raises:
        UnknownOperator: The trunk has one that is not in ``OPERATORS``.
        PackageError: The trunk cannot be read.
    """

    def __init__(self, parts: NetworkParts) -> None:
        self.parts = parts
        self._constants: dict[str, Tensor] = {}
        self._learned: set[str] = set()
        self.nodes: tuple[Node, ...] = (*self._trunk(), *self._head())
        self._constants |= {name: _tensor(value) for name, value in parts.replaced.items()}
        for node in self.nodes:
            kernel = self._constants.get(node.inputs[1]) if node.operator == "Conv" else None
            if kernel is not None and kernel.ndim == 4:  # convolutions are faster where channels lie beside each other in memory
                self._constants[node.inputs[1]] = kernel.contiguous(memory_format=torch.channels_last)
        self._maker = {output: number for number, node in enumerate(self.nodes) for output in node.outputs}
        self._plans: dict[tuple[frozenset[str], tuple[str, ...]], tuple[int, ...]] = {}
        self._sizes: dict[tuple[int, ...], dict[str, Tensor]] = {}
        self.agrees = False

    # ---------------------------------------------------------------- reading

    def _trunk(self) -> Iterable[Node]:
        import onnx

        self.parts.make_room()
        try:
            graph = onnx.load(str(self.parts.trunk)).graph
        except Exception as error:  # onnx raises many kinds, all of them meaning: this file is no graph
            raise PackageError(f"{self.parts.trunk}: it cannot be read as ONNX ({error}). Make the package again.") from error
        learned = self._learned
        for initial in graph.initializer:
            self._constants[initial.name] = _tensor(onnx.numpy_helper.to_array(initial))
            learned.add(initial.name)
        nodes = []
        for number, proto in enumerate(graph.node):
            attributes = {one.name: _attribute(onnx.helper.get_attribute_value(one)) for one in proto.attribute}
            name = proto.name or f"{proto.op_type}_{number}"
            node = Node(name, proto.op_type, tuple(proto.input), tuple(output for output in proto.output if output), attributes)
            if node.operator == "Constant":
                self._constants[node.outputs[0]] = _constant(node, str(self.parts.trunk))
            elif node.operator not in OPERATORS:
                raise UnknownOperator(
                    f"{self.parts.trunk}: the operator {node.operator} (at {node.name}) is none that vitrail can differentiate. "
                    "Use a method that needs nothing but scores, such as occlusion."
                )
            elif node.operator == "Identity" and node.inputs[0] in learned:  # equal weights are stored once: here they are apart
                self._constants[node.outputs[0]] = self._constants[node.inputs[0]]
                learned.add(node.outputs[0])
            elif set(node.inputs) <= self._constants.keys() - learned:
                self._fold(node)
            else:
                nodes.append(node)
        return self._alive(nodes, [output.name for output in graph.output])

    def _fold(self, node: Node) -> None:
        """Compute now what depends on constants alone."""
        answer = OPERATORS[node.operator](node, [self._constants[name] for name in node.inputs])
        for name, value in zip(node.outputs, answer if isinstance(answer, tuple) else (answer,), strict=False):
            self._constants[name] = value

    @staticmethod
    def _alive(nodes: list[Node], outputs: list[str]) -> list[Node]:
        """Leave out what no output depends on."""
        needed, kept = set(outputs), []
        for node in reversed(nodes):
            if needed & set(node.outputs):
                needed |= set(node.inputs)
                kept.append(node)
        return kept[::-1]

    def _head(self) -> Iterable[Node]:
        value = EMBEDDING
        last = len(self.parts.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.parts.weights, self.parts.biases, strict=True)):
            names = f"head.{number}.weight", f"head.{number}.bias"
            self._constants |= {names[0]: _tensor(weight), names[1]: _tensor(bias)}
            self._learned.update(names)
            output = LOGITS if number == last else f"head.{number}"
            yield Node(f"head.{number}", "Gemm", (value, *names), (output,), {"transB": 1})
            value = output
            if number < last:
                kind = self.parts.activations[number]
                value = f"head.{number}.{kind}"
                yield Node(value, _HEAD_ACTIVATIONS[kind], (output,), (value,))

    # ---------------------------------------------------------------- what there is

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """The learned values by name, from the input to the logits: kernels, matrices, biases, scales, positions, tokens. Not to
        be changed.

        Learned is what the file holds as an initial value; constants of the calculation stand in it as nodes.
        """
        taken = dict.fromkeys(name for node in self.nodes for name in node.inputs if name in self._learned)
        values = {name: self._constants[name] for name in taken}
        return {name: value for name, value in values.items() if value.is_floating_point() and value.numel() > 1}

    @cached_property
    def values(self) -> tuple[str, ...]:
        """Names of all values that can be captured, in the order in which they are computed."""
        return tuple(output for node in self.nodes for output in node.outputs)

    @cached_property
    def images_per_pass(self) -> int:
        """How many images are sent forth and back at a time, so that what is recorded for the way back fits into memory."""
        recipe, total = self.parts.recipe, 0

        def weighed(node: Node, inputs: Values) -> Tensor | tuple[Tensor, ...]:
            nonlocal total
            answer = OPERATORS[node.operator](node, inputs)
            total += sum(value.nbytes for value in (answer if isinstance(answer, tuple) else (answer,)))
            return answer

        blank = torch.zeros(1, recipe.channels, recipe.size, recipe.size)
        self.run({INPUT: blank}, rules={node.name: weighed for node in self.nodes})
        return max(1, min(MOST_TOGETHER, RECORDED_BYTES // max(1, total)))

    def constant(self, name: str) -> Tensor | None:
        """Return a value that does not depend on the input; ``None`` where it does."""
        return self._constants.get(name)

    def maker(self, value: str) -> Node | None:
        """Return the node that computes a value; ``None`` for the input and for constants."""
        number = self._maker.get(value)
        return None if number is None else self.nodes[number]

    # ---------------------------------------------------------------- running

    def scaled(self, pixels: ByteArray) -> Tensor:
        """Return the network's input (n, channels, size, size) for prepared pixels, uint8 (n, size, size, channels)."""
        return torch.from_numpy(normalise(pixels, self.parts.recipe))

    def run(
        self,
        feeds: Mapping[str, Tensor],
        wanted: Sequence[str] = (LOGITS,),
        *,
        leaves: Collection[str] = (),
        weights: Mapping[str, Tensor] | None = None,
        rules: Mapping[str, Rule] | None = None,
    ) -> dict[str, Tensor]:
        """Compute values of the network.

        Torch records what is needed for gradients where a fed tensor requires one, or after a leaf. Without either, nothing is
        recorded.

        Args:
            feeds: Values to begin with, by name: the input, or any values on which what is wanted depends (see :meth:`cut`).
            wanted: Names of the values to return.
            leaves: Names of values with respect to which gradients will be taken; they are returned too. Where nothing before
                such a value requires a gradient, the recording begins there: the part of the network before it is not
                differentiated.
            weights: Name -> what to use instead, for this run.
            rules: Name of a node -> what it does instead, for this run.

        Raises:
            KeyError: A name is unknown, or what is wanted depends on the input and that is not fed.
        """
        self.parts.make_room()
        asked = tuple(dict.fromkeys((*wanted, *leaves)))
        whole = INPUT in feeds and not rules and not weights
        sizes = self._sizes.setdefault(tuple(feeds[INPUT].shape), {}) if whole else {}
        plan = self._plan(frozenset((*feeds, *sizes)), asked)
        values = {**sizes, **feeds}
        constants = self._constants if not weights else {**self._constants, **weights}
        last_use = {name: number for number in plan for name in self.nodes[number].inputs}
        kept = set(asked)
        for number in plan:
            node = self.nodes[number]
            inputs = [(values[name] if name in values else constants[name]) if name else None for name in node.inputs]
            rule = (rules or {}).get(node.name, OPERATORS[node.operator])
            try:
                answer = rule(node, inputs)
            except NotImplementedError as error:
                raise UnknownOperator(
                    f"{self.parts.trunk}: {node.operator} with {error} (at {node.name}) is not known."
                ) from error
            for name, value in zip(node.outputs, answer if isinstance(answer, tuple) else (answer,), strict=False):
                begins = name in leaves and not value.requires_grad
                values[name] = value.detach().requires_grad_() if begins else value
                if name in self._of_sizes:
                    sizes[name] = values[name]
            for name in set(node.inputs):
                if last_use[name] == number and name not in kept and name not in feeds:
                    values.pop(name, None)
        return {name: values[name] for name in asked}

    def _plan(self, fed: frozenset[str], asked: tuple[str, ...]) -> tuple[int, ...]:
        """Return the numbers of the nodes that must run."""
        plan = self._plans.get((fed, asked))
        if plan is not None:
            return plan
        needed, found = [name for name in asked if name not in fed], set[int]()
        while needed:
            name = needed.pop()
            number = self._maker.get(name)
            if number is None:
                raise KeyError(f"{name!r} is neither fed nor computed")
            if number not in found:
                found.add(number)
                inputs = self.nodes[number].inputs
                needed += [one for one in inputs if one and one not in fed and one not in self._constants]
        plan = tuple(sorted(found))
        self._plans[(fed, asked)] = plan
        return plan

    @cached_property
    def _of_sizes(self) -> frozenset[str]:
        """Names of values that depend on the shape of the input, and on nothing that it shows or that was learned: they are kept
        from run to run.
        """
        found: set[str] = set()
        for node in self.nodes:
            constant = (self._constants.get(name) for name in node.inputs if name and name not in found)
            if node.operator == "Shape" or all(one is not None and _is_setting(one) for one in constant):
                found.update(node.outputs)
        return frozenset(found)

    @cached_property
    def _of_input(self) -> frozenset[str]:
        """Names of values that depend on the input, be it on its shape alone."""
        found = {INPUT}
        for node in self.nodes:
            if found & set(node.inputs):
                found.update(node.outputs)
        return frozenset(found)

    def cut(self, value: str, wanted: str = LOGITS) -> tuple[str, ...]:
        """Return what must be fed beside a value to compute what is wanted without what lies before the value.

        These are values that the rest of the network takes and that depend on the input but not on ``value``: shortcuts past it.
        """
        after = {value}
        for node in self.nodes:
            if after & set(node.inputs):
                after |= set(node.outputs)
        needed, fringe = {wanted} & after, list[str]()
        for node in reversed(self.nodes):
            if needed & set(node.outputs) and value not in node.outputs:
                varying = [name for name in node.inputs if name and name not in self._constants]
                needed |= after.intersection(varying)
                fringe += [name for name in varying if name not in after and name in self._of_input]
        return tuple(dict.fromkeys(fringe))

    def share_after(self, values: Collection[str]) -> float:
        """Return which share of the operations is needed to get from some values to the logits, 0..1."""
        return len(self._plan(frozenset(values), (LOGITS,))) / len(self.nodes)


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    return torch.from_numpy(np.array(array))


def _is_setting(value: Tensor) -> bool:
    """Return whether a constant is a number or a list of whole numbers: part of the calculation of sizes."""
    return value.ndim == 0 or not value.is_floating_point()


def _attribute(value: Any) -> Any:
    """Return a setting of a node as plain Python, tensors as torch tensors."""
    if isinstance(value, bytes):
        return value.decode()
    if hasattr(value, "data_type") and hasattr(value, "dims"):
        import onnx

        return _tensor(onnx.numpy_helper.to_array(value))
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else value


def _constant(node: Node, file: str) -> Tensor:
    for name, value in node.attributes.items():
        if name == "value":
            return value  # type: ignore[no-any-return]
        if name in ("value_float", "value_floats"):
            return torch.tensor(value, dtype=TYPES[1])
        if name in ("value_int", "value_ints"):
            return torch.tensor(value, dtype=TYPES[7])
    raise UnknownOperator(f"{file}: a constant of the kind {', '.join(node.attributes)} (at {node.name}) is not known.")


def explained(logits: Tensor, targets: IntArray, quantity: Quantity) -> Tensor:
    """Return the quantity that is explained, shape (n,), for logits (n, classes) and the class of each image."""
    rows, chosen = torch.arange(len(logits)), torch.from_numpy(np.asarray(targets, dtype=np.int64))
    if quantity == "probability":
        return torch.softmax(logits, dim=1)[rows, chosen]
    of_target = logits[rows, chosen]
    if quantity == "contrast":
        others = logits.scatter(1, chosen[:, None], float("-inf"))
        return of_target - others.amax(dim=1)
    return of_target


@lru_cache(maxsize=2)
def network_graph(parts: NetworkParts) -> NetworkGraph:
    """Return the graph of a package, built once (parts are told apart by identity).

    Raises:
        UnknownOperator: It has an operation that cannot be rebuilt.
    """
    return NetworkGraph(parts)
