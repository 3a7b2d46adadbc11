"""Models of which it is known where they look, and images in which it is known what stands there: for the shortcut hunt."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from explanation_models import Keyhole, whole_image

from vitrail.explanation.explainer import Pooling
from vitrail.explanation.shortcut_hunt import HuntImages

SIZE = 48
CORNER = (1, 1, 6, 6)
LESION = (20, 20, 27, 27)


@dataclass
class Places(Keyhole):
    """The score of ``yes`` grows with the brightness of a corner and of a place in the anatomy, each with its weight."""

    corner: float = 1.0
    lesion: float = 0.0
    size: int = SIZE
    name: str = "places"
    classes: tuple[str, ...] = ("no", "yes")
    pooling: Pooling = "none"

    def scores(self, pixels):
        def brightness(box):
            top, left, bottom, right = box
            return np.clip(pixels[:, top:bottom, left:right].mean(axis=(1, 2, 3), dtype=np.float64) - 135, 0, 100) / 100

        yes = 0.4 + 0.5 * (self.corner * brightness(CORNER) + self.lesion * brightness(LESION)) / (self.corner + self.lesion)
        return np.stack([1 - yes, yes], axis=1)


def heads(n: int = 40, *, marked: float = 1.0, lesions: float = 1.0, seed: int = 0) -> HuntImages:
    """Discs before a dark ground, half of them ``yes``; of those, shares have a mark in the corner and a lesion in the disc."""
    generator = np.random.default_rng(seed)
    truth = np.arange(n) % 2
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pixels = np.empty((n, SIZE, SIZE, 1), dtype=np.uint8)
    of_yes = np.cumsum(truth) - 1
    sick = np.count_nonzero(truth)
    for number, one in enumerate(pixels):
        radius, middle = generator.uniform(14, 17), generator.uniform(-1.5, 1.5, 2) + 24
        inside = (rows - middle[0]) ** 2 + (columns - middle[1]) ** 2 <= radius**2
        one[..., 0] = np.where(inside, 110, 6) + generator.integers(0, 12, (SIZE, SIZE))
        if truth[number] and of_yes[number] < round(marked * sick):
            one[CORNER[0] : CORNER[2], CORNER[1] : CORNER[3]] = 235
        if truth[number] and of_yes[number] >= sick - round(lesions * sick):
            one[LESION[0] : LESION[2], LESION[1] : LESION[3]] = 235
    return HuntImages(pixels, (whole_image(SIZE),) * n, truth, np.arange(n))
