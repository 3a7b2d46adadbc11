from __future__ import annotations

import numpy as np
import pytest
from audit_data import data_set, entry, plain
from copy_data import cropped, picture, thumbnail
from hypothesis import given
from hypothesis import strategies as st

from vitrail.audit import AuditContext, NotApplicable
from vitrail.audit.leaks import (
    LeakedTestImages,
    LeakedValidationImages,
    NearlyLeakedTestImages,
    PatientsAcrossParts,
    VolumesAcrossParts,
)
from vitrail.records import ImageFile, Manifest


def run(check, *files):
    return check.run(AuditContext.of(data_set(*files)))


@given(
    st.lists(st.tuples(st.sampled_from(["train", "validation", "test"]), st.sampled_from("abcdefgh")), min_size=1, max_size=25)
)
def test_leak301_counts_test_images_whose_bytes_stand_elsewhere(places):
    files = [entry(f"{part}/cyst/{number:02d}.png", content) for number, (part, content) in enumerate(places)]
    elsewhere = {content for part, content in places if part != "test"}
    leaked = {file.path for file, (part, content) in zip(files, places, strict=True) if part == "test" and content in elsewhere}
    context = AuditContext.of(data_set(*files))
    assert context.leaked == leaked
    if {part for part, _ in places} > {"test"}:
        found = LeakedTestImages().run(context)
        assert (found.count if found else 0) == len(leaked)


def test_leak301_names_figures_by_class_and_shows_test_images_beside_their_copies():
    found = run(
        LeakedTestImages(),
        *plain("test/cyst", 17),
        *plain("test/healthy", 20),
        entry("test/cyst/a.png", "one"),
        entry("test/cyst/b.png", "one"),
        entry("test/healthy/c.png", "two"),
        entry("train/cyst/a.png", "one"),
        entry("train/cyst/b.png", "two"),
    )
    assert (found.severity, found.count) == ("error", 3)
    assert found.message == (
        "3 of 40 test images (7.5 %) are byte-identical to training images; "
        "by class cyst 2 of 19 (10.5 %), healthy 1 of 21 (4.8 %)."
    )
    assert found.evidence[0].paths == ("test/cyst/a.png", "test/cyst/b.png", "train/cyst/a.png")
    assert [piece.note for piece in found.evidence] == [
        "3 copies: cyst in test (2), cyst in train",
        "2 copies: healthy in test, cyst in train",
    ]


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (["train"], "training images"),
        (["validation"], "validation images"),
        (["train", "validation"], "training or validation images"),
    ],
)
def test_leak301_says_where_the_copies_are(parts, words):
    found = run(
        LeakedTestImages(),
        *plain("train/cyst", 3),
        entry("test/cyst/a.png", "x"),
        *[entry(f"{part}/cyst/a.png", "x") for part in parts],
    )
    assert f"is byte-identical to {words};" in found.message


def test_leak301_passes_copies_inside_one_part_and_broken_ones():
    files = [
        *plain("test/cyst", 3),
        *plain("train/cyst", 3),
        entry("test/cyst/x.png", "x"),
        entry("test/cyst/y.png", "x"),
        entry("train/cyst/z.png", "x", status="unreadable"),
    ]
    assert run(LeakedTestImages(), *files) is None


def test_leak301_does_not_apply_without_test_part_or_with_nothing_else():
    with pytest.raises(NotApplicable, match="no readable test part"):
        run(LeakedTestImages(), *plain("cyst", 3))
    with pytest.raises(NotApplicable, match="nothing but a test part"):
        run(LeakedTestImages(), *plain("test/cyst", 3))


def test_leak306_finds_validation_images_that_train():
    found = run(
        LeakedValidationImages(),
        *plain("train/cyst", 5),
        *plain("validation/cyst", 3),
        entry("validation/cyst/a.png", "x"),
        entry("train/cyst/a.png", "x"),
        entry("train/cyst/b.png", "x"),
        entry("test/cyst/b.png", "x"),
    )
    assert (found.severity, found.count) == ("warning", 1)
    assert found.message.startswith("1 of 4 validation images (25.0 %) is byte-identical to training images")
    assert found.evidence[0].paths[0] == "validation/cyst/a.png"


