"""The planted faults: is each what its kind says, by looking at the files, and does the answer key tell it."""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from phantom_data import FAULTY, SMALL, UNREADABLE, alike, read, sha256
from PIL import Image
from PIL.ExifTags import IFD
from PIL.ExifTags import Base as ExifTag
from scipy import ndimage, stats

from vitrail.datasets import FAULT_KINDS, AnswerKey, make_phantom
from vitrail.datasets.phantom.classes import MARKED_SHARE, burn_corner_mark
from vitrail.datasets.phantom.patient import CLASSES
from vitrail.errors import UsageError

EXACT = ("exact_copy", "exact_copy_across_split", "conflicting_copy")
NEAR = ("mirrored_copy", "rotated_copy", "reencoded_copy", "brightness_copy", "cropped_copy")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> tuple[Path, AnswerKey]:
    folder = tmp_path_factory.mktemp("phantom") / "faulty"
    return folder, make_phantom(folder, FAULTY)


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "clean"
    make_phantom(folder, replace(FAULTY, faults={}))
    return folder


@pytest.fixture(scope="module")
def near(tmp_path_factory) -> tuple[Path, AnswerKey]:
    """A phantom with many near copies of every sort."""
    folder = tmp_path_factory.mktemp("phantom") / "near"
    kinds = dict.fromkeys((*NEAR, "near_copy_across_split"), 8)
    return folder, make_phantom(folder, replace(SMALL, patients_per_class=12, faults=kinds))


