"""Models whose faithful map is known, for the tests of grading."""

from __future__ import annotations

import numpy as np
from explanation_models import whole_image

from vitrail.records import Placement

SIZE = 12


class LinearModel:
    """The score of ``yes`` is a weighted sum of pixels, at most 1: taking a pixel away takes its own contribution away."""

    name = "linear"
    classes = ("no", "yes")

    def __init__(self, seed: int = 0, size: int = SIZE, *, channels: int = 1, signed: bool = False) -> None:
        generator = np.random.default_rng(seed)
        weights = generator.random((size, size)) - (0.5 if signed else 0.0)
        self.weights = weights / (255 * np.abs(weights).sum() * (2 if signed else 1))
        self.offset = 0.5 if signed else 0.0
        self.calls: list[int] = []

    def scores(self, pixels):
        self.calls.append(len(pixels))
        yes = self.offset + np.einsum("nhwc,hw->n", pixels.astype(np.float64), self.weights) / pixels.shape[-1]
        return np.stack([1 - yes, yes], axis=1)

    def contributions(self, pixels, fill):
        """How much the score falls when each pixel is filled, shape (n, size, size)."""
        return (self.weights * (pixels.astype(np.float64) - fill).mean(axis=-1)).astype(np.float32)


def images(n: int, *, size: int = SIZE, channels: int = 1, seed: int = 1):
    """Random images whose median is black, so that filling is taking away."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (n, size, size, channels), dtype=np.uint8)
    dark = generator.random((n, size, size)) < 0.55
    pixels[dark] = 0
    return pixels, (whole_image(size),) * n


def boxed(size: int, top: int, left: int, bottom: int, right: int) -> Placement:
    """The image stands in a box of the input; the rest is padding."""
    return Placement(bottom - top, right - left, 0, 0, bottom - top, right - left, top, left, bottom, right)
