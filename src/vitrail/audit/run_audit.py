"""The audit: every check in turn, what the study accepts, and what follows for each file."""

from __future__ import annotations

import datetime
import importlib
from dataclasses import replace
from typing import Any

from vitrail.audit.balance import ClassImbalance, SampleSize, SmallTestClass, SmallValidationPart
from vitrail.audit.check import AuditContext, Check, NotApplicable, number_of
from vitrail.audit.duplicates import ExactDuplicates, NearDuplicates, Redundancy, TurnedDuplicates
from vitrail.audit.files import (
    DerivedFiles,
    MisnamedImages,
    MixedPolarity,
    NoImages,
    PassedOver,
    UnreadableImages,
    UnusualImages,
    Volumes,
    is_image,
)
from vitrail.audit.labels import ConflictingLabels
from vitrail.audit.leaks import (
    LeakedTestImages,
    LeakedValidationImages,
    NearlyLeakedTestImages,
    PatientsAcrossParts,
    VolumesAcrossParts,
)
from vitrail.audit.names import ClassNames
from vitrail.audit.privacy import BurnedInText, PersonalExif, PersonalHeaders, PersonalPaths
from vitrail.audit.quality import BlankImages, ClippedImages, LowResolution, OddShapes, OutOfFocus
from vitrail.audit.separability import ClassSeparability
from vitrail.audit.shift import Shift
from vitrail.audit.shortcuts import (
    BorderShortcut,
    CompressionShortcut,
    FileShortcut,
    IntensityShortcut,
    NestedSource,
    OverlayShortcut,
    SourceShortcut,
)
from vitrail.audit.suspicion import LikelyLabelErrors, OffTopicImages
from vitrail.engine import map_in_order, one_thread_per_product
from vitrail.errors import AuditStopped, Problem, StudyError
from vitrail.progress import SILENT, Progress
from vitrail.records import AuditReport, CheckOutcome, Finding, Manifest
from vitrail.study import AuditSettings

CHECKS: tuple[Check, ...] = (
    UnreadableImages(),
    MisnamedImages(),
    NoImages(),
    DerivedFiles(),
    UnusualImages(),
    MixedPolarity(),
    Volumes(),
    PassedOver(),
    ExactDuplicates(),
    NearDuplicates(),
    TurnedDuplicates(),
    Redundancy(),
    LeakedTestImages(),
    NearlyLeakedTestImages(),
    PatientsAcrossParts(),
    VolumesAcrossParts(),
    LeakedValidationImages(),
    ConflictingLabels(),
    LikelyLabelErrors(),
    ClassNames(),
    OffTopicImages(),
    FileShortcut(),
    BorderShortcut(),
    IntensityShortcut(),
    OverlayShortcut(),
    SourceShortcut(),
    CompressionShortcut(),
    NestedSource(),
    BlankImages(),
    ClippedImages(),
    OutOfFocus(),
    LowResolution(),
    OddShapes(),
    PersonalHeaders(),
    BurnedInText(),
    PersonalExif(),
    PersonalPaths(),
    ClassImbalance(),
    SmallTestClass(),
    SampleSize(),
    Shift(),
    ClassSeparability(),
    SmallValidationPart(),
)
"""Every check, in the order of the report. A new check adds a line here."""

_ORDER = {"error": 0, "warning": 1, "info": 2}


def run_audit(
    manifest: Manifest,
    *,
    settings: AuditSettings,
    uses_shipped_parts: bool = True,
    patient: str | None = None,
    today: datetime.date | None = None,
    progress: Progress = SILENT,
) -> AuditReport:
    """Ask every check, and work out what follows for each file.

    Args:
        manifest: The data set.
        settings: The findings that the study accepts.
        uses_shipped_parts: Whether the study keeps the test part that the data set ships (``split.use_shipped_test``).
        patient: How paths tell patients (``data.patient``).
        today: The day on which acceptances are judged; ``None``: the day of the call.
        progress: Told of every check.

    Raises:
        StudyError: The study accepts a code that no check has, or ``patient`` is no pattern.
    """
    check_acceptances(settings)
    report = ask(manifest, uses_shipped_parts=uses_shipped_parts, patient=patient, progress=progress)
    return judge(report, settings, today=today)


