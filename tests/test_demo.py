import pytest

from vitrail.audit import run_audit
from vitrail.datasets import PhantomSettings, make_phantom, scan_folder
from vitrail.demo import FOUND_BY, compare
from vitrail.records import Evidence, Finding
from vitrail.study import AuditSettings


def audited(folder, settings):
    key = make_phantom(folder / "phantom", settings)
    manifest = scan_folder(folder / "phantom" / "images", cache=folder / "cache")
    return run_audit(manifest, settings=AuditSettings()), key


@pytest.mark.parametrize("seed", range(3))
def test_the_audit_finds_every_planted_fault_it_knows_and_raises_no_false_alarm(tmp_path, seed):
    report, key = audited(tmp_path, PhantomSettings(size=72, seed=seed))
    verdicts = {verdict.kind: verdict for verdict in compare(report, key)}
    assert set(FOUND_BY) <= set(verdicts)
    for kind in FOUND_BY:
        assert verdicts[kind].found == verdicts[kind].planted > 0
    assert not [verdict for verdict in verdicts.values() if not verdict.planted]


def test_a_clean_phantom_has_no_findings(tmp_path):
    report, key = audited(tmp_path, PhantomSettings(size=72, faults={}))
    assert report.findings == ()
    assert compare(report, key) == ()


def test_a_missed_fault_and_a_false_alarm_are_told(tmp_path):
    report, key = audited(tmp_path, PhantomSettings(patients_per_class=8, size=72, faults={"truncated_file": 1}))
    invented = Finding("DUP201", "copies", "warning", 1, "m", "w", "f", "c", (Evidence(("Training/x.jpg",), ""),))
    blind = type(report)(**{**vars(report), "findings": (invented,)})
    verdicts = compare(blind, key)
    assert [(verdict.kind, verdict.planted, verdict.found) for verdict in verdicts] == [
        ("truncated_file", 1, 0),
        ("DUP201", 0, 1),
    ]


def test_a_kind_that_no_check_looks_for_is_not_assessed(tmp_path):
    report, key = audited(tmp_path, PhantomSettings(patients_per_class=8, size=72, faults={"swapped_label": 1}))
    verdicts = {verdict.kind: verdict for verdict in compare(report, key)}
    assert "swapped_label" not in FOUND_BY
    assert (verdicts["swapped_label"].planted, verdicts["swapped_label"].found) == (1, None)
