"""Archives: whole, safe, once."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from vitrail.datasets import archive as room
from vitrail.datasets.archive import unpack, unpacking_notes
from vitrail.datasets.folder import find_layout
from vitrail.errors import DataError, OutputError

SET = {"set/train/a/1.png": b"one", "set/train/b/2.png": b"two", "set/test/a/3.png": b"three", "set/test/b/4.png": b"four"}


def make_zip(path: Path, members: dict[str, bytes], **options) -> Path:
    with zipfile.ZipFile(path, "w", **options) as container:
        for name, content in members.items():
            container.writestr(name, content)
    return path


def make_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as container:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            container.addfile(member, io.BytesIO(content))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(archive: Path, cache: Path, kind: type[Exception] = DataError) -> str:
    with pytest.raises(kind) as caught:
        unpack(archive, cache)
    assert str(caught.value).startswith(f"{archive}: ")
    assert not [path for path in cache.rglob("*") if not path.name.endswith(".lock") and path != cache / "unpacked"]
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.zip", "A.ZIP", "a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz"])
def test_every_kind_is_unpacked_and_the_archive_is_left_alone(tmp_path, name):
    archive = tmp_path / name
    if name.lower().endswith("zip"):
        make_zip(archive, SET, compression=zipfile.ZIP_DEFLATED)
    else:
        make_tar(archive, SET, {"ar": "w", "gz": "w:gz", "z2": "w:bz2", "xz": "w:xz"}[name[-2:]])
    before = archive.read_bytes()
    folder = unpack(archive, tmp_path / "cache")
    assert contents(folder) == SET
    assert folder.is_relative_to(tmp_path / "cache" / "unpacked")
    assert unpacking_notes(folder) == ()
    assert archive.read_bytes() == before
    layout = find_layout(archive, cache=tmp_path / "cache")
    assert layout.root == folder
    assert [(file.path, file.label, file.part) for file in layout.files][:2] == [
        ("set/test/a/3.png", "a", "test"),
        ("set/test/b/4.png", "b", "test"),
    ]


def test_the_second_call_unpacks_nothing_until_the_archive_changes(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", SET)
    folder = unpack(archive, tmp_path / "cache")
    with monkeypatch.context() as patched:
        patched.setattr(room, "_Unpacking", None)
        assert unpack(archive, tmp_path / "cache") == folder
    make_zip(archive, SET | {"set/train/a/new.png": b"new"})
    assert "set/train/a/new.png" in contents(unpack(archive, tmp_path / "cache"))


def test_what_systems_leave_behind_is_left_out_without_a_word(tmp_path):
    rubbish = {"__MACOSX/set/a/._1.png": b"x", "set/.DS_Store": b"x", "set/a/.hidden/1.png": b"x"}
    folder = unpack(make_zip(tmp_path / "a.zip", SET | rubbish), tmp_path / "cache")
    assert contents(folder) == SET
    assert unpacking_notes(folder) == ()


@pytest.mark.parametrize("name", ["../out.png", "/out.png", "set/../../out.png", "C:/out.png", "..\\out.png", "C:\\out.png"])
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_names_that_lead_out_are_left_out(tmp_path, make, name):
    archive = make(tmp_path / f"a.{make.__name__[-3:]}", {name: b"x"} | SET)
    folder = unpack(archive, tmp_path / "deep" / "cache")
    assert contents(folder) == SET
    assert not list(tmp_path.rglob("out.png"))
    assert "1 not unpacked, because their names lead out of the folder" in unpacking_notes(folder)[0]


def test_links_and_devices_are_left_out(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as container:
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
            ("dev", tarfile.CHRTYPE),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            container.addfile(member)
        for name, content in SET.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            container.addfile(member, io.BytesIO(content))
    folder = unpack(tmp_path / "a.tar", tmp_path / "cache")
    assert contents(folder) == SET
    assert unpacking_notes(folder) == (
        "a.tar: 4 not unpacked, because they are links or devices: 'link.png', 'hard.png', 'pipe.png'.",
    )
    link = zipfile.ZipInfo("set/train/a/link.png")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(make_zip(tmp_path / "b.zip", SET), "a") as container:
        container.writestr(link, "/etc/passwd")
    folder = unpack(tmp_path / "b.zip", tmp_path / "cache")
    assert contents(folder) == SET
    assert "links or devices: 'set/train/a/link.png'" in unpacking_notes(folder)[0]


def test_names_that_are_no_text_or_too_long(tmp_path):
    members = SET | {"set/" + "x" * 300 + ".png": b"x", "set/a\x07.png": b"x"}
    folder = unpack(make_tar(tmp_path / "a.tar", members), tmp_path / "cache")
    assert contents(folder) == SET
    assert "2 not unpacked, because their names are too long or no text" in unpacking_notes(folder)[0]


def test_names_in_utf8_without_the_flag_and_in_code_page_437(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"set/a/X.png": b"x", "set/b/Y.png": b"y"})
    content = archive.read_bytes().replace(b"X.png", "é.pn".encode() + b"").replace(b"Y.png", b"\x82.png")
    assert len(content) == archive.stat().st_size
    archive.write_bytes(content)
    assert contents(unpack(archive, tmp_path / "cache")) == {"set/a/é.pn": b"x", "set/b/é.png": b"y"}


def test_names_of_a_tar_that_are_not_utf8(tmp_path):
    archive = make_tar(tmp_path / "a.tar", {})
    with tarfile.open(archive, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as container:
        member = tarfile.TarInfo("set/é.png")
        container.addfile(member, io.BytesIO())
    assert contents(unpack(archive, tmp_path / "cache")) == {"set/é.png": b""}


def test_folders_in_the_way_of_windows(tmp_path):
    folder = unpack(
        make_zip(tmp_path / "a.zip", {"set\\a\\1.png": b"1", "set\\b\\": b"", "set\\b\\2.png": b"2"}), tmp_path / "cache"
    )
    assert contents(folder) == {"set/a/1.png": b"1", "set/b/2.png": b"2"}


def test_a_damaged_member_costs_nothing_but_itself(tmp_path):
    noise = np.random.default_rng(0).bytes(5000)
    archive = make_zip(tmp_path / "a.zip", {"set/a/bad.png": noise, **SET}, compression=zipfile.ZIP_DEFLATED)
    content = bytearray(archive.read_bytes())
    content[2000] ^= 255
    archive.write_bytes(content)
    folder = unpack(archive, tmp_path / "cache")
    assert contents(folder) == SET
    assert unpacking_notes(folder) == ("a.zip: 1 not unpacked, because they are damaged: 'set/a/bad.png'.",)


@pytest.mark.parametrize("cut", [0.5, 0.93])
def test_a_tar_that_breaks_off_keeps_what_came_before(tmp_path, cut):
    generator = np.random.default_rng(0)
    members = {f"set/{number % 2}/{number}.png": generator.bytes(20_000) for number in range(20)}
    archive = make_tar(tmp_path / "a.tar.gz", members, "w:gz")
    archive.write_bytes(archive.read_bytes()[: int(cut * archive.stat().st_size)])
    folder = unpack(archive, tmp_path / "cache")
    whole = contents(folder)
    assert 5 <= len(whole) < 20
    assert all(members[name] == content for name, content in whole.items())
    assert unpacking_notes(folder) == (
        "a.tar.gz: 1 not unpacked, because the archive is damaged or cut off before it: 'the rest'.",
    )


def test_a_tar_with_a_damaged_header_says_so(tmp_path):
    archive = make_tar(tmp_path / "a.tar", SET)
    content = bytearray(archive.read_bytes())
    content[1024:1100] = b"\xff" * 76  # the header of the second member
    archive.write_bytes(content)
    folder = unpack(archive, tmp_path / "cache")
    assert list(contents(folder)) == ["set/train/a/1.png"]
    assert "cut off" in unpacking_notes(folder)[0]


def test_names_that_stand_twice_keep_the_first(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "a.zip", "w") as container:
        for name, content in (("a/1.png", b"first"), ("a/1.png", b"second"), ("a/1.png/deeper.png", b"third")):
            container.writestr(name, content)
    folder = unpack(tmp_path / "a.zip", tmp_path / "cache")
    assert contents(folder) == {"a/1.png": b"first"}
    assert "2 not unpacked, because their names stand twice, or cannot be written here" in unpacking_notes(folder)[0]


def test_archives_inside_stay_closed(tmp_path):
    folder = unpack(make_zip(tmp_path / "a.zip", SET | {"set/more.zip": b"PK", "set/old.TAR.GZ": b""}), tmp_path / "cache")
    assert set(contents(folder)) == {*SET, "set/more.zip", "set/old.TAR.GZ"}
    assert unpacking_notes(folder) == ("a.zip: 2 archives inside it stay closed: 'set/more.zip', 'set/old.TAR.GZ'.",)


def test_encrypted_archives_are_refused(tmp_path):
    archive = make_zip(tmp_path / "a.zip", SET)
    content = bytearray(archive.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 8] |= 1
    archive.write_bytes(content)
    assert "encrypted" in refusal(archive, tmp_path / "cache")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>" * 99])
def test_what_is_no_archive_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "Download it again" in refusal(tmp_path / name, tmp_path / "cache")


def test_empty_archives_are_refused_and_missing_ones(tmp_path):
    assert "no file could be unpacked. It is empty." in refusal(make_zip(tmp_path / "a.zip", {}), tmp_path / "cache")
    only_bad = make_zip(tmp_path / "b.zip", {"../x": b""})
    assert "their names lead out of the folder: '../x'" in refusal(only_bad, tmp_path / "cache")
    assert "cannot be read (No such file or directory)" in refusal(tmp_path / "absent.zip", tmp_path / "cache")


# ---------------------------------------------------------------------------------------------------- bombs


def test_a_member_that_grows_like_a_bomb_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "SMALL_BYTES", 200_000)
    archive = make_zip(tmp_path / "a.zip", {"set/bomb.png": bytes(4_000_000), **SET}, compression=zipfile.ZIP_DEFLATED)
    folder = unpack(archive, tmp_path / "cache")
    assert contents(folder) == SET
    assert "they grow more than 500-fold, as bombs do: 'set/bomb.png'" in unpacking_notes(folder)[0]


def test_a_member_that_lies_about_its_size_never_grows_beyond_it(tmp_path):
    archive = make_zip(tmp_path / "a.zip", {"set/bomb.png": bytes(4_000_000), **SET}, compression=zipfile.ZIP_DEFLATED)
    archive.write_bytes(archive.read_bytes().replace((4_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    folder = unpack(archive, tmp_path / "cache")
    assert contents(folder) == SET
    assert "they are damaged: 'set/bomb.png'" in unpacking_notes(folder)[0]


def test_an_archive_that_grows_like_a_bomb_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(room, "SMALL_BYTES", 100_000)
    members = {f"set/{number}.png": bytes(90_000) for number in range(200)}
    for archive in (
        make_zip(tmp_path / "a.zip", members, compression=zipfile.ZIP_DEFLATED),
        make_tar(tmp_path / "a.tar.gz", members, "w:gz"),
        make_tar(tmp_path / "b.tar.gz", {f"__MACOSX/{name}": content for name, content in members.items()}, "w:gz"),
    ):
        assert "it grows more than 200-fold when unpacked" in refusal(archive, tmp_path / "cache")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_larger_than_the_disk_is_refused(tmp_path, monkeypatch, make):
    archive = make(tmp_path / f"a.{make.__name__[-3:]}", {"set/a/1.png": bytes(20_000)})
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: usage(10**6, 10**6, 10_000))
    assert "Free some space" in refusal(archive, tmp_path / "cache", OutputError)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / "a.zip", SET)

    def full(self, content, path, *, limit):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(room._Unpacking, "_write", full)
    with pytest.raises(OutputError, match="Free some space"):
        unpack(archive, tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("*.png"))


def test_progress_counts_members(tmp_path):
    steps = []

    class Listening:
        def task(self, title, total):
            steps.append(total)
            return contextlib.nullcontext(lambda done=1, note="": steps.append(done))

        def say(self, message):
            raise AssertionError(message)

    unpack(make_zip(tmp_path / "a.zip", SET), tmp_path / "cache", Listening())
    assert steps == [4, 1, 1, 1, 1]
