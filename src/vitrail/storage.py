"""Files that are written whole or not at all, and fingerprints.

A file is first written beside its final place, flushed to disk, then renamed; a reader (or a resumed run) never sees half
of one. Records go to JSON through pydantic, which also checks them on the way back in.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from vitrail.errors import OutputError

Record = TypeVar("Record")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on success it becomes ``path`` in one step, on failure nothing is left.

    Raises:
        OutputError: The folder cannot be created or written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot write here ({error.strerror}). Choose another --output.") from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)  # mkstemp is private to its owner; results are for colleagues too
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a temporary folder to fill; on success it becomes ``path`` in one step (an older ``path`` is replaced)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot write here ({error.strerror}). Choose another --output.") from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
    """Return ``record`` as dictionaries, lists, strings and numbers."""
    from pydantic import TypeAdapter

    return TypeAdapter(type(record)).dump_python(record, mode="json")


def read_record(path: Path, kind: type[Record]) -> Record:
    """Read a record of type ``kind`` that :func:`write_record` wrote."""
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_json(path.read_bytes())


def fingerprint(*parts: object) -> str:
    """Return 16 hexadecimal digits that change when any part changes. Parts must be plain data."""
    text = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


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
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise OutputError(f"{output}: cannot be an output folder, {existing} is a file. Choose another --output.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: no permission to write in {existing}. Choose another --output.")
