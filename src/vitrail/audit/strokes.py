"""Bright strokes on a flat ground, near the edge of images: letters, side markers, callipers, scales burned into the pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vitrail.records import ByteArray

CORNER = 19
"""Side of the corners that are searched, in pixels of a thumbnail: 15 %."""

_THIN = 5  # pixels: strokes are thinner
_AROUND = 13  # pixels: the ground is flat that far
_CLEAR = 40  # grey values above the ground
_MARGIN = _AROUND // 2 + 2 * (_THIN // 2)  # pixels beyond the corner that decide about it
PLACES = ("top left", "top right", "bottom left", "bottom right", "middle")
"""Where strokes are measured: the corners, and the middle for comparison."""


def strokes(thumbnails: ByteArray) -> dict[str, npt.NDArray[np.float64]]:
    """Measure the strokes in the corners, and in the middle for comparison.

    A stroke is what a morphological opening removes (a white top-hat; Soille 2003). From its height the relief of the ground
    around it is subtracted: the bright line of a skull lies beside the brain, a letter on black or on even grey.

    Args:
        thumbnails: uint8 of shape (n, rows, columns).

    Returns:
        ``height`` of the clearest stroke in grey values, 0 where there is none worth the name, and ``area`` of all strokes in
        pixels; shape (5, n) each, in the order of :data:`PLACES`.
    """
    side = CORNER + _MARGIN
    middle = (thumbnails.shape[1] - side) // 2
    near, far, centre = slice(None, side), slice(-side, None), slice(middle, middle + side)
    crops = [
        thumbnails[:, down, across] for down, across in ((near, near), (near, far), (far, near), (far, far), (centre, centre))
    ]
    turned = (crops[0], crops[1][:, :, ::-1], crops[2][:, ::-1], crops[3][:, ::-1, ::-1], crops[4])
    # Images last: what is done to neighbouring pixels is then done to long runs of memory.
    pieces = np.concatenate([np.moveaxis(crop, 0, -1) for crop in turned], axis=2)
    ground = _filtered(_filtered(pieces, _THIN, np.minimum), _THIN, np.maximum)
    clear = (pieces - ground)[:CORNER, :CORNER]
    high = np.flatnonzero(clear.max(axis=(0, 1)) > _CLEAR)  # few: only around these the relief of the ground matters
    around = ground[:, :, high]
    relief = (_filtered(around, _AROUND, np.maximum) - _filtered(around, _AROUND, np.minimum))[:CORNER, :CORNER]
    clear[:, :, high] -= np.minimum(clear[:, :, high], relief)
    clear[clear <= _CLEAR] = 0
    shape = (len(PLACES), len(thumbnails))
    return {
        "height": clear.max(axis=(0, 1)).astype(np.float64).reshape(shape),
        "area": np.count_nonzero(clear, axis=(0, 1)).astype(np.float64).reshape(shape),
    }


def _filtered(images: ByteArray, size: int, pick: np.ufunc) -> ByteArray:
    """Return the smallest (or largest) value of the size x size square around every pixel; the edge is continued outwards.

    ``images`` has shape (rows, columns, n).
    """
    for _ in range(2):
        half, length = size // 2, len(images)
        window = np.concatenate([images[:1]] * half + [images] + [images[-1:]] * half)
        # Windows of 1, 2, 4... rows, each from two smaller ones, as long as they fit; then two that overlap.
        width = 1
        while 2 * width <= size:
            window = pick(window[:-width], window[width:])
            width *= 2
        images = pick(window[:length], window[size - width : size - width + length]).swapaxes(0, 1)
    return images
