"""The page of an audit: it needs nothing from outside, believes no name, says what the audit says, and stays bounded."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from html_page import Page, assert_can_be_read_aloud, assert_loads_nothing, assert_well_formed

from vitrail.audit.fixes import Fix, apply_fixes
from vitrail.errors import OutputError
from vitrail.records import AuditReport, Evidence, Finding, Manifest, RunResult
from vitrail.reporting import write_audit_page
from vitrail.study import Acceptance


def written(manifest: Manifest, report: AuditReport, folder: Path, **more: object) -> tuple[str, Page]:
    path = folder / "audit.html"
    write_audit_page(manifest, report, path, name="brain-demo", **more)  # type: ignore[arg-type]
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def finding_of(code: str, *evidence: Evidence, severity: str = "warning", accepted: str = "") -> Finding:
    return Finding(
        code,
        f"Title {code}",
        severity,  # type: ignore[arg-type]
        len(evidence),
        f"Message {code}.",
        f"Why {code}.",
        f"Fix {code}.",
        f"Does {code}.",
        evidence,
        accepted,
    )


def with_findings(result: RunResult, *findings: Finding) -> AuditReport:
    return replace(result.audit, findings=findings)


def article(html: str, code: str) -> str:
    return html[html.index(f'id="{code}"') :].partition("</article>")[0]


@pytest.fixture(scope="module")
def shared(result: RunResult, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    """The page of an ordinary audit, written once."""
    return written(result.manifest, result.audit, tmp_path_factory.mktemp("audit"))


def test_the_page_loads_nothing_is_well_formed_and_can_be_read_aloud(shared: tuple[str, Page]) -> None:
    html, page = shared
    assert_loads_nothing(html, page)
    assert_well_formed(page)
    assert_can_be_read_aloud(page)


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "a\"'onload=x></style></svg><b>&amp;"])
def test_hostile_names_and_texts_stay_text(result: RunResult, tmp_path: Path, hostile: str) -> None:
    files = tuple(replace(file, label=hostile, path=f"{hostile}/{file.path}") for file in result.manifest.files)
    manifest = replace(result.manifest, files=files, classes=(hostile,))
    strange = finding_of("IO101", Evidence((files[0].path, files[1].path), hostile), Evidence((), f"{hostile}: {hostile}"))
    report = with_findings(result, replace(strange, message=hostile, why=hostile, fix=hostile, title=hostile, accepted=hostile))
    html, page = written(manifest, report, tmp_path)
    assert "<script" not in html
    assert html.count("</style>") == 1
    assert page.mismatched == []
    assert not page.all("b")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count(hostile) > 15


def test_the_headline_counts_images_classes_parts_and_findings(shared: tuple[str, Page]) -> None:
    _, page = shared
    assert "117 images · 3 classes · 3 parts" in page.text
    assert "The audit found 1 error, 1 warning and 1 note, of which the study accepts 1." in page.text
    assert "not to be trusted as they stand" in page.text


@pytest.mark.parametrize(
    ("severity", "accepted", "words"),
    [
        ("error", "", "not to be trusted as they stand"),
        ("error", "known", "Nothing needs to be done"),
        ("warning", "", "look at the warnings"),
        ("info", "", "Nothing needs to be done"),
    ],
)
def test_what_the_numbers_mean_follows_from_what_is_not_accepted(
    result: RunResult, tmp_path: Path, severity: str, accepted: str, words: str
) -> None:
    found = finding_of("DUP201", Evidence((), "n"), severity=severity, accepted=accepted)
    _, page = written(result.manifest, with_findings(result, found), tmp_path)
    assert words in page.text


def test_nothing_found_is_said_and_not_taken_for_a_proof(result: RunResult, tmp_path: Path) -> None:
    html, page = written(result.manifest, with_findings(result), tmp_path)
    assert "The audit found nothing." in page.text
    assert "no proof that all is well" in page.text
    assert "not applicable: no DICOM files" in page.text
    assert_well_formed(page)
    assert 'class="index"' not in html


def test_classes_are_counted_per_part_with_bars_to_scale(shared: tuple[str, Page]) -> None:
    html, _ = shared
    table = html[html.index("<caption>Readable images per class and part") :].partition("</table>")[0]
    rows = [re.findall(r"<td>([\d,]+)</td>", row) for row in table.split("<tr")]
    assert [row for row in rows if row] == [
        ["24", "6", "9", "1", "40"],
        ["30", "7", "10", "0", "47"],
        ["18", "5", "7", "0", "30"],
        ["72", "18", "26", "1", "117"],
    ]
    widths = [float(width) for width in re.findall(r'style="width:([\d.]+)%"', table)]
    expected = [100 * count / 47 for count in (24, 6, 9, 30, 7, 10, 18, 5, 7)]
    assert widths == pytest.approx(expected, abs=0.01)


def test_a_folder_without_parts_has_one_column(result: RunResult, tmp_path: Path) -> None:
    files = tuple(replace(file, part=None) for file in result.manifest.files if file.readable)
    html, page = written(replace(result.manifest, files=files), with_findings(result), tmp_path)
    table = html[html.index("<caption>Readable images per class and part") :].partition("</table>")[0]
    assert re.findall(r'<th scope="col">([^<]+)</th>', table) == ["Class", "Images"]
    assert "the folder ships no split" in page.text


def test_what_the_list_of_fixes_leaves_out_is_counted(result: RunResult, tmp_path: Path) -> None:
    gone = [file.path for file in result.manifest.files if file.readable][:5]
    manifest = apply_fixes(result.manifest, [Fix(path, "exclude") for path in gone])
    html, page = written(manifest, with_findings(result), tmp_path)
    assert "readable, 5 left out" in page.text
    table = html[html.index("<caption>Readable images per class and part") :].partition("</table>")[0]
    assert "Left out" in table
    assert re.findall(r"<td>([\d,]+)</td>", table.split("<tr")[-1])[-3:] == ["1", "5", "117"]


def test_copies_stand_side_by_side_with_class_part_path_and_note(shared: tuple[str, Page]) -> None:
    html, _ = shared
    part = article(html, "LEAK301")
    pairs = re.findall(r'<ul class="pair">(.*?)</ul>\s*<p class="seen">(.*?)</p>', part, re.DOTALL)
    assert len(pairs) == 7
    for pictures, note in pairs:
        assert pictures.count("<img ") == 2
        assert " · test</span>" in pictures
        assert " · train</span>" in pictures
        assert note == "2 copies: one in test, one in train, mirrored"
    sizes = set(re.findall(r'width="(\d+)" height="(\d+)"', part))
    assert sizes == {("128", "128"), ("102", "128")}  # each at its own proportions


def test_single_images_stand_as_a_strip_in_their_order_and_the_rest_is_folded(result: RunResult, tmp_path: Path) -> None:
    paths = [file.path for file in result.manifest.files if file.readable][:40]
    found = finding_of("LBL402", *(Evidence((path,), f"rank {number}") for number, path in enumerate(paths)))
    html, page = written(result.manifest, with_findings(result, found), tmp_path)
    part = article(html, "LBL402")
    before, _, folded = part.partition("28 more with pictures")
    assert re.findall(r'<p class="seen">rank (\d+)</p>', before) == [str(number) for number in range(12)]
    assert re.findall(r'<p class="seen">rank (\d+)</p>', folded) == [str(number) for number in range(12, 40)]
    assert "listed by path" not in page.text
    assert part.count('<ul class="evidence single">') == 2


def test_evidence_without_pictures_is_a_table(result: RunResult, tmp_path: Path) -> None:
    classes = finding_of("SHC501", Evidence((), "glioma: median 13 kB"), Evidence((), "healthy: median 41 kB"))
    plain = finding_of("IO108", Evidence((), "folder: passed over"), Evidence((), "another folder"))
    broken = finding_of("IO103", Evidence(("train/glioma/torn.png",), "empty"))
    html, _ = written(result.manifest, with_findings(result, classes, plain, broken), tmp_path)
    assert re.findall(r'<th scope="row"><bdi>(\w+)</bdi></th><td>(.*?)</td>', article(html, "SHC501")) == [
        ("glioma", "median 13 kB"),
        ("healthy", "median 41 kB"),
    ]
    assert re.findall(r"<tr><td>(.*?)</td></tr>", article(html, "IO108")) == ["folder: passed over", "another folder"]
    row = re.search(r'<code class="path">(.*?)</code></th><td>(.*?)</td><td>(.*?)</td><td>(.*?)</td>', article(html, "IO103"))
    assert row is not None
    assert row.groups() == ("train/<wbr>glioma/<wbr>torn.png", "glioma", "train", "empty")
    assert "<img" not in article(html, "IO103")


def test_a_crowd_of_copies_shows_one_of_each_folder_and_counts_the_others(result: RunResult, tmp_path: Path) -> None:
    trained = [file.path for file in result.manifest.files if file.path.startswith("train/healthy/")][:8]
    tested = next(file.path for file in result.manifest.files if file.path.startswith("test/healthy/"))
    files = tuple(replace(file, sha256="same") for file in result.manifest.files)
    crowd = finding_of("DUP201", Evidence((*trained, tested), "9"))
    html, _ = written(replace(result.manifest, files=files), with_findings(result, crowd), tmp_path)
    part = article(html, "DUP201")
    assert re.findall(r"· (\w+)</span>", part) == ["train", "test"]
    assert "(7 files not pictured)" in part
    assert all(path.replace("/", "/<wbr>") in part for path in trained)  # in the folded list


def test_different_images_of_one_piece_are_shown_four_at_a_time(result: RunResult, tmp_path: Path) -> None:
    trained = tuple(file.path for file in result.manifest.files if file.path.startswith("train/healthy/"))[:6]
    found = finding_of("SHC501", Evidence(trained, "healthy: the clearest images"))
    html, _ = written(result.manifest, with_findings(result, found), tmp_path)
    assert article(html, "SHC501").count("<img ") == 4
    assert "(2 files not pictured)" in article(html, "SHC501")


def test_notes_that_the_message_says_already_get_no_table(result: RunResult, tmp_path: Path) -> None:
    found = replace(finding_of("BAL802", Evidence((), "cyst 17")), message="1 class with few test images: cyst 17.")
    html, _ = written(result.manifest, with_findings(result, found), tmp_path)
    assert "<table" not in article(html, "BAL802")


def test_tables_and_pictures_of_one_finding_stand_together(result: RunResult, tmp_path: Path) -> None:
    path = next(file.path for file in result.manifest.files if file.readable)
    mixed = finding_of("SHC504", Evidence((), "glioma: 3 % with text"), Evidence((path,), "text in the corner"))
    html, _ = written(result.manifest, with_findings(result, mixed), tmp_path)
    assert "3 % with text</td>" in article(html, "SHC504")
    assert article(html, "SHC504").count("<img ") == 1


def test_every_finding_has_all_its_words_and_its_explanation_is_folded(shared: tuple[str, Page], result: RunResult) -> None:
    html, page = shared
    for found in result.audit.findings:
        for words in (found.message, found.why, found.fix, found.consequence, found.title):
            assert words in page.text
    explained = article(html, "LEAK301")
    assert "<summary>What this means, from the beginning</summary>" in explained
    assert "A model learns from the training images" in explained.partition("<details")[2]


def test_an_acceptance_is_shown_with_its_reason_and_its_last_day(result: RunResult, tmp_path: Path) -> None:
    found = finding_of("DUP201", Evidence((), "n"), accepted="checked by hand")
    accepted = (
        Acceptance.model_validate({"code": "DUP201", "reason": "another reason", "until": "2020-01-01"}),
        Acceptance.model_validate({"code": "DUP201", "reason": "checked by hand", "until": "2099-12-31"}),
    )
    _, page = written(result.manifest, with_findings(result, found), tmp_path, accepted=accepted)
    assert "Accepted by the study until 2099-12-31checked by hand" in page.text  # a term, and what stands under it
    _, page = written(result.manifest, with_findings(result, found), tmp_path)
    assert "Accepted by the studychecked by hand" in page.text


def test_the_list_of_fixes_is_counted_and_named(result: RunResult, tmp_path: Path) -> None:
    fixes = [Fix("a", "exclude"), Fix("b", "exclude"), Fix("c", "review")]
    _, page = written(result.manifest, result.audit, tmp_path, fixes=fixes, fixes_file="fixes-new.csv")
    assert "fixes-new.csv beside this page proposes: 2 files to leave out, 1 file for a person to look at." in page.text
    _, page = written(result.manifest, result.audit, tmp_path)
    assert "fixes.csv" not in page.text


def test_a_large_audit_stays_small_and_says_what_it_leaves_out(result: RunResult, tmp_path: Path) -> None:
    paths = [file.path for file in result.manifest.files if file.readable]
    pairs = tuple(Evidence((paths[number % 100], paths[number % 99]), "0.99") for number in range(5000))
    crowd = Evidence(tuple(f"train/glioma/{number}.png" for number in range(20_000)), "20,000 copies")
    classes = tuple(Evidence((), f"class {number}: few") for number in range(1000))
    codes = [f"TST{number}" for number in range(100, 140)]
    found = [finding_of(code, *pairs) for code in codes] + [finding_of("IO101", crowd), finding_of("SHC507", *classes)]
    html, page = written(result.manifest, with_findings(result, *found), tmp_path)
    assert len(html) < 6_000_000
    assert len(page.all("img")) < 700
    assert article(html, "TST100").count("<img ") >= 12
    assert "4,800 more stand in audit.json beside this page." in page.text
    assert "19,950 more stand in audit.json beside this page." in page.text
    assert "800 more stand in audit.json beside this page." in page.text


def test_very_many_classes_are_cut_and_counted(result: RunResult, tmp_path: Path) -> None:
    one = next(file for file in result.manifest.files if file.readable)
    files = tuple(replace(one, path=f"c{number}/1.png", label=f"c{number:03d}") for number in range(250))
    manifest = replace(result.manifest, files=files, classes=tuple(file.label for file in files))
    _, page = written(manifest, with_findings(result), tmp_path)
    assert "50 more classes are counted in the last line only." in page.text


def test_missing_thumbnails_leave_a_mark(result: RunResult, tmp_path: Path) -> None:
    manifest = replace(result.manifest, thumbnails_path=tmp_path / "gone.npy")
    _, page = written(manifest, result.audit, tmp_path)
    assert "no preview" in page.text
    assert not page.all("img")


def test_a_folder_in_which_nothing_can_be_read_has_a_page(result: RunResult, tmp_path: Path) -> None:
    files = tuple(replace(file, status="unreadable") for file in result.manifest.files)
    _, page = written(replace(result.manifest, files=files), result.audit, tmp_path)
    assert "no readable image" in page.text
    assert_well_formed(page)


def test_the_same_audit_gives_the_same_bytes_and_no_place_of_this_machine(
    result: RunResult, shared: tuple[str, Page], tmp_path: Path
) -> None:
    html, _ = written(result.manifest, result.audit, tmp_path)
    assert html == shared[0]
    assert str(result.manifest.root) not in html


def test_the_page_is_written_whole_or_not_at_all(result: RunResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write here"):
        write_audit_page(result.manifest, result.audit, tmp_path / "file" / "audit.html", name="x")


def test_it_needs_no_plotting_library_nor_what_training_needs() -> None:
    heavy = "{'matplotlib', 'torch', 'sklearn', 'pandas', 'onnxruntime', 'mlflow'}"
    programme = f"import sys; from vitrail.reporting import write_audit_page; print(sorted(set(sys.modules) & {heavy}))"
    done = subprocess.run([sys.executable, "-c", programme], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
