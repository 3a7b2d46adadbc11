"""The faults that are planted in a phantom. A new kind is one function and one line in :data:`FAULT_KINDS`."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from vitrail.datasets.phantom.patient import CLASSES
from vitrail.errors import UsageError
from vitrail.records import ByteArray

PART_FOLDERS: dict[Literal["train", "test"], str] = {"train": "Training", "test": "Testing"}
MARKED_SHARE = 0.9
"""Share of a class's untouched images that carry its corner mark."""


@dataclass(frozen=True)
class PhantomImage:
    """One file of the phantom's image tree.

    Attributes:
        path: Relative to the ``images`` folder, with forward slashes.
        label: Class folder it stands in.
        true_label: Class it was drawn as.
        part: ``train`` or ``test``.
        patient: Number of the patient it claims to show; every planted copy claims a patient of its own.
        slice: Number of the slice, from 1.
        mask: The lesion's mask, relative to the phantom's folder; ``None`` where there is no lesion.
    """

    path: str
    label: str
    true_label: str
    part: Literal["train", "test"]
    patient: int
    slice: int
    mask: str | None


@dataclass(frozen=True)
class PlantedFault:
    """One thing that was made wrong on purpose.

    Attributes:
        kind: A key of :data:`FAULT_KINDS`.
        paths: The files concerned, relative to the ``images`` folder; of copies, the original stands first.
        true_label: The class the image was drawn as, where the fault is about labels; else empty.
    """

    kind: str
    paths: tuple[str, ...]
    true_label: str = ""


@dataclass
class Bench:
    """A phantom while faults are planted in it.

    Attributes:
        folder: The phantom's folder: ``images`` and ``masks`` lie in it.
        images: Every image so far; planting adds and replaces.
        render: Draws an image's pixels again, before compression.
        quality: JPEG quality of the images.
        rng: Draws for the kind that is being planted.
        touched: Paths that a fault already concerns: every file has at most one fault.
    """

    folder: Path
    images: list[PhantomImage]
    render: Callable[[PhantomImage], ByteArray]
    quality: int
    rng: np.random.Generator
    touched: set[str] = field(default_factory=set)

    def untouched(self, *, part: Literal["train", "test"] | None = None, label: str | None = None) -> list[PhantomImage]:
        """Return the images without a fault, of one part and of one class if given."""
        return [
            image
            for image in self.images
            if image.path not in self.touched and part in (None, image.part) and label in (None, image.label)
        ]

    def pick(self, count: int, *, part: Literal["train", "test"], kind: str) -> list[PhantomImage]:
        """Draw images without a fault and mark them as touched.

        Raises:
            UsageError: There are not enough.
        """
        free = self.untouched(part=part)
        if len(free) < count:
            raise UsageError(
                f"phantom: {kind} needs {count} {part} images without another fault, but {len(free)} are left. "
                "Plant fewer faults or draw more patients."
            )
        chosen = [free[place] for place in self.rng.choice(len(free), size=count, replace=False)]
        self.touched.update(image.path for image in chosen)
        return chosen

    def read(self, image: PhantomImage) -> bytes:
        """Return the file's bytes."""
        return (self.folder / "images" / image.path).read_bytes()

    def write(self, image: PhantomImage, content: bytes) -> None:
        """Write the file's bytes."""
        path = self.folder / "images" / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def add(self, image: PhantomImage, content: bytes, *, part: Literal["train", "test"], label: str) -> PhantomImage:
        """File ``content`` as a new patient's image that was drawn as ``image``, and return what was added."""
        patient = max(known.patient for known in self.images) + 1
        path = image_path(part, label, patient=patient, number=1)
        added = replace(image, path=path, label=label, part=part, patient=patient, slice=1)
        self.write(added, content)
        self.images.append(added)
        self.touched.add(path)
        return added

    def swap_in(self, old: PhantomImage, new: PhantomImage) -> None:
        """Replace an entry of the list of images."""
        self.images[self.images.index(old)] = new


def image_path(part: Literal["train", "test"], label: str, *, patient: int, number: int) -> str:
    """Return where an image stands, relative to the ``images`` folder. The name carries no label."""
    return f"{PART_FOLDERS[part]}/{label}/patient{patient:03d}_slice{number:02d}.jpg"


def encode_jpeg(pixels: ByteArray, *, quality: int) -> bytes:
    """Return a grey image of shape (rows, columns) as the bytes of a JPEG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def encode_mask(mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> bytes:
    """Return a mask of shape (rows, columns) as the bytes of a PNG file with the values 0 and 255."""
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


# ---------------------------------------------------------------------------------------------------- the kinds


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
        copy = bench.add(image, bench.read(image), part="train", label=_another_class(bench, image.label))
        planted.append(PlantedFault("conflicting_copy", (image.path, copy.path), true_label=image.true_label))
    return planted


def plant_mirrored_copies_across_split(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images that stand in the test part too, mirrored left to right and compressed again."""
    planted = []
    for image in bench.pick(count, part="train", kind="mirrored_copy_across_split"):
        mirrored = np.ascontiguousarray(np.asarray(Image.open(io.BytesIO(bench.read(image))))[:, ::-1])
        copy = bench.add(image, encode_jpeg(mirrored, quality=bench.quality), part="test", label=image.label)
        if image.mask is not None:
            mask = np.asarray(Image.open(bench.folder / image.mask))[:, ::-1] > 0
            name = f"masks/{Path(copy.path).stem}.png"
            (bench.folder / name).write_bytes(encode_mask(mask))
            bench.swap_in(copy, replace(copy, mask=name))
        planted.append(PlantedFault("mirrored_copy_across_split", (image.path, copy.path)))
    return planted


