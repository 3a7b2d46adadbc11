"""One file of the pass over the bytes: read once, hashed, decoded to a small grey thumbnail, measured.

It runs in processes of its own, which load this module and the readers and nothing else.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

from vitrail.datasets.decoded import START_LENGTH, OpenedFile, Reader, spread_frames
from vitrail.datasets.facts import THUMBNAIL_SIZE, UNKNOWN, look
from vitrail.datasets.images import FORMATS, reader_of
from vitrail.datasets.layout import FoundFile
from vitrail.records import FileStatus

BYTES_LIMIT = 2 * 1024**3
"""Longer files are not read into memory: they are hashed and reported as too large."""

_BLACK = bytes(THUMBNAIL_SIZE * THUMBNAIL_SIZE)
_NO_FACTS = UNKNOWN.tobytes()

Key = tuple[str, int, int]
"""Path, size and time of a file: what tells an untouched one."""


class Entry(NamedTuple):
    """What the cache keeps of one image; its position is the row of its thumbnail. See :class:`ImageFile`."""

    path: str  # of the file
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
    patient: str = ""
    volume: str = ""
    encoding: str = ""
    source: str = ""
    private: tuple[str, ...] = ()
    frame: int | None = None  # of a file with several frames or slices: which of them this is

    @property
    def key(self) -> Key:
        """What tells an untouched file."""
        return self.path, self.size_bytes, self.mtime_ns


class ScannedImage(NamedTuple):
    """One image as the pass found it: its entry, and the bytes of its row in the two arrays."""

    entry: Entry
    thumbnail: bytes = _BLACK
    facts: bytes = _NO_FACTS


@dataclass(frozen=True, slots=True)
class FileToRead:
    """A file as it is before it is read."""

    found: FoundFile
    size_bytes: int
    mtime_ns: int
    problem: str

    @property
    def key(self) -> Key:
        """What tells an untouched file."""
        return self.found.path, self.size_bytes, self.mtime_ns


def examine_all(items: list[FileToRead], slices: int) -> list[list[ScannedImage]]:
    """Read files, one after the other; see :func:`examine`. At most ``slices`` images are taken of a volume or clip."""
    return [examine(item, slices) for item in items]


def examine(item: FileToRead, slices: int) -> list[ScannedImage]:
    """Read one file: hash, header, and a thumbnail of each of its images.

    Never raises: whatever is wrong becomes the entry's problem.
    """
    entry = Entry(*item.key, sha256="", status="unreadable", problem=item.problem)
    if item.problem:
        return [ScannedImage(entry)]
    try:
        content, sha256, found = _read_bytes(item)
    except OSError as error:
        return [ScannedImage(entry._replace(problem=f"cannot be read: {error.strerror or error}"))]
    entry = entry._replace(sha256=sha256, format=found[1] if found else "")
    if not content:
        return [ScannedImage(entry._replace(status="empty", problem="the file has zero bytes"))]
    if found is None:
        return [ScannedImage(entry._replace(status="not_an_image", problem=f"the bytes are none of {', '.join(FORMATS)}"))]
    if item.size_bytes > BYTES_LIMIT:
        problem = f"too large: {item.size_bytes:,} bytes; at most {BYTES_LIMIT:,} are read"
        return [ScannedImage(entry._replace(problem=problem))]
    try:
        opened = found[0].open(content)
        header = opened.header()
    except Exception as error:  # one broken image must never stop the scan, however it is broken
        return [ScannedImage(_failed(entry, error))]
    entry = entry._replace(
        patient=header.patient, volume=header.volume, encoding=header.encoding, source=header.source, private=header.private
    )
    if header.frames == 1:
        return [_examine_frame(opened, entry, quality=header.quality)]
    frames = [
        entry._replace(frame=number, sha256=hashlib.sha256(f"{sha256}#{number}".encode()).hexdigest(), volume=item.found.path)
        for number in spread_frames(header.frames, slices)
    ]
    return [_examine_frame(opened, frame, quality=header.quality) for frame in frames]


def killed(items: list[FileToRead]) -> list[list[ScannedImage]]:
    """Say of files that they ended the process that read them; without a hash they are read again next time."""
    problem = "reading it ended the process that did: a decoder failed, or the memory was not enough"
    return [[ScannedImage(Entry(*item.key, sha256="", status="unreadable", problem=problem))] for item in items]


def _examine_frame(opened: OpenedFile, entry: Entry, *, quality: float) -> ScannedImage:
    """Decode one image of a file to its thumbnail and facts."""
    try:
        # Every byte is decoded, so truncation is noticed, but a large JPEG costs little more than its entropy decoding.
        decoded = opened.decode(frame=entry.frame, at_least=2 * THUMBNAIL_SIZE)
        whole = decoded.pixels.shape[:2] == (decoded.height, decoded.width)
        thumbnail, facts = look(decoded.pixels, quality=quality, whole=whole)
    except Exception as error:
        return ScannedImage(_failed(entry, error))
    entry = entry._replace(
        status="readable", mode=decoded.mode, width=decoded.width, height=decoded.height, turned=decoded.turned
    )
    return ScannedImage(entry, thumbnail.tobytes(), facts.tobytes())


def _failed(entry: Entry, error: Exception) -> Entry:
    if isinstance(error, MemoryError):  # says something of this moment, not of the file: without a hash it is read again
        return entry._replace(sha256="", problem="too large for the memory that was free")
    return entry._replace(problem=str(error).rstrip(".") or type(error).__name__)


def _read_bytes(item: FileToRead) -> tuple[bytes, str, tuple[Reader, str] | None]:
    """Return a file's bytes, their SHA-256, and who reads it; of what is no image, or too long, only the first few bytes."""
    with item.found.source.open("rb") as stream:
        start = stream.read(START_LENGTH)
        found = reader_of(start)
        if found and item.size_bytes <= BYTES_LIMIT:
            content = start + stream.read()
            return content, hashlib.sha256(content).hexdigest(), found
        stream.seek(0)
        return start, hashlib.file_digest(stream, "sha256").hexdigest(), found
