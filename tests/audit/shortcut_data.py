"""Made-up data sets with pictures, for the tests of the shortcut audit: classes differ only where a test makes them differ."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitrail.datasets.facts import FACTS
from vitrail.records import ImageFile, Manifest


def plain_pictures(count: int, *, seed: int = 0) -> np.ndarray:
    """Grey noise of different brightness per image, uint8 of shape (count, 128, 128)."""
    rng = np.random.default_rng(seed)
    level = rng.integers(20, 60, size=(count, 1, 1), dtype=np.uint8)
    return level + rng.integers(0, 12, size=(count, 128, 128), dtype=np.uint8)


def burn_letter(picture: np.ndarray, *, top: int = 4, left: int = 4) -> None:
    """Burn a small bright L into a picture, in place."""
    picture[top : top + 7, left : left + 2] = 230
    picture[top + 5 : top + 7, left : left + 6] = 230


def plain_files(labels: list[str], *, seed: int = 0) -> list[ImageFile]:
    """One JPEG per label, of random size and shape; all of them different."""
    rng = np.random.default_rng((seed, 1))
    files = []
    for number, label in enumerate(labels):
        path = f"{label}/{number:05d}.jpg"
        width, height = rng.integers(200, 260, size=2).tolist()
        files.append(
            ImageFile(
                path,
                label,
                None,
                size_bytes=int(rng.integers(5_000, 50_000)),
                sha256=hashlib.sha256(path.encode()).hexdigest(),
                status="readable",
                format="JPEG",
                mode="L",
                width=width,
                height=height,
                encoding="quality 75",
            )
        )
    return files


def plain_facts(count: int, *, seed: int = 0) -> np.ndarray:
    """Random measurements; quality and colour are the same for all."""
    rng = np.random.default_rng((seed, 2))
    facts = np.zeros(count, dtype=FACTS)
    for name in FACTS.names:
        facts[name] = rng.random(count)
    facts["quality"], facts["colour"] = 75, 0
    return facts


def save(folder: Path, files: list[ImageFile], pictures: np.ndarray, facts: np.ndarray) -> Manifest:
    """Write a manifest; files, pictures and facts are brought into the order of the paths."""
    order = sorted(range(len(files)), key=lambda row: files[row].path)
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "thumbnails.npy", pictures[order])
    np.save(folder / "facts.npy", facts[order])
    classes = tuple(sorted({file.label for file in files}))
    in_order = tuple(files[row] for row in order)
    return Manifest(folder, classes, in_order, folder / "thumbnails.npy", folder / "facts.npy")


def with_size(file: ImageFile, size: int) -> ImageFile:
    """Return the file with another length."""
    return replace(file, size_bytes=size)
