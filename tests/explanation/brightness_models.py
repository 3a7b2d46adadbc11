"""Packages whose score is the brightness of the brightest place, by construction: whoever explains them must point there.

No weight is learnt. What is dark or grey gives nothing (a threshold lies above it), so that a bright square is all that speaks.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch
from explanation_models import grey_recipe
from explanation_networks import packed
from torch import nn

from vitrail.models.embedders import DescriptorEmbedder
from vitrail.models.estimators import to_onnx
from vitrail.models.heads import DenseHead, EstimatorHead
from vitrail.models.package import ModelPackage, PackageDescription

SIZE = 32
SMALL = 24
THRESHOLD = 0.7
CLASSES = ("no", "yes")
CELL = 4
"""Side of a token in pixels."""


class Threshold(nn.Module):
    """The mean of 3 x 3 pixels above a threshold, then 2 x 2 pooled: one map."""

    def __init__(self, channels: int, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.outputs = ("activations", "embedding")
        self.blur = nn.Conv2d(channels, 1, 3, padding=1)
        nn.init.constant_(self.blur.weight, 1 / (9 * channels))
        nn.init.constant_(self.blur.bias, -THRESHOLD)
        self.rest = nn.Sequential(nn.ReLU(), nn.AvgPool2d(2))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        maps = self.rest(self.blur(pixels))
        return maps, maps.mean(dim=(2, 3)) if self.pooling == "average" else maps.flatten(1)


class Attending(nn.Module):
    """Tokens of 4 x 4 pixels, their brightness in the first value; all of them look at the bright ones and fetch brightness."""

    pooling = "average"
    outputs = ("activations", "embedding")

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, CELL, stride=CELL)
        self.queries, self.keys, self.values = (nn.Linear(2, 2) for _ in range(3))
        for layer in (self.stem, self.queries, self.keys, self.values):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.stem.weight[0] = 1 / CELL**2
            self.stem.bias[0] = -THRESHOLD / 2  # half: a token that the square covers in part is to count
            self.queries.bias[0] = 1.0
            self.keys.weight[0, 0] = 30.0
            self.values.weight[0, 0] = 1.0

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = torch.relu(self.stem(pixels)).flatten(2).transpose(1, 2)
        queries, keys, values = (layer(tokens).unsqueeze(1) for layer in (self.queries, self.keys, self.values))
        attention = (queries @ keys.transpose(-2, -1)).softmax(dim=-1)
        tokens = tokens + (attention @ values).squeeze(1)
        side = SIZE // CELL
        return tokens.transpose(1, 2).unflatten(2, (side, side)), tokens.mean(dim=1)


class Flat(nn.Module):
    """No trunk at all: the pixels."""

    outputs = ("embedding",)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.flatten(1)


def _head(*weights: np.ndarray, bias: float = 0.0) -> DenseHead:
    floats = tuple(np.asarray(weight, dtype=np.float32) for weight in weights)
    biases = (*(np.full(len(weight), bias, dtype=np.float32) for weight in floats[:-1]), np.zeros(2, dtype=np.float32))
    return DenseHead(floats, biases, "relu")


def _for_and_against(inputs: int, strength: float) -> np.ndarray:
    return strength * np.stack([-np.ones(inputs), np.ones(inputs)])


def _stumps() -> EstimatorHead:
    """One tree per pixel, which asks whether it is bright: the score is the share of bright pixels."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    pixels = SMALL**2
    ends = np.zeros((4, pixels), dtype=np.float32)
    forest = RandomForestClassifier(n_estimators=1, random_state=0).fit(ends + np.arange(4)[:, None] / 4, [0, 0, 1, 1])
    forest.estimators_ = []
    for pixel in range(pixels):
        seen = ends.copy()
        seen[2:, pixel] = 2 * THRESHOLD  # the threshold lies in the middle
        forest.estimators_.append(DecisionTreeClassifier(max_depth=1).fit(seen, np.array([0.0, 0.0, 1.0, 1.0])))
    forest.n_estimators = pixels
    return EstimatorHead(to_onnx(forest, pixels), 0.1)


@cache
def brightness(family: str, *, crop: bool, keep_aspect: bool) -> ModelPackage:
    """Return the package of a family: ``average``, ``hidden`` (colour, two dense layers), ``dense``, ``attention``, ``trees``."""
    size = SMALL if family in ("dense", "trees") else SIZE
    recipe = replace(grey_recipe(size, "rgb" if family == "hidden" else "grey"), crop_margins=crop, keep_aspect=keep_aspect)
    match family:
        case "average":
            return packed(Threshold(1, "average"), _head(_for_and_against(1, 40.0)), recipe, "average", CLASSES)
        case "hidden":
            cells = (size // 2) ** 2
            head = _head(np.ones((3, cells)) / cells, _for_and_against(3, 15.0))
            return packed(Threshold(3, "flatten"), head, recipe, "flatten", CLASSES)
        case "dense":
            head = _head(np.eye(size**2), _for_and_against(size**2, 40.0 / size**2), bias=-THRESHOLD)
            return packed(Flat(), head, recipe, "none", CLASSES)
        case "attention":
            head = _head(_for_and_against(1, 2.0) * np.array([[1.0, 0.0]]))
            return packed(Attending(), head, recipe, "average", CLASSES)
    description = PackageDescription(1, "toy", "forest", "", CLASSES, recipe, {}, {}, (), {}, "", "")
    return ModelPackage(description, DescriptorEmbedder(recipe, ("pixels",)), _stumps(), "f" * 64)
