"""The one pass over the bytes: every file is read once, hashed, decoded to a small grey thumbnail, and described.

What the pass finds is kept in a cache; the next scan of the same folder touches only files whose size or time has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import stat
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from numpy.lib import format as npy
from pydantic import TypeAdapter

from vitrail.datasets.folder import FoundFile, find_layout, printable
from vitrail.datasets.raster import FORMATS, SIGNATURE_LENGTH, THUMBNAIL_SIZE, identify, read_thumbnail
from vitrail.engine import map_in_order
from vitrail.errors import DataError, OutputError
from vitrail.progress import SILENT, Progress
from vitrail.records import ByteArray, FileStatus, ImageFile, Manifest
from vitrail.storage import fingerprint, whole_file, write_text

BYTES_LIMIT = 2 * 1024**3
"""Longer files are not read into memory: they are hashed and reported as too large."""

# What is kept depends on how it was made: another version of either starts anew.
_CACHE_VERSION = f"2, Pillow {PIL.__version__}"
_BATCH = 16  # files per job: small images cost little more than the job itself
_BLACK = bytes(THUMBNAIL_SIZE * THUMBNAIL_SIZE)


class _Entry(NamedTuple):
    """What the cache keeps of one file; its position is the row of its thumbnail. See :class:`ImageFile`."""

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str  # empty where the bytes could not be read: tried again next time, for permissions change without a trace
    status: FileStatus
    problem: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    turned: bool = False

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells an untouched file."""
        return self.path, self.size_bytes, self.mtime_ns


@dataclass(frozen=True, slots=True)
class _Index:
    """The cache's table of contents."""

    version: str
    thumbnails: str
    entries: list[_Entry]


@dataclass(frozen=True, slots=True)
class _Cached:
    """What an earlier scan left: entries by key, with the row of their thumbnail."""

    index: _Index
    rows: Mapping[tuple[str, int, int], int]
    thumbnails: ByteArray


@dataclass(frozen=True, slots=True)
class _Item:
    """A file as it is before it is read."""

    found: FoundFile
    size_bytes: int
    mtime_ns: int
    problem: str

    @property
    def key(self) -> tuple[str, int, int]:
        """What tells an untouched file."""
        return self.found.path, self.size_bytes, self.mtime_ns


def scan_folder(root: Path, *, cache: Path, progress: Progress = SILENT) -> Manifest:
    """Find the images under ``root`` and read each file once.

    Broken files never stop the scan: they are in the manifest with their problem. See :func:`find_layout` for the layout.

    Args:
        root: Folder of class folders, with or without train, validation and test folders above them. Never written to.
        cache: Folder for thumbnails and hashes. May be shared by many data sets. Unchanged files (same path, size and
            modification time) are not read again.
        progress: Told how far the reading is.

    Raises:
        DataError: The folder cannot be used: missing, empty, fewer than two classes, or a class with fewer than two images.
        OutputError: The cache cannot be written.
    """
    layout = find_layout(root)
    for note in layout.notes:
        progress.say(note)
    items = [_look(found) for found in layout.files]
    folder = cache / fingerprint(printable(str(root.resolve())))
    cached = _open_cache(folder)
    if cached is not None and [item.key for item in items] == [entry.key for entry in cached.index.entries if entry.sha256]:
        index = cached.index
    else:
        index = _read(items, cached=cached, folder=folder, root=root, progress=progress)
    files = _image_files(items, index.entries)
    classes = tuple(sorted({file.label for file in files}))
    return Manifest(
        root=root.absolute(), classes=classes, files=files, thumbnails_path=folder / index.thumbnails, notes=layout.notes
    )


def _look(found: FoundFile) -> _Item:
    """Note a file's size and time, without opening it."""
    try:
        status = found.source.stat()
    except OSError as error:
        problem = "the link leads nowhere" if found.source.is_symlink() else f"cannot be read: {error.strerror}"
        return _Item(found, 0, 0, problem)
    problem = "" if stat.S_ISREG(status.st_mode) else "not a regular file"
    if not found.source.as_posix().endswith(found.path):
        problem = "its name is not valid UTF-8, so no report could name it: rename the file or its folder"
    return _Item(found, status.st_size, status.st_mtime_ns, problem)


