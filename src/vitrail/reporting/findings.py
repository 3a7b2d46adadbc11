"""How a finding is shown, in the report and on the page of an audit alike: pictures where there are some, tables elsewhere.

Copies stand side by side, single images as a strip, files without a picture and notes without files as tables. What is beyond
a page's share of pictures is listed by path, and what is beyond that is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from vitrail.audit.explain import explanation_of
from vitrail.records import Evidence, Finding, Severity
from vitrail.reporting.thumbnails import Picture, Thumbnails

SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
SEVERITY_WORDS: dict[Severity, tuple[str, str]] = {
    "error": ("error", "errors"),
    "warning": ("warning", "warnings"),
    "info": ("note", "notes"),
}
"""What people read: one and several."""
MOST_PICTURES = 600
"""On one page, shared evenly by its findings: about 3 MB."""
VISIBLE_GROUPS, VISIBLE_SINGLES, VISIBLE_ROWS = 6, 12, 12
"""Pieces of evidence that are seen at once; the others are folded."""
PICTURES_PER_GROUP = (2, 4)
"""Fewest and most: pictures that are the same bytes in the same folder need not be seen again."""
PATHS_PER_PIECE = 50


@dataclass(frozen=True)
class PieceView:
    """One piece of evidence with its first pictures; ``more`` further files are only counted."""

    pictures: tuple[Picture, ...]
    more: int
    note: str


@dataclass(frozen=True)
class Table:
    """Evidence without pictures.

    Attributes:
        columns: Headings.
        rows: Cells, as many as there are headings; a cell of the first column is a path when ``of_files``.
        of_files: Whether every row is about one file.
        more: Number of rows that are not there.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    of_files: bool
    more: int


@dataclass(frozen=True)
class FindingView:
    """One finding and its evidence.

    Attributes:
        finding: As the audit wrote it.
        until: Last day on which its acceptance holds, ISO 8601; empty: no end, or not accepted.
        explanation: Paragraphs for a beginner.
        tables: Evidence without pictures.
        visible: Pieces of evidence with pictures, seen at once.
        folded: More of them, folded.
        single: Whether all of these are about one file each, so that they can stand closer.
        listed: All pieces with pictures, for the folded list of paths; empty when every file is pictured.
        unlisted: Number of pieces beyond these.
    """

    finding: Finding
    until: str
    explanation: tuple[str, ...]
    tables: tuple[Table, ...]
    visible: tuple[PieceView, ...]
    folded: tuple[PieceView, ...]
    single: bool
    listed: tuple[Evidence, ...]
    unlisted: int


def finding_views(
    findings: Sequence[Finding], thumbnails: Thumbnails, *, most_listed: int, until: dict[str, str] | None = None
) -> tuple[FindingView, ...]:
    """Return the findings as they are shown, in their order.

    Args:
        findings: Of one audit.
        thumbnails: Previews of its data set.
        most_listed: Pieces of evidence (and rows of tables) that one finding lists at most.
        until: Code -> last day of its acceptance.
    """
    share = max(12, min(100, MOST_PICTURES // max(1, len(findings))))
    return tuple(
        replace(_view(finding, thumbnails, share, most_listed), until=(until or {}).get(finding.code, "")) for finding in findings
    )


def severity_counts(findings: Sequence[Finding]) -> tuple[tuple[Severity, int], ...]:
    """Return how many findings there are of each severity, the worst first, zeros included."""
    counts = Counter(finding.severity for finding in findings)
    return tuple((severity, counts[severity]) for severity in SEVERITIES)


def _view(finding: Finding, thumbnails: Thumbnails, share: int, most_listed: int) -> FindingView:
    notes = [piece for piece in finding.evidence if not piece.paths]
    pieces = [piece for piece in finding.evidence if piece.paths]
    said = all(piece.note in finding.message for piece in notes)  # what the message says already needs no table
    tables = [] if said else [_table_of_notes(notes, most_listed)]
    shown: list[PieceView] = []
    if pieces and not any(thumbnails.uri(path) for piece in pieces[:share] for path in piece.paths[: PICTURES_PER_GROUP[1]]):
        tables.append(_table_of_files(pieces, thumbnails, most_listed))
        pieces = []
    used = 0
    for piece in pieces:
        view = _piece_view(piece, thumbnails)
        used += len(view.pictures)
        if used > share and shown:
            break
        shown.append(view)
    single = all(len(view.pictures) == 1 for view in shown)
    visible = VISIBLE_SINGLES if single else VISIBLE_GROUPS
    complete = len(shown) == len(pieces) and not any(view.more for view in shown)
    listed = [] if complete else [_shortened(piece) for piece in pieces[:most_listed]]
    return FindingView(
        finding=finding,
        until="",
        explanation=explanation_of(finding.code),
        tables=tuple(tables),
        visible=tuple(shown[:visible]),
        folded=tuple(shown[visible:]),
        single=single,
        listed=tuple(listed),
        unlisted=0 if complete else len(pieces) - len(listed),
    )


def _piece_view(piece: Evidence, thumbnails: Thumbnails) -> PieceView:
    """Show one file of each folder first: a copy in training beside a copy in the test says more than two of the test."""
    first_of_folder = {path.rpartition("/")[0]: path for path in reversed(piece.paths)}
    ordered = sorted(piece.paths, key=lambda path: first_of_folder[path.rpartition("/")[0]] != path)
    fewest, most = PICTURES_PER_GROUP
    telling = max(len(first_of_folder), thumbnails.contents(piece.paths))
    pictures = tuple(thumbnails.picture(path) for path in ordered[: max(fewest, min(most, telling))])
    return PieceView(pictures, len(piece.paths) - len(pictures), piece.note)


def _table_of_notes(notes: Sequence[Evidence], most: int) -> Table:
    """Return notes without files as a table: of two columns where every note reads ``name: what was seen``."""
    texts = [piece.note for piece in notes]
    rows: list[tuple[str, ...]]
    if all(": " in text for text in texts):
        rows, columns = [(name, seen) for name, _, seen in (text.partition(": ") for text in texts)], ("What", "Seen")
        return Table(columns, tuple(rows[:most]), False, max(0, len(rows) - most))
    rows = [(text,) for text in texts]
    return Table(("Seen",), tuple(rows[:most]), False, max(0, len(rows) - most))


def _table_of_files(pieces: Sequence[Evidence], thumbnails: Thumbnails, most: int) -> Table:
    """Return files without a picture as a table; a piece of several files gives several rows."""
    rows = []
    for piece in pieces[:most]:
        for path in piece.paths[:PATHS_PER_PIECE]:
            picture = thumbnails.picture(path)
            rows.append((path, picture.label, picture.part, piece.note))
    parts = any(row[2] for row in rows)
    columns = ("File", "Class", "Part", "Seen") if parts else ("File", "Class", "Seen")
    kept = [row if parts else (row[0], row[1], row[3]) for row in rows[:most]]
    return Table(columns, tuple(kept), True, max(0, sum(len(piece.paths) for piece in pieces) - len(kept)))


def _shortened(piece: Evidence) -> Evidence:
    """Return a piece with at most 50 of its paths, and say how many more there are."""
    more = len(piece.paths) - PATHS_PER_PIECE
    if more <= 0:
        return piece
    return Evidence(piece.paths[:PATHS_PER_PIECE], f"{piece.note} (the first {PATHS_PER_PIECE} of {len(piece.paths):,} files)")
