"""MedMNIST files (npz): written out once into the cache as a folder of PNG files, and from then on a folder like any other.

Class names follow the tables of the collection's publication (Yang et al. 2023, MedMNIST v2, Scientific Data 10:41).
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy
from PIL import Image

from vitrail.datasets.archive import unpacking_place, write_unpacking_notes
from vitrail.errors import DataError
from vitrail.progress import SILENT, Advance, Progress
from vitrail.records import ByteArray, IntArray
from vitrail.storage import whole_folder

_PARTS = ("train", "val", "test")
_NEEDED = "{train,val,test}_images (uint8) and {train,val,test}_labels (whole numbers)"
_IMAGES_LIMIT = 2_000_000
_SIDE_LIMIT = 1024
_BLOCK_BYTES = 4 * 1024**2
_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right"),
    *("liver", "lung-left", "lung-right", "pancreas", "spleen"),
)

CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "pathmnist": (
        *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa"),
        *("cancer-associated stroma", "colorectal adenocarcinoma epithelium"),
    ),
    "bloodmnist": (
        *("basophil", "eosinophil", "erythroblast"),
        "immature granulocytes (myelocytes, metamyelocytes and promyelocytes)",
        *("lymphocyte", "monocyte", "neutrophil", "platelet"),
    ),
    "dermamnist": (
        *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions"),
        *("dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"),
    ),
    "octmnist": ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    "pneumoniamnist": ("normal", "pneumonia"),
    "retinamnist": ("0", "1", "2", "3", "4"),  # grades of diabetic retinopathy
    "breastmnist": ("malignant", "normal, benign"),
    "tissuemnist": (
        *("Collecting Duct, Connecting Tubule", "Distal Convoluted Tubule", "Glomerular endothelial cells"),
        *("Interstitial endothelial cells", "Leukocytes", "Podocytes", "Proximal Tubule Segments", "Thick Ascending Limb"),
    ),
    "organamnist": _ORGANS,
    "organcmnist": _ORGANS,
    "organsmnist": _ORGANS,
    "organmnist3d": (
        *("liver", "kidney-right", "kidney-left", "femur-right", "femur-left", "bladder"),
        *("heart", "lung-right", "lung-left", "spleen", "pancreas"),
    ),
    "nodulemnist3d": ("benign", "malignant"),
    "adrenalmnist3d": ("normal", "hyperplasia"),
    "fracturemnist3d": ("buckle rib fracture", "nondisplaced rib fracture", "displaced rib fracture"),
    "vesselmnist3d": ("vessel", "aneurysm"),
    "synapsemnist3d": ("inhibitory synapse", "excitatory synapse"),
}
"""Name of a MedMNIST set -> the names of its classes, by number. The multi-label set ``chestmnist`` is not among them."""


@dataclass(frozen=True, slots=True)
class _Member:
    """One array of the file, as its header says."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran_order: bool


def unpack_medmnist(npz: Path, cache: Path, progress: Progress = SILENT) -> Path:
    """Write the images of a MedMNIST file as PNG files in the cache, or find them there.

    The file holds ``train_images``, ``train_labels`` and so on for ``val`` and ``test``: images uint8 of shape (n, rows,
    columns) or (n, rows, columns, 3), labels whole numbers of shape (n,) or (n, 1). Of volumes, shape (n, slices, rows, columns),
    the middle slice is taken, with a note. Images are read in blocks of a few megabytes; nothing in the file is executed.

    Args:
        npz: The file. Its name tells the names of the classes: ``pathmnist.npz``, ``pathmnist_64.npz``; otherwise, the classes
            are called by their numbers. Never written to.
        cache: The images come to ``cache/unpacked/<fingerprint of path, size and time>/files``.
        progress: Told how far the writing is.

    Returns:
        A folder ``train|val|test/<class>/000123.png``; the number is the position in the array.

    Raises:
        DataError: The file is damaged, or holds other arrays, or several labels for an image.
        OutputError: The cache cannot be written.
    """
    with unpacking_place(npz, cache) as place:
        if place.filled:
            return place.files
        try:
            with zipfile.ZipFile(npz) as container:
                members = _check_members(npz, container)
                labels = {part: _read_labels(npz, container, members[f"{part}_labels"]) for part in _PARTS}
                total = _check_sizes(npz, members, labels)
                names = _class_names(npz, labels)
                with whole_folder(place.folder) as folder, progress.task("Unpacking", total) as advance:
                    for part in _PARTS:
                        images = _images(npz, container, members[f"{part}_images"])
                        _write_images(images, labels[part], names, folder / "files" / part, advance)
                    write_unpacking_notes(folder, _notes(npz, members))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise DataError(f"{npz}: the file is damaged ({error}). Download it again.") from error
        return place.files


def _check_members(npz: Path, container: zipfile.ZipFile) -> dict[str, _Member]:
    """Read the headers of all arrays."""
    names = [name.removesuffix(".npy") for name in container.namelist() if name.endswith(".npy")]
    needed = [f"{part}_{what}" for part in _PARTS for what in ("images", "labels")]
    if not set(needed) <= set(names):
        raise DataError(
            f"{npz}: this is no MedMNIST file, which holds the arrays {_NEEDED}. Found: {', '.join(sorted(names)) or 'none'}. "
            "Write the images to folders, one per class, and give their folder."
        )
    members = {}
    for name in needed:
        with container.open(f"{name}.npy") as stream:
            members[name] = _read_header(npz, name, stream)
    return members


