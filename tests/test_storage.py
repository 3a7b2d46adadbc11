"""Files and folders that are written whole or not at all, records, fingerprints."""

from __future__ import annotations

import datetime
import errno
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import ValidationError

from vitrail.errors import OutputError
from vitrail.storage import (
    check_writable,
    file_sha256,
    fingerprint,
    read_record,
    record_to_plain,
    whole_file,
    whole_folder,
    write_record,
    write_text,
)

KINDS_OF_FAILURE = [ValueError("wrong"), KeyboardInterrupt(), SystemExit(3)]


def below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# ---------------------------------------------------------------------------------------------------- one file


def test_a_file_appears_with_its_whole_content(tmp_path):
    path = tmp_path / "new" / "deep" / "a.txt"
    with whole_file(path) as temporary:
        temporary.write_text("content")
        assert not path.exists()
        assert temporary.parent == path.parent  # only then is the last step one step
    assert path.read_text() == "content"
    assert below(path.parent) == ["a.txt"]


@pytest.mark.parametrize("failure", KINDS_OF_FAILURE, ids=lambda failure: type(failure).__name__)
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(failure)), whole_file(path) as temporary:
        temporary.write_text("half of the n")
        raise failure
    assert path.read_text() == "old"
    assert below(tmp_path) == ["a.txt"]


def test_an_old_file_is_replaced(tmp_path):
    write_text(tmp_path / "a.txt", "old and longer")
    write_text(tmp_path / "a.txt", "é")
    assert (tmp_path / "a.txt").read_bytes() == "é".encode()


