"""Made-up data sets for the tests of the audit: the path says part and class, ``content`` stands for the bytes."""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from vitrail.audit import AuditContext
from vitrail.datasets.facts import FACTS, THUMBNAIL_SIZE, UNKNOWN, look
from vitrail.records import FileStatus, ImageFile, Manifest

_FOLDER = tempfile.TemporaryDirectory(prefix="audit-data-")  # removed when the tests end
_NUMBERS = itertools.count()


def entry(
    path: str,
    content: str = "",
    *,
    status: FileStatus = "readable",
    kind: str = "PNG",
    size: int = 100,
    problem: str = "",
    mode: str = "L",
    turned: bool = False,
    patient: str = "",
    volume: str = "",
) -> ImageFile:
    """Return one file; ``train/cyst/1.png`` is of class cyst in part train, ``cyst/1.png`` in none. No content: its own."""
    *part, label, _ = path.split("/")
    return ImageFile(
        path=path,
        label=label,
        part=part[0] if part else None,  # type: ignore[arg-type]
        size_bytes=size,
        sha256=hashlib.sha256((content or path).encode()).hexdigest(),
        status=status,
        problem=problem,
        format=kind if status == "readable" else "",
        mode=mode if status == "readable" else "",
        turned=turned,
        patient=patient,
        volume=volume,
    )


def data_set(
    *files: ImageFile, pictures: dict[str, np.ndarray] | None = None, facts: np.ndarray | None = None, notes: tuple[str, ...] = ()
) -> Manifest:
    """Return a manifest of ``files``, in the order of their paths.

    Args:
        files: As :func:`entry` makes them.
        pictures: Thumbnail by path, uint8 of shape (128, 128); the others are black, and take no part in the search for copies.
        facts: Measurements in the order of the paths; by default those of the pictures, and nothing is known of the others.
        notes: What was passed over.
    """
    in_order = tuple(sorted(files, key=lambda file: file.path))
    thumbnails, measured = nothing_known(len(files))
    folder = Path(_FOLDER.name)
    if pictures:
        known = {file.path: row for row, file in enumerate(in_order)}
        drawn = np.zeros((len(files), THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
        seen = np.full(len(files), UNKNOWN, dtype=FACTS)
        for path, picture in pictures.items():
            drawn[known[path]] = picture
            seen[known[path]] = look(picture, quality=np.nan, whole=True)[1]
        facts = seen if facts is None else facts
        thumbnails = folder / f"thumbnails-{next(_NUMBERS)}.npy"
        np.save(thumbnails, drawn)
    if facts is not None:
        measured = folder / f"facts-{next(_NUMBERS)}.npy"
        np.save(measured, facts)
    return Manifest(Path("images"), tuple(sorted({file.label for file in files})), in_order, thumbnails, measured, notes)


@cache
def nothing_known(count: int) -> tuple[Path, Path]:
    """Return the paths of ``count`` black thumbnails and of measurements that nobody took; a manifest may share them."""
    folder = Path(_FOLDER.name)
    thumbnails, facts = folder / f"black-{count}.npy", folder / f"unknown-{count}.npy"
    np.save(thumbnails, np.zeros((count, THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8))
    np.save(facts, np.full(count, UNKNOWN, dtype=FACTS))
    return thumbnails, facts


def lifelike(*files: ImageFile) -> Manifest:
    """Return a data set in which every content has a picture and measurements of its own, drawn alike for all classes."""
    pictures, facts = {}, {}
    for file in files:
        rng = np.random.default_rng(int(file.sha256[:8], 16))
        if file.readable:
            blobs = np.kron(rng.integers(40, 160, (8, 8)), np.ones((16, 16)))
            pictures[file.path] = (blobs + rng.integers(0, 60, blobs.shape)).astype(np.uint8)
        known = dict(zip(FACTS.names or (), rng.uniform(0.4, 0.6, len(UNKNOWN.dtype)), strict=True))
        known |= {"quality": np.nan, "mean": rng.normal(110, 8), "deviation": rng.normal(50, 4), "levels": 200}
        known |= {"black": 0.01, "white": 0.001, "sharpness": rng.lognormal(6, 0.1), "noise": rng.lognormal(1, 0.1)}
        known |= {"blockiness": rng.normal(1, 0.02), "colour": 0}
        facts[file.path] = np.array(tuple(known[name] for name in FACTS.names or ()), dtype=FACTS)
    measured = np.array([facts[path] if path in pictures else UNKNOWN for path in sorted(facts)], dtype=FACTS)
    sized = [replace(file, width=256, height=256) if file.readable else file for file in files]
    return data_set(*sized, pictures=pictures, facts=measured)


def plain(folder: str, count: int, *, kind: str = "PNG", suffix: str = "png") -> list[ImageFile]:
    """Return ``count`` different readable images of one folder."""
    return [entry(f"{folder}/{number:05d}.{suffix}", kind=kind) for number in range(count)]


def context_of(manifest: Manifest, **known: object) -> AuditContext:
    """Return what checks look at, where a test knows some of what is computed else (``groups``, ``copies``)."""
    context = AuditContext.of(manifest)
    vars(context).update(known)  # where computed_once keeps its values
    return context
