"""The demonstration: a phantom with planted faults, the whole path on it, and what the audit found against the answer key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitrail.audit import CHECKS
from vitrail.datasets import FAULT_KINDS, AnswerKey, PhantomSettings, PlantedFault, make_phantom, read_answer_key
from vitrail.pipeline import run
from vitrail.progress import SILENT, Progress
from vitrail.records import AuditReport, Evidence, Finding, RunResult
from vitrail.study import (
    CnnSettings,
    DataSettings,
    ExplanationSettings,
    ForestSettings,
    SplitSettings,
    Study,
    TrainingSettings,
)

_ASKED = {check.code for check in CHECKS}

FOUND_BY = {name: kind.codes[0] for name, kind in FAULT_KINDS.items() if kind.codes[0] in _ASKED}
"""Kind of planted fault -> code of the check that must find it. Kinds that no check looks for are not listed."""

VALIDATION = 0.45
"""Share of those not tested who validate: of the 24 patients of a class, so that it has the ten independent validation images
that the shortcut hunt needs, copies, unreadable files and images without an anatomy taken off."""

RANKED = {"LBL402": 20}
"""Checks that rank suspicious images: so many of the ranking, or 5 % of the images if that is more, count as pointed out."""


@dataclass(frozen=True)
class Verdict:
    """What became of one kind of planted fault.

    Attributes:
        kind: The kind, or the code of a finding that no planted fault explains.
        code: The check that must find it; empty when no check looks for it yet.
        planted: Number of planted faults of the kind.
        found: How many of them stand in the finding's evidence; ``None`` when no check looks for the kind yet.
    """

    kind: str
    code: str
    planted: int
    found: int | None


def run_demo(output: Path, *, seed: int = 0, fresh: bool = False, progress: Progress = SILENT) -> tuple[RunResult, AnswerKey]:
    """Draw the phantom (once per seed), run a forest and a CNN on it to the report.

    Args:
        output: Folder for the phantom, the run and the caches.
        seed: Of the phantom and of the study.
        fresh: Begin again where an earlier demonstration left a run.
        progress: Told of everything long.
    """
    folder = output / f"phantom-{seed}"
    settings = PhantomSettings(seed=seed)
    key = read_answer_key(folder) if folder.exists() else make_phantom(folder, settings, progress=progress)
    study = Study(
        name="demo",
        seed=seed,
        output=output,
        data=DataSettings(path=folder / "images"),
        split=SplitSettings(validation=VALIDATION),
        models=(ForestSettings(), CnnSettings(training=TrainingSettings(epochs=30))),
        explanation=ExplanationSettings(grade_images=16, hunt_images=48),  # enough to show how it looks
    )
    return run(study, fresh=fresh, progress=progress), key


def marked_classes(key: AnswerKey) -> tuple[str, ...]:
    """Return the classes that carry a mark in a corner of most of their images: a shortcut, if a model takes it."""
    return tuple(fault.note for fault in key.of_kind("corner_mark"))


def compare(report: AuditReport, key: AnswerKey) -> tuple[Verdict, ...]:
    """Hold the audit against the answer key.

    A planted copy is found when one piece of evidence holds both files, a planted file when it stands in the evidence (of a
    ranking, near its top), a class that a shortcut gives away when the check warns.

    Returns:
        One verdict per planted kind; then, with ``planted`` 0, one per error or warning in which files stand that no planted
        fault explains: a false alarm. (How many images there are is no fault: findings on balance and sample size do not count.)
    """
    findings = {finding.code: finding for finding in report.findings}
    verdicts = []
    for kind in dict.fromkeys(fault.kind for fault in key.faults):
        planted, code = key.of_kind(kind), FOUND_BY.get(kind, "")
        found = sum(points_at(findings.get(code), fault, report.images) for fault in planted) if code else None
        verdicts.append(Verdict(kind, code, len(planted), found))
    kinds = {fault.kind for fault in key.faults}
    for finding in report.findings:
        if finding.severity == "info" or finding.code.startswith(("BAL", "SPL")) or finding.code in RANKED:
            continue
        explaining = {kind for kind in kinds if finding.code in FAULT_KINDS[kind].codes}
        if any(FAULT_KINDS[kind].unit == "class" for kind in explaining):
            continue
        explained = {path for fault in key.faults if fault.kind in explaining for path in fault.paths}
        paths = {path for piece in finding.evidence for path in piece.paths}
        if paths - explained or not paths:
            verdicts.append(Verdict(finding.code, finding.code, 0, len(paths - explained)))
    return tuple(verdicts)


def points_at(finding: Finding | None, fault: PlantedFault, images: int) -> bool:
    """Whether a finding points at a planted fault, in an audit of so many images; see :func:`compare`."""
    if finding is None:
        return False
    unit = FAULT_KINDS[fault.kind].unit
    if unit == "class":
        return finding.severity != "info"
    if unit == "group":
        return any(set(fault.paths) <= set(piece.paths) for piece in claims(finding, images))
    return set(fault.paths) <= {path for piece in claims(finding, images) for path in piece.paths}


def claims(finding: Finding, images: int) -> tuple[Evidence, ...]:
    """Return the evidence that counts as a claim: all of it, or the beginning of a ranking."""
    if finding.code in RANKED:
        return finding.evidence[: max(RANKED[finding.code], images // 20)]
    return finding.evidence
