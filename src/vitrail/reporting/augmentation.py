"""What the augmentation makes of training images, as strips of pictures like the other examples of the report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from vitrail.records import ByteArray
from vitrail.reporting.thumbnails import THUMBNAIL_SIDE, Picture, jpeg_uri


def augmented_examples_figure(pictures: ByteArray, names: Sequence[str]) -> tuple[tuple[str, tuple[Picture, ...]], ...]:
    """Draw augmented examples, one strip per image: as prepared, then its variants.

    Args:
        pictures: uint8, shape (n, 1 + variants, size, size, channels) with 1 or 3 channels, from
            :func:`vitrail.preprocess.examples.augmented_examples`.
        names: What each image is called, for example its class, in the order of ``pictures``.

    Returns:
        Name -> pictures, in the form that the template's macro ``examples`` shows. Pictures are JPEG data URIs, at most 128
        pixels a side; where ``path`` names the file elsewhere, it says here what the picture is.
    """
    strips = []
    for name, strip in zip(names, pictures, strict=True):
        words = ["as prepared", *(f"variant {number}" for number in range(1, len(strip)))]
        strips.append((name, tuple(_picture(pixels, said, name) for pixels, said in zip(strip, words, strict=True))))
    return tuple(strips)


def _picture(pixels: ByteArray, words: str, name: str) -> Picture:
    drawn = Image.fromarray(np.squeeze(pixels, axis=2) if pixels.shape[2] == 1 else pixels)
    side = min(THUMBNAIL_SIDE, pixels.shape[0])
    # Smaller inputs keep their size: what is seen is what the model gets, no smoothed enlargement of it.
    small = drawn.resize((side, side), Image.Resampling.LANCZOS) if side < pixels.shape[0] else drawn
    return Picture(jpeg_uri(small, quality=82), words, label=name, width=side, height=side)
