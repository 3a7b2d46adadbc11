"""What a check is, what it is given, and the words that checks share.

To add a check: write one class with ``code``, ``title``, ``why`` and ``run`` in the file of its family, and name it in
``CHECKS`` in :mod:`vitrail.audit.run_audit`. ``run`` returns a :class:`Finding`, or ``None`` when there is nothing to say, or
raises :class:`NotApplicable` when the data set does not allow the question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vitrail.audit.descriptors import describe_all
from vitrail.audit.groups import Edge, copies, edges_of, exact_edges, exact_groups, unite
from vitrail.audit.patients import Patients, find_patients
from vitrail.audit.similarity import Similarity, find_near_copies
from vitrail.datasets import name_patients
from vitrail.engine import computed_once
from vitrail.records import Evidence, Finding, FloatArray, ImageFile, Manifest, Severity


class NotApplicable(Exception):
    """The check cannot be asked of this data set. The message is the reason, a sentence without a full stop."""


class Check(Protocol):
    """One question that the audit asks of a data set.

    Attributes:
        code: Stable code: letters of the family and a number, for example ``DUP201``. Never reused for another question.
        title: What it looks for, a few words.
        why: One sentence for a beginner: why it matters.
        explanation: A paragraph or two for a beginner (``vitrail audit --explain CODE``): what the words mean, how the check
            looks, when it can be wrong, and what people do about it.
    """

    code: str
    title: str
    why: str
    explanation: str

    def run(self, context: AuditContext) -> Finding | None:
        """Look at the data set.

        Returns:
            What is wrong, or ``None`` when the check passes.

        Raises:
            NotApplicable: The question does not arise here; shown with its reason, never as a pass.
        """
        ...


@dataclass(frozen=True)
class AuditContext:
    """What checks look at. Built by :meth:`of`.

    What several of them need is computed once, when the first asks for it: checks run in threads, and those that need no groups
    look at the images while the near copies are searched.

    Attributes:
        manifest: The data set.
        uses_shipped_parts: Whether the study keeps the data set's own test part; otherwise it draws all parts anew, and no copy
            can leak.
        patient: How paths tell patients (``data.patient``); ``None``: what table, headers or file names say.
    """

    manifest: Manifest
    uses_shipped_parts: bool = True
    patient: str | None = None

    @classmethod
    def of(cls, manifest: Manifest, *, uses_shipped_parts: bool = True, patient: str | None = None) -> AuditContext:
        """Check what was asked; everything else is computed when it is needed.

        Raises:
            StudyError: ``patient`` (the study's ``data.patient``) is no regular expression with one group.
        """
        name_patients([], [patient] if patient is not None else [])  # a wrong pattern is told before any work
        return cls(manifest, uses_shipped_parts, patient)

    @computed_once
    def patients(self) -> Patients:
        """Who is on the images."""
        return find_patients(self.manifest, self.patient)

    @computed_once
    def exact(self) -> tuple[int, ...]:
        """Number per file that byte-identical files share."""
        return exact_groups(self.manifest)

    @computed_once
    def copies(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the files of every group of byte-identical files, large groups first."""
        return copies(self.exact)

    @computed_once
    def similarity(self) -> Similarity:
        """The copies that are not byte-identical."""
        first = [int(row) for row in np.unique(self.exact, return_index=True)[1] if self.manifest.files[int(row)].readable]
        return find_near_copies(self.manifest, np.array(first, dtype=np.int64))

    @computed_once
    def pictures(self) -> tuple[int, ...]:
        """Number per file that all copies of one picture share, byte-identical or not."""
        return unite(len(self.manifest), self._same_picture)

    @computed_once
    def groups(self) -> tuple[int, ...]:
        """Group number per file; copies of one image, slices of one volume and images of one patient share it."""
        files = self.manifest.files
        volumes = (file.volume if file.readable else "" for file in files)
        people = (key if file.readable else "" for key, file in zip(self.patients.keys, files, strict=True))
        return unite(len(self.manifest), self._same_picture, edges_of(volumes), edges_of(people))

    @property
    def _same_picture(self) -> list[Edge]:
        return [*exact_edges(self.manifest), *((pair.first, pair.second) for pair in self.similarity.pairs)]

    @computed_once
    def alike(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the files of every picture with more than one file, byte-identical or not, large groups first."""
        return copies(self.pictures)

    @computed_once
    def conflicting(self) -> tuple[tuple[int, ...], ...]:
        """The groups of ``alike`` that carry more than one label."""
        files = self.manifest.files
        return tuple(rows for rows in self.alike if len({files[row].label for row in rows}) > 1)

    @computed_once
    def quarantined(self) -> frozenset[str]:
        """Paths of all files of conflicting groups."""
        return frozenset(self.manifest.files[row].path for rows in self.conflicting for row in rows)

    @computed_once
    def leaking(self) -> tuple[tuple[int, ...], ...]:
        """The groups of ``copies`` that stand in the test part that is used and outside it, whatever their labels."""
        return tuple(rows for rows in self.copies if self.crosses(rows))

    @computed_once
    def leaked(self) -> frozenset[str]:
        """Paths of the files of the shipped test part of which a copy, a slice or, surely, the patient stands outside it."""
        shared = [*self.alike, *self.sharing(file.volume for file in self.manifest.files)]
        if self.patients.certain:
            shared += self.sharing(self.patients.keys)
        return self._in_test(rows for rows in shared if self.crosses(rows))

    @computed_once
    def doubtful(self) -> frozenset[str]:
        """Paths of the files of the shipped test part whose group stands outside it too, and that are not surely leaked."""
        return self._in_test(rows for rows in copies(self.groups) if self.crosses(rows)) - self.leaked

    @computed_once
    def descriptors(self) -> FloatArray:
        """One vector per file that says what its image looks like: see :func:`vitrail.audit.descriptors.describe_all`."""
        return describe_all(self.manifest)

    def crosses(self, rows: Iterable[int]) -> bool:
        """Whether files stand in the test part that is used and outside it."""
        return self.uses_shipped_parts and {self.manifest.files[row].part == "test" for row in rows} == {True, False}

    def sharing(self, keys: Iterable[str]) -> list[tuple[int, ...]]:
        """Return the positions of the readable files that share a key, for every key that several have, in order."""
        members: dict[str, list[int]] = {}
        for row, key in enumerate(keys):
            if key and self.manifest.files[row].readable:
                members.setdefault(key, []).append(row)
        return [tuple(rows) for rows in members.values() if len(rows) > 1]

    def _in_test(self, groups: Iterable[tuple[int, ...]]) -> frozenset[str]:
        files = self.manifest.files
        return frozenset(files[row].path for rows in groups for row in rows if files[row].part == "test")

    def readable(self, part: str | None = None) -> list[int]:
        """Return the positions of the readable files, of one shipped part or of all."""
        return [row for row in self._readable if part in (None, self.manifest.files[row].part)]

    @computed_once
    def _readable(self) -> tuple[int, ...]:
        return tuple(row for row, file in enumerate(self.manifest.files) if file.readable)

    def shipped(self, part: str) -> list[int]:
        """Return the positions of the readable files of a shipped part.

        Raises:
            NotApplicable: There is no such part, or the study draws its own.
        """
        rows = self.readable(part)
        if not rows:
            raise NotApplicable(f"the data set ships no readable {part} part")
        if not self.uses_shipped_parts:
            raise NotApplicable("the study draws all parts anew (`use_shipped_test: false`), copies on one side")
        return rows

    def groups_per_class(self, rows: Iterable[int]) -> dict[str, int]:
        """Return the number of different groups among ``rows`` for every class of the data set."""
        pairs = {(self.manifest.files[row].label, self.groups[row]) for row in rows}
        found = Counter(label for label, _ in pairs)
        return {name: found[name] for name in self.manifest.classes}

    def evidence(self, rows: Sequence[int]) -> Evidence:
        """Return one group of copies as evidence: its paths, and where they stand."""
        files = [self.manifest.files[row] for row in rows]
        places = Counter(_place(file) for file in files)
        note = ", ".join(place if number == 1 else f"{place} ({number})" for place, number in places.items())
        return Evidence(tuple(file.path for file in files), f"{len(files)} copies: {note}")


def finding(
    check: Check,
    *,
    severity: Severity,
    count: int,
    message: str,
    fix: str,
    consequence: str,
    evidence: Iterable[Evidence] = (),
) -> Finding:
    """Return a finding of ``check``; the arguments are the fields of :class:`Finding` that depend on the data set."""
    return Finding(
        code=check.code,
        title=check.title,
        severity=severity,
        count=count,
        message=message,
        why=check.why,
        fix=fix,
        consequence=consequence,
        evidence=tuple(evidence),
    )


# ---------------------------------------------------------------------------------------------------- words


def number_of(count: int, noun: str) -> str:
    """Return ``1 file``, ``2 files``, ``3 classes``, ``1,234 files``."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def are(count: int) -> str:
    """Return the verb for ``count`` things."""
    return "is" if count == 1 else "are"


def share_of(part: int, whole: int, nouns: str = "") -> str:
    """Return ``88 of 394 test images (22.3 %)``; ``whole`` must be positive."""
    return f"{part:,} of {whole:,}{' ' * bool(nouns)}{nouns} ({100 * part / whole:.1f} %)"


def per_class(labels: Iterable[str], *, of: Iterable[str] = ()) -> str:
    """Return ``no_tumor 148, pituitary 55``, frequent classes first.

    Args:
        labels: The label of every file that is counted.
        of: The labels of all files they are counted among, to give shares; empty: counts alone.
    """
    counts, wholes = Counter(labels), Counter(of)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {share_of(number, wholes[name]) if wholes else f'{number:,}'}" for name, number in ordered)


def _place(file: ImageFile) -> str:
    return f"{file.label} in {file.part}" if file.part else file.label
