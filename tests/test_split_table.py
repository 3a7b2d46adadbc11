"""A split that a person made in a spreadsheet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from split_data import Item, data_set, items_of, shipped
from vitrail.errors import SplitError
from vitrail.records import AuditReport, Manifest
from vitrail.split import load_split, make_split
from vitrail.study import SplitSettings


@pytest.fixture
def known() -> tuple[Manifest, AuditReport]:
    return data_set([*items_of({"cyst": [2] * 20, "healthy": [1] * 30}, 0), Item("cyst", 900, None, "unreadable")])


def wanted(manifest: Manifest, audit: AuditReport) -> dict[str, str]:
    """Return an honest choice of parts for every usable file."""
    split = make_split(manifest, audit, settings=SplitSettings(), seed=3)
    return {file.path: part for file, part in zip(manifest.files, split.parts, strict=True) if part != "excluded"}


def written(folder, choice, *, head="path,part", line="{path},{part}", end="\n", encoding="utf-8"):
    path = folder / "mine.csv"
    lines = [head, *(line.format(path=name, part=part) for name, part in choice.items())]
    path.write_bytes("".join(f"{text}{end}" for text in lines).encode(encoding))
    return path


def test_two_columns_suffice(tmp_path, known):
    choice = wanted(*known)
    split = load_split(written(tmp_path, choice), *known)
    assert {file.path: part for file, part in zip(known[0].files, split.parts, strict=True)} == {
        **choice,
        known[0].files[-1].path: "excluded",
    }
    assert split.notes[-1] == "unreadable"
    assert split.origin == "as given in mine.csv, not drawn by vitrail"


@pytest.mark.parametrize(
    "form",
    [
        {"head": "Path;Part", "line": "{path};{part}", "end": "\r\n", "encoding": "utf-8-sig"},
        {"head": "PATH\tPART\tremark", "line": "{path}\t{part}\t, ;"},
        {"line": " ./{path} , {part} "},
        {"line": ".\\{path},{part}"},
        {"line": "images/{path},{part}"},
        {"head": "part,path", "line": "{part},{path}", "end": "\n\n"},
    ],
)
def test_what_spreadsheets_write_is_understood(tmp_path, known, form):
    choice = wanted(*known)
    assert load_split(written(tmp_path, choice, **form), *known) == load_split(written(tmp_path, choice), *known)


def test_the_usual_names_of_parts_are_understood(tmp_path, known):
    choice = wanted(*known)
    names = {"train": "Training", "validation": "VAL", "test": "Testing"}
    loud = {path: names[part] for path, part in choice.items()}
    assert load_split(written(tmp_path, loud), *known).parts == load_split(written(tmp_path, choice), *known).parts


def test_files_that_no_split_may_use_are_excluded_whatever_the_table_says(tmp_path, known):
    manifest, audit = known
    choice = wanted(*known)
    first = next(path for path, part in choice.items() if part == "train" and "healthy" in path)
    split = load_split(
        written(tmp_path, {**choice, manifest.files[-1].path: "train"}), manifest, replace(audit, quarantined=frozenset({first}))
    )
    row = [file.path for file in manifest.files].index(first)
    assert (split.parts[-1], split.parts[row], split.notes[row]) == ("excluded", "excluded", "quarantined")


def test_a_table_that_keeps_the_shipped_test_part_gets_its_notes(tmp_path):
    items = [
        *shipped(),
        Item("cyst", 0, "test"),
        Item("cyst", 900, "test", doubtful=True),
        Item("cyst", 900, "train", doubtful=True),
    ]
    known = data_set(items)
    drawn = make_split(*known, settings=SplitSettings(), seed=3)
    loaded = load_split(written(tmp_path, wanted(*known)), *known)
    assert (loaded.parts, loaded.notes) == (drawn.parts, drawn.notes)
    assert sorted(set(loaded.notes)) == ["", "doubtful", "leaked"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train": "trian"}, "has part 'trian'. The parts are train, validation and test"),
        ({"train": ""}, "is usable and has no part.*data.fixes"),
        ({"validation": "train"}, "validation part is empty"),
    ],
)
def test_wrong_parts_are_refused_in_words_about_the_table(tmp_path, known, change, words):
    choice = {path: change.get(part, part) for path, part in wanted(*known).items()}
    with pytest.raises(SplitError, match=words):
        load_split(written(tmp_path, choice), *known)


def test_a_table_that_lets_a_group_cross_is_refused(tmp_path, known):
    choice = wanted(*known)
    copy = next(path for path, part in choice.items() if part == "train" and "cyst" in path)
    with pytest.raises(SplitError, match="belong together"):
        load_split(written(tmp_path, {**choice, copy: "test"}), *known)


def test_missing_unknown_and_repeated_files_are_refused_with_an_example(tmp_path, known):
    choice = wanted(*known)
    first = next(iter(choice))
    fewer = {path: part for path, part in choice.items() if path != first}
    with pytest.raises(SplitError, match=rf"1 files are not in it, first {first}.*Paths are relative to images, for example"):
        load_split(written(tmp_path, fewer), *known)
    with pytest.raises(SplitError, match=r"1 files are in it and not.* first other/x\.png"):
        load_split(written(tmp_path, {**choice, "other/x.png": "train"}), *known)
    with pytest.raises(SplitError, match=f"several lines for {first}"):
        load_split(written(tmp_path, {**choice, f"./{first}": "train"}), *known)


def test_labels_and_hashes_are_compared_where_the_table_has_them(tmp_path, known):
    path = written(tmp_path, wanted(*known), head="path,part,label", line="{path},{part},cyst")
    with pytest.raises(SplitError, match="other bytes or another label"):
        load_split(path, *known)