def test_who_reads_the_old_file_keeps_it(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with (tmp_path / "a.txt").open() as reader:
        write_text(tmp_path / "a.txt", "new")
        assert reader.read() == "old"


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize(("mask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_permissions_are_those_that_the_user_wishes(tmp_path, mask, file_mode, folder_mode):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "")
        with whole_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == file_mode
    assert (tmp_path / "folder").stat().st_mode & 0o777 == folder_mode


def test_a_long_name_leaves_room_for_its_temporary_twin(tmp_path):
    write_text(tmp_path / ("x" * 255), "fits")
    assert len(below(tmp_path)) == 1


@pytest.mark.parametrize("write", [whole_file, whole_folder])
def test_a_file_in_the_way_of_the_folder_is_an_output_error(tmp_path, write):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(OutputError, match=r"file/a: cannot write here \(.*\)\. Choose another place"),
        write(tmp_path / "file" / "a"),
    ):
        pytest.fail("there is no place to write to")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_in_the_way_of_the_file_is_an_output_error(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="cannot write here"):
        write_text(tmp_path / "a", "content")
    assert below(tmp_path) == ["a"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_an_output_error(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        write_text(tmp_path / "closed" / "a", "content")


@pytest.mark.parametrize("write", [whole_file, whole_folder])
def test_a_full_disk_is_an_output_error(tmp_path, write):
    with pytest.raises(OutputError, match=r"No space left on device\)\. Free some space"), write(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert below(tmp_path) == []


@pytest.mark.parametrize("write", [whole_file, whole_folder])
def test_other_errors_of_the_work_itself_pass_unchanged(tmp_path, write):
    with pytest.raises(FileNotFoundError), write(tmp_path / "a"):
        (tmp_path / "no such image").read_bytes()
    assert below(tmp_path) == []


# ---------------------------------------------------------------------------------------------------- one folder


def test_a_folder_appears_with_its_whole_content(tmp_path):
    path = tmp_path / "new" / "package"
    with whole_folder(path) as temporary:
        (temporary / "part").mkdir()
        (temporary / "part" / "a").write_text("content")
        assert not path.exists()
    assert below(tmp_path / "new") == ["package", "package/part", "package/part/a"]


@pytest.mark.parametrize("failure", KINDS_OF_FAILURE, ids=lambda failure: type(failure).__name__)
def test_a_failure_leaves_the_old_folder_and_nothing_else(tmp_path, failure):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "old").touch()
    with pytest.raises(type(failure)), whole_folder(tmp_path / "package") as temporary:
        (temporary / "new").touch()
        raise failure
    assert below(tmp_path) == ["package", "package/old"]


def test_an_old_folder_is_replaced_with_all_it_holds(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "old").touch()
    with whole_folder(tmp_path / "package") as temporary:
        (temporary / "new").touch()
    assert below(tmp_path) == ["package", "package/new"]


def test_the_old_folder_is_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "old").touch()
    replace = Path.replace

    def refuse_the_new(self: Path, target: Path) -> Path:
        if (self / "new").exists():
            raise OSError(errno.EACCES, "Permission denied")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse_the_new)
    with pytest.raises(OutputError, match="Permission denied"), whole_folder(tmp_path / "package") as temporary:
        (temporary / "new").touch()
    assert below(tmp_path) == ["package", "package/old"]


def test_a_killed_replacement_never_leaves_half_of_a_folder(tmp_path):
    """The process dies at the first removal of a file of the old folder: by then the new one must stand."""
    programme = """
import os, sys, pathlib
from vitrail.storage import whole_folder
package = pathlib.Path(sys.argv[1])
with whole_folder(package) as temporary:
    for number in range(5):
        (temporary / f"new{number}").touch()
    os.unlink = os.rmdir = lambda *_, **__: os._exit(9)
"""
    package = tmp_path / "package"
    package.mkdir()
    for number in range(5):
        (package / f"old{number}").touch()
    done = subprocess.run([sys.executable, "-c", programme, str(package)], check=False)
    assert done.returncode == 9
    assert below(package) == [f"new{number}" for number in range(5)]


# ---------------------------------------------------------------------------------------------------- can it be written?


def test_looking_leaves_no_trace(tmp_path):
    check_writable(tmp_path / "a" / "b" / "c")
    assert below(tmp_path) == []


def test_an_existing_folder_will_do(tmp_path, monkeypatch):
    check_writable(tmp_path)
    monkeypatch.chdir(tmp_path)
    check_writable(Path("relative"))


@pytest.mark.parametrize("output", ["file", "file/below/deep"])
def test_a_file_in_the_way_is_named(tmp_path, output):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file is not a folder\. Choose another --output"):
        check_writable(tmp_path / output)


def test_a_link_to_nowhere_in_the_way_is_named(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputError, match="is not a folder"):
        check_writable(tmp_path / "link" / "runs")


def test_a_folder_that_may_not_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(OutputError, match=rf"runs: no permission to write in {tmp_path}\."):
        check_writable(tmp_path / "runs")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may look anywhere")
def test_a_folder_into_which_one_may_not_look_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o000)
    with pytest.raises(OutputError, match="no permission to write in"):
        check_writable(tmp_path / "closed" / "a" / "b")


# ---------------------------------------------------------------------------------------------------- records and hashes


@dataclass(frozen=True)
class Sample:
    name: str
    place: Path
    numbers: tuple[float, ...]
    day: datetime.date | None = None
    parts: frozenset[str] = frozenset()
    rest: dict[str, object] = field(default_factory=dict)


def test_a_record_reads_back_equal(tmp_path):
    sample = Sample("é", Path("a/b"), (0.1, 1e-300, -0.0), datetime.date(2025, 2, 28), frozenset("cab"), {"a": [1, None, "x"]})
    write_record(tmp_path / "sample.json", sample)
    assert read_record(tmp_path / "sample.json", Sample) == sample


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize(
    "record",
    [
        lambda number: {"auc": number},
        lambda number: Sample("a", Path(), (1.0, number)),
        lambda number: Sample("a", Path(), (), rest={"deep": [number]}),
        lambda number: [Sample("a", Path(), (number,))],
    ],
)
def test_a_number_that_is_none_is_not_written_as_one(tmp_path, number, record):
    with pytest.raises(ValueError, match="finite numbers only"):
        write_record(tmp_path / "sample.json", record(number))
    assert below(tmp_path) == []


def test_sets_are_written_in_order():
    names = frozenset(str(number) for number in range(50))
    assert record_to_plain(Sample("a", Path(), (), parts=names))["parts"] == sorted(names)


def test_another_record_is_not_taken_for_it(tmp_path):
    write_record(tmp_path / "sample.json", {"name": "a"})
    with pytest.raises(ValidationError):
        read_record(tmp_path / "sample.json", Sample)


def test_a_fingerprint_changes_with_every_part_and_with_nothing_else():
    base = fingerprint("a", {"x": 1, "y": [1, 2]})
    assert base == fingerprint("a", {"y": [1, 2], "x": 1})
    others = [
        ("b", {"x": 1, "y": [1, 2]}),
        ("a", {"x": 1, "y": [2, 1]}),
        ("a", {"x": 1}),
        ("a{}",),
        ("a", {"x": 1, "y": [1, 2]}, None),
    ]
    assert len({base, *(fingerprint(*parts) for parts in others)}) == 6
    assert len(base) == 16 and int(base, 16) >= 0


def test_fingerprints_are_the_same_on_every_machine_and_day():
    expected = hashlib.sha256(b'["vitrail",{"size":64},null]').hexdigest()[:16]
    assert fingerprint("vitrail", {"size": 64}, None) == expected


def test_the_hash_of_a_file_is_its_sha256(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_folders_made_for_a_file_that_failed_are_removed_and_others_stay(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ZeroDivisionError), whole_file(tmp_path / "there" / "new" / "newer" / "file.txt"):
        1 / 0  # noqa: B018
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]
    assert list((tmp_path / "there").iterdir()) == []
