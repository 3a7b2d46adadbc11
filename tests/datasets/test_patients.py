"""Patients by file names: what is proposed, and what is not."""

from __future__ import annotations

import numpy as np
import pytest

from vitrail.datasets.patients import EXPLICIT_PATTERNS, name_patients, patient_groups, propose_patient_keys
from vitrail.errors import StudyError


def propose(paths, *, label=0, part=None):
    """Propose for paths whose folder number ``label`` is the class and, if given, number ``part`` the part."""
    folders = [path.split("/") for path in paths]
    parts = [
        {"train": "train", "val": "validation", "test": "test"}.get(names[part]) if part is not None else None
        for names in folders
    ]
    return propose_patient_keys(paths, [names[label] for names in folders], parts)


def several(template, numbers, images=(1, 2, 3)):
    return [template.format(number, image) for number in numbers for image in images]


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("sick/person{}_bacteria_{}.jpeg", "person7"),
        ("sick/patient{:03d}_frame{:02d}.png", "patient007"),
        ("sick/Patient_{:02d}/slice_{}.png", "patient_07"),
        ("sick/pat-{}_{}.png", "pat-7"),
        ("sick/subject {} view {}.png", "subject 7"),
        ("sick/subj{}_{}.png", "subj7"),
        ("sick/sub-{:02d}/anat/sub-{:02d}_T1w.png", "sub-07"),
        ("sick/scan_case_{}_{}.png", "case_7"),
        ("sick/PID{}_{}.png", "pid7"),
        ("sick/P{:04d}_{}.png", "P0007"),
        ("sick/P_{:05d}_LEFT_CC_{}.png", "P_00007"),
        ("sick/participant12{}-{}.png", "participant127"),
        ("sick/TCGA-DD-A1B{}-01Z-{}.png", "TCGA-DD-A1B7"),
        ("sick/IM-{:04d}-000{}.jpeg", "IM-0007"),
        ("sick/NORMAL2-IM-{:04d}-000{}.jpeg", "NORMAL2-IM-0007"),
        ("sick/OAS1_{:04d}_MR1_mpr-{}_100.jpg", "OAS1_0007"),
        ("sick/ADNI_002_S_{:04d}_MR_{}.png", "002_S_0007"),
        ("sick/SOB_B_A-14-2254{}AB-40-00{}.png", "SOB_B_A-14-22547AB"),
        ("sick/1.2.840.113619.2.{}/{}.dcm", "1.2.840.113619.2.7"),
        ("sick/LIDC-IDRI-{:04d}/image{}.png", "LIDC-IDRI-0007"),
    ],
)
def test_words_that_name_a_patient_are_found(template, key):
    numbers = [1, 4, 5, 7, 9]
    paths = several(template, numbers) if template.count("{") == 2 else []
    if "sub-{:02d}/anat" in template:
        paths = [f"sick/sub-{number:02d}/anat/sub-{number:02d}_T{image}w.png" for number in numbers for image in (1, 2, 3)]
    (found,) = propose([*paths, *(f"healthy/scan ({number}).png" for number in range(20))])
    assert found.explicit
    assert (found.files, found.groups, found.largest) == (15, 5, 3)
    assert key in patient_groups(paths, found.pattern)


@pytest.mark.parametrize(
    "names",
    [
        [f"Te-gl_{number:04d}.jpg" for number in range(40)],
        [f"image({number}).jpg" for number in range(40)],
        [f"gg ({number}).jpg" for number in range(200)],
        [f"m{batch} ({number}).jpg" for batch in ("", 1, 2, 3) for number in range(40)],
        [f"benign ({number}){mask}.png" for number in range(40) for mask in ("", "_mask", "_mask_1")],
        [f"p{number}.jpg" for number in range(40)],
        [f"ISIC_{number:07d}.jpg" for number in range(24306, 24400)],
        [f"{number}.png" for number in range(40)],
        [f"patient_{number}.png" for number in range(40)],
        [f"2019_{number:03d}.png" for number in range(20)] + [f"2020_{number:03d}.png" for number in range(20)],
        [f"{side}/{number}.png" for side in ("left", "right") for number in range(20)],
        [f"showcase_{number}_{copy}.png" for number in range(3) for copy in range(10)],
        [f"{number * 0x9E3779B97F4A7C15 % 2**64:016x}.png" for number in range(40)],
    ],
)
def test_plain_numbering_is_never_taken_for_patients(names):
    assert propose([f"{label}/{name}" for label in ("benign", "malignant") for name in names]) == ()


