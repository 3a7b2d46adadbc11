from __future__ import annotations

import pytest

from vitrail import demo
from vitrail.audit import CHECKS, run_audit
from vitrail.datasets import FAULT_KINDS, AnswerKey, PhantomSettings, PlantedFault, make_phantom, scan_folder
from vitrail.demo import FOUND_BY, compare, phantom_settings
from vitrail.records import AuditReport, Evidence, Finding
from vitrail.study import AuditSettings


def audited(folder, settings):
    key = make_phantom(folder / "phantom", settings)
    manifest = scan_folder(folder / "phantom" / "images", cache=folder / "cache")
    return run_audit(manifest, settings=AuditSettings()), key


@pytest.mark.parametrize("seed", range(3))
def test_the_audit_finds_every_planted_fault_it_knows_and_raises_no_false_alarm(tmp_path, seed):
    report, key = audited(tmp_path, phantom_settings(seed))
    verdicts = compare(report, key)
    usual = {name for name, kind in FAULT_KINDS.items() if kind.usual}
    assert {verdict.kind for verdict in verdicts if verdict.planted} == usual
    assert all(verdict.code == FOUND_BY.get(verdict.kind, "") for verdict in verdicts if verdict.planted)
    missed = {verdict.kind for verdict in verdicts if verdict.found not in (verdict.planted, None)}
    assert [verdict for verdict in verdicts if not verdict.planted] == []
    assert missed <= {"swapped_label"}  # a ranking, not a verdict: a label that fits badly need not stand at its top


def test_every_kind_is_found_by_a_check_or_by_none_yet():
    codes = {check.code for check in CHECKS}
    for name, kind in FAULT_KINDS.items():
        assert FOUND_BY.get(name) == (kind.codes[0] if kind.codes[0] in codes else None)
    assert {"exact_copy", "mirrored_copy", "cropped_copy", "same_patient_across_split", "derived_mask"} <= set(FOUND_BY)


def test_a_clean_phantom_is_small_and_nothing_else(tmp_path):
    report, key = audited(tmp_path, PhantomSettings(faults={}))
    assert {finding.code for finding in report.findings if finding.severity != "info"} <= {"BAL802", "BAL803"}
    assert not report.unaccepted_errors()
    assert compare(report, key) == ()
    assert (report.leaked, report.quarantined, report.doubtful) == (frozenset(), frozenset(), frozenset())


def test_a_missed_fault_and_a_false_alarm_are_told(tmp_path):
    report, key = audited(tmp_path, PhantomSettings(patients_per_class=8, size=72, faults={"truncated_file": 1}))
    invented = Finding("DUP201", "copies", "warning", 1, "m", "w", "f", "c", (Evidence(("Training/x.jpg",), ""),))
    blind = type(report)(**{**vars(report), "findings": (invented,)})
    verdicts = compare(blind, key)
    assert [(verdict.kind, verdict.planted, verdict.found) for verdict in verdicts] == [
        ("truncated_file", 1, 0),
        ("DUP201", 0, 1),
    ]


def test_a_kind_that_no_check_looks_for_is_not_assessed(tmp_path, monkeypatch):
    report, key = audited(tmp_path, PhantomSettings(patients_per_class=8, size=72, faults={"empty_file": 1}))
    monkeypatch.setattr(demo, "FOUND_BY", {})
    assert [(verdict.kind, verdict.code, verdict.planted, verdict.found) for verdict in compare(report, key)][:1] == [
        ("empty_file", "", 1, None)
    ]


def made_up(*findings: Finding, images: int = 400) -> AuditReport:
    return AuditReport(images, images, findings, (), tuple(range(images)), frozenset(), frozenset())


def found(code: str, severity: str, *groups: tuple[str, ...]) -> Finding:
    return Finding(code, "t", severity, 1, "m", "w", "f", "c", tuple(Evidence(paths, "") for paths in groups))


def answer(kind: str, *paths: str) -> AnswerKey:
    return AnswerKey(PhantomSettings(), (), (PlantedFault(kind, paths, ""),))


def test_a_planted_copy_is_found_when_one_piece_of_evidence_holds_both_files():
    key = answer("reencoded_copy", "a.jpg", "b.jpg")
    for groups, expected in (([("b.jpg", "a.jpg")], 1), ([("a.jpg",), ("b.jpg",)], 0), ([], 0)):
        assert compare(made_up(found("DUP202", "warning", *groups)), key)[0].found == expected


def test_a_shortcut_is_found_when_the_check_warns():
    for severity, expected in (("error", 1), ("warning", 1), ("info", 0)):
        verdicts = compare(made_up(found("SHC504", severity, ("a.jpg",))), answer("corner_mark", "a.jpg", "b.jpg"))
        assert [(verdict.planted, verdict.found) for verdict in verdicts] == [(1, expected)]


def test_of_a_ranking_only_the_top_counts(monkeypatch):
    monkeypatch.setitem(demo.FOUND_BY, "swapped_label", "LBL402")
    ranking = [(f"{number}.jpg",) for number in range(40)]
    for path, expected in (("19.jpg", 1), ("20.jpg", 0)):
        assert compare(made_up(found("LBL402", "warning", *ranking)), answer("swapped_label", path))[0].found == expected
    verdicts = compare(made_up(found("LBL402", "warning", *ranking), images=600), answer("swapped_label", "29.jpg"))
    assert [(verdict.planted, verdict.found) for verdict in verdicts] == [(1, 1)]


def test_findings_that_the_key_does_not_explain_are_false_alarms_unless_they_are_for_information_or_about_numbers():
    key = answer("exact_copy", "a.jpg", "b.jpg")
    explained = found("DUP201", "warning", ("a.jpg", "b.jpg"))
    too_much = found("DUP202", "warning", ("a.jpg", "b.jpg"), ("c.jpg", "d.jpg"))
    nameless = found("SHC501", "warning")
    harmless = (found("IO105", "info", ("e.jpg",)), found("BAL802", "warning"), found("SPL852", "warning"))
    verdicts = compare(made_up(explained, too_much, nameless, *harmless), key)
    assert [(verdict.kind, verdict.planted, verdict.found) for verdict in verdicts] == [
        ("exact_copy", 1, 1),
        ("DUP202", 0, 4),
        ("SHC501", 0, 0),
    ]
