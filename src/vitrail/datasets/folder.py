"""The layout of a data set: which file belongs to which class and part, by the names of folders alone."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitrail.errors import DataError

ShippedPart = Literal["train", "validation", "test"]

_PART_NAMES: dict[str, ShippedPart] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff"})
_HOUSEKEEPING = frozenset({"__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information"})
_EXPECTED = (
    "A data set is a folder with one sub-folder of images per class, named after the class, "
    "or with such class folders inside train, val and test."
)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One file that belongs to a class.

    Attributes:
        source: Where it is on disk.
        path: Relative to the root, with forward slashes; always valid Unicode (see :func:`printable`).
        label: Class name.
        part: The data set's own part, if it has such parts.
    """

    source: Path
    path: str
    label: str
    part: ShippedPart | None


@dataclass(frozen=True, slots=True)
class Layout:
    """What a data set's folder holds.

    Attributes:
        files: Every file in a class folder, in the order of their paths.
        notes: What was passed over and why, one line each.
    """

    files: tuple[FoundFile, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Listing:
    """The visible entries of one folder, sorted by name. Links to folders are never followed: they can form loops."""

    folders: tuple[Path, ...]
    files: tuple[Path, ...]
    linked_folders: int

    @property
    def images(self) -> int:
        """How many files are images by their names."""
        return sum(file.suffix.lower() in _IMAGE_SUFFIXES for file in self.files)


def find_layout(root: Path) -> Layout:
    """Find the class folders under ``root`` and every file in them, without opening a file.

    Class folders stand in ``root`` or inside folders named train, training, val, valid, validation, test or testing (any
    case). Folders that hold nothing but one other folder are passed through. Everything inside a class folder, however
    deep, counts to the class. Names that begin with a dot, ``__MACOSX`` and its
    like, and links to folders are passed over.

    Raises:
        DataError: The folder is missing, empty, or holds no class folders, or only one.
    """
    _check_root(root)
    base = _through_wrappers(root)
    listing = _list_folder(base)
    if not (listing.folders or listing.files or listing.linked_folders):
        raise DataError(f"{root}: the folder is empty. {_EXPECTED} Put the images there.")
    parts = [(folder, _PART_NAMES.get(folder.name.casefold())) for folder in listing.folders]
    named = [part for _, part in parts if part is not None]
    notes: list[str] = []
    if "train" in named or (named and len(named) == len(parts)):
        files: list[FoundFile] = []
        for folder, part in parts:
            if part is None:
                notes.append(f"{_shown(folder, root)}: passed over, because it stands beside the folders of the parts.")
            else:
                files += _files_of_classes(folder, part=part, root=root, notes=notes)
    else:
        files = _files_of_classes(base, part=None, root=root, notes=notes)
    _check_classes(sorted({file.label for file in files}), root=root, base=base, notes=notes)
    return Layout(tuple(sorted(files, key=lambda file: file.path)), tuple(notes))


def printable(name: str) -> str:
    """Return a file name as valid Unicode: bytes that are not UTF-8 (kept as surrogates by Python) become ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def _check_root(root: Path) -> None:
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
    except OSError as error:
        reason = "there is no such folder" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error.strerror})"
        raise DataError(f"{root}: {reason}. Check the path of the images.") from error
    if not is_folder:
        raise DataError(f"{root}: this is a file, not a folder. {_EXPECTED} Give the path of such a folder.")


def _check_classes(labels: list[str], *, root: Path, base: Path, notes: list[str]) -> None:
    if len(labels) > 1:
        return
    if len(labels) == 1:
        raise DataError(
            f"{root}: only one class was found, {labels[0]!r}; telling images apart needs at least two. {_EXPECTED} "
            "Add the folder of another class."
        )
    listing = _list_folder(base)
    counts = (
        (listing.images, "images directly in it"),
        (len(listing.files) - listing.images, "other files"),
        (len(listing.folders), "sub-folders, none of them with files of a class"),
        (listing.linked_folders, "links to folders, which are not followed"),
    )
    found = ", ".join(f"{number} {what}" for number, what in counts if number)
    raise DataError(
        f"{root}: no class folders were found. {_EXPECTED} Found in {base}: {found}. "
        + "".join(f"({note.rstrip('.')}.) " for note in notes)
        + "Move the images of each class into a folder with its name."
    )


def _through_wrappers(folder: Path) -> Path:
    """Go down while a folder holds nothing but one other folder, which in turn holds folders and no images."""
    while True:
        listing = _list_folder(folder)
        if len(listing.folders) != 1 or listing.images or listing.folders[0].name.casefold() in _PART_NAMES:
            return folder
        inner = _list_folder(listing.folders[0])
        if inner.images or not inner.folders:
            return folder
        folder = listing.folders[0]


def _files_of_classes(folder: Path, *, part: ShippedPart | None, root: Path, notes: list[str]) -> list[FoundFile]:
    """Return the files of every class folder in ``folder``."""
    listing = _list_folder(folder)
    if listing.images:
        notes.append(f"{_shown(folder, root)}: {listing.images} images outside the class folders were passed over.")
    if listing.linked_folders:
        notes.append(f"{_shown(folder, root)}: {listing.linked_folders} links to folders were not followed.")
    result: list[FoundFile] = []
    for class_folder in listing.folders:
        files = [
            FoundFile(file, _shown(file, root), label=printable(class_folder.name), part=part)
            for file in _files_below(class_folder)
        ]
        if not files:
            notes.append(f"{_shown(class_folder, root)}: passed over, because there is no file in it.")
        result += files
    return result


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield every file in a folder and in the folders below it."""
    waiting = [folder]
    while waiting:
        listing = _list_folder(waiting.pop())
        waiting += listing.folders
        yield from listing.files


def _list_folder(folder: Path) -> _Listing:
    """List one folder.

    Raises:
        DataError: It may not be listed.
    """
    folders: list[Path] = []
    files: list[Path] = []
    linked_folders = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name in _HOUSEKEEPING:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_symlink() and _leads_to_folder(entry.path):
                    linked_folders += 1
                elif (
                    entry.is_symlink() or entry.is_file()
                ):  # a link that leads nowhere is a lost image; pipes and devices are not
                    files.append(Path(entry.path))
    except OSError as error:
        raise DataError(
            f"{folder}: the folder cannot be listed ({error.strerror}). Give yourself permission to read it."
        ) from error
    return _Listing(tuple(sorted(folders)), tuple(sorted(files)), linked_folders)


def _leads_to_folder(link: str) -> bool:
    try:
        return Path(link).is_dir()
    except OSError:  # a link to itself, or to where one may not look
        return False


def _shown(path: Path, root: Path) -> str:
    """Return a path relative to the root, with forward slashes, as valid Unicode."""
    return printable(path.relative_to(root).as_posix())
