"""From files to prepared pixels: one at a time, in batches, or all of them once into a memory map."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vitrail.datasets import read_image
from vitrail.engine import map_in_order
from vitrail.preprocess.recipe import prepare
from vitrail.progress import SILENT, Progress
from vitrail.records import ByteArray, IntArray, Manifest, Placement, Recipe
from vitrail.storage import fingerprint, whole_file


def prepare_file(path: Path, recipe: Recipe) -> tuple[ByteArray, Placement]:
    """Read one image file and prepare it: the one way from a file to a model's input, in training and in serving.

    Returns:
        uint8 of shape (size, size, channels), and where it lies in the upright original.

    Raises:
        DataError: The file is no readable image.
    """
    # Decoding at twice the model's size first (JPEG only) keeps the resize sharp and costs a fraction of a full decode.
    return prepare(read_image(path, at_least=2 * recipe.size), recipe)


def pixel_batches(
    manifest: Manifest, rows: IntArray, recipe: Recipe, *, batch_size: int, cached: ByteArray | None = None
) -> Iterator[ByteArray]:
    """Yield prepared images, batch by batch, in the order of ``rows``.

    Args:
        manifest: The data set.
        rows: Positions of readable files in the manifest.
        recipe: What to do with each image.
        batch_size: Images per batch; memory is bounded by it.
        cached: What :func:`decode_cache` gave for this recipe, to read from instead of the files.
    """
    if cached is not None:
        for start in range(0, len(rows), batch_size):
            yield cached[rows[start : start + batch_size]]
        return

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


def decode_cache(manifest: Manifest, recipe: Recipe, *, cache: Path, progress: Progress = SILENT) -> ByteArray:
    """Prepare every readable image once into a memory map on disk; later calls only open it.

    Args:
        manifest: The data set.
        recipe: Decides the pixels; its scaling does not matter.
        cache: Folder of the caches.
        progress: Told of every image.

    Returns:
        uint8, shape (files, size, size, channels), memory-mapped read-only; zeros where a file is not readable.
    """
    content = fingerprint([file.sha256 for file in manifest.files])
    path = cache / "pixels" / f"{content}-{recipe.pixels_fingerprint}.npy"
    if not path.exists():
        rows = np.array([row for row, file in enumerate(manifest.files) if file.readable], dtype=np.int64)
        shape = (len(manifest), recipe.size, recipe.size, recipe.channels)
        with whole_file(path) as temporary, progress.task(f"Decoding at {recipe.size} px", len(rows)) as advance:
            pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            done = 0
            for batch in pixel_batches(manifest, rows, recipe, batch_size=64):
                pixels[rows[done : done + len(batch)]] = batch
                done += len(batch)
                advance(len(batch))
            pixels.flush()
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]
