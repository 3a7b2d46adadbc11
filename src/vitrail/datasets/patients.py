"""Whom an image shows, as far as file names tell: patterns that find the patient's number in a path.

A name can only hint at a patient. Numbers may begin anew for every class, part or cause: in a well-known set of chest X-rays,
``person100_bacteria_475`` and ``person100_virus_184`` carry the same number, and nobody has said whether they are the same
child. The number is the key here, so that nothing is torn apart that may belong together; who knows better gives a pattern.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from vitrail.errors import Problem, StudyError
from vitrail.records import Part
from vitrail.settings import one_group

OFF = "off"
"""In place of a pattern: every image stands for itself."""

EXPLICIT_PATTERNS: tuple[str, ...] = (
    r"(TCGA-[0-9A-Z]{2}-[0-9A-Z]{4})",  # barcodes of The Cancer Genome Atlas
    r"(LIDC-IDRI-\d{4})",
    r"(?<![A-Za-z0-9])(OAS\d_\d{4})",  # OASIS
    r"(?<!\d)(\d{3}_S_\d{4})(?!\d)",  # ADNI: site, S, number
    r"(SOB_[BM]_[A-Z]+-\d+-[0-9A-Z]+)",  # BreakHis: class, year and slide
    r"(?i)(?<![a-z])(person[ _-]?\d+)",
    r"(?i)(?<![a-z])((?:patient|pat|subject|subj|participant|pid)(?:[ _-]?id)?[ _-]?\d+)",
    r"(?i)(?<![a-z0-9])(sub-[a-z]*\d+)",  # the Brain Imaging Data Structure
    r"(?<![A-Za-z0-9])([Pp]_?\d{3,})(?=[_/-])",
    r"((?:NORMAL\d+-)?IM-\d{4})-\d{4}",  # chest X-rays of Kermany et al.; NORMAL2 numbers anew
    r"(?i)(?<![a-z])(case[ _-]?\d+)",
    r"(?:^|/)(\d+(?:\.\d+){5,})(?=/)",  # a folder named by a DICOM identifier: one study
)
"""Patterns whose words say that the number is a patient's; of two that fit, the earlier one is used."""

_SERIES = r"([^/]*?\d[^/]*?)[ _-]+[A-Za-z]*[ _-]*\(?\d+\)?(?:\.\w+)+$"
"""What stands before the last number of a file name, where it has a number itself: ``ABC012`` of ``ABC012_03.png``."""

_LEAST_COVER = 0.5  # of the files of a class
_LEAST_SHARED = 0.05  # of the matched files share their key with another one: explicit words need little proof
_SAMPLE = 200  # files of every class that are looked at first
_DENSE = 0.8  # numbers that fill their range to this share count the images, not the patients
_GENERIC_GROUPS = 10
_GENERIC_LARGEST = 0.2  # of the files of a class


@dataclass(frozen=True, slots=True)
class PatientKey:
    """A way to tell patients by paths, and what it finds.

    Attributes:
        pattern: Regular expression with one group, which is the key; for :func:`patient_groups` and ``data.patient``.
        explicit: Whether a word says that the number is a patient's (``person12``); if not, the names only look as if several
            images belonged together.
        files: Number of files that it matches.
        groups: Number of keys.
        largest: Number of files of the most frequent key.
        crossing: Keys that stand both in the test part and outside it, in natural order.
        example: Path of a file of the most frequent key.
    """

    pattern: str
    explicit: bool
    files: int
    groups: int
    largest: int
    crossing: tuple[str, ...]
    example: str


def propose_patient_keys(paths: Sequence[str], labels: Sequence[str], parts: Sequence[Part | None]) -> tuple[PatientKey, ...]:
    """Propose patterns that find patients in paths; none where files are just numbered.

    A pattern is proposed when it matches most files of at least one class, finds more than two keys there, and enough files
    share their key with another one. Numbers that merely count (each once, and without gaps) in a class or in a part of a class
    are no proof: ``benign/case_7.png`` and ``malignant/case_7.png`` are two cases. Generic patterns (the beginning of the name,
    or a folder inside the class folder) must find at least ten groups, most of them with several files.

    Args:
        paths: Relative to the data set's folder, with forward slashes.
        labels: Class of every file.
        parts: Part of every file, ``None`` where there is none.

    Returns:
        Explicit keys first, then by number of files. No two explicit keys match mostly the same files.
    """
    table = _Names(paths, labels, parts)
    found: list[PatientKey] = []
    covered: set[int] = set()
    generic = (_SERIES, *table.folder_patterns())
    for pattern in (*EXPLICIT_PATTERNS, *generic):
        if not table.may_fit(pattern):
            continue
        explicit = pattern not in generic
        keys = patient_groups(paths, pattern)
        matched = {row for row, key in enumerate(keys) if key}
        if 2 * len(matched - covered) <= len(matched):  # also where nothing matches
            continue
        if table.tells(keys, explicit=explicit, rows=matched - covered):
            found.append(table.describe(pattern, keys, explicit=explicit))
            covered |= matched
    return tuple(sorted(found, key=lambda key: (not key.explicit, -key.files)))


