"""The one pass over the bytes: every file is read once, hashed, decoded to a small grey thumbnail, measured and described.

What the pass finds is kept in a cache; the next scan of the same folder touches only files whose size or time has changed.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import stat
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy
from pydantic import TypeAdapter

from vitrail.datasets.derived import DERIVED, derived_files
from vitrail.datasets.examine import Entry, FileToRead, Key, ScannedImage, examine_all, killed
from vitrail.datasets.facts import FACTS, THUMBNAIL_SIZE
from vitrail.datasets.folder import FoundFile, find_layout, printable
from vitrail.datasets.images import FORMATS
from vitrail.engine import WORTH_PROCESSES, available_cores, map_in_order
from vitrail.errors import DataError, OutputError
from vitrail.progress import SILENT, Progress
from vitrail.records import ByteArray, ImageFile, Manifest
from vitrail.settings import DataSettings
from vitrail.storage import fingerprint, versions, whole_file, write_text

# What is kept depends on how it was made: another version of either starts anew.
_CACHE_VERSION = f"7, {versions('pillow', 'pydicom', 'nibabel')}"
_BATCH = 16  # files per job: small images cost little more than the job itself
_FEW = 1000  # so many changed files are held in memory to see whether their content has changed too


@dataclass(frozen=True, slots=True)
class _Index:
    """The cache's table of contents."""

    version: str
    thumbnails: str
    facts: str
    entries: list[Entry]


@dataclass(frozen=True, slots=True)
class _Cached:
    """What an earlier scan left: entries by key, with the rows of their images."""

    index: _Index
    rows: Mapping[Key, list[int]]
    thumbnails: ByteArray
    facts: npt.NDArray[np.void]

    def images(self, key: Key) -> list[ScannedImage]:
        """Return the images of an unchanged file."""
        return [
            ScannedImage(self.index.entries[row], self.thumbnails[row].tobytes(), self.facts[row].tobytes())
            for row in self.rows[key]
        ]


def scan_folder(
    root: Path,
    *,
    cache: Path,
    settings: DataSettings | None = None,
    progress: Progress = SILENT,
    meanwhile: Callable[[], None] | None = None,
) -> Manifest:
    """Find the images under ``root`` and read each file once.

    Broken files never stop the scan: they are in the manifest with their problem. See :func:`find_layout` for the layout.

    Args:
        root: Folder of class folders, with or without train, validation and test folders above them; or a table or an archive
            of images. Never written to.
        cache: Folder for thumbnails and measurements. May be shared by many data sets. Unchanged files (same path, size and
            modification time) are not read again.
        settings: Where labels come from and how many slices are taken from volumes; ``None``: the usual.
        progress: Told how far the reading is.
        meanwhile: Called in a thread of its own while other processes read files: the time to load what comes after. It is not
            called where this process reads them itself, and what goes wrong in it is left to whoever needs what it loads.

    Raises:
        DataError: The folder cannot be used: missing, empty, fewer than two classes, or a class with fewer than two images.
        OutputError: The cache cannot be written.
    """
    settings = settings or DataSettings(path=root)
    layout = find_layout(root, cache=cache, settings=settings, progress=progress)
    for note in layout.notes:
        progress.say(note)
    items = [_look(found) for found in layout.files]
    folder = cache / fingerprint(printable(str(root.resolve())))
    version = f"{_CACHE_VERSION}, slices {settings.slices}"
    cached = _open_cache(folder, version)
    if cached is not None and [item.key for item in items] == list(cached.rows):
        index = cached.index
    else:
        index = _Pass(folder, version, settings.slices, root, progress, meanwhile).read(items, cached)
    files = _image_files(items, index.entries)
    classes = tuple(sorted({file.label for file in files}))
    return Manifest(layout.root.absolute(), classes, files, folder / index.thumbnails, folder / index.facts, layout.notes)


def _look(found: FoundFile) -> FileToRead:
    """Note a file's size and time, without opening it."""
    try:
        status = found.source.stat()
    except OSError as error:
        problem = "the link leads nowhere" if found.source.is_symlink() else f"cannot be read: {error.strerror}"
        return FileToRead(found, 0, 0, problem)
    problem = "" if stat.S_ISREG(status.st_mode) else "not a regular file"
    if not found.source.as_posix().endswith(found.path):
        problem = "its name is not valid UTF-8, so no report could name it: rename the file or its folder"
    return FileToRead(found, status.st_size, status.st_mtime_ns, problem)


