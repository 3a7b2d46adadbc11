"""The operators of ONNX that packed networks contain, as torch operations. Each follows the operator's definition
(https://onnx.ai/onnx/operators), for opsets 13 to 22; what is not in ``OPERATORS`` is refused by name, never guessed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Values = Sequence[Tensor | None]


@dataclass(frozen=True)
class Node:
    """One operation of a graph.

    Attributes:
        name: Its name in the file, unique.
        operator: Its kind, for example ``Conv``.
        inputs: Names of the values that it takes; empty where an optional one is left out.
        outputs: Names of the values that it gives.
        attributes: Its settings.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


Rule = Callable[[Node, Values], Tensor | tuple[Tensor, ...]]
"""What a node does with its inputs."""


def _first(values: Values) -> Tensor:
    return _needed(values, 0)


def _given(values: Values, place: int) -> Tensor | None:
    return values[place] if len(values) > place else None


def _needed(values: Values, place: int) -> Tensor:
    value = _given(values, place)
    if value is None:
        raise NotImplementedError(f"input {place} left out")
    return value


def _list(node: Node, values: Values, place: int, attribute: str) -> list[int] | None:
    """Return a list of numbers that older opsets give as an attribute and newer ones as an input."""
    value = _given(values, place)
    if value is not None:
        return [int(number) for number in value.reshape(-1).tolist()]
    found = node.attributes.get(attribute)
    return None if found is None else [int(number) for number in found]


# ---------------------------------------------------------------------------------------------------- element by element


def _plain(function: Callable[..., Tensor]) -> Rule:
    """Return the rule of an operator that is one function of all its inputs."""

    def rule(node: Node, values: Values) -> Tensor:  # noqa: ARG001 - a rule is given the node
        return function(*[value for value in values if value is not None])

    return rule


def _divide(node: Node, values: Values) -> Tensor:  # noqa: ARG001
    above, below = _first(values), _needed(values, 1)
    whole = not (above.is_floating_point() or below.is_floating_point())
    return torch.div(above, below, rounding_mode="trunc" if whole else None)


def _modulo(node: Node, values: Values) -> Tensor:
    function = torch.fmod if node.attributes.get("fmod", 0) else torch.remainder
    return function(_first(values), _needed(values, 1))


def clip_limits(node: Node, values: Values) -> tuple[float | None, float | None]:
    """Return the limits of a ``Clip`` node."""
    low, high = _given(values, 1), _given(values, 2)
    lowest = node.attributes.get("min") if low is None else low.item()
    highest = node.attributes.get("max") if high is None else high.item()
    return lowest, highest


def _clip(node: Node, values: Values) -> Tensor:
    low, high = clip_limits(node, values)
    value = _first(values)
    if (low, high) == (0, 6):  # ReLU6: at its corners it has no slope in torch, a clamp has
        return functional.hardtanh(value, 0.0, 6.0)
    return value if low is None and high is None else torch.clamp(value, min=low, max=high)


def _leaky(node: Node, values: Values) -> Tensor:
    return functional.leaky_relu(_first(values), node.attributes.get("alpha", 0.01))


def _elu(node: Node, values: Values) -> Tensor:
    return functional.elu(_first(values), node.attributes.get("alpha", 1.0))


def _hard_sigmoid(node: Node, values: Values) -> Tensor:
    slope, middle = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return torch.clamp(_first(values) * slope + middle, 0, 1)


def _gelu(node: Node, values: Values) -> Tensor:
    return functional.gelu(_first(values), approximate=node.attributes.get("approximate", "none"))


def _softmax(node: Node, values: Values) -> Tensor:
    return torch.softmax(_first(values), dim=node.attributes.get("axis", -1))


TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
    16: torch.bfloat16,
}
"""Number of a type of elements in ONNX -> torch's type."""


def _cast(node: Node, values: Values) -> Tensor:
    return _first(values).to(TYPES[node.attributes["to"]])


# ---------------------------------------------------------------------------------------------------- shapes


def _shape(node: Node, values: Values) -> Tensor:
    sizes = list(_first(values).shape)
    return torch.tensor(sizes[node.attributes.get("start", 0) : node.attributes.get("end")], dtype=torch.int64)


def _reshape(node: Node, values: Values) -> Tensor:
    value, shape = _first(values), [int(size) for size in _needed(values, 1).tolist()]
    if not node.attributes.get("allowzero", 0):
        shape = [value.shape[place] if size == 0 else size for place, size in enumerate(shape)]
    return value.reshape(shape)