def _read(items: list[_Item], *, cached: _Cached | None, folder: Path, root: Path, progress: Progress) -> _Index:
    """Read what has changed, write thumbnails and index, and remove what they replace; of a useless data set, keep nothing."""
    known = {item.key: cached.rows[item.key] for item in items if item.key in cached.rows} if cached is not None else {}
    changed = [item for item in items if item.key not in known]
    if known:
        progress.say(f"{len(known):,} of {len(items):,} files are unchanged and are not read again.")
    thumbnails = folder / f"thumbnails-{fingerprint(_CACHE_VERSION, [item.key for item in items])}.npy"
    entries: list[_Entry] = []
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(items), THUMBNAIL_SIZE, THUMBNAIL_SIZE)}
    try:
        # Rows are appended to a plain file: a full disk is then an error, where a mapped one would kill the process.
        with whole_file(thumbnails) as temporary, temporary.open("wb") as stream, _read_changed(changed, progress) as results:
            npy.write_array_header_1_0(stream, header)
            for item in items:
                row = known.get(item.key)
                if cached is not None and row is not None:
                    entry, thumbnail = cached.index.entries[row], cached.thumbnails[row].tobytes()
                else:
                    entry, thumbnail = next(results)
                entries.append(entry)
                stream.write(thumbnail)
            _check_readable(_image_files(items, entries), root=root)
        index = _Index(_CACHE_VERSION, thumbnails.name, entries)
        content = {"version": index.version, "thumbnails": index.thumbnails, "entries": index.entries}
        write_text(folder / "index.json", json.dumps(content))
    except OSError as error:
        raise OutputError(f"{folder}: the cache cannot be written ({error.strerror}). Choose another --output.") from error
    for old in folder.glob("thumbnails-*.npy"):
        if old != thumbnails:
            with contextlib.suppress(OSError):  # still mapped by another process, on systems where that holds a file
                old.unlink()
    return index


@contextlib.contextmanager
def _read_changed(items: list[_Item], progress: Progress) -> Iterator[Iterator[tuple[_Entry, bytes]]]:
    """Give the entries and thumbnails of ``items``, in order, while threads read them."""

    def told(batches: Iterable[list[tuple[_Entry, bytes]]]) -> Iterator[tuple[_Entry, bytes]]:
        for result in itertools.chain.from_iterable(batches):
            advance()
            yield result

    # Remarks on odd metadata are no concern of the person who waits. Here, for all threads: filters are one per process.
    with warnings.catch_warnings(), progress.task("Reading images", len(items)) as advance:
        warnings.filterwarnings("ignore", module=r"PIL\.")
        batches = (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))
        yield told(map_in_order(_examine_all, batches))


def _examine_all(items: list[_Item]) -> list[tuple[_Entry, bytes]]:
    return [_examine(item) for item in items]


def _examine(item: _Item) -> tuple[_Entry, bytes]:
    """Read one file: hash, header, thumbnail. Never raises: whatever is wrong becomes the entry's problem."""
    entry = _Entry(*item.key, sha256="", status="unreadable", problem=item.problem)
    if item.problem:
        return entry, _BLACK
    try:
        content, sha256 = _read_bytes(item)
    except OSError as error:
        return entry._replace(problem=f"cannot be read: {error.strerror or error}"), _BLACK
    entry = entry._replace(sha256=sha256, format=identify(content))
    if not content:
        return entry._replace(status="empty", problem="the file has zero bytes"), _BLACK
    if not entry.format:
        return entry._replace(status="not_an_image", problem=f"the bytes are none of {', '.join(FORMATS)}"), _BLACK
    if item.size_bytes > BYTES_LIMIT:
        return entry._replace(problem=f"too large: {item.size_bytes:,} bytes; at most {BYTES_LIMIT:,} are read"), _BLACK
    try:
        thumbnail = read_thumbnail(content)
    except MemoryError:  # says something of this moment, not of the file: without a hash it is read again next time
        return entry._replace(sha256="", problem="too large for the memory that was free"), _BLACK
    except Exception as error:  # one broken image must never stop the scan, however it is broken
        return entry._replace(problem=str(error).rstrip(".") or type(error).__name__), _BLACK
    entry = entry._replace(
        status="readable", mode=thumbnail.mode, width=thumbnail.width, height=thumbnail.height, turned=thumbnail.turned
    )
    return entry, thumbnail.pixels.tobytes()


def _read_bytes(item: _Item) -> tuple[bytes, str]:
    """Return a file's bytes and their SHA-256; of what is no image, or too long, only the first few bytes."""
    with item.found.source.open("rb") as stream:
        start = stream.read(SIGNATURE_LENGTH)
        if identify(start) and item.size_bytes <= BYTES_LIMIT:
            content = start + stream.read()
            return content, hashlib.sha256(content).hexdigest()
        stream.seek(0)
        return start, hashlib.file_digest(stream, "sha256").hexdigest()


def _open_cache(folder: Path) -> _Cached | None:
    """Return what an earlier scan left, if it is whole and of this version."""
    try:
        index = TypeAdapter(_Index).validate_json((folder / "index.json").read_bytes())
        thumbnails = np.load(folder / index.thumbnails, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    shape = (len(index.entries), THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    if index.version != _CACHE_VERSION or thumbnails.shape != shape or thumbnails.dtype != np.uint8:
        return None
    rows = {entry.key: row for row, entry in enumerate(index.entries) if entry.sha256}
    return _Cached(index, rows, thumbnails)


def _image_files(items: list[_Item], entries: list[_Entry]) -> tuple[ImageFile, ...]:
    return tuple(_image_file(item.found, entry) for item, entry in zip(items, entries, strict=True))


def _image_file(found: FoundFile, entry: _Entry) -> ImageFile:
    return ImageFile(
        path=found.path,
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
