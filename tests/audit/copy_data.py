"""Made-up pictures and what people do to them before they save them again, for the tests of the search for near copies."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from audit_data import data_set, entry
from PIL import Image

from vitrail.audit.similarity import Similarity, find_near_copies
from vitrail.datasets.facts import THUMBNAIL_SIZE, look

SIDE = 256
SIZES = (2, 4, 8, 16, 32)
"""Distances of the blobs that a picture's detail consists of, in pixels of 256."""


def field(rng: np.random.Generator, size: int) -> np.ndarray:
    """Return a smooth random field of mean 0 and deviation 1, shape (256, 256)."""
    coarse = Image.fromarray(rng.normal(size=(SIDE // size + 1, SIDE // size + 1)).astype(np.float32))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return (smooth - smooth.mean()) / smooth.std()


def anatomy(seed: int = 0) -> np.ndarray:
    """Return the coarse structure that pictures of one organ share, shape (256, 256)."""
    return field(np.random.default_rng((seed, 1)), 64)


def picture(seed: int, organ: np.ndarray | None = None) -> np.ndarray:
    """Return a picture with an anatomy, its own one or that of an organ, and its own detail; uint8 of shape (256, 256)."""
    rng = np.random.default_rng((seed, 0))
    detail = sum(field(rng, size) for size in SIZES) / np.sqrt(len(SIZES))
    coarse = anatomy(seed + 10_000) if organ is None else organ
    return np.clip(120 + 35 * coarse + 14 * detail, 0, 255).astype(np.uint8)


def encoded(pixels: np.ndarray, quality: int = 40) -> np.ndarray:
    """Return a picture as it comes back from a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def brightened(pixels: np.ndarray, *, brightness: float = 0, contrast: float = 1, gamma: float = 1) -> np.ndarray:
    """Return a picture in other grey values."""
    grey = 255 * (pixels / 255) ** gamma
    return np.clip((grey - 128) * contrast + 128 + brightness, 0, 255).astype(np.uint8)


def cropped(pixels: np.ndarray, top: float, bottom: float, left: float, right: float) -> np.ndarray:
    """Return a picture without these shares of its height and width."""
    height, width = pixels.shape
    return pixels[round(top * height) : height - round(bottom * height), round(left * width) : width - round(right * width)]


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Return the thumbnail of a picture, as scanning makes it."""
    if pixels.shape == (THUMBNAIL_SIZE, THUMBNAIL_SIZE):
        return pixels
    return look(np.ascontiguousarray(pixels), quality=np.nan, whole=True)[0]


def search(pictures: Sequence[np.ndarray], labels: Sequence[str] = ("cyst", "healthy")) -> Similarity:
    """Look for near copies among pictures; picture ``n`` is file ``n``, and labels alternate."""
    files = [
        replace(entry(f"{labels[number % len(labels)]}/x.png", str(number)), path=f"{number:06d}.png")
        for number in range(len(pictures))
    ]
    manifest = data_set(*files, pictures={file.path: thumbnail(pixels) for file, pixels in zip(files, pictures, strict=True)})
    return find_near_copies(manifest, np.arange(len(files)))