def ask(
    manifest: Manifest, *, uses_shipped_parts: bool = True, patient: str | None = None, progress: Progress = SILENT
) -> AuditReport:
    """Ask every check. The report depends on the arguments alone: it can be kept and judged anew.

    Raises:
        StudyError: ``patient`` is no pattern.
    """
    findings: list[Finding] = []
    silent: list[CheckOutcome] = []
    with one_thread_per_product(), progress.task("Auditing", len(CHECKS) + 1) as advance:
        context = AuditContext.of(manifest, uses_shipped_parts=uses_shipped_parts, patient=patient)
        advance()
        # Checks wait for what another of their family computes: with a thread for each, no core waits with them.
        answers = map_in_order(lambda check: _answer(check, context), CHECKS, workers=len(CHECKS))
        for check, answer in zip(CHECKS, answers, strict=True):
            if isinstance(answer, NotApplicable):
                silent.append(CheckOutcome(check.code, check.title, "not applicable", str(answer)))
            elif answer is None:
                silent.append(CheckOutcome(check.code, check.title, "passed"))
            else:
                findings.append(answer)
            advance()
    return AuditReport(
        images=sum(is_image(file) for file in manifest.files),
        readable=sum(file.readable for file in manifest.files),
        findings=tuple(sorted(findings, key=lambda finding: (_ORDER[finding.severity], finding.code))),
        silent=tuple(silent),
        groups=context.groups,
        quarantined=context.quarantined,
        leaked=context.leaked,
        doubtful=context.doubtful,
    )


def load_libraries() -> None:
    """Load what the checks load when they are asked, for whoever waits for the images anyway."""
    for name in ("scipy.linalg", "scipy.ndimage", "scipy.special"):
        importlib.import_module(name)


def _answer(check: Check, context: AuditContext) -> Finding | NotApplicable | None:
    try:
        return check.run(context)
    except NotApplicable as reason:
        return reason


def judge(report: AuditReport, settings: AuditSettings, *, today: datetime.date | None = None) -> AuditReport:
    """Mark the findings that the study accepts on a day; ``None``: the day of the call."""
    day = today or datetime.date.today()
    return replace(report, findings=tuple(_judge(finding, settings, day) for finding in report.findings))


def enforce(report: AuditReport) -> None:
    """Stop where error-level findings stand that the study does not accept: what ``--strict`` does.

    Raises:
        AuditStopped: With every such finding and what to do about it.
    """
    errors = report.unaccepted_errors()
    if not errors:
        return
    lines = [f"The audit found {number_of(len(errors), 'error')} that the study does not accept:"]
    for finding in errors:
        lines += [f"  {finding.code}  {finding.message}", f"          Fix: {finding.fix}"]
    lines += ["Fix the data, run without --strict, or accept a finding with its reason in the study:", "  audit:", "    accept:"]
    lines += [f"      - {{code: {finding.code}, reason: why it is acceptable}}" for finding in errors]
    raise AuditStopped("\n".join(lines))


def summary(report: AuditReport) -> dict[str, Any]:
    """Return the report as plain data: the contract of ``--json``. Keys may be added, never removed or renamed."""
    return {
        "images": report.images,
        "readable": report.readable,
        "findings": [_plain(finding) for finding in report.findings],
        "passed": [{"code": end.code, "title": end.title} for end in report.silent if end.outcome == "passed"],
        "not_applicable": [
            {"code": end.code, "title": end.title, "reason": end.reason}
            for end in report.silent
            if end.outcome == "not applicable"
        ],
        "quarantined": sorted(report.quarantined),
        "leaked": sorted(report.leaked),
        "doubtful": sorted(report.doubtful),
    }


def _plain(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "title": finding.title,
        "severity": finding.severity,
        "count": finding.count,
        "message": finding.message,
        "why": finding.why,
        "fix": finding.fix,
        "consequence": finding.consequence,
        "accepted": finding.accepted,
        "evidence": [{"paths": list(piece.paths), "note": piece.note} for piece in finding.evidence],
    }


def check_acceptances(settings: AuditSettings) -> None:
    """Find out whether every code that the study accepts is the code of a check.

    Raises:
        StudyError: With every one that is not.
    """
    known = [check.code for check in CHECKS]
    problems = tuple(
        Problem(f"audit.accept[{position}].code", f"no check has this code. Known: {', '.join(known)}.", repr(acceptance.code))
        for position, acceptance in enumerate(settings.accept)
        if acceptance.code not in known
    )
    if problems:
        raise StudyError("study", problems)


def _judge(finding: Finding, settings: AuditSettings, today: datetime.date) -> Finding:
    """Mark a finding as accepted where an acceptance of the study holds today; say so where none holds any more."""
    meant = [acceptance for acceptance in settings.accept if acceptance.code == finding.code]
    for acceptance in meant:
        if acceptance.until is None or today <= acceptance.until:
            return replace(finding, accepted=acceptance.reason)
    ends = [acceptance.until for acceptance in meant if acceptance.until is not None]
    if not ends:
        return finding
    return replace(finding, message=f"{finding.message} (The study's acceptance of this ended on {max(ends)}.)")
