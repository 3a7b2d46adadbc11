"""What the report shows of the images: classes, parts, examples, and what the audit found in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vitrail.records import Evidence, Finding, Manifest, RunResult, Severity, Split
from vitrail.reporting.figures import class_bars
from vitrail.reporting.images import Thumbnails
from vitrail.reporting.wording import counted

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
EXAMPLES_PER_CLASS = 8
MOST_EXAMPLES = 120
EVIDENCE_WITH_PICTURES = 6
PICTURES_PER_EVIDENCE = 3
MOST_LISTED = 3000


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
class Picture:
    """A thumbnail (empty when there is none) and the path it stands for."""

    uri: str
    path: str


@dataclass(frozen=True)
class EvidenceView:
    """One piece of evidence with its first pictures; ``more`` further files are only counted."""

    pictures: tuple[Picture, ...]
    more: int
    note: str


@dataclass(frozen=True)
class FindingView:
    """One finding and its evidence.

    Attributes:
        finding: As the audit wrote it.
        shown: The first pieces of evidence, with pictures.
        more: Number of pieces that are not shown with pictures.
        listed: All pieces for the folded list of paths, up to 3,000.
        unlisted: Number of pieces beyond these.
    """

    finding: Finding
    shown: tuple[EvidenceView, ...]
    more: int
    listed: tuple[Evidence, ...]
    unlisted: int

    @property
    def complete(self) -> bool:
        """Whether every file of the evidence has its picture."""
        return not self.more and not any(piece.more for piece in self.shown)

    @property
    def single(self) -> bool:
        """Whether every piece that is shown is about one file, so that they can stand closer."""
        return all(len(piece.pictures) == 1 for piece in self.shown)


@dataclass(frozen=True)
class DataView:
    """The data section.

    Attributes:
        rows: One per class.
        total: The sum of the rows.
        bars: SVG.
        examples: Class name -> thumbnails of training images.
        copies: Groups of copies in words.
        excluded: Why files are in no part: (reason, number).
        unclean: Why test images do not count for the clean score: (reason, number).
    """

    rows: tuple[ClassRow, ...]
    total: ClassRow
    bars: str
    examples: tuple[tuple[str, tuple[Picture, ...]], ...]
    copies: str
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
        examples=_examples(manifest, split, thumbnails),
        copies=_copies(split),
        excluded=_reasons(note for part, note in notes if part == "excluded"),
        unclean=_reasons(note for part, note in notes if part == "test" and note),
    )


def finding_views(result: RunResult, thumbnails: Thumbnails) -> tuple[FindingView, ...]:
    """Collect the findings, in the order of the audit, with pictures of their first evidence."""
    views = []
    for finding in result.audit.findings:
        shown = tuple(_evidence_view(piece, thumbnails) for piece in finding.evidence[:EVIDENCE_WITH_PICTURES])
        listed = finding.evidence[:MOST_LISTED]
        views.append(
            FindingView(
                finding=finding,
                shown=shown,
                more=len(finding.evidence) - len(shown),
                listed=listed,
                unlisted=len(finding.evidence) - len(listed),
            )
        )
    return tuple(views)


def severity_counts(result: RunResult) -> tuple[tuple[Severity, int], ...]:
    """Return how many findings there are of each severity, the worst first, zeros included."""
    counts = Counter(finding.severity for finding in result.audit.findings)
    return tuple((severity, counts[severity]) for severity in SEVERITIES)


def _class_row(name: str, number: int, manifest: Manifest, split: Split) -> ClassRow:
    rows = np.flatnonzero(manifest.labels == number)
    parts = Counter(split.parts[row] for row in rows)
    clean = sum(split.parts[row] == "test" and not split.notes[row] for row in rows)
    return ClassRow(name, parts["train"], parts["validation"], parts["test"], clean, parts["excluded"], len(rows))


def _examples(manifest: Manifest, split: Split, thumbnails: Thumbnails) -> tuple[tuple[str, tuple[Picture, ...]], ...]:
    """Pick training images evenly over the order of their paths: the same data set shows the same examples."""
    per_class = min(EXAMPLES_PER_CLASS, max(1, MOST_EXAMPLES // max(1, len(manifest.classes))))
    chosen = []
    for number, name in enumerate(manifest.classes[:MOST_EXAMPLES]):
        of_class = [row for row in np.flatnonzero(manifest.labels == number) if manifest.files[row].readable]
        rows = [row for row in of_class if split.parts[row] == "train"] or of_class
        picks = sorted({round(position) for position in np.linspace(0, len(rows) - 1, per_class)}) if rows else []
        paths = [manifest.files[rows[pick]].path for pick in picks]
        chosen.append((name, tuple(Picture(thumbnails.uri(path), path) for path in paths)))
    return tuple(chosen)


def _copies(split: Split) -> str:
    """Say in words how many files share a group."""
    sizes = Counter(split.groups)
    groups = [size for size in sizes.values() if size > 1]
    if not groups:
        return f"No two files are copies of each other: {counted(len(sizes), 'group', 'groups')} of one image each."
    return (
        f"{counted(sum(groups), 'file is', 'files are')} copies of one another, in {counted(len(groups), 'group', 'groups')}; "
        f"all files together form {counted(len(sizes), 'group', 'groups')}."
    )


def _reasons(notes: Iterable[str]) -> tuple[tuple[str, int], ...]:
    words = {
        "leaked": "a copy stands among the training or validation images",
        "quarantined": "a copy carries another label",
        "unreadable": "the file cannot be decoded",
        "": "no reason given",
    }
    counts = Counter(notes)
    return tuple((words.get(note, note), number) for note, number in sorted(counts.items()))


def _evidence_view(piece: Evidence, thumbnails: Thumbnails) -> EvidenceView:
    """Show one file of each folder first: a copy in training beside a copy in the test says more than two of the test."""
    first_of_folder = {path.rpartition("/")[0]: path for path in reversed(piece.paths)}
    ordered = sorted(piece.paths, key=lambda path: first_of_folder[path.rpartition("/")[0]] != path)
    pictures = tuple(Picture(thumbnails.uri(path), path) for path in ordered[:PICTURES_PER_EVIDENCE])
    return EvidenceView(pictures, len(piece.paths) - len(pictures), piece.note)
