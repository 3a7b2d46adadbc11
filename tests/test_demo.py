from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from vitrail import demo
from vitrail.audit import CHECKS, run_audit
from vitrail.datasets import FAULT_KINDS, AnswerKey, PhantomSettings, PlantedFault, make_phantom, scan_folder
from vitrail.demo import FOUND_BY, compare, marked_classes
from vitrail.evaluation.gain import FEWEST_GROUPS
from vitrail.output import print_demo
from vitrail.records import AuditReport, Evidence, Finding
from vitrail.split import make_split
from vitrail.study import AuditSettings, SplitSettings


def audited(folder, settings):
    key = make_phantom(folder / "phantom", settings)
    manifest = scan_folder(folder / "phantom" / "images", cache=folder / "cache")
    return run_audit(manifest, settings=AuditSettings()), key, manifest


@pytest.mark.parametrize("seed", range(3))
def test_the_audit_finds_every_planted_fault_it_knows_and_raises_no_false_alarm(tmp_path, seed):
    report, key, manifest = audited(tmp_path, PhantomSettings(seed=seed))
    verdicts = compare(report, key)
    usual = {name for name, kind in FAULT_KINDS.items() if kind.usual}
    assert {verdict.kind for verdict in verdicts if verdict.planted} == usual
    assert all(verdict.code == FOUND_BY.get(verdict.kind, "") for verdict in verdicts if verdict.planted)
    missed = {verdict.kind for verdict in verdicts if verdict.found not in (verdict.planted, None)}
    assert [verdict for verdict in verdicts if not verdict.planted] == []
    assert missed <= {"swapped_label"}  # a ranking, not a verdict: a label that fits badly need not stand at its top
    split = make_split(manifest, report, settings=SplitSettings(validation=demo.VALIDATION), seed=seed)
    rows, groups = split.rows("validation"), np.array(split.groups)
    independent = [len(np.unique(groups[rows][manifest.labels[rows] == label])) for label in range(len(manifest.classes))]
    assert min(independent) >= FEWEST_GROUPS, "the shortcut hunt would not be estimable"


def test_every_kind_is_found_by_a_check_or_by_none_yet():
    codes = {check.code for check in CHECKS}
    for name, kind in FAULT_KINDS.items():
        assert FOUND_BY.get(name) == (kind.codes[0] if kind.codes[0] in codes else None)
    assert {"exact_copy", "mirrored_copy", "cropped_copy", "same_patient_across_split", "derived_mask"} <= set(FOUND_BY)


def test_the_terminal_says_whether_the_models_take_the_planted_mark(capsys):
    hunts = {"forest": "No shortcut found: 3 %.", "cnn": "Shortcut found: 40 %."}
    models = tuple(SimpleNamespace(name=name, hunt=SimpleNamespace(message=words)) for name, words in hunts.items())
    key = AnswerKey(PhantomSettings(), (), (PlantedFault("corner_mark", ("a.jpg",), "", note="no_tumor"),))
    print_demo(SimpleNamespace(models=models), (), marked_classes(key))
    told = capsys.readouterr().out
    assert "mark planted in a corner of no_tumor?" in told and "cnn: Shortcut found: 40 %." in told
    print_demo(SimpleNamespace(models=models), (), marked_classes(AnswerKey(PhantomSettings(), (), ())))
    assert "Shortcut" not in capsys.readouterr().out


def test_a_clean_phantom_is_small_and_nothing_else(tmp_path):
    report, key, _ = audited(tmp_path, PhantomSettings(faults={}))
    assert {finding.code for finding in report.findings if finding.severity != "info"} <= {"BAL802", "BAL803"}
    assert not report.unaccepted_errors()
    assert compare(report, key) == ()
    assert (report.leaked, report.quarantined, report.doubtful) == (frozenset(), frozenset(), frozenset())


def test_a_missed_fault_and_a_false_alarm_are_told(tmp_path):
    report, key, _ = audited(tmp_path, PhantomSettings(patients_per_class=8, size=72, faults={"truncated_file": 1}))
    invented = Finding("DUP201", "copies", "warning", 1, "m", "w", "f", "c", (Evidence(("Training/x.jpg",), ""),))
    blind = type(report)(**{**vars(report), "findings": (invented,)})
    verdicts = compare(blind, key)
    assert [(verdict.kind, verdict.planted, verdict.found) for verdict in verdicts] == [
        ("truncated_file", 1, 0),
        ("DUP201", 0, 1),
    ]


def test_a_kind_that_no_check_looks_for_is_not_assessed(tmp_path, monkeypatch):
    report, key, _ = audited(tmp_path, PhantomSettings(patients_per_class=8, size=72, faults={"empty_file": 1}))
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