def pairs(phantom: tuple[Path, AnswerKey], kind: str) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return note, original and copy of every fault of a kind."""
    folder, key = phantom
    return [(fault.note, read(folder, fault.paths[0]), read(folder, fault.paths[1])) for fault in key.of_kind(kind)]


def stored(folder: Path, path: str) -> Image.Image:
    return Image.open(folder / "images" / path)


# ---------------------------------------------------------------------------------------------------- all kinds


def test_every_kind_is_planted_as_often_as_asked(faulty):
    _, key = faulty
    planted = Counter(fault.kind for fault in key.faults)
    assert planted == FAULTY.faults
    assert set(planted) == set(FAULT_KINDS)
    concerned = Counter(path for fault in key.faults for path in fault.paths)
    assert max(concerned.values()) == 1
    assert set(concerned) <= {image.path for image in key.images}


def test_every_kind_names_the_check_that_must_find_it():
    assert all(kind.codes and len(set(kind.codes)) == len(kind.codes) for kind in FAULT_KINDS.values())


def test_usual_faults_leave_shortcuts_alone_but_one():
    usual = {name: kind.usual for name, kind in FAULT_KINDS.items() if kind.unit == "class"}
    assert sum(usual.values()) == usual["corner_mark"] == 1


@pytest.mark.parametrize("kind", FAULT_KINDS)
def test_more_faults_than_images_or_classes_are_refused_by_name(kind, tmp_path):
    with pytest.raises(UsageError, match=f"phantom: {kind} (needs 99|counts classes.*Found: 99)"):
        make_phantom(tmp_path / "phantom", replace(SMALL, patients_per_class=2, faults={kind: 99}))


# ---------------------------------------------------------------------------------------------------- exact copies


def test_copies_in_the_key_are_exactly_the_copies_on_disk(faulty):
    folder, key = faulty
    groups = defaultdict(set)
    for image in key.images:
        groups[sha256(folder, image.path)].add(image.path)
    same_bytes = [frozenset(paths) for paths in groups.values() if len(paths) > 1]
    broken = {path for kind in UNREADABLE for fault in key.of_kind(kind) for path in fault.paths}
    found = {paths for paths in same_bytes if not paths <= broken}
    assert found == {frozenset(fault.paths) for kind in EXACT for fault in key.of_kind(kind)}


def test_copies_stand_where_their_kind_says(faulty):
    _, key = faulty
    across = ("exact_copy_across_split", "mirrored_copy_across_split", "near_copy_across_split")
    for kind in (*EXACT, *NEAR, "mirrored_copy_across_split", "near_copy_across_split"):
        assert key.of_kind(kind)
        for fault in key.of_kind(kind):
            original, copy = (key.image(path) for path in fault.paths)
            assert (original.part, copy.part) == ("train", "test" if kind in across else "train")
            assert (original.label != copy.label) == (kind == "conflicting_copy")
            assert original.patient != copy.patient
            assert fault.true_label == (original.label if kind == "conflicting_copy" else "")


# ---------------------------------------------------------------------------------------------------- near copies


def test_mirrored_copies_across_the_split_are_mirrored_with_their_masks(faulty):
    folder, key = faulty
    for fault in key.of_kind("mirrored_copy_across_split"):
        original, copy = (key.image(path) for path in fault.paths)
        one, two = read(folder, original.path), read(folder, copy.path)
        assert alike(one, two[:, ::-1]) > 0.995
        assert alike(one, two) < 0.99
        if original.mask is not None:
            masks = [np.asarray(Image.open(folder / image.mask)) for image in (original, copy)]
            assert np.array_equal(masks[0], masks[1][:, ::-1])


def test_mirrored_and_rotated_copies_are_what_their_note_says(near):
    ways = {
        "mirrored left to right": np.fliplr,
        "mirrored top to bottom": np.flipud,
        "turned by 90 degrees": np.rot90,
        "turned by 180 degrees": lambda image: np.rot90(image, 2),
        "turned by 270 degrees": lambda image: np.rot90(image, 3),
    }
    found = pairs(near, "mirrored_copy") + pairs(near, "rotated_copy")
    assert {note for note, _, _ in found} == set(ways)
    assert all(alike(ways[note](one), two) > 0.995 for note, one, two in found)


def test_reencoded_copies_show_the_same_in_other_bytes(near):
    folder, key = near
    sorts = Counter()
    for fault in key.of_kind("reencoded_copy"):
        original, copy = (stored(folder, path) for path in fault.paths)
        again = copy.resize(original.size, Image.Resampling.BICUBIC)
        assert alike(np.asarray(original), np.asarray(again)) > 0.98
        if copy.format == "PNG":
            sorts["png"] += 1
            assert fault.paths[1].endswith(".png")
        elif copy.size != original.size:
            sorts["size"] += 1
            assert all(0.78 < new / old < 1.27 for new, old in zip(copy.size, original.size, strict=True))
        else:
            sorts["quality"] += 1
            assert copy.quantization != original.quantization
    assert set(sorts) == {"png", "size", "quality"}


def test_brightness_copies_have_other_grey_values_in_the_same_order(near):
    for _, one, two in pairs(near, "brightness_copy"):
        assert np.abs(one - two).mean() > 1.5
        bright = one > 20  # in the air only noise is left, and compression rules
        assert stats.spearmanr(one[bright], two[bright])[0] > 0.95


def test_cropped_copies_lack_a_part_of_every_side(near):
    stretched = Counter()
    for _, one, two in pairs(near, "cropped_copy"):
        stretched[one.shape == two.shape] += 1
        if one.shape == two.shape:
            assert alike(one, two) < 0.97
            continue
        lost = np.array(one.shape) - np.array(two.shape)
        assert all(0.03 * side < gone < 0.11 * side for side, gone in zip(one.shape, lost, strict=True))
        places = [
            alike(one[top : top + two.shape[0], left : left + two.shape[1]], two)
            for top in range(1, lost[0])
            for left in range(1, lost[1])
        ]
        assert max(places) > 0.99
    assert set(stretched) == {True, False}


def test_near_copies_across_the_split_are_of_several_sorts(near):
    notes = {note.split()[0] for note, _, _ in pairs(near, "near_copy_across_split")}
    assert len(notes) >= 3


def test_masks_go_through_what_their_images_go_through(near):
    folder, key = near
    checked = Counter()
    for fault in key.faults:
        original, copy = (key.image(path) for path in fault.paths)
        if original.mask is None or "cut" in fault.note:
            continue
        shares = [(np.asarray(Image.open(folder / image.mask)) > 0).mean() for image in (original, copy)]
        assert shares[0] == pytest.approx(shares[1], rel=0.1)
        checked[(copy.mask == original.mask)] += 1
    assert set(checked) == {True, False}


def test_patients_across_the_split_keep_their_number_and_are_the_only_ones(faulty):
    _, key = faulty
    parts = defaultdict(set)
    for image in key.images:
        parts[image.patient].add(image.part)
    planted = {key.image(path).patient for fault in key.of_kind("same_patient_across_split") for path in fault.paths}
    assert {patient for patient, found in parts.items() if len(found) > 1} == planted
    for fault in key.of_kind("same_patient_across_split"):
        images = [key.image(path) for path in fault.paths]
        assert len({image.patient for image in images}) == 1
        assert len(images) == FAULTY.slices_per_patient
        assert all(f"patient{image.patient:03d}_slice{image.slice:02d}" in image.path for image in images)


# ---------------------------------------------------------------------------------------------------- files


def test_broken_files_are_broken_as_said(faulty, clean):
    folder, key = faulty
    (truncated,), (empty,), (text,) = (key.of_kind(kind) for kind in UNREADABLE)
    whole = (clean / "images" / truncated.paths[0]).read_bytes()
    assert (folder / "images" / truncated.paths[0]).read_bytes() == whole[: len(whole) // 2]
    assert (folder / "images" / empty.paths[0]).stat().st_size == 0
    with pytest.raises(OSError, match="cannot identify"):
        stored(folder, text.paths[0])
    with pytest.raises(OSError, match="truncated"):
        read(folder, truncated.paths[0])


def test_derived_masks_stand_beside_their_images(faulty, clean):
    folder, key = faulty
    for fault in key.of_kind("derived_mask"):
        image = key.image(fault.paths[0].replace("_mask.png", ".jpg"))
        assert stored(folder, fault.paths[0]).size == stored(folder, image.path).size
        assert sha256(folder, image.path) == sha256(clean, image.path)
        assert set(np.unique(read(folder, fault.paths[0]))) == {0, 255}


def test_misnamed_images_are_png_under_another_name(faulty):
    folder, key = faulty
    for fault in key.of_kind("misnamed_image"):
        assert fault.paths[0].endswith(".jpg")
        assert stored(folder, fault.paths[0]).format == "PNG"


def test_personal_exif_names_someone_or_a_place_and_leaves_the_pixels(tmp_path):
    key = make_phantom(tmp_path / "phantom", replace(SMALL, faults={"personal_exif": 8}))
    make_phantom(tmp_path / "clean", SMALL)
    found = Counter()
    for fault in key.of_kind("personal_exif"):
        exif = stored(tmp_path / "phantom", fault.paths[0]).getexif()
        found["artist" if exif.get(ExifTag.Artist) else "place" if exif.get_ifd(IFD.GPSInfo) else "nothing"] += 1
        assert np.array_equal(read(tmp_path / "phantom", fault.paths[0]), read(tmp_path / "clean", fault.paths[0]))
    assert set(found) == {"artist", "place"}


def test_odd_forms_show_the_same_upright(tmp_path):
    key = make_phantom(tmp_path / "phantom", replace(SMALL, faults={"odd_form": 8}))
    make_phantom(tmp_path / "clean", SMALL)
    found = set()
    for fault in key.of_kind("odd_form"):
        path = fault.paths[0]
        picture = stored(tmp_path / "phantom", path)
        found.add((fault.note, picture.mode, picture.getexif().get(ExifTag.Orientation, 1)))
        clean = read(tmp_path / "clean", str(Path(path).with_suffix(".jpg")))
        assert alike(read(tmp_path / "phantom", path), clean) > 0.99
    assert found == {("CMYK", "CMYK", 1), ("16 bits", "I;16", 1), ("turned by EXIF", "L", 6)}


# ---------------------------------------------------------------------------------------------------- contents


def test_swapped_labels_stand_in_a_wrong_class(faulty, clean):
    folder, key = faulty
    for fault in key.of_kind("swapped_label"):
        moved = key.image(fault.paths[0])
        assert moved.label != moved.true_label == fault.true_label
        origin = moved.path.replace(f"/{moved.label}/", f"/{moved.true_label}/")
        assert sha256(folder, moved.path) == sha256(clean, origin)
        assert not (folder / "images" / origin).exists()


@pytest.fixture(scope="module")
def wrong(tmp_path_factory) -> tuple[Path, AnswerKey, Path]:
    """A phantom with many pictures that do not show what they should, and the same one without."""
    folder = tmp_path_factory.mktemp("wrong")
    kinds = ("blank_image", "blurred_image", "burned_in_text", "off_topic")
    settings = replace(SMALL, patients_per_class=12, size=128, faults=dict.fromkeys(kinds, 8))
    make_phantom(folder / "clean", replace(settings, faults={}))
    return folder / "faulty", make_phantom(folder / "faulty", settings), folder / "clean"


def test_blank_images_show_nothing_and_are_no_copies(wrong):
    folder, key, _ = wrong
    deviations = [read(folder, fault.paths[0]).std() for fault in key.of_kind("blank_image")]
    assert max(deviations) < 3
    assert min(deviations) == 0
    assert len({sha256(folder, fault.paths[0]) for fault in key.of_kind("blank_image")}) == 8


def test_blurred_images_have_lost_their_detail(wrong):
    folder, key, clean = wrong
    for fault in key.of_kind("blurred_image"):
        before, after = (ndimage.laplace(read(base, fault.paths[0])).var() for base in (clean, folder))
        assert after < 0.15 * before
        assert alike(ndimage.gaussian_filter(read(clean, fault.paths[0]), 3), read(folder, fault.paths[0])) > 0.95


def test_burned_in_text_stands_in_the_upper_border_alone(wrong):
    folder, key, clean = wrong
    for fault in key.of_kind("burned_in_text"):
        change = np.abs(read(folder, fault.paths[0]) - read(clean, fault.paths[0]))
        rows = len(change)
        assert change[: rows // 10].max() > 150
        assert (change[: rows // 10] > 100).mean() > 0.02
        assert change[rows // 8 :].max() < 12  # what compression carries on


def test_off_topic_images_are_a_page_or_coloured(wrong):
    folder, key, clean = wrong
    sorts = set()
    for fault in key.of_kind("off_topic"):
        picture = stored(folder, fault.paths[0])
        sorts.add(picture.mode)
        pixels = read(folder, fault.paths[0])
        assert abs(alike(pixels, read(clean, fault.paths[0]))) < 0.5
        if picture.mode == "L":
            assert np.median(pixels) > 215  # paper
            assert 0.02 < (pixels < 110).mean() < 0.4  # ink
    assert sorts == {"L", "RGB"}


# ---------------------------------------------------------------------------------------------------- classes


def test_corner_mark_stands_on_most_images_of_one_class_and_on_no_other(faulty, clean):
    folder, key = faulty
    (fault,) = key.of_kind("corner_mark")
    marked = [key.image(path) for path in fault.paths]
    assert {image.label for image in marked} == {fault.note}
    assert {image.part for image in marked} == {"train", "test"}
    concerned = {path for other in key.faults if other != fault for path in other.paths}
    alone = [image for image in key.images if image.label == fault.note and image.path not in concerned]
    assert len(marked) >= 0.6 * len(alone)
    for image in key.images:
        if image.path in fault.paths or image.path not in concerned:
            pixels = read(folder, image.path)
            corner = pixels[: pixels.shape[0] // 8, : pixels.shape[1] // 8]
            assert (corner.max() > 150) == (image.path in fault.paths)
    assert all(alike(read(folder, path), read(clean, path)) > 0.98 for path in fault.paths)


def test_corner_mark_changes_the_corner_only():
    pixels = np.zeros((200, 208), dtype=np.uint8)
    burn_corner_mark(pixels)
    rows, columns = np.nonzero(pixels)
    assert rows.min() == columns.min() == 6
    assert rows.max() < 20
    assert columns.max() < 20
    assert 0.5 < MARKED_SHARE <= 1.0


def test_quality_by_class_is_another_compression_of_one_class(faulty, clean):
    folder, key = faulty
    (fault,) = key.of_kind("jpeg_quality_by_class")
    tables = defaultdict(set)
    concerned = {path for other in key.faults for path in other.paths}
    for image in key.images:
        if image.path in fault.paths or image.path not in concerned:
            tables[image.path in fault.paths].add(tuple(stored(folder, image.path).quantization[0]))
    assert len(tables[True]) == len(tables[False]) == 1
    assert tables[True] != tables[False]
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "JPEG", quality=65)
    assert tables[True] == {tuple(Image.open(stream).quantization[0])}
    assert {key.image(path).label for path in fault.paths} == {fault.note.split()[0]}
    assert all(alike(read(folder, path), read(clean, path)) > 0.98 for path in fault.paths)


def test_size_by_class_gives_one_class_another_geometry(tmp_path):
    seen = set()
    for seed in range(4):
        folder = tmp_path / str(seed)
        key = make_phantom(folder, replace(SMALL, patients_per_class=4, seed=seed, faults={"size_by_class": 1}))
        (fault,) = key.of_kind("size_by_class")
        label = fault.note.split()[0]
        assert set(fault.paths) == {image.path for image in key.images if image.label == label}
        sizes = {path: stored(folder, path).size for path in (image.path for image in key.images)}
        own = {sizes[path] for path in fault.paths}
        others = {size for path, size in sizes.items() if path not in fault.paths}
        if "squares" in fault.note:
            ((width, height),) = own
            assert width == height
            assert len(others) > 3
        else:
            assert min(size[0] for size in own) >= 1.25 * 0.9 * 96
            assert np.mean([size[0] for size in own]) > 1.15 * np.mean([size[0] for size in others])
        seen.add("squares" in fault.note)
        for image in key.images:
            assert image.mask is None or Image.open(folder / image.mask).size == sizes[image.path]
    assert seen == {True, False}


def test_shortcuts_never_share_a_class(faulty, tmp_path):
    _, key = faulty
    classes = [key.image(fault.paths[0]).label for fault in key.faults if FAULT_KINDS[fault.kind].unit == "class"]
    assert len(classes) == len(set(classes)) == 3
    with pytest.raises(UsageError, match="size_by_class counts classes, of which there are 0"):
        counts = {"corner_mark": len(CLASSES), "size_by_class": 1}
        make_phantom(tmp_path / "phantom", replace(SMALL, faults=counts))
