"""Where in the image each hand-made feature is read, so that what a feature says can be drawn there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitrail.models import texture
from vitrail.records import FeaturePlaces

ORIENTATIONS = 9
BLOCK = 2


def feature_places(features: tuple[str, ...], size: int) -> FeaturePlaces:
    """Return the places of the features that :class:`~vitrail.models.embedders.DescriptorEmbedder` makes, in their order.

    A pixel is its own place. A value of HOG belongs to the cell whose gradients it counts, in whichever block it was normalised.
    A histogram of local binary patterns of a region belongs to that region; those of the whole image, and the statistics of pairs
    of pixels, have no place.

    Args:
        features: Some of ``pixels``, ``hog`` and ``texture``.
        size: Height and width of the model's input.
    """
    made = {"pixels": _pixels, "hog": _hog, "texture": _texture}
    boxes: list[npt.NDArray[np.int64]] = []
    names: list[str] = []
    for feature in features:
        for name, found in made[feature](size):
            boxes.append(found)
            names.append(name)
    groups = tuple(dict.fromkeys(names))
    group = np.concatenate([np.full(len(found), groups.index(name)) for name, found in zip(names, boxes, strict=True)])
    return FeaturePlaces(boxes=np.concatenate(boxes), groups=groups, group=group)


def _pixels(size: int) -> list[tuple[str, npt.NDArray[np.int64]]]:
    rows, columns = (axis.ravel() for axis in np.indices((size, size)))
    return [("grey pixels", np.stack([rows, columns, rows + 1, columns + 1], axis=1))]


def _hog(size: int) -> list[tuple[str, npt.NDArray[np.int64]]]:
    cell = max(1, size // 8)
    blocks = max(0, size // cell - BLOCK + 1)
    down, across, row, column, _ = (axis.ravel() for axis in np.indices((blocks, blocks, BLOCK, BLOCK, ORIENTATIONS)))
    top, left = (down + row) * cell, (across + column) * cell
    return [("HOG", np.stack([top, left, top + cell, left + cell], axis=1))]


def _texture(size: int) -> list[tuple[str, npt.NDArray[np.int64]]]:
    edges = np.cumsum([0, *(len(part) for part in np.array_split(np.arange(size), texture.GRID))])
    regions = np.array(
        [
            (edges[row], edges[column], edges[row + 1], edges[column + 1])
            for row in range(texture.GRID)
            for column in range(texture.GRID)
        ]
    )
    parts: list[tuple[str, npt.NDArray[np.int64]]] = []
    for neighbours, radius in texture.PATTERNS:
        name = f"local binary patterns, radius {radius:g}"
        parts.append((f"{name}, whole image", np.zeros((neighbours + 2, 4), dtype=np.int64)))
        parts.append((f"{name}, regions", np.repeat(regions, neighbours + 2, axis=0)))
    pairs = len(texture.DISTANCES) * len(texture.ANGLES)
    parts.extend((f"grey levels of pairs: {name}", np.zeros((pairs, 4), dtype=np.int64)) for name in texture.STATISTICS)
    return parts
