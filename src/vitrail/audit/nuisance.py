"""Properties of images that should say nothing about the disease: how a file is stored, framed, lit, marked, compressed, made.

They come in families, because a family is what one asks about: does the file give the label away? The frame? Names of files and
folders are left out: no model sees them, and naming files after their class is a common and harmless habit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrail.audit.additive import DoubleArray, Property
from vitrail.audit.strokes import PLACES, strokes
from vitrail.engine import map_in_order
from vitrail.records import ByteArray, ImageFile, IntArray, Manifest
from vitrail.row_file import RowFile

FamilyName = Literal["file", "geometry", "border", "intensity", "overlay", "source", "compression", "noise"]

_BLOCK = 128  # thumbnails at a time: 2 MB, which stays in the processor's cache
_STRIP = 3  # pixels: 2 % of a thumbnail
_CORNER = 8  # pixels
_DARK = 12  # grey values up to which a line at the edge counts as frame
_PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
_GREY = 0.01  # median share of coloured pixels below which a data set is grey
_SIDES = ("top", "bottom", "left", "right")


@dataclass(frozen=True)
class Family:
    """Properties of one kind, each of which differs between images.

    Attributes:
        name: Which kind.
        properties: Rows of their values are the images that were asked for.
        suspect: Whether nothing in the body can explain what these say about the label. A file's size is suspect, brightness
            is not: a lesion may be bright.
    """

    name: FamilyName
    properties: tuple[Property, ...]
    suspect: bool


def nuisance_families(manifest: Manifest, rows: Sequence[int] | IntArray) -> tuple[Family, ...]:
    """Describe images by family; properties that all of them share are dropped, and families without any.

    Args:
        manifest: The data set.
        rows: Positions of readable images, ascending.
    """
    files = [manifest.files[row] for row in rows]
    facts = {name: manifest.facts[name][rows].astype(np.float64) for name in manifest.facts.dtype.names or ()}
    seen = _look(manifest.thumbnails, np.asarray(rows, dtype=np.int64))
    # Where all images share size and form, a file is long where the picture is rich: that can be the disease.
    stored = (*_varied(_geometry(files)), *_varied(_compression(files, facts)), *_varied(_form(files)))
    families = (
        Family("file", _varied((*_length(files), *_form(files))), bool(stored)),
        Family("geometry", _varied(_geometry(files)), True),
        Family("border", _varied(seen.border), False),
        Family("intensity", _varied((*_intensity(facts), *seen.intensity)), False),
        Family("overlay", _varied((*seen.overlay, *_colour(facts))), seen.marked),
        Family("source", _varied(_source(files)), True),
        Family("compression", _varied(_compression(files, facts)), True),
        Family("noise", _varied(_noise(facts)), False),
    )
    return tuple(family for family in families if family.properties)


def global_properties(manifest: Manifest, rows: Sequence[int] | IntArray) -> tuple[Property, ...]:
    """Describe images by what the scan knows of each as a whole: file, dimensions, compression, header, grey values, noise.

    Nothing here looks at a place in the picture, and nothing depends on the labels; folders are left out, because where they
    stand for classes is told by the labels. The same properties come back for any rows, in the same order.

    Args:
        manifest: The data set.
        rows: Positions of readable images.
    """
    files = [manifest.files[row] for row in rows]
    facts = {name: manifest.facts[name][rows].astype(np.float64) for name in manifest.facts.dtype.names or ()}
    of_files = (*_length(files), *_form(files), *_geometry(files), *_compression(files, facts), *_header(files))
    return (*of_files, *_intensity(facts), *_noise(facts), Property("share of coloured pixels", facts["colour"], unit="share"))


# ---------------------------------------------------------------------------------------------------- from the files


def _length(files: Sequence[ImageFile]) -> Iterable[Property]:
    # The length of a volume or clip says how many slices it has, nothing about one of them.
    size = np.array([np.nan if "#" in file.path else float(file.size_bytes) for file in files])
    pixels = np.array([float(file.width * file.height) or np.nan for file in files])
    yield Property("file size", size, unit="bytes")
    yield Property("bytes per pixel", size / pixels)


def _form(files: Sequence[ImageFile]) -> Iterable[Property]:
    yield _categories("format", (file.format for file in files))
    yield _categories("stored form", (file.mode for file in files))


def _geometry(files: Sequence[ImageFile]) -> Iterable[Property]:
    width, height = (np.array([float(length) or np.nan for length in column]) for column in _sides(files))
    yield Property("width", width, unit="px")
    yield Property("height", height, unit="px")
    yield Property("width over height", width / height)
    yield Property("area", width * height, unit="px")
    yield _categories("shape", np.where(width == height, "square", np.where(width > height, "lying", "standing")).tolist())


def _sides(files: Sequence[ImageFile]) -> tuple[list[int], list[int]]:
    return [file.width for file in files], [file.height for file in files]


def _compression(files: Sequence[ImageFile], facts: dict[str, DoubleArray]) -> Iterable[Property]:
    yield Property("JPEG quality", facts["quality"])
    yield _categories("compression", (file.encoding for file in files))


def _noise(facts: dict[str, DoubleArray]) -> Iterable[Property]:
    yield Property("sharpness", facts["sharpness"])
    yield Property("noise", facts["noise"])
    yield Property("blockiness", facts["blockiness"])


def _intensity(facts: dict[str, DoubleArray]) -> Iterable[Property]:
    yield Property("mean brightness", facts["mean"])
    yield Property("contrast", facts["deviation"])
    yield Property("number of grey values", facts["levels"])
    yield Property("share of black pixels", facts["black"], unit="share")
    yield Property("share of white pixels", facts["white"], unit="share")


def _colour(facts: dict[str, DoubleArray]) -> Iterable[Property]:
    # Colour in a photograph is the picture; in grey images it is an annotation.
    known = facts["colour"][~np.isnan(facts["colour"])]
    if len(known) and float(np.median(known)) < _GREY:
        yield Property("share of coloured pixels", facts["colour"], unit="share")


def _header(files: Sequence[ImageFile]) -> Iterable[Property]:
    yield _categories("source", (file.source for file in files))
    yield _categories("maker", (file.source.split(" | ")[0] for file in files))


def _source(files: Sequence[ImageFile]) -> Iterable[Property]:
    yield from _header(files)
    folders = [_folder(file) for file in files]
    if not _confined(folders, [file.label for file in files]):
        yield _categories("folder", folders)


def source_of(files: Sequence[ImageFile]) -> Property | None:
    """Return where every image comes from, as its header or its folder says; ``None`` where nothing says so."""
    return next((item for item in _varied(_source(files)) if item.name in ("source", "folder")), None)


def _folder(file: ImageFile) -> str:
    """Return the folders between the class folder and the file; where no folder is named after the class, all folders."""
    folders = file.path.split("#")[0].split("/")[:-1]
    return "/".join(folders[folders.index(file.label) + 1 :] if file.label in folders else folders)


def _confined(folders: Sequence[str], labels: Sequence[str]) -> bool:
    """Whether a folder of several images stands in one class only: then folders may be kinds of the class, not sources."""
    classes: dict[str, set[str]] = {}
    for folder, label in zip(folders, labels, strict=True):
        classes.setdefault(folder, set()).add(label)
    return any(len(found) == 1 for found in classes.values())


def _categories(name: str, values: Iterable[str]) -> Property:
    listed = list(values)
    levels, codes = np.unique(np.array(listed, dtype=str), return_inverse=True)
    return Property(name, codes.astype(np.float64), tuple(level or "none" for level in levels.tolist()))


def _varied(properties: Iterable[Property]) -> tuple[Property, ...]:
    """Drop properties that all images share."""
    return tuple(item for item in properties if len(np.unique(item.values)) > 1)


# ---------------------------------------------------------------------------------------------------- from the thumbnails


@dataclass(frozen=True)
class _Seen:
    """What the thumbnails show, by family.

    Attributes:
        border: The outermost pixels, and how far from the edge the object begins.
        intensity: Spread of grey values.
        overlay: Bright strokes in the corners.
        marked: Whether strokes are much denser or much rarer in the corners than in the middle of the images; where they are
            alike they may be what is imaged, for example cells.
    """

    border: tuple[Property, ...]
    intensity: tuple[Property, ...]
    overlay: tuple[Property, ...]
    marked: bool


def _look(thumbnails: RowFile, rows: IntArray) -> _Seen:
    """Measure the thumbnails, some at a time."""

    def look(start: int) -> tuple[list[Property], list[Property], dict[str, npt.NDArray[np.float64]]]:
        block = thumbnails[rows[start : start + _BLOCK]]
        return _frame(block), _levels(block), strokes(block)

    frames, levels, found = zip(*map_in_order(look, range(0, len(rows), _BLOCK)), strict=True)
    border, intensity = _columns(frames), _columns(levels)
    height, area = (np.concatenate([part[name] for part in found], axis=1) for name in ("height", "area"))
    corners, middle = float(area[:-1].mean()), float(area[-1].mean())
    overlay = [
        Property(f"bright strokes in the {name} corner", column) for name, column in zip(PLACES[:-1], height, strict=False)
    ]
    overlay.append(Property("area of bright strokes in the corners", area[:-1].sum(axis=0), unit="px"))
    return _Seen(border, intensity, tuple(overlay), not 0.5 * middle < corners < 2.0 * middle)


def _columns(blocks: Sequence[Sequence[Property]]) -> tuple[Property, ...]:
    """Put the properties of all blocks end to end."""
    return tuple(
        Property(items[0].name, np.concatenate([item.values for item in items]), unit=items[0].unit)
        for items in zip(*blocks, strict=True)
    )


def _frame(block: ByteArray) -> list[Property]:
    """Measure edges, corners, dark frames and margins of thumbnails, uint8 of shape (n, rows, columns)."""
    found = []
    strips = (block[:, :_STRIP], block[:, -_STRIP:], block[:, :, :_STRIP], block[:, :, -_STRIP:])
    for name, strip in zip(_SIDES, strips, strict=True):
        flat = strip.reshape(len(block), -1).astype(np.float32)
        found.append(Property(f"brightness of the {name} edge", flat.mean(axis=1).astype(np.float64)))
        found.append(Property(f"contrast of the {name} edge", flat.std(axis=1).astype(np.float64)))
    near, far = slice(None, _CORNER), slice(-_CORNER, None)
    for name, (down, across) in zip(PLACES, ((near, near), (near, far), (far, near), (far, far)), strict=False):
        found.append(Property(f"brightness of the {name} corner", block[:, down, across].mean(axis=(1, 2))))
    for axis, names in ((2, _SIDES[:2]), (1, _SIDES[2:])):
        brightest = block.max(axis=axis)
        profile = block.sum(axis=axis, dtype=np.uint16).astype(np.float64)
        bright = profile > 0.5 * profile.mean(axis=1, keepdims=True)
        for name, step in zip(names, (1, -1), strict=True):
            found.append(Property(f"dark frame at the {name}", _first(brightest[:, ::step] > _DARK), unit="%"))
            found.append(Property(f"margin at the {name}", _first(bright[:, ::step]), unit="%"))
    return found


def _levels(block: ByteArray) -> list[Property]:
    """Measure grey values of thumbnails, uint8 of shape (n, rows, columns): every second pixel both ways is enough."""
    few = np.ascontiguousarray(block[:, ::2, ::2])
    edge = np.concatenate([few[:, :2].reshape(len(few), -1), few[:, -2:].reshape(len(few), -1)], axis=1).mean(axis=1)
    sides = np.concatenate([few[:, :, :2].reshape(len(few), -1), few[:, :, -2:].reshape(len(few), -1)], axis=1).mean(axis=1)
    quarter = few.shape[1] // 4
    centre = few[:, quarter:-quarter, quarter:-quarter].mean(axis=(1, 2))
    found = [Property("edge brighter than centre by", 0.5 * (edge + sides) - centre)]
    size = few.shape[1] * few.shape[2]
    places = few.reshape(len(few), -1) + 256 * np.arange(len(few), dtype=np.int32)[:, None]
    risen = np.bincount(places.ravel(), minlength=256 * len(few)).reshape(len(few), 256).cumsum(axis=1)
    for percent in _PERCENTILES:
        below = np.count_nonzero(risen < percent / 100 * size, axis=1)
        found.append(Property(f"grey value at {percent} %", below.astype(np.float64)))
    return found


def _first(hit: npt.NDArray[np.bool_]) -> DoubleArray:
    """Return how far along every row the first hit lies, in percent; 100 where there is none."""
    places: DoubleArray = np.where(hit.any(axis=1), hit.argmax(axis=1), hit.shape[1]) * (100.0 / hit.shape[1])
    return places
