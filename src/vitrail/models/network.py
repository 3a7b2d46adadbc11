"""Torch modules that training moves, and their way out of torch: trunk to ONNX, dense head to numpy."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from vitrail.model_settings import HeadLayer
from vitrail.models.embedders import Pooling
from vitrail.models.heads import DenseHead, Scores
from vitrail.records import FloatArray

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid, "gelu": nn.GELU}

SMALLEST_SPREAD = 1e-6
"""A feature that varies less than this share of its size (or of 1) is constant: it is centred but not stretched."""


class DenseLayers(nn.Module):
    """The trainable form of :class:`vitrail.models.heads.DenseHead`.

    Args:
        inputs: Dimension of the vectors.
        hidden: Units of the hidden layers.
        classes: Number of classes.
        activation: Between the layers.
        dropout: Share of inputs of every layer that is dropped in training.
        centre: Subtracted from the vectors first, shape (inputs,); ``None``: nothing.
        spread: They are divided by this then, shape (inputs,).
    """

    centre: torch.Tensor
    spread: torch.Tensor

    def __init__(
        self,
        inputs: int,
        hidden: tuple[int, ...],
        classes: int,
        *,
        activation: str,
        dropout: float,
        centre: FloatArray | None = None,
        spread: FloatArray | None = None,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.register_buffer("centre", torch.from_numpy(np.zeros(inputs, np.float32) if centre is None else centre))
        self.register_buffer("spread", torch.from_numpy(np.ones(inputs, np.float32) if spread is None else spread))
        widths = (inputs, *hidden, classes)
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.between = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def seeded(
        cls,
        inputs: int,
        hidden: tuple[int, ...],
        classes: int,
        *,
        activation: str,
        dropout: float,
        standardise_like: FloatArray,
        seed: int,
    ) -> DenseLayers:
        """Return layers whose weights are drawn from ``seed`` and whose inputs are standardised as some vectors are.

        torch's own generator is left as it was.
        """
        # In double precision: single precision sees a spread in a constant feature, and dividing by it blows up rounding.
        centre = standardise_like.mean(axis=0, dtype=np.float64)
        spread = standardise_like.std(axis=0, dtype=np.float64)
        spread = np.where(spread > SMALLEST_SPREAD * np.maximum(1, np.abs(centre)), spread, 1.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(
                inputs,
                hidden,
                classes,
                activation=activation,
                dropout=dropout,
                centre=centre.astype(np.float32),
                spread=spread.astype(np.float32),
            )

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (n, classes), for vectors of shape (n, inputs)."""
        value = (embedding - self.centre) / self.spread
        for number, layer in enumerate(self.layers):
            value = layer(self.dropout(self.between(value) if number else value))
        return value

    def to_head(self) -> DenseHead:
        """Return the same function in numpy, with the standardisation folded into the first layer."""
        linear = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        weights = [layer.weight.detach().double().numpy() for layer in linear]
        biases = [layer.bias.detach().double().numpy() for layer in linear]
        centre, spread = self.centre.double().numpy(), self.spread.double().numpy()
        weights[0] = weights[0] / spread
        biases[0] = biases[0] - weights[0] @ centre
        as_float = [tuple(value.astype(np.float32) for value in values) for values in (weights, biases)]
        return DenseHead(as_float[0], as_float[1], self.activation)


