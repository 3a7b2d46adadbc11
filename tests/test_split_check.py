"""What the check of a split refuses, and what a split's file tells."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from split_data import Item, data_set, items_of, shipped, singles
from vitrail.errors import SplitError
from vitrail.records import AuditReport, Manifest, Split
from vitrail.split import check_split, load_split, make_split, save_split
from vitrail.study import SplitSettings

# ---------------------------------------------------------------------------------------------------- the check


@pytest.fixture
def drawn() -> tuple[Split, Manifest, AuditReport]:
    manifest, audit = data_set([*items_of({"cyst": [2] * 20, "healthy": [1] * 30}, 0), Item("cyst", 900, None, "unreadable")])
    return make_split(manifest, audit, settings=SplitSettings(), seed=0), manifest, audit


def moved(split: Split, row: int, part: str, note: str = "") -> Split:
    parts, notes = list(split.parts), list(split.notes)
    parts[row], notes[row] = part, note
    return replace(split, parts=tuple(parts), notes=tuple(notes))


def test_the_check_passes_what_was_drawn(drawn):
    check_split(*drawn)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_the_check_refuses_a_group_in_two_parts(drawn, part):
    split, manifest, audit = drawn
    row = next(
        row for row, file in enumerate(manifest.files) if file.label == "cyst" and split.parts[row] not in (part, "excluded")
    )
    with pytest.raises(SplitError, match="in two parts"):
        check_split(moved(split, row, part), manifest, audit)


def test_the_check_refuses_leaks_that_vitrail_itself_would_make(drawn):
    split, manifest, audit = drawn
    row = next(row for row, file in enumerate(manifest.files) if file.label == "cyst" and split.parts[row] == "train")
    with pytest.raises(SplitError, match="note"):
        check_split(moved(split, row, "test", "leaked"), manifest, audit)


def test_the_check_refuses_broken_or_silently_left_out_files(drawn):
    split, manifest, audit = drawn
    with pytest.raises(SplitError, match="unreadable and must be excluded"):
        check_split(moved(split, len(manifest) - 1, "train"), manifest, audit)
    with pytest.raises(SplitError, match="usable and must be in a part"):
        check_split(moved(split, 0, "excluded"), manifest, audit)


def test_the_check_refuses_quarantined_files_outside_a_shipped_test_part(drawn):
    split, manifest, audit = drawn
    row = int(split.rows("test")[0])
    audit = replace(audit, quarantined=frozenset({manifest.files[row].path}))
    with pytest.raises(SplitError, match="quarantined and must be excluded"):
        check_split(moved(split, row, "test", "quarantined"), manifest, audit)


def test_the_check_refuses_a_shipped_leak_without_its_note():
    manifest, audit = data_set([*shipped(), Item("cyst", 0, "test")])
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    with pytest.raises(SplitError, match="must be 'leaked'"):
        check_split(moved(split, len(manifest) - 1, "test", ""), manifest, audit)
    with pytest.raises(SplitError, match="in two parts"):  # the note is not even asked for when the audit knows of no leak
        check_split(moved(split, len(manifest) - 1, "test", ""), manifest, replace(audit, leaked=frozenset()))


def test_the_check_accepts_doubtful_crossings_only_where_the_audit_knows_them():
    items = [*shipped(), Item("cyst", 900, "test", doubtful=True), Item("cyst", 900, "train", doubtful=True)]
    manifest, audit = data_set(items)
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    row = len(manifest) - 2
    with pytest.raises(SplitError, match="must be 'doubtful'"):
        check_split(moved(split, row, "test", ""), manifest, audit)
    with pytest.raises(SplitError, match="must be ''"):
        check_split(split, manifest, replace(audit, doubtful=frozenset()))
    with pytest.raises(SplitError, match="slices of one volume or images of one patient"):
        check_split(moved(split, row, "test", ""), manifest, replace(audit, doubtful=frozenset()))


def test_the_check_refuses_a_test_image_called_leaked_to_get_rid_of_it():
    manifest, audit = data_set(shipped())
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    with pytest.raises(SplitError, match="note"):
        check_split(moved(split, int(split.rows("test")[0]), "test", "leaked"), manifest, audit)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_the_check_refuses_a_part_without_a_class_and_an_empty_part(part):
    manifest, audit = data_set([*singles("cyst", 9, start=0), *singles("healthy", 9, start=9)])
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    other = "train" if part != "train" else "test"
    for pattern, labels in (
        (f"{part} part has no usable image of class 'cyst'", {"cyst"}),
        (f"{part} part is empty", {"cyst", "healthy"}),
    ):
        emptied = split
        for row in split.rows(part):
            if manifest.files[row].label in labels:
                emptied = moved(emptied, int(row), other)
        with pytest.raises(SplitError, match=pattern):
            check_split(emptied, manifest, audit)


def test_the_check_refuses_other_groups_other_lengths_and_unknown_parts(drawn):
    split, manifest, audit = drawn
    with pytest.raises(SplitError, match="other groups"):
        check_split(split, manifest, replace(audit, groups=(*audit.groups[:-1], 0)))
    with pytest.raises(SplitError, match="about 70 files, the data set has 71"):
        check_split(replace(split, parts=split.parts[1:]), manifest, audit)
    with pytest.raises(SplitError, match="unknown part 'Train'"):
        check_split(moved(split, 0, "Train"), manifest, audit)


# ---------------------------------------------------------------------------------------------------- files


def test_a_split_comes_back_from_its_file(tmp_path, drawn):
    split, manifest, audit = drawn
    save_split(tmp_path / "split.csv", split, manifest)
    assert load_split(tmp_path / "split.csv", manifest, audit) == split


def test_the_file_is_a_plain_table(tmp_path, drawn):
    split, manifest, _ = drawn
    save_split(tmp_path / "split.csv", split, manifest)
    with (tmp_path / "split.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert list(table[0]) == ["path", "sha256", "label", "group", "part", "note"]
    assert [line["part"] for line in table] == list(split.parts)
    assert table[-1]["note"] == "unreadable"


def test_a_table_that_a_person_made_is_taken_and_called_given(tmp_path, drawn):
    split, manifest, audit = drawn
    save_split(tmp_path / "mine.csv", split, manifest)
    (tmp_path / "mine.origin.json").unlink()
    loaded = load_split(tmp_path / "mine.csv", manifest, audit)
    assert loaded.parts == split.parts
    assert loaded.origin == "as given in mine.csv, not drawn by vitrail"


def test_a_file_about_another_state_of_the_data_set_is_refused(tmp_path, drawn):
    split, manifest, audit = drawn
    path = tmp_path / "split.csv"
    save_split(path, split, manifest)
    first = manifest.files[0]
    fewer = replace(manifest, files=manifest.files[1:])
    changed = replace(manifest, files=(replace(first, sha256="f" * 64), *manifest.files[1:]))
    more = replace(manifest, files=(*manifest.files, replace(first, path="z.png")))
    for other, words in ((fewer, "in it and not"), (changed, "other bytes"), (more, "not in it, first z.png")):
        with pytest.raises(SplitError, match=words):
            load_split(path, other, audit)


def test_an_edited_file_that_lets_a_group_cross_is_refused(tmp_path, drawn):
    split, manifest, audit = drawn
    path = tmp_path / "split.csv"
    row = next(row for row, file in enumerate(manifest.files) if file.label == "cyst" and split.parts[row] == "train")
    save_split(path, moved(split, row, "test"), manifest)
    with pytest.raises(SplitError, match="in two parts"):
        load_split(path, manifest, audit)


@pytest.mark.parametrize(
    "content",
    ["", "path\na.png\n", "path,part,part\na.png,train,test\n", "path,sha256,label,group,part,note\na.png,train\n", "\xff\xfe"],
)
def test_a_file_that_is_no_split_is_refused(tmp_path, drawn, content):
    _, manifest, audit = drawn
    path = tmp_path / "split.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(SplitError, match=r"split\.csv"):
        load_split(path, manifest, audit)
    with pytest.raises(SplitError, match="cannot be read"):
        load_split(tmp_path / "none.csv", manifest, audit)


def test_lines_that_repeat_a_file_are_refused(tmp_path, drawn):
    split, manifest, audit = drawn
    path = tmp_path / "split.csv"
    save_split(path, split, manifest)
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(SplitError, match="1 lines repeat"):
        load_split(path, manifest, audit)


def test_a_broken_origin_is_refused(tmp_path, drawn):
    split, manifest, audit = drawn
    save_split(tmp_path / "split.csv", split, manifest)
    (tmp_path / "split.origin.json").write_text("{")
    with pytest.raises(SplitError, match=r"split\.origin\.json"):
        load_split(tmp_path / "split.csv", manifest, audit)