def test_leak306_passes_apart_parts_and_does_not_apply_without_both():
    assert run(LeakedValidationImages(), *plain("train/cyst", 5), *plain("validation/cyst", 3)) is None
    with pytest.raises(NotApplicable):
        run(LeakedValidationImages(), *plain("train/cyst", 5), *plain("test/cyst", 5))


# ---------------------------------------------------------------------------------------------------- LEAK302


def with_near_copies(test: int, copies: dict[str, np.ndarray]) -> Manifest:
    """Return a data set whose test images show pictures 0, 1, 2..., and whose other images are given by their paths."""
    own = {f"test/cyst/{number:03d}.png": thumbnail(picture(number)) for number in range(min(test, 12))}
    files = [entry(f"test/cyst/{number:03d}.png") for number in range(test)]
    others = {path: thumbnail(pixels) for path, pixels in copies.items()}
    return data_set(*files, *plain("train/healthy", 3), *(entry(path) for path in others), pictures=own | others)


def test_leak302_finds_mirrored_and_cropped_copies_outside_the_test_part():
    copies = {
        "train/cyst/a.png": np.fliplr(picture(0)),
        "validation/cyst/b.png": cropped(picture(1), 0.02, 0.04, 0.03, 0.03),
        "train/cyst/c.png": picture(500),
    }
    context = AuditContext.of(with_near_copies(10, copies))
    found = NearlyLeakedTestImages().run(context)
    assert (found.severity, found.count) == ("error", 2)
    assert found.message == (
        "2 of 10 test images (20.0 %) have a near copy outside the test part (2 pairs, 1 of them turned or mirrored); "
        "by class cyst 2 of 10 (20.0 %)."
    )
    assert {piece.paths for piece in found.evidence} == {
        ("test/cyst/000.png", "train/cyst/a.png"),
        ("test/cyst/001.png", "validation/cyst/b.png"),
    }
    assert context.leaked == {"test/cyst/000.png", "test/cyst/001.png"}
    assert context.doubtful == frozenset()


@pytest.mark.parametrize(("test", "severity"), [(100, "error"), (101, "warning")])
def test_leak302_is_an_error_from_one_percent_of_the_test_images(test, severity):
    found = NearlyLeakedTestImages().run(AuditContext.of(with_near_copies(test, {"train/cyst/a.png": np.fliplr(picture(0))})))
    assert (found.severity, found.count) == (severity, 1)
    assert f"1 of {test} test images" in found.message and " has a near copy " in found.message


def test_leak302_leaves_exact_copies_to_leak301_and_copies_inside_a_part_alone():
    inside = {"test/cyst/z.png": np.fliplr(picture(0)), "train/cyst/y.png": picture(700), "train/cyst/z.png": picture(700)[::-1]}
    assert NearlyLeakedTestImages().run(AuditContext.of(with_near_copies(10, inside))) is None
    shown = {"test/cyst/1.png": thumbnail(picture(0)), "train/cyst/1.png": thumbnail(picture(0))}
    exact = data_set(*(entry(path, "same") for path in shown), *plain("train/healthy", 3), pictures=shown)
    assert NearlyLeakedTestImages().run(AuditContext.of(exact)) is None
    assert LeakedTestImages().run(AuditContext.of(exact)).count == 1


def test_leak302_does_not_apply_without_a_border():
    with pytest.raises(NotApplicable, match="no readable test part"):
        run(NearlyLeakedTestImages(), *plain("cyst", 3))
    with pytest.raises(NotApplicable, match="nothing but a test part"):
        run(NearlyLeakedTestImages(), *plain("test/cyst", 3))
    with pytest.raises(NotApplicable, match="draws all parts anew"):
        manifest = with_near_copies(3, {"train/cyst/a.png": np.fliplr(picture(0))})
        NearlyLeakedTestImages().run(AuditContext.of(manifest, uses_shipped_parts=False))


# ---------------------------------------------------------------------------------------------------- LEAK303


