from __future__ import annotations

import pytest
from audit_data import data_set, entry, plain

from vitrail.audit import AuditContext, NotApplicable
from vitrail.audit.files import (
    DerivedFiles,
    MisnamedImages,
    MixedPolarity,
    NoImages,
    PassedOver,
    UnreadableImages,
    UnusualImages,
    Volumes,
    is_image,
)
from vitrail.datasets import DERIVED
from vitrail.records import ImageFile


def run(check, *files):
    return check.run(AuditContext.of(data_set(*files)))


# ---------------------------------------------------------------------------------------------------- IO101


@pytest.mark.parametrize(("readable", "severity"), [(98, "error"), (99, "warning"), (100, "warning")])
def test_io101_is_an_error_above_one_percent_of_a_class(readable, severity):
    found = run(UnreadableImages(), *plain("cyst", readable), entry("cyst/z.png", status="unreadable"), *plain("healthy", 500))
    assert (found.severity, found.count) == (severity, 1)


def test_io101_names_figures_by_class_and_reasons_worst_class_first():
    found = run(
        UnreadableImages(),
        *plain("cyst", 9),
        entry("cyst/z.png", status="unreadable", size=1, problem="truncated: the file ends before the image does."),
        *plain("bone", 18),
        entry("bone/y.png", status="unreadable"),
        entry("bone/z.png", status="unreadable"),
        *plain("apex", 99),
        entry("apex/z.png", status="unreadable"),
        entry("apex/notes.txt", status="not_an_image"),
    )
    assert found.message == (
        "4 of 130 images (3.1 %) cannot be decoded to the end; "
        "by class bone 2 of 20 (10.0 %), apex 1 of 100 (1.0 %), cyst 1 of 10 (10.0 %)."
    )
    assert [piece.paths[0] for piece in found.evidence] == ["bone/y.png", "bone/z.png", "cyst/z.png", "apex/z.png"]
    assert found.evidence[2].note == "truncated: the file ends before the image does (1 byte)"


def test_io101_passes_when_all_images_can_be_read():
    assert run(UnreadableImages(), *plain("cyst", 3), entry("cyst/empty.png", status="empty")) is None


# ---------------------------------------------------------------------------------------------------- IO102


def test_io102_finds_images_of_another_format_than_their_extension():
    found = run(
        MisnamedImages(),
        *plain("cyst", 3),
        entry("cyst/a.JPG", kind="PNG"),
        entry("cyst/b.jpg", kind="PNG"),
        entry("healthy/c.tif", kind="BMP"),
    )
    assert (found.severity, found.count) == ("warning", 3)
    assert found.message == (
        "3 images of another format than the extension says (PNG named .jpg: 2, BMP named .tif: 1); by class cyst 2, healthy 1."
    )
    assert found.evidence[0].paths == ("healthy/c.tif",)  # the rare kind is the telling one


def test_io102_passes_right_names_in_any_case_and_names_that_say_nothing():
    right = [
        entry("a/1.jpeg", kind="JPEG"),
        entry("a/2.JPG", kind="JPEG"),
        entry("a/3.TIF", kind="TIFF"),
        entry("a/4.bmp", kind="BMP"),
    ]
    assert run(MisnamedImages(), *right, entry("a/IM-0001", kind="PNG"), entry("a/IM.0002", kind="PNG")) is None


def test_io102_leaves_unreadable_files_to_io101():
    assert run(MisnamedImages(), entry("a/1.jpg", status="unreadable", kind="PNG")) is None


# ---------------------------------------------------------------------------------------------------- IO103


def test_io103_finds_empty_files_text_named_png_and_formats_that_are_not_read():
    found = run(
        NoImages(),
        *plain("cyst", 3),
        entry("cyst/a_notes.txt", status="not_an_image"),
        entry("cyst/b.png", status="empty"),
        entry("cyst/c.png", status="not_an_image", problem="not an image: the bytes are none of JPEG, PNG, BMP, TIFF."),
        entry("cyst/d.dcm", status="not_an_image"),
    )
    assert (found.severity, found.count) == ("warning", 4)
    assert (
        found.message
        == "4 files without an image of a known format (1 empty, 3 with other content), 3 of them named like an image."
    )
    assert [piece.paths[0][5:] for piece in found.evidence] == ["b.png", "c.png", "d.dcm", "a_notes.txt"]
    assert [piece.note for piece in found.evidence][:2] == ["empty", "not an image: the bytes are none of JPEG, PNG, BMP, TIFF"]


def test_io103_is_only_information_when_no_file_is_named_like_an_image():
    found = run(NoImages(), *plain("cyst", 3), entry("cyst/labels.csv", status="not_an_image"))
    assert (found.severity, found.count) == ("info", 1)


def test_io103_says_nothing_of_files_that_file_managers_leave_behind():
    left = [entry(f"cyst/{name}", status="not_an_image") for name in (".DS_Store", "Thumbs.db", "Desktop.ini")]
    assert run(NoImages(), *plain("cyst", 3), *left) is None


@pytest.mark.parametrize(
    ("path", "status", "expected"),
    [
        ("a/1.jpg", "empty", True),
        ("a/1.TIFF", "not_an_image", True),
        ("a/IM0001", "readable", True),
        ("a/IM0001", "unreadable", True),
        ("a/notes.txt", "not_an_image", False),
        ("a/.DS_Store", "not_an_image", False),
        ("a/1.png", "excluded", False),
    ],
)
def test_an_image_is_one_by_name_or_by_content(path, status, expected):
    assert is_image(entry(path, status=status)) is expected


