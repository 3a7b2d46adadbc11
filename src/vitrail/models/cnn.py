"""Convolutional network trained from scratch: blocks of convolution, normalisation, activation and pooling, then dense layers;
without blocks, a fully connected network on the pixels.
"""

from __future__ import annotations

import torch
from torch import nn

from vitrail.errors import Problem, StudyError
from vitrail.models.embedders import Pooling
from vitrail.models.network import ACTIVATIONS, DenseLayers, Network, Trunk
from vitrail.records import Recipe
from vitrail.study import CnnSettings, PreprocessSettings


def describe(settings: CnnSettings) -> str:
    """Return one line for tables."""
    if not settings.filters:
        return f"fully connected network on the pixels, dense layers of {'-'.join(map(str, settings.dense)) or 'no units'}"
    filters = "-".join(str(count) for count in settings.filters)
    return f"CNN from scratch, blocks of {filters} filters, {settings.pooling} pooling"


def check(settings: CnnSettings, preprocess: PreprocessSettings) -> None:
    """Find out early whether the input is large enough for the blocks.

    Args:
        settings: The blocks.
        preprocess: Resolved.

    Raises:
        StudyError: It is not.
    """
    if preprocess.size is not None:
        _side_after_blocks(settings, preprocess.size)


def build(settings: CnnSettings, recipe: Recipe, *, classes: int, seed: int) -> Network:
    """Return the untrained network, its weights drawn from ``seed``.

    Raises:
        StudyError: The input is too small for so many blocks.
    """
    side = _side_after_blocks(settings, recipe.size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if not settings.filters:
            head = DenseLayers(
                recipe.channels * side * side, settings.dense, classes, activation=settings.activation, dropout=settings.dropout
            )
            return Network(Flattened(), head)
        layers: list[nn.Module] = []
        channels = recipe.channels
        for number, filters in enumerate(settings.filters, start=1):
            for _ in range(settings.convolutions):
                padding = settings.kernel // 2
                layers.append(
                    nn.Conv2d(channels, filters, settings.kernel, padding=padding, bias=not settings.batch_normalisation)
                )
                if settings.batch_normalisation:
                    layers.append(nn.BatchNorm2d(filters))
                layers.append(ACTIVATIONS[settings.activation]())
                channels = filters
            if number % settings.blocks_per_pooling == 0:
                layers.append(nn.MaxPool2d(2))
        inputs = channels * (side * side if settings.pooling == "flatten" else 1)
        head = DenseLayers(inputs, settings.dense, classes, activation=settings.activation, dropout=settings.dropout)
        return Network(Trunk(nn.Sequential(*layers), settings.pooling), head)


class Flattened(nn.Module):
    """The trunk of a network without convolutions: its vector is the image. It has no feature maps, so none is offered to
    methods that explain by them.
    """

    outputs: tuple[str, ...] = ("embedding",)
    pooling: Pooling = "none"

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
        """Return the embedding (n, channels x size x size)."""
        return (pixels.flatten(1),)


def _side_after_blocks(settings: CnnSettings, size: int) -> int:
    """Return height and width of the last feature maps."""
    side = size >> (len(settings.filters) // settings.blocks_per_pooling)
    if side < 1:
        key = f"models.{settings.name or settings.model}.filters"
        most = size.bit_length() * settings.blocks_per_pooling - 1
        message = (
            f"every pooling halves the image, so an input of {size} px allows at most {most} blocks. "
            "Give fewer, or a larger preprocess.size."
        )
        raise StudyError("study", (Problem(key, message, f"{len(settings.filters)} blocks, {list(settings.filters)}"),))
    if not settings.filters:
        return side
    largest = 2 * (size >> ((len(settings.filters) - 1) // settings.blocks_per_pooling)) - 1
    if settings.kernel > largest:
        key = f"models.{settings.name or settings.model}.kernel"
        message = (
            f"must be at most {largest}: the maps of the last block are {(largest + 1) // 2} px wide, and the outer weights of a "
            "larger kernel would see nothing but the border. Give a smaller kernel, fewer filters or a larger preprocess.size."
        )
        raise StudyError("study", (Problem(key, message, f"{settings.kernel} with {len(settings.filters)} blocks of {size} px"),))
    return side