def _read_header(npz: Path, name: str, stream: IO[bytes]) -> _Member:
    try:
        version = npy.read_magic(stream)
        reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran_order, dtype = reader(stream)
    except (ValueError, EOFError) as error:
        raise DataError(f"{npz}: the array {name} is damaged ({error}). Download the file again.") from error
    return _Member(name, shape, dtype, bool(fortran_order and len(shape) > 1))


def _check_sizes(npz: Path, members: dict[str, _Member], labels: dict[str, IntArray]) -> int:
    """Return the number of images."""
    for part in _PARTS:
        member = members[f"{part}_images"]
        shape = member.shape
        planes = shape[1:-1] if len(shape) == 4 and shape[-1] == 3 else shape[1:]
        if member.dtype != np.uint8 or len(planes) not in (2, 3) or member.fortran_order:
            raise DataError(
                f"{npz}: {member.name} must be uint8 of shape (n, rows, columns), (n, rows, columns, 3) or (n, slices, rows, "
                f"columns). Found: {member.dtype} of shape {shape}{', in Fortran order' if member.fortran_order else ''}. "
                "Write the images to folders, one per class, and give their folder."
            )
        if not all(1 <= side <= _SIDE_LIMIT for side in planes):
            raise DataError(f"{npz}: images must have sides of 1 to {_SIDE_LIMIT} pixels. Found: {member.name} of shape {shape}.")
        if len(labels[part]) != shape[0]:
            raise DataError(
                f"{npz}: every image needs one label. Found: {shape[0]:,} images and {len(labels[part]):,} labels in {part}. "
                "Download the file again."
            )
    total = sum(len(values) for values in labels.values())
    if not 0 < total <= _IMAGES_LIMIT:
        raise DataError(f"{npz}: 1 to {_IMAGES_LIMIT:,} images are unpacked. Found: {total:,}.")
    return total


def _read_labels(npz: Path, container: zipfile.ZipFile, member: _Member) -> IntArray:
    shape = member.shape
    if len(shape) == 2 and shape[1] > 1:
        raise DataError(
            f"{npz}: every image must belong to one class. Found: {shape[1]} labels per image in {member.name}, as for several "
            "findings at once. Choose a set with one label per image."
        )
    if not np.issubdtype(member.dtype, np.integer) or len(shape) not in (1, 2) or shape[0] > _IMAGES_LIMIT:
        raise DataError(
            f"{npz}: {member.name} must be whole numbers of shape (n,) or (n, 1). Found: {member.dtype} of shape {shape}."
        )
    with container.open(f"{member.name}.npy") as stream:
        _read_header(npz, member.name, stream)
        size = int(np.prod(shape)) * member.dtype.itemsize
        content = stream.read(size)
    if len(content) != size:
        raise DataError(f"{npz}: the array {member.name} is cut off. Download the file again.")
    return np.frombuffer(content, dtype=member.dtype).astype(np.int64)


def _images(npz: Path, container: zipfile.ZipFile, member: _Member) -> Iterator[ByteArray]:
    """Yield one image after the other, uint8 of shape (rows, columns) or (rows, columns, 3)."""
    item = member.shape[1:]
    volumes = len(item) == 3 and item[-1] != 3
    size = int(np.prod(item))
    rows = max(1, _BLOCK_BYTES // size)
    with container.open(f"{member.name}.npy") as stream:
        _read_header(npz, member.name, stream)
        for start in range(0, member.shape[0], rows):
            count = min(rows, member.shape[0] - start)
            content = stream.read(count * size)
            if len(content) != count * size:
                raise DataError(f"{npz}: the array {member.name} is cut off. Download the file again.")
            block: npt.NDArray[np.uint8] = np.frombuffer(content, dtype=np.uint8).reshape(count, *item)
            yield from block[:, item[0] // 2] if volumes else block


def _write_images(images: Iterator[ByteArray], labels: IntArray, names: dict[int, str], folder: Path, advance: Advance) -> None:
    for name in {names[label] for label in np.unique(labels).tolist()}:
        (folder / name).mkdir(parents=True)
    for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        content = io.BytesIO()  # a third faster than Pillow's own way to a file
        Image.fromarray(image).save(content, "PNG", compress_level=1)
        (folder / names[label] / f"{number:06d}.png").write_bytes(content.getvalue())
        advance()


def _class_names(npz: Path, labels: dict[str, IntArray]) -> dict[int, str]:
    """Return the names of the labels that occur: the published ones where the file's name and its labels fit, else numbers."""
    numbers = np.unique(np.concatenate(list(labels.values()))).tolist()
    known = CLASS_NAMES.get(_set_name(npz), ())
    fits = bool(known) and all(0 <= number < len(known) for number in numbers)
    return {number: known[number] if fits else str(number) for number in numbers}


def _set_name(npz: Path) -> str:
    """Return ``pathmnist`` for ``PathMNIST_64 (1).npz``."""
    match = re.match(r"[a-z]+mnist(?:3d)?(?![a-z0-9])", re.sub(r"_", " ", npz.name.lower()))
    return match.group() if match else ""


def _notes(npz: Path, members: dict[str, _Member]) -> tuple[str, ...]:
    shape = members["train_images"].shape[1:]
    if len(shape) == 3 and shape[-1] != 3:
        return (f"{npz.name}: of every volume of {shape[0]} slices the middle one, number {shape[0] // 2}, is used.",)
    return ()
