"""The list of fixes: what the audit proposes to do about single files, as a table that a person edits and a study applies.

    path,action,value,code,reason
    Training/glioma/g1.jpg,exclude,,DUP201,copy of Training/glioma/g0.jpg

``exclude`` leaves a file out, ``relabel`` gives it the class in ``value``, ``review`` asks a person to decide and has no effect,
``keep`` keeps a file as it is, whatever lower lines say. Only the list changes what is used; the images are never touched.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from vitrail.errors import DataError
from vitrail.records import AuditReport, Evidence, Finding, ImageFile, Manifest
from vitrail.storage import write_bytes

Action = Literal["exclude", "relabel", "review", "keep"]
ACTIONS: tuple[Action, ...] = get_args(Action)
COLUMNS = ("path", "action", "value", "code", "reason")
MOST_PROBLEMS = 20
"""Problems of a list that an error names; the others are counted."""


@dataclass(frozen=True, slots=True)
class Fix:
    """What is to be done about one file.

    Attributes:
        path: The file, as the manifest names it.
        action: ``exclude``, ``relabel``, ``review`` (no effect) or ``keep``.
        value: The new class for ``relabel``; else empty.
        code: Code of the check that proposes it; empty when a person wrote the line.
        reason: Why, in a few words.
        line: Line of the list on which it stands; 0 when it comes from no list.
    """

    path: str
    action: Action
    value: str = ""
    code: str = ""
    reason: str = ""
    line: int = field(default=0, compare=False)


# ---------------------------------------------------------------------------------------------------- proposals


@dataclass(frozen=True)
class _Files:
    """The files of a data set by path, and which shipped parts stay apart.

    Attributes:
        rows: Path -> position in the manifest.
        files: All files, in the order of the manifest.
        protected: Shipped parts that the study keeps: of copies, the one in such a part stays.
    """

    rows: dict[str, int]
    files: tuple[ImageFile, ...]
    protected: frozenset[str]

    def rank(self, path: str) -> tuple[int, int, int]:
        """Return a key that is smallest for the best of several copies: most pixels, then most bytes, then the first."""
        row = self.rows[path]
        file = self.files[row]
        return -file.width * file.height, -file.size_bytes, row

    def side(self, path: str) -> str:
        """Return the part of a file where the study keeps that part, else an empty string."""
        part = self.files[self.rows[path]].part or ""
        return part if part in self.protected else ""

    def label(self, path: str) -> str:
        """Return the class of a file."""
        return self.files[self.rows[path]].label


Rule = Callable[[Evidence, _Files], Iterable[tuple[str, Action, str]]]


def _exclude(piece: Evidence, _files: _Files) -> Iterable[tuple[str, Action, str]]:
    return ((path, "exclude", piece.note) for path in piece.paths)


def _review(piece: Evidence, _files: _Files) -> Iterable[tuple[str, Action, str]]:
    return ((path, "review", piece.note) for path in piece.paths)


def _keep_best(piece: Evidence, files: _Files) -> Iterable[tuple[str, Action, str]]:
    """Keep the best copy of each part that the study keeps, and leave out the others; different labels: a person decides."""
    if len({files.label(path) for path in piece.paths}) > 1:
        yield from ((path, "review", f"labels differ: {piece.note}") for path in piece.paths)
        return
    for side in dict.fromkeys(files.side(path) for path in piece.paths):
        first, *others = sorted((path for path in piece.paths if files.side(path) == side), key=files.rank)
        yield from ((path, "exclude", f"copy of {first}") for path in others)


def _keep_test(piece: Evidence, files: _Files) -> Iterable[tuple[str, Action, str]]:
    """Leave out the copies outside the test part: so the shipped test stays comparable with other people's."""
    tests = [path for path in piece.paths if files.side(path) == "test"]
    others = (path for path in piece.paths if files.side(path) != "test")
    return ((path, "exclude", f"copy of the test image {tests[0]}") for path in others if tests)


def _keep_validation(piece: Evidence, files: _Files) -> Iterable[tuple[str, Action, str]]:
    held = [path for path in piece.paths if files.side(path) == "validation"]
    others = (path for path in piece.paths if not files.side(path))
    return ((path, "exclude", f"copy of the validation image {held[0]}") for path in others if held)


