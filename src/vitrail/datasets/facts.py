"""The thumbnail of an image and its measurements, taken while it is decoded: what all later looks at the data set rest on.

All are taken at the scale at which the image was decoded (large JPEGs are decoded at a fraction of their size, with both sides
at least 256 pixels), so they compare images with one another and mean nothing alone.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitrail.records import ByteArray

THUMBNAIL_SIZE = 128
"""Height and width of a thumbnail in pixels."""

FACTS = np.dtype(
    [
        (name, np.float32)
        for name in (
            "quality",  # JPEG quality from 1 to 100 by the quantisation tables
            "mean",  # grey, 0..255
            "deviation",  # of the grey values, 0..127.5
            "levels",  # number of different grey values, 1..256
            "black",  # share of pixels at 0
            "white",  # share of pixels at 255
            "sharpness",  # variance of the Laplacian over the central 160 x 160 pixels (Pech-Pacheco et al. 2000)
            "noise",  # deviation of the noise in grey values, central 160 x 160 pixels (Immerkaer 1996)
            "blockiness",  # steps across the borders of 8 x 8 blocks relative to steps inside; 1 is none
            "colour",  # share of pixels whose channels differ by more than 32
        )
    ]
)
"""One float32 field per measurement; not-a-number where it cannot be taken."""

UNKNOWN = np.array(tuple(np.nan for _ in FACTS.names or ()), dtype=FACTS)
"""The facts of a file that could not be decoded."""

_SIDE = 160
_POWERS = (np.arange(256), np.arange(256) ** 2)
_COLOUR_SPREAD = 32


def look(pixels: ByteArray, *, quality: float, whole: bool) -> tuple[ByteArray, npt.NDArray[np.void]]:
    """Make the thumbnail of a decoded image, and measure the image.

    Args:
        pixels: uint8, shape (rows, columns) or (rows, columns, 3).
        quality: JPEG quality, or not-a-number.
        whole: Whether the image was decoded at its full size; only then can the borders of compression blocks be seen.

    Returns:
        The thumbnail, grey, uint8 of shape (128, 128), stretched to the square; and a scalar array of :data:`FACTS`.
    """
    grey, colour = (pixels, 0.0) if pixels.ndim == 2 else _grey(pixels)
    picture = Image.fromarray(grey)
    # A quicker filter (means of areas, or a smaller gap) leaves other detail in a picture than in a cropped copy of it.
    thumbnail = picture.resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BILINEAR, reducing_gap=2.0)
    counts = np.array(picture.histogram())
    mean, square = (float(counts @ powers) / grey.size for powers in _POWERS)
    deviation = math.sqrt(max(0.0, square - mean**2))
    sharpness, noise, blockiness = _detail(_central(grey).astype(np.int16), whole=whole)
    levels = np.count_nonzero(counts)
    facts = (
        quality,
        mean,
        deviation,
        levels,
        counts[0] / grey.size,
        counts[255] / grey.size,
        sharpness,
        noise,
        blockiness,
        colour,
    )
    return np.asarray(thumbnail), np.array(facts, dtype=FACTS)


def _grey(pixels: ByteArray) -> tuple[ByteArray, float]:
    """Return the luma of an RGB image, and the share of its pixels that are coloured, by a grid of about 64 x 64 pixels."""
    few = pixels[:: max(1, len(pixels) // 64), :: max(1, pixels.shape[1] // 64)]
    channels = np.ascontiguousarray(few.transpose(2, 0, 1))
    spread = channels.max(axis=0) - channels.min(axis=0)
    return np.asarray(Image.fromarray(pixels).convert("L")), np.count_nonzero(spread > _COLOUR_SPREAD) / spread.size


def _detail(centre: npt.NDArray[np.int16], *, whole: bool) -> tuple[float, float, float]:
    """Return sharpness, noise and blockiness of the middle of an image; not-a-number where it is too small for them."""
    if min(centre.shape) < 16:
        return math.nan, math.nan, math.nan
    across, along = _bends(centre.T).T, _bends(centre)
    both = _bends(across)  # answers to noise and hardly to edges
    noise = float(np.abs(both).sum(dtype=np.int32)) / both.size * math.sqrt(math.pi / 2) / 6
    flat = (across[1:-1] + along[:, 1:-1]).ravel().astype(np.float32)
    return float(flat @ flat / flat.size - flat.mean() ** 2), noise, _blockiness(centre) if whole else math.nan


def _bends(values: npt.NDArray[np.int16]) -> npt.NDArray[np.int16]:
    """Return the second differences along the first axis."""
    bends = values[:-2] + values[2:]
    bends -= values[1:-1]
    bends -= values[1:-1]
    return bends


def _central(grey: ByteArray) -> ByteArray:
    """Return the central 160 x 160 pixels, or what there is of them, cut at borders of 8 x 8 blocks."""
    top, left = (max(0, (length - _SIDE) // 2) // 8 * 8 for length in grey.shape)
    return grey[top : top + _SIDE, left : left + _SIDE]


def _blockiness(centre: npt.NDArray[np.int16]) -> float:
    """Return the mean step across the borders of 8 x 8 blocks divided by the mean step elsewhere, along the rows."""
    steps = np.abs(centre[:, 1:] - centre[:, :-1]).view(np.uint16).sum(axis=0, dtype=np.uint16).astype(np.float32) / len(centre)
    across = float(steps[7::8].mean())
    inside = (float(steps.sum()) - across * len(steps[7::8])) / (len(steps) - len(steps[7::8]))
    return (across + 0.5) / (inside + 0.5)
