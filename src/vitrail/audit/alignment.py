"""Two small pictures laid over one another: turned, stretched, shifted, and compared in their detail."""

from __future__ import annotations

import numpy as np

from vitrail.records import ByteArray, FloatArray

SMALL, MIDDLE, LARGE = 32, 64, 128
"""Sides of the pictures in pixels: coarse, finer, and the whole thumbnail."""

ORIENTATIONS = (
    "",
    "mirrored left-right",
    "mirrored top-bottom",
    "rotated by 180°",
    "mirrored along the diagonal",
    "rotated by 90° clockwise",
    "rotated by 90° counter-clockwise",
    "mirrored along the other diagonal",
)
"""How the second image of a pair was made from the first; the position is a number of three bits: transposed first (4), then
columns reversed (1) and rows reversed (2)."""

_STEPS = 2


def turn(pixels: FloatArray, orientation: int) -> FloatArray:
    """Return images (n, side, side) turned to one of :data:`ORIENTATIONS`."""
    if orientation & 4:
        pixels = pixels.transpose(0, 2, 1)
    if orientation & 1:
        pixels = pixels[:, :, ::-1]
    if orientation & 2:
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def align(first: FloatArray, second: FloatArray, placement: FloatArray) -> FloatArray:
    """Return how second images lie best on first ones: scale and shift of the rows, scale and shift of the columns.

    A few steps of the method of Lucas and Kanade (1981): each solves for the small change of the four numbers that takes away
    most of the difference between the two images, brightness and contrast set equal. The change is sought on the first image,
    which stays as it is, and its inverse applied to the second (Baker and Matthews 2004), so that what is solved is set up once.

    Args:
        first: Shape (n, side, side).
        second: The same.
        placement: Where to start, shape (n, 4); 1, 0, 1, 0: as they lie. Shifts are in pixels, counted from the middle.

    Returns:
        The placement for :func:`resample`, shape (n, 4).
    """
    count, side = len(first), first.shape[1]
    target = _standardised(first)
    slopes = _slopes(target).reshape(count, 4, side * side)
    normal = slopes @ slopes.transpose(0, 2, 1)
    damping = 1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-9
    inverse = np.linalg.inv(normal + damping * np.eye(4, dtype=np.float32))
    limit = np.array([0.05, side / 32, 0.05, side / 32], dtype=np.float32)
    for _ in range(_STEPS):
        difference = _standardised(resample(second, placement)) - target
        change = np.clip((inverse @ (slopes @ difference.reshape(count, side * side, 1)))[..., 0], -limit, limit)
        scale, shift = placement[:, ::2] / (1 + change[:, ::2]), placement[:, 1::2]
        placement = np.stack([scale, shift - scale * change[:, 1::2]], axis=2).reshape(count, 4).astype(np.float32)
    return placement


def _slopes(pixels: FloatArray) -> FloatArray:
    """Return how much images (n, side, side) change with each of the four numbers, shape (n, 4, side, side)."""
    side = pixels.shape[1]
    offset = np.arange(side, dtype=np.float32) + 0.5 - side / 2
    slopes = np.zeros((len(pixels), 4, side, side), dtype=np.float32)
    slopes[:, 1, 1:-1] = (pixels[:, 2:] - pixels[:, :-2]) / 2
    slopes[:, 3, :, 1:-1] = (pixels[:, :, 2:] - pixels[:, :, :-2]) / 2
    slopes[:, 0] = slopes[:, 1] * offset[:, None]
    slopes[:, 2] = slopes[:, 3] * offset
    return slopes


def resample(pixels: FloatArray, placement: FloatArray) -> FloatArray:
    """Return images stretched and shifted along both axes, bilinear, the rim repeated."""
    rows = _resample_rows(pixels, placement[:, 0], placement[:, 1])
    return _resample_rows(rows.transpose(0, 2, 1), placement[:, 2], placement[:, 3]).transpose(0, 2, 1)


def _resample_rows(pixels: FloatArray, scale: FloatArray, shift: FloatArray) -> FloatArray:
    side = pixels.shape[1]
    offset = np.arange(side, dtype=np.float32) + 0.5 - side / 2
    source = np.clip(offset * scale[:, None] + shift[:, None] + side / 2 - 0.5, 0, side - 1)
    above = np.minimum(source.astype(np.int64), side - 2)
    share = (source - above)[:, :, None].astype(np.float32)
    every = pixels.reshape(-1, side)
    above += np.arange(0, len(every), side)[:, None]
    upper, result = every.take(above, axis=0), every.take(above + 1, axis=0)
    result -= upper
    result *= share
    result += upper
    return np.asarray(result)


def agreement_of_detail(first: FloatArray, second: FloatArray, placement: FloatArray) -> FloatArray:
    """Return the correlation of what is left of pairs of images (n, side, side) without their local means, the rim left out.

    ``placement`` is one of pictures of ``SMALL`` pixels; its shifts are scaled to the side of the images.
    """
    side = first.shape[1]
    factor = side / SMALL
    moved = resample(second, placement * np.array([1, factor, 1, factor], dtype=np.float32))
    rim = side // 16
    inside = np.s_[:, rim:-rim, rim:-rim]
    return correlation(_detail(first)[inside], _detail(moved)[inside])


def _detail(pixels: FloatArray) -> FloatArray:
    """Return images less their local mean, over 7 x 7 pixels of 128 or 5 x 5 of 64."""
    from scipy.ndimage import uniform_filter1d

    width = 7 if pixels.shape[1] >= LARGE else 5
    blurred = uniform_filter1d(uniform_filter1d(pixels, width, axis=1), width, axis=2)
    return np.asarray(pixels - blurred)


def shrunk(pixels: ByteArray, side: int) -> FloatArray:
    """Return images, float32, at half or a quarter of their side by averaging squares of pixels."""
    factor = pixels.shape[1] // side
    rows = pixels[:, ::factor].astype(np.uint16)  # up to 16 x 16 pixels, the sum of a square fits
    for row in range(1, factor):
        rows += pixels[:, row::factor]
    columns = rows[:, :, ::factor].copy()
    for column in range(1, factor):
        columns += rows[:, :, column::factor]
    return columns.astype(np.float32) / np.float32(factor**2)


def _standardised(pixels: FloatArray) -> FloatArray:
    centred = pixels - pixels.mean(axis=(1, 2), keepdims=True)
    centred /= np.maximum(np.sqrt(np.einsum("nij,nij->n", centred, centred)), 1e-6)[:, None, None]
    return np.asarray(centred)


def correlation(one: FloatArray, other: FloatArray) -> FloatArray:
    """Return the correlation of each image with its partner, shape (n,)."""
    return np.asarray(np.einsum("nij,nij->n", _standardised(one), _standardised(other)))
