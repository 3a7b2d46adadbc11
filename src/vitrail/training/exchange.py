"""What devices that share a step exchange, as one vector: weights one way, gradients and logits the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vitrail.records import IntArray
from vitrail.training.one_device import OneDevice


def put_gradients(
    computing: OneDevice, inputs: torch.Tensor, positions: IntArray, *, whole: float, scale: float, answer: torch.Tensor
) -> None:
    """Put what a share adds to the gradients of the batch's mean loss, scaled, and to that loss, into a vector.

    Args:
        computing: Begun with an epoch.
        inputs: Of the share.
        positions: Of its images.
        whole: How much all images of the batch count: :meth:`Plan.weight_of`.
        scale: Of the gradients.
        answer: Zeros, as many as what learns has numbers, and one for the loss.
    """
    module, plan = computing.module, computing.plan
    module.zero_grad(set_to_none=True)
    share = plan.weight_of(computing.examples.training_labels[positions]) / whole
    loss = computing.loss(inputs, positions) * share
    torch.autograd.backward(loss * scale)
    learning = learning_of(module)
    for part, parameter in zip(_parts(answer[:-1], learning), learning, strict=True):
        if parameter.grad is not None:
            part.copy_(parameter.grad)
    answer[-1] = loss.detach()


def put_logits(computing: OneDevice, module: torch.nn.Module, positions: IntArray, *, size: int, answer: torch.Tensor) -> None:
    """Put the logits of some validation images into a vector for all of them; what is of others stays."""
    if len(positions):
        rows = torch.from_numpy(positions).to(answer.device)
        answer.view(-1, computing.plan.classes)[rows] = computing.logits_of(module, positions, size=size).to(answer.device)


def learning_of(module: torch.nn.Module) -> list[torch.Tensor]:
    """Return the weights that learn in the present epoch, in an order that all processes share."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def length_of(learning: Sequence[torch.Tensor]) -> int:
    """Return how many numbers a share's gradients and loss have."""
    return 1 + sum(parameter.numel() for parameter in learning)


def _parts(vector: torch.Tensor, values: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return a vector as tensors of the shapes of others, without a copy."""
    pieces = torch.split(vector, [value.numel() for value in values])
    return [piece.view(value.shape) for piece, value in zip(pieces, values, strict=True)]


def take_gradients(parameters: Sequence[torch.Tensor], found: torch.Tensor) -> None:
    """Give weights their gradients out of one vector; one that no share needed keeps none."""
    for parameter, part in zip(parameters, _parts(found, parameters), strict=True):
        if parameter.grad is None:
            if not part.any():  # as on one device, the optimiser leaves it alone
                continue
            parameter.grad = torch.empty_like(parameter)  # laid out as the weights are
        parameter.grad.copy_(part)


def _floats(module: torch.nn.Module) -> list[torch.Tensor]:
    return [value for value in module.state_dict().values() if value.is_floating_point()]


def state_of(module: torch.nn.Module) -> torch.Tensor:
    """Return all weights and statistics of a module in one vector; counters stay."""
    return torch.cat([value.flatten() for value in _floats(module)])


@torch.no_grad()
def take_state(module: torch.nn.Module, state: torch.Tensor) -> None:
    """Give a module the weights and statistics of :func:`state_of`."""
    values = _floats(module)
    for value, part in zip(values, _parts(state, values), strict=True):
        value.copy_(part)