def _flatten(node: Node, values: Values) -> Tensor:
    value, axis = _first(values), node.attributes.get("axis", 1)
    axis = axis + value.ndim if axis < 0 else axis
    rows = 1
    for size in value.shape[:axis]:
        rows *= size
    return value.reshape(rows, -1)


def _transpose(node: Node, values: Values) -> Tensor:
    value = _first(values)
    return value.permute(node.attributes.get("perm", list(range(value.ndim))[::-1]))


def _squeeze(node: Node, values: Values) -> Tensor:
    value, axes = _first(values), _list(node, values, 1, "axes")
    return value.squeeze() if axes is None else value.squeeze(tuple(axes))


def _unsqueeze(node: Node, values: Values) -> Tensor:
    value, axes = _first(values), _list(node, values, 1, "axes") or []
    dimensions = value.ndim + len(axes)
    for axis in sorted(axis % dimensions for axis in axes):
        value = value.unsqueeze(axis)
    return value


def _concat(node: Node, values: Values) -> Tensor:
    return torch.cat([value for value in values if value is not None], dim=node.attributes["axis"])


def _expand(node: Node, values: Values) -> Tensor:  # noqa: ARG001
    value, shape = _first(values), [int(size) for size in _needed(values, 1).tolist()]
    missing = len(shape) - value.ndim
    sizes = [1] * -missing + shape if missing < 0 else shape
    of_value = [1] * missing + list(value.shape)
    return value.broadcast_to([max(pair) if 0 not in pair else 0 for pair in zip(sizes, of_value, strict=True)])


def _tile(node: Node, values: Values) -> Tensor:  # noqa: ARG001
    return _first(values).tile(tuple(_needed(values, 1).tolist()))


def _slice(node: Node, values: Values) -> Tensor:
    value = _first(values)
    starts, ends = _list(node, values, 1, "starts") or [], _list(node, values, 2, "ends") or []
    axes = _list(node, values, 3, "axes") or list(range(len(starts)))
    steps = _list(node, values, 4, "steps") or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        first, last, stride = slice(start, end, step).indices(value.shape[axis])
        if stride == 1:
            value = value.narrow(axis, first, max(0, last - first))
        else:
            value = value.index_select(axis, torch.arange(first, last, stride))
    return value


def _split(node: Node, values: Values) -> tuple[Tensor, ...]:
    value, axis = _first(values), node.attributes.get("axis", 0)
    sizes = _list(node, values, 1, "split")
    if sizes is None:
        size = -(-value.shape[axis] // len(node.outputs))
        return torch.split(value, size, dim=axis)
    return torch.split(value, sizes, dim=axis)


def _gather(node: Node, values: Values) -> Tensor:
    value, places, axis = _first(values), _needed(values, 1), node.attributes.get("axis", 0)
    axis = axis + value.ndim if axis < 0 else axis
    places = torch.where(places < 0, places + value.shape[axis], places)
    if places.ndim == 0:
        return value.select(axis, int(places))
    picked = value.index_select(axis, places.reshape(-1))
    return picked.reshape(*value.shape[:axis], *places.shape, *value.shape[axis + 1 :])


def _pad(node: Node, values: Values) -> Tensor:
    value, pads = _first(values), _list(node, values, 1, "pads") or []
    axes = _list(node, values, 3, "axes") or list(range(value.ndim))
    fill = _given(values, 2)
    mode = node.attributes.get("mode", "constant")
    around = [0] * (2 * value.ndim)
    for place, axis in enumerate(axes):
        last_first = 2 * (value.ndim - 1 - axis % value.ndim)
        around[last_first], around[last_first + 1] = pads[place], pads[place + len(axes)]
    if mode == "constant":
        return functional.pad(value, around, value=0.0 if fill is None else float(fill))
    while len(around) > 2 and around[-2:] == [0, 0]:  # torch pads the last axes only in these modes
        around = around[:-2]
    return functional.pad(value, around, mode={"edge": "replicate", "reflect": "reflect"}[mode])


def _constant_of_shape(node: Node, values: Values) -> Tensor:
    fill = node.attributes.get("value")
    shape = [int(size) for size in _first(values).tolist()]
    return torch.zeros(shape) if fill is None else torch.full(shape, fill.item(), dtype=fill.dtype)


def _range(node: Node, values: Values) -> Tensor:  # noqa: ARG001
    start, stop, step = (_needed(values, place) for place in range(3))
    return torch.arange(start.item(), stop.item(), step.item(), dtype=start.dtype)


def _cumulated(node: Node, values: Values) -> Tensor:
    if node.attributes.get("exclusive", 0) or node.attributes.get("reverse", 0):
        raise NotImplementedError("exclusive or reverse")
    return torch.cumsum(_first(values), dim=int(_needed(values, 1)))


# ---------------------------------------------------------------------------------------------------- reductions


def _reduction(function: Callable[[Tensor, list[int], bool], Tensor]) -> Rule:
    def rule(node: Node, values: Values) -> Tensor:
        value = _first(values)
        axes = _list(node, values, 1, "axes")
        if axes is None:
            if node.attributes.get("noop_with_empty_axes", 0):
                return value
            axes = list(range(value.ndim))
        return function(value, axes, bool(node.attributes.get("keepdims", 1)))

    return rule


def _product(value: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % value.ndim for axis in axes), reverse=True):
        value = value.prod(dim=axis, keepdim=keep)
    return value


