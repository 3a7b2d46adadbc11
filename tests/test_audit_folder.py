"""An audit on disk: three files, and lists of fixes that belong to the person who edits them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vitrail.audit import summary
from vitrail.audit.fixes import Fix, read_fixes
from vitrail.audit_folder import AuditPaths, audit_folder, save_audit
from vitrail.errors import OutputError
from vitrail.records import AuditReport, Evidence, Finding, ImageFile, Manifest


def image(path: str) -> ImageFile:
    return ImageFile(path, path.partition("/")[0], None, 100, "0" * 64, "readable", width=10, height=10)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    files = tuple(image(f"{label}/{number}.png") for label in ("cyst", "healthy") for number in range(4))
    np.save(tmp_path / "thumbnails.npy", np.zeros((len(files), 128, 128), np.uint8))
    return Manifest(tmp_path / "images", ("cyst", "healthy"), files, tmp_path / "thumbnails.npy", tmp_path / "facts.npy")


def audit_of(*copies: tuple[str, str]) -> AuditReport:
    evidence = tuple(Evidence(pair, "2 copies") for pair in copies)
    found = Finding("DUP201", "Exact copies", "warning", 1, "1 copy.", "Why.", "Fix.", "Does.", evidence)
    return AuditReport(8, 8, (found,) if copies else (), (), tuple(range(8)), frozenset(), frozenset())


FIRST, SECOND = ("cyst/0.png", "cyst/1.png"), ("healthy/0.png", "healthy/1.png")


def saved(folder: Path, manifest: Manifest, *copies: tuple[str, str], applied: Path | None = None) -> AuditPaths:
    return save_audit(folder, manifest, audit_of(*copies), name="demo", applied=applied)


def paths_in(place: Path | None) -> list[str]:
    assert place is not None
    return [fix.path for fix in read_fixes(place)]


def edit(place: Path, line: str) -> str:
    text = place.read_text(encoding="utf-8") + line
    place.write_text(text, encoding="utf-8")
    return text


def test_the_folder_is_named_after_the_study():
    assert audit_folder(Path("runs"), "brain") == Path("runs") / "audits" / "brain"


def test_page_json_and_list_are_written(tmp_path, manifest):
    paths = saved(tmp_path / "audits" / "demo", manifest, FIRST)
    assert paths == AuditPaths(
        tmp_path / "audits" / "demo" / "audit.html",
        tmp_path / "audits" / "demo" / "audit.json",
        tmp_path / "audits" / "demo" / "fixes.csv",
        (Fix("cyst/1.png", "exclude", code="DUP201", reason="copy of cyst/0.png"),),
    )
    assert json.loads(paths.summary.read_text()) == json.loads(json.dumps(summary(audit_of(FIRST))))
    assert "1 file to leave out" in " ".join(
        paths.page.read_text(encoding="utf-8").replace("<strong>", "").replace("</strong>", "").split()
    )
    assert paths_in(paths.fixes) == ["cyst/1.png"]


def test_an_untouched_list_follows_the_audit(tmp_path, manifest):
    saved(tmp_path / "a", manifest, FIRST)
    assert paths_in(saved(tmp_path / "a", manifest, FIRST, SECOND).fixes) == ["cyst/1.png", "healthy/1.png"]
    again = saved(tmp_path / "a", manifest)
    assert paths_in(again.fixes) == []
    assert again.kept is None
    assert not list((tmp_path / "a").glob("fixes-new*"))


def test_a_list_that_a_person_changed_stays_and_what_is_new_stands_beside_it(tmp_path, manifest):
    place = saved(tmp_path / "a", manifest, FIRST).fixes
    text = edit(place, "healthy/3.png,keep,,,mine\n")
    paths = saved(tmp_path / "a", manifest, FIRST, SECOND)
    assert place.read_text(encoding="utf-8") == text
    assert (paths.kept, paths.fixes) == (place, tmp_path / "a" / "fixes-new.csv")
    assert paths_in(paths.fixes) == ["healthy/1.png"]
    assert "fixes-new.csv" in paths.page.read_text(encoding="utf-8")


def test_new_proposals_that_a_person_changed_stay_too(tmp_path, manifest):
    edit(saved(tmp_path / "a", manifest, FIRST).fixes, "healthy/3.png,keep,,,mine\n")
    second = saved(tmp_path / "a", manifest, SECOND).fixes
    text = edit(second, "healthy/2.png,keep,,,mine\n")
    third = saved(tmp_path / "a", manifest, SECOND, ("cyst/2.png", "cyst/3.png"))
    assert second.read_text(encoding="utf-8") == text
    assert third.fixes == tmp_path / "a" / "fixes-new-2.csv"
    assert paths_in(third.fixes) == ["cyst/3.png"]


def test_when_a_changed_list_says_all_already_nothing_new_is_written(tmp_path, manifest):
    place = saved(tmp_path / "a", manifest, FIRST).fixes
    edit(place, "healthy/3.png,keep,,,mine\n")
    paths = saved(tmp_path / "a", manifest, FIRST)
    assert (paths.kept, paths.fixes, paths.proposed) == (place, None, ())
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["audit.html", "audit.json", "fixes.csv", "fixes.sha256"]


def test_a_list_that_the_study_applies_is_not_emptied_by_its_own_success(tmp_path, manifest):
    place = saved(tmp_path / "a", manifest, FIRST).fixes
    paths = saved(tmp_path / "a", manifest, applied=place)
    assert paths_in(place) == ["cyst/1.png"]
    assert (paths.kept, paths.fixes) == (place, None)


@pytest.mark.parametrize("spoil", [b"not a list", b"\xff\xfe"])
def test_a_list_that_a_person_broke_is_theirs_all_the_same(tmp_path, manifest, spoil):
    place = saved(tmp_path / "a", manifest, FIRST).fixes
    place.write_bytes(spoil)
    paths = saved(tmp_path / "a", manifest, FIRST)
    assert place.read_bytes() == spoil
    assert paths_in(paths.fixes) == ["cyst/1.png"]


def test_without_the_digests_a_list_counts_as_changed(tmp_path, manifest):
    place = saved(tmp_path / "a", manifest, FIRST).fixes
    (tmp_path / "a" / "fixes.sha256").unlink()
    assert saved(tmp_path / "a", manifest, FIRST, SECOND).kept == place


def test_names_that_are_no_unicode_survive(tmp_path, manifest):
    strange = replace(manifest.files[1], path="cyst/caf\udce9.png")
    odd = replace(manifest, files=(manifest.files[0], strange, *manifest.files[2:]))
    assert paths_in(saved(tmp_path / "a", odd, ("cyst/0.png", strange.path)).fixes) == [strange.path]


def test_a_place_that_cannot_be_written_is_told(tmp_path, manifest):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="is not a folder"):
        saved(tmp_path / "file" / "a", manifest, FIRST)