def test_numbers_that_begin_anew_in_classes_and_parts_are_no_patients():
    sizes = {"train/a": 30, "train/b": 50, "test/a": 10, "test/b": 12}
    paths = [f"{folder}/case_{number}.png" for folder, size in sizes.items() for number in range(1, size + 1)]
    assert propose(paths, label=1, part=0) == ()


def test_single_images_of_patients_with_several_findings_are_found():
    numbers = np.random.default_rng(0).choice(10_000, 60, replace=False).tolist()
    paths = [
        f"{label}/patient{number}.png" for label, of_label in (("a", numbers[:40]), ("b", numbers[20:])) for number in of_label
    ]
    (found,) = propose(paths)
    assert (found.files, found.groups, found.largest) == (80, 60, 2)


def test_patients_on_both_sides_of_the_test_are_named():
    paths = several("train/sick/person{}_virus_{}.png", [2, 3, 10, 20]) + several(
        "test/sick/person{}_virus_{}.png", [10, 3, 50], (7, 8)
    )
    paths += several("val/sick/person{}_virus_{}.png", [50, 60], (9,))
    (found,) = propose(paths, label=1, part=0)
    assert found.crossing == ("person3", "person10", "person50")
    assert found.largest == 5
    assert found.example.startswith(("train/sick/person10_", "train/sick/person3_"))


def test_two_words_in_one_path_give_one_key():
    paths = [f"sick/patient{number}/case_{case}_{image}.png" for number in range(9) for case in (1, 2) for image in (1, 2)]
    (found,) = propose(paths)
    assert found.groups == 9


def test_series_without_a_word_are_proposed_but_not_claimed():
    paths = [f"sick/AB{number:03d}_{image:02d}.png" for number in range(30) for image in range(4)]
    (found,) = propose([*paths, *(f"healthy/scan {number}.png" for number in range(50))])
    assert not found.explicit
    assert (found.files, found.groups, found.largest, found.crossing) == (120, 30, 4, ())
    assert patient_groups(paths, found.pattern)[5] == "AB001"


def test_folders_inside_class_folders_are_proposed_but_not_claimed():
    paths = [
        f"{label}/{name}/{image}.png"
        for label, names in (("a", "bcdefghijklm"), ("b", "nopqrstuvwxyz"))
        for name in names
        for image in "xyz"
    ]
    (found,) = propose(paths)
    assert not found.explicit
    assert (found.files, found.groups, found.largest) == (75, 25, 3)


def test_keys_of_several_patterns():
    paths = ["a/person1_2.png", "b/IM-0001-0002.png", "c/other.png"]
    assert name_patients(paths, EXPLICIT_PATTERNS) == ["person1", "IM-0001", ""]


def test_a_pattern_of_the_user():
    paths = ["a/Person12_x.png", "a/person12.png", "a/b.png"]
    assert patient_groups(paths, r"erson(\d+)(?:_x)?") == ["12", "12", ""]
    assert patient_groups(paths, r"person(\d+)") == ["", "12", ""]
    assert patient_groups(paths, r"(?i)(person\d+)") == ["person12", "person12", ""]
    assert patient_groups(paths, r"b(\d)?\.png") == ["", "", ""]
    assert patient_groups(paths, "off") == ["", "", ""]


@pytest.mark.parametrize(
    ("pattern", "found"), [(r"person(\d+", "missing )"), (r"person\d+", "has no groups"), (r"(person)(\d+)", "has 2 groups")]
)
def test_patterns_that_cannot_be_used_are_refused(pattern, found):
    with pytest.raises(StudyError) as caught:
        patient_groups(["a.png"], pattern)
    (problem,) = caught.value.problems
    assert problem.key == "data.patient"
    assert found in problem.value
    assert "with one group around the patient's number" in problem.message


def test_no_files_give_no_proposal():
    assert propose_patient_keys([], [], []) == ()
