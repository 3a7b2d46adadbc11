"""Files that were made from an image and stand beside it: masks, drawn contours, heat maps. They are no images to learn from."""

from __future__ import annotations

import re
from collections.abc import Iterable

DERIVED = "made from the image beside it, "
"""Begins the reason why a derived file is left out."""

_MASKS = "mask|masks|seg|segmentation|segmented|label|labels|gt|groundtruth|ground_truth|annotation|roi"
_DRAWINGS = "annotated|annot|contour|outline|overlay|heatmap|superpixels"
_NUMBER = r"(?:[ _-]?\d+)?$"
_ENDING = re.compile(rf"[ _-]+(?:{_MASKS}|{_DRAWINGS}){_NUMBER}", re.IGNORECASE)
_MASK_ENDING = re.compile(rf"[ _-]+({_MASKS}){_NUMBER}", re.IGNORECASE)


def derived_files(paths: Iterable[str]) -> dict[str, str]:
    """Return the derived files among some paths, each with the image that it was made from.

    A file counts as derived when its name is that of an image beside it with a word such as ``_mask`` or ``_mask_1`` behind:
    ``benign (1)_mask.png`` beside ``benign (1).png``. A name alone is no proof.
    """
    stems = {path: _stem(path) for path in paths}
    by_stem = {stem: path for path, stem in reversed(stems.items())}
    bases = {path: _ENDING.sub("", stem) for path, stem in stems.items()}
    return {path: by_stem[base] for path, base in bases.items() if base != stems[path] and base in by_stem}


def masked_stem(stem: str) -> tuple[str, str]:
    """Return the name of the image that a mask belongs to by its own name, and the word behind it: ``benign (1)`` and ``mask`` of
    ``benign (1)_mask_1``.

    The word is empty where the name ends in none that masks have: then it is the name as it was. Masks that differ in the
    number alone are of one image.

    Args:
        stem: A path without its extension.
    """
    found = _MASK_ENDING.search(stem)
    return (stem, "") if found is None or not found.start() else (stem[: found.start()], found.group(1).lower())


def _stem(path: str) -> str:
    """Return a path without its extension, where it has one (``.nii.gz`` whole)."""
    folder, slash, name = path.rpartition("/")
    stem = name[: -len(".nii.gz")] if name.lower().endswith(".nii.gz") else name.rpartition(".")[0]
    return f"{folder}{slash}{stem or name}"
