"""Examples of what the augmentation makes of training images, for people to look at."""

from __future__ import annotations

import numpy as np

from vitrail.preprocess.augment import augment
from vitrail.records import ByteArray
from vitrail.settings import AugmentSettings


def augmented_examples(pixels: ByteArray, settings: AugmentSettings, *, variants: int, seed: int) -> ByteArray:
    """Augment some prepared training images several times each, by the same code as in training.

    Args:
        pixels: Prepared images, uint8, shape (n, size, size, channels), for example rows of the decode cache.
        settings: What the study asks for.
        variants: Number of augmented variants of each image, at least 0.
        seed: Same seed, same variants.

    Returns:
        uint8, shape (n, 1 + variants, size, size, channels): each image, then its variants, rounded to whole grey values.
    """
    generator = np.random.default_rng(seed)
    rounds = [np.asarray(pixels)]
    rounds += [np.rint(augment(pixels, settings, generator=generator)).astype(np.uint8) for _ in range(variants)]
    return np.stack(rounds, axis=1)
