"""Packages of small networks with random weights: every family that gradients meet, as it leaves training."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import torch
from torch import nn

from vitrail.explanation.package_model import CombinedModel
from vitrail.models import cnn, transformer
from vitrail.models.backbones import Features, pooling_and_dimension
from vitrail.models.embedders import OnnxEmbedder
from vitrail.models.heads import DenseHead
from vitrail.models.network import Network, export_onnx
from vitrail.models.package import ModelPackage, PackageDescription
from vitrail.records import Recipe
from vitrail.study import CnnSettings, TransformerSettings

CLASSES = ("a", "b", "c")
SIZE = 32

SMALL_VIT = {"depth": 2, "embed_dim": 24, "num_heads": 3, "img_size": SIZE, "patch_size": 8}
SMALL_SWIN = {"img_size": SIZE, "window_size": 4, "embed_dim": 12, "depths": (2, 1), "num_heads": (2, 2), "patch_size": 2}
BACKBONES = {
    "mobilenet": ("mobilenetv2_035", {"output_stride": 8, "pad_type": "same"}),
    "convnext": ("convnext_atto", {"depths": (1, 1, 1, 1), "dims": (8, 8, 16, 16), "output_stride": 8}),
    "vit-class": ("vit_tiny_patch16_224", SMALL_VIT),
    "vit-registers": ("vit_medium_patch16_reg4_gap_256", SMALL_VIT),
    "vit-attention-pool": ("vit_base_patch16_siglip_224", SMALL_VIT),
    "swin": ("swin_tiny_patch4_window7_224", SMALL_SWIN),
}
OWN = {
    "cnn": CnnSettings(filters=(4, 6), activation="relu", pooling="average"),
    "cnn-hidden": CnnSettings(filters=(4, 6), dense=(7,), activation="relu", pooling="flatten"),
    "cnn-gelu": CnnSettings(filters=(4, 6), activation="gelu", pooling="max"),
    "dense": CnnSettings(filters=(), dense=(9,), activation="relu"),
    "transformer": TransformerSettings(patch=8, dimension=16, depth=2, heads=2, stem="convolution"),
}
FAMILIES = (*OWN, *BACKBONES)


def recipe_of(colour="grey", scaling="unit", size=SIZE) -> Recipe:
    mean = (0.4, 0.5, 0.6) if colour == "rgb" else (0.5,)
    around = {"mean": mean, "deviation": tuple(0.2 + 0.1 * place for place in range(len(mean)))} if scaling == "channel" else {}
    return Recipe(size=size, colour=colour, crop_margins=False, keep_aspect=False, scaling=scaling, **around)


def packed(trunk: nn.Module, head: DenseHead, recipe: Recipe, pooling: str, classes=CLASSES) -> ModelPackage:
    """Return what ``load_package`` would, without golden questions."""
    path = Path(mkdtemp()) / "embedder.onnx"
    path.write_bytes(export_onnx(trunk, channels=recipe.channels, size=recipe.size, outputs=trunk.outputs))
    description = PackageDescription(1, "toy", "cnn", "", classes, recipe, {}, {}, (), {}, "", "")
    return ModelPackage(description, OnnxEmbedder(path, recipe, pooling), head, "f" * 64)


def settle(network: nn.Module, seed: int) -> nn.Module:
    """Give batch normalisations statistics, and everything weights large enough that classes differ."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.1 * torch.randn(module.running_mean.shape, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=generator))
    return network.eval()


def random_head(dimension: int, seed: int = 3, classes: int = len(CLASSES)) -> DenseHead:
    generator = np.random.default_rng(seed)
    weights = generator.normal(0, 2 / np.sqrt(dimension), (classes, dimension)).astype(np.float32)
    return DenseHead((weights,), (generator.normal(0, 0.1, classes).astype(np.float32),), "relu")


@cache
def family(name: str) -> ModelPackage:
    """Return the package of a family; made once."""
    torch.manual_seed(5)
    if name in OWN:
        settings = OWN[name]
        recipe = recipe_of("grey", "standardise" if name == "transformer" else "unit")
        module = transformer if name == "transformer" else cnn
        network = settle(module.build(settings, recipe, classes=3, seed=1), seed=2)
        assert isinstance(network, Network)
        return packed(network.trunk, network.head.to_head(), recipe, network.trunk.pooling)
    import timm

    architecture, wishes = BACKBONES[name]
    model = settle(timm.create_model(architecture, pretrained=False, num_classes=0, **wishes), seed=2)
    recipe = recipe_of("rgb", "channel")
    pooling, dimension = pooling_and_dimension(model, torch.rand(2, 3, SIZE, SIZE))
    return packed(Features(model, pooling), random_head(dimension), recipe, pooling)


@cache
def ensemble() -> CombinedModel:
    """Return three networks of different sizes and colours as one model; made once."""
    parts = ((0.5, family("cnn")), (0.3, _half_size()), (0.2, family("mobilenet")))
    return CombinedModel("ensemble", parts, "e" * 64)


def _half_size() -> ModelPackage:
    torch.manual_seed(6)
    recipe = recipe_of(size=SIZE // 2)
    network = settle(cnn.build(OWN["cnn"], recipe, classes=3, seed=2), seed=3)
    assert isinstance(network, Network)
    return packed(network.trunk, network.head.to_head(), recipe, network.trunk.pooling)


def pixels_for(model: ModelPackage, count: int = 1, seed: int = 0) -> np.ndarray:
    """Return smooth random images, uint8 (count, size, size, channels)."""
    from scipy.ndimage import gaussian_filter

    size, channels = model.recipe.size, model.recipe.channels
    noise = np.random.default_rng(seed).normal(size=(count, size, size, channels))
    smooth = gaussian_filter(noise, (0, 2, 2, 0))
    low, high = smooth.min(axis=(1, 2, 3), keepdims=True), smooth.max(axis=(1, 2, 3), keepdims=True)
    return (255 * (smooth - low) / (high - low)).astype(np.uint8)
