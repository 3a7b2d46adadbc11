"""How many planted faults does the audit find, and what does it cry at that was not planted?

Per seed: one phantom with every fault of single files and groups, one per shortcut that gives a class away (so that shortcuts do
not hide one another), and a clean one. Each is audited through the public door.

    python benchmarks/planted.py --seeds 20

A fault counts as found when the check that must find it (the first code of its ``FaultKind``) names it: all its files in one
piece of evidence (copies, patients), its file in the evidence (single files; of rankings in the first 20 or the first 5 %), or by
firing at all at level warning or error (shortcuts). Others: images (for shortcuts: phantoms) that the check names although no
planted fault explains it; precision is the explained share of what it names.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from vitrail.auditing import audit
from vitrail.datasets import FAULT_KINDS, AnswerKey, PhantomSettings, PlantedFault, make_phantom
from vitrail.demo import claims, points_at
from vitrail.records import AuditReport
from vitrail.storage import write_record
from vitrail.study import DataSettings, Study

SEVERE = ("error", "warning")
SHORTCUTS = tuple(name for name, kind in FAULT_KINDS.items() if kind.unit == "class")
SINGLE = tuple(name for name in FAULT_KINDS if name not in SHORTCUTS)


@dataclass
class Tally:
    """What the audits of all phantoms said.

    Attributes:
        phantoms: Number of phantoms.
        clean: Number of clean ones among them.
        codes: Codes of the checks that there are.
        planted: Faults by kind.
        found: Faults by kind that the check that must find them named.
        named: Images (of shortcuts: phantoms) by code that a check named in phantoms with faults.
        explained: How many of them a planted fault explains.
        unexpected: Findings at level error or warning in phantoms with faults, by code, that no planted fault explains at all.
        on_clean: Findings in clean phantoms by code and severity.
        missed: Every fault that was not found.
        seconds: Of the audits, all together.
    """

    phantoms: int = 0
    clean: int = 0
    codes: set[str] = field(default_factory=set)
    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    explained: Counter[str] = field(default_factory=Counter)
    unexpected: Counter[str] = field(default_factory=Counter)
    on_clean: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    missed: list[dict[str, object]] = field(default_factory=list)
    seconds: float = 0.0


def plans(each: int, kinds: Sequence[str]) -> list[dict[str, int]]:
    """Return the faults of every phantom of one seed; the clean one comes first."""
    single = {name: each for name in SINGLE if name in kinds}
    return [{}, *([single] if single else []), *({name: 1} for name in SHORTCUTS if name in kinds)]


def explains(fault: PlantedFault, code: str) -> bool:
    """Return whether a fault is a good reason for a check to speak of its files."""
    return code in FAULT_KINDS[fault.kind].codes


def count(tally: Tally, report: AuditReport, key: AnswerKey) -> None:
    """Hold one audit against its answer key."""
    findings = {finding.code: finding for finding in report.findings}
    tally.phantoms += 1
    tally.codes |= set(findings) | {end.code for end in report.silent}
    if not key.settings.faults:
        tally.clean += 1
        for finding in report.findings:
            tally.on_clean[finding.code][finding.severity] += 1
        return
    for fault in key.faults:
        tally.planted[fault.kind] += 1
        if points_at(findings.get(FAULT_KINDS[fault.kind].codes[0]), fault, report.images):
            tally.found[fault.kind] += 1
        else:
            tally.missed.append({"seed": key.settings.seed, **asdict(fault), "paths": fault.paths[:4]})
    shortcut_codes = {FAULT_KINDS[name].codes[0] for name in SHORTCUTS}
    for code, finding in findings.items():
        reasons = [fault for fault in key.faults if explains(fault, code)]
        if code in shortcut_codes:
            tally.named[code] += finding.severity in SEVERE
            tally.explained[code] += bool(reasons) and finding.severity in SEVERE
        else:
            named = {path for piece in claims(finding, report.images) for path in piece.paths}
            tally.named[code] += len(named)
            tally.explained[code] += len(named & {path for fault in reasons for path in fault.paths})
        if not reasons and finding.severity in SEVERE:
            tally.unexpected[code] += 1


def rows(tally: Tally) -> list[dict[str, object]]:
    """Return the table, one line per kind."""
    table = []
    for kind in FAULT_KINDS:
        if not tally.planted[kind]:
            continue
        code, planted = FAULT_KINDS[kind].codes[0], tally.planted[kind]
        row: dict[str, object] = {"kind": kind, "code": code, "planted": planted, "found": None, "recall": None}
        row |= {"others": None, "precision": None}
        if code in tally.codes:
            named, explained = tally.named[code], tally.explained[code]
            row |= {"found": tally.found[kind], "recall": round(tally.found[kind] / planted, 3), "others": named - explained}
            row["precision"] = round(explained / named, 3) if named else None
        table.append(row)
    return table


def print_tables(tally: Tally, table: Sequence[dict[str, object]]) -> None:
    """Print what was found, and what was cried at without reason."""
    print(f"{'planted':<28}{'check':<9}{'planted':>8}{'found':>8}{'recall':>8}{'others':>8}{'precision':>11}")
    for row in table:
        if row["found"] is None:
            print(f"{row['kind']:<28}{row['code']:<9}{row['planted']:>8}{'no check':>12}")
            continue
        precision = "-" if row["precision"] is None else f"{row['precision']:.3f}"
        print(
            f"{row['kind']:<28}{row['code']:<9}{row['planted']:>8}{row['found']:>8}{row['recall']:>8.3f}"
            f"{row['others']:>8}{precision:>11}"
        )
    severe = {code: sum(found[level] for level in SEVERE) for code, found in sorted(tally.on_clean.items())}
    info = {code: found["info"] for code, found in sorted(tally.on_clean.items()) if found["info"]}
    print(f"\n{tally.clean} clean phantoms: errors and warnings {_listed(severe)}; for information {_listed(info)}")
    print(
        f"{tally.phantoms - tally.clean} phantoms with faults: errors and warnings without a reason {_listed(tally.unexpected)}"
    )
    print(f"{tally.seconds / tally.phantoms:.2f} s per audit")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{code} {number}" for code, number in sorted(counts.items()) if number) or "none"


def main() -> None:
    """Draw, audit, count, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20, help="number of seeds")
    parser.add_argument("--first-seed", type=int, default=0, help="the first of them")
    parser.add_argument("--each", type=int, default=3, help="faults of every kind per phantom")
    parser.add_argument("--kinds", nargs="+", choices=tuple(FAULT_KINDS), default=tuple(FAULT_KINDS), help="default: all")
    parser.add_argument("--patients", type=int, default=64, help="patients per class, half of them in the test part")
    parser.add_argument("--slices", type=int, default=2, help="slices per patient")
    parser.add_argument("--size", type=int, default=208, help="usual side of the images in pixels")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/planted.json"), help="where to write the figures")
    options = parser.parse_args()
    tally = Tally()
    drawn = PhantomSettings(options.patients, options.slices, options.size, test_share=0.5)  # or the test part is too small
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for faults in plans(options.each, options.kinds):
            with tempfile.TemporaryDirectory() as name:
                scratch = Path(name)
                settings = replace(drawn, seed=seed, faults=faults)
                key = make_phantom(scratch / "phantom", settings)
                study = Study(data=DataSettings(path=scratch / "phantom" / "images"), output=scratch / "runs")
                started = time.perf_counter()
                _, report = audit(study)
                tally.seconds += time.perf_counter() - started
                count(tally, report, key)
        print(
            f"seed {seed}: {tally.phantoms} phantoms, {sum(tally.found.values())} of {sum(tally.planted.values())} faults found"
        )
    table = rows(tally)
    print_tables(tally, table)
    figures = {
        "seeds": options.seeds,
        "faults_per_kind_and_phantom": options.each,
        "patients_per_class": options.patients,
        "slices_per_patient": options.slices,
        "size": options.size,
        "phantoms": tally.phantoms,
        "clean_phantoms": tally.clean,
        "seconds_per_audit": round(tally.seconds / tally.phantoms, 3),
        "kinds": table,
        "findings_on_clean_phantoms": {code: dict(found) for code, found in sorted(tally.on_clean.items())},
        "unexpected_errors_and_warnings": dict(sorted(tally.unexpected.items())),
        "missed": tally.missed,
    }
    write_record(options.json, figures)


if __name__ == "__main__":
    main()
