"""The split: no group crosses, every class is everywhere, proportions keep their bound."""

from __future__ import annotations

import itertools
import time
import warnings
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from split_data import Item, data_set, items_of, parts_of, patients_of, shipped, singles
from vitrail.errors import SplitError
from vitrail.split import Drawing, make_split
from vitrail.split.drawing import Inseparable, draw
from vitrail.study import SplitSettings

OWN_TEST = SplitSettings(use_shipped_test=False)


# ---------------------------------------------------------------------------------------------------- drawn splits


group_sizes = st.dictionaries(
    st.sampled_from(["bone", "cyst", "healthy", "tumor"]),
    st.lists(st.integers(1, 12) | st.just(1), min_size=3, max_size=25),
    min_size=2,
)
share = st.floats(0.01, 0.49)


@given(group_sizes, share, share, st.integers(0, 2**31 - 1))
@settings(max_examples=40, deadline=None)
def test_any_drawn_split_keeps_groups_whole_classes_everywhere_and_proportions_in_bound(sizes, test, validation, seed):
    manifest, audit = data_set(items_of(sizes, seed))
    split = make_split(manifest, audit, settings=SplitSettings(validation=validation, test=test), seed=seed)

    homes = defaultdict(set)
    for group, part in zip(split.groups, split.parts, strict=True):
        homes[group].add(part)
    assert all(len(parts) == 1 for parts in homes.values())
    for label, counts in sizes.items():
        got = parts_of(split, manifest, label)
        assert set(got) == {"train", "validation", "test"}
        for part, wanted in (("test", test), ("validation", (1 - test) * validation)):
            assert abs(got[part] - wanted * sum(counts)) <= max(1, *counts) + 1e-9


