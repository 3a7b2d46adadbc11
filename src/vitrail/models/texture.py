"""Texture of a grey image as numbers: local binary patterns and grey-level co-occurrence, for models on hand-made features."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from vitrail.records import ByteArray, FloatArray

PATTERNS = ((8, 1.0), (16, 2.0))
"""Local binary patterns: number of neighbours on the circle, and its radius in pixels."""
GRID = 4
"""The image is cut into GRID x GRID regions, each with its own histograms, so that it counts where a texture is."""
LEVELS = 32
"""Grey levels of the co-occurrence matrices: 256 would leave most of their cells empty."""
DISTANCES = (1, 2, 4)
"""Distances of the paired pixels."""
ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
"""Directions of the paired pixels; the matrices are symmetric, so that the opposite directions are in them."""
STATISTICS = ("contrast", "dissimilarity", "homogeneity", "ASM", "energy", "correlation")
"""What is said of each matrix, in this order."""
DIMENSION = (1 + GRID**2) * sum(neighbours + 2 for neighbours, _ in PATTERNS) + len(STATISTICS) * len(DISTANCES) * len(ANGLES)
"""Length of the vector of one image, whatever its size."""


def texture(grey: ByteArray) -> FloatArray:
    """Describe the texture of one image.

    Uniform local binary patterns (Ojala et al., TPAMI 2002) as histograms that sum to 1: of the whole image, then of each region
    row by row, first for the small radius, then for the large one. Then the statistics of Haralick et al. (1973) of the grey
    levels of pairs of pixels, each for all distances and angles. Patterns do not change with brightness or contrast; of the
    statistics, contrast and dissimilarity do.

    Args:
        grey: uint8, shape (height, width), at least 8 x 8.

    Returns:
        float32, shape (``DIMENSION``,).
    """
    return np.concatenate([*(_patterns(grey, *pattern) for pattern in PATTERNS), _co_occurrence(grey)]).astype(np.float32)


def _patterns(grey: ByteArray, neighbours: int, radius: float) -> FloatArray:
    """Return the histograms of uniform local binary patterns, flattened: the whole image, then the regions."""
    from skimage import feature

    local_binary_pattern: Any = feature.local_binary_pattern  # scikit-image ships no types for it

    margin = int(np.ceil(radius))  # outside the image, scikit-image would see black
    padded = np.pad(grey, margin, mode="edge")
    codes = np.asarray(local_binary_pattern(padded, neighbours, radius, method="uniform"), dtype=np.int64)
    codes = codes[margin:-margin, margin:-margin]
    regions = [region for band in np.array_split(codes, GRID, axis=0) for region in np.array_split(band, GRID, axis=1)]
    counts = [np.bincount(region.ravel(), minlength=neighbours + 2) / region.size for region in (codes, *regions)]
    return np.concatenate(counts).astype(np.float32)


def _co_occurrence(grey: ByteArray) -> FloatArray:
    """Return the statistics of pairs of pixels: statistic by statistic, distances, angles."""
    from skimage import feature

    graycomatrix: Any = feature.graycomatrix  # scikit-image ships no types for them
    graycoprops: Any = feature.graycoprops

    levels = (grey // (256 // LEVELS)).astype(np.uint8)
    matrices = graycomatrix(levels, DISTANCES, ANGLES, levels=LEVELS, symmetric=True, normed=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a flat image has no variance; its correlation is 1 by definition
        return np.concatenate([graycoprops(matrices, name).ravel() for name in STATISTICS]).astype(np.float32)
