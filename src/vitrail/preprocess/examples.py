"""Examples of what the augmentation makes of training images, for people to look at."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vitrail.records import ByteArray
from vitrail.settings import AugmentSettings
from vitrail.storage import write_bytes


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
    from vitrail.preprocess.augment import augment

    generator = np.random.default_rng(seed)
    rounds = [np.asarray(pixels)]
    rounds += [np.rint(augment(pixels, settings, generator=generator)).astype(np.uint8) for _ in range(variants)]
    return np.stack(rounds, axis=1)


def augments(settings: AugmentSettings) -> bool:
    """Return whether the settings change any image at all."""
    return any(settings.model_dump().values())


def save_examples(path: Path, pictures: ByteArray, names: Sequence[str]) -> None:
    """Keep examples and what each image is called in one file (``.npz``), whole or not at all.

    Args:
        path: The file.
        pictures: As :func:`augmented_examples` gives them.
        names: One per image.
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, pictures=pictures, names=np.array(names, dtype=np.str_))
    write_bytes(path, buffer.getvalue())


def load_examples(path: Path) -> tuple[ByteArray, tuple[str, ...]]:
    """Return what :func:`save_examples` kept; nothing in the file is executed.

    Raises:
        OSError: The file is gone.
        ValueError: It is no such file.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            return content["pictures"], tuple(str(name) for name in content["names"])
    except (KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: no examples of an augmentation ({error})") from error
