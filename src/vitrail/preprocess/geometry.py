"""Where the model's input lies in the original image: boxes there, maps back."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vitrail.records import ByteArray, FloatArray, Placement

Box = tuple[int, int, int, int]
"""``(top, left, bottom, right)`` in pixels, half-open."""

DARK_SHARE = 0.1
"""A pixel belongs to the object when it is brighter than this share of the image's 99th percentile."""
FEWEST_OBJECT_PIXELS = 0.02
"""A row or column belongs to the object when at least this share of it is object: lone specks of noise are margin."""


def object_box(grey: ByteArray) -> Box:
    """Return the box around the object: the image without its dark margin.

    Args:
        grey: uint8, shape (height, width).

    Returns:
        The box; the whole image when nothing stands out, or when the box would be less than a tenth of a side.
    """
    height, width = grey.shape
    whole = (0, 0, height, width)
    bright = grey > max(DARK_SHARE * float(np.percentile(grey, 99)), 1.0)
    rows = np.flatnonzero(bright.mean(axis=1) >= FEWEST_OBJECT_PIXELS)
    columns = np.flatnonzero(bright.mean(axis=0) >= FEWEST_OBJECT_PIXELS)
    if not len(rows) or not len(columns):
        return whole
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if (bottom - top) * 10 < height or (right - left) * 10 < width:
        return whole
    return top, left, bottom, right


def inner_box(box_height: int, box_width: int, size: int, *, keep_aspect: bool) -> Box:
    """Return the part of a ``size`` x ``size`` input that shows image; the rest is black padding.

    Args:
        box_height: Height of what is shown, in pixels of the original.
        box_width: Width of what is shown.
        size: Side of the model's input.
        keep_aspect: False: stretched, so the whole input shows image.
    """
    if not keep_aspect:
        return 0, 0, size, size
    longest = max(box_height, box_width)
    height = max(1, round(size * box_height / longest))
    width = max(1, round(size * box_width / longest))
    top, left = (size - height) // 2, (size - width) // 2
    return top, left, top + height, left + width


def restore_map(relevance: FloatArray, placement: Placement) -> FloatArray:
    """Put a map given at the model's input back on the original image.

    Args:
        relevance: float32, shape (size, size).
        placement: Where the input came from.

    Returns:
        float32 of shape (height, width) of the upright original; zero outside what the model saw. Bilinear, pixel centres
        aligned as in the resize that made the input.
    """
    inner = relevance[placement.inner_top : placement.inner_bottom, placement.inner_left : placement.inner_right]
    shown = (placement.right - placement.left, placement.bottom - placement.top)
    enlarged = Image.fromarray(np.ascontiguousarray(inner, dtype=np.float32)).resize(shown, Image.Resampling.BILINEAR)
    restored = np.zeros((placement.height, placement.width), dtype=np.float32)
    restored[placement.top : placement.bottom, placement.left : placement.right] = np.asarray(enlarged)
    return restored