@given(
    st.lists(st.tuples(*[st.integers(0, 4)] * 3).filter(any), min_size=3, max_size=40),
    st.sampled_from([(0.8, 0.2), (0.64, 0.16, 0.2), (0.97, 0.02, 0.01)]),
    st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_groups_that_mix_labels_are_dealt_out_whole_with_every_class_in_every_part(groups, shares, seed):
    counts = np.array(groups, dtype=float)
    counts = counts[:, (counts > 0).sum(axis=0) >= 2 * len(shares)]
    counts = counts[counts.sum(axis=1) > 0]
    if counts.shape[1] == 0:
        return
    drawing = Drawing(counts, shares, np.random.default_rng(seed))
    if drawing.complete() is not None:
        return  # a few groups that all mix labels may leave no way; make_split then refuses
    before = deviation(counts, drawing.part_of, shares)
    drawing.improve()

    assert deviation(counts, drawing.part_of, shares) <= before + 1e-9
    for part in range(len(shares)):
        assert (counts[drawing.part_of == part].sum(axis=0) >= 1).all()


def deviation(counts, part_of, shares) -> float:
    """Return the sum over parts and classes of (images missing) squared / images of the class, from scratch."""
    totals = counts.sum(axis=0)
    return sum(
        (((share * totals - counts[part_of == part].sum(axis=0)) ** 2) / totals).sum() for part, share in enumerate(shares)
    )


def test_large_patients_with_several_labels_are_dealt_out_in_proportion():
    counts = np.random.default_rng(3).poisson(2.0, (300, 4)).astype(float)
    counts = counts[counts.sum(axis=1) > 0]
    drawing = Drawing(counts, (0.64, 0.16, 0.2), np.random.default_rng(0))
    drawing.complete()
    drawing.improve()
    for part, wanted in enumerate((0.64, 0.16, 0.2)):
        got = counts[drawing.part_of == part].sum(axis=0)
        assert np.abs(got - wanted * counts.sum(axis=0)).max() <= 2


def test_large_groups_are_found_in_every_part_in_proportion():
    manifest, audit = data_set(items_of({"cyst": [5] * 100 + [1] * 500, "healthy": [1] * 300}, 0))
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    size = Counter(audit.groups)
    large = Counter(part for group, part in set(zip(split.groups, split.parts, strict=True)) if size[group] == 5)
    assert large["validation"] == pytest.approx(16, abs=3)
    assert large["test"] == pytest.approx(20, abs=3)


def test_one_very_large_group_does_not_end_in_a_small_part():
    manifest, audit = data_set(items_of({"cyst": [100] + [1] * 200, "healthy": [1] * 50}, 0))
    split = make_split(manifest, audit, settings=SplitSettings(validation=0.1, test=0.1), seed=0)
    assert parts_of(split, manifest, "cyst") == Counter({"train": 243, "validation": 27, "test": 30})


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    manifest, audit = data_set(items_of({"cyst": [1] * 60 + [3] * 5, "healthy": [2] * 40}, 1))
    first, again, other = (make_split(manifest, audit, settings=SplitSettings(), seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first.parts != other.parts


def test_a_file_that_is_not_used_does_not_change_who_gets_which_part():
    items = items_of({"cyst": [1] * 30, "healthy": [2] * 20}, 2)
    manifest, audit = data_set(items)
    with_broken, its_audit = data_set([*items, Item("cyst", 999, None, "unreadable")])
    split = make_split(manifest, audit, settings=SplitSettings(), seed=5)
    longer = make_split(with_broken, its_audit, settings=SplitSettings(), seed=5)
    assert longer.parts == (*split.parts, "excluded")
    assert longer.notes[-1] == "unreadable"


def test_single_images_split_to_the_nearest_image():
    manifest, audit = data_set(singles("cyst", 100, start=0) + singles("healthy", 50, start=100))
    split = make_split(manifest, audit, settings=SplitSettings(validation=0.25, test=0.2), seed=0)
    assert parts_of(split, manifest, "cyst") == Counter({"train": 60, "validation": 20, "test": 20})
    assert parts_of(split, manifest, "healthy") == Counter({"train": 30, "validation": 10, "test": 10})


@given(
    st.lists(st.tuples(*[st.integers(0, 3)] * 3).filter(any), min_size=4, max_size=30),
    st.lists(st.integers(10, 60), max_size=2),
    st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_patients_with_several_labels_and_giant_ones_never_cross_and_leave_no_class_out(patients, giants, seed):
    counts = np.array([*patients, *((size, 0, size // 3) for size in giants)])
    counts = counts[:, (counts > 0).sum(axis=0) >= 6]
    if counts.shape[1] < 2:
        return
    manifest, audit = data_set(patients_of(counts, seed))
    try:
        split = make_split(manifest, audit, settings=SplitSettings(), seed=seed)
    except SplitError as error:
        assert "cannot be in all of" in str(error)
        return
    homes = defaultdict(set)
    for group, part in zip(split.groups, split.parts, strict=True):
        homes[group].add(part)
    assert all(len(parts) == 1 for parts in homes.values())
    assert all(set(parts_of(split, manifest, label)) == {"train", "validation", "test"} for label in manifest.classes)
    assert make_split(manifest, audit, settings=SplitSettings(), seed=seed) == split


@pytest.mark.parametrize("seed", range(40))
def test_a_way_to_have_every_class_everywhere_is_found_where_there_is_one(seed):
    rng = np.random.default_rng(seed)
    parts, classes = int(rng.integers(2, 4)), int(rng.integers(2, 5))
    counts = (rng.random((7, classes)) < 0.45) * rng.integers(1, 4, (7, classes))
    counts = counts[:, (counts > 0).sum(axis=0) >= parts].astype(float)
    counts = counts[counts.sum(axis=1) > 0]
    ways = np.array(list(itertools.product(range(parts), repeat=len(counts))))
    held = np.stack([(ways == part) @ counts for part in range(parts)], axis=1)
    possible = held.size > 0 and bool((held >= 1).all(axis=(1, 2)).any())
    try:
        part_of = draw(counts, (1 / parts,) * parts, np.random.default_rng(seed)) if held.size else None
    except Inseparable:
        part_of = None
    assert (part_of is not None) == possible


@pytest.mark.parametrize("seed", range(12))
def test_no_drawing_is_further_from_its_aim_than_scikit_learns(seed):
    """On many labels, giant groups, singletons and mixed groups; their folds may even lack a class."""
    rng = np.random.default_rng(seed)
    folds, classes, groups = int(rng.integers(2, 8)), int(rng.integers(2, 6)), int(rng.integers(40, 120))
    single = np.eye(classes)[rng.integers(0, classes, groups)]
    counts = [
        single * rng.geometric(0.4, (groups, 1)),
        rng.poisson(1.0, (groups, classes)).astype(float),
        single * (1 + rng.pareto(1.0, (groups, 1)).clip(0, 80).astype(int)),
    ][seed % 3]
    counts = counts[:, (counts > 0).sum(axis=0) >= folds]
    counts = counts[counts.sum(axis=1) > 0]
    label = np.concatenate([np.repeat(np.arange(counts.shape[1]), row.astype(int)) for row in counts])
    group = np.repeat(np.arange(len(counts)), counts.sum(axis=1).astype(int))
    theirs = np.zeros(len(counts), dtype=int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cut = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(label, label, group)
        for number, (_, held_out) in enumerate(cut):
            theirs[group[held_out]] = number
    shares = (1 / folds,) * folds
    ours = draw(counts, shares, np.random.default_rng(seed))
    assert deviation(counts, ours, shares) <= deviation(counts, theirs, shares) + 1e-9
    assert all((counts[ours == part].sum(axis=0) >= 1).all() for part in range(folds))


@pytest.mark.parametrize("kind", ["single images", "patients with several images", "patients with several labels"])
def test_a_hundred_thousand_groups_take_less_than_two_seconds(kind):
    rng = np.random.default_rng(0)
    counts = np.eye(4)[rng.integers(0, 4, 100_000)]
    if kind == "patients with several images":
        counts *= rng.geometric(0.3, (100_000, 1))
    elif kind == "patients with several labels":
        counts = 1.0 + rng.poisson(0.5, (100_000, 4))
    start = time.process_time()
    draw(counts, (0.64, 0.16, 0.2), np.random.default_rng(0))
    assert time.process_time() - start < 2  # about 0.05 s, 0.05 s and 0.1 s on an idle core


# ---------------------------------------------------------------------------------------------------- the data set's own parts


def test_the_shipped_test_part_stays_and_leaked_images_stay_in_it_with_a_note():
    items = [*shipped(), Item("cyst", 0, "test")]  # a copy of the first training image
    manifest, audit = data_set(items)
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    assert {row for row, item in enumerate(items) if item.part == "test"} == set(split.rows("test"))
    assert split.notes[-1] == "leaked"
    assert sum(note != "" for note in split.notes) == 1
    assert parts_of(split, manifest)["validation"] == 24
    assert "test: the data set's own part" in split.origin


def test_a_shipped_test_part_is_pooled_on_request_and_nothing_leaks_any_more():
    manifest, audit = data_set([*shipped(), Item("cyst", 0, "test")])
    split = make_split(manifest, audit, settings=OWN_TEST, seed=0)
    assert split.parts[0] == split.parts[-1]
    assert set(split.notes) == {""}
    assert "pooled" in split.origin
    assert len({manifest.files[row].part for row in split.rows("test")}) == 2


def test_conflicting_copies_never_train_and_stay_in_a_shipped_test_part_only():
    items = [
        *shipped(),
        Item("cyst", 900, "test"),
        Item("healthy", 900, "train"),
        Item("cyst", 901, "train"),
        Item("healthy", 901, "train"),
    ]
    manifest, audit = data_set(items)
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    assert split.parts[-4:] == ("test", "excluded", "excluded", "excluded")
    assert split.notes[-4:] == ("quarantined",) * 4
    assert make_split(manifest, audit, settings=OWN_TEST, seed=0).parts[-4:] == ("excluded",) * 4


def test_test_images_that_may_leak_stay_and_are_called_doubtful():
    items = [*shipped(), Item("cyst", 900, "test", doubtful=True), Item("healthy", 900, "train", doubtful=True)]
    manifest, audit = data_set(items)
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    assert (split.parts[-2], split.notes[-2:]) == ("test", ("doubtful", ""))
    pooled = make_split(manifest, audit, settings=OWN_TEST, seed=0)
    assert pooled.parts[-1] == pooled.parts[-2]
    assert set(pooled.notes) == {""}


def test_what_surely_leaks_is_not_merely_doubtful():
    manifest, audit = data_set([*shipped(), Item("cyst", 0, "test")])
    audit = replace(audit, doubtful=audit.leaked)
    assert make_split(manifest, audit, settings=SplitSettings(), seed=0).notes[-1] == "leaked"


def test_a_quarantined_test_image_of_a_patient_who_trains_stays_in_the_shipped_test_part():
    items = [
        *shipped(),
        Item("cyst", 900, "test", patient="p"),
        Item("healthy", 900, "test", patient="p"),
        Item("cyst", 900, "train", patient="p"),
    ]
    manifest, audit = data_set(items)
    two = frozenset(file.path for file in manifest.files[-3:-1])
    split = make_split(manifest, replace(audit, quarantined=two, leaked=frozenset()), settings=SplitSettings(), seed=0)
    assert split.parts[-3:-1] == ("test", "test")
    assert split.notes[-3:] == ("quarantined", "quarantined", "")


def test_files_that_a_list_of_fixes_leaves_out_are_excluded_as_such():
    split = make_split(*data_set([*shipped(), Item("cyst", 900, "test", "excluded")]), settings=SplitSettings(), seed=0)
    assert (split.parts[-1], split.notes[-1]) == ("excluded", "left out")


def test_unreadable_files_are_excluded_from_every_part():
    items = [*shipped(), Item("cyst", 900, "test", "unreadable"), Item("cyst", 901, "train", "empty")]
    split = make_split(*data_set(items), settings=SplitSettings(), seed=0)
    assert split.parts[-2:] == ("excluded", "excluded")
    assert split.notes[-2:] == ("unreadable", "unreadable")


def test_a_large_shipped_validation_part_is_used_as_it_is():
    items = shipped(train=60, validation=15)
    manifest, audit = data_set(items)
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    assert split.parts == tuple(item.part for item in items)
    assert split.origin == "test and validation: the data set's own parts"


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (shipped(train=600, validation=20), "too few, 248 are asked for"),
        (shipped(train=60, validation=9), "only 9 of class cyst are independent"),
        ([*shipped(train=60, validation=15), Item("cyst", 0, "validation")], "some are copies of training images"),
        (
            [*shipped(train=60, validation=15), *(Item("cyst", 900, part, patient="p") for part in ("train", "validation"))],
            "some show patients who also train",
        ),
        (
            [*shipped(train=60, validation=15), *(Item("cyst", 900, part, doubtful=True) for part in ("train", "validation"))],
            "some are near copies of training images or show patients who also train",
        ),
        ([item for item in shipped(train=60, validation=15) if item.part != "train"], "not every class has training images"),
    ],
)
def test_a_shipped_validation_part_that_does_not_serve_is_pooled_and_the_origin_says_why(items, reason):
    manifest, audit = data_set(items)
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    assert reason in split.origin
    usable = sum(item.part != "test" for item in items)
    assert parts_of(split, manifest)["validation"] == pytest.approx(0.2 * usable, abs=2)


def test_a_data_set_with_train_and_validation_only_is_split_anew():
    items = [item for item in shipped(train=60, validation=15) if item.part != "test"]
    manifest, audit = data_set(items)
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    assert parts_of(split, manifest) == Counter({"train": 96, "validation": 24, "test": 30})


# ---------------------------------------------------------------------------------------------------- refusals


def test_too_few_groups_are_refused_with_class_number_and_remedy():
    manifest, audit = data_set([*singles("healthy", 20, start=0), *[Item("cyst", 100)] * 9, Item("cyst", 101)])
    with pytest.raises(SplitError, match=r"at least 3 independent .*'cyst' has 2.* Add images") as error:
        make_split(manifest, audit, settings=SplitSettings(), seed=0)
    assert "healthy" not in str(error.value)


def test_with_a_shipped_test_part_two_groups_per_class_suffice():
    items = [*shipped(train=2, test=1)]
    manifest, audit = data_set(items)
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    assert parts_of(split, manifest) == Counter({"train": 2, "validation": 2, "test": 2})


def test_a_class_of_unreadable_images_is_refused():
    manifest, audit = data_set([*singles("healthy", 20, start=0), Item("cyst", 100, None, "unreadable")])
    with pytest.raises(SplitError, match="'cyst' has 0"):
        make_split(manifest, audit, settings=SplitSettings(), seed=0)


def test_a_shipped_test_part_without_a_readable_image_is_refused():
    items = [replace(item, status="unreadable") if item.part == "test" else item for item in shipped()]
    with pytest.raises(SplitError, match="test part is empty"):
        make_split(*data_set(items), settings=SplitSettings(), seed=0)


def test_classes_that_cannot_be_separated_are_refused():
    items = [Item(label, group) for group in range(3) for label in ("cyst", "healthy")] + singles("bone", 9, start=50)
    manifest, audit = data_set(items)
    audit = replace(audit, quarantined=frozenset())  # patients with two findings, not conflicting copies
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    assert parts_of(split, manifest, "cyst") == Counter({"train": 1, "validation": 1, "test": 1})

    chained = [Item("a", 0), Item("b", 0), Item("a", 1), Item("c", 1), Item("b", 2), Item("c", 2)]
    manifest, audit = data_set([replace(item, part="train") for item in chained] + [Item("a", 9, "test")])
    with pytest.raises(SplitError, match="cannot be in all of train and validation"):
        make_split(manifest, replace(audit, quarantined=frozenset()), settings=SplitSettings(), seed=0)