# ---------------------------------------------------------------------------------------------------- the pass


@dataclass(frozen=True, slots=True)
class _Pass:
    """One pass over the files of a data set.

    Attributes:
        folder: Where the cache of the data set lies.
        version: What the cache is made by.
        slices: Images taken from a volume or clip.
        root: The data set, for messages.
        progress: Told of every file.
        meanwhile: Called in a thread while processes read.
    """

    folder: Path
    version: str
    slices: int
    root: Path
    progress: Progress
    meanwhile: Callable[[], None] | None

    def read(self, items: list[FileToRead], cached: _Cached | None) -> _Index:
        """Read what has changed and write the cache."""
        changed = [item for item in items if cached is None or item.key not in cached.rows]
        if len(changed) < len(items):
            self.progress.say(f"{len(items) - len(changed):,} of {len(items):,} files are unchanged and are not read again.")
        with self._read_all(changed) as results:
            if cached is not None and len(changed) <= _FEW:
                read = list(results)
                index = self._touched(items, cached, read)
                if index is not None:
                    return index
                results = iter(read)
            return self._write(items, cached, results)

    def _touched(self, items: list[FileToRead], cached: _Cached, read: list[list[ScannedImage]]) -> _Index | None:
        """Return the index with new times where nothing but the times of files has changed: no array is written then."""
        paths = [key[0] for key in cached.rows]
        if [item.found.path for item in items] != paths:
            return None
        before = dict(zip(paths, cached.rows.values(), strict=True))
        entries = list(cached.index.entries)
        for images in read:
            rows = before[images[0].entry.path]
            new = [image.entry for image in images]
            if [entry.sha256 for entry in new] != [entries[row].sha256 for row in rows] or not new[0].sha256:
                return None
            for row, entry in zip(rows, new, strict=True):
                entries[row] = entry
        index = _Index(self.version, cached.index.thumbnails, cached.index.facts, entries)
        with self._failures_as_output_errors():
            self._write_index(index)
        return index

    def _write(self, items: list[FileToRead], cached: _Cached | None, results: Iterator[list[ScannedImage]]) -> _Index:
        """Write thumbnails, facts and index, and remove what they replace; of a useless data set, keep nothing."""
        made = fingerprint(self.version, [item.key for item in items])
        thumbnails, facts = self.folder / f"thumbnails-{made}.npy", self.folder / f"facts-{made}.npy"
        entries: list[Entry] = []
        measured = bytearray()
        with self._failures_as_output_errors():
            # Rows are appended to a plain file: a full disk is then an error, where a mapped one would kill the process.
            with whole_file(thumbnails) as temporary, temporary.open("wb") as stream:
                _write_header(stream, 0)
                for item in items:
                    known = cached is not None and item.key in cached.rows
                    for image in cached.images(item.key) if known and cached is not None else next(results):
                        entries.append(image.entry)
                        stream.write(image.thumbnail)
                        measured += image.facts
                stream.seek(0)
                _write_header(stream, len(entries))  # numpy leaves room for the number to grow: the header keeps its length
                _check_readable(_image_files(items, entries), root=self.root)
            with whole_file(facts) as temporary, temporary.open("wb") as stream:
                np.save(stream, np.frombuffer(measured, dtype=FACTS))
            index = _Index(self.version, thumbnails.name, facts.name, entries)
            self._write_index(index)
        for old in (*self.folder.glob("thumbnails-*.npy"), *self.folder.glob("facts-*.npy")):
            if old not in (thumbnails, facts):
                with contextlib.suppress(OSError):  # still mapped by another process, on systems where that holds a file
                    old.unlink()
        return index

    def _write_index(self, index: _Index) -> None:
        content = {"version": index.version, "thumbnails": index.thumbnails, "facts": index.facts, "entries": index.entries}
        write_text(self.folder / "index.json", json.dumps(content))

    @contextlib.contextmanager
    def _failures_as_output_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = f"{self.folder}: the cache cannot be written ({error.strerror}). Choose another --output."
            raise OutputError(reason) from error

    @contextlib.contextmanager
    def _read_all(self, items: list[FileToRead]) -> Iterator[Iterator[list[ScannedImage]]]:
        """Give the images of every file, in order, while threads or processes read them."""
        in_processes = len(items) >= WORTH_PROCESSES and available_cores() > 1

        def told(batches: Iterable[list[list[ScannedImage]]]) -> Iterator[list[ScannedImage]]:
            for number, result in enumerate(itertools.chain.from_iterable(batches)):
                if number == 0 and in_processes and self.meanwhile is not None:
                    threading.Thread(target=_try, args=(self.meanwhile,), daemon=True).start()
                advance()
                yield result

        # Remarks on odd metadata are no concern of the person who waits. Here, for all threads: filters are one per process.
        with warnings.catch_warnings(), self.progress.task("Reading images", len(items)) as advance:
            warnings.filterwarnings("ignore", module=r"(PIL|pydicom|nibabel)\.")
            batches = (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
            examine = functools.partial(examine_all, slices=self.slices)

            def examine_each(batch: list[FileToRead]) -> list[list[ScannedImage]]:
                results = map_in_order(examine, ([item] for item in batch), processes=True, in_place_of=killed)
                return list(itertools.chain.from_iterable(results))

            yield told(map_in_order(examine, batches, processes=in_processes, in_place_of=examine_each))


def _try(job: Callable[[], None]) -> None:
    with contextlib.suppress(Exception):
        job()


def _write_header(stream: BinaryIO, rows: int) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, THUMBNAIL_SIZE, THUMBNAIL_SIZE)}
    npy.write_array_header_1_0(stream, header)


