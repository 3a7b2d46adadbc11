"""A split as a table (CSV) that people can open, check, replay and make themselves."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from vitrail.datasets import PART_NAMES
from vitrail.errors import SplitError
from vitrail.records import AuditReport, Manifest, Part, Split
from vitrail.split.check import check_split, exclusion_of, note_of, tests_on_shipped
from vitrail.storage import read_record, write_record, write_text

COLUMNS = ("path", "sha256", "label", "group", "part", "note")
"""The columns of a table that vitrail writes."""

_PARTS = {**PART_NAMES, "excluded": "excluded", "": "excluded"}
_SEPARATORS = ",;\t"


@dataclass(frozen=True)
class _Source:
    """What a split's table cannot hold; it stands beside it."""

    seed: int
    origin: str


def save_split(path: Path, split: Split, manifest: Manifest) -> None:
    """Write a split as a table (CSV: path, sha256, label, group, part, note), and its seed and origin as ``.origin.json``."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    for file, group, part, note in zip(manifest.files, split.groups, split.parts, split.notes, strict=True):
        writer.writerow((file.path, file.sha256, file.label, group, part, note))
    write_record(path.with_suffix(".origin.json"), _Source(split.seed, split.origin))
    write_text(path, table.getvalue())


def load_split(path: Path, manifest: Manifest, audit: AuditReport) -> Split:
    """Read a split that :func:`save_split` wrote, or that a person made, and check it.

    A table made by hand needs the columns ``path`` (relative to the data set's folder) and ``part`` (train, validation, test);
    ``sha256`` and ``label`` are compared where they are there. Files that no split may use (unreadable, quarantined) need not be
    in it, and are excluded whatever it says.

    The groups are the audit's, not the file's: what belongs together is not a matter of the table. Without an ``.origin.json``
    beside it the split counts as given, not drawn, and its seed is 0.

    Raises:
        SplitError: The file is missing or no such table, is about other files, or the split is not honest.
    """
    lines, columns = read_table(path, needed=("path", "part"))
    by_hand = not set(COLUMNS) <= set(columns)
    if by_hand:
        lines = _in_manifests_words(lines, manifest)
    compare(path, lines, manifest, optional={file.path for file in manifest.files if by_hand and exclusion_of(file, audit)})
    parts = [_PARTS.get((given := lines.get(file.path, {}).get("part", "")).strip().casefold(), given) for file in manifest.files]
    if by_hand:
        parts, notes = _completed(parts, manifest, audit)
    else:
        notes = [lines[file.path]["note"] for file in manifest.files]
    beside = path.with_suffix(".origin.json")
    try:
        source = read_record(beside, _Source)
    except FileNotFoundError:
        source = _Source(0, f"as given in {path.name}, not drawn by vitrail")
    except (OSError, ValueError) as error:
        raise SplitError(f"{beside}: the origin of the split cannot be read. Remove it, or draw the split anew.") from error
    split = Split(tuple(cast(list[Part], parts)), tuple(notes), audit.groups, source.seed, source.origin)
    if by_hand:
        _check_parts(path, split, manifest)
    check_split(split, manifest, audit)
    return split


def read_table(path: Path, *, needed: tuple[str, ...]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return the lines of a table by path, each by column, and the columns (in lower case).

    Commas, semicolons and tabulators are understood as separators, with or without a byte order mark: what spreadsheets write.

    Args:
        path: The table.
        needed: Columns that must be there; ``path`` among them.

    Raises:
        SplitError: It cannot be read, lacks a column, or repeats a file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        head = text.partition("\n")[0]
        separator = max(_SEPARATORS, key=head.count)
        header, *lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if line] or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SplitError(
            f"{path}: the table cannot be read ({error}). Save it as CSV in UTF-8, or remove it so that it is drawn anew."
        ) from error
    columns = [name.strip().casefold() for name in header]
    missing = [name for name in needed if name not in columns]
    if missing or len(set(columns)) < len(columns):
        raise SplitError(
            f"{path}: needs a table with the columns {' and '.join(needed)}, each once. Found: {', '.join(header) or 'nothing'}."
        )
    wrong = next((number for number, line in enumerate(lines, start=2) if len(line) != len(columns)), None)
    if wrong is not None:
        raise SplitError(f"{path}, line {wrong}: must have {len(columns)} fields, like the first line. Mend or remove it.")
    rows = {(entry := dict(zip(columns, line, strict=True)))["path"]: entry for line in lines}
    if len(rows) != len(lines):
        raise SplitError(f"{path}: {len(lines) - len(rows):,} lines repeat a file of another line. Keep one line per file.")
    return rows, columns


def compare(path: Path, lines: Mapping[str, Mapping[str, str]], manifest: Manifest, *, optional: set[str] | None = None) -> None:
    """Make sure that a table is about the files of a data set as they are now.

    Args:
        path: Where the table stands, for errors.
        lines: Its lines by the path of the file, each by column; ``sha256`` and ``label`` are compared where they are there.
        manifest: The data set.
        optional: Files that need not be in it.

    Raises:
        SplitError: Files are missing, unknown or changed.
    """
    known = {file.path: file for file in manifest.files}
    changed = [
        name
        for name, line in lines.items()
        if name in known
        and any(line.get(field, now) != now for field, now in (("sha256", known[name].sha256), ("label", known[name].label)))
    ]
    for what, paths in (
        ("are not in it", sorted(known.keys() - lines.keys() - (optional or set()))),
        ("are in it and not (or no longer) in the data set", sorted(lines.keys() - known.keys())),
        ("have other bytes or another label now", changed),
    ):
        if paths:
            example = f" Paths are relative to {manifest.root}, for example {manifest.files[0].path}." if lines else ""
            raise SplitError(
                f"{path}: the table is about another state of the data set: {len(paths):,} files {what}, first {paths[0]}."
                f"{example} Restore the files, mend the table, or remove it so that it is drawn anew."
            )


def _in_manifests_words(lines: Mapping[str, dict[str, str]], manifest: Manifest) -> dict[str, dict[str, str]]:
    """Write the paths of a table made by hand as the manifest does: forward slashes, relative to its root."""
    root = manifest.root.as_posix().rstrip("/") + "/"
    known = {file.path for file in manifest.files}

    def plain(name: str) -> str:
        other = name.strip().replace("\\", "/").removeprefix(root).removeprefix("./")
        return name if name in known else other

    renamed = {plain(name): line for name, line in lines.items()}
    if len(renamed) != len(lines):
        twice, _ = Counter(map(plain, lines)).most_common(1)[0]
        raise SplitError(f"The table has several lines for {twice}. Keep one line per file.")
    return renamed


def _completed(parts: list[str], manifest: Manifest, audit: AuditReport) -> tuple[list[str], list[str]]:
    """Exclude what no split may use from parts given by hand, and add the notes."""
    files = manifest.files
    usable = ["excluded" if exclusion_of(file, audit) else part for file, part in zip(files, parts, strict=True)]
    shipped = tests_on_shipped(files, usable)
    notes = []
    for row, file in enumerate(files):
        in_shipped_test = shipped and parts[row] == "test" and file.part == "test" and file.readable
        if in_shipped_test:
            usable[row] = "test"
        notes.append(note_of(file, audit, in_shipped_test=in_shipped_test))
    return usable, notes


def _check_parts(path: Path, split: Split, manifest: Manifest) -> None:
    """Raise for parts that a person wrote and that are none, in words about the table."""
    for file, part, note in zip(manifest.files, split.parts, split.notes, strict=True):
        if part not in _PARTS.values():
            raise SplitError(f"{path}: {file.path} has part {part!r}. The parts are train, validation and test.")
        if part == "excluded" and not note:
            raise SplitError(
                f"{path}: {file.path} is usable and has no part. Write train, validation or test; to leave images out for good, "
                "use a list of fixes (`data.fixes`)."
            )
