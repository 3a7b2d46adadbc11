"""What the report shows of the images: classes, parts and examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vitrail.records import Manifest, RunResult, Split
from vitrail.reporting.figures import class_bars
from vitrail.reporting.thumbnails import Picture, Thumbnails, examples
from vitrail.reporting.wording import counted


@dataclass(frozen=True)
class ClassRow:
    """One class of the data set; all counts are images.

    Attributes:
        name: The class.
        train: In training.
        validation: In validation.
        test: In the test, official.
        clean: Of these, for the clean score.
        excluded: In no part.
        total: All files of the class.
    """

    name: str
    train: int
    validation: int
    test: int
    clean: int
    excluded: int
    total: int


@dataclass(frozen=True)
class DataView:
    """The data section.

    Attributes:
        rows: One per class.
        total: The sum of the rows.
        bars: SVG.
        examples: Class name -> thumbnails of training images.
        belonging: In words, how many files share a group.
        excluded: Why files are in no part: (reason, number).
        unclean: Why test images do not count for the clean score: (reason, number).
    """

    rows: tuple[ClassRow, ...]
    total: ClassRow
    bars: str
    examples: tuple[tuple[str, tuple[Picture, ...]], ...]
    belonging: str
    excluded: tuple[tuple[str, int], ...]
    unclean: tuple[tuple[str, int], ...]


def data_view(result: RunResult, thumbnails: Thumbnails) -> DataView:
    """Collect the data section."""
    manifest, split = result.manifest, result.split
    rows = tuple(_class_row(name, number, manifest, split) for number, name in enumerate(manifest.classes))
    total = ClassRow(
        "All classes",
        *(sum(getattr(row, part) for row in rows) for part in ("train", "validation", "test", "clean", "excluded", "total")),
    )
    parts = {"training": "train", "validation": "validation", "test": "test", "excluded": "excluded"}
    counts = {label: [getattr(row, part) for row in rows] for label, part in parts.items()}
    notes = list(zip(split.parts, split.notes, strict=True))
    return DataView(
        rows=rows,
        total=total,
        bars=class_bars(manifest.classes, counts, key="classes"),
        examples=examples(manifest, thumbnails, preferred=lambda row: split.parts[row] == "train"),
        belonging=_belonging(split),
        excluded=_reasons(note for part, note in notes if part == "excluded"),
        unclean=_reasons(note for part, note in notes if part == "test" and note not in ("", "doubtful")),
    )


def _class_row(name: str, number: int, manifest: Manifest, split: Split) -> ClassRow:
    rows = np.flatnonzero(manifest.labels == number)
    parts = Counter(split.parts[row] for row in rows)
    clean = sum(split.parts[row] == "test" and split.clean(int(row)) for row in rows)
    return ClassRow(name, parts["train"], parts["validation"], parts["test"], clean, parts["excluded"], len(rows))


def _belonging(split: Split) -> str:
    """Say in words how many files share a group."""
    sizes = Counter(split.groups)
    groups = [size for size in sizes.values() if size > 1]
    if not groups:
        return f"No two files belong together: {counted(len(sizes), 'group', 'groups')} of one image each."
    return (
        f"{counted(sum(groups), 'file belongs', 'files belong')} together with others (copies of one image, one patient, one "
        f"volume), in {counted(len(groups), 'group', 'groups')}; all files together form "
        f"{counted(len(sizes), 'group', 'groups')}."
    )


def _reasons(notes: Iterable[str]) -> tuple[tuple[str, int], ...]:
    words = {
        "leaked": "a copy, another slice or the patient stands among the training or validation images",
        "doubtful": "the file name shares a patient number with training or validation images",
        "quarantined": "a copy carries another label",
        "unreadable": "the file cannot be decoded",
        "left out": "a list of fixes leaves the file out, or it is a mask or drawing of another image",
        "": "no reason given",
    }
    counts = Counter(notes)
    return tuple((words.get(note, note), number) for note, number in sorted(counts.items()))
