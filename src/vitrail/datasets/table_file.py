"""Tables as they lie on disk: CSV, TSV or Parquet, read to columns of text."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vitrail.errors import DataError

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
"""Endings, in lower case, of the tables that are read."""

_BYTES_LIMIT = 1024**3
_DELIMITERS = (",", ";", "\t")
_LINES_FOR_DELIMITER = 20
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a line of column names.

    Attributes:
        columns: Name of the column -> its values in the order of the rows, without blanks around them; empty where missing.
        rows: Number of rows.
        notes: What was odd about it, one line each.
    """

    columns: dict[str, list[str]]
    rows: int
    notes: tuple[str, ...] = ()


def read_table(path: Path) -> Table:
    """Read a CSV or TSV file (UTF-8, UTF-16 as Excel writes it, or else Latin-1; ``,``, ``;`` or tab), or a Parquet file.

    Raises:
        DataError: It cannot be read, is empty, too large, or has no usable line of column names.
    """
    try:
        if path.stat().st_size > _BYTES_LIMIT:
            raise DataError(f"{path}: tables of up to {_BYTES_LIMIT:,} bytes are read. Leave out columns that are not needed.")
        if path.suffix.lower() == ".parquet":
            return _read_parquet(path)
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the table cannot be read ({error.strerror or error}). Check its path.") from error
    return _parse(path, _text(content))


def _text(content: bytes) -> str:
    encodings = ("utf-16",) if content.startswith(_UTF16) else ("utf-8-sig",)
    for encoding in encodings:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return content.decode("latin-1")


def _parse(path: Path, text: str) -> Table:
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)))
    except csv.Error as error:
        raise DataError(f"{path}: the table is damaged ({error}). Save it anew as CSV.") from error
    filled = [line for line in lines if any(cell.strip() for cell in line)]
    if len(filled) < 2:
        raise DataError(f"{path}: the table has no rows. Its first line names the columns, every further line is an image.")
    header = [name.strip() for name in filled[0]]
    while header and not header[-1]:
        header.pop()
    _check_names(path, header)
    rows = filled[1:]
    ragged = sum(len(row) != len(header) and any(cell.strip() for cell in row[len(header) :]) for row in rows)
    notes = (f"{path.name}: {ragged:,} rows have more cells than there are columns.",) if ragged else ()
    columns = {
        name: [row[place].strip() if place < len(row) else "" for row in rows] for place, name in enumerate(header) if name
    }
    return Table(columns, len(rows), notes)


def _delimiter(text: str) -> str:
    """Return the delimiter that splits the first lines into most cells, the same number in every line."""
    start = "\n".join(text.splitlines()[:_LINES_FOR_DELIMITER])

    def cells(delimiter: str) -> tuple[int, int]:
        try:
            widths = Counter(len(line) for line in csv.reader(io.StringIO(start, newline=""), delimiter=delimiter) if line)
        except csv.Error:
            return 0, 0
        width, lines = widths.most_common(1)[0] if widths else (0, 0)
        return (lines if width > 1 else 0), width

    return max(_DELIMITERS, key=cells)


def _check_names(path: Path, header: list[str]) -> None:
    doubled = [name for name, count in Counter(name for name in header if name).items() if count > 1]
    if doubled:
        raise DataError(f"{path}: every column needs a name of its own. Found twice: {', '.join(doubled)}. Rename one of them.")
    if not any(header):
        raise DataError(f"{path}: the first line must name the columns. Found: an empty line.")


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise DataError(
            f"{path}: Parquet is read by pyarrow, which is not installed. Install it: pip install 'vitrail[tables]', "
            "or save the table as CSV."
        ) from error
    try:
        file = parquet.ParquetFile(path)
        plain = [field.name for field in file.schema_arrow if _is_plain(field.type)]
        content = file.read(columns=plain)
    except (pyarrow.ArrowException, ValueError) as error:
        raise DataError(f"{path}: the table is damaged ({error}). Save it anew.") from error
    others = [field.name for field in file.schema_arrow if field.name not in plain]
    if not content.num_rows:
        raise DataError(f"{path}: the table has no rows. Every row is an image.")
    _check_names(path, plain)
    columns = {name: _cells(content.column(place).to_pylist()) for place, name in enumerate(plain)}
    notes = (f"{path.name}: columns with lists, images or other nested contents are not read: {', '.join(others)}.",)
    return Table(columns, content.num_rows, notes if others else ())


def _is_plain(kind: object) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)  # type: ignore[attr-defined]
    tests = (types.is_string, types.is_large_string, types.is_integer, types.is_floating, types.is_boolean)
    return any(test(kind) for test in tests)


def _cells(values: list[object]) -> list[str]:
    """Return values as text; whole numbers that a missing value has turned into fractions become whole again."""
    numbers = [value for value in values if isinstance(value, float) and value == value]
    whole = all(number.is_integer() for number in numbers)
    result = []
    for value in values:
        if value is None or value != value:
            result.append("")
        else:
            result.append(str(int(value)) if whole and isinstance(value, float) else str(value).strip())
    return result
