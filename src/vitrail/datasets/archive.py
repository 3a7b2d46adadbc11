"""Archives: unpacked once into the cache, safely, whole or not at all, and from then on a folder like any other."""

from __future__ import annotations

import errno
import json
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from vitrail.datasets.layout import is_hidden, printable
from vitrail.errors import DataError, OutputError
from vitrail.progress import SILENT, Progress
from vitrail.storage import fingerprint, locked, whole_folder, write_text

ARCHIVE_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
"""Endings, in lower case, of the archives that are unpacked."""

RATIO_LIMIT = 200
"""An archive that grows by more than this is taken for a bomb; medical images and their masks stay far below."""

MEMBER_RATIO_LIMIT = 500
"""The same for one member: uncompressed masks are mostly zeros."""

SMALL_BYTES = 64 * 1024**2
"""Members of up to this size, and archives of up to sixteen times this size when unpacked, may have any ratio."""

MEMBERS_LIMIT = 5_000_000
_DISK_SHARE = 0.95  # of the free space: a full disk harms more than this programme
_BLOCK = 1024**2
_NAME_BYTES = 255
_WAIT = 3600.0
_DAMAGE = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, tarfile.TarError, NotImplementedError)
_NESTED = (*ARCHIVE_SUFFIXES, ".rar", ".7z")
_DRIVE = re.compile(r"[A-Za-z]:")
_ENCRYPTED = 0x1
_UTF8 = 0x800


def unpack(archive: Path, cache: Path, progress: Progress = SILENT) -> Path:
    """Unpack a zip or tar archive into the cache, or find it unpacked already.

    Left out, each with a note (see :func:`unpacking_notes`): names that lead out of the folder or are invalid, links, devices,
    members that are damaged or grow beyond ``MEMBER_RATIO_LIMIT``. Left out without a word: what operating systems leave
    behind. Archives inside the archive stay closed, with a note. Sizes are counted while writing: headers can lie.

    Args:
        archive: The archive. Never written to.
        cache: The archive's files come to ``cache/unpacked/<fingerprint of path, size and time>/files``.
        progress: Told how far the unpacking is: members of a zip, megabytes of a tar.

    Returns:
        The folder of the files.

    Raises:
        DataError: It cannot be read, is damaged as a whole, encrypted, holds no file, or grows like a bomb.
        OutputError: The disk has too little room, or the cache cannot be written.
    """
    with unpacking_place(archive, cache) as place:
        if place.filled:
            return place.files
        with whole_folder(place.folder) as folder:
            unpacking = _Unpacking(
                archive,
                folder / "files",
                room=int(_DISK_SHARE * shutil.disk_usage(folder).free),
                growth_limit=max(16 * SMALL_BYTES, RATIO_LIMIT * archive.stat().st_size),
            )
            try:
                if archive.name.lower().endswith(".zip"):
                    unpacking.unpack_zip(progress)
                else:
                    unpacking.unpack_tar(progress)
            except UnicodeDecodeError as error:
                raise DataError(f"{archive}: the names in it are damaged. Unpack it by hand and give the folder.") from error
            if not unpacking.written_files:
                reason = " ".join(unpacking.notes()) or "It is empty."
                raise DataError(f"{archive}: no file could be unpacked. {reason} Download it again, or unpack it by hand.")
            write_unpacking_notes(folder, unpacking.notes())
        return place.files


# ---------------------------------------------------------------------------------------------------- places


@dataclass(frozen=True, slots=True)
class UnpackingPlace:
    """Where the contents of one file come to.

    Attributes:
        folder: Folder of the cache: the files, and the notes about them.
        files: The files.
        filled: Whether an earlier call has unpacked them.
    """

    folder: Path
    files: Path
    filled: bool


@contextmanager
def unpacking_place(source: Path, cache: Path) -> Iterator[UnpackingPlace]:
    """Give the place for the contents of a file, which changes with the file's path, size and time; other processes wait.

    Raises:
        DataError: There is no such file.
        OutputError: The cache cannot be written.
    """
    try:
        status = source.stat()
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror or error}). Check its path.") from error
    key = fingerprint(printable(str(source.resolve())), status.st_size, status.st_mtime_ns)
    folder = cache / "unpacked" / key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot write here ({error.strerror or error}). Choose another --output.") from error
    with locked(folder, wait=_WAIT):
        yield UnpackingPlace(folder, folder / "files", filled=(folder / "notes.json").is_file())