def people(*, column: bool = False) -> list[ImageFile]:
    """Forty patients of two images in training and ten in the test; two of the latter, 3 and 4, stand in training too."""
    files = []
    for part, numbers in (("train", range(40)), ("test", [3, 4, *range(100, 108)])):
        for number in numbers:
            for image in range(2):
                name = f"scan{number * 2 + image + 1000 * (part == 'test')}" if column else f"person{number}_{image}_{part}"
                files.append(entry(f"{part}/cyst/{name}.png", patient=f"P{number}" if column else ""))
    return files


def leaked(number: int) -> set[str]:
    return {f"test/cyst/person{number}_{image}_test.png" for image in range(2)}


def test_leak303_takes_file_names_for_a_hint():
    context = AuditContext.of(data_set(*people()))
    found = PatientsAcrossParts().run(context)
    assert (found.severity, found.count) == ("warning", 2)
    assert found.message == (
        "2 possible patients (person3, person4) with images both in the test part and outside it: "
        "4 of 20 test images (20.0 %); patients by file names."
    )
    assert "data.patient" in found.fix
    assert context.doubtful == leaked(3) | leaked(4)
    assert context.leaked == frozenset()


def test_leak303_takes_a_column_or_header_at_its_word():
    context = AuditContext.of(data_set(*people(column=True)))
    found = PatientsAcrossParts().run(context)
    assert (found.severity, found.count) == ("error", 2)
    assert "2 patients (P3, P4)" in found.message
    assert len(context.leaked) == 4
    assert context.doubtful == frozenset()
    assert all(len(piece.paths) == 4 and piece.paths[0].startswith("test/") for piece in found.evidence)


def test_leak303_takes_the_studys_pattern_at_its_word():
    context = AuditContext.of(data_set(*people()), patient=r"(person\d+)_")
    found = PatientsAcrossParts().run(context)
    assert (found.severity, found.count) == ("error", 2)
    assert context.leaked == leaked(3) | leaked(4)
    assert context.doubtful == frozenset()


def test_leak303_can_be_told_off():
    context = AuditContext.of(data_set(*people()), patient="off")
    with pytest.raises(NotApplicable, match="nothing tells"):
        PatientsAcrossParts().run(context)
    assert context.leaked == context.doubtful == frozenset()
    assert len(set(context.groups)) == 100


def test_leak303_passes_patients_on_one_side():
    files = [file for file in people() if file.part == "train" or "person10" in file.path]
    context = AuditContext.of(data_set(*files))
    assert PatientsAcrossParts().run(context) is None
    assert len(set(context.groups)) == 48


def test_a_copy_of_a_doubtful_image_is_surely_leaked():
    files = people()
    first = next(file for file in files if file.path == "test/cyst/person3_0_test.png")
    same = [entry(first.path, "same"), entry("train/cyst/person200_0_train.png", "same")]
    context = AuditContext.of(data_set(*(file for file in files if file is not first), *same))
    assert context.leaked == {"test/cyst/person3_0_test.png"}
    assert context.doubtful == (leaked(3) | leaked(4)) - context.leaked


# ---------------------------------------------------------------------------------------------------- LEAK304


def slices(part: str, volume: str, count: int) -> list[ImageFile]:
    return [entry(f"{part}/cyst/{volume}_{number}.png", volume=volume) for number in range(count)]


def test_leak304_finds_volumes_on_both_sides():
    files = [*slices("train", "v1", 3), *slices("test", "v1", 2), *slices("train", "v2", 2), *slices("test", "v3", 2)]
    context = AuditContext.of(data_set(*files))
    found = VolumesAcrossParts().run(context)
    assert (found.severity, found.count) == ("error", 1)
    assert found.message == "1 volume with slices both in the test part and outside it."
    assert found.evidence[0].paths[:2] == ("test/cyst/v1_0.png", "test/cyst/v1_1.png")
    assert context.leaked == {"test/cyst/v1_0.png", "test/cyst/v1_1.png"}
    assert len(set(context.groups)) == 3


def test_leak304_passes_whole_volumes_and_does_not_apply_without_any():
    assert run(VolumesAcrossParts(), *slices("train", "v1", 3), *slices("test", "v2", 2)) is None
    with pytest.raises(NotApplicable, match="slices of one volume"):
        run(VolumesAcrossParts(), *plain("train/cyst", 3), *plain("test/cyst", 3), entry("test/cyst/a.png", volume="v"))
