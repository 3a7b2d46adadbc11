"""Views of a prepared image: the image itself, mirrored, or shifted. Test-time augmentation averages the scores over them.

The mean is that of the scores, not of the values before them: a mixture of answers stays a distribution, has a log loss that is
never above the mean log loss of its views (Jensen), needs no logits (trees have none), and no single view that is sure and wrong
can veto the others, as it can in a product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitrail.records import ByteArray

SHIFT = 0.04
"""Length of a shift as a share of the side, at least 1 pixel: within what the study's augmentation shows by default."""


@dataclass(frozen=True)
class View:
    """One way to look at a prepared image.

    Attributes:
        name: What it is called in the feature cache; empty: the image itself.
        mirrored: Left and right change places.
        down: Shifted down by so many steps of :data:`SHIFT`.
        across: Shifted to the right by so many steps.
    """

    name: str
    mirrored: bool = False
    down: int = 0
    across: int = 0


PLAIN = View("")
_SHIFTS = ((-1, 0, "up"), (1, 0, "down"), (0, -1, "left"), (0, 1, "right"))
VIEWS: dict[str, tuple[View, ...]] = {
    "none": (PLAIN,),
    "mirror": (PLAIN, View("mirror", mirrored=True)),
    "shifts": (PLAIN, *(View(f"{name}{SHIFT:g}", down=down, across=across) for down, across, name in _SHIFTS)),
}
"""Test-time augmentation -> the views whose scores are averaged; the plain one comes first."""


def seen(pixels: ByteArray, view: View) -> ByteArray:
    """Return prepared images as a view shows them; beyond the border the last row or column goes on.

    Args:
        pixels: uint8, shape (n, size, size, channels).
        view: The view.

    Returns:
        uint8, same shape; ``pixels`` itself for the plain view.
    """
    if view == PLAIN:
        return pixels
    size = pixels.shape[1]
    step = max(1, round(SHIFT * size))
    places = np.arange(size)
    rows = np.clip(places - view.down * step, 0, size - 1)
    columns = np.clip((places[::-1] if view.mirrored else places) - view.across * step, 0, size - 1)
    return np.ascontiguousarray(pixels[:, rows][:, :, columns])
