"""Localisation: whether a map points to where people say the finding is. Plausible is not yet faithful."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from vitrail.errors import DataError, UsageError
from vitrail.explanation.grading.cells import BoolArray, DoubleArray, inner_slices
from vitrail.records import FloatArray, Placement

MASK_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif")


@dataclass(frozen=True)
class Localisation:
    """How well maps agree with masks, one value per image.

    Attributes:
        pointing: Whether the strongest place of the map lies in the mask, 0..1; a share where several places are strongest
            (pointing game, Zhang et al., ECCV 2016).
        energy: Share of the positive part of the map that lies in the mask, 0..1; NaN for a map without a positive part.
        rank_accuracy: Share of the mask among as many strongest pixels as the mask has, 0..1 (Kohlbrenner et al. 2020).
        chance: Share of the image that the mask takes: what a random map reaches on average, in all three.
    """

    pointing: DoubleArray
    energy: DoubleArray
    rank_accuracy: DoubleArray
    chance: DoubleArray


def localise(maps: FloatArray, masks: BoolArray, placements: Sequence[Placement]) -> Localisation:
    """Compare maps with masks.

    Args:
        maps: Shape (n, size, size), signed.
        masks: Shape (n, size, size), at the model's input: see :func:`mask_at_input`.
        placements: What of the images is image; padding counts for nothing.

    Returns:
        One value per image; all NaN where the mask has no pixel.
    """
    found = np.full((4, len(maps)), np.nan)
    for image, placement in enumerate(placements):
        inner = inner_slices(placement)
        values, mask = maps[image][inner].astype(np.float64).ravel(), masks[image][inner].ravel()
        if not mask.any():
            continue
        positive = np.maximum(values, 0.0)
        energy = positive[mask].sum() / positive.sum() if positive.any() else np.nan
        found[:, image] = (mask[values == values.max()].mean(), energy, _rank_accuracy(values, mask), mask.mean())
    return Localisation(*found)


def _rank_accuracy(values: DoubleArray, mask: BoolArray) -> float:
    """Return the expected share of the mask among the strongest pixels, equals drawn at random."""
    size = int(mask.sum())
    threshold = np.partition(values, len(values) - size)[len(values) - size]
    above, equal = values > threshold, values == threshold
    drawn = size - np.count_nonzero(above)
    return float((np.count_nonzero(mask & above) + drawn * mask[equal].mean()) / size)


def mask_at_input(mask: BoolArray, placement: Placement, *, size: int) -> BoolArray:
    """Bring a mask of the original image to the model's input, the nearest pixel deciding.

    Args:
        mask: Shape (height, width) of the upright original.
        placement: Where the input came from.
        size: Side of the input.

    Raises:
        DataError: The mask is of another size than the image.
    """
    if mask.shape != (placement.height, placement.width):
        raise DataError(
            f"mask: must have its image's height and width, {(placement.height, placement.width)}. Found: {mask.shape}. "
            "Give masks of the original images."
        )
    answer = np.zeros((size, size), dtype=np.bool_)
    inner = inner_slices(placement)
    height, width = answer[inner].shape
    shown = Image.fromarray(mask[placement.top : placement.bottom, placement.left : placement.right].astype(np.uint8) * 255)
    answer[inner] = np.asarray(shown.resize((width, height), Image.Resampling.NEAREST)) > 0
    return answer


def find_masks(folder: Path, images: Iterable[str]) -> dict[str, Path]:
    """Find the mask of every image in a folder: the same relative path, or else the same name, with an ending of a mask.

    Args:
        folder: Of the masks.
        images: Paths of images, relative to the data set.

    Returns:
        Image -> mask, for the images that have one.

    Raises:
        UsageError: There is no such folder, or two masks have an image's name.
    """
    if not folder.is_dir():
        raise UsageError(f"explanation.masks: must be a folder. Found: {folder}. Give the folder with the masks, or null.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MASK_SUFFIXES)
    of_path = {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}
    of_name: dict[str, list[Path]] = {}
    for path in files:
        of_name.setdefault(path.stem, []).append(path)
    found: dict[str, Path] = {}
    for image in images:
        same = of_path.get(PurePosixPath(image).with_suffix("").as_posix())
        named = [same] if same else of_name.get(PurePosixPath(image).stem, [])
        if len(named) > 1:
            raise UsageError(
                f"explanation.masks: {image} must have one mask. Found: {', '.join(map(str, named[:3]))}. Give the masks the "
                "relative paths of their images."
            )
        if named:
            found[image] = named[0]
    return found


def read_mask(path: Path) -> BoolArray:
    """Read a mask, shape (height, width): what is brighter than half of its file's brightest value belongs to it."""
    with Image.open(path) as picture:
        values = np.asarray(picture.convert("F"))
    return np.asarray(values > values.max() / 2) if values.max() > 0 else np.zeros(values.shape, dtype=np.bool_)