# ---------------------------------------------------------------------------------------------------- IO104


def test_io104_finds_masks_beside_their_images_and_nothing_else_that_is_left_out():
    found = run(
        DerivedFiles(),
        *plain("cyst", 3),
        entry("cyst/00000_mask.png", status="excluded", problem=f"{DERIVED}cyst/00000.png"),
        entry("cyst/00001_mask.png", status="excluded", problem=f"{DERIVED}cyst/00001.png"),
        entry("cyst/blurred.png", status="excluded", problem="left out by the list of fixes"),
    )
    assert (found.severity, found.count) == ("warning", 2)
    assert found.message == "2 files named as a mask or drawing of the image beside; by class cyst 2."
    assert [piece.paths for piece in found.evidence] == [("cyst/00000_mask.png",), ("cyst/00001_mask.png",)]
    assert found.evidence[0].note == f"{DERIVED}cyst/00000.png"


def test_io104_passes_a_data_set_without_masks():
    assert run(DerivedFiles(), *plain("cyst", 3), entry("cyst/x.png", status="excluded", problem="left out")) is None


# ---------------------------------------------------------------------------------------------------- IO105


def test_io105_counts_images_of_unusual_form_but_not_those_of_medical_formats():
    files = [
        *plain("cyst", 3),
        entry("cyst/cmyk.jpg", kind="JPEG", mode="CMYK"),
        entry("cyst/deep.png", mode="I;16"),
        entry("healthy/deep.png", mode="I;16", turned=True),
        entry("healthy/clear.png", mode="RGBA"),
        entry("healthy/rgb.png", mode="RGB"),
        entry("healthy/scan.dcm", kind="DICOM", mode="MONOCHROME2 16"),
    ]
    found = run(UnusualImages(), *files)
    assert (found.severity, found.count) == ("info", 4)
    assert {piece.paths[0]: piece.note for piece in found.evidence} == {
        "cyst/cmyk.jpg": "CMYK",
        "cyst/deep.png": "more than 8 bits",
        "healthy/deep.png": "more than 8 bits, turned by EXIF",
        "healthy/clear.png": "transparency",
    }
    assert run(UnusualImages(), *plain("cyst", 3), entry("cyst/rgb.png", mode="RGB")) is None


# ---------------------------------------------------------------------------------------------------- IO106


def dicom(path: str, mode: str, **changes: str) -> ImageFile:
    return entry(path, kind="DICOM", mode=mode, **changes)


def test_io106_counts_both_polarities_by_class():
    found = run(
        MixedPolarity(),
        *[dicom(f"cyst/{number}.dcm", "MONOCHROME1") for number in range(3)],
        *[dicom(f"healthy/{number}.dcm", "MONOCHROME2") for number in range(4)],
        dicom("healthy/dark.dcm", "MONOCHROME1"),
        dicom("healthy/broken.dcm", "MONOCHROME1", status="unreadable"),
        *plain("cyst", 5),
    )
    assert (found.severity, found.count) == ("info", 4)
    assert found.message == (
        "4 of 8 grey DICOM images (50.0 %) store high values as dark (MONOCHROME1); "
        "by class cyst 3 of 3 (100.0 %), healthy 1 of 5 (20.0 %)."
    )
    assert len(found.evidence) == 4


@pytest.mark.parametrize("mode", ["MONOCHROME1", "MONOCHROME2"])
def test_io106_passes_one_polarity_and_does_not_apply_without_dicom(mode):
    assert run(MixedPolarity(), *[dicom(f"cyst/{number}.dcm", mode) for number in range(3)], *plain("cyst", 2)) is None
    with pytest.raises(NotApplicable, match="no grey DICOM"):
        run(MixedPolarity(), *plain("cyst", 3))


# ---------------------------------------------------------------------------------------------------- IO107


def test_io107_counts_files_of_which_slices_are_used():
    found = run(
        Volumes(),
        *[entry(f"cyst/a.nii.gz#{number}", volume="cyst/a.nii.gz") for number in (40, 50, 60)],
        entry("healthy/b.nii#7", volume="healthy/b.nii"),
        entry("healthy/broken.nii#0", volume="healthy/broken.nii", status="unreadable"),
        *plain("cyst", 2),
    )
    assert (found.severity, found.count) == ("info", 2)
    assert found.message == "2 files with several slices or frames each; 4 of these are used."
    assert {piece.paths: piece.note for piece in found.evidence} == {
        ("cyst/a.nii.gz#40", "cyst/a.nii.gz#50", "cyst/a.nii.gz#60"): "3 slices used",
        ("healthy/b.nii#7",): "1 slice used",
    }


def test_io107_passes_series_of_single_slices_and_names_with_a_number_sign():
    series = [entry(f"cyst/{number}.dcm", kind="DICOM", volume="series") for number in range(3)]
    assert run(Volumes(), *series, entry("cyst/case #7.png")) is None


# ---------------------------------------------------------------------------------------------------- IO108


def test_io108_tells_what_was_passed_over():
    manifest = data_set(*plain("cyst", 3), notes=("docs: no class folder", "readme.txt: beside the classes"))
    found = PassedOver().run(AuditContext.of(manifest))
    assert (found.severity, found.count) == ("info", 2)
    assert found.message == "2 places beside the class folders passed over: docs: no class folder"
    assert run(PassedOver(), *plain("cyst", 3)) is None
