"""Slow changes of brightness taken out, grey values cut and stretched (window), contrast raised, on resized pixels without their
padding. Luminance only: the chroma of colour images stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitrail.preprocess.bias import corrected
from vitrail.records import ByteArray, IntArray, Recipe

SMALLEST_TILE = 8
"""Side of the smallest tile in pixels: a histogram of fewer pixels says nothing."""


def adjusted(pixels: ByteArray, recipe: Recipe) -> ByteArray:
    """Apply the recipe's bias correction, then its window, then its contrast.

    For the first see :func:`vitrail.preprocess.bias.corrected`. For colour, the others work on the luminance (ITU-R BT.601), and
    every channel then gets what the luminance has gained: in luminance and chroma, the chroma stays, but for values that leave
    0..255 and are cut off there.

    Args:
        pixels: uint8, shape (rows, columns) when grey or (rows, columns, 3) when RGB, without padding.
        recipe: What to do.

    Returns:
        uint8, same shape; the very same pixels where the recipe asks for none of them. A constant image stays as it is.
    """
    if recipe.bias_correction == "n4":
        pixels = corrected(pixels)
    if recipe.window is None and recipe.contrast == "none":
        return pixels
    before = pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))
    after = before
    if recipe.window is not None:
        after = windowed(after, *recipe.window)
    if recipe.contrast == "clahe":
        after = locally_equalised(after, clip_limit=recipe.clip_limit, tiles=recipe.tiles)
    elif recipe.contrast == "equalise":
        after = equalised(after)
    if pixels.ndim == 2:
        return after
    gained = after.astype(np.int16) - before
    return np.asarray(np.clip(pixels + gained[:, :, None], 0, 255), dtype=np.uint8)


def windowed(grey: ByteArray, low: float, high: float) -> ByteArray:
    """Make one percentile of the grey values black and another white, the values between in proportion.

    Args:
        grey: uint8, shape (rows, columns).
        low: Percentile, 0..100, interpolated linearly.
        high: Percentile above it.

    Returns:
        uint8, same shape; unchanged where both percentiles are the same grey value.
    """
    darkest, brightest = np.percentile(grey, (low, high))
    if not darkest < brightest:
        return grey
    table = np.clip((np.arange(256) - darkest) * (255 / (brightest - darkest)), 0, 255)
    return np.asarray(np.rint(table), dtype=np.uint8)[grey]


def equalised(grey: ByteArray) -> ByteArray:
    """Make all grey values as equally frequent as a mapping of grey values can (histogram equalisation).

    The darkest value becomes 0 and the brightest 255, so that a black background, however large, stays black. (The plain
    cumulative histogram would lift it to its share of the image.)

    Args:
        grey: uint8, shape (rows, columns).

    Returns:
        uint8, same shape; unchanged where it is constant.
    """
    cumulative = np.cumsum(np.bincount(grey.reshape(-1), minlength=256))
    darkest = cumulative[grey.min()]
    if darkest == grey.size:
        return grey
    table = np.clip((cumulative - darkest) * (255 / (grey.size - darkest)), 0, 255)
    return np.asarray(np.rint(table), dtype=np.uint8)[grey]


def locally_equalised(grey: ByteArray, *, clip_limit: float, tiles: int) -> ByteArray:
    """Equalise the histogram of every tile up to a limit, with smooth passages from tile to tile (CLAHE; Zuiderveld 1994).

    Every pixel is mapped by the four tiles around it, weighted by the distance to their centres. Black stays black and white
    white: each tile's mapping begins at the share of its black pixels, so that a dark background is not lifted.

    Args:
        grey: uint8, shape (rows, columns).
        clip_limit: Largest share of a tile's pixels, above 0 to 1, that one grey value may count for: it bounds the contrast
            and with it the noise. At 1/256 and below nothing changes, 1 is without limit.
        tiles: Number of tiles down and across; fewer where they would have less than ``SMALLEST_TILE`` pixels a side.

    Returns:
        uint8, same shape; unchanged where it is constant.
    """
    # Written out because scikit-image's redistribution hands out more pixels than it has cut (up to a fifth of a tile of an MRI
    # slice of 64 px, which makes its bright parts white), and because its mapping lifts black.
    if grey.min() == grey.max():
        return grey
    tile_of_row, row_position = _tiles_along(grey.shape[0], tiles)
    tile_of_column, column_position = _tiles_along(grey.shape[1], tiles)
    down, across = int(tile_of_row[-1]) + 1, int(tile_of_column[-1]) + 1
    tile = tile_of_row[:, None] * across + tile_of_column[None, :]
    histograms = np.bincount((tile * 256 + grey).reshape(-1), minlength=down * across * 256).reshape(-1, 256)
    tables = _mappings(histograms, clip_limit).reshape(down, across, 256)
    top, left = np.floor(row_position).astype(np.int64), np.floor(column_position).astype(np.int64)
    equal = np.zeros(grey.shape)
    for lower in (0, 1):
        rows = np.minimum(top + lower, down - 1)[:, None]
        row_weight = np.abs(1 - lower - (row_position - top))[:, None]
        for right in (0, 1):
            columns = np.minimum(left + right, across - 1)[None, :]
            column_weight = np.abs(1 - right - (column_position - left))[None, :]
            equal += row_weight * column_weight * tables[rows, columns, grey]
    return np.asarray(np.rint(equal), dtype=np.uint8)


def _tiles_along(side: int, tiles: int) -> tuple[IntArray, npt.NDArray[np.float64]]:
    """Return, for every pixel of a side, the tile it belongs to, and where it lies between tile centres (0: the first's)."""
    count = max(1, min(tiles, side // SMALLEST_TILE))
    pixels = np.arange(side)
    tile = pixels * count // side
    centres = np.bincount(tile, weights=pixels) / np.bincount(tile)
    return tile, np.interp(pixels, centres, np.arange(count))


def _mappings(histograms: IntArray, clip_limit: float) -> npt.NDArray[np.float64]:
    """Return each tile's mapping of grey values, 0..255, from its histogram; both of shape (tiles, 256).

    What exceeds the limit is spread evenly over all values that still have room, so that the counts stay as many.
    """
    shares = histograms / histograms.sum(axis=1, keepdims=True)
    limit = max(clip_limit, 1 / 256)  # less cannot hold all pixels
    cut = np.minimum(shares, limit)
    # Values fill up one after the other, those with least room first; the even amount is the one that fits the rest.
    room = np.sort(limit - cut, axis=1)
    excess = 1 - cut.sum(axis=1, keepdims=True)
    filled = np.cumsum(room, axis=1) - room
    amounts = (excess - filled) / np.arange(256, 0, -1)
    last = np.argmax(amounts <= room + 1e-12, axis=1)
    cut = np.minimum(cut + np.take_along_axis(amounts, last[:, None], axis=1), limit)
    cumulative = np.cumsum(cut, axis=1)
    black, whole = cumulative[:, :1], cumulative[:, -1:]
    rising = whole - black > 1e-9  # else the tile is all black, and nothing in it shows another value
    mapped = 255 * (cumulative - black) / np.where(rising, whole - black, 1)
    return np.where(rising, mapped, np.arange(256))
