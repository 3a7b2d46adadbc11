"""Localisation: whether a map points to where people say the finding is. Plausible is not yet faithful."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from vitrail.datasets import DERIVED, masked_stem
from vitrail.errors import DataError, UsageError
from vitrail.explanation.grading.cells import BoolArray, DoubleArray, inner_slices
from vitrail.records import FloatArray, Manifest, Placement

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
    """Bring a mask of the original image to the model's input: a pixel belongs to it that shows any part of it, so that small
    findings do not vanish.

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
    shown = Image.fromarray(mask[placement.top : placement.bottom, placement.left : placement.right].astype(np.float32))
    answer[inner] = np.asarray(shown.resize((width, height), Image.Resampling.BOX)) > 0
    return answer


def find_masks(folder: Path, manifest: Manifest) -> dict[str, tuple[Path, ...]]:
    """Find the masks of a data set's images in a folder, which may be the data set's own.

    A mask has the relative path of its image; or else its image's name, where no other image of the data set has that name. Its
    ending is another, and a word such as ``_mask`` or ``_mask_1`` may stand before it, as the data sets have it that keep masks
    beside images (:mod:`vitrail.datasets.derived`). Images are no masks.

    Args:
        folder: Of the masks.
        manifest: The data set.

    Returns:
        Image -> masks, for the images that have one: several only where their names differ in a number behind the word.

    Raises:
        UsageError: There is no such folder, or two masks compete for an image.
    """
    if not folder.is_dir():
        raise UsageError(f"explanation.masks: must be a folder. Found: {folder}. Give the folder with the masks, or null.")
    folder, root = folder.resolve(), manifest.root.resolve()
    images = [file.path for file in manifest.files if not file.problem.startswith(DERIVED)]
    own = {root / name for image in images for name in (image, image.rpartition("#")[0])}  # FILE#3 is the third frame of a file
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MASK_SUFFIXES and path not in own)
    of_path = _Masks((path.relative_to(folder).with_suffix("").as_posix(), path) for path in files)
    of_name = _Masks((path.stem, path) for path in files)
    same_name = Counter(PurePosixPath(image).stem for image in images)
    found: dict[str, tuple[Path, ...]] = {}
    for image in images:
        place = PurePosixPath(image).with_suffix("")
        of_image = of_path.of(place.as_posix()) or (of_name.of(place.name) if same_name[place.name] == 1 else [])
        if len(of_image) > 1:
            examples = ", ".join(str(files[0]) for files in of_image[:3])
            raise UsageError(
                f"explanation.masks: {image} must have one mask. Found: {examples}. Give the masks the relative paths of their "
                "images."
            )
        if of_image:
            found[image] = tuple(of_image[0])
    return found


def masks_found(masks: Collection[str], images: Collection[str], *, what: str) -> str:
    """Say how many images have a mask.

    Args:
        masks: Images that have one.
        images: Of which so many are asked about.
        what: What these are called, in the plural.
    """
    found = len(set(masks) & set(images))
    if found:
        return f"explanation.masks: {found:,} of {len(images):,} {what} have a mask."
    return (
        f"explanation.masks: none of {len(images):,} {what} has a mask, so their maps are held against none. A mask has the "
        "relative path or the name of its image."
    )


class _Masks:
    """Masks by what they are called: files that differ in a number behind the word are of one image."""

    def __init__(self, called: Iterable[tuple[str, Path]]) -> None:
        self._plain: dict[str, list[list[Path]]] = {}
        self._with_word: dict[str, dict[tuple[Path, str], list[Path]]] = {}
        for whole, path in called:
            self._plain.setdefault(whole, []).append([path])
            name, word = masked_stem(whole)
            if word:
                self._with_word.setdefault(name, {}).setdefault((path.parent, word), []).append(path)

    def of(self, name: str) -> list[list[Path]]:
        """Return the sets of masks that compete for a name; those without a word behind it come before those with one."""
        return self._plain.get(name) or list(self._with_word.get(name, {}).values())


def read_mask(*paths: Path) -> BoolArray:
    """Read a mask, shape (height, width): what is brighter than half of its file's brightest value belongs to it.

    Args:
        paths: One file, or several that hold a finding each.

    Raises:
        DataError: They are of different sizes.
    """
    parts = []
    for path in paths:
        with Image.open(path) as picture:
            values = np.asarray(picture.convert("F"))
        parts.append(np.asarray(values > values.max() / 2) if values.max() > 0 else np.zeros(values.shape, dtype=np.bool_))
    if len({part.shape for part in parts}) > 1:
        raise DataError(
            f"{', '.join(map(str, paths))}: masks of one image must have one size. Found: "
            f"{', '.join(str(part.shape) for part in parts)}. Give masks of the original images."
        )
    return np.asarray(np.logical_or.reduce(parts))