RULES: dict[str, Rule] = {
    "LBL401": _exclude,
    "IO101": _exclude,
    "IO103": _exclude,
    "IO104": _exclude,
    "QLT601": _exclude,
    "LEAK301": _keep_test,
    "LEAK302": _keep_test,
    "LEAK306": _keep_validation,
    "DUP201": _keep_best,
    "DUP202": _keep_best,
    "DUP203": _keep_best,
    "LBL402": _review,
    "LBL404": _review,
    "PHI701": _review,
    "PHI702": _review,
    "PHI703": _review,
    "PHI704": _review,
}
"""Code -> what a piece of its evidence proposes. The first rule that excludes a file gives the reason. Findings about patients,
volumes, classes or the whole data set propose nothing: they ask for another split or more data, not for fewer files."""


def propose_fixes(manifest: Manifest, report: AuditReport) -> tuple[Fix, ...]:
    """Return what the findings of an audit propose for single files; one line a file, files to leave out first.

    Findings that the study accepts propose nothing.
    """
    files = _Files({file.path: row for row, file in enumerate(manifest.files)}, manifest.files, _kept_parts(report))
    findings = {finding.code: finding for finding in report.findings if not finding.accepted}
    proposed: dict[str, Fix] = {}
    for code, rule in RULES.items():
        finding = findings.get(code)
        if finding is None:
            continue
        for fix in _proposals(finding, rule, files):
            known = proposed.get(fix.path)
            if known is None or (known.action == "review" and fix.action == "exclude"):
                proposed[fix.path] = fix
    return tuple(sorted(proposed.values(), key=lambda fix: fix.action != "exclude"))


def _proposals(finding: Finding, rule: Rule, files: _Files) -> Iterable[Fix]:
    for piece in finding.evidence:
        known = Evidence(tuple(path for path in piece.paths if path in files.rows), piece.note)
        for path, action, reason in rule(known, files):
            yield Fix(path, action, code=finding.code, reason=reason or finding.title)


def _kept_parts(report: AuditReport) -> frozenset[str]:
    """Return the shipped parts that the study keeps: those about whose leaks the audit could be asked."""
    asked_about = {"LEAK301": "test", "LEAK306": "validation"}
    not_asked = {end.code for end in report.silent if end.outcome == "not applicable"}
    return frozenset(part for code, part in asked_about.items() if code not in not_asked)


# ---------------------------------------------------------------------------------------------------- the file


def write_fixes(path: Path, fixes: Sequence[Fix]) -> None:
    """Write a list of fixes as CSV (UTF-8, with a header), whole or not at all.

    A cell that a spreadsheet would take for a formula gets an apostrophe in front; :func:`read_fixes` takes it off again.
    """
    write_bytes(path, fixes_to_csv(fixes))


def fixes_to_csv(fixes: Sequence[Fix]) -> bytes:
    """Return a list of fixes as the bytes of a CSV file. Names that are no Unicode keep their bytes."""
    stream = io.StringIO()
    writer = csv.writer(stream)  # lines end as RFC 4180 has it: only then are carriage returns in names quoted
    writer.writerow(COLUMNS)
    writer.writerows([_guarded(cell) for cell in (fix.path, fix.action, fix.value, fix.code, fix.reason)] for fix in fixes)
    return stream.getvalue().encode("utf-8", "surrogateescape")


