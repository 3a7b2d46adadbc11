"""The files below one folder, as a table may call them: by paths from here or elsewhere, by names, with or without extension."""

from __future__ import annotations

import os
import posixpath
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from vitrail.datasets.images import suffix_of
from vitrail.datasets.layout import is_image, list_folder, printable


class AmbiguousName(Exception):
    """Several files have the name, and nothing tells which is meant."""


class LeadsOut(Exception):
    """The path leads out of the folder, and no file in it has the name."""


class NamedFiles:
    """Finds the files that the cells of a table mean. Paths are text with forward slashes: there may be a million.

    Attributes:
        root: The folder.
        present: Files that were found and are there, relative to the root.
        copies: Names that stand for several files of equal size, of which the first is taken.
        moved: Paths of files that stand in another folder than the table says.
    """

    def __init__(self, root: Path, *, table_folder: Path) -> None:
        self.root = root
        self.present: set[str] = set()
        self.copies: list[str] = []
        self.moved: list[str] = []
        self._top = posixpath.normpath(root.absolute().as_posix())
        tables = posixpath.normpath(table_folder.absolute().as_posix())
        self._bases = (self._top,) if tables == self._top else (self._top, tables)

    def find(self, value: str) -> str:
        """Return the file that a cell means, relative to the root; it may not exist.

        Raises:
            AmbiguousName: Several files could be meant.
            LeadsOut: It is not below the root.
        """
        value = value.replace("\\", "/")
        places = [place for base in self._bases if (place := self._below_root(base, value))]
        for place in places:
            if os.path.isfile(f"{self._top}/{place}"):  # noqa: PTH113 - several times faster
                self.present.add(place)
                return place
        named = self._by_name(value)
        if named is not None:
            self.present.add(named)
            return named
        if not places:
            raise LeadsOut
        return places[0]

    def exists(self, value: str) -> bool:
        """Whether a cell means a file that is there."""
        try:
            return is_name(value) and self.find(value) in self.present
        except (AmbiguousName, LeadsOut):
            return False

    def forget(self) -> None:
        """Forget what was found so far."""
        self.present.clear()
        self.copies.clear()
        self.moved.clear()

    def _below_root(self, base: str, value: str) -> str:
        """Return a place relative to the root; empty where it is not below it."""
        place = posixpath.normpath(posixpath.join(base, value))
        return place[len(self._top) + 1 :] if place.startswith(f"{self._top}/") else ""

    def _by_name(self, value: str) -> str | None:
        folded = value.casefold()
        folder, name = posixpath.split(folded)
        candidates = self._names.get(name) or self._stems.get(name, [])
        if not candidates:
            return None
        depths = [_common_tail(folder, posixpath.dirname(candidate.casefold())) for candidate in candidates]
        if folder and not max(depths):
            if posixpath.basename(folder) in self._folder_names:  # that folder is here, and the file is not in it
                return None
            self.moved.append(value)
        candidates = [place for place, depth in zip(candidates, depths, strict=True) if depth == max(depths)]
        if len(candidates) > 1:
            if len({self._size(place) for place in candidates}) > 1:
                raise AmbiguousName
            self.copies.append(value)
        return candidates[0]

    def _size(self, place: str) -> int:
        try:
            return (self.root / place).stat().st_size
        except OSError:  # a link that leads nowhere
            return -1

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = defaultdict(list)
        for place in sorted(self._walk()):
            names[posixpath.basename(place).casefold()].append(place)
        return names

    def _walk(self) -> Iterator[str]:
        waiting = [(self.root, "")]
        while waiting:
            folder, prefix = waiting.pop()
            listing = list_folder(folder)
            waiting += [(inner, f"{prefix}{inner.name}/") for inner in listing.folders]
            yield from (f"{prefix}{file.name}" for file in listing.files)

    @cached_property
    def _folder_names(self) -> set[str]:
        return {name for places in self._names.values() for place in places for name in place.casefold().split("/")[:-1]}

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = defaultdict(list)
        for name, places in self._names.items():
            if is_image(name):
                stems[name.removesuffix(suffix_of(name))] += places
        return stems

    def unlisted(self, listed: set[str]) -> list[str]:
        """Return the images that stand in the same folders as the listed files, without being listed."""
        result: list[str] = []
        for folder in sorted({posixpath.dirname(place) for place in listed}):
            if (self.root / folder).is_dir():
                places = (posixpath.join(folder, path.name) for path in list_folder(self.root / folder).files)
                result += [printable(place) for place in places if place not in listed and is_image(place)]
        return result


def is_name(value: str) -> bool:
    """Whether a cell can be a file name at all."""
    return value.isprintable() and value.replace("\\", "/").strip("./") != ""


def _common_tail(one: str, other: str) -> int:
    """Return how many folders, counted from the innermost outwards, two folders share."""
    depth = 0
    for first, second in zip(reversed(one.split("/")), reversed(other.split("/")), strict=False):
        if first != second or not first:
            break
        depth += 1
    return depth
