"""Planted copies: one picture filed twice, as it is or changed a little, and one patient on both sides of the split."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitrail.datasets.phantom.bench import Bench, PhantomImage, PlantedFault, ShippedPart, encode_picture
from vitrail.errors import UsageError

Reshape = Callable[[Image.Image, Image.Resampling], Image.Image]

_FLIPS = {
    Image.Transpose.FLIP_LEFT_RIGHT: "mirrored left to right",
    Image.Transpose.FLIP_TOP_BOTTOM: "mirrored top to bottom",
}
_TURNS = {
    Image.Transpose.ROTATE_90: "turned by 90 degrees",
    Image.Transpose.ROTATE_180: "turned by 180 degrees",
    Image.Transpose.ROTATE_270: "turned by 270 degrees",
}


@dataclass(frozen=True)
class _Change:
    """How a copy differs from its original.

    Attributes:
        note: The same in words.
        quality: JPEG quality of the copy; 0 is PNG.
        reshape: Changes the geometry, of the picture and of its mask; ``None`` leaves it.
        shade: Changes the grey values, in a table of 256; empty leaves them.
    """

    note: str
    quality: int
    reshape: Reshape | None = None
    shade: tuple[int, ...] = ()


def plant_exact_copies(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images filed twice, byte for byte, under the same class and another patient's name."""
    return _plant_exact_copies(bench, count, kind="exact_copy", part="train")


