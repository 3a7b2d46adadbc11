from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from audit_data import data_set, entry
from picture_data import blob, blobs, letters, named, scanned, written
from PIL import Image

from vitrail.audit import AuditContext, NotApplicable
from vitrail.audit.privacy import BurnedInText, PersonalExif, PersonalHeaders, PersonalPaths, personal_part
from vitrail.audit.text_lines import find_lines


def run(check, *files):
    return check.run(AuditContext.of(data_set(*files)))


# ---------------------------------------------------------------------------------------------------- headers


def dicom(path, *private):
    return replace(entry(path, kind="DICOM"), private=private)


def test_phi701_names_fields_and_counts_files_not_slices():
    found = run(
        PersonalHeaders(),
        dicom("cyst/a.dcm#0", "PatientName", "PatientBirthDate"),
        dicom("cyst/a.dcm#1", "PatientName", "PatientBirthDate"),
        dicom("healthy/b.dcm", "PatientName"),
        dicom("healthy/c.dcm"),
    )
    assert (found.severity, found.count) == ("warning", 2)
    assert found.message == "2 files with identifiers in the header (PatientName 2, PatientBirthDate 1)."
    assert found.evidence[0].paths == ("cyst/a.dcm#0",)
    assert found.evidence[0].note == "filled: PatientName, PatientBirthDate"


def test_phi701_passes_clean_headers_and_does_not_apply_to_plain_images():
    assert run(PersonalHeaders(), dicom("cyst/a.dcm"), dicom("healthy/b.dcm")) is None
    with pytest.raises(NotApplicable):
        run(PersonalHeaders(), entry("cyst/a.png"), entry("healthy/b.png"))


def test_phi701_speaks_of_a_header_whose_pixels_are_broken_too():
    broken = replace(dicom("cyst/a.dcm", "PatientID"), status="unreadable")
    assert run(PersonalHeaders(), broken, dicom("healthy/b.dcm")).count == 1


def test_phi703_finds_what_a_camera_wrote_and_leaves_headers_of_scanners_to_phi701(tmp_path):
    exif = Image.Exif()
    exif[0x013B] = "Jane Doe"
    scanned(tmp_path, blobs(3))
    Image.fromarray(blob(77)).save(tmp_path / "images" / "cyst" / "photo.jpg", exif=exif)
    found = PersonalExif().run(scanned(tmp_path, {}))
    assert named(found) == {"cyst/photo.jpg"}
    assert "Artist 1" in found.message
    assert "Doe" not in str(found)
    assert run(PersonalExif(), dicom("cyst/a.dcm", "PatientName"), entry("healthy/b.png")) is None
    with pytest.raises(NotApplicable):
        run(PersonalExif(), dicom("cyst/a.dcm", "PatientName"))


# ---------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    "path",
    [
        "cyst/19610412_scan.png",
        "cyst/doe_1961-04-12.png",
        "cyst/12.04.1961/a.png",
        "cyst/04-12-1961.png",
        "cyst/IMG_20230611_101500.jpg",
        "cyst/20230611101500.jpg",
        "2019_3_07/cyst/a.png",
    ],
)
def test_phi704_finds_dates(path):
    assert personal_part(path) == "date"


@pytest.mark.parametrize("path", ["cyst/48291374.png", "cyst/mrn-1029384756_2.png"])
def test_phi704_finds_long_numbers(path):
    assert personal_part(path) == "long number"


@pytest.mark.parametrize(
    "path",
    [
        "Training/glioma_tumor/gg (10).jpg",
        "train/PNEUMONIA/person1000_bacteria_2931.jpeg",
        "train/NORMAL/NORMAL2-IM-1427-0001.jpeg",
        "cyst/ISIC_0024306.jpg",
        "cyst/000000123456.jpg",
        "1.2.840.113619.2.5.1762583153.215519.978957063.78/cyst/a.dcm",
        "cyst/5f4dcc3b5aa765d61d8327deb882cf9920230611.png",
        "cyst/550e8400-e29b-41d4-a716-446655440000.png",
        "BraTS20_Training_001/slice_100.png",
    ],
)
def test_phi704_passes_codes_counters_and_fingerprints(path):
    assert personal_part(path) == ""


