"""Which column of a table holds what: named by the person, or recognised by usual names and by what stands in it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vitrail.datasets.layout import PART_NAMES
from vitrail.datasets.table_file import Table
from vitrail.errors import DataError

# Names as people write them, in lower case, without anything but letters and digits; the first one that fits is taken.
_PATH_NAMES = (
    *("path", "filepath", "imagepath", "imgpath", "file", "filename", "imagefile", "imagefilename", "image", "img", "imagename"),
    *("imgname", "imageid", "imgid", "imageindex", "isicid", "idcode", "xrayimagename", "dicomid", "sopinstanceuid"),
    *("name", "id"),
)
_LABEL_NAMES = (
    *("label", "class", "classname", "classlabel", "diagnosis", "dx", "target", "category", "finding", "findinglabels"),
    *("findinglabel", "findings", "labels", "pathology", "disease", "condition", "benignmalignant", "grade", "result", "y"),
)
_PART_COLUMN_NAMES = ("split", "part", "set", "subset", "partition", "usage", "datasettype", "datasplit", "phase", "fold")
_PATIENT_NAMES = (
    *("patient", "patientid", "subject", "subjectid", "participant", "participantid", "person", "personid", "pid", "mrn"),
    *("case", "caseid", "lesionid", "lesion", "study", "studyid", "studyinstanceuid", "group", "groupid"),
)
_VOLUME_NAMES = ("volume", "volumeid", "series", "seriesid", "seriesuid", "seriesinstanceuid", "scanid", "clip", "clipid")

_MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "<na>", "null"})
ONE_HOT = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}
"""What cells of a column of zeros and ones say, in lower case."""

_ONE_HOT_SHARE = 0.95
_SAMPLE = 200
_FEW_CLASSES = 20


@dataclass(frozen=True, slots=True)
class ColumnNames:
    """Columns of a table; ``None``: recognised by the usual names.

    Attributes:
        path: The file of the image: a path, a file name, or a file name without its extension.
        label: The class.
        part: train, validation or test.
        patient: Whom it shows.
    """

    path: str | None = None
    label: str | None = None
    part: str | None = None
    patient: str | None = None


def _compact(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", name.casefold())


def is_missing(value: str) -> bool:
    """Whether a cell says that it says nothing, as programmes write it."""
    return value.casefold() in _MISSING


class Choice:
    """Which column holds what.

    Attributes:
        path: Column with the file.
        labels: Column with the class, or the columns of the classes, one for each.
        part: Column with the part, if there is one.
        patient: Column with the patient, if there is one.
        volume: Column with the volume, if there is one.
        notes: Columns that were passed over, and why.
    """

    def __init__(self, table: Path, content: Table, wished: ColumnNames, *, exists: Callable[[str], bool]) -> None:
        self._table, self._content, self._exists = table, content, exists
        self.notes: list[str] = []
        self.path = self._named("path", wished.path) or self._choose_path()
        self.part = self._named("part", wished.part) or self._choose_part()
        self.patient = self._named("patient", wished.patient) or self._first(_PATIENT_NAMES)
        self.volume = self._first(_VOLUME_NAMES)
        label = self._named("label", wished.label)
        self.labels = (label,) if label else self._choose_labels()

    @property
    def label_words(self) -> str:
        """The columns of the class, for messages."""
        return ", ".join(self.labels)

    def describe(self) -> str:
        """Return which column was used for what, and which for nothing."""
        roles = (("file", self.path), ("class", self.label_words), ("part", self.part))
        used = [*roles, ("patient", self.patient), ("volume", self.volume)]
        known = {self.path, *self.labels, self.part, self.patient, self.volume}
        rest = [name for name in self._content.columns if name not in known]
        words = ", ".join(f"{role} from {name}" for role, name in used if name)
        return f"{self._table.name}: {words}{'; not used: ' + ', '.join(rest) if rest else ''}."

    def _named(self, role: str, name: str | None) -> str | None:
        if name is None:
            return None
        exact = [column for column in self._content.columns if column == name]
        similar = exact or [column for column in self._content.columns if _compact(column) == _compact(name)]
        if len(similar) != 1:
            raise self._refusal(f"data.columns.{role} must be a column of the table, and {name!r} is none")
        return similar[0]

    def _first(self, names: Sequence[str]) -> str | None:
        """Return the column of the first of the usual names that sorts rows into groups; two words such as yes and no do not."""
        for column in self._by_names(names):
            counts = Counter(value for value in self._content.columns[column] if not is_missing(value))
            if column not in (self.path, self.part) and len(counts) > 2 and 2 * max(counts.values()) <= self._content.rows:
                return column
        return None

    def _by_names(self, names: Sequence[str]) -> list[str]:
        found = [column for column in self._content.columns if _compact(column) in names]
        return sorted(found, key=lambda column: names.index(_compact(column)))

    def _choose_path(self) -> str:
        """Return the column whose cells are files that exist, of a usual name if possible."""
        usual = self._by_names(_PATH_NAMES)
        shares: dict[str, float] = {}
        for column in usual:
            shares[column] = self._existing(column)
            if shares[column] >= 0.5:
                return column
        for column in self._content.columns:
            if column not in shares and self._existing(column) >= 0.9:
                return column
        if usual:
            return max(usual, key=lambda column: (shares[column], -usual.index(column)))
        raise self._refusal("no column with the file of the image was recognised")

    def _existing(self, column: str) -> float:
        """Return the share of a column's cells that are files, zero where cells come again and again."""
        values = self._content.columns[column]
        sample = [value for value in values[:: 1 + len(values) // _SAMPLE] if value]
        if len(set(sample)) <= len(sample) / 2:
            return 0.0
        return sum(map(self._exists, sample)) / len(sample)

    def _choose_part(self) -> str | None:
        for column in self._by_names(_PART_COLUMN_NAMES):
            values = Counter(value.casefold() for value in self._content.columns[column])
            if 2 * sum(count for value, count in values.items() if value in PART_NAMES) >= self._content.rows:
                return column
            words = ", ".join(repr(value) for value, _ in values.most_common(3))
            self.notes.append(
                f"{self._table.name}: column {column} is no part, for its words ({words}) are not train, val, test."
            )
        return None

    def _choose_labels(self) -> tuple[str, ...]:
        for column in self._by_names(_LABEL_NAMES):
            values = [value for value in self._content.columns[column] if not is_missing(value)]
            if column not in (self.path, self.part, self.patient, self.volume) and len(set(values)) > 1:
                self._check_labels(column, values)
                return (column,)
        columns = self._one_hot()
        if not columns:
            raise self._refusal("no column with the class was recognised")
        return columns

    def _check_labels(self, column: str, values: list[str]) -> None:
        several = next((value for value in values if "|" in value), None)
        if several is not None:
            raise DataError(
                f"{self._table}: every image must belong to one class. Found several at once in column {column}: {several!r}. "
                "Make a column with one class per image and name it with data.columns.label."
            )
        if len(set(values)) > max(_FEW_CLASSES, len(values) / 2):
            raise DataError(
                f"{self._table}: column {column} holds {len(set(values)):,} different values in {len(values):,} rows, which "
                "looks like measurements or names, not classes. Name the column of the class with data.columns.label."
            )

    def _one_hot(self) -> tuple[str, ...]:
        """Return the columns of 0 and 1 of which one is 1 in (nearly) every row; none where that is not so."""
        taken = {self.path, self.part, self.patient, self.volume}
        numbers = {
            name: [ONE_HOT.get(value.casefold(), -1) for value in values]
            for name, values in self._content.columns.items()
            if name not in taken
        }
        columns = [name for name, values in numbers.items() if min(values) >= 0]
        sums = Counter(map(sum, zip(*(numbers[name] for name in columns), strict=True)))
        fits = len(columns) > 1 and sums[1] >= _ONE_HOT_SHARE * self._content.rows
        return tuple(columns) if fits else ()

    def _refusal(self, reason: str) -> DataError:
        return DataError(
            f"{self._table}: {reason}. A table needs a column with the file (path, filename, image_id...) and one with the class "
            "(label, class, diagnosis...), or one column of 0 and 1 per class; one with the part (split) and one with the "
            f"patient (patient_id) are welcome. Found: {', '.join(self._content.columns)}. Name them with data.columns.path, "
            "data.columns.label, data.columns.part and data.columns.patient."
        )