def plant_exact_copies_across_split(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images that stand in the test part too, byte for byte, under the same class."""
    return _plant_exact_copies(bench, count, kind="exact_copy_across_split", part="test")


def plant_conflicting_copies(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images that stand in two classes, byte for byte."""
    planted = []
    for image in bench.pick(count, part="train", kind="conflicting_copy"):
        copy = bench.add(image, bench.read(image), part="train", label=bench.another_class(image.label))
        planted.append(PlantedFault("conflicting_copy", (image.path, copy.path), true_label=image.true_label))
    return planted


def plant_mirrored_copies_across_split(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images that stand in the test part too, mirrored left to right and compressed again."""

    def left_to_right(rng: np.random.Generator, usual: int) -> _Change:  # noqa: ARG001 - one signature for all
        return _transposed(Image.Transpose.FLIP_LEFT_RIGHT, "mirrored left to right", quality=usual)

    return _plant_near_copies(bench, count, left_to_right, kind="mirrored_copy_across_split", part="test")


def plant_mirrored_copies(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images filed twice, the second mirrored left to right or top to bottom and compressed again."""
    return _plant_near_copies(bench, count, _mirrored, kind="mirrored_copy", part="train")


def plant_rotated_copies(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images filed twice, the second turned by 90, 180 or 270 degrees and compressed again."""
    return _plant_near_copies(bench, count, _rotated, kind="rotated_copy", part="train")


def plant_reencoded_copies(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images filed twice, the second at another JPEG quality, as PNG, or at 80 to 125 % of its size."""
    return _plant_near_copies(bench, count, _reencoded, kind="reencoded_copy", part="train")


def plant_brightness_copies(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images filed twice, the second with another brightness, contrast and gamma, compressed again."""
    return _plant_near_copies(bench, count, _relit, kind="brightness_copy", part="train")


def plant_cropped_copies(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images filed twice, the second without 2 to 5 % of each side, half of them stretched to the old size."""
    return _plant_near_copies(bench, count, _cropped, kind="cropped_copy", part="train")


def plant_near_copies_across_split(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images that stand in the test part too, changed in one of the ways of the other kinds."""
    ways = (_mirrored, _rotated, _reencoded, _relit, _cropped)

    def any_of_them(rng: np.random.Generator, usual: int) -> _Change:
        return ways[int(rng.integers(len(ways)))](rng, usual)

    return _plant_near_copies(bench, count, any_of_them, kind="near_copy_across_split", part="test")


def plant_patients_across_split(bench: Bench, count: int) -> list[PlantedFault]:
    """Training patients of whom the later half of the slices stands in the test part, under the same number."""
    slices = defaultdict(list)
    for image in bench.images:
        slices[image.patient, image.part].append(image)
    whole = [
        images
        for (_, part), images in slices.items()
        if part == "train" and len(images) > 1 and not any(image.path in bench.touched for image in images)
    ]
    if len(whole) < count:
        raise UsageError(
            f"phantom: same_patient_across_split needs {count} training patients with several slices and no other fault, but "
            f"{len(whole)} are left. Plant fewer faults, or draw more patients or more slices of each."
        )
    planted = []
    for place in bench.rng.choice(len(whole), size=count, replace=False):
        images = sorted(whole[place], key=lambda image: image.slice)
        stay = images[: (len(images) + 1) // 2]
        bench.touched.update(image.path for image in stay)
        gone = [bench.move(image, bench.read(image), part="test", label=image.label) for image in images[len(stay) :]]
        note = f"{len(gone)} of {len(images)} slices in the test part"
        planted.append(PlantedFault("same_patient_across_split", tuple(image.path for image in (*stay, *gone)), note=note))
    return planted


def _plant_exact_copies(bench: Bench, count: int, *, kind: str, part: ShippedPart) -> list[PlantedFault]:
    planted = []
    for image in bench.pick(count, part="train", kind=kind):
        copy = bench.add(image, bench.read(image), part=part, label=image.label)
        planted.append(PlantedFault(kind, (image.path, copy.path)))
    return planted


def _plant_near_copies(
    bench: Bench, count: int, draw: Callable[[np.random.Generator, int], _Change], *, kind: str, part: ShippedPart
) -> list[PlantedFault]:
    """File changed copies of training images in ``part``, with masks to match; ``draw`` is given the usual JPEG quality."""
    planted = []
    for image in bench.pick(count, part="train", kind=kind):
        change = draw(bench.rng, bench.quality)
        copy = _file_changed(bench, image, change, part=part)
        planted.append(PlantedFault(kind, (image.path, copy.path), note=change.note))
    return planted


def _file_changed(bench: Bench, image: PhantomImage, change: _Change, *, part: ShippedPart) -> PhantomImage:
    reshape = change.reshape
    picture: Image.Image = Image.open(io.BytesIO(bench.read(image)))
    if reshape is not None:
        picture = reshape(picture, Image.Resampling.BICUBIC)
    if change.shade:
        picture = picture.point(list(change.shade))
    content = encode_picture(picture, quality=change.quality)
    copy = bench.add(image, content, part=part, label=image.label, suffix=".jpg" if change.quality else ".png")
    if reshape is not None:
        bench.reshape_mask(copy, lambda mask: reshape(mask, Image.Resampling.NEAREST))
    return copy


# ---------------------------------------------------------------------------------------------------- the changes


def _transposed(way: Image.Transpose, note: str, *, quality: int) -> _Change:
    return _Change(note, quality, reshape=lambda picture, _: picture.transpose(way))


def _mirrored(rng: np.random.Generator, usual: int) -> _Change:
    way = list(_FLIPS)[int(rng.integers(len(_FLIPS)))]
    return _transposed(way, _FLIPS[way], quality=usual)


def _rotated(rng: np.random.Generator, usual: int) -> _Change:
    way = list(_TURNS)[int(rng.integers(len(_TURNS)))]
    return _transposed(way, _TURNS[way], quality=usual)


def _reencoded(rng: np.random.Generator, usual: int) -> _Change:
    sort = rng.choice(["quality", "png", "size"])
    if sort == "png":
        return _Change("saved as PNG", quality=0)
    if sort == "quality":
        others = [quality for quality in range(45, 96) if abs(quality - usual) > 5]
        quality = int(rng.choice(others))
        return _Change(f"saved at JPEG quality {quality}", quality)
    scale = float(rng.uniform(0.8, 1.25))

    def resized(picture: Image.Image, resampling: Image.Resampling) -> Image.Image:
        return picture.resize((round(scale * picture.width), round(scale * picture.height)), resampling)

    return _Change(f"resized to {scale:.0%}", usual, reshape=resized)


def _relit(rng: np.random.Generator, usual: int) -> _Change:  # noqa: ARG001 - one signature for all
    gain, offset = float(rng.uniform(0.75, 1.3)), float(rng.uniform(-12.0, 12.0))
    gamma = float(np.exp(rng.choice((-1.0, 1.0)) * rng.uniform(0.1, 0.3)))
    values = 255.0 * (np.arange(256) / 255.0) ** gamma * gain + offset
    shade = tuple(int(value) for value in np.clip(np.rint(values), 0, 255))
    quality = int(rng.integers(70, 96))
    return _Change(f"gain {gain:.2f}, offset {offset:+.0f}, gamma {gamma:.2f}, JPEG quality {quality}", quality, shade=shade)


def _cropped(rng: np.random.Generator, usual: int) -> _Change:  # noqa: ARG001 - one signature for all
    left, top, right, bottom = (float(share) for share in rng.uniform(0.02, 0.05, size=4))
    stretched = bool(rng.random() < 0.5)
    quality = int(rng.integers(70, 96))

    def cut(picture: Image.Image, resampling: Image.Resampling) -> Image.Image:
        width, height = picture.size
        box = round(left * width), round(top * height), round((1.0 - right) * width), round((1.0 - bottom) * height)
        inner = picture.crop(box)
        return inner.resize(picture.size, resampling) if stretched else inner

    note = f"cut by {left:.0%}, {top:.0%}, {right:.0%}, {bottom:.0%}{', stretched to the old size' if stretched else ''}"
    return _Change(note, quality, reshape=cut)
