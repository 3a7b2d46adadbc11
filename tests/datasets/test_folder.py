"""The layout of a data set, by the names of its folders."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from vitrail.datasets.folder import find_layout, printable
from vitrail.errors import DataError
from vitrail.settings import ColumnSettings, DataSettings


def touch(root: Path, *paths: str) -> Path:
    """Make empty files: the layout opens none."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def found(root: Path) -> list[tuple[str, str, str | None]]:
    return [(file.path, file.label, file.part) for file in find_layout(root).files]


def test_plain_class_folders(tmp_path):
    touch(tmp_path, "tumour/2.png", "tumour/1.jpg", "healthy/a.bmp", "healthy/notes.txt")
    assert found(tmp_path) == [
        ("healthy/a.bmp", "healthy", None),
        ("healthy/notes.txt", "healthy", None),
        ("tumour/1.jpg", "tumour", None),
        ("tumour/2.png", "tumour", None),
    ]


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("Training", "Testing"), ("train", "test")),
        (("train", "val", "test"), ("train", "validation", "test")),
        (("TRAIN", "Valid", "TEST"), ("train", "validation", "test")),
        (("Train", "validation"), ("train", "validation")),
        (("val", "test"), ("validation", "test")),
        (("train",), ("train",)),
    ],
)
def test_parts_in_any_case(tmp_path, names, parts):
    touch(tmp_path, *(f"{name}/{label}/1.png" for name in names for label in ("a", "b")))
    expected = [(f"{name}/{label}/1.png", label, part) for name, part in zip(names, parts, strict=True) for label in ("a", "b")]
    assert found(tmp_path) == sorted(expected)


def test_classes_are_matched_over_parts_by_exact_name(tmp_path):
    touch(tmp_path, "train/no_tumor/1.png", "train/glioma/1.png", "test/notumor/1.png", "test/glioma/1.png")
    assert {label for _, label, _ in found(tmp_path)} == {"no_tumor", "notumor", "glioma"}


def test_wrapper_folders_are_passed_through(tmp_path):
    touch(tmp_path, "README.txt", "dataset/chest_xray/train/a/1.png", "dataset/chest_xray/train/b/1.png")
    touch(tmp_path, "__MACOSX/dataset/chest_xray/train/a/._1.png")
    assert found(tmp_path) == [
        ("dataset/chest_xray/train/a/1.png", "a", "train"),
        ("dataset/chest_xray/train/b/1.png", "b", "train"),
    ]


def test_a_wrapper_around_plain_class_folders(tmp_path):
    touch(tmp_path, "images/a/1.png", "images/b/1.png")
    assert found(tmp_path) == [("images/a/1.png", "a", None), ("images/b/1.png", "b", None)]


def test_everything_inside_a_class_folder_counts_to_it(tmp_path):
    touch(tmp_path, "a/patient 1/left/1.png", "a/patient 1/right/1.png", "a/test/1.png", "b/1.png")
    assert {(path, label) for path, label, _ in found(tmp_path)} == {
        ("a/patient 1/left/1.png", "a"),
        ("a/patient 1/right/1.png", "a"),
        ("a/test/1.png", "a"),
        ("b/1.png", "b"),
    }


