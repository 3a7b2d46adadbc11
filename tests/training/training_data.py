"""Three classes that anyone tells apart: a disc, stripes, and a dark corner; and the splits of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.datasets import scan_folder
from vitrail.records import Manifest, Part, Split

CLASSES = ("corner", "disc", "stripes")


def picture(label: str, generator: np.random.Generator) -> np.ndarray:
    """A grey image of 36 to 48 px with noise."""
    height, width = generator.integers(36, 49, 2)
    rows, columns = np.mgrid[0:height, 0:width]
    if label == "disc":
        centre = generator.uniform(0.4, 0.6, 2) * (height, width)
        shape = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < (0.28 * height) ** 2
    elif label == "stripes":
        shape = (rows + generator.integers(8)) // 4 % 2 == 0
    else:
        shape = (rows > height // 2) | (columns > width // 2)
    noisy = 40 + 150 * shape + generator.normal(0, 12, (height, width))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def make_images(root: Path, *, each: int = 20, seed: int = 0) -> None:
    """Write ``each`` images of every class, PNG and JPEG in turns."""
    generator = np.random.default_rng(seed)
    for label in CLASSES:
        (root / label).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(picture(label, generator)).save(root / label / f"{number:02d}.{('png', 'jpg')[number % 2]}")


def scanned(folder: Path, *, each: int = 20) -> Manifest:
    """Make the images and the manifest of them below a folder."""
    make_images(folder / "images", each=each)
    return scan_folder(folder / "images", cache=folder / "scan")


def split_of(manifest: Manifest) -> Split:
    """Every third image validates, every fifth tests, the others train."""
    count = len(manifest)
    parts: list[Part] = ["test" if row % 5 == 4 else "validation" if row % 3 == 2 else "train" for row in range(count)]
    return Split(tuple(parts), ("",) * count, tuple(range(count)), 0, "by position")