def patient_groups(paths: Sequence[str], pattern: str) -> list[str]:
    """Return the key of every path: what the pattern's group matches, first place from the left; empty where it does not match.

    Args:
        paths: Relative to the data set's folder, with forward slashes.
        pattern: Regular expression with one group, or ``off``: then every key is empty. Keys of a pattern that does not care
            for case (``(?i)``) are in lower case.

    Raises:
        StudyError: It is no regular expression, or has no group, or several.
    """
    if pattern == OFF:
        return [""] * len(paths)
    compiled = _compiled(pattern)
    keys = [(match.group(1) or "") if (match := compiled.search(path)) else "" for path in paths]
    return [key.casefold() for key in keys] if compiled.flags & re.IGNORECASE else keys


def name_patients(paths: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the key of every path by the first of several patterns that matches it, see :func:`patient_groups`."""
    names = [""] * len(paths)
    for pattern in patterns:
        names = [name or key for name, key in zip(names, patient_groups(paths, pattern), strict=True)]
    return names


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(one_group(pattern) or "")
    except ValueError as error:
        rule, _, reason = str(error).partition(" (")
        raise StudyError("study", (Problem("data.patient", f"{rule}.", f"{pattern!r} ({reason}"),)) from error


class _Names:
    """Files by name, class and part, and what keys tell about them."""

    def __init__(self, paths: Sequence[str], labels: Sequence[str], parts: Sequence[Part | None]) -> None:
        self._paths, self._labels, self._parts = paths, labels, parts
        self._sizes = Counter(labels)
        by_class: dict[str, list[str]] = defaultdict(list)
        for path, label in zip(paths, labels, strict=True):
            by_class[label].append(path)
        self._samples = [members[:: 1 + len(members) // _SAMPLE] for members in by_class.values()]

    def may_fit(self, pattern: str) -> bool:
        """Whether a pattern matches a good share of a sample of some class: most patterns need no look at every file."""
        least = _LEAST_COVER / 2
        return any(sum(map(bool, patient_groups(sample, pattern))) >= least * len(sample) for sample in self._samples)

    def folder_patterns(self) -> list[str]:
        """Return the pattern of the folder right inside the class folder, for every depth at which class folders stand."""
        depths: Counter[int] = Counter()
        for path, label in zip(self._paths, self._labels, strict=True):
            folders = path.split("/")[:-1]
            if label in folders and folders.index(label) + 1 < len(folders):
                depths[folders.index(label) + 1] += 1
        return [rf"^(?:[^/]+/){{{depth}}}([^/]+)/" for depth, _ in depths.most_common(2)]

    def tells(self, keys: Sequence[str], *, explicit: bool, rows: set[int]) -> bool:
        """Whether keys tell patients in at least one class, rather than count images."""
        by_class: dict[str, list[int]] = defaultdict(list)
        for row in sorted(rows):
            by_class[self._labels[row]].append(row)
        proof = self._proof(keys, rows)
        for label, members in by_class.items():
            groups = Counter(keys[row] for row in members)
            if len(members) < _LEAST_COVER * self._sizes[label] or len(groups) < 3:
                continue
            shared = sum(row in proof for row in members)
            if explicit and shared >= _LEAST_SHARED * len(members):
                return True
            cells = Counter((self._parts[row], keys[row]) for row in members)
            several = {key for (_, key), count in cells.items() if count > 1}
            small = max(groups.values()) <= _GENERIC_LARGEST * self._sizes[label]
            if not explicit and len(groups) >= _GENERIC_GROUPS and small and 2 * len(several) >= len(groups):
                return True
        return False

    def _proof(self, keys: Sequence[str], rows: set[int]) -> set[int]:
        """Return the files that share their key with another one, leaving out the classes and parts where numbers count."""
        by_class: dict[object, list[int]] = defaultdict(list)
        by_cell: dict[object, list[int]] = defaultdict(list)
        for row in rows:
            by_class[self._labels[row]].append(row)
            by_cell[self._labels[row], self._parts[row]].append(row)
        counting = {row for cell in (*by_class.values(), *by_cell.values()) if _counts(keys, cell) for row in cell}
        counts = Counter(keys[row] for row in rows - counting)
        return {row for row in rows - counting if counts[keys[row]] > 1}

    def describe(self, pattern: str, keys: Sequence[str], *, explicit: bool) -> PatientKey:
        """Return the figures of a pattern."""
        counts = Counter(key for key in keys if key)
        largest = max(counts, key=lambda key: (counts[key], key))
        inside = {key for key, part in zip(keys, self._parts, strict=True) if key and part == "test"}
        outside = {key for key, part in zip(keys, self._parts, strict=True) if key and part != "test"}
        return PatientKey(
            pattern=pattern,
            explicit=explicit,
            files=sum(counts.values()),
            groups=len(counts),
            largest=counts[largest],
            crossing=tuple(sorted(inside & outside, key=_natural)),
            example=self._paths[list(keys).index(largest)],
        )


def _counts(keys: Sequence[str], rows: Sequence[int]) -> bool:
    """Whether the keys of some files are numbers that just count: each of them once, hardly a gap."""
    numbers = {_last_number(keys[row]) for row in rows}
    if len(numbers) < len(rows) or -1 in numbers:
        return False
    return len(numbers) >= _DENSE * (max(numbers) - min(numbers) + 1)


def _last_number(key: str) -> int:
    found = re.findall(r"\d+", key)
    return int(found[-1]) if found else -1


def _natural(key: str) -> list[tuple[int, str]]:
    """Sort person2 before person10."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", key)]