class HeadLayers(nn.Module):
    """A head written as a list of layers, in the form that training moves. Its numpy form is a
    :class:`vitrail.models.heads.DenseHead`: dropout does nothing there, and batch normalisation becomes part of the next dense
    layer.

    Args:
        inputs: Dimension of the vectors.
        layers: From the vectors upwards; the output layer is added.
        classes: Number of classes.
    """

    def __init__(self, inputs: int, layers: tuple[HeadLayer, ...], classes: int) -> None:
        super().__init__()
        self.activations: list[str] = []
        parts: list[nn.Module] = []
        width = inputs
        for layer in layers:
            if layer.layer == "dense":
                units, activation = layer.units or width, layer.activation or "relu"
                parts += [nn.Linear(width, units), ACTIVATIONS[activation]()]
                self.activations.append(activation)
                width = units
            else:
                parts.append(nn.Dropout(layer.share or 0.0) if layer.layer == "dropout" else nn.BatchNorm1d(width))
        self.layers = nn.Sequential(*parts, nn.Linear(width, classes))

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (n, classes), for vectors of shape (n, inputs)."""
        logits: torch.Tensor = self.layers(embedding)
        return logits

    def to_head(self) -> DenseHead:
        """Return the same function, as it is outside training, in numpy."""
        weights: list[FloatArray] = []
        biases: list[FloatArray] = []
        scale: Scores = np.ones(1)
        shift: Scores = np.zeros(1)
        for part in self.layers:
            if isinstance(part, nn.BatchNorm1d):
                # y = (x - mean) / sqrt(variance + eps) * weight + bias (Ioffe & Szegedy 2015), after what came before it.
                mean, variance, weight, bias = (
                    value.detach().double().numpy()
                    for value in (part.running_mean, part.running_var, part.weight, part.bias)
                    if value is not None
                )
                slope = weight / np.sqrt(variance + part.eps)
                scale, shift = scale * slope, (shift - mean) * slope + bias
            elif isinstance(part, nn.Linear):
                matrix = part.weight.detach().double().numpy()
                biases.append((part.bias.detach().double().numpy() + (matrix * shift).sum(axis=1)).astype(np.float32))
                weights.append((matrix * scale).astype(np.float32))
                scale, shift = np.ones(1), np.zeros(1)
        return DenseHead(tuple(weights), tuple(biases), tuple(self.activations))


class Trunk(nn.Module):
    """A network up to its vector: feature maps, then pooling. The first half of a network in the form that ONNX takes.

    Attributes:
        pooling: How the feature maps become the vector.
        outputs: What :meth:`forward` gives, in order; the embedding comes last.
    """

    outputs: tuple[str, ...] = ("activations", "embedding")

    def __init__(self, maps: nn.Module, pooling: Pooling) -> None:
        super().__init__()
        self.maps = maps
        self.pooling: Pooling = pooling

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return activations (n, maps, height, width) and embedding (n, dimension)."""
        activations = self.maps(pixels)
        if self.pooling == "average":
            return activations, activations.mean(dim=(2, 3))
        if self.pooling == "max":
            return activations, activations.amax(dim=(2, 3))
        return activations, activations.flatten(1)


class Network(nn.Module):
    """A trunk and a head, trained together.

    Args:
        trunk: Pixels in, a tuple out whose last part is the embedding; it says what it gives in ``outputs`` and ``pooling``.
        head: Embedding in, logits out.
    """

    def __init__(self, trunk: nn.Module, head: DenseLayers | HeadLayers) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (n, classes)."""
        logits: torch.Tensor = self.head(self.trunk(pixels)[-1])
        return logits


def export_onnx(trunk: nn.Module, *, channels: int, size: int, outputs: Iterable[str]) -> bytes:
    """Return a trunk as a serialised ONNX graph with a free batch size.

    Args:
        trunk: Takes (n, channels, size, size), gives ``outputs`` in order.
        channels: Of its input.
        size: Height and width of its input.
        outputs: Names for what it gives: ``activations`` and ``embedding``, or ``embedding`` alone.
    """
    names = list(outputs)
    training = trunk.training
    trunk.eval()
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            # The tracing exporter is on its way out in torch, yet takes 1 s where its successor takes 14 s for the same graph.
            warnings.simplefilter("ignore")
            path = Path(folder) / "trunk.onnx"
            torch.onnx.export(
                trunk,
                (torch.zeros(1, channels, size, size),),
                str(path),
                dynamo=False,
                input_names=["pixels"],
                output_names=names,
                dynamic_axes={name: {0: "batch"} for name in ("pixels", *names)},
            )
            return path.read_bytes()
    finally:
        trunk.train(training)