def read_fixes(path: Path) -> tuple[Fix, ...]:
    """Read a list of fixes. Spreadsheets may have saved it with semicolons or tabs; columns that are not known are ignored.

    Raises:
        DataError: The file cannot be read, or lines are wrong or contradict each other; all of them are named.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise DataError(f"{path}: the list of fixes cannot be read ({error.strerror or error}).") from error
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, restval="")
    missing = [name for name in ("path", "action") if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{path}: no list of fixes: the first line must name the columns {', '.join(COLUMNS)}. Found: {first!r}.")
    fixes: list[Fix] = []
    problems: list[str] = []
    try:
        for cells in reader:
            fix, problem = _fix_of({name: _bare(cells.get(name) or "") for name in COLUMNS}, reader.line_num)
            problems += [problem] if problem else []
            fixes += [fix] if fix is not None else []
    except csv.Error as error:
        raise DataError(f"{path}: no CSV file from line {reader.line_num} on ({error}).") from error
    problems += _contradictions(fixes)
    if problems:
        raise _told(str(path), problems)
    return tuple(fixes)


def _fix_of(cells: dict[str, str], line: int) -> tuple[Fix | None, str]:
    """Return the fix of a line, or what is wrong with it; neither for an empty line."""
    path, action, value = cells["path"], cells["action"].strip().lower(), cells["value"].strip()
    if not any(cell.strip() for cell in cells.values()):
        return None, ""
    if action not in ACTIONS:
        return None, f"line {line}: no such action. Known: {', '.join(ACTIONS)}. Found: {cells['action']!r}."
    if not path:
        return None, f"line {line}: names no file in the column path."
    if action == "relabel" and not value:
        return None, f"line {line}: relabel needs the new class in the column value."
    known = next(name for name in ACTIONS if name == action)
    return Fix(path, known, value, cells["code"].strip(), cells["reason"].strip(), line), ""


def _contradictions(fixes: Sequence[Fix]) -> list[str]:
    """Return where two lines want different things of one file. A keep settles the matter for the lines below it."""
    decided: dict[str, Fix] = {}
    problems = []
    for fix in fixes:
        if fix.action == "review":
            continue
        first = decided.setdefault(fix.path, fix)
        if first.action != "keep" and (first.action, first.value) != (fix.action, fix.value):
            advice = " A keep must stand above the line it overrides." if fix.action == "keep" else ""
            problems.append(
                f"line {fix.line}: {fix.action} contradicts line {first.line} ({first.action}) for {fix.path}.{advice}"
            )
    return problems


def _guarded(cell: str) -> str:
    return f"'{cell}" if re.match(r"'*[=+\-@\t\r]", cell) else cell


def _bare(cell: str) -> str:
    return cell[1:] if re.match(r"'+[=+\-@\t\r]", cell) else cell


# ---------------------------------------------------------------------------------------------------- the effect


def apply_fixes(manifest: Manifest, fixes: Sequence[Fix], *, source: str = "fixes") -> Manifest:
    """Return the data set as the list of fixes wants it. Thumbnails, facts and the images themselves stay as they are.

    Args:
        manifest: The data set as it was found.
        fixes: Files to leave out (they get the status ``excluded``) and labels to change.
        source: What the fixes come from, for messages.

    Raises:
        DataError: Files are not in the data set, or classes not known; all of them are named.
    """
    known = {file.path for file in manifest.files}
    problems = []
    for fix in fixes:
        place = f"line {fix.line}: " if fix.line else ""
        if fix.path not in known:
            problems.append(f"{place}no such file in the data set: {fix.path}. Correct the path or delete the line.")
        elif fix.action == "relabel" and fix.value not in manifest.classes:
            problems.append(f"{place}no such class. Known: {', '.join(manifest.classes)}. Found: {fix.value!r}.")
    if problems:
        raise _told(source, problems)
    wanted: dict[str, Fix] = {}
    for fix in fixes:
        if fix.action != "review":
            wanted.setdefault(fix.path, fix)
    files = tuple(_fixed(file, wanted.get(file.path)) for file in manifest.files)
    lost = {file.label for file in manifest.files} - {file.label for file in files}
    return replace(manifest, files=files, classes=tuple(name for name in manifest.classes if name not in lost))


def _fixed(file: ImageFile, fix: Fix | None) -> ImageFile:
    if fix is not None and fix.action == "exclude":
        reason = ": ".join(word for word in (fix.code, fix.reason) if word) or "left out by the list of fixes"
        return replace(file, status="excluded", problem=reason)
    if fix is not None and fix.action == "relabel":
        return replace(file, label=fix.value)
    return file


def _told(source: str, problems: Sequence[str]) -> DataError:
    number = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
    lines = [f"{source}: {number}", *(f"  - {problem}" for problem in problems[:MOST_PROBLEMS])]
    if len(problems) > MOST_PROBLEMS:
        lines.append(f"  and {len(problems) - MOST_PROBLEMS:,} more")
    return DataError("\n".join(lines))