def plant_truncated_files(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images of which only the first half of the bytes is left: a transfer that broke off."""
    return [_overwrite(bench, image, "truncated_file") for image in bench.pick(count, part="train", kind="truncated_file")]


def plant_empty_files(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images of zero bytes."""
    return [_overwrite(bench, image, "empty_file") for image in bench.pick(count, part="train", kind="empty_file")]


def plant_texts_named_as_images(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images that are a text under an image's name: a download that was refused."""
    return [_overwrite(bench, image, "not_an_image") for image in bench.pick(count, part="train", kind="not_an_image")]


def plant_swapped_labels(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images filed under a wrong class."""
    planted = []
    for image in bench.pick(count, part="train", kind="swapped_label"):
        label = _another_class(bench, image.label)
        moved = replace(image, label=label, path=image_path("train", label, patient=image.patient, number=image.slice))
        bench.write(moved, bench.read(image))
        (bench.folder / "images" / image.path).unlink()
        bench.swap_in(image, moved)
        bench.touched.add(moved.path)
        planted.append(PlantedFault("swapped_label", (moved.path,), true_label=image.true_label))
    return planted


def plant_corner_marks(bench: Bench, count: int) -> list[PlantedFault]:
    """Classes that a bright side marker in the corner gives away, in training and test (Lapuschkin et al. 2019).

    The marked images are drawn again and compressed once, like all others, so that nothing but the mark sets them apart.
    """
    if count > len(CLASSES):
        raise UsageError(f"phantom: corner_mark counts classes, of which there are {len(CLASSES)}. Found: {count}. Plant fewer.")
    planted = []
    for label in bench.rng.permutation(np.array(CLASSES))[:count].tolist():
        marked = [image for image in bench.untouched(label=label) if bench.rng.random() < MARKED_SHARE]
        for image in marked:
            pixels = bench.render(image)
            burn_corner_mark(pixels)
            bench.write(image, encode_jpeg(pixels, quality=bench.quality))
        bench.touched.update(image.path for image in marked)
        planted.append(PlantedFault("corner_mark", tuple(image.path for image in marked)))
    return planted


def burn_corner_mark(pixels: ByteArray) -> None:
    """Burn a bright letter L into the upper left corner, in place: about 4 % of the side high."""
    unit = max(1, round(min(pixels.shape) * 0.012))
    top = left = 3 * unit
    pixels[top : top + 5 * unit, left : left + unit] = 235
    pixels[top + 4 * unit : top + 5 * unit, left : left + 4 * unit] = 235


def _plant_exact_copies(bench: Bench, count: int, *, kind: str, part: Literal["train", "test"]) -> list[PlantedFault]:
    planted = []
    for image in bench.pick(count, part="train", kind=kind):
        copy = bench.add(image, bench.read(image), part=part, label=image.label)
        planted.append(PlantedFault(kind, (image.path, copy.path)))
    return planted


def _another_class(bench: Bench, label: str) -> str:
    return str(bench.rng.choice([name for name in CLASSES if name != label]))


def _overwrite(bench: Bench, image: PhantomImage, kind: Literal["truncated_file", "empty_file", "not_an_image"]) -> PlantedFault:
    content = bench.read(image)
    broken = {
        "truncated_file": content[: len(content) // 2],
        "empty_file": b"",
        "not_an_image": b"403 Forbidden: the session has expired.\n",
    }
    bench.write(image, broken[kind])
    return PlantedFault(kind, (image.path,))


# ---------------------------------------------------------------------------------------------------- the catalogue


@dataclass(frozen=True)
class FaultKind:
    """A kind of fault.

    Attributes:
        plant: Plants so many faults of the kind on a bench and says which.
        usual: How many are planted unless something else is asked for.
    """

    plant: Callable[[Bench, int], list[PlantedFault]]
    usual: int


FAULT_KINDS: dict[str, FaultKind] = {
    "exact_copy": FaultKind(plant_exact_copies, usual=6),
    "exact_copy_across_split": FaultKind(plant_exact_copies_across_split, usual=5),
    "conflicting_copy": FaultKind(plant_conflicting_copies, usual=2),
    "mirrored_copy_across_split": FaultKind(plant_mirrored_copies_across_split, usual=2),
    "truncated_file": FaultKind(plant_truncated_files, usual=1),
    "empty_file": FaultKind(plant_empty_files, usual=1),
    "not_an_image": FaultKind(plant_texts_named_as_images, usual=1),
    "swapped_label": FaultKind(plant_swapped_labels, usual=2),
    "corner_mark": FaultKind(plant_corner_marks, usual=1),
}
"""In the order in which they are planted; ``corner_mark`` comes last because it takes what the others left. It counts classes,
all others count files or pairs."""


def plant_faults(bench: Bench, counts: dict[str, int], *, seed: int) -> list[PlantedFault]:
    """Plant so many faults of each kind, in the order of :data:`FAULT_KINDS`.

    Raises:
        UsageError: There are not enough images.
    """
    planted: list[PlantedFault] = []
    for name, kind in FAULT_KINDS.items():
        if counts.get(name, 0):
            bench.rng = np.random.default_rng((seed, 1, zlib.crc32(name.encode())))
            planted += kind.plant(bench, counts[name])
    return planted
