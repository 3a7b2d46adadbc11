"""Pictures for the tests of this room."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def texture(height: int = 40, width: int = 56, *, seed: int = 7) -> np.ndarray:
    """A smooth RGB picture without any symmetry, uint8."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, size=(5, 7, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
