"""Files that are written whole or not at all, and fingerprints.

A file is first written beside its final place, flushed to disk, then renamed; a reader (or a resumed run) never sees half
of one. Records go to JSON through pydantic, which also checks them on the way back in.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from vitrail.errors import OutputError, UsageError

Record = TypeVar("Record")

FOR_EVER = -1.0
"""As long as it takes: for :func:`locked`."""


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes ``path`` in one step, on failure nothing is left.

    Folders above it are made where they are missing, and removed again on failure.

    Raises:
        OutputError: The folder cannot be created or written, or the disk is full.
    """
    temporary = _beside(path)
    missing = [folder for folder in path.parents if not folder.exists()]
    with _refusals_in_words(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    try:
        with _full_disk_in_words(path):
            yield temporary
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
        with _refusals_in_words(path):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        if not path.exists():
            for folder in missing:
                with contextlib.suppress(OSError):  # somebody else has put something there meanwhile
                    folder.rmdir()


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; on success it becomes ``path``, on failure nothing is left.

    An older ``path`` is moved aside before and removed after: whoever looks (also after a kill) sees the old folder, the new
    one or none, never half of one.

    Raises:
        OutputError: The folder cannot be created or written, or the disk is full.
    """
    temporary, old = _beside(path), _beside(path)
    with _refusals_in_words(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    try:
        with _full_disk_in_words(path):
            yield temporary
        with _refusals_in_words(path):
            if path.exists():
                path.replace(old)
            temporary.replace(path)
    finally:
        if old.exists() and not path.exists():
            old.replace(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    """Return a new name in the same folder: only there can it become ``path`` in one step."""
    return path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.partial")


@contextlib.contextmanager
def _refusals_in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot write here ({error.strerror or error}). Choose another place.") from error


@contextlib.contextmanager
def _full_disk_in_words(path: Path) -> Iterator[None]:
    """Let all errors of the caller's own work pass, but for those that only the place to write to can have."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise
        raise OutputError(f"{path}: cannot write here ({error.strerror}). Free some space or choose another place.") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write ``content`` to ``path`` as UTF-8, whole or not at all."""
    write_bytes(path, content.encode("utf-8"))


def write_record(path: Path, record: object) -> None:
    """Write a record (dataclass, pydantic model or plain data) as indented JSON, whole or not at all."""
    write_text(path, record_to_json(record) + "\n")


def record_to_json(record: object) -> str:
    """Return ``record`` as indented JSON.

    Raises:
        ValueError: A number is NaN or infinite: "not estimable" is written as ``None``, never as a number.
    """
    return json.dumps(record_to_plain(record), indent=2, ensure_ascii=False, allow_nan=False)


def record_to_plain(record: object) -> Any:
    """Return ``record`` as dictionaries, lists, strings and finite numbers; sets are sorted, so that equal records look equal.

    Raises:
        ValueError: A number is NaN or infinite.
    """
    from pydantic import TypeAdapter

    return _plain(TypeAdapter(type(record)).dump_python(record))


def _plain(value: Any) -> Any:
    # By hand: pydantic's own way to JSON silently turns NaN in plain data into null, and leaves sets in random order.
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case set() | frozenset():
            return sorted(_plain(item) for item in value)
        case float() if not math.isfinite(value):
            raise ValueError(f"a record may hold finite numbers only, and None where there is none; found {value}")
        case Path():
            return str(value)
        case datetime.date():
            return value.isoformat()
    return value


def read_record(path: Path, kind: type[Record]) -> Record:
    """Read a record of type ``kind`` that :func:`write_record` wrote."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_json(path.read_bytes())


def fingerprint(*parts: object) -> str:
    """Return 16 hexadecimal digits that change when any part changes. Parts must be plain data."""
    text = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def versions(*packages: str) -> dict[str, str]:
    """Return the versions of those packages that are installed. A result that a cache keeps may change with any of them."""
    import importlib.metadata

    known = {}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            known[package] = importlib.metadata.version(package)
    return known


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_writable(output: Path) -> None:
    """Find out early, and without leaving a trace, whether the output folder can be written.

    Raises:
        OutputError: It cannot.
    """
    existing = output.absolute()
    while not os.path.lexists(existing):  # also False where one may not look; Path.exists would raise
        existing = existing.parent
    if not existing.is_dir():
        raise OutputError(f"{output}: cannot be an output folder, {existing} is not a folder. Choose another --output.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: no permission to write in {existing}. Choose another --output.")


@contextlib.contextmanager
def locked(path: Path, *, wait: float = 30.0) -> Iterator[None]:
    """Keep other processes out of a file or folder; the lock ends with this process, however it ends.

    Raises:
        UsageError: Another process holds it for longer than ``wait`` seconds (:data:`FOR_EVER`: never).
    """
    import filelock

    lock = path.with_name(f".{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    holder = filelock.FileLock(lock)
    try:
        with holder.acquire(timeout=wait):
            yield
    except filelock.Timeout:
        raise UsageError(
            f"{path}: another vitrail process is at work on it. Wait until it is done, or choose another --output."
        ) from None


def sweep(folder: Path, *, older_than: float = 0.0) -> None:
    """Remove unfinished files and folders (``.*.partial``) that a killed process left below a folder.

    Args:
        folder: Where to look, all levels down.
        older_than: Spare what was changed in the last so many seconds: another process may be writing it.
    """
    for path in list(folder.rglob(".*.partial")):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime >= older_than:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def without_credentials(uri: str) -> str:
    """Return an address without its user name and password."""
    return re.sub(r"(?<=://)[^/@]*@", "", uri)