def unpacking_notes(files: Path) -> tuple[str, ...]:
    """Return what was left out when ``files`` was unpacked, one line each; empty for any other folder."""
    try:
        content = json.loads((files.parent / "notes.json").read_text("utf-8"))
    except (OSError, ValueError):
        return ()
    return tuple(str(note) for note in content["notes"])


def write_unpacking_notes(folder: Path, notes: tuple[str, ...]) -> None:
    """Keep the notes beside the files; this also says that the place is filled."""
    write_text(folder / "notes.json", json.dumps({"notes": notes}, ensure_ascii=False, indent=2))


# ---------------------------------------------------------------------------------------------------- unpacking


class _Damaged(Exception):
    """One member cannot be unpacked; the message is the reason."""


class _NameTaken(_Damaged):
    """There is no place for it; what stands there is another member."""


@dataclass
class _Unpacking:
    """One archive on its way to a folder.

    Attributes:
        archive: The archive.
        target: The folder.
        room: Bytes that may be written.
        growth_limit: Bytes that an archive of this size may hold.
        written_bytes: Bytes written so far, and bytes of members that were skipped while reading a tar.
        written_files: Files written so far.
        left_out: Reason -> the names of the members that were left out, or that stay closed.
    """

    archive: Path
    target: Path
    room: int
    growth_limit: int
    written_bytes: int = 0
    written_files: int = 0
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def unpack_zip(self, progress: Progress) -> None:
        """Unpack a zip, member by member."""
        try:
            container = zipfile.ZipFile(self.archive)
        except (*_DAMAGE, OSError) as error:
            raise self._broken("zip", error) from error
        with container:
            members = container.infolist()
            if any(member.flag_bits & _ENCRYPTED for member in members):
                raise DataError(f"{self.archive}: the archive is encrypted. Unpack it by hand and give the folder.")
            self._check_room(sum(member.file_size for member in members), len(members))
            with progress.task("Unpacking", len(members)) as advance:
                for member in members:
                    kind = stat.S_IFMT(member.external_attr >> 16)
                    path = self._destination(_zip_name(member), is_folder=member.is_dir(), is_file=kind in (0, stat.S_IFREG))
                    if path is not None:
                        self._write_zipped(container, member, path)
                    advance()

    def _write_zipped(self, container: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
        limit = max(SMALL_BYTES, MEMBER_RATIO_LIMIT * member.compress_size)
        try:
            with container.open(member) as content:
                self._write(content, path, limit=limit)
        except (DataError, OutputError):
            raise
        except Exception as error:  # one damaged member must never cost the others, however it is damaged
            self._leave_out_damaged(path, error)

    def unpack_tar(self, progress: Progress) -> None:
        """Unpack a tar, plain or compressed, in one pass."""
        megabytes = self.archive.stat().st_size // _BLOCK
        with self.archive.open("rb") as raw, progress.task("Unpacking (MB)", megabytes) as advance:
            done = 0
            try:
                with tarfile.open(fileobj=raw, mode="r:*") as container:
                    while (member := container.next()) is not None:
                        self._take_tarred(container, member)
                        now = raw.tell() // _BLOCK
                        advance(now - done)
                        done = now
                    _check_end(container)
            except (*_DAMAGE, OSError) as error:
                _raise_full_disk(error)
                if not self.written_files:
                    raise self._broken("tar", error) from error
                self._leave_out("the archive is damaged or cut off before it", "the rest")

    def _take_tarred(self, container: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = self._destination(_tar_name(member), is_folder=member.isdir(), is_file=member.isreg())
        self._check_room(0, self.written_files)
        if path is not None:
            self._write_tarred(container, member, path)
        else:
            self.written_bytes += member.size  # it is read all the same, to get past it
            self._check_growth()
        container.members = []  # type: ignore[attr-defined]  # else it keeps every header in memory

    def _write_tarred(self, container: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        try:
            content = container.extractfile(member)
            if content is not None:
                with content:
                    self._write(content, path, limit=None)
        except _Damaged as error:
            self._leave_out_damaged(path, error)
        except (*_DAMAGE, OSError):
            path.unlink(missing_ok=True)
            raise

    def _write(self, content: IO[bytes], path: Path, *, limit: int | None) -> None:
        """Copy one member to its file, counting."""
        size = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = path.open("xb")
        except OSError as error:
            _raise_full_disk(error)
            raise _NameTaken("their names stand twice, or cannot be written here") from error
        with stream:
            while block := content.read(_BLOCK):
                size += len(block)
                self.written_bytes += len(block)
                if limit is not None and size > limit:
                    raise _Damaged(f"they grow more than {MEMBER_RATIO_LIMIT}-fold, as bombs do")
                self._check_growth()
                stream.write(block)
        self.written_files += 1

    def _destination(self, name: str, *, is_folder: bool, is_file: bool) -> Path | None:
        """Return where a member comes to; ``None``, with a note where it matters, for what is left out."""
        name = name.replace("\\", "/")  # from Windows
        parts = PurePosixPath(name).parts
        if is_folder or name.endswith("/") or any(is_hidden(part) for part in parts if part not in ("..", "/")):
            return None
        if not is_file:
            self._leave_out("they are links or devices", name)
        elif not parts or parts[0] == "/" or ".." in parts or _DRIVE.match(parts[0]):
            self._leave_out("their names lead out of the folder", name)
        elif any(len(part.encode("utf-8", "surrogateescape")) > _NAME_BYTES for part in parts) or not _is_text(name):
            self._leave_out("their names are too long or no text", name)
        else:
            if name.lower().endswith(_NESTED):
                self._leave_out("", name)
            return self.target.joinpath(*parts)
        return None

    def _leave_out_damaged(self, path: Path, error: Exception) -> None:
        _raise_full_disk(error)
        if not isinstance(error, _NameTaken):
            path.unlink(missing_ok=True)
        self._leave_out(str(error) if isinstance(error, _Damaged) else "they are damaged", str(path.relative_to(self.target)))

    def _leave_out(self, reason: str, name: str) -> None:
        self.left_out.setdefault(reason, []).append(name)

    def notes(self) -> tuple[str, ...]:
        """Return what was left out and what stays closed, one line for each reason."""
        lines = []
        for reason, names in self.left_out.items():
            examples = ", ".join(repr(printable(name)) for name in names[:3])
            if reason:
                lines.append(f"{self.archive.name}: {len(names):,} not unpacked, because {reason}: {examples}.")
            else:
                lines.append(f"{self.archive.name}: {len(names):,} archives inside it stay closed: {examples}.")
        return tuple(lines)

    def _check_room(self, claimed: int, members: int) -> None:
        if claimed > self.room:
            raise OutputError(
                f"{self.archive}: unpacked it takes {claimed / 1e9:,.1f} GB, and {self.room / 1e9:,.1f} GB may be used where the "
                "cache is. Free some space or choose another --output."
            )
        if members > MEMBERS_LIMIT:
            raise DataError(f"{self.archive}: more than {MEMBERS_LIMIT:,} members. Unpack it by hand and give the folder.")

    def _check_growth(self) -> None:
        """Stop at what no archive of images does, whatever its headers say."""
        if self.written_bytes > self.growth_limit:
            raise DataError(
                f"{self.archive}: it grows more than {RATIO_LIMIT}-fold when unpacked, as archives do that are made to fill a "
                "disk. If you trust it, unpack it by hand and give the folder."
            )
        self._check_room(self.written_bytes, 0)

    def _broken(self, kind: str, error: Exception) -> DataError:
        return DataError(
            f"{self.archive}: cannot be read as a {kind} archive ({error}). Download it again, or unpack it by hand."
        )


def _zip_name(member: zipfile.ZipInfo) -> str:
    """Return a member's name; many programmes write UTF-8 without saying so, which is then taken for code page 437."""
    if member.flag_bits & _UTF8:
        return member.filename
    try:
        return member.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return member.filename


def _tar_name(member: tarfile.TarInfo) -> str:
    """Return a member's name; bytes that are not UTF-8 are taken for Latin-1, so that the file is kept."""
    if _is_text(member.name):
        return member.name
    return member.name.encode("utf-8", "surrogateescape").decode("latin-1")


def _check_end(container: tarfile.TarFile) -> None:
    """Raise when reading ended at something else than the end: a damaged header looks like one."""
    if container.fileobj is not None:
        container.fileobj.seek(container.offset)
        if container.fileobj.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError("damaged header")


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return not any(ord(letter) < 32 or ord(letter) == 127 for letter in name)


def _raise_full_disk(error: Exception) -> None:
    """Let errors through that only the place to write to can have."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        raise error
