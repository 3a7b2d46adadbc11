"""The audit in the terminal: a table, and where to read on."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitrail.audit.fixes import Fix, apply_fixes
from vitrail.audit_folder import AuditPaths
from vitrail.output import print_audit
from vitrail.records import AuditReport, Finding, ImageFile, Manifest


def finding(code: str, severity: str, message: str, *, accepted: str = "", count: int = 1234) -> Finding:
    return Finding(code, "Title", severity, count, message, "Why.", "Fix.", "Does.", (), accepted)  # type: ignore[arg-type]


def manifest_of(*labels: str) -> Manifest:
    files = tuple(ImageFile(f"{label}/1.png", label, None, 9, "0", "readable") for label in labels)
    return Manifest(Path("scans [x]"), tuple(sorted(labels)), files, Path("t.npy"), Path("f.npy"))


REPORT = AuditReport(
    2,
    2,
    (
        finding("LEAK301", "error", "88 of 394 test images of [class] :x: leak."),
        finding("DUP201", "warning", "237 copies.", accepted="known [for] years"),
        finding("IO105", "info", "3 images of unusual form."),
    ),
    (),
    (0, 1),
    frozenset(),
    frozenset(),
)


@pytest.fixture(autouse=True)
def _plain(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")


def printed(capsys, saved: AuditPaths | None = None, report: AuditReport = REPORT) -> list[str]:
    print_audit(manifest_of("cyst", "[bold]"), report, saved)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    return [line.rstrip() for line in out.splitlines()]


def test_findings_are_a_table_in_the_order_of_the_report(capsys):
    lines = printed(capsys)
    assert lines[0] == "scans [x]: 2 images ([bold] 1, cyst 1)"
    assert lines[2].split() == ["severity", "code", "count", "finding"]
    assert lines[4].split(maxsplit=3) == ["error", "LEAK301", "1,234", "88 of 394 test images of [class] :x: leak."]
    assert lines[5].split(maxsplit=3) == ["warning", "DUP201", "1,234", "237 copies."]
    assert lines[6].strip() == "accepted: known [for] years"
    assert lines[7].split(maxsplit=3) == ["note", "IO105", "1,234", "3 images of unusual form."]
    assert "vitrail audit --explain LEAK301" in lines[-2]


@pytest.mark.parametrize("columns", [24, 40, 60])
def test_a_narrow_terminal_gets_one_finding_below_the_other(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = printed(capsys)
    assert "error LEAK301 (1,234)" in lines
    assert "note IO105 (1,234)" in lines
    start = lines.index("error LEAK301 (1,234)")
    message = lines[start + 1 : lines.index("warning DUP201 (1,234)")]
    assert all(len(line) <= columns and line.startswith("  ") for line in message)
    assert " ".join(" ".join(message).split()) == "88 of 394 test images of [class] :x: leak."


def test_the_places_stand_on_lines_that_are_not_broken(capsys):
    folder = Path("/a/rather/long/place/of/the/output/folder/with/[brackets]/and/more/of/them/audits/brain")
    fixes = (Fix("a", "exclude"), Fix("b", "review"), Fix("c", "exclude"))
    lines = printed(capsys, AuditPaths(folder / "audit.html", folder / "audit.json", folder / "fixes.csv", fixes))
    assert f"Page   {folder}/audit.html" in lines
    assert f"JSON   {folder}/audit.json" in lines
    assert f"Fixes  {folder}/fixes.csv (2 to exclude, 1 to review)" in lines


def test_a_list_that_was_left_alone_is_told(capsys):
    folder = Path("out")
    kept = AuditPaths(
        folder / "a.html", folder / "a.json", folder / "fixes-new.csv", (Fix("a", "exclude"),), folder / "fixes.csv"
    )
    lines = printed(capsys, kept)
    assert "Fixes  out/fixes.csv is in use or was changed by hand, and stays as it is" in lines
    assert "New    out/fixes-new.csv (1 to exclude)" in lines


def test_nothing_found_is_told(capsys):
    clean = AuditReport(2, 2, (), (), (0, 1), frozenset(), frozenset())
    paths = AuditPaths(Path("a.html"), Path("a.json"), Path("fixes.csv"), ())
    lines = printed(capsys, paths, clean)
    assert "No findings." in lines
    assert "Fixes  fixes.csv (nothing proposed)" in lines
    assert not [line for line in lines if "--explain" in line]


def test_very_many_classes_are_counted(capsys):
    print_audit(manifest_of(*(f"c{number:03d}" for number in range(100))), REPORT)
    assert "c029 1 and 70 more)" in capsys.readouterr().out


def test_what_the_list_of_fixes_leaves_out_is_told(capsys):
    manifest = manifest_of("cyst", "healthy")
    fixed = apply_fixes(manifest, [Fix("cyst/1.png", "exclude")])
    print_audit(fixed, REPORT)
    assert "2 images (cyst 1, healthy 1), 1 of them left out by the list of fixes" in capsys.readouterr().out
