"""The one pass over the bytes, and what the next pass need not do again."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import zipfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from dicom_files import dataset, written
from PIL import Image

from vitrail import storage
from vitrail.datasets import DERIVED, FACTS, FORMATS, THUMBNAIL_SIZE, examine, read_image, scan, scan_folder
from vitrail.datasets.raster import OpenedRaster
from vitrail.engine import map_in_order
from vitrail.errors import DataError, OutputError
from vitrail.records import Manifest
from vitrail.settings import ColumnSettings, DataSettings


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
    real = OpenedRaster.decode

    def counting(self, **options):
        seen.append(self._content)
        return real(self, **options)

    monkeypatch.setattr(OpenedRaster, "decode", counting)
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
    assert files["a/text.png"].problem == f"the bytes are none of {', '.join(FORMATS)}"
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
    for number, method in enumerate(("decode", "header")):
        real = getattr(OpenedRaster, method)

        def failing(self, *, real=real, **options):
            if self._content.startswith(b"BM"):
                raise RuntimeError("decoder out of order")
            return real(self, **options)

        with monkeypatch.context() as patch:
            patch.setattr(OpenedRaster, method, failing)
            files = by_path(scan_folder(root, cache=cache / str(number)))
        assert (files["b/3.bmp"].status, files["b/3.bmp"].problem) == ("unreadable", "decoder out of order")
        assert sum(file.readable for file in files.values()) == 5


def test_a_lack_of_memory_says_nothing_of_the_file_which_is_tried_again(root, cache, decoded, monkeypatch):
    real = OpenedRaster.decode

    def poor(self, **options):
        if self._content.startswith(b"BM"):
            raise MemoryError
        return real(self, **options)

    with monkeypatch.context() as patch:
        patch.setattr(OpenedRaster, "decode", poor)
        file = by_path(scan_folder(root, cache=cache))["b/3.bmp"]
    assert (file.status, file.problem, file.sha256) == ("unreadable", "too large for the memory that was free", "")
    decoded.clear()
    assert by_path(scan_folder(root, cache=cache))["b/3.bmp"].readable
    assert len(decoded) == 1


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
    monkeypatch.setattr(examine, "BYTES_LIMIT", (root / "b" / "3.bmp").stat().st_size - 1)
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


# ---------------------------------------------------------------------------------------------------- volumes and clips


def volumes(root: Path) -> Path:
    """Two NIfTI volumes of seven slices and two DICOM clips of five frames in two classes, and a picture each."""
    nib = pytest.importorskip("nibabel", reason="the extra dicom is not installed")
    pytest.importorskip("pydicom", reason="the extra dicom is not installed")
    generator = np.random.default_rng(0)
    for label in ("a", "b"):
        picture(root / label / "single.png", ord(label))
        values = generator.integers(0, 1000, size=(32, 24, 7)).astype(np.int16)
        nib.save(nib.Nifti1Image(values, np.eye(4)), root / label / "scan.nii.gz")
        frames = generator.integers(0, 256, size=(5, 20, 16), dtype=np.uint8)
        (root / label / "clip.dcm").write_bytes(written(dataset(frames, PatientID=f"patient {label}")))
    return root


@pytest.mark.parametrize(
    ("slices", "of_clip", "of_scan"), [(1, [2], [3]), (3, [1, 2, 3], [1, 3, 5]), (100, list(range(5)), list(range(7)))]
)
def test_slices_and_frames_are_images_of_their_own(tmp_path, cache, slices, of_clip, of_scan):
    root = volumes(tmp_path / "images")
    for _ in range(2):  # read, and from the cache
        manifest = scan_folder(root, cache=cache, settings=DataSettings(path=root, slices=slices))
        of_label = [*(f"clip.dcm#{number}" for number in of_clip), *(f"scan.nii.gz#{number}" for number in of_scan)]
        assert [file.path for file in manifest.files] == [
            f"{label}/{name}" for label in "ab" for name in (*of_label, "single.png")
        ]
        assert all(file.readable for file in manifest.files)
        assert len({file.sha256 for file in manifest.files}) == len(manifest.files)
        for row, file in enumerate(manifest.files):
            whole, mark, _ = file.path.partition("#")
            assert file.volume == (whole if mark else "")
            assert file.size_bytes == (root / whole).stat().st_size
            decoded = read_image(manifest.root / file.path)
            assert (file.format, file.height, file.width) == (decoded.format, decoded.height, decoded.width)
            assert abs(manifest.facts["mean"][row] - decoded.pixels.mean()) < 0.01
            expected = Image.fromarray(decoded.pixels).resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BILINEAR)
            np.testing.assert_array_equal(manifest.thumbnails[row], expected)
    patients = {file.path[:6]: file.patient for file in manifest.files}
    assert patients["a/clip"]
    assert patients["a/clip"] != patients["b/clip"]
    assert patients["a/scan"] == patients["a/sing"] == ""


def test_copies_of_a_volume_have_the_hashes_of_its_slices(tmp_path, cache):
    root = volumes(tmp_path / "images")
    (root / "b" / "copy.nii.gz").write_bytes((root / "a" / "scan.nii.gz").read_bytes())
    files = by_path(scan_folder(root, cache=cache, settings=DataSettings(path=root, slices=2)))
    copies = [path for path in files if path.startswith("b/copy.nii.gz#")]
    assert len(copies) == 2
    assert [files[path].sha256 for path in copies] == [files[path.replace("b/copy", "a/scan")].sha256 for path in copies]


def test_another_number_of_slices_starts_anew(tmp_path, cache, decoded):
    root = volumes(tmp_path / "images")
    first, second, third = (
        scan_folder(root, cache=cache, settings=DataSettings(path=root, slices=slices)) for slices in (1, 2, 2)
    )
    assert (len(first), len(second), len(third)) == (6, 10, 10)
    assert len(decoded) == 4  # the two pictures twice
    assert first.fingerprint != second.fingerprint == third.fingerprint
    assert second.thumbnails.shape[0] == second.facts.shape[0] == 10
    assert not first.thumbnails_path.exists()


def test_a_broken_frame_is_one_unreadable_image(tmp_path, cache):
    root = volumes(tmp_path / "images")
    content = (root / "a" / "clip.dcm").read_bytes()
    (root / "a" / "cut.dcm").write_bytes(content[: len(content) - 20 * 16])  # the last frame is gone
    manifest = scan_folder(root, cache=cache, settings=DataSettings(path=root, slices=5))
    broken = [file for file in manifest.files if not file.readable]
    assert broken
    assert {file.path.partition("#")[0] for file in broken} == {"a/cut.dcm"}
    assert "a/cut.dcm#4" in {file.path for file in broken}
    assert all(file.problem for file in broken)


# ---------------------------------------------------------------------------------------------------- facts and headers


def test_facts_stand_in_the_rows_of_their_images(root, cache):
    colour = np.zeros((30, 40, 3), dtype=np.uint8)
    colour[..., 1] = 200
    Image.fromarray(colour).save(root / "a" / "0.jpg", quality=66)
    (root / "b" / "0.png").touch()
    for _ in range(2):
        manifest = scan_folder(root, cache=cache)
        assert (manifest.facts.dtype, len(manifest.facts)) == (FACTS, 8)
        for row, file in enumerate(manifest.files):
            facts = manifest.facts[row]
            if file.readable:
                grey = np.asarray(Image.open(root / file.path).convert("L"))
                assert facts["mean"] == pytest.approx(grey.mean(), abs=1e-3)
                assert facts["colour"] == (file.path == "a/0.jpg")
            else:
                assert all(np.isnan(facts[name]) for name in FACTS.names)
        assert manifest.facts["quality"][[0, 2]].tolist() == [66, 75]
        assert np.isnan(np.delete(manifest.facts["quality"], [0, 2])).all()
        assert manifest.files[0].encoding == "quality 66, 4:2:0"


def test_what_the_header_says_is_in_the_manifest(root, cache):
    tags = Image.Exif()
    tags[0x010F], tags[0x013B], tags[0x0112] = "Acme", "Jane Doe", 6
    picture(root / "a" / "0.jpg", 9, exif=tags, quality=50, progressive=True)
    for _ in range(2):
        file = by_path(scan_folder(root, cache=cache))["a/0.jpg"]
        assert (file.encoding, file.source, file.private) == ("quality 50, progressive", "Acme", ("Artist",))
        assert (file.turned, file.width, file.height) == (True, 30, 40)
    assert "Jane" not in (next(cache.rglob("index.json"))).read_text()


def test_masks_beside_images_are_left_out_but_listed(root, cache):
    for name in ("a/1_mask.png", "a/1_mask_1.png", "b/7_mask.png"):
        picture(root / name, 40)
    manifest = scan_folder(root, cache=cache)
    files = by_path(manifest)
    for name in ("a/1_mask.png", "a/1_mask_1.png"):
        assert (files[name].status, files[name].problem) == ("excluded", f"{DERIVED}a/1.png")
        assert len(files[name].sha256) == 64
    assert files["b/7_mask.png"].readable  # there is no b/7
    assert sum(file.readable for file in files.values()) == 7
    (root / "a" / "1.png").unlink()
    assert by_path(scan_folder(root, cache=cache))["a/1_mask.png"].readable


# ---------------------------------------------------------------------------------------------------- other containers


def expected_rows(manifest: Manifest) -> None:
    assert all(file.readable for file in manifest.files)
    for row, file in enumerate(manifest.files):
        np.testing.assert_array_equal(manifest.thumbnails[row], expected_thumbnail(manifest.root / file.path))


def test_a_zip_is_unpacked_once_and_read(root, cache, tmp_path, decoded):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as container:
        for path in sorted(root.rglob("*.*")):
            container.write(path, path.relative_to(root.parent).as_posix())
    for _ in range(2):
        manifest = scan_folder(tmp_path / "set.zip", cache=cache)
        assert (manifest.classes, len(manifest)) == (("a", "b"), 6)
        expected_rows(manifest)
    assert len(decoded) == 6


def test_a_table_names_classes_parts_and_patients(root, cache, tmp_path):
    lines = [f"images/{name},{label},{part},{patient}" for name, label, part, patient in (
        ("a/1.png", "ill", "train", "p1"),
        ("a/2.jpg", "ill", "test", "p2"),
        ("b/1.png", "well", "train", "p3"),
        ("b/2.tif", "well", "test", ""),
    )]  # fmt: skip
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["path,label,split,patient_id", *lines]) + "\n")
    manifest = scan_folder(table, cache=cache)
    assert [(Path(file.path).name, file.label, file.part, file.patient) for file in manifest.files] == [
        ("1.png", "ill", "train", "p1"),
        ("2.jpg", "ill", "test", "p2"),
        ("1.png", "well", "train", "p3"),
        ("2.tif", "well", "test", ""),
    ]
    expected_rows(manifest)


def test_a_table_given_beside_a_folder(root, cache, tmp_path):
    table = tmp_path / "elsewhere.csv"
    names = [("a/1.png", "x"), ("a/2.jpg", "y"), ("b/1.png", "x"), ("b/2.tif", "y")]
    table.write_text("\n".join(["where,truth", *(f"{name},{label}" for name, label in names)]) + "\n")
    columns = ColumnSettings(path="where", label="truth")
    manifest = scan_folder(root, cache=cache, settings=DataSettings(path=root, table=table, columns=columns))
    assert [(file.path, file.label) for file in manifest.files] == names
    expected_rows(manifest)


def test_a_medmnist_file(cache, tmp_path):
    content = {}
    for part, size in {"train": 8, "val": 4, "test": 4}.items():
        content[f"{part}_images"] = np.random.default_rng(size).integers(0, 256, (size, 28, 28), dtype=np.uint8)
        content[f"{part}_labels"] = (np.arange(size) % 2).astype(np.uint8)[:, None]
    np.savez(tmp_path / "pneumoniamnist.npz", **content)
    manifest = scan_folder(tmp_path / "pneumoniamnist.npz", cache=cache)
    assert manifest.classes == ("normal", "pneumonia")
    assert Counter(file.part for file in manifest.files) == {"train": 8, "validation": 4, "test": 4}
    expected_rows(manifest)


# ---------------------------------------------------------------------------------------------------- processes


@pytest.fixture
def many(tmp_path) -> Path:
    """As many tiny files as are read in processes, broken ones among them."""
    folder = tmp_path / "many"
    for number in range(520):
        picture(folder / "ab"[number % 2] / f"{number:03d}.png", number, size=(20, 18))
    (folder / "a" / "empty.png").touch()
    (folder / "b" / "text.png").write_text("no picture")
    return folder


def test_processes_give_what_threads_give(many, cache, monkeypatch):
    used: list[bool] = []

    def noted(*arguments, processes, **options):
        used.append(processes)
        return map_in_order(*arguments, processes=processes, workers=2, **options)

    monkeypatch.setattr(scan, "map_in_order", noted)
    in_processes = scan_folder(many, cache=cache / "processes")
    monkeypatch.setattr(scan, "WORTH_PROCESSES", 10**9)
    in_threads = scan_folder(many, cache=cache / "threads")
    assert used == [True, False]
    assert in_processes.files == in_threads.files
    assert sum(file.readable for file in in_processes.files) == 520
    np.testing.assert_array_equal(in_processes.thumbnails, in_threads.thumbnails)
    assert in_processes.facts.tobytes() == in_threads.facts.tobytes()
    assert in_processes.fingerprint == in_threads.fingerprint


# ---------------------------------------------------------------------------------------------------- the next scan


def test_a_file_that_kills_the_process_that_reads_it_is_listed_and_the_others_are_read(tmp_path, cache, monkeypatch):
    folder = tmp_path / "images"
    for number in range(24):
        picture(folder / "ab"[number % 2] / f"{number:02d}.png", number, size=(20, 18))

    def examine(items, slices):  # goes to the other process as it stands here
        from vitrail.datasets.examine import examine_all

        if any(item.found.path == "b/13.png" for item in items):
            os._exit(1)
        return examine_all(items, slices)

    monkeypatch.setattr(scan, "WORTH_PROCESSES", 1)
    monkeypatch.setattr(scan, "examine_all", examine)
    files = by_path(scan_folder(folder, cache=cache))
    assert len(files) == 24
    assert [path for path, file in files.items() if not file.readable] == ["b/13.png"]
    assert "ended the process" in files["b/13.png"].problem


def test_what_comes_after_loads_while_other_processes_read(root, tmp_path, monkeypatch):
    called = threading.Event()

    def load():
        called.set()
        raise ImportError("whoever needs it will say so")

    scan_folder(root, cache=tmp_path / "threads", meanwhile=load)
    assert not called.is_set()
    monkeypatch.setattr(scan, "WORTH_PROCESSES", 1)
    monkeypatch.setattr(scan, "available_cores", lambda: 2)
    assert len(scan_folder(root, cache=tmp_path / "processes", meanwhile=load)) == 6
    assert called.wait(10)


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
    assert set(second.thumbnails_path.parent.iterdir()) == {
        second.thumbnails_path,
        second.facts_path,
        second.thumbnails_path.parent / "index.json",
    }


def test_same_size_and_new_time_is_read_again_but_the_arrays_are_left_alone(root, cache, decoded):
    first = scan_folder(root, cache=cache)
    arrays = (first.thumbnails_path, first.facts_path)
    before = [(path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in arrays]
    decoded.clear()
    os.utime(root / "a" / "1.png", ns=(0, 10**9))
    second = scan_folder(root, cache=cache)
    assert len(decoded) == 1
    assert (second.files, second.fingerprint) == (first.files, first.fingerprint)
    assert (second.thumbnails_path, second.facts_path) == arrays
    assert [(path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino) for path in arrays] == before
    third = scan_folder(root, cache=cache)
    assert len(decoded) == 1  # the new time is known now
    assert third.files == first.files


def test_new_content_of_the_same_length_is_seen_among_touched_files(root, cache, decoded):
    picture(root / "b" / "3.bmp", 50)
    first = scan_folder(root, cache=cache)
    for path in root.rglob("*.*"):
        os.utime(path, ns=(0, 10**9))
    size = (root / "b" / "3.bmp").stat().st_size
    picture(root / "b" / "3.bmp", 51)
    assert (root / "b" / "3.bmp").stat().st_size == size
    second = scan_folder(root, cache=cache)
    assert [old.sha256 == new.sha256 for old, new in zip(first.files, second.files, strict=True)] == [True] * 5 + [False]
    for row, file in enumerate(second.files):
        np.testing.assert_array_equal(second.thumbnails[row], expected_thumbnail(root / file.path))


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


@pytest.mark.parametrize("damage", ["index", "thumbnails", "missing", "version", "empty", "facts", "facts missing", "short"])
def test_a_damaged_cache_is_made_anew(root, cache, decoded, damage):
    first = scan_folder(root, cache=cache)
    expected = np.array(first.thumbnails)
    index, thumbnails, facts = first.thumbnails_path.parent / "index.json", first.thumbnails_path, first.facts_path
    measured = facts.read_bytes()
    if damage == "index":
        index.write_text(index.read_text()[:-50])
    elif damage == "thumbnails":
        thumbnails.write_bytes(thumbnails.read_bytes()[:-50])
    elif damage == "missing":
        thumbnails.unlink()
    elif damage == "version":
        index.write_text(json.dumps(json.loads(index.read_text()) | {"version": "of another Pillow"}))
    elif damage == "facts":
        facts.write_bytes(measured[:-50])
    elif damage == "facts missing":
        facts.unlink()
    elif damage == "short":
        np.save(facts, first.facts[:-1])
    else:
        thumbnails.write_bytes(b"")
    decoded.clear()
    second = scan_folder(root, cache=cache)
    assert len(decoded) == 6
    assert second.files == first.files
    np.testing.assert_array_equal(second.thumbnails, expected)
    assert second.facts_path.read_bytes() == measured


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
    assert f"no readable image was found. Read are {', '.join(FORMATS)}. Found: 2 not an image, 1 empty" in message
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
