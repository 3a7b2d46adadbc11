"""Planted shortcuts: something that has nothing to do with the lesion and gives a whole class away, in training and test.

The images are drawn again and compressed once, like all others, so that nothing but the shortcut sets them apart.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from vitrail.datasets.phantom.bench import Bench, PlantedFault, encode_jpeg
from vitrail.records import ByteArray

MARKED_SHARE = 0.9
"""Share of a class's untouched images that carry its corner mark."""
OTHER_QUALITY = 25
"""Distance of a class's JPEG quality from that of the others."""
ENLARGEMENT = 1.25
"""Factor between the size of a class's images and that of the others."""


def plant_corner_marks(bench: Bench, count: int) -> list[PlantedFault]:
    """Classes that a bright side marker in the corner gives away, in training and test (Lapuschkin et al. 2019)."""
    planted = []
    for label in bench.pick_classes(count, kind="corner_mark"):
        marked = [image for image in bench.untouched(label=label) if bench.rng.random() < MARKED_SHARE]
        for image in marked:
            pixels = bench.render(image)
            burn_corner_mark(pixels)
            bench.write_pixels(image, pixels)
        bench.touched.update(image.path for image in marked)
        planted.append(PlantedFault("corner_mark", tuple(image.path for image in marked), note=label))
    return planted


def burn_corner_mark(pixels: ByteArray) -> None:
    """Burn a bright letter L into the upper left corner, in place: about 4 % of the side high."""
    unit = max(1, round(min(pixels.shape) * 0.012))
    top = left = 3 * unit
    pixels[top : top + 5 * unit, left : left + unit] = 235
    pixels[top + 4 * unit : top + 5 * unit, left : left + 4 * unit] = 235


def plant_qualities_by_class(bench: Bench, count: int) -> list[PlantedFault]:
    """Classes that were saved at another JPEG quality, in training and test."""
    quality = bench.quality - OTHER_QUALITY if bench.quality > 2 * OTHER_QUALITY else bench.quality + OTHER_QUALITY
    planted = []
    for label in bench.pick_classes(count, kind="jpeg_quality_by_class"):
        images = bench.untouched(label=label)
        for image in images:
            bench.write(image, encode_jpeg(bench.render(image), quality=quality))
        bench.touched.update(image.path for image in images)
        note = f"{label} at {quality} instead of {bench.quality}"
        planted.append(PlantedFault("jpeg_quality_by_class", tuple(image.path for image in images), note=note))
    return planted


def plant_sizes_by_class(bench: Bench, count: int) -> list[PlantedFault]:
    """Classes that were exported larger, or stretched to squares of one size, in training and test."""
    planted = []
    for label in bench.pick_classes(count, kind="size_by_class"):
        images = bench.untouched(label=label)
        shapes = [bench.render(image).shape for image in images]
        square = bool(bench.rng.random() < 0.5)
        side = int(np.median(shapes)) if shapes else 0
        for image in images:
            picture = Image.fromarray(bench.render(image))
            size = (side, side) if square else (round(ENLARGEMENT * picture.width), round(ENLARGEMENT * picture.height))
            bench.write_pixels(image, np.asarray(picture.resize(size, Image.Resampling.BICUBIC)))
            bench.reshape_mask(image, lambda mask, size=size: mask.resize(size, Image.Resampling.NEAREST))  # type: ignore[misc]
        bench.touched.update(image.path for image in images)
        note = f"{label} {f'as squares of {side} pixels' if square else f'enlarged to {ENLARGEMENT:.0%}'}"
        planted.append(PlantedFault("size_by_class", tuple(image.path for image in images), note=note))
    return planted
