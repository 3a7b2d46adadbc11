"""Folds for cross-validation: they partition, whole groups at a time, with every class in every fold."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from split_data import Item, data_set, items_of, patients_of, shipped, singles
from vitrail.errors import SplitError, UsageError
from vitrail.split import check_folds, load_folds, make_folds, make_split, save_folds
from vitrail.study import SplitSettings

group_sizes = st.dictionaries(
    st.sampled_from(["bone", "cyst", "healthy", "tumor"]),
    st.lists(st.integers(1, 12) | st.just(1), min_size=7, max_size=25),
    min_size=2,
)


@given(group_sizes, st.integers(2, 7), st.integers(0, 2**31 - 1))
@settings(max_examples=25, deadline=None)
def test_folds_partition_keep_groups_whole_and_classes_in_proportion(sizes, count, seed):
    manifest, audit = data_set([*items_of(sizes, seed), Item(next(iter(sizes)), 999, None, "unreadable")])
    (folds,) = make_folds(manifest, audit, folds=count, seed=seed)
    held_out = np.concatenate([folds.held_out(fold) for fold in range(1, count + 1)])
    assert sorted(held_out.tolist()) == list(range(len(manifest) - 1))
    homes = defaultdict(set)
    for group, fold in zip(folds.groups, folds.fold_of, strict=True):
        homes[group].add(fold)
    assert all(len(places) == 1 for places in homes.values())
    for fold in range(1, count + 1):
        assert sorted([*folds.held_out(fold), *folds.others(fold)]) == list(range(len(manifest) - 1))
        for label, counts in sizes.items():
            got = sum(manifest.files[row].label == label for row in folds.held_out(fold))
            assert got >= 1
            assert abs(got - sum(counts) / count) <= max(1, *counts) + 1e-9


def test_repeats_differ_and_the_same_seed_gives_the_same():
    manifest, audit = data_set(singles("cyst", 40, start=0) + singles("healthy", 40, start=40))
    first, second = make_folds(manifest, audit, folds=4, repeats=2, seed=1)
    assert (first.repeat, second.repeat, first.count) == (1, 2, 4)
    assert first.fold_of != second.fold_of
    assert make_folds(manifest, audit, folds=4, repeats=2, seed=1) == (first, second)
    assert make_folds(manifest, audit, folds=4, seed=1) == (first,)
    assert make_folds(manifest, audit, folds=4, seed=2) != (first,)


def test_single_images_differ_by_one_at_most():
    manifest, audit = data_set(singles("cyst", 43, start=0) + singles("healthy", 31, start=100))
    (folds,) = make_folds(manifest, audit, folds=5, seed=0)
    of_class = [
        [sum(manifest.files[row].label == name for row in folds.held_out(fold)) for fold in range(1, 6)]
        for name in manifest.classes
    ]
    assert [sorted(numbers) for numbers in of_class] == [[8, 8, 9, 9, 9], [6, 6, 6, 6, 7]]


def test_the_test_part_is_in_no_fold_be_it_shipped_or_drawn():
    manifest, audit = data_set(shipped())
    (folds,) = make_folds(manifest, audit, folds=5, seed=0)
    assert {manifest.files[row].part for row in np.flatnonzero(np.array(folds.fold_of) == 0)} == {"test"}
    assert "the test images stay out" in folds.origin

    split = make_split(manifest, audit, settings=SplitSettings(use_shipped_test=False), seed=0)
    (folds,) = make_folds(manifest, audit, folds=5, seed=0, split=split)
    assert set(np.flatnonzero(np.array(folds.fold_of) == 0)) == set(split.rows("test"))


def test_patients_with_several_labels_stay_whole():
    counts = np.random.default_rng(3).poisson(1.0, (60, 3))
    manifest, audit = data_set(patients_of(counts, 0))
    (folds,) = make_folds(manifest, audit, folds=5, seed=0)
    assert len({(group, fold) for group, fold in zip(folds.groups, folds.fold_of, strict=True)}) == len(set(folds.groups))


def test_too_few_groups_are_refused_with_class_and_number():
    manifest, audit = data_set([*singles("healthy", 20, start=0), *singles("cyst", 3, start=50), *[Item("cyst", 60)] * 9])
    with pytest.raises(SplitError, match=r"Drawing 5 folds needs at least 5 independent .*: 'cyst' has 4\."):
        make_folds(manifest, audit, folds=5, seed=0)
    for wrong in ({"folds": 1}, {"folds": 5, "repeats": 0}):
        with pytest.raises(UsageError, match="at least 2 folds and 1 repeat"):
            make_folds(manifest, audit, seed=0, **wrong)


# ---------------------------------------------------------------------------------------------------- files and the check


@pytest.fixture
def drawn():
    manifest, audit = data_set([*items_of({"cyst": [2] * 20, "healthy": [1] * 30}, 0), Item("cyst", 900, None, "unreadable")])
    return make_folds(manifest, audit, folds=5, repeats=3, seed=4), manifest, audit


def test_folds_come_back_from_their_file(tmp_path, drawn):
    folds, manifest, audit = drawn
    save_folds(tmp_path / "folds.csv", folds, manifest)
    assert load_folds(tmp_path / "folds.csv", manifest, audit) == folds
    with (tmp_path / "folds.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert list(table[0]) == ["path", "sha256", "label", "group", "repeat 1", "repeat 2", "repeat 3"]
    assert [line["repeat 2"] for line in table] == [str(fold) for fold in folds[1].fold_of]


def changed(folds, row, fold):
    return replace(folds, fold_of=(*folds.fold_of[:row], fold, *folds.fold_of[row + 1 :]))


def test_dishonest_folds_are_refused(tmp_path, drawn):
    (folds, *_), manifest, audit = drawn
    copy = next(row for row, file in enumerate(manifest.files) if file.label == "cyst")
    other = folds.fold_of[copy] % 5 + 1
    for wrong, words in (
        (changed(folds, copy, other), "in two folds"),
        (changed(folds, copy, 0), "is usable and must be in a fold"),
        (changed(folds, len(manifest) - 1, 1), "not usable, and must be in no fold"),
        (changed(folds, copy, 6), "the folds are 1 to 5"),
        (
            replace(folds, fold_of=tuple(1 if fold == 2 else fold for fold in folds.fold_of)),
            "Fold 2 of 5 has no image of class 'cyst'",
        ),
        (replace(folds, fold_of=folds.fold_of[1:]), "about 70 files, the data set has 71"),
        (replace(folds, groups=(*folds.groups[1:], 0)), "other groups"),
    ):
        with pytest.raises(SplitError, match=words):
            check_folds(wrong, manifest, audit)
    save_folds(tmp_path / "folds.csv", [changed(folds, copy, other)], manifest)
    with pytest.raises(SplitError, match="in two folds"):
        load_folds(tmp_path / "folds.csv", manifest, audit)


def test_folds_that_hold_test_images_of_the_split_are_refused(drawn):
    (folds, *_), manifest, audit = drawn
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    with pytest.raises(SplitError, match="kept for the test"):
        check_folds(folds, manifest, audit, split=split)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("repeat 1", "first", "needs the columns repeat 1"),
        ("sha256", "hash", "needs a table with the columns"),
        (",900,0,0,0", ",900,0,x,0", "cannot be read"),
    ],
)
def test_a_damaged_table_of_folds_is_refused(tmp_path, drawn, old, new, words):
    folds, manifest, audit = drawn
    path = tmp_path / "folds.csv"
    save_folds(path, folds, manifest)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SplitError, match=words):
        load_folds(path, manifest, audit)
