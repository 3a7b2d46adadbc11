"""The command line on data of other forms, and what people tell it about them: fetch, audit, fixes, patients, splits."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_data import CLASSES, SMALL, answer, ask, kept, make_images, options, picture
from PIL import Image

from vitrail.audit import CHECKS
from vitrail.datasets import FRIENDLY_NAMES

FOREST = ("--models", "forest", *options(*SMALL[:3]))


def parts_of(run: dict) -> dict[str, dict[str, str]]:
    with (Path(run["run"]) / "split.csv").open(encoding="utf-8", newline="") as table:
        return {row["path"]: row for row in csv.DictReader(table)}


# ---------------------------------------------------------------------------------------------------- fetch


def test_fetch_lists_the_short_names():
    assert json.loads(ask("fetch", "--list", "--json").stdout) == FRIENDLY_NAMES
    lines = ask("fetch", "--list").stdout.splitlines()
    assert [line.split() for line in lines] == [list(item) for item in FRIENDLY_NAMES.items()]


@pytest.mark.parametrize("words", [["chest-xrai"], ["https://example.org/set"], []])
def test_fetch_refuses_what_it_does_not_know(tmp_path, words):
    result = ask("fetch", *words, "--to", tmp_path / "data", "--quiet")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("vitrail: ") and "kaggle:owner/" in result.stderr
    assert not (tmp_path / "data").exists()


# ---------------------------------------------------------------------------------------------------- audit --explain


def test_a_code_is_explained_without_any_data():
    result = ask("audit", "--explain", "leak302")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("LEAK302  Test images with a near or mirrored copy in training\n")
    assert "Why it matters" in result.stdout and "What it means" in result.stdout


def test_all_codes_are_listed():
    lines = ask("audit", "--explain", "all").stdout.splitlines()
    assert [line.split(maxsplit=1)[0] for line in lines] == sorted(check.code for check in CHECKS)


def test_an_unknown_code_is_refused_with_all_that_there_are():
    result = ask("audit", "--explain", "LEAK999")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "'LEAK999': no check has this code" in result.stderr
    assert "LEAK302" in result.stderr and "Traceback" not in result.stderr


def test_an_audit_of_nothing_is_refused():
    result = ask("audit")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--explain CODE" in result.stderr


# ---------------------------------------------------------------------------------------------------- audit


def test_an_audit_leaves_a_page_its_json_and_a_list_of_fixes(spoilt, tmp_path):
    found = answer("audit", spoilt[0], "--output", tmp_path)
    folder = tmp_path / "audits" / "shapes"
    assert {"audit.html", "audit.json", "fixes.csv"} <= {path.name for path in folder.iterdir()}
    assert json.loads((folder / "audit.json").read_text(encoding="utf-8")) == found
    page = (folder / "audit.html").read_text(encoding="utf-8")
    assert all(finding["code"] in page for finding in found["findings"])
    result = ask("audit", spoilt[0], "--output", tmp_path, "--quiet")
    assert re.sub(r"\s+", "", str(folder / "audit.html")) in re.sub(r"\s+", "", result.stdout)


def unplaced(found: dict) -> dict:
    """An audit without its words, in which names of folders and formats may stand."""
    return {finding["code"]: (finding["severity"], finding["count"]) for finding in found["findings"]}


def test_a_zip_of_the_folder_is_audited_like_the_folder(spoilt, tmp_path):
    packed = shutil.make_archive(str(tmp_path / "shapes"), "zip", spoilt[0])
    found = answer("audit", packed, "--output", tmp_path / "zip")
    assert unplaced(found) == unplaced(answer("audit", spoilt[0], "--output", tmp_path / "folder"))
    assert found["readable"] == 46
    assert not [path for path in tmp_path.iterdir() if path.name not in ("shapes.zip", "zip", "folder")]


def test_a_table_gives_classes_parts_and_patients(tmp_path):
    generator = np.random.default_rng(3)
    (tmp_path / "scans").mkdir()
    rows = ["file,diagnosis,split,patient"]
    for number in range(36):
        label = CLASSES[number % 3]
        Image.fromarray(picture(label, generator)).save(tmp_path / "scans" / f"{number:02d}.png")
        # two patients, 0 and 1, stand in both parts
        part, patient = ("test", number - 24) if number >= 24 else ("train", number)
        rows.append(f"{number:02d}.png,{label},{part},P{patient if patient < 2 else number}")
    (tmp_path / "scans" / "labels.csv").write_text("\n".join(rows) + "\n")
    found = answer("audit", tmp_path / "scans" / "labels.csv", "--output", tmp_path / "out")
    assert found["readable"] == 36
    (leak,) = [finding for finding in found["findings"] if finding["code"] == "LEAK303"]
    assert (leak["severity"], leak["count"]) == ("error", 2)
    assert found["leaked"] == ["24.png", "25.png"]
    strict = ask("audit", tmp_path / "scans" / "labels.csv", "--output", tmp_path / "out", "--strict", "--quiet")
    assert strict.exit_code == 3
    assert "LEAK303" in strict.stderr


# ---------------------------------------------------------------------------------------------------- patients


@pytest.mark.parametrize("verb", ["audit", "run"])
@pytest.mark.parametrize("pattern", ["person", "(a)(b)", "(person"])
def test_what_is_no_pattern_for_patients_is_refused_with_its_key(images, tmp_path, verb, pattern):
    result = ask(verb, images, "--set", f"data.patient={pattern}", "--output", tmp_path / "out", "--quiet")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "data.patient: must be a regular expression with one group" in result.stderr
    assert pattern in result.stderr and "Traceback" not in result.stderr
    assert not kept(tmp_path / "out")


def test_a_pattern_keeps_patients_on_one_side(tmp_path):
    folder = make_images(tmp_path / "shapes")
    for path in sorted(folder.rglob("*.png")):
        path.rename(path.with_name(f"who{int(path.stem) // 2}_{path.stem}.png"))
    run = answer("train", folder, "--output", tmp_path / "out", *FOREST, "--set", "data.patient=([a-z]+/who\\d+)_")
    parts: dict[str, set[str]] = {}
    for path, row in parts_of(run).items():
        parts.setdefault(path.rpartition("_")[0], set()).add(row["part"])
    assert len(parts) == 21
    assert all(len(sides) == 1 for sides in parts.values())


# ---------------------------------------------------------------------------------------------------- fixes, splits


def test_fixes_leave_out_and_rename_files_of_a_run(images, tmp_path):
    fixes = tmp_path / "fixes.csv"
    lines = ["path,action,value,code,reason", "flat/3.png,exclude,,,blurred", "round/5.png,relabel,stripes,,seen by an expert"]
    fixes.write_text("\n".join(lines) + "\n")
    run = answer("train", images, "--output", tmp_path / "out", *FOREST, "--set", f"data.fixes={fixes}")
    rows = parts_of(run)
    assert len(rows) == 42
    assert (rows["flat/3.png"]["part"], rows["flat/3.png"]["note"]) == ("excluded", "left out")
    assert rows["round/5.png"]["label"] == "stripes"
    assert [path for path, row in rows.items() if row["part"] == "excluded"] == ["flat/3.png"]
    assert run["audit"]["readable"] == 41


def test_fixes_that_are_not_there_or_say_nonsense_stop_before_anything_is_written(images, tmp_path):
    fixes = tmp_path / "fixes.csv"
    for content in (None, "path,action\nflat/3.png,burn\n", "path,action\nflat/nobody.png,exclude\n"):
        if content is not None:
            fixes.write_text(content)
        result = ask("run", images, "--output", tmp_path / "out", "--set", f"data.fixes={fixes}", *FOREST, "--quiet")
        assert (result.exit_code, result.stdout) in ((1, ""), (2, ""))
        assert "fixes.csv" in result.stderr and "Traceback" not in result.stderr
        assert not kept(tmp_path / "out")


def test_a_table_of_ones_own_is_the_split(images, tmp_path):
    first = parts_of(answer("train", images, "--output", tmp_path / "first", *FOREST))
    other = {"train": "train", "validation": "test", "test": "validation"}
    table = tmp_path / "split.csv"
    table.write_text("path,part\n" + "".join(f"{path},{other[row['part']]}\n" for path, row in first.items()))
    run = answer("train", images, "--output", tmp_path / "second", *FOREST, "--set", f"split.file={table}")
    assert {path: row["part"] for path, row in parts_of(run).items()} == {path: other[row["part"]] for path, row in first.items()}
    table.write_text("path,part\n" + "".join(f"{path},{row['part']}\n" for path, row in first.items()))
    again = answer("train", images, "--output", tmp_path / "second", *FOREST, "--set", f"split.file={table}")
    assert again["run"] != run["run"], "the table has changed: it is another run"
    assert {path: row["part"] for path, row in parts_of(again).items()} == {path: row["part"] for path, row in first.items()}


def test_a_table_that_is_no_honest_split_is_refused(tmp_path):
    folder = make_images(tmp_path / "shapes")
    shutil.copy(folder / "flat" / "0.png", folder / "flat" / "copy.png")
    parts = ["test", "validation", *["train"] * 13]
    table = tmp_path / "split.csv"
    rows = [f"{label}/{number}.png,{parts[number]}" for label in CLASSES for number in range(14)]
    table.write_text("\n".join(["path,part", *rows, "flat/copy.png,train"]) + "\n")
    result = ask("run", folder, "--output", tmp_path / "out", "--set", f"split.file={table}", *FOREST, "--quiet")
    assert (result.exit_code, result.stdout) in ((1, ""), (2, ""))
    assert "flat/0.png" in result.stderr and "flat/copy.png" in result.stderr
    assert not kept(tmp_path / "out")


def test_patients_that_become_known_make_another_run(images, tmp_path):
    """Not the old one with its old split, and no refusal: what belongs together is part of the question."""
    first = answer("train", images, "--output", tmp_path, *FOREST)
    known = answer("train", images, "--output", tmp_path, *FOREST, "--set", r"data.patient=/(\d)\d*\.png$")
    assert known["run"] != first["run"]
    groups = {path: row["part"] for path, row in parts_of(known).items()}
    patients = {}
    for path, part in groups.items():
        patients.setdefault(Path(path).name[0], set()).add(part)
    assert all(len(parts) == 1 for parts in patients.values())
