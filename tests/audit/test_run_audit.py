from __future__ import annotations

import datetime
import json
import re
import sys
from dataclasses import replace

import pytest
from audit_data import data_set, entry, lifelike, plain

from vitrail.audit import CHECKS, NotApplicable, ask, enforce, judge, run_audit, summary
from vitrail.errors import AuditStopped, StudyError
from vitrail.records import AuditReport, Manifest
from vitrail.study import AuditSettings

DAY = datetime.date(2030, 6, 15)


@pytest.fixture
def troubled() -> Manifest:
    """Every error, several warnings: a leak, a conflict, a broken file, a text named .png, few test images."""
    return lifelike(
        *plain("train/cyst", 50),
        *plain("train/healthy", 50),
        *plain("test/cyst", 4),
        *plain("test/healthy", 4),
        entry("test/cyst/leak.png", "leak"),
        entry("train/cyst/leak.png", "leak"),
        entry("train/cyst/conflict.png", "conflict"),
        entry("train/healthy/conflict.png", "conflict"),
        entry("train/cyst/broken.png", status="unreadable"),
        entry("train/cyst/text.png", status="not_an_image"),
        entry("train/cyst/notes.txt", status="not_an_image"),
    )


def audit(manifest: Manifest, *accept: dict) -> AuditReport:
    return run_audit(manifest, settings=AuditSettings(accept=accept), today=DAY)


# ---------------------------------------------------------------------------------------------------- the checks


def test_codes_are_stable_well_formed_and_unique():
    codes = [check.code for check in CHECKS]
    assert set(codes) >= {"IO101", "IO102", "IO103", "DUP201", "LEAK301", "LEAK306", "LBL401", "BAL801", "BAL802", "SPL852"}
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[A-Z]{2,4}\d{3}", code) for code in codes)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_every_check_explains_itself_in_one_sentence(check):
    assert check.title and not check.title.endswith(".")
    assert check.why.endswith(".") and check.why.count(". ") == 0
    assert type(check).__doc__.startswith(f"{check.code}: ")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.code)
def test_every_check_ends_well_on_a_data_set_without_a_readable_image(check):
    report = run_audit(
        data_set(entry("a/1.png", status="empty"), entry("b/1.png", status="unreadable")), settings=AuditSettings()
    )
    outcomes = {finding.code for finding in report.findings} | {end.code for end in report.silent}
    assert check.code in outcomes


def test_findings_are_complete_sentences_with_figures_fix_and_consequence(troubled):
    findings = audit(troubled).findings
    assert len(findings) >= 6
    for finding in findings:
        assert finding.message.endswith(".") and re.search(r"\d", finding.message)
        assert finding.fix.endswith(".") and finding.consequence.endswith(".") and finding.why.endswith(".")
        assert finding.evidence and all(piece.note for piece in finding.evidence)


# ---------------------------------------------------------------------------------------------------- the report


def test_findings_come_by_severity_then_code(troubled):
    assert [(finding.severity, finding.code) for finding in audit(troubled).findings] == [
        ("error", "IO101"),
        ("error", "LBL401"),
        ("error", "LEAK301"),
        ("warning", "BAL802"),
        ("warning", "BAL803"),
        ("warning", "DUP201"),
        ("warning", "IO103"),
        ("info", "BAL805"),
    ]


def test_checks_that_found_nothing_are_told_apart_from_checks_that_do_not_apply(troubled):
    report = audit(troubled)
    silent = {end.code: end for end in report.silent}
    assert silent["IO102"].outcome == "passed"
    assert silent["SPL852"].outcome == "not applicable"
    assert silent["SPL852"].reason == "the data set ships no readable validation part"
    assert {*silent} | {finding.code for finding in report.findings} == {check.code for check in CHECKS}
    assert len(silent) + len(report.findings) == len(CHECKS)


def test_what_follows_for_each_file(troubled):
    report = audit(troubled)
    assert report.leaked == {"test/cyst/leak.png"}
    assert report.quarantined == {"train/cyst/conflict.png", "train/healthy/conflict.png"}
    rows = {file.path: row for row, file in enumerate(troubled.files)}
    assert report.groups[rows["test/cyst/leak.png"]] == report.groups[rows["train/cyst/leak.png"]]
    assert len(set(report.groups)) == len(troubled) - 2
    assert (report.images, report.readable) == (114, 112)


def test_a_clean_data_set_has_nothing_but_information_on_its_size():
    report = audit(lifelike(*plain("cyst", 20), *plain("healthy", 20)))
    assert [(finding.severity, finding.code) for finding in report.findings] == [("info", "BAL803"), ("info", "BAL805")]
    assert {end.code for end in report.silent} == {check.code for check in CHECKS} - {"BAL803", "BAL805"}


def test_asking_and_judging_apart_is_auditing(troubled):
    settings = AuditSettings(accept=({"code": "LEAK301", "reason": "kept"},))
    assert judge(ask(troubled), settings, today=DAY) == run_audit(troubled, settings=settings, today=DAY)
    assert not any(finding.accepted for finding in ask(troubled).findings)
    assert judge(judge(ask(troubled), settings, today=DAY), settings, today=DAY) == judge(ask(troubled), settings, today=DAY)


