"""What every source of images ends as: files on disk, each with its class; and how folders are listed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitrail.datasets.images import SUFFIXES, suffix_of
from vitrail.errors import DataError

ShippedPart = Literal["train", "validation", "test"]

PART_NAMES: dict[str, ShippedPart] = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
"""Names of parts, in lower case, as folders and tables use them."""

_HOUSEKEEPING = frozenset({"__MACOSX", "lost+found", "$RECYCLE.BIN", "System Volume Information"})


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One file that belongs to a class.

    Attributes:
        source: Where it is on disk; a file that a table names and that is not there is found missing when it is read.
        path: Relative to the layout's root, with forward slashes; always valid Unicode (see :func:`printable`).
        label: Class name.
        part: The data set's own part, if it has such parts.
        patient: Whom it shows, as a table says; empty when none does.
        volume: The volume, series or clip that it is a slice of, as a table says; empty when none does.
    """

    source: Path
    path: str
    label: str
    part: ShippedPart | None
    patient: str = ""
    volume: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """What a data set holds.

    Attributes:
        files: Every file that belongs to a class, in the order of their paths. No path stands twice.
        notes: What was passed over and why, one line each.
        root: The folder that paths are relative to: the data set's own folder, or the one that it was unpacked to.
    """

    files: tuple[FoundFile, ...]
    notes: tuple[str, ...]
    root: Path


@dataclass(frozen=True, slots=True)
class Listing:
    """The visible entries of one folder, sorted by name. Links to folders are never followed: they can form loops."""

    folders: tuple[Path, ...]
    files: tuple[Path, ...]
    linked_folders: int

    @property
    def images(self) -> int:
        """How many files are images by their names."""
        return sum(is_image(file.name) for file in self.files)


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return suffix_of(name) in SUFFIXES


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the data set's: its name begins with a dot, or systems leave it behind."""
    return name.startswith(".") or name in _HOUSEKEEPING


def printable(name: str) -> str:
    """Return a file name as valid Unicode: bytes that are not UTF-8 (kept as surrogates by Python) become ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def shown(path: Path, root: Path) -> str:
    """Return a path relative to the root, with forward slashes, as valid Unicode."""
    return printable(path.relative_to(root).as_posix())


def list_folder(folder: Path) -> Listing:
    """List one folder.

    Raises:
        DataError: It may not be listed.
    """
    folders: list[str] = []
    files: list[str] = []
    linked_folders = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
                elif entry.is_symlink() and _leads_to_folder(entry.path):
                    linked_folders += 1
                elif (
                    entry.is_symlink() or entry.is_file()
                ):  # a link that leads nowhere is a lost image; pipes and devices are not
                    files.append(entry.name)
    except OSError as error:
        raise DataError(
            f"{folder}: the folder cannot be listed ({error.strerror}). Give yourself permission to read it."
        ) from error
    paths = tuple(folder / name for name in sorted(folders)), tuple(folder / name for name in sorted(files))
    return Listing(*paths, linked_folders)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file in a folder and in the folders below it."""
    waiting = [folder]
    while waiting:
        listing = list_folder(waiting.pop())
        waiting += listing.folders
        yield from listing.files


def _leads_to_folder(link: str) -> bool:
    try:
        return Path(link).is_dir()
    except OSError:  # a link to itself, or to where one may not look
        return False
