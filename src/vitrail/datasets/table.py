"""Data sets whose classes stand in a table: one row per image, with its file, its class and, if known, part and patient."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from vitrail.datasets.layout import (
    PART_NAMES,
    FoundFile,
    Layout,
    ShippedPart,
    printable,
)
from vitrail.datasets.table_columns import ONE_HOT, Choice, ColumnNames, is_missing
from vitrail.datasets.table_file import TABLE_SUFFIXES, Table, read_table
from vitrail.datasets.table_paths import AmbiguousName, LeadsOut, NamedFiles, is_name
from vitrail.errors import DataError

__all__ = ["TABLE_SUFFIXES", "ColumnNames", "find_table_layout"]


def find_table_layout(table: Path, *, folder: Path | None = None, columns: ColumnNames | None = None) -> Layout:
    """Find the images that a table lists, each with its class, without opening one.

    Files are looked for relative to ``folder`` and to the table's own folder, then by their names anywhere below ``folder``:
    with another case, without extension, or with folders that are not here. What leads out of ``folder`` is never read.
    Classes stand in one column, or in one column per class with a single 1 per row. Where the table names no part, folders
    named train, val and test do. Files that the table names and that are missing are listed, so that reading finds them
    missing; rows without a class, with an unknown part, or with an ambiguous file are left out with a note.

    Args:
        table: CSV, TSV or Parquet file, see :func:`vitrail.datasets.table_file.read_table`.
        folder: Folder of the images; ``None``: the table's folder. Paths of the layout are relative to it.
        columns: Columns that the person has named; the others are recognised by their names.

    Raises:
        DataError: The table cannot be read; a column is missing; several labels per image; fewer than two classes; none of the
            files are there.
    """
    wished = columns or ColumnNames()
    content = read_table(table)
    files = NamedFiles(folder or table.parent, table_folder=table.parent)
    chosen = Choice(table, content, wished, exists=files.exists)
    files.forget()  # what the choice of columns has tried
    layout = _Rows(table, content, files, chosen).layout()
    classes = sorted({file.label for file in layout.files})
    if len(classes) < 2:
        raise DataError(
            f"{table}: telling images apart needs at least two classes. Found in column {chosen.label_words}: "
            f"{', '.join(classes) or 'none'}. Name the column of the class with data.columns.label."
        )
    return layout


# ---------------------------------------------------------------------------------------------------- rows


class _Rows:
    """The rows of a table on their way to files; what is left out, by reason."""

    def __init__(self, table: Path, content: Table, files: NamedFiles, chosen: Choice) -> None:
        self._table, self._content, self._files, self._chosen = table, content, files, chosen
        self._left_out: dict[str, list[str]] = defaultdict(list)

    def layout(self) -> Layout:
        """Return the files of the rows."""
        found: dict[str, FoundFile] = {}
        contradicted: set[str] = set()
        labels, parts = self._labels(), self._parts()
        patients, volumes = self._values(self._chosen.patient), self._values(self._chosen.volume)
        for row, value in enumerate(self._content.columns[self._chosen.path]):
            place = self._place(value)
            label, part = labels[row], parts[row]
            if place is None:
                continue
            if not label:
                self._left_out["the class is missing"].append(value)
            elif part is None and self._chosen.part is not None:
                self._left_out["the part is none of train, val and test"].append(value)
            elif place not in found:
                source = self._files.root / place
                found[place] = FoundFile(source, printable(place), label, part, patient=patients[row], volume=volumes[row])
            elif found[place].label == label:
                self._left_out["the file stands in the table already, with the same class"].append(value)
            else:
                contradicted.add(place)
                reason = "the file stands in the table already, with another class (all its rows are left out)"
                self._left_out[reason].append(value)
        kept = {place: found[place] for place in sorted(found.keys() - contradicted)}
        notes = self._notes(kept)
        files = list(kept.values())
        if self._chosen.part is None:
            files = _parts_by_folders(files, notes)
        return Layout(tuple(files), tuple(notes), self._files.root)

    def _place(self, value: str) -> str | None:
        if not value or not is_name(value):
            self._left_out["the file is missing or no file name"].append(value)
            return None
        try:
            return self._files.find(value)
        except AmbiguousName:
            self._left_out["several different files have that name"].append(value)
        except LeadsOut:
            self._left_out[f"the path leads out of {self._files.root}"].append(value)
        return None

    def _labels(self) -> list[str]:
        """Return the class of every row, empty where it has none."""
        columns = self._chosen.labels
        if len(columns) == 1:
            values = self._content.columns[columns[0]]
            return _whole_numbers(["" if is_missing(value) else " ".join(value.split()) for value in values])
        result = []
        for cells in zip(*(self._content.columns[name] for name in columns), strict=True):
            ones = [name for name, cell in zip(columns, cells, strict=True) if ONE_HOT[cell.casefold()]]
            result.append(ones[0] if len(ones) == 1 else "")
        return result

    def _parts(self) -> list[ShippedPart | None]:
        """Return the part of every row, ``None`` where its word is unknown, and everywhere when there is no such column."""
        if self._chosen.part is None:
            return [None] * self._content.rows
        values = self._content.columns[self._chosen.part]
        parts = [PART_NAMES.get(value.casefold()) for value in values]
        if not any(parts):
            raise DataError(
                f"{self._table}: column {self._chosen.part} must say train, val or test. Found: "
                f"{', '.join(sorted(set(values))[:5])}. Name another column with data.columns.part."
            )
        return parts

    def _values(self, column: str | None) -> list[str]:
        if column is None:
            return [""] * self._content.rows
        return ["" if is_missing(value) else value for value in self._content.columns[column]]

    def _notes(self, files: Mapping[str, FoundFile]) -> list[str]:
        """Return what the person should know, one line each."""
        missing = [file.path for place, file in files.items() if place not in self._files.present]
        if files and len(missing) == len(files):
            raise DataError(
                f"{self._table}: none of the {len(files):,} files that column {self._chosen.path} names was found in "
                f"{self._files.root}, for example {missing[0]!r}. Give the folder of the images as data.path and this table as "
                "data.table, or name another column with data.columns.path."
            )
        notes = [self._chosen.describe(), *self._content.notes, *self._chosen.notes]
        for reason, values in self._left_out.items():
            notes.append(f"{self._table.name}: {len(values):,} rows left out, because {reason}: {_examples(values)}.")
        for paths, words in (
            (missing, "files that the table names are missing"),
            (self._files.copies, "names stand for several files of equal size; the first by path is taken"),
            (self._files.moved, "files stand in other folders than the table says, and were found by their names"),
            (self._files.unlisted(set(files)), "images beside the listed ones are not in the table and were passed over"),
        ):
            if paths:
                notes.append(f"{self._table.name}: {len(paths):,} {words}: {_examples(paths)}.")
        return notes


def _parts_by_folders(files: list[FoundFile], notes: list[str]) -> list[FoundFile]:
    """Give files the part that a folder on their path names, where that is so for all of them, and for training at least."""
    parts = []
    for file in files:
        named = {PART_NAMES[name] for name in file.path.casefold().split("/")[:-1] if name in PART_NAMES}
        parts.append(named.pop() if len(named) == 1 else None)
    if None in parts or "train" not in parts or len(set(parts)) < 2:
        return files
    notes.append("Parts are taken from the folders, for the table names none.")
    return [
        FoundFile(file.source, file.path, file.label, part, file.patient, file.volume)
        for file, part in zip(files, parts, strict=True)
    ]


def _whole_numbers(values: list[str]) -> list[str]:
    """Write 1.0 as 1 where all values are such numbers: programmes turn classes into fractions when one is missing."""
    if all(re.fullmatch(r"-?\d+\.0+|", value) for value in values):
        return [value.partition(".")[0] for value in values]
    return values


def _examples(values: Sequence[str]) -> str:
    return ", ".join(repr(value) for value in values[:3]) + (", ..." if len(values) > 3 else "")