# ---------------------------------------------------------------------------------------------------- the cache


def _open_cache(folder: Path, version: str) -> _Cached | None:
    """Return what an earlier scan left, if it is whole and of this version."""
    try:
        index = TypeAdapter(_Index).validate_json((folder / "index.json").read_bytes())
        thumbnails = np.load(folder / index.thumbnails, mmap_mode="r", allow_pickle=False)
        facts = np.load(folder / index.facts, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    shape = (len(index.entries), THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    if index.version != version or thumbnails.shape != shape or thumbnails.dtype != np.uint8:
        return None
    if facts.shape != shape[:1] or facts.dtype != FACTS:
        return None
    rows: dict[Key, list[int]] = {}
    for row, entry in enumerate(index.entries):
        if entry.sha256:
            rows.setdefault(entry.key, []).append(row)
    return _Cached(index, rows, thumbnails, facts)


def _image_files(items: list[FileToRead], entries: list[Entry]) -> tuple[ImageFile, ...]:
    """Put the images of the files together with what their place says of them; what was made from another image is left out."""
    found = {item.found.path: item.found for item in items}
    derived = derived_files(found)
    return tuple(
        replace(_image_file(found[entry.path], entry), status="excluded", problem=f"{DERIVED}{derived[entry.path]}")
        if entry.path in derived
        else _image_file(found[entry.path], entry)
        for entry in entries
    )


def _image_file(found: FoundFile, entry: Entry) -> ImageFile:
    return ImageFile(
        path=found.path if entry.frame is None else f"{found.path}#{entry.frame}",
        label=found.label,
        part=found.part,
        size_bytes=entry.size_bytes,
        sha256=entry.sha256,
        status=entry.status,
        problem=entry.problem,
        format=entry.format,
        mode=entry.mode,
        width=entry.width,
        height=entry.height,
        turned=entry.turned,
        patient=found.patient or entry.patient,
        volume=found.volume or entry.volume,
        encoding=entry.encoding,
        source=entry.source,
        private=entry.private,
    )


def _check_readable(files: tuple[ImageFile, ...], *, root: Path) -> None:
    """Refuse a data set from which nothing can be learnt."""
    if not any(file.readable for file in files):
        raise DataError(
            f"{root}: no readable image was found. Read are {', '.join(FORMATS)}. Found: {_counted(files)}; "
            f"the first is {files[0].path}: {files[0].problem}. Convert the images, or copy them again if they are damaged."
        )
    poor = []
    for label in sorted({file.label for file in files}):
        of_class = [file for file in files if file.label == label]
        readable = sum(file.readable for file in of_class)
        if readable < 2:
            poor.append(f"class {label!r} has {readable or 'none'} ({_counted(of_class)})")
    if poor:
        raise DataError(
            f"{root}: every class needs at least two readable images, over all parts together. Found: {'; '.join(poor)}. "
            "Add images to the class, or move its folder out of the data set."
        )


def _counted(files: Iterable[ImageFile]) -> str:
    """Return how many files have which status, in words."""
    counts = Counter(file.status.replace("_", " ") for file in files)
    return ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
