"""What the audit finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vitrail.records.types import Severity


@dataclass(frozen=True)
class Evidence:
    """One piece of evidence: the files it is about and what was seen.

    Attributes:
        paths: Relative paths; copies stand together in one piece of evidence.
        note: One short phrase, for example "2 copies: no_tumor in train, no_tumor in test".
    """

    paths: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the data set.

    Attributes:
        code: Stable code, for example ``LEAK301``.
        title: What the check looks for, a few words.
        severity: ``error`` (claims about the test set are not to be trusted), ``warning`` or ``info``.
        count: How many files (or groups, as ``message`` says) it concerns.
        message: One sentence with the figures.
        why: One sentence: why it matters.
        fix: What the person can do: a command or an action.
        consequence: What vitrail itself does about it in this run.
        evidence: The most telling pieces first; complete, not a sample.
        accepted: The reason the study gives for accepting the finding; empty when not accepted.
    """

    code: str
    title: str
    severity: Severity
    count: int
    message: str
    why: str
    fix: str
    consequence: str
    evidence: tuple[Evidence, ...] = ()
    accepted: str = ""


@dataclass(frozen=True)
class CheckOutcome:
    """How one check ended when it found nothing: passed, or not applicable and why."""

    code: str
    title: str
    outcome: Literal["passed", "not applicable"]
    reason: str = ""


@dataclass(frozen=True)
class AuditReport:
    """What the audit says and what follows from it, per file.

    Attributes:
        images: Number of files that are images by name or content (the unreadable ones included).
        readable: Number of images that can be decoded.
        findings: Most severe first, then by code.
        silent: The checks that found nothing.
        groups: Group number per file: copies (exact, near, mirrored), slices of one volume and images of one patient share it.
            Groups never cross training, validation and a test part that vitrail makes; intervals resample them.
        quarantined: Paths of copies that carry different labels: used neither for training nor for the clean score.
        leaked: Paths of shipped test images of which a copy, another slice or the patient also stands in the training or
            validation part the data set ships.
        doubtful: Paths of shipped test images that may leak: their file names share a patient number with images outside the
            test part, and nobody has confirmed that the number names the patient.
    """

    images: int
    readable: int
    findings: tuple[Finding, ...]
    silent: tuple[CheckOutcome, ...]
    groups: tuple[int, ...]
    quarantined: frozenset[str]
    leaked: frozenset[str]
    doubtful: frozenset[str] = frozenset()

    def unaccepted_errors(self) -> tuple[Finding, ...]:
        """Error-level findings that the study does not accept."""
        return tuple(finding for finding in self.findings if finding.severity == "error" and not finding.accepted)
