"""Sensitivity: by how much a map changes when the image changes by less than anybody sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from vitrail.explanation.grading.cells import DoubleArray, generator_of, inner_slices
from vitrail.records import ByteArray, FloatArray, IntArray, Placement

RADIUS = 5
"""Largest change of a pixel in grey levels of 255: 2 % of the range."""
SAMPLES = 3

MapsOf = Callable[[ByteArray, Sequence[Placement], IntArray], FloatArray]
"""From pixels (n, size, size, channels), placements and classes to maps (n, size, size)."""


def largest_sensitivity(
    maps_of: MapsOf,
    pixels: ByteArray,
    placements: Sequence[Placement],
    targets: IntArray,
    maps: FloatArray,
    *,
    seed: int,
    radius: int = RADIUS,
    samples: int = SAMPLES,
) -> DoubleArray:
    """Return sensitivity-max of every image, shape (n,): at least 0, without unit; 0 is a map that does not change.

    ``max over d of |map(x + d) - map(x)| / |map(x)|`` with the Euclidean norm and ``d`` uniform within the radius, the class
    explained kept (Yeh et al., NeurIPS 2019). It depends on the radius and the number of samples (more samples find larger
    changes): compare only numbers with the same. The noise of a stochastic method is in it.

    Args:
        maps_of: The method on the model.
        pixels: Prepared images, uint8, shape (n, size, size, channels).
        placements: What of them is image; padding is not changed.
        targets: Class of each, shape (n,).
        maps: The maps of the unchanged images, shape (n, size, size).
        seed: Same seed, same changes.
        radius: Largest change of a pixel, grey levels.
        samples: Changes tried per image.

    Returns:
        NaN for a map that is zero everywhere.
    """
    largest = np.zeros(len(pixels))
    norms = np.sqrt((maps.astype(np.float64) ** 2).sum(axis=(1, 2)))
    norms[norms == 0] = np.nan
    for sample in range(samples):
        changed = np.stack(
            [_changed(one, at, radius, seed=seed, sample=sample) for one, at in zip(pixels, placements, strict=True)]
        )
        moved = maps_of(changed, placements, targets).astype(np.float64) - maps
        largest = np.maximum(largest, np.sqrt((moved**2).sum(axis=(1, 2))) / norms)
    return largest


def _changed(pixels: ByteArray, placement: Placement, radius: int, *, seed: int, sample: int) -> ByteArray:
    """Return one image with uniform noise where it shows image."""
    inner, answer = inner_slices(placement), pixels.copy()
    generator = generator_of(pixels, seed, f"sensitivity {sample}")
    noise = generator.integers(-radius, radius, size=answer[inner].shape, endpoint=True)
    answer[inner] = np.clip(answer[inner].astype(np.int64) + noise, 0, 255)
    return answer