# ---------------------------------------------------------------------------------------------------- layers


def _pads(node: Node, value: Tensor, fill: float = 0.0) -> tuple[Tensor, list[int]]:
    """Return the padding that torch can do itself; where it differs from side to side, the value padded and no padding."""
    dimensions = value.ndim - 2
    if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", ""):
        raise NotImplementedError(f"auto_pad {node.attributes['auto_pad']}")
    pads = list(node.attributes.get("pads", [0] * 2 * dimensions))
    before, after = pads[:dimensions], pads[dimensions:]
    if before == after:
        return value, before
    around = [size for axis in reversed(range(dimensions)) for size in (before[axis], after[axis])]
    return functional.pad(value, around, value=fill), [0] * dimensions


def _convolution(node: Node, values: Values) -> Tensor:
    weight, bias = _needed(values, 1), _given(values, 2)
    value, padding = _pads(node, _first(values))
    dimensions = value.ndim - 2
    function: Any = (functional.conv1d, functional.conv2d, functional.conv3d)[dimensions - 1]
    answer: Tensor = function(
        value,
        weight,
        bias,
        stride=node.attributes.get("strides", [1] * dimensions),
        padding=padding,
        dilation=node.attributes.get("dilations", [1] * dimensions),
        groups=node.attributes.get("group", 1),
    )
    return answer


def _maximum_pooling(node: Node, values: Values) -> Tensor:
    value, padding = _pads(node, _first(values), fill=float("-inf"))
    kernel = node.attributes["kernel_shape"]
    return functional.max_pool2d(
        value,
        kernel,
        stride=node.attributes.get("strides", [1] * len(kernel)),
        padding=padding,
        dilation=node.attributes.get("dilations", [1] * len(kernel)),
        ceil_mode=bool(node.attributes.get("ceil_mode", 0)),
    )


def _average_pooling(node: Node, values: Values) -> Tensor:
    counted = bool(node.attributes.get("count_include_pad", 0))
    value, padding = _pads(node, _first(values))
    if not counted and value is not values[0]:
        raise NotImplementedError("padding that differs from side to side and does not count")
    kernel = node.attributes["kernel_shape"]
    return functional.avg_pool2d(
        value,
        kernel,
        stride=node.attributes.get("strides", [1] * len(kernel)),
        padding=padding,
        ceil_mode=bool(node.attributes.get("ceil_mode", 0)),
        count_include_pad=counted,
    )


def _over_maps(function: Callable[[Tensor, tuple[int, ...]], Tensor]) -> Rule:
    def rule(node: Node, values: Values) -> Tensor:  # noqa: ARG001
        value = _first(values)
        return function(value, tuple(range(2, value.ndim)))

    return rule


def _batch_normalisation(node: Node, values: Values) -> Tensor | tuple[Tensor, ...]:
    value = _first(values)
    scale, shift, mean, variance = (_needed(values, place) for place in range(1, 5))
    if node.attributes.get("training_mode", 0):  # statistics of the value itself: how weights are standardised
        axes = (0, *range(2, value.ndim))
        mean, variance = value.mean(dim=axes), value.var(dim=axes, correction=0)
    epsilon = node.attributes.get("epsilon", 1e-5)
    answer = functional.batch_norm(value, mean, variance, scale, shift, training=False, eps=epsilon)
    return answer if len(node.outputs) == 1 else (answer, mean, variance)


def _instance_normalisation(node: Node, values: Values) -> Tensor:
    return functional.instance_norm(_first(values), weight=values[1], bias=values[2], eps=node.attributes.get("epsilon", 1e-5))


