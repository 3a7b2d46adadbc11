"""Small data sets of drawn pictures, written to a folder and scanned as a user's would be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from audit_data import context_of
from PIL import Image, ImageDraw, ImageFont

from vitrail.audit import AuditContext
from vitrail.datasets import scan_folder


def scanned(folder: Path, pictures: dict[str, np.ndarray], **save: object) -> AuditContext:
    """Write pictures (path below the images' folder -> uint8 array) as PNG or JPEG, scan them, and return what checks look at."""
    for path, pixels in pictures.items():
        target = folder / "images" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target, **save)
    manifest = scan_folder(folder / "images", cache=folder / "cache")
    # Pictures drawn by one formula look like near copies of one another; here each stands for itself.
    return context_of(manifest, groups=tuple(range(len(manifest))))


def blob(seed: int, *, rows: int = 160, columns: int = 160, kind: int = 0) -> np.ndarray:
    """Return a noisy bright ring with a spot on dark ground, uint8; ``kind`` says in which quarter the spot is."""
    rng = np.random.default_rng((7, seed))
    y, x = np.mgrid[0:rows, 0:columns] / min(rows, columns) - 0.5
    x, y = x - rng.uniform(-0.03, 0.03), y - rng.uniform(-0.03, 0.03)
    radius = np.hypot(x, y * rng.uniform(0.9, 1.1))
    picture = 90.0 * (radius < 0.4) + 70.0 * (np.abs(radius - 0.4) < 0.02)
    across, along = ((-1, -1), (1, -1), (-1, 1), (1, 1))[kind % 4]
    spot = np.hypot(x - 0.15 * across, y - 0.15 * along)
    picture += 130 * np.exp(-((spot / rng.uniform(0.06, 0.09)) ** 2))
    wave = sum(np.sin(2 * np.pi * (rng.uniform(-6, 6) * x + rng.uniform(-6, 6) * y)) for _ in range(6))
    picture += 2 * wave * (radius < 0.4)
    return np.clip(picture + 12 + rng.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def blobs(count: int, *, classes: int = 2, **size: int) -> dict[str, np.ndarray]:
    """Return ``count`` pictures of each class, by path."""
    names = ("cyst", "glioma", "healthy", "metastasis")[:classes]
    return {
        f"{name}/{letters(number)}.png": blob(100 * place + number, kind=place, **size)
        for place, name in enumerate(names)
        for number in range(count)
    }


def letters(number: int) -> str:
    """Return a file name without digits: nobody shall take it for a patient's number."""
    return "".join(chr(ord("a") + int(digit)) for digit in f"{number:04d}")


def written(pixels: np.ndarray, text: str, *, height: int, at: tuple[int, int] = (4, 3), fill: int = 235) -> np.ndarray:
    """Return a copy of a grey picture with a line of text in it."""
    picture = Image.fromarray(pixels)
    ImageDraw.Draw(picture).text(at, text, fill=fill, font=ImageFont.load_default(height))
    return np.asarray(picture)


def named(found: object) -> set[str]:
    """Return the paths that a finding names; none for ``None``."""
    return {path for piece in getattr(found, "evidence", ()) for path in piece.paths}
