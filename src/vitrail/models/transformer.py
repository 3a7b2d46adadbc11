"""Compact vision transformer, trained from scratch: tokens from the image, transformer blocks, the mean of the tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from vitrail.errors import Problem, StudyError
from vitrail.model_settings import HeadLayer
from vitrail.models.embedders import Pooling
from vitrail.models.network import HeadLayers, Network
from vitrail.records import Recipe
from vitrail.study import PreprocessSettings, TransformerSettings


def describe(settings: TransformerSettings) -> str:
    """Return one line for tables."""
    size = f"{settings.depth} blocks of {settings.dimension} values and {settings.heads} heads"
    stem = "a convolutional stem" if settings.stem == "convolution" else "patches"
    return f"Vision transformer from scratch, {size}, {stem} of {settings.patch} px"


def check(settings: TransformerSettings, preprocess: PreprocessSettings) -> None:
    """Find out early whether image, tokens and heads fit together.

    Args:
        settings: The blocks.
        preprocess: Resolved.

    Raises:
        StudyError: They do not.
    """
    key = f"models.{settings.name or settings.model}"
    problems = []
    if settings.dimension % settings.heads:
        message = f"must be a multiple of heads ({settings.heads}): every head takes an equal part of the values."
        problems.append(Problem(f"{key}.dimension", message, str(settings.dimension)))
    if preprocess.size is not None and preprocess.size % settings.patch:
        nearest = max(1, round(preprocess.size / settings.patch)) * settings.patch
        message = f"must be a multiple of this model's patch ({settings.patch} px), for example {nearest}."
        problems.append(Problem(f"{key}.preprocess.size", message, str(preprocess.size)))
    if problems:
        raise StudyError("study", tuple(problems))


def build(settings: TransformerSettings, recipe: Recipe, *, classes: int, seed: int) -> Network:
    """Return the untrained network, its weights drawn from ``seed``."""
    from timm.models.vision_transformer import VisionTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stem: dict[str, Any] = {"embed_layer": ConvolutionalStem} if settings.stem == "convolution" else {}
        model = VisionTransformer(
            img_size=recipe.size,
            patch_size=settings.patch,
            in_chans=recipe.channels,
            num_classes=0,
            global_pool="avg",
            class_token=False,
            fc_norm=False,  # normalise the tokens, then take their mean: the mean of maps, which explanations can use
            embed_dim=settings.dimension,
            depth=settings.depth,
            num_heads=settings.heads,
            mlp_ratio=settings.expansion,
            proj_drop_rate=settings.dropout,
            drop_path_rate=settings.stochastic_depth,
            **stem,
        )
        head = HeadLayers(settings.dimension, (HeadLayer(layer="dropout", share=settings.dropout),), classes)
        return Network(TokenTrunk(model), head)


class TokenTrunk(nn.Module):
    """A transformer up to the mean of its tokens; the tokens, laid out as the image is, are its feature maps.

    Attributes:
        model: timm's VisionTransformer without class token; its ``blocks`` are timm's own.
        pooling: The vector is the mean of the maps.
        outputs: What :meth:`forward` gives, in order.
    """

    pooling: Pooling = "average"
    outputs: tuple[str, ...] = ("activations", "embedding")

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.grid: tuple[int, int] = model.patch_embed.grid_size

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return activations (n, dimension, rows, columns) and embedding (n, dimension)."""
        tokens = self.model.forward_features(pixels)
        activations = tokens.transpose(1, 2).unflatten(2, self.grid)
        return activations, tokens.mean(dim=1)


class ConvolutionalStem(nn.Module):
    """Tokens from small convolutions instead of cut-out squares (Hassani et al. 2021, Escaping the Big Data Paradigm).

    Each stage (3 x 3 convolution, ReLU, 3 x 3 maximum pooling with stride 2) halves the image, until a cell covers
    ``patch_size`` pixels. The arguments are those that timm gives to every layer in this place.

    Args:
        img_size: Side of the image in pixels.
        patch_size: Pixels per token and direction; a power of two.
        in_chans: Channels of the image.
        embed_dim: Values per token.
        bias: Whether the last convolution has one.
        dynamic_img_pad: Not used.
        device: Of the weights.
        dtype: Of the weights.
    """

    def __init__(
        self,
        img_size: int,
        patch_size: int,
        in_chans: int,
        embed_dim: int,
        *,
        bias: bool = True,
        dynamic_img_pad: bool = False,  # noqa: ARG002 - timm's way to call it
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        stages = patch_size.bit_length() - 1
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (img_size // patch_size, img_size // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        parts: list[nn.Module] = []
        channels = in_chans
        for stage in range(stages):
            last = stage == stages - 1
            # Half as many maps per stage below: at full resolution each of them costs most.
            width = embed_dim if last else max(8, embed_dim >> (stages - 1 - stage))
            parts += [
                nn.Conv2d(channels, width, 3, padding=1, bias=bias if last else False, device=device, dtype=dtype),
                nn.ReLU(),
                nn.MaxPool2d(3, stride=2, padding=1),
            ]
            channels = width
        self.stages = nn.Sequential(*parts)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return tokens, shape (n, tokens, dimension), row by row."""
        maps: torch.Tensor = self.stages(pixels)
        return maps.flatten(2).transpose(1, 2)
