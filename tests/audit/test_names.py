from __future__ import annotations

import pytest
from audit_data import data_set, entry, plain
from hypothesis import given
from hypothesis import strategies as st

from vitrail.audit import AuditContext
from vitrail.audit.names import ClassNames, similar_names


def run(*files):
    return ClassNames().run(AuditContext.of(data_set(*files)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("no_tumor", "notumor"),
        ("normal", "Normal_"),
        ("COVID-19", "covid19"),
        ("glioma", "gliomas"),
        ("meningioma", "menigioma"),
        ("tumor", "tumour"),
        ("Kopie von Zyste", "zyste"),
        ("glioma", "glioma (1)"),
        ("pneumonia", "pneumonia copy 2"),
        ("ménière", "meniere"),
    ],
)
def test_spellings_of_one_class_are_found(one, other):
    assert similar_names([one, other, "something else"]) == [tuple(sorted((one, other)))]


@pytest.mark.parametrize(
    "names",
    [
        ("grade1", "grade2", "grade 3"),
        ("stage_2", "stage_3"),
        ("BIRADS_1", "BIRADS_10"),
        ("type_A", "type_B"),
        ("type I", "type II", "type III"),
        ("typea", "typeb"),
        ("typical", "atypical"),
        ("cat", "car"),
        ("benign", "malignant", "normal", "abnormal"),
        ("grade (1)", "grade (2)"),
        ("glioma_tumor", "meningioma_tumor", "no_tumor", "pituitary_tumor"),
        ("NORMAL", "PNEUMONIA"),
    ],
)
def test_names_that_differ_on_purpose_are_not(names):
    assert similar_names(names) == []


@given(st.lists(st.text(alphabet="abcde_-1 ", min_size=1, max_size=9), unique=True, max_size=12))
def test_the_answer_does_not_depend_on_order_and_pairs_are_sorted(names):
    pairs = similar_names(names)
    assert pairs == similar_names(reversed(names))
    assert all(one < other for one, other in pairs)
    assert len(set(pairs)) == len(pairs)


def test_lbl403_names_the_pair_and_shows_an_image_of_either():
    found = run(*plain("no_tumor", 3), *plain("notumor", 3), *plain("glioma", 3))
    assert (found.severity, found.count) == ("warning", 1)
    assert found.message == (
        "3 classes with 1 pair of names that may mean one class: 'no_tumor' and 'notumor' may be the same class."
    )
    assert found.evidence[0].paths == ("no_tumor/00000.png", "notumor/00000.png")


def test_lbl403_passes_ordinary_names():
    assert run(*plain("glioma", 2), *plain("no_tumor", 2)) is None


@pytest.mark.parametrize("name", ["masks", "New folder", "augmented", "Copy of cyst", "tmp"])
def test_lbl403_warns_of_folders_that_are_no_class(name):
    found = run(*plain(name, 2), *plain("glioma", 2), *plain("no_tumor", 2))
    assert (found.severity, found.count) == ("warning", 1)
    assert repr(name) in found.message


def test_lbl403_mentions_unsorted_images_for_information():
    found = run(*plain("unlabelled", 2), *plain("glioma", 2), *plain("no_tumor", 2))
    assert (found.severity, found.count) == ("info", 1)


def test_lbl403_finds_a_class_that_the_parts_spell_differently():
    found = run(*plain("train/glioma", 2), *plain("train/normal", 2), *plain("test/glioma_tumor", 2), *plain("test/normal", 2))
    assert found.count == 1
    assert "'glioma' in training only, 'glioma_tumor' in another part only" in found.message


def test_lbl403_finds_a_class_without_training_images():
    found = run(*plain("train/glioma", 2), *plain("train/normal", 2), *plain("test/normal", 2), *plain("test/cyst", 2))
    assert found.count == 1
    assert "'cyst' has no images in training" in found.message


def test_lbl403_leaves_a_class_that_only_training_has_to_the_checks_of_size():
    assert run(*plain("train/glioma", 2), *plain("train/normal", 2), *plain("test/normal", 2), entry("test/normal/z.png")) is None
