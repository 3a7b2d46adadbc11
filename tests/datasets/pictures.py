"""Pictures for the tests of this room."""

from __future__ import annotations

import dataclasses
import io
import math

import numpy as np
from PIL import Image

from vitrail.datasets import THUMBNAIL_SIZE, Decoded, read_image
from vitrail.datasets.facts import look


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, {"PNM": "PPM"}.get(kind, kind), **options)
    return stream.getvalue()


def read_thumbnail(content: bytes) -> Decoded:
    """An image with its thumbnail in the place of its pixels, made in the two steps in which a scan makes it."""
    decoded = read_image(content, at_least=2 * THUMBNAIL_SIZE)
    thumbnail, _ = look(decoded.pixels, quality=math.nan, whole=False)
    return dataclasses.replace(decoded, pixels=thumbnail)


def texture(height: int = 40, width: int = 56, *, seed: int = 7) -> np.ndarray:
    """A smooth RGB picture without any symmetry, uint8."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, size=(5, 7, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