def test_a_bad_pattern_for_patients_is_refused_with_its_key(troubled):
    with pytest.raises(StudyError) as error:
        run_audit(troubled, settings=AuditSettings(), patient="no group")
    assert [problem.key for problem in error.value.problems] == ["data.patient"]


def test_a_check_that_does_not_apply_is_never_a_pass(monkeypatch):
    class Unasked:
        code, title, why = "TST999", "A test", "It is a test."

        def run(self, context):
            raise NotApplicable("there is no such thing here")

    monkeypatch.setattr(sys.modules["vitrail.audit.run_audit"], "CHECKS", (Unasked(),))  # the door gives the function
    (end,) = audit(data_set(*plain("cyst", 2))).silent
    assert (end.outcome, end.reason) == ("not applicable", "there is no such thing here")


# ---------------------------------------------------------------------------------------------------- acceptance


def by_code(report: AuditReport, code: str):
    return next(finding for finding in report.findings if finding.code == code)


def test_an_acceptance_marks_its_finding_and_no_other(troubled):
    report = audit(troubled, {"code": "LEAK301", "reason": "kept to compare with older work"})
    assert by_code(report, "LEAK301").accepted == "kept to compare with older work"
    assert {finding.code for finding in report.unaccepted_errors()} == {"IO101", "LBL401"}


def test_an_acceptance_holds_on_its_last_day_and_then_ends_visibly(troubled):
    last = audit(troubled, {"code": "LEAK301", "reason": "for now", "until": DAY})
    assert by_code(last, "LEAK301").accepted == "for now"
    over = by_code(
        audit(troubled, {"code": "LEAK301", "reason": "for now", "until": DAY - datetime.timedelta(days=1)}), "LEAK301"
    )
    assert over.accepted == ""
    assert over.message.endswith("(The study's acceptance of this ended on 2030-06-14.)")


def test_of_several_acceptances_one_that_holds_is_enough(troubled):
    report = audit(troubled, {"code": "LEAK301", "reason": "over", "until": "2020-01-01"}, {"code": "LEAK301", "reason": "holds"})
    assert by_code(report, "LEAK301").accepted == "holds"
    assert "ended" not in by_code(report, "LEAK301").message


def test_unknown_codes_are_refused_all_at_once_with_the_known_ones(troubled):
    with pytest.raises(StudyError, match=r"Known: IO101, .*SPL852") as error:
        audit(
            troubled,
            {"code": "LEAK999", "reason": "typo"},
            {"code": "LEAK301", "reason": "fine"},
            {"code": "leak301", "reason": "case"},
        )
    assert [problem.key for problem in error.value.problems] == ["audit.accept[0].code", "audit.accept[2].code"]


def test_accepting_what_is_not_found_does_no_harm():
    clean = lifelike(*plain("cyst", 9), *plain("healthy", 9))
    assert audit(clean, {"code": "LEAK301", "reason": "in advance"}) == audit(clean)


def test_today_is_the_day_of_the_call_when_not_given(troubled):
    accept = {"code": "LEAK301", "reason": "for a day", "until": datetime.date.today() + datetime.timedelta(days=1)}
    assert by_code(run_audit(troubled, settings=AuditSettings(accept=(accept,))), "LEAK301").accepted == "for a day"


# ---------------------------------------------------------------------------------------------------- strict


def test_strict_stops_at_errors_and_says_what_to_do(troubled):
    with pytest.raises(AuditStopped) as stop:
        enforce(audit(troubled, {"code": "LBL401", "reason": "an expert has looked"}))
    text = str(stop.value)
    assert "2 errors" in text
    assert "1 of 9 test images (11.1 %) is byte-identical" in text
    assert "- {code: LEAK301, reason: why it is acceptable}" in text
    assert "LBL401" not in text and "DUP201" not in text


def test_strict_passes_warnings_and_accepted_errors(troubled):
    report = audit(troubled)
    enforce(replace(report, findings=tuple(replace(finding, accepted="known") for finding in report.findings)))
    enforce(replace(report, findings=tuple(finding for finding in report.findings if finding.severity != "error")))


# ---------------------------------------------------------------------------------------------------- --json


def test_the_summary_keeps_its_keys_and_is_json(troubled):
    plain_data = json.loads(json.dumps(summary(audit(troubled, {"code": "LBL401", "reason": "an expert has looked"}))))
    keys = {"images", "readable", "findings", "passed", "not_applicable", "quarantined", "leaked", "doubtful"}
    assert keys <= plain_data.keys()
    leak = next(finding for finding in plain_data["findings"] if finding["code"] == "LEAK301")
    assert leak.keys() >= {"code", "title", "severity", "count", "message", "why", "fix", "consequence", "accepted", "evidence"}
    assert leak["evidence"] == [
        {"paths": ["test/cyst/leak.png", "train/cyst/leak.png"], "note": "2 copies: cyst in test, cyst in train"}
    ]
    assert {"code": "IO102", "title": "Content is not what the extension says"} in plain_data["passed"]
    assert plain_data["not_applicable"][0].keys() == {"code", "title", "reason"}
    assert plain_data["quarantined"] == ["train/cyst/conflict.png", "train/healthy/conflict.png"]
