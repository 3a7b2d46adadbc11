"""The list of fixes: what is proposed, the file, its effect."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.audit.fixes import ACTIONS, RULES, Fix, apply_fixes, fixes_to_csv, propose_fixes, read_fixes, write_fixes
from vitrail.errors import DataError
from vitrail.records import AuditReport, CheckOutcome, Evidence, Finding, ImageFile, Manifest


def image(path: str, *, side: int = 10, size: int = 100) -> ImageFile:
    part, label = path.split("/")[-3:-1] if path.count("/") > 1 else (None, path.split("/")[0])
    return ImageFile(path, label, part, size, "0" * 64, "readable", width=side, height=side)  # type: ignore[arg-type]


def manifest_of(*files: ImageFile) -> Manifest:
    classes = tuple(sorted({file.label for file in files}))
    return Manifest(Path("images"), classes, files, Path("thumbnails.npy"), Path("facts.npy"))


def found(code: str, *pieces: tuple[str, ...], note: str = "seen", accepted: str = "") -> Finding:
    evidence = tuple(Evidence(paths, note) for paths in pieces)
    return Finding(code, f"Title of {code}", "error", len(pieces), "1 thing.", "Why.", "Fix.", "What.", evidence, accepted)


def report_of(*findings: Finding, not_asked: tuple[str, ...] = ()) -> AuditReport:
    silent = tuple(CheckOutcome(code, code, "not applicable", "because") for code in not_asked)
    return AuditReport(0, 0, findings, silent, (), frozenset(), frozenset())


def actions(fixes: tuple[Fix, ...]) -> dict[str, str]:
    assert len({fix.path for fix in fixes}) == len(fixes)
    return {fix.path: fix.action for fix in fixes}


# ---------------------------------------------------------------------------------------------------- proposals


def test_of_copies_in_one_part_the_largest_stays_and_of_equals_the_first():
    data = manifest_of(image("train/a/1.png"), image("train/a/2.png", side=20), image("train/a/3.png", side=20))
    fixes = propose_fixes(data, report_of(found("DUP202", ("train/a/1.png", "train/a/3.png", "train/a/2.png"))))
    assert actions(fixes) == {"train/a/1.png": "exclude", "train/a/3.png": "exclude"}
    assert {fix.reason for fix in fixes} == {"copy of train/a/2.png"}
    assert {fix.code for fix in fixes} == {"DUP202"}


def test_of_copies_across_parts_the_test_image_stays_and_the_training_images_go():
    data = manifest_of(*map(image, ("test/a/t.png", "train/a/1.png", "train/a/2.png", "validation/a/v.png")))
    group = tuple(file.path for file in data.files)
    fixes = propose_fixes(data, report_of(found("LEAK301", group), found("DUP201", group)))
    assert actions(fixes) == dict.fromkeys(("train/a/1.png", "train/a/2.png", "validation/a/v.png"), "exclude")
    assert {fix.code for fix in fixes} == {"LEAK301"}


def test_of_copies_in_validation_and_training_the_validation_image_stays():
    data = manifest_of(*map(image, ("train/a/1.png", "validation/a/v.png")))
    group = tuple(file.path for file in data.files)
    fixes = propose_fixes(data, report_of(found("LEAK306", group), found("DUP201", group), not_asked=("LEAK301",)))
    assert actions(fixes) == {"train/a/1.png": "exclude"}


def test_an_accepted_leak_keeps_a_copy_on_either_side():
    data = manifest_of(*map(image, ("test/a/t.png", "train/a/1.png", "train/a/2.png")))
    group = tuple(file.path for file in data.files)
    fixes = propose_fixes(data, report_of(found("LEAK301", group, accepted="compared with older work"), found("DUP201", group)))
    assert actions(fixes) == {"train/a/2.png": "exclude"}


def test_where_the_study_draws_all_parts_anew_one_copy_stays_in_all():
    data = manifest_of(*map(image, ("test/a/t.png", "train/a/1.png", "validation/a/v.png")))
    group = tuple(file.path for file in data.files)
    fixes = propose_fixes(data, report_of(found("DUP201", group), not_asked=("LEAK301", "LEAK306")))
    assert actions(fixes) == {"train/a/1.png": "exclude", "validation/a/v.png": "exclude"}


def test_chained_pairs_leave_the_best_of_the_chain():
    data = manifest_of(image("a/1.png", side=10), image("a/2.png", side=30), image("a/3.png", side=20))
    fixes = propose_fixes(data, report_of(found("DUP202", ("a/1.png", "a/2.png"), ("a/2.png", "a/3.png"))))
    assert actions(fixes) == {"a/1.png": "exclude", "a/3.png": "exclude"}


def test_copies_with_different_labels_all_go_and_near_copies_with_different_labels_are_for_a_person():
    data = manifest_of(*map(image, ("a/1.png", "b/1.png", "a/2.png", "b/2.png")))
    fixes = propose_fixes(
        data,
        report_of(
            found("LBL401", ("a/1.png", "b/1.png")), found("DUP202", ("a/1.png", "b/1.png"), ("a/2.png", "b/2.png"), note="0.99")
        ),
    )
    assert actions(fixes) == {"a/1.png": "exclude", "b/1.png": "exclude", "a/2.png": "review", "b/2.png": "review"}
    assert fixes[-1].reason == "labels differ: 0.99"


def test_an_exclusion_stands_before_a_review_of_the_same_file():
    data = manifest_of(*map(image, ("a/1.png", "a/2.png", "a/3.png")))
    fixes = propose_fixes(
        data, report_of(found("LBL402", ("a/3.png",), ("a/1.png",)), found("QLT601", ("a/1.png",)), found("SHC501", ("a/2.png",)))
    )
    assert [(fix.path, fix.action, fix.code) for fix in fixes] == [
        ("a/1.png", "exclude", "QLT601"),
        ("a/3.png", "review", "LBL402"),
    ]


@pytest.mark.parametrize("code", RULES)
def test_accepted_findings_and_files_that_are_not_there_propose_nothing(code):
    data = manifest_of(*map(image, ("test/a/1.png", "train/a/1.png")))
    paths = tuple(file.path for file in data.files)
    assert propose_fixes(data, report_of(found(code, paths, accepted="known"))) == ()
    assert propose_fixes(data, report_of(found(code, ("gone.png", "train/x/y.png"), ()))) == ()


# ---------------------------------------------------------------------------------------------------- the file


CELLS = st.text(alphabet="ab=+-@'\t\r\n,;\"é \udce9", max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, st.sampled_from(ACTIONS), CELLS, CELLS, CELLS), max_size=5))
def test_what_is_written_is_read_again(tmp_path_factory, rows):
    fixes = tuple(
        Fix(f"{number}{path}" if number % 2 else f"{path}{number}", action, value.strip() or "v", code.strip(), reason.strip())
        for number, (path, action, value, code, reason) in enumerate(rows)
    )
    place = tmp_path_factory.mktemp("fixes") / "fixes.csv"
    write_fixes(place, fixes)
    assert read_fixes(place) == fixes


def test_no_cell_of_the_file_is_a_formula(tmp_path):
    place = tmp_path / "fixes.csv"
    fixes = tuple(Fix(f"{sign}cmd|'/c calc'!A1", "relabel", f"{sign}v", "LBL402", f"{sign}r") for sign in "=+-@\t\r")
    write_fixes(place, fixes)
    with place.open(encoding="utf-8", newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["path", "action", "value", "code", "reason"]
    assert len(rows) == 6
    assert not [cell for row in rows for cell in row if cell[:1] in "=+-@\t\r" and cell]
    assert [fix.path for fix in read_fixes(place)] == [fix.path for fix in fixes]


@pytest.mark.parametrize(
    "text",
    [
        "path,action,value,code,reason\na/é.png,exclude,,DUP201,copy\n",
        "\ufeffpath;action;value;code;reason\r\na/é.png;exclude;;DUP201;copy\r\n",
        "path\taction\tvalue\tcode\treason\na/é.png\tExclude\t\tDUP201\tcopy\n",
        'reason,"path",note,"action",code\ncopy,a/é.png,mine,exclude ,DUP201\n,,,,\n',
        "path,action,value,code,reason\n\na/é.png,exclude,,DUP201,copy,too,many\n",
    ],
)
def test_lists_that_spreadsheets_saved_are_understood(tmp_path, text):
    place = tmp_path / "fixes.csv"
    place.write_bytes(text.encode("utf-8"))
    assert read_fixes(place) == (Fix("a/é.png", "exclude", "", "DUP201", "copy"),)


def test_all_wrong_lines_are_named_at_once(tmp_path):
    place = tmp_path / "fixes.csv"
    place.write_text(
        "path,action,value\na,remove,\n,exclude,\nb,relabel,\nc,exclude,\nc,relabel,x\nd,exclude,\nd,keep,\ne,keep,\ne,exclude,\n"
    )
    with pytest.raises(DataError) as error:
        read_fixes(place)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{place}: 5 problems"
    assert lines[1] == "  - line 2: no such action. Known: exclude, relabel, review, keep. Found: 'remove'."
    assert lines[2] == "  - line 3: names no file in the column path."
    assert lines[3] == "  - line 4: relabel needs the new class in the column value."
    assert lines[4] == "  - line 6: relabel contradicts line 5 (exclude) for c."
    assert lines[5].startswith("  - line 8: keep contradicts line 7 (exclude) for d. A keep must stand above")
    assert len(lines) == 6


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "the first line must name the columns path, action"),
        (b"a/1.png,exclude\n", "Found: 'a/1.png,exclude'"),
        (b'path,action\n"' + b"x" * 200_000, "no CSV file from line"),
    ],
)
def test_what_is_no_list_of_fixes_is_refused(tmp_path, content, words):
    place = tmp_path / "fixes.csv"
    if content is not None:
        place.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_fixes(place)


# ---------------------------------------------------------------------------------------------------- the effect


@pytest.fixture
def data() -> Manifest:
    return manifest_of(*map(image, ("cyst/1.png", "cyst/2.png", "glioma/1.png", "healthy/1.png")))


def test_fixes_change_status_and_label_and_nothing_else(data):
    fixed = apply_fixes(
        data,
        (
            Fix("cyst/1.png", "exclude", code="DUP201", reason="copy of cyst/2.png"),
            Fix("cyst/2.png", "exclude"),
            Fix("glioma/1.png", "relabel", "healthy"),
            Fix("healthy/1.png", "review"),
        ),
    )
    assert [(file.status, file.problem, file.label) for file in fixed.files] == [
        ("excluded", "DUP201: copy of cyst/2.png", "cyst"),
        ("excluded", "left out by the list of fixes", "cyst"),
        ("readable", "", "healthy"),
        ("readable", "", "healthy"),
    ]
    assert fixed.classes == ("cyst", "healthy")
    assert fixed.labels.tolist() == [0, 0, 1, 1]
    assert replace(fixed, files=data.files, classes=data.classes) == data


def test_no_fixes_no_change(data):
    assert apply_fixes(data, ()) == data
    assert apply_fixes(data, [Fix("cyst/1.png", "review", reason="who knows")]) == data


def test_a_keep_holds_against_the_lines_below_it(data, tmp_path):
    place = tmp_path / "fixes.csv"
    place.write_text("path,action\ncyst/1.png,keep\ncyst/1.png,exclude\ncyst/2.png,review\ncyst/2.png,exclude\n")
    fixed = apply_fixes(data, read_fixes(place))
    assert [file.status for file in fixed.files] == ["readable", "excluded", "readable", "readable"]


def test_files_and_classes_that_are_not_known_are_all_named_with_their_lines(data, tmp_path):
    place = tmp_path / "fixes.csv"
    place.write_text("path,action,value\ncyst/9.png,exclude,\ncyst/1.png,relabel,tumor\ncyst/2.png,exclude,\n/x,review,\n")
    with pytest.raises(DataError) as error:
        apply_fixes(data, read_fixes(place), source="fixes.csv")
    assert str(error.value).splitlines() == [
        "fixes.csv: 3 problems",
        "  - line 2: no such file in the data set: cyst/9.png. Correct the path or delete the line.",
        "  - line 3: no such class. Known: cyst, glioma, healthy. Found: 'tumor'.",
        "  - line 5: no such file in the data set: /x. Correct the path or delete the line.",
    ]


def test_of_very_many_problems_the_first_are_named_and_the_others_counted(data):
    with pytest.raises(DataError) as error:
        apply_fixes(data, [Fix(f"gone/{number}.png", "exclude") for number in range(1234)])
    assert str(error.value).splitlines()[-1] == "  and 1,214 more"
    assert len(str(error.value).splitlines()) == 22


def test_bytes_are_the_same_every_time(data):
    report = report_of(found("DUP201", ("cyst/1.png", "cyst/2.png")), found("LBL402", ("glioma/1.png",)))
    assert fixes_to_csv(propose_fixes(data, report)) == fixes_to_csv(propose_fixes(data, report))