def _layer_normalisation(node: Node, values: Values) -> Tensor:
    value = _first(values)
    shape = value.shape[node.attributes.get("axis", -1) :]
    return functional.layer_norm(value, shape, values[1], _given(values, 2), node.attributes.get("epsilon", 1e-5))


def _group_normalisation(node: Node, values: Values) -> Tensor:
    return functional.group_norm(
        _first(values), node.attributes["num_groups"], values[1], values[2], node.attributes.get("epsilon", 1e-5)
    )


def _general_product(node: Node, values: Values) -> Tensor:
    left, right, add = _first(values), _needed(values, 1), _given(values, 2)
    left = left.mT if node.attributes.get("transA", 0) else left
    right = right.mT if node.attributes.get("transB", 0) else right
    alpha: float = node.attributes.get("alpha", 1.0)
    answer = torch.matmul(left, right) * alpha
    beta: float = node.attributes.get("beta", 1.0)
    return answer if add is None else answer + add * beta


def _einsum(node: Node, values: Values) -> Tensor:
    answer: Tensor = torch.einsum(node.attributes["equation"], *[value for value in values if value is not None])
    return answer


OPERATORS: dict[str, Rule] = {
    "Abs": _plain(torch.abs),
    "Add": _plain(torch.add),
    "And": _plain(torch.logical_and),
    "AveragePool": _average_pooling,
    "BatchNormalization": _batch_normalisation,
    "Cast": _cast,
    "Ceil": _plain(torch.ceil),
    "Clip": _clip,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _convolution,
    "Cos": _plain(torch.cos),
    "CumSum": _cumulated,
    "Div": _divide,
    "Einsum": _einsum,
    "Elu": _elu,
    "Equal": _plain(torch.eq),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Expand": _expand,
    "Flatten": _flatten,
    "Floor": _plain(torch.floor),
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _general_product,
    "GlobalAveragePool": _over_maps(lambda value, axes: value.mean(dim=axes, keepdim=True)),
    "GlobalMaxPool": _over_maps(lambda value, axes: value.amax(dim=axes, keepdim=True)),
    "Greater": _plain(torch.gt),
    "GroupNormalization": _group_normalisation,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _plain(functional.hardswish),
    "Identity": _plain(lambda value: value),
    "InstanceNormalization": _instance_normalisation,
    "LayerNormalization": _layer_normalisation,
    "LeakyRelu": _leaky,
    "Less": _plain(torch.lt),
    "Log": _plain(torch.log),
    "MatMul": _plain(torch.matmul),
    "Max": _plain(lambda *values: functools.reduce(torch.maximum, values)),
    "MaxPool": _maximum_pooling,
    "Min": _plain(lambda *values: functools.reduce(torch.minimum, values)),
    "Mish": _plain(functional.mish),
    "Mod": _modulo,
    "Mul": _plain(torch.mul),
    "Neg": _plain(torch.neg),
    "Not": _plain(torch.logical_not),
    "Or": _plain(torch.logical_or),
    "Pad": _pad,
    "Pow": _plain(torch.pow),
    "Range": _range,
    "Reciprocal": _plain(torch.reciprocal),
    "ReduceL2": _reduction(lambda value, axes, keep: torch.linalg.vector_norm(value, dim=axes, keepdim=keep)),
    "ReduceMax": _reduction(lambda value, axes, keep: value.amax(dim=axes, keepdim=keep)),
    "ReduceMean": _reduction(lambda value, axes, keep: value.mean(dim=axes, keepdim=keep)),
    "ReduceMin": _reduction(lambda value, axes, keep: value.amin(dim=axes, keepdim=keep)),
    "ReduceProd": _reduction(_product),
    "ReduceSum": _reduction(lambda value, axes, keep: value.sum(dim=axes, keepdim=keep)),
    "Relu": _plain(torch.relu),
    "Reshape": _reshape,
    "Selu": _plain(functional.selu),
    "Shape": _shape,
    "Sigmoid": _plain(torch.sigmoid),
    "Sin": _plain(torch.sin),
    "Slice": _slice,
    "Softmax": _softmax,
    "Softplus": _plain(functional.softplus),
    "Split": _split,
    "Sqrt": _plain(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _plain(torch.sub),
    "Sum": _plain(lambda first, *rest: sum(rest, start=first)),
    "Swish": _plain(functional.silu),
    "Tanh": _plain(torch.tanh),
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _plain(torch.where),
}
"""Operator -> what it does."""
