"""The demonstration: a phantom with planted faults, the whole path on it, and what the audit found against the answer key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitrail.datasets import AnswerKey, PhantomSettings, make_phantom, read_answer_key
from vitrail.pipeline import run
from vitrail.progress import SILENT, Progress
from vitrail.records import AuditReport, RunResult
from vitrail.study import CnnSettings, DataSettings, ForestSettings, Study, TrainingSettings

FOUND_BY = {
    "exact_copy": "DUP201",
    "exact_copy_across_split": "LEAK301",
    "conflicting_copy": "LBL401",
    "truncated_file": "IO101",
    "empty_file": "IO103",
    "not_an_image": "IO103",
}
"""Kind of planted fault -> code of the check that must find it. Kinds without a check yet are not listed."""


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
        models=(ForestSettings(), CnnSettings(training=TrainingSettings(epochs=25))),
    )
    return run(study, fresh=fresh, progress=progress), key


def compare(report: AuditReport, key: AnswerKey) -> tuple[Verdict, ...]:
    """Hold the audit against the answer key.

    Returns:
        One verdict per planted kind; then, with ``planted`` 0, one per finding in which files stand that no planted fault of
        its kinds explains: a false alarm.
    """
    evidence = {finding.code: {path for piece in finding.evidence for path in piece.paths} for finding in report.findings}
    verdicts = []
    for kind in dict.fromkeys(fault.kind for fault in key.faults):
        planted, code = key.of_kind(kind), FOUND_BY.get(kind, "")
        found = sum(set(fault.paths) <= evidence.get(code, set()) for fault in planted) if code else None
        verdicts.append(Verdict(kind, code, len(planted), found))
    copies = ("exact_copy", "exact_copy_across_split", "conflicting_copy")
    explained_by = {code: {kind for kind, own in FOUND_BY.items() if own == code} for code in evidence}
    explained_by["DUP201"] = set(copies)  # every exact copy is a copy, wherever it stands and whatever its label
    for code, paths in evidence.items():
        explained = {path for fault in key.faults if fault.kind in explained_by[code] for path in fault.paths}
        if paths - explained or not paths:
            verdicts.append(Verdict(code, code, 0, len(paths - explained)))
    return tuple(verdicts)
