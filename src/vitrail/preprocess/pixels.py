"""From files to prepared pixels: one at a time, in batches, or all of them once into a file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vitrail.datasets import Decoded, read_image
from vitrail.engine import map_in_order
from vitrail.preprocess.recipe import prepare
from vitrail.progress import SILENT, Progress
from vitrail.records import ByteArray, IntArray, Manifest, Placement, Recipe
from vitrail.row_file import RowFile
from vitrail.storage import FOR_EVER, fingerprint, locked, versions, whole_file


def prepare_file(source: Path | bytes, recipe: Recipe) -> tuple[ByteArray, Placement]:
    """Read one image and prepare it: the one way from a file, or its bytes, to a model's input, in training and in serving.

    Returns:
        uint8 of shape (size, size, channels), and where it lies in the upright original.

    Raises:
        DataError: It is no readable image.
    """
    return prepare(read_image(source, at_least=_side_needed(recipe)), recipe)


def prepare_file_for_all(source: Path | bytes, recipes: Iterable[Recipe]) -> dict[Recipe, ByteArray]:
    """Prepare one image by several recipes, each exactly as :func:`prepare_file` does, decoding it as seldom as that allows.

    Raises:
        DataError: It is no readable image.
    """
    prepared: dict[Recipe, ByteArray] = {}
    decoded: Decoded | None = None
    for recipe in sorted(recipes, key=lambda recipe: _side_needed(recipe) or math.inf):
        side = _side_needed(recipe)
        if decoded is None or not _serves(decoded, side):
            decoded = read_image(source, at_least=side)
        prepared[recipe] = prepare(decoded, recipe)[0]
    return prepared


def _side_needed(recipe: Recipe) -> int | None:
    """Return to how many pixels a side an image may shrink while it is decoded; ``None``: not at all."""
    # Decoding at twice the model's size first (JPEG only) keeps the resize sharp and costs a fraction of a full decode. What is
    # left of it after cropping may be a tenth, so nothing is given away where margins are cut.
    return None if recipe.crop_margins else 2 * recipe.size


def _serves(decoded: Decoded, side: int | None) -> bool:
    """Return whether decoding for ``side`` pixels would give the same as what was decoded for no more than that."""
    rows, columns = decoded.pixels.shape[:2]
    whole = (rows, columns) == (decoded.height, decoded.width)
    return whole or (side is not None and min(rows, columns) > side)  # more, not as many: halves are rounded up


def pixel_batches(manifest: Manifest, rows: IntArray, recipe: Recipe, *, batch_size: int) -> Iterator[ByteArray]:
    """Yield prepared images, batch by batch, in the order of ``rows``.

    Args:
        manifest: The data set.
        rows: Positions of readable files in the manifest.
        recipe: What to do with each image.
        batch_size: Images per batch; memory is bounded by it.
    """

    def one(row: int) -> ByteArray:
        return prepare_file(manifest.root / manifest.files[row].path, recipe)[0]

    batch: list[ByteArray] = []
    for pixels in map_in_order(one, (int(row) for row in rows)):
        batch.append(pixels)
        if len(batch) == batch_size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def decode_cache(manifest: Manifest, rows: IntArray, recipe: Recipe, *, cache: Path, progress: Progress = SILENT) -> RowFile:
    """Prepare some images once into a file; later calls only open it.

    Args:
        manifest: The data set.
        rows: Positions of readable files in the manifest.
        recipe: Decides the pixels; its scaling does not matter.
        cache: Folder of the caches.
        progress: Told of every image.

    Returns:
        uint8, shape (len(rows), size, size, channels), in the order of ``rows``, read from disk when they are asked for.
    """
    content = fingerprint([manifest.files[row].sha256 for row in rows], versions("pillow"))
    path = cache / "pixels" / f"{content}-{recipe.pixels_fingerprint}.npy"
    if not path.exists():
        with locked(path, wait=FOR_EVER):  # another process may be decoding the same images: wait for it and take its
            if not path.exists():
                _decode_all(manifest, rows, recipe, path=path, progress=progress)
    return RowFile(path)


def _decode_all(manifest: Manifest, rows: IntArray, recipe: Recipe, *, path: Path, progress: Progress) -> None:
    shape = (len(rows), recipe.size, recipe.size, recipe.channels)
    task = progress.task(f"Decoding at {recipe.size} px", len(rows))
    # Written as a plain file and mapped only when whole: writing into a map kills the process when the disk is full.
    with whole_file(path) as temporary, task as advance, temporary.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for batch in pixel_batches(manifest, rows, recipe, batch_size=64):
            stream.write(batch.tobytes())
            advance(len(batch))
