"""What a device does for the fit loop: the gradients of a batch, and answers for validation images."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from vitrail.engine import map_in_order
from vitrail.records import IntArray
from vitrail.settings import TrainingSettings
from vitrail.training.device import ComputeDevice
from vitrail.training.losses import training_loss


class Examples(Protocol):
    """Training and validation images in whatever form a network takes them."""

    training_labels: IntArray
    validation_labels: IntArray

    def training_batch(self, positions: IntArray, generator: np.random.Generator) -> torch.Tensor:
        """Return inputs for some training images (positions 0..n-1), augmented from ``generator`` if at all."""
        ...

    def validation_batch(self, positions: IntArray) -> torch.Tensor:
        """Return inputs for some validation images, never augmented."""
        ...


@runtime_checkable
class Staged(Protocol):
    """A module that learns in stages: parts of it later than others, or more slowly."""

    @property
    def rate_share(self) -> float:
        """What the learning rate of the present epoch is multiplied by."""
        ...

    def set_epoch(self, number: int) -> None:
        """Decide what learns in an epoch (from 1), and how fast."""
        ...

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return all that ever learns, as groups of an optimiser; ``lr_scale`` of a group multiplies the learning rate."""
        ...


@dataclass(frozen=True)
class Plan:
    """What stays the same in all epochs.

    Attributes:
        settings: Of the training.
        classes: Their number.
        seed: Of all randomness.
        device: Where the module is and computes; what is not a batch stays in main memory.
        weight: Of the classes in training; ``None``: all the same.
        validation_weight: Of the classes in validation.
    """

    settings: TrainingSettings
    classes: int
    seed: int
    device: ComputeDevice
    weight: torch.Tensor | None
    validation_weight: torch.Tensor | None

    def weight_of(self, labels: IntArray) -> float:
        """Return how much images of such classes count together in a mean of losses."""
        return float(self.weight[torch.from_numpy(labels)].sum()) if self.weight is not None else float(len(labels))


class OneDevice:
    """Computes on one device. See :class:`vitrail.training.several_devices.SeveralDevices` for steps that several share.

    Args:
        module: What is trained, on the device.
        examples: Its images.
        plan: Of the training.
    """

    def __init__(self, module: torch.nn.Module, examples: Examples, plan: Plan) -> None:
        self.module = module
        self.examples = examples
        self.plan = plan

    def begin(self, number: int) -> None:
        """Set the module up for the training steps of an epoch (from 1)."""
        if isinstance(self.module, Staged):
            self.module.set_epoch(number)
        self.module.train()

    def gradients(
        self,
        batches: Sequence[IntArray],
        generator: np.random.Generator,
        scaler: torch.amp.GradScaler,
        *,
        number: int,  # noqa: ARG002 - for several devices
    ) -> Generator[torch.Tensor, None, None]:
        """Leave, batch after batch, the gradients in the module, scaled, and yield the loss.

        Args:
            batches: Positions of the training images of every step.
            generator: Of the augmentation.
            scaler: Scales the loss.
            number: Of the epoch.
        """
        with contextlib.closing(self.inputs(batches, generator)) as prepared:
            for positions, inputs in zip(batches, prepared, strict=True):
                self.module.zero_grad(set_to_none=True)
                loss = self.loss(inputs, positions)
                torch.autograd.backward(scaler.scale(loss))
                yield loss.detach()

    def inputs(self, batches: Sequence[IntArray], generator: np.random.Generator) -> Generator[torch.Tensor, None, None]:
        """Yield the inputs of batches of training images, drawn one after the other.

        An accelerator computes one batch while the processor prepares those that follow. Without one, both would want the same
        cores.
        """

        def prepared(positions: IntArray) -> torch.Tensor:
            return self.examples.training_batch(positions, generator)

        if self.plan.device.device.type == "cpu":
            yield from map(prepared, batches)
        else:
            yield from map_in_order(prepared, batches, workers=1)

    def loss(self, inputs: torch.Tensor, positions: IntArray) -> torch.Tensor:
        """Return the training loss of a batch, in single precision."""
        put = self.plan.device.put
        with self.plan.device.mixing():
            logits = self.module(put(inputs))
        weight = put(self.plan.weight) if self.plan.weight is not None else None
        labels = torch.from_numpy(self.examples.training_labels[positions])
        return training_loss(self.plan.settings)(logits.float(), put(labels), weight)

    def logits(self, module: torch.nn.Module, *, size: int) -> torch.Tensor:
        """Return what a module says of all validation images, in main memory, shape (m, classes).

        Args:
            module: The one that is trained, or its average.
            size: Images at a time.
        """
        return self.logits_of(module, np.arange(len(self.examples.validation_labels)), size=size)

    @torch.no_grad()
    def logits_of(self, module: torch.nn.Module, positions: IntArray, *, size: int) -> torch.Tensor:
        """Return the same of some validation images."""
        module.eval()
        parts = [positions[start : start + size] for start in range(0, len(positions), size)]
        return torch.cat([module(self.plan.device.put(self.examples.validation_batch(part))) for part in parts]).cpu()
