"""The bench on which faults are planted: the images as they stand, what is already spoilt, and how files are written."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitrail.datasets.phantom.patient import CLASSES
from vitrail.errors import UsageError
from vitrail.records import ByteArray

ShippedPart = Literal["train", "test"]

PART_FOLDERS: dict[ShippedPart, str] = {"train": "Training", "test": "Testing"}


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
        mask: The lesion's mask, relative to the phantom's folder; ``None`` where no lesion is to be seen.
    """

    path: str
    label: str
    true_label: str
    part: ShippedPart
    patient: int
    slice: int
    mask: str | None


@dataclass(frozen=True)
class PlantedFault:
    """One thing that was made wrong on purpose.

    Attributes:
        kind: A key of ``FAULT_KINDS``.
        paths: The files concerned, relative to the ``images`` folder; of copies, the original stands first.
        true_label: The class the image was drawn as, where the fault is about labels; else empty.
        note: What exactly was done, in a few words, where a kind has several sorts; else empty.
    """

    kind: str
    paths: tuple[str, ...]
    true_label: str = ""
    note: str = ""


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
        spoilt_classes: Classes that a fault concerns as a whole: every class has at most one.
    """

    folder: Path
    images: list[PhantomImage]
    render: Callable[[PhantomImage], ByteArray]
    quality: int
    rng: np.random.Generator
    touched: set[str] = field(default_factory=set)
    spoilt_classes: set[str] = field(default_factory=set)

    def untouched(self, *, part: ShippedPart | None = None, label: str | None = None) -> list[PhantomImage]:
        """Return the images without a fault, of one part and of one class if given."""
        return [
            image
            for image in self.images
            if image.path not in self.touched and part in (None, image.part) and label in (None, image.label)
        ]

    def pick(self, count: int, *, part: ShippedPart, kind: str, with_lesion: bool = False) -> list[PhantomImage]:
        """Draw images without a fault, if wished only among those with a lesion, and mark them as touched.

        Raises:
            UsageError: There are not enough.
        """
        free = [image for image in self.untouched(part=part) if image.mask is not None or not with_lesion]
        if len(free) < count:
            raise UsageError(
                f"phantom: {kind} needs {count} {part} images without another fault, but {len(free)} are left. "
                "Plant fewer faults or draw more patients."
            )
        chosen = [free[place] for place in self.rng.choice(len(free), size=count, replace=False)]
        self.touched.update(image.path for image in chosen)
        return chosen

    def pick_classes(self, count: int, *, kind: str) -> list[str]:
        """Draw classes that no other fault concerns as a whole, and mark them as spoilt.

        Raises:
            UsageError: There are not enough.
        """
        free = [label for label in CLASSES if label not in self.spoilt_classes]
        if count > len(free):
            raise UsageError(
                f"phantom: {kind} counts classes, of which there are {len(free)} without another such fault. Found: {count}. "
                "Plant fewer."
            )
        chosen = [str(label) for label in self.rng.permutation(np.array(free))[:count]]
        self.spoilt_classes.update(chosen)
        return chosen

    def another_class(self, label: str) -> str:
        """Draw a class other than ``label``."""
        return str(self.rng.choice([name for name in CLASSES if name != label]))

    def read(self, image: PhantomImage) -> bytes:
        """Return the file's bytes."""
        return (self.folder / "images" / image.path).read_bytes()

    def write(self, image: PhantomImage, content: bytes) -> None:
        """Write the file's bytes."""
        path = self.folder / "images" / image.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def write_pixels(self, image: PhantomImage, pixels: ByteArray) -> None:
        """Compress pixels once, as all images are, and write them."""
        self.write(image, encode_jpeg(pixels, quality=self.quality))

    def add(self, image: PhantomImage, content: bytes, *, part: ShippedPart, label: str, suffix: str = ".jpg") -> PhantomImage:
        """File ``content`` as a new patient's image that was drawn as ``image``, and return what was added."""
        patient = max(known.patient for known in self.images) + 1
        path = image_path(part, label, patient=patient, number=1, suffix=suffix)
        added = replace(image, path=path, label=label, part=part, patient=patient, slice=1)
        self.write(added, content)
        self.images.append(added)
        self.touched.add(path)
        return added

    def move(self, image: PhantomImage, content: bytes, *, part: ShippedPart, label: str, suffix: str = ".jpg") -> PhantomImage:
        """File an image elsewhere under its patient's name, with ``content``, and return what it has become."""
        path = image_path(part, label, patient=image.patient, number=image.slice, suffix=suffix)
        moved = replace(image, path=path, label=label, part=part)
        (self.folder / "images" / image.path).unlink()
        self.write(moved, content)
        self.swap_in(image, moved)
        self.touched.update((image.path, path))
        return moved

    def reshape_mask(self, image: PhantomImage, reshape: Callable[[Image.Image], Image.Image]) -> None:
        """Write the mask that belongs to an image whose geometry was changed, under the image's name, if it has one."""
        if image.mask is None:
            return
        mask = reshape(Image.open(self.folder / image.mask))
        name = f"masks/{PurePosixPath(image.path).stem}.png"
        (self.folder / name).write_bytes(encode_mask(np.asarray(mask) > 0))
        self.swap_in(image, replace(image, mask=name))

    def drop_mask(self, image: PhantomImage) -> None:
        """Take the mask away from an image that shows no lesion any more."""
        if image.mask is not None:
            (self.folder / image.mask).unlink()
            self.swap_in(image, replace(image, mask=None))

    def swap_in(self, old: PhantomImage, new: PhantomImage) -> None:
        """Replace an entry of the list of images."""
        self.images[self.images.index(old)] = new


def image_path(part: ShippedPart, label: str, *, patient: int, number: int, suffix: str = ".jpg") -> str:
    """Return where an image stands, relative to the ``images`` folder. The name carries no label."""
    return f"{PART_FOLDERS[part]}/{label}/patient{patient:03d}_slice{number:02d}{suffix}"


def encode_jpeg(pixels: ByteArray, *, quality: int) -> bytes:
    """Return an image of shape (rows, columns) or (rows, columns, 3) as the bytes of a JPEG file."""
    return encode_picture(Image.fromarray(pixels), quality=quality)


def encode_picture(picture: Image.Image, *, quality: int) -> bytes:
    """Return a picture as the bytes of a JPEG file, or of a PNG file where ``quality`` is 0."""
    stream = io.BytesIO()
    if quality:
        picture.save(stream, "JPEG", quality=quality)
    else:
        picture.save(stream, "PNG")
    return stream.getvalue()


def encode_mask(mask: npt.NDArray[np.bool_]) -> bytes:
    """Return a mask of shape (rows, columns) as the bytes of a PNG file with the values 0 and 255."""
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * np.uint8(255)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