def test_phi704_warns_of_dates_and_mentions_numbers():
    dates = run(PersonalPaths(), entry("cyst/19610412.png"), entry("cyst/48291374.png"), entry("healthy/a.png"))
    assert (dates.severity, dates.count) == ("warning", 2)
    assert [piece.note for piece in dates.evidence] == ["date in the path", "long number in the path"]
    numbers = run(PersonalPaths(), entry("cyst/48291374.png"), entry("healthy/a.png"))
    assert numbers.severity == "info"
    assert run(PersonalPaths(), entry("cyst/a.png"), entry("healthy/b.png")) is None


# ---------------------------------------------------------------------------------------------------- pixels


def ground(kind: str, side: int) -> np.ndarray:
    if kind == "black":
        return np.zeros((side, side), dtype=np.uint8)
    if kind == "noise":
        return np.clip(np.random.default_rng(0).normal(60, 10, (side, side)), 0, 255).astype(np.uint8)
    return blob(3, rows=side, columns=side)


@pytest.mark.parametrize("kind", ["black", "noise", "blob"])
@pytest.mark.parametrize("side", [256, 512, 1024])
@pytest.mark.parametrize("place", ["top", "bottom"])
def test_a_name_and_a_date_are_seen_where_they_stand(kind, side, place):
    height = max(11, side // 32)
    top = 4 if place == "top" else side - 2 * height
    lines = find_lines(written(ground(kind, side), "DOE^JANE 1961-04-12", height=height, at=(side // 8, top)))
    assert lines
    assert top - height / 2 <= lines[0].top < lines[0].bottom <= top + 2 * height
    assert lines[0].left < side / 2


@pytest.mark.parametrize("kind", ["black", "noise", "blob"])
@pytest.mark.parametrize("side", [256, 512, 1024])
@pytest.mark.parametrize("text", ["", "L", "R", "L  R"])
def test_images_without_text_and_side_markers_hold_no_lines(kind, side, text):
    assert find_lines(written(ground(kind, side), text, height=side // 12, at=(side // 20, side // 20))) == []


def test_dark_text_on_white_is_seen_too():
    assert find_lines(written(np.full((300, 300), 255, np.uint8), "MUSTERMANN, ERIKA", height=14, at=(30, 40), fill=20))


def test_colour_and_odd_sizes_are_no_accident():
    assert find_lines(np.zeros((30, 2000), np.uint8)) == []
    assert find_lines(np.zeros((1, 1), np.uint8)) == []
    assert find_lines(np.stack([written(ground("noise", 256), "DOE^JANE 1961-04-12", height=12)] * 3, axis=2))


def test_phi702_finds_the_images_with_text_and_prints_none_of_it(tmp_path):
    pictures = blobs(60, rows=256, columns=256)
    marked = [f"cyst/{letters(number)}.png" for number in (4, 17, 33)]
    for path in marked:
        pictures[path] = written(pictures[path], "DOE^JANE 1961-04-12", height=13)
    for path in list(pictures)[60:90]:
        pictures[path] = written(pictures[path], "L", height=16)
    found = BurnedInText().run(scanned(tmp_path, pictures))
    assert named(found) == set(marked)
    assert (found.severity, found.count) == ("warning", 3)
    assert "possible text" in found.message
    assert found.evidence[0].note.endswith(("top left", "top centre"))
    assert "DOE" not in str(found)


def test_phi702_finds_text_that_stands_in_every_image(tmp_path):
    pictures = {
        path: written(pixels, "ST MARY 1961-04-12", height=13) for path, pixels in blobs(30, rows=256, columns=256).items()
    }
    found = BurnedInText().run(scanned(tmp_path, pictures))
    assert found.count >= 10
    assert "opened at random" in found.message


def test_phi702_passes_images_without_text_and_believes_a_header(tmp_path):
    context = scanned(tmp_path, blobs(30, rows=256, columns=256))
    assert BurnedInText().run(context) is None
    files = list(context.manifest.files)
    files[5] = replace(files[5], private=("BurnedInAnnotation",))
    told = replace(context, manifest=replace(context.manifest, files=tuple(files)))
    assert named(BurnedInText().run(told)) == {files[5].path}


def test_phi702_does_not_apply_without_images():
    with pytest.raises(NotApplicable):
        run(BurnedInText(), entry("cyst/a.png", status="empty"), entry("healthy/a.png", status="empty"))
