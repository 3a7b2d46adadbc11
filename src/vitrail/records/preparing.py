"""How an image becomes a model's input, and where that lies in the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitrail.storage import fingerprint, versions


@dataclass(frozen=True)
class Recipe:
    """How an image becomes a model's input. Part of every model package, so that serving does what training did.

    Attributes:
        size: Height and width of the model's input in pixels.
        colour: ``grey`` (1 channel) or ``rgb`` (3 channels).
        crop_margins: Cut the dark margin around the object before resizing.
        keep_aspect: Pad to a square with black instead of stretching.
        scaling: ``unit`` (0..255 to 0..1), ``minmax`` (each image to 0..1), ``standardise`` (each image to mean 0 and
            deviation 1) or ``channel`` (0..1, then minus ``mean``, divided by ``deviation``, per channel).
        mean: Per channel, for ``channel`` scaling; else empty.
        deviation: Per channel, for ``channel`` scaling; else empty.
        window: Two percentiles (0..100) of the luminance that become black and white; ``None``: no window.
        contrast: ``clahe`` (tile by tile, limited), ``equalise`` (over the whole image) or ``none``; after the window.
        clip_limit: For ``clahe``: largest share of a tile, above 0 to 1, that one grey level may count for.
        tiles: For ``clahe``: number of tiles down and across.
        bias_correction: ``n4`` (slow changes of brightness are taken out) or ``none``; before the window.
    """

    size: int
    colour: Literal["grey", "rgb"]
    crop_margins: bool
    keep_aspect: bool
    scaling: Literal["unit", "minmax", "standardise", "channel"]
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    # Packages made before these steps existed say nothing of them, and load without.
    window: tuple[float, float] | None = None
    contrast: Literal["none", "clahe", "equalise"] = "none"
    clip_limit: float = 0.01
    tiles: int = 8
    bias_correction: Literal["none", "n4"] = "none"

    @property
    def channels(self) -> int:
        """1 for grey, 3 for rgb."""
        return 1 if self.colour == "grey" else 3

    @property
    def pixels_fingerprint(self) -> str:
        """Changes with everything that shapes the uint8 pixels (all but the scaling): the key of the decode cache."""
        # A step that is off leaves no trace: recipes from before it existed keep their fingerprint, and with it their caches.
        steps: list[tuple[object, ...]] = []
        if self.bias_correction != "none":
            steps.append((self.bias_correction, versions("simpleitk")))
        if self.window is not None:
            steps.append(("window", *map(float, self.window)))
        if self.contrast != "none":
            steps.append((self.contrast, *((float(self.clip_limit), self.tiles) if self.contrast == "clahe" else ())))
        return fingerprint("pixels-1", self.size, self.colour, self.crop_margins, self.keep_aspect, *steps)

    @property
    def fingerprint(self) -> str:
        """Changes with anything in the recipe: part of the key of the feature cache."""
        return fingerprint(self.pixels_fingerprint, self.scaling, self.mean, self.deviation)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the model's input came from in the original image, so that a map can be drawn back at the image's own geometry.

    All in pixels; boxes are half-open (``top`` <= row < ``bottom``).

    Attributes:
        height: Height of the upright original.
        width: Width of the upright original.
        top: First row of the original that the input shows.
        left: First column.
        bottom: One past the last row.
        right: One past the last column.
        inner_top: First row of the input that shows image (not padding).
        inner_left: First such column.
        inner_bottom: One past the last such row.
        inner_right: One past the last such column.
    """

    height: int
    width: int
    top: int
    left: int
    bottom: int
    right: int
    inner_top: int
    inner_left: int
    inner_bottom: int
    inner_right: int
