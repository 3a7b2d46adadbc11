"""Models small enough to know the right explanation by heart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrail.explanation.explainer import Pooling
from vitrail.records import ByteArray, FloatArray, Placement, Recipe


def grey_recipe(size: int, colour: Literal["grey", "rgb"] = "grey") -> Recipe:
    return Recipe(size=size, colour=colour, crop_margins=False, keep_aspect=False, scaling="unit")


def whole_image(size: int) -> Placement:
    """The input is the original."""
    return Placement(size, size, 0, 0, size, size, 0, 0, size, size)


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@dataclass
class BrightnessNetwork:
    """Two feature maps (bright, dark) of ``cells`` x ``cells``, average pooling, a linear head: bright cells mean ``yes``."""

    size: int = 32
    cells: int = 8
    colour: Literal["grey", "rgb"] = "grey"
    weight: float = 20.0
    name: str = "brightness"
    classes: tuple[str, ...] = ("no", "yes")
    pooling: Pooling = "average"
    network = None
    fingerprint = ""

    @property
    def recipe(self) -> Recipe:
        return grey_recipe(self.size, self.colour)

    @property
    def head(self) -> npt.NDArray[np.float64]:
        return self.weight * np.array([[-1.0, 1.0], [1.0, -1.0]])

    def maps(self, pixels: ByteArray) -> npt.NDArray[np.float64]:
        side = self.size // self.cells
        tiles = pixels.mean(axis=-1).reshape(len(pixels), self.cells, side, self.cells, side).mean(axis=(2, 4)) / 255
        return np.stack([tiles, 1 - tiles], axis=1)

    def scores(self, pixels: ByteArray) -> npt.NDArray[np.float64]:
        return softmax(self.maps(pixels).mean(axis=(2, 3)) @ self.head.T)

    def embed_with_maps(self, pixels: ByteArray) -> tuple[FloatArray, FloatArray] | None:
        maps = self.maps(pixels)[0]
        return maps.astype(np.float32), maps.mean(axis=(1, 2)).astype(np.float32)

    def embedding_gradient(self, embedding: FloatArray, target: int) -> FloatArray:
        return self.head[target].astype(np.float32)


@dataclass
class Keyhole:
    """A model without feature maps that looks at one box only: the brighter the box, the more ``yes``."""

    box: tuple[int, int, int, int] = (8, 16, 14, 22)
    size: int = 32
    colour: Literal["grey", "rgb"] = "grey"
    name: str = "keyhole"
    classes: tuple[str, ...] = ("no", "yes")
    pooling: Pooling = "none"
    network = None
    fingerprint = ""

    @property
    def recipe(self) -> Recipe:
        return grey_recipe(self.size, self.colour)

    def scores(self, pixels: ByteArray) -> npt.NDArray[np.float64]:
        top, left, bottom, right = self.box
        yes = pixels[:, top:bottom, left:right].astype(np.float64).mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - yes, yes], axis=1)

    def embed_with_maps(self, pixels: ByteArray) -> tuple[FloatArray, FloatArray] | None:
        return None

    def embedding_gradient(self, embedding: FloatArray, target: int) -> FloatArray:
        raise NotImplementedError
