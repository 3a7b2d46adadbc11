"""Maps that know nothing of the model: what a method must beat before its maps are worth a look.

Popular methods often do not (XAI-TRIS, arXiv:2306.12816).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType

import numpy as np

from vitrail.explanation.class_activation import resize_bilinear
from vitrail.explanation.explainer import picture_of
from vitrail.explanation.grading.cells import DoubleArray, generator_of, inner_slices
from vitrail.records import ByteArray, FloatArray, Placement

RANDOM_CELLS = 7
"""Cells along a side of a random map: as coarse as a class activation map of a 224-pixel input."""
CENTRE_WIDTH = 1 / 4
"""Standard deviation of the central map, as a share of the sides of what the input shows."""

BaselineMaps = Callable[[ByteArray, Placement, int], FloatArray]
"""From one image (size, size, channels), its placement and a seed to a map (size, size)."""


def random_map(pixels: ByteArray, placement: Placement, seed: int, *, number: int = 0) -> FloatArray:
    """Return smooth noise: 7 x 7 normal numbers, enlarged.

    Noise of single pixels would remove the same share of every place, so its score would hardly vary, and any smooth map that
    says nothing of the model would seem to differ from chance.

    Args:
        pixels: uint8, shape (size, size, channels).
        placement: What of them is image.
        seed: Same seed and image, same map.
        number: Which of several maps.
    """
    noise = generator_of(pixels, seed, f"random map {number}").standard_normal((RANDOM_CELLS, RANDOM_CELLS))
    return _inside(noise, pixels, placement)


def edge_map(pixels: ByteArray, placement: Placement, seed: int = 0) -> FloatArray:  # noqa: ARG001 - nothing is drawn
    """Return how much the brightness changes from pixel to pixel: Sobel's magnitude, at least 0."""
    from scipy import ndimage

    answer = np.zeros(pixels.shape[:2], dtype=np.float32)
    inner = inner_slices(placement)
    grey = picture_of(pixels[inner]).mean(axis=-1, dtype=np.float64)
    answer[inner] = np.hypot(ndimage.sobel(grey, axis=0, mode="nearest"), ndimage.sobel(grey, axis=1, mode="nearest"))
    return answer


def centre_map(pixels: ByteArray, placement: Placement, seed: int = 0) -> FloatArray:  # noqa: ARG001 - nothing is drawn
    """Return a Gaussian hill over the middle of what the input shows, 0..1, a quarter of each side wide."""
    answer = np.zeros(pixels.shape[:2], dtype=np.float32)
    inner = inner_slices(placement)
    hills = [np.exp(-0.5 * ((np.arange(n) + 0.5 - n / 2) / (CENTRE_WIDTH * n)) ** 2) for n in answer[inner].shape]
    answer[inner] = np.outer(*hills)
    return answer


BASELINE_MAPS: MappingProxyType[str, BaselineMaps] = MappingProxyType(
    {"random map": random_map, "edges of the image": edge_map, "centre of the image": centre_map}
)
"""Name -> map. The fourth baseline, the same method on the network with re-drawn weights, needs the model's graph."""


def baseline_maps(pixels: ByteArray, placements: Sequence[Placement], *, seed: int) -> dict[str, FloatArray]:
    """Return the maps of every baseline for some images.

    Args:
        pixels: Prepared images, uint8, shape (n, size, size, channels).
        placements: What of them is image.
        seed: Same seed, same maps.

    Returns:
        Name -> maps, float32, shape (n, size, size); zero in the padding.
    """
    return {
        name: np.stack([draw(one, placement, seed) for one, placement in zip(pixels, placements, strict=True)])
        for name, draw in BASELINE_MAPS.items()
    }


def _inside(cells: DoubleArray, pixels: ByteArray, placement: Placement) -> FloatArray:
    """Enlarge cells over the part of the input that shows image; zero elsewhere."""
    answer = np.zeros(pixels.shape[:2], dtype=np.float32)
    inner = inner_slices(placement)
    height, width = answer[inner].shape
    answer[inner] = resize_bilinear(cells, height=height, width=width)
    return answer