def test_hidden_and_housekeeping_folders_are_passed_over(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png", ".ipynb_checkpoints/1.png", "a/.ipynb_checkpoints/1.png", "__MACOSX/1.png", "a/._1.png")
    (tmp_path / "no files").mkdir()
    assert [path for path, _, _ in found(tmp_path)] == ["a/1.png", "b/1.png"]


def test_a_class_called_test_beside_another_class_is_a_class(tmp_path):
    touch(tmp_path, "control/1.png", "test/1.png")
    assert found(tmp_path) == [("control/1.png", "control", None), ("test/1.png", "test", None)]


def test_what_is_passed_over_is_said(tmp_path):
    touch(tmp_path, "train/a/1.png", "train/b/1.png", "train/loose.png", "masks/a/1.png")
    (tmp_path / "train" / "c").mkdir()
    (tmp_path / "train" / "d").symlink_to(tmp_path / "train" / "a")
    layout = find_layout(tmp_path)
    assert [file.path for file in layout.files] == ["train/a/1.png", "train/b/1.png"]
    assert layout.notes == (
        "masks: passed over, because it stands beside the folders of the parts.",
        "train: 1 images outside the class folders were passed over.",
        "train: 1 links to folders were not followed.",
        "train/c: passed over, because there is no file in it.",
    )


def test_links_are_never_followed_in_circles(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "self").symlink_to(tmp_path / "b" / "self")
    (tmp_path / "b" / "2.png").symlink_to(tmp_path / "a" / "1.png")
    (tmp_path / "b" / "3.png").symlink_to(tmp_path / "nowhere.png")
    assert [path for path, _, _ in found(tmp_path)] == ["a/1.png", "b/1.png", "b/2.png", "b/3.png", "b/self"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_are_left_alone(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    assert [path for path, _, _ in found(tmp_path)] == ["a/1.png", "b/1.png"]


def test_names_that_are_no_unicode_become_valid_text():
    assert printable("\udce9t\udce9 é.png") == "\\xe9t\\xe9 é.png"
    printable("\udcff").encode("utf-8")


# ---------------------------------------------------------------------------------------------------- usual layouts


def test_parts_inside_the_class_folders(tmp_path):
    touch(tmp_path, "a/train/1.png", "a/test/2.png", "b/train/p7/3.png", "b/Validation/4.png")
    assert found(tmp_path) == [
        ("a/test/2.png", "a", "test"),
        ("a/train/1.png", "a", "train"),
        ("b/Validation/4.png", "b", "validation"),
        ("b/train/p7/3.png", "b", "train"),
    ]


@pytest.mark.parametrize("top", ["dataset/images", "images", "dataset/images/images"])
def test_folders_of_images_around_the_parts(tmp_path, top):
    touch(tmp_path, f"{top}/train/a/1.png", f"{top}/train/b/2.png", f"{top}/test/a/3.png")
    assert [(label, part) for _, label, part in found(tmp_path)] == [("a", "test"), ("a", "train"), ("b", "train")]


def test_folders_of_images_inside_the_parts(tmp_path):
    layout = find_layout(
        touch(
            tmp_path / "set",
            "train/images/a/1.png",
            "train/images/b/2.png",
            "train/masks/a/1.png",
            "test/test/a/3.png",
            "test/test/b/4.png",
        )
    )
    assert [(file.label, file.part) for file in layout.files] == [("a", "test"), ("b", "test"), ("a", "train"), ("b", "train")]


def test_masks_beside_images_are_passed_over(tmp_path):
    touch(tmp_path / "one", *(f"{label}/{kind}/1.png" for label in ("COVID", "Normal") for kind in ("images", "masks")))
    layout = find_layout(tmp_path / "one")
    assert [file.path for file in layout.files] == ["COVID/images/1.png", "Normal/images/1.png"]
    assert layout.notes == (
        "COVID/masks: passed over, because it stands beside the folder of the images.",
        "Normal/masks: passed over, because it stands beside the folder of the images.",
    )
    touch(tmp_path / "two", *(f"{kind}/{label}/1.png" for label in ("a", "b") for kind in ("images", "masks")))
    layout = find_layout(tmp_path / "two")
    assert [file.path for file in layout.files] == ["images/a/1.png", "images/b/1.png"]
    assert layout.notes == ("masks: passed over, because it stands beside the folder of the images.",)


def test_a_class_called_mask_is_a_class_where_no_images_folder_is(tmp_path):
    touch(tmp_path, "mask/1.png", "no mask/1.png")
    assert {label for _, label, _ in found(tmp_path)} == {"mask", "no mask"}


def test_a_second_copy_of_all_parts_is_not_counted(tmp_path):
    paths = [f"{part}/{label}/1.png" for part in ("train", "val", "test") for label in ("a", "b")]
    touch(tmp_path / "chest_xray", *paths, *(f"chest_xray/{path}" for path in paths), "__MACOSX/chest_xray/._1.png")
    layout = find_layout(tmp_path)
    assert [file.path for file in layout.files] == sorted(f"chest_xray/{path}" for path in paths)
    assert layout.notes == (
        "chest_xray/chest_xray: passed over with its 6 files, because it holds the folders beside it (test, train, val) "
        "once more.",
    )


def test_a_second_copy_of_all_classes_is_not_counted(tmp_path):
    touch(tmp_path, "yes/1.png", "no/1.png", "brain_tumor_dataset/yes/1.png", "brain_tumor_dataset/no/1.png")
    layout = find_layout(tmp_path)
    assert {file.label for file in layout.files} == {"yes", "no"}
    assert layout.notes == (
        "brain_tumor_dataset: passed over with its 2 files, because it holds the folders beside it (no, yes) once more.",
    )


# ---------------------------------------------------------------------------------------------------- tables and files


TABLE = "image,dx,patient_id\n" + "".join(f"{number},{'ab'[number % 2]},p{number // 2}\n" for number in range(8))


@pytest.mark.parametrize(
    "paths",
    [
        [f"{number}.png" for number in range(8)],
        [f"images/{number}.png" for number in range(8)],
        [f"HAM10000_images_part_{1 + number // 4}/{number}.jpg" for number in range(8)],
        [f"set/images_00{1 + number // 4}/images/{number}.jpg" for number in range(8)],
    ],
)
def test_images_without_class_folders_take_their_classes_from_the_table_beside_them(tmp_path, paths):
    touch(tmp_path, *paths, "README.csv")
    (tmp_path / "truth.csv").write_text(TABLE)
    (tmp_path / "sizes.csv").write_text("image,width\n1,20\n2,30\n")
    layout = find_layout(tmp_path)
    assert sorted(file.path for file in layout.files) == sorted(paths)
    assert {file.label for file in layout.files} == {"a", "b"}
    assert {file.patient for file in layout.files} == {"p0", "p1", "p2", "p3"}
    assert layout.notes[0] == "truth.csv: classes are taken from this table, because the folders name none."
    assert layout.root == tmp_path


def test_class_folders_come_before_a_table(tmp_path):
    touch(tmp_path, "healthy/1.png", "sick/2.png")
    (tmp_path / "truth.csv").write_text("image,dx\n1,a\n2,b\n")
    assert [label for _, label, _ in found(tmp_path)] == ["healthy", "sick"]
    layout = find_layout(tmp_path, settings=DataSettings(path=tmp_path, table=tmp_path / "truth.csv"))
    assert [file.label for file in layout.files] == ["a", "b"]


def test_two_tables_are_one_too_many(tmp_path):
    touch(tmp_path, *(f"{number}.png" for number in range(8)))
    (tmp_path / "one.csv").write_text(TABLE)
    (tmp_path / "two.csv").write_text(TABLE)
    assert "several tables could name the classes: one.csv, two.csv. Choose one with data.table." in refusal(tmp_path)


def test_a_table_that_does_not_serve_is_named_with_the_reason(tmp_path):
    touch(tmp_path, "1.png", "2.png")
    (tmp_path / "truth.csv").write_text("image,age\n1,20\n2,30\n")
    message = refusal(tmp_path)
    assert "no class folders were found" in message
    assert "(Not used as a table: " in message
    assert "truth.csv: no column with the class was recognised." in message


def test_a_table_in_place_of_a_folder(tmp_path):
    touch(tmp_path, "1.png", "2.png")
    table = tmp_path / "truth.tsv"
    table.write_text("where\twhat\n1.png\tx\n2.png\ty\n")
    layout = find_layout(table, settings=DataSettings(path=table, columns=ColumnSettings(label="what")))
    assert [(file.path, file.label) for file in layout.files] == [("1.png", "x"), ("2.png", "y")]
    assert layout.root == tmp_path


def test_an_archive_in_place_of_a_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as container:
        for name in ("set/images/1.png", "set/images/2.png", "../3.png"):
            container.writestr(name, b"x")
        container.writestr("set/truth.csv", "image,dx\n1,a\n2,b\n")
    layout = find_layout(tmp_path / "scans.zip", cache=tmp_path / "cache")
    assert [(file.path, file.label) for file in layout.files] == [("set/images/1.png", "a"), ("set/images/2.png", "b")]
    assert all(file.source == layout.root / file.path and file.source.is_file() for file in layout.files)
    assert layout.notes[0] == "scans.zip: 1 not unpacked, because their names lead out of the folder: '../3.png'."
    assert "set/truth.csv: classes are taken from this table" in layout.notes[1]


def test_an_archive_without_classes_is_refused_by_its_own_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as container:
        container.writestr("inner.zip", b"x")
    message = refusal(tmp_path / "scans.zip", cache=tmp_path / "cache")
    assert "no class folders were found" in message
    assert "archives inside it stay closed: 'inner.zip'" in message


def test_an_archive_needs_a_place_to_unpack_to(tmp_path):
    assert "no place to unpack it to was given" in refusal(touch(tmp_path, "scans.zip") / "scans.zip")


# ---------------------------------------------------------------------------------------------------- errors


def refusal(root: Path, cache: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        find_layout(root, cache=cache)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(f"{root}: ")
    return str(caught.value)


def test_a_missing_folder_is_refused(tmp_path):
    assert "there is no such folder. Check the path" in refusal(tmp_path / "absent")


def test_a_file_is_refused(tmp_path):
    assert "this is a file, not a folder" in refusal(touch(tmp_path, "scans.docx") / "scans.docx")


@pytest.mark.parametrize("hidden", [(), (".DS_Store",), ("__MACOSX/a/1.png",)])
def test_an_empty_folder_is_refused(tmp_path, hidden):
    assert "the folder is empty" in refusal(touch(tmp_path, *hidden))


def test_images_without_class_folders_are_refused(tmp_path):
    message = refusal(touch(tmp_path, "1.png", "2.JPG", "labels.csv"))
    assert "no class folders were found" in message
    assert "2 images directly in it, 1 other files" in message
    assert "Move the images of each class into a folder with its name." in message


def test_parts_without_class_folders_are_refused_and_never_taken_for_classes(tmp_path):
    message = refusal(touch(tmp_path, "train/1.png", "train/2.png", "test/3.png"))
    assert "no class folders were found" in message
    assert "train: 2 images outside the class folders were passed over" in message


def test_folders_without_files_are_refused(tmp_path):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    assert "2 sub-folders, none of them with files of a class" in refusal(tmp_path)


def test_links_in_place_of_class_folders_are_refused_by_name(tmp_path):
    touch(tmp_path, "elsewhere/1.png", "set/notes.txt")
    (tmp_path / "set" / "a").symlink_to(tmp_path / "elsewhere")
    assert "1 links to folders, which are not followed" in refusal(tmp_path / "set")


@pytest.mark.parametrize("paths", [("a/1.png",), ("train/a/1.png", "test/a/1.png"), ("data/a/1.png",)])
def test_one_class_is_refused_by_name(tmp_path, paths):
    assert "only one class was found, 'a'" in refusal(touch(tmp_path, *paths))
