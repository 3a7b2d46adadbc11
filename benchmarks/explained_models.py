"""The models that ``explanation.py`` explains: packed for vitrail, and as torch modules for the limits and other libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.records import Recipe

CLASSES = ("a", "b", "c", "d")
OF_TIMM = {"vit": "vit_small_patch16_224", "vit-base-384": "vit_base_patch16_384"}
"""Models of timm with random weights."""


@dataclass(frozen=True)
class Bare:
    """A model as other libraries are given it.

    Attributes:
        module: Scaled input in, logits out.
        layer: Where Grad-CAM looks; ``None``: nowhere.
        grid: Makes maps of the layer's tokens; ``None``: they are maps.
    """

    module: Any
    layer: Any
    grid: Callable[[Any], Any] | None


def pack(name: str, weights: Path | None, size: int, folder: Path) -> None:
    """Write the package of a model."""
    from vitrail.models.embedders import OnnxEmbedder
    from vitrail.models.heads import DenseHead
    from vitrail.models.network import export_onnx
    from vitrail.models.package import save_package

    trunk, matrix, bias, recipe = _parts(name, weights, size)
    graph = folder.with_suffix(".onnx")
    graph.write_bytes(export_onnx(trunk, channels=recipe.channels, size=size, outputs=trunk.outputs))
    save_package(
        folder, name=name, family="probe", description="For timing.", classes=CLASSES,
        embedder=OnnxEmbedder(graph, recipe, trunk.pooling), head=DenseHead((matrix,), (bias,), "relu"),
        data_fingerprint="", study_fingerprint="",
    )  # fmt: skip


def bare(name: str, weights: Path | None, package: Any) -> Bare:
    """Return the torch module that was packed; of ``package``, its graph as a module."""
    import torch
    from torch import nn

    if name == "package":
        return _of_package(package)
    trunk, matrix, bias, _ = _parts(name, weights, package.recipe.size)
    head = nn.Linear(matrix.shape[1], len(CLASSES))
    head.weight.data, head.bias.data = torch.from_numpy(matrix), torch.from_numpy(bias)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.head = trunk, head

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.head(self.trunk(pixels)[-1])

    def grid(tokens: torch.Tensor) -> torch.Tensor:
        side = int((tokens.shape[1] - 1) ** 0.5)
        return tokens[:, 1:].reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)

    whole = Whole().eval()
    if name in OF_TIMM:
        return Bare(whole, trunk.model.blocks[-1].norm1, grid)
    convolutions = [one for one in trunk.modules() if isinstance(one, nn.Conv2d)]
    layer = getattr(trunk.model, "bn2", convolutions[-1]) if name == "backbone" else convolutions[-1]
    return Bare(whole, layer, None)


def _parts(name: str, weights: Path | None, size: int) -> tuple[Any, Any, Any, Recipe]:
    """Return the trunk, a random linear head and the recipe of a model; the same at every call."""
    import torch

    from vitrail.models import backbones, cnn
    from vitrail.study import CnnSettings

    torch.manual_seed(0)
    channel = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}
    recipe = Recipe(size=size, colour="rgb", crop_margins=False, keep_aspect=False, scaling="channel", **channel)
    if name == "cnn":
        trunk = cnn.build(CnnSettings(pooling="average", activation="relu"), recipe, classes=len(CLASSES), seed=0).eval().trunk
    else:
        source = f"local-dir:{weights}" if name == "backbone" else OF_TIMM[name]
        model, _ = backbones.load(source, size, pretrained=name == "backbone", classifier=False)
        pooling, _ = backbones.pooling_and_dimension(model, torch.rand(2, 3, size, size))
        trunk = backbones.Features(model, pooling).eval()
    with torch.no_grad():
        dimension = trunk(torch.rand(1, 3, size, size))[-1].shape[1]
    random = np.random.default_rng(0)
    matrix = random.normal(0, dimension**-0.5, (len(CLASSES), dimension)).astype(np.float32)
    return trunk, matrix, np.zeros(len(CLASSES), np.float32), recipe


def _of_package(package: Any) -> Bare:
    import torch
    from torch import nn

    from vitrail.explanation.graph import ACTIVATIONS, INPUT, LOGITS, network_graph

    graph = network_graph(package.network)

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Identity()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            if package.pooling == "none":
                return graph.run({INPUT: pixels})[LOGITS]
            maps = self.last(graph.run({INPUT: pixels}, (ACTIVATIONS,))[ACTIVATIONS])
            return graph.run({ACTIVATIONS: maps})[LOGITS]

    module = Graph().eval()
    return Bare(module, None if package.pooling == "none" else module.last, None)
