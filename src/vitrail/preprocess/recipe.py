"""The recipe: crop, colour, resize, bias correction, window, contrast (uint8, cached), then scaling (float, per batch)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitrail.datasets import Decoded
from vitrail.preprocess.contrast import adjusted
from vitrail.preprocess.geometry import inner_box, object_box
from vitrail.records import ByteArray, FloatArray, Placement, Recipe
from vitrail.study import PreprocessSettings


def make_recipe(
    settings: PreprocessSettings, *, size: int, mean: tuple[float, ...] = (), deviation: tuple[float, ...] = ()
) -> Recipe:
    """Turn settings in which every wish is resolved into a recipe.

    Args:
        settings: From :meth:`vitrail.study.Study.preprocess_for`.
        size: Side of the input where the settings leave it open (a backbone's own size).
        mean: Per channel, for ``channel`` scaling.
        deviation: Per channel, for ``channel`` scaling.
    """
    colour = settings.colour or "grey"
    scaling = settings.scaling or "unit"
    if scaling == "channel":
        if not mean:  # a model without statistics of its own: centred on mid-grey
            mean, deviation = (0.5,), (0.5,)
        channels = 1 if colour == "grey" else 3
        if len(mean) != channels:
            mean = (float(np.mean(mean)),) * channels
            deviation = (float(np.mean(deviation)),) * channels
    else:
        mean, deviation = (), ()
    clahe = settings.contrast == "clahe"
    return Recipe(
        size=settings.size or size,
        colour=colour,
        crop_margins=bool(settings.crop_margins),
        keep_aspect=bool(settings.keep_aspect),
        scaling=scaling,
        mean=mean,
        deviation=deviation,
        window=None if settings.window == "none" else settings.window,
        contrast=settings.contrast or "none",
        bias_correction=settings.bias_correction or "none",
        # What does not act is not told apart: equal pixels, equal recipes.
        clip_limit=settings.clip_limit if clahe and settings.clip_limit is not None else Recipe.clip_limit,
        tiles=settings.tiles if clahe and settings.tiles is not None else Recipe.tiles,
    )


def prepare(image: Decoded, recipe: Recipe) -> tuple[ByteArray, Placement]:
    """Crop, recolour and resize one image, then take out slow changes of brightness (``bias_correction``), then cut and stretch
    its grey values (``window``), then raise its ``contrast``.

    The last three look at the resized image without the padding, so they see what the model sees, and padding stays black. They
    move no pixel: the placement is that of the resize.

    Args:
        image: The decoded image; its pixels may be smaller than the original (JPEG drafts).
        recipe: What to do.

    Returns:
        uint8 of shape (size, size, channels), and where it lies in the original.
    """
    picture = Image.fromarray(image.pixels)
    grey = picture.convert("L") if picture.mode != "L" else picture
    height, width = image.pixels.shape[:2]
    box = object_box(np.asarray(grey)) if recipe.crop_margins else (0, 0, height, width)
    top, left, bottom, right = _at_original_scale(box, image)
    inner = inner_box(bottom - top, right - left, recipe.size, keep_aspect=recipe.keep_aspect)
    coloured = grey if recipe.colour == "grey" else picture.convert("RGB")
    small = coloured.resize(
        (inner[3] - inner[1], inner[2] - inner[0]), Image.Resampling.BILINEAR, box=(box[1], box[0], box[3], box[2])
    )
    pixels = np.zeros((recipe.size, recipe.size, recipe.channels), dtype=np.uint8)
    shown = adjusted(np.asarray(small), recipe)
    pixels[inner[0] : inner[2], inner[1] : inner[3]] = shown.reshape(inner[2] - inner[0], inner[3] - inner[1], -1)
    return pixels, Placement(image.height, image.width, top, left, bottom, right, *inner)


def _at_original_scale(box: tuple[int, int, int, int], image: Decoded) -> tuple[int, int, int, int]:
    """Return a box of the decoded pixels in pixels of the original, rounded outwards."""
    down, across = image.height / image.pixels.shape[0], image.width / image.pixels.shape[1]
    return (
        math.floor(box[0] * down),
        math.floor(box[1] * across),
        min(image.height, math.ceil(box[2] * down)),
        min(image.width, math.ceil(box[3] * across)),
    )


def normalise(pixels: npt.NDArray[np.uint8] | FloatArray, recipe: Recipe) -> FloatArray:
    """Scale prepared pixels to a network's input.

    Args:
        pixels: uint8, or float32 in 0..255 (augmented), shape (n, size, size, channels).
        recipe: Its scaling; see :class:`vitrail.records.Recipe`. A constant image becomes zeros under ``minmax`` and
            ``standardise``.

    Returns:
        float32, shape (n, channels, size, size), contiguous.
    """
    # Always a copy: the scaling below works in place, and the caller keeps his pixels.
    planes = np.array(pixels.transpose(0, 3, 1, 2), dtype=np.float32, order="C")
    if recipe.scaling in ("unit", "channel"):
        planes /= 255.0
        if recipe.scaling == "channel":
            planes -= np.asarray(recipe.mean, dtype=np.float32)[:, None, None]
            planes /= np.asarray(recipe.deviation, dtype=np.float32)[:, None, None]
        return planes
    axes = (1, 2, 3)
    if recipe.scaling == "minmax":
        offset = planes.min(axis=axes, keepdims=True)
        spread = planes.max(axis=axes, keepdims=True) - offset
    else:
        offset = planes.mean(axis=axes, keepdims=True)
        spread = planes.std(axis=axes, keepdims=True)
    planes -= offset
    # Less than a hundredth of a grey level of spread is a constant image: rounding, not signal.
    planes *= np.where(spread > 0.01, 1.0 / np.maximum(spread, 0.01), 0.0).astype(np.float32)
    return planes
