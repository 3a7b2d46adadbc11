"""The one pass over the bytes, and what the next pass need not do again."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail import storage
from vitrail.datasets import THUMBNAIL_SIZE, scan, scan_folder
from vitrail.errors import DataError, OutputError
from vitrail.records import Manifest


def picture(path: Path, seed: int, *, size: tuple[int, int] = (40, 30), **options) -> Path:
    """Write a picture of coarse noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, size=(6, 8), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "images"
    for seed, name in enumerate(["a/1.png", "a/2.jpg", "a/3.png", "b/1.png", "b/2.tif", "b/3.bmp"]):
        picture(folder / name, seed)
    return folder


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch) -> list[bytes]:
    """Collects the bytes of every image that is decoded."""
    seen: list[bytes] = []
    real = scan.read_thumbnail

    def counting(content: bytes):
        seen.append(content)
        return real(content)

    monkeypatch.setattr(scan, "read_thumbnail", counting)
    return seen


def by_path(manifest: Manifest) -> dict:
    return {file.path: file for file in manifest.files}


def expected_thumbnail(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BILINEAR))


def test_a_manifest_says_what_is_on_disk(root, cache):
    manifest = scan_folder(root, cache=cache)
    assert manifest.root == root
    assert manifest.classes == ("a", "b")
    assert [file.path for file in manifest.files] == ["a/1.png", "a/2.jpg", "a/3.png", "b/1.png", "b/2.tif", "b/3.bmp"]
    assert [file.format for file in manifest.files] == ["PNG", "JPEG", "PNG", "PNG", "TIFF", "BMP"]
    assert manifest.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert manifest.thumbnails.shape == (6, THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    assert manifest.thumbnails.dtype == np.uint8
    for row, file in enumerate(manifest.files):
        content = (root / file.path).read_bytes()
        assert (file.sha256, file.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
        assert (file.status, file.problem, file.mode, file.width, file.height) == ("readable", "", "L", 40, 30)
        assert file.part is None
        np.testing.assert_array_equal(manifest.thumbnails[row], expected_thumbnail(root / file.path))


def test_parts_and_size_stand_upright(tmp_path, cache):
    tags = Image.Exif()
    tags[0x0112] = 6
    for part in ("Training", "Testing"):
        for seed, name in enumerate(["a/1.jpg", "b/1.jpg"]):
            picture(tmp_path / "images" / part / name, seed, exif=tags)
    manifest = scan_folder(tmp_path / "images", cache=cache)
    assert [file.part for file in manifest.files] == ["test", "test", "train", "train"]
    assert manifest.has_shipped_test
    assert {(file.width, file.height) for file in manifest.files} == {(30, 40)}


def test_16_bit_thumbnails_are_stretched_like_the_image(root, cache):
    values = np.linspace(100, 4000, 128 * 128).reshape(128, 128).astype(np.uint16)
    Image.fromarray(values).save(root / "a" / "deep.png")
    manifest = scan_folder(root, cache=cache)
    row = [file.path for file in manifest.files].index("a/deep.png")
    expected = np.rint((values - 100.0) * 255 / 3900)
    assert np.abs(manifest.thumbnails[row] - expected).max() <= 1
    assert manifest.files[row].mode == "I;16"


# ---------------------------------------------------------------------------------------------------- broken files


def test_broken_files_are_in_the_manifest_with_their_problem(root, cache):
    (root / "a" / "empty.png").touch()
    (root / "a" / "text.png").write_text("not a picture")
    (root / "a" / "Thumbs.db").write_bytes(bytes(300))
    (root / "b" / "cut.jpg").write_bytes((root / "a" / "2.jpg").read_bytes()[:-200])
    (root / "b" / "gone.png").symlink_to(root / "nowhere.png")
    (root / "b" / "header.png").write_bytes((root / "a" / "1.png").read_bytes()[:16] + bytes(100))
    (root / "b" / "named.jpg").write_bytes((root / "b" / "1.png").read_bytes())
    manifest = scan_folder(root, cache=cache)
    files = by_path(manifest)
    assert {path: file.status for path, file in files.items() if not file.readable} == {
        "a/empty.png": "empty",
        "a/text.png": "not_an_image",
        "a/Thumbs.db": "not_an_image",
        "b/cut.jpg": "unreadable",
        "b/gone.png": "unreadable",
        "b/header.png": "unreadable",
    }
    assert files["a/empty.png"].problem == "the file has zero bytes"
    assert files["a/text.png"].problem == "the bytes are none of JPEG, PNG, BMP, TIFF"
    assert files["b/cut.jpg"].problem == "truncated: the file ends before the image does"
    assert files["b/gone.png"].problem == "the link leads nowhere"
    assert files["b/gone.png"].sha256 == ""
    assert files["b/header.png"].problem.startswith("damaged or not supported: ")
    assert (files["b/named.jpg"].format, files["b/named.jpg"].readable) == ("PNG", True)
    assert files["b/cut.jpg"].sha256 == hashlib.sha256((root / "b" / "cut.jpg").read_bytes()).hexdigest()
    assert files["a/text.png"].sha256 == hashlib.sha256(b"not a picture").hexdigest()
    for row, file in enumerate(manifest.files):
        assert bool(manifest.thumbnails[row].any()) == file.readable


def test_a_decoder_that_fails_in_its_own_way_does_not_stop_the_scan(root, cache, monkeypatch):
    real = scan.read_thumbnail

    def failing(content: bytes):
        if content.startswith(b"BM"):
            raise RuntimeError("decoder out of order")
        return real(content)

    monkeypatch.setattr(scan, "read_thumbnail", failing)
    files = by_path(scan_folder(root, cache=cache))
    assert (files["b/3.bmp"].status, files["b/3.bmp"].problem) == ("unreadable", "decoder out of order")
    assert sum(file.readable for file in files.values()) == 5


def test_a_file_without_permission_is_unreadable_and_is_tried_again(root, cache, decoded, monkeypatch):
    real = Path.open

    def refusing(self, *args, **kwargs):
        if self.name == "3.bmp":
            raise PermissionError(13, "Permission denied")
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refusing)
        file = by_path(scan_folder(root, cache=cache))["b/3.bmp"]
    assert (file.status, file.problem, file.sha256) == ("unreadable", "cannot be read: Permission denied", "")
    decoded.clear()
    manifest = scan_folder(root, cache=cache)
    assert by_path(manifest)["b/3.bmp"].readable
    assert len(decoded) == 1
    np.testing.assert_array_equal(manifest.thumbnails[-1], expected_thumbnail(root / "b" / "3.bmp"))


def test_very_long_files_are_hashed_but_not_read_into_memory(root, cache, monkeypatch):
    monkeypatch.setattr(scan, "BYTES_LIMIT", (root / "b" / "3.bmp").stat().st_size - 1)
    file = by_path(scan_folder(root, cache=cache))["b/3.bmp"]
    assert file.status == "unreadable"
    assert file.problem.startswith("too large: ")
    assert file.sha256 == hashlib.sha256((root / "b" / "3.bmp").read_bytes()).hexdigest()


def test_names_that_are_no_unicode_neither_stop_the_scan_nor_break_json(root, cache, decoded):
    try:
        (root / "a" / "\udce9t\udce9.png").write_bytes((root / "a" / "1.png").read_bytes())
    except OSError:
        pytest.skip("this file system only takes Unicode names")
    for _ in range(2):
        manifest = scan_folder(root, cache=cache)
        file = by_path(manifest)["a/\\xe9t\\xe9.png"]
        assert file.status == "unreadable"
        assert "not valid UTF-8" in file.problem
        assert len(manifest.fingerprint) == 16
        assert "xe9t" in storage.record_to_json(file).encode("utf-8").decode()
    assert len(decoded) == 6


def test_odd_metadata_is_not_remarked_on(root, cache, recwarn):
    content = (root / "b" / "2.tif").read_bytes()
    (root / "b" / "cut.tif").write_bytes(content[: len(content) - 40])
    picture(root / "b" / "odd.jpg", 9, exif=b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x09\x00\x01")
    scan_folder(root, cache=cache)
    assert not recwarn.list


# ---------------------------------------------------------------------------------------------------- the next scan


def test_an_untouched_folder_is_not_decoded_again(root, cache, decoded):
    first = scan_folder(root, cache=cache)
    assert len(decoded) == 6
    written = first.thumbnails_path.stat().st_mtime_ns
    second = scan_folder(root, cache=cache)
    assert len(decoded) == 6
    assert second.files == first.files
    assert second.fingerprint == first.fingerprint
    assert second.thumbnails_path.stat().st_mtime_ns == written


def test_only_changed_files_are_read_again(root, cache, decoded):
    first = scan_folder(root, cache=cache)
    decoded.clear()
    picture(root / "a" / "2.jpg", 20)
    os.utime(root / "a" / "2.jpg", ns=(0, time.time_ns() + 10**9))
    picture(root / "a" / "0.png", 21)
    (root / "b" / "1.png").unlink()
    second = scan_folder(root, cache=cache)
    assert sorted(decoded) == sorted([(root / "a" / "0.png").read_bytes(), (root / "a" / "2.jpg").read_bytes()])
    assert [file.path for file in second.files] == ["a/0.png", "a/1.png", "a/2.jpg", "a/3.png", "b/2.tif", "b/3.bmp"]
    for row, file in enumerate(second.files):
        np.testing.assert_array_equal(second.thumbnails[row], expected_thumbnail(root / file.path))
    assert second.fingerprint != first.fingerprint
    assert second.thumbnails_path != first.thumbnails_path
    assert not first.thumbnails_path.exists()  # nothing old piles up
    assert len(list(second.thumbnails_path.parent.iterdir())) == 2


def test_same_size_and_new_time_is_read_again(root, cache, decoded):
    scan_folder(root, cache=cache)
    decoded.clear()
    os.utime(root / "a" / "1.png", ns=(0, 10**9))
    scan_folder(root, cache=cache)
    assert len(decoded) == 1


def test_data_sets_share_a_cache_folder_without_mixing(root, cache, tmp_path, decoded):
    other = tmp_path / "other"
    for seed, name in enumerate(["a/1.png", "a/2.jpg", "b/1.png", "b/2.tif"]):
        picture(other / name, 50 + seed)
    first, second = scan_folder(root, cache=cache), scan_folder(other, cache=cache)
    assert first.thumbnails_path.parent != second.thumbnails_path.parent
    decoded.clear()
    for folder in (root, other):
        manifest = scan_folder(folder, cache=cache)
        np.testing.assert_array_equal(manifest.thumbnails[0], expected_thumbnail(folder / "a" / "1.png"))
    assert not decoded


def test_relative_and_absolute_paths_are_the_same_data_set(root, cache, decoded, monkeypatch):
    first = scan_folder(root, cache=cache)
    monkeypatch.chdir(root.parent)
    second = scan_folder(Path("images"), cache=cache)
    assert len(decoded) == 6
    assert (second.root, second.thumbnails_path) == (root, first.thumbnails_path)


@pytest.mark.parametrize("damage", ["index", "thumbnails", "missing", "version", "empty"])
def test_a_damaged_cache_is_made_anew(root, cache, decoded, damage):
    first = scan_folder(root, cache=cache)
    expected = np.array(first.thumbnails)
    index, thumbnails = first.thumbnails_path.parent / "index.json", first.thumbnails_path
    if damage == "index":
        index.write_text(index.read_text()[:-50])
    elif damage == "thumbnails":
        thumbnails.write_bytes(thumbnails.read_bytes()[:-50])
    elif damage == "missing":
        thumbnails.unlink()
    elif damage == "version":
        index.write_text(index.read_text().replace("Pillow", "Pillow 0."))
    else:
        thumbnails.write_bytes(b"")
    decoded.clear()
    second = scan_folder(root, cache=cache)
    assert len(decoded) == 6
    assert second.files == first.files
    np.testing.assert_array_equal(second.thumbnails, expected)


def test_nothing_is_written_beside_the_images(root, cache):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    scan_folder(root, cache=cache)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_cache_that_cannot_be_written_is_an_output_error(root, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write here"):
        scan_folder(root, cache=tmp_path / "file")


def test_a_full_disk_is_an_output_error_and_leaves_nothing_behind(root, cache, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(scan.npy, "write_array_header_1_0", full)
    with pytest.raises(OutputError, match="No space left on device"):
        scan_folder(root, cache=cache)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


# ---------------------------------------------------------------------------------------------------- telling


class Listener:
    def __init__(self):
        self.tasks: list[tuple[str, int]] = []
        self.steps = 0
        self.said: list[str] = []

    @contextmanager
    def task(self, title, total):
        self.tasks.append((title, total))

        def advance(steps=1, note=""):
            self.steps += steps

        yield advance

    def say(self, message):
        self.said.append(message)


def test_progress_counts_the_files_that_are_read(root, cache):
    first, second, third = Listener(), Listener(), Listener()
    scan_folder(root, cache=cache, progress=first)
    assert (first.tasks, first.steps, first.said) == ([("Reading images", 6)], 6, [])
    picture(root / "a" / "0.png", 21)
    scan_folder(root, cache=cache, progress=second)
    assert (second.tasks, second.steps) == ([("Reading images", 1)], 1)
    assert second.said == ["6 of 7 files are unchanged and are not read again."]
    (root / "c").mkdir()
    scan_folder(root, cache=cache, progress=third)
    assert (third.tasks, third.said) == ([], ["c: passed over, because there is no file in it."])


# ---------------------------------------------------------------------------------------------------- refusals


def refusal(root: Path, cache: Path) -> str:
    with pytest.raises(DataError) as caught:
        scan_folder(root, cache=cache)
    assert str(caught.value).startswith(f"{root}: ")
    return str(caught.value)


def test_a_data_set_without_a_readable_image_is_refused(tmp_path, cache):
    for name in ("a/1.png", "b/1.png", "b/2.dcm"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).write_bytes(b"" if name == "a/1.png" else b"no image")
    message = refusal(tmp_path / "images", cache)
    assert "no readable image was found. Read are JPEG, PNG, BMP, TIFF. Found: 2 not an image, 1 empty" in message
    assert "a/1.png: the file has zero bytes" in message


@pytest.mark.parametrize("images", [0, 1])
def test_a_class_with_fewer_than_two_readable_images_is_refused_by_name(root, cache, images):
    (root / "rare").mkdir()
    (root / "rare" / "text.png").write_text("no image")
    for number in range(images):
        picture(root / "rare" / f"{number}.png", number)
    message = refusal(root, cache)
    assert f"class 'rare' has {images or 'none'} (" in message
    assert "1 not an image" in message
    assert "at least two readable images" in message


def test_a_class_is_counted_over_all_parts(tmp_path, cache):
    for seed, name in enumerate(["train/a/1.png", "test/a/1.png", "train/b/1.png", "test/b/1.png"]):
        picture(tmp_path / "images" / name, seed)
    assert len(scan_folder(tmp_path / "images", cache=cache)) == 4


def test_a_refused_data_set_leaves_nothing_behind(root, tmp_path):
    picture(root / "rare" / "1.png", 30)
    refusal(root, tmp_path / "new" / "cache")
    assert not (tmp_path / "new").exists()
