"""The split: no group crosses, every class is everywhere, proportions keep their bound, files tell what they hold."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.errors import SplitError
from vitrail.records import AuditReport, ImageFile, Manifest, Split
from vitrail.split import Drawing, check_split, load_split, make_split, save_split
from vitrail.study import SplitSettings

OWN_TEST = SplitSettings(use_shipped_test=False)


@dataclass(frozen=True)
class Item:
    """One file of a made-up data set; ``group`` stands for its bytes too."""

    label: str
    group: int
    part: str | None = None
    status: str = "readable"


def data_set(items: list[Item]) -> tuple[Manifest, AuditReport]:
    """Return the manifest of made-up files, and an audit that says what follows from their groups, labels and parts."""
    files = tuple(
        ImageFile(f"{number:06d}_{item.label}.png", item.label, item.part, 10, f"{item.group:064x}", item.status)  # type: ignore[arg-type]
        for number, item in enumerate(items)
    )
    labels, places = defaultdict(set), defaultdict(set)
    for item in items:
        labels[item.group].add(item.label)
        places[item.group].add(item.part == "test")
    quarantined = frozenset(file.path for file, item in zip(files, items, strict=True) if len(labels[item.group]) > 1)
    leaked = frozenset(
        file.path for file, item in zip(files, items, strict=True) if item.part == "test" and len(places[item.group]) > 1
    )
    manifest = Manifest(Path("images"), tuple(sorted({item.label for item in items})), files, Path("none.npy"))
    groups = tuple(item.group for item in items)
    return manifest, AuditReport(len(files), len(files), (), (), groups, quarantined, leaked)


def singles(label: str, count: int, *, start: int, part: str | None = None) -> list[Item]:
    return [Item(label, start + number, part) for number in range(count)]


def shipped(train: int = 60, test: int = 10, validation: int = 0) -> list[Item]:
    """Return a data set of two classes that ships its parts; no two images are equal."""
    items, start = [], 0
    for part, count in (("train", train), ("test", test), ("validation", validation)):
        for label in ("cyst", "healthy"):
            items += singles(label, count, start=start, part=part)
            start += count
    return items


def parts_of(split: Split, manifest: Manifest, label: str | None = None) -> Counter[str]:
    return Counter(part for part, file in zip(split.parts, manifest.files, strict=True) if label in (None, file.label))


# ---------------------------------------------------------------------------------------------------- drawn splits


group_sizes = st.dictionaries(
    st.sampled_from(["bone", "cyst", "healthy", "tumor"]),
    st.lists(st.integers(1, 12) | st.just(1), min_size=3, max_size=25),
    min_size=2,
)
share = st.floats(0.01, 0.49)


def items_of(sizes: dict[str, list[int]], shuffle: int) -> list[Item]:
    items, group = [], 0
    for label, counts in sizes.items():
        for count in counts:
            items += [Item(label, group)] * count
            group += 1
    order = np.random.default_rng(shuffle).permutation(len(items))
    return [items[position] for position in order]


@given(group_sizes, share, share, st.integers(0, 2**31 - 1))
@settings(max_examples=200, deadline=None)
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
@settings(max_examples=200, deadline=None)
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


def test_a_hundred_thousand_groups_take_seconds():
    import time

    counts = np.eye(4)[np.random.default_rng(0).integers(0, 4, 20_000)]
    start = time.process_time()
    drawing = Drawing(counts, (0.64, 0.16, 0.2), np.random.default_rng(0))
    drawing.complete()
    drawing.improve()
    assert time.process_time() - start < 4  # for a fifth of them; about 0.5 on an idle core


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
    with pytest.raises(SplitError, match="cannot be in all of train, validation"):
        make_split(manifest, replace(audit, quarantined=frozenset()), settings=SplitSettings(), seed=0)


# ---------------------------------------------------------------------------------------------------- the check


@pytest.fixture
def drawn() -> tuple[Split, Manifest, AuditReport]:
    manifest, audit = data_set([*items_of({"cyst": [2] * 20, "healthy": [1] * 30}, 0), Item("cyst", 900, None, "unreadable")])
    return make_split(manifest, audit, settings=SplitSettings(), seed=0), manifest, audit


def moved(split: Split, row: int, part: str, note: str = "") -> Split:
    parts, notes = list(split.parts), list(split.notes)
    parts[row], notes[row] = part, note
    return replace(split, parts=tuple(parts), notes=tuple(notes))


def test_the_check_passes_what_was_drawn(drawn):
    check_split(*drawn)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_the_check_refuses_a_group_in_two_parts(drawn, part):
    split, manifest, audit = drawn
    row = next(
        row for row, file in enumerate(manifest.files) if file.label == "cyst" and split.parts[row] not in (part, "excluded")
    )
    with pytest.raises(SplitError, match="in two parts"):
        check_split(moved(split, row, part), manifest, audit)


def test_the_check_refuses_leaks_that_vitrail_itself_would_make(drawn):
    split, manifest, audit = drawn
    row = next(row for row, file in enumerate(manifest.files) if file.label == "cyst" and split.parts[row] == "train")
    with pytest.raises(SplitError, match="note"):
        check_split(moved(split, row, "test", "leaked"), manifest, audit)


def test_the_check_refuses_broken_or_silently_left_out_files(drawn):
    split, manifest, audit = drawn
    with pytest.raises(SplitError, match="unreadable and must be excluded"):
        check_split(moved(split, len(manifest) - 1, "train"), manifest, audit)
    with pytest.raises(SplitError, match="usable and must be in a part"):
        check_split(moved(split, 0, "excluded"), manifest, audit)


def test_the_check_refuses_quarantined_files_outside_a_shipped_test_part(drawn):
    split, manifest, audit = drawn
    row = int(split.rows("test")[0])
    audit = replace(audit, quarantined=frozenset({manifest.files[row].path}))
    with pytest.raises(SplitError, match="quarantined and must be excluded"):
        check_split(moved(split, row, "test", "quarantined"), manifest, audit)


def test_the_check_refuses_a_shipped_leak_without_its_note():
    manifest, audit = data_set([*shipped(), Item("cyst", 0, "test")])
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    with pytest.raises(SplitError, match="must be 'leaked'"):
        check_split(moved(split, len(manifest) - 1, "test", ""), manifest, audit)
    with pytest.raises(SplitError, match="in two parts"):  # the note is not even asked for when the audit knows of no leak
        check_split(moved(split, len(manifest) - 1, "test", ""), manifest, replace(audit, leaked=frozenset()))


def test_the_check_refuses_a_test_image_called_leaked_to_get_rid_of_it():
    manifest, audit = data_set(shipped())
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    with pytest.raises(SplitError, match="note"):
        check_split(moved(split, int(split.rows("test")[0]), "test", "leaked"), manifest, audit)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_the_check_refuses_a_part_without_a_class_and_an_empty_part(part):
    manifest, audit = data_set([*singles("cyst", 9, start=0), *singles("healthy", 9, start=9)])
    split = make_split(manifest, audit, settings=SplitSettings(), seed=0)
    other = "train" if part != "train" else "test"
    for pattern, labels in (
        (f"{part} part has no usable image of class 'cyst'", {"cyst"}),
        (f"{part} part is empty", {"cyst", "healthy"}),
    ):
        emptied = split
        for row in split.rows(part):
            if manifest.files[row].label in labels:
                emptied = moved(emptied, int(row), other)
        with pytest.raises(SplitError, match=pattern):
            check_split(emptied, manifest, audit)


def test_the_check_refuses_other_groups_other_lengths_and_unknown_parts(drawn):
    split, manifest, audit = drawn
    with pytest.raises(SplitError, match="other groups"):
        check_split(split, manifest, replace(audit, groups=(*audit.groups[:-1], 0)))
    with pytest.raises(SplitError, match="about 70 files, the data set has 71"):
        check_split(replace(split, parts=split.parts[1:]), manifest, audit)
    with pytest.raises(SplitError, match="unknown part 'Train'"):
        check_split(moved(split, 0, "Train"), manifest, audit)


# ---------------------------------------------------------------------------------------------------- files


def test_a_split_comes_back_from_its_file(tmp_path, drawn):
    split, manifest, audit = drawn
    save_split(tmp_path / "split.csv", split, manifest)
    assert load_split(tmp_path / "split.csv", manifest, audit) == split


def test_the_file_is_a_plain_table(tmp_path, drawn):
    split, manifest, _ = drawn
    save_split(tmp_path / "split.csv", split, manifest)
    with (tmp_path / "split.csv").open(newline="", encoding="utf-8") as stream:
        table = list(csv.DictReader(stream))
    assert list(table[0]) == ["path", "sha256", "label", "group", "part", "note"]
    assert [line["part"] for line in table] == list(split.parts)
    assert table[-1]["note"] == "unreadable"


def test_a_table_that_a_person_made_is_taken_and_called_given(tmp_path, drawn):
    split, manifest, audit = drawn
    save_split(tmp_path / "mine.csv", split, manifest)
    (tmp_path / "mine.origin.json").unlink()
    loaded = load_split(tmp_path / "mine.csv", manifest, audit)
    assert loaded.parts == split.parts
    assert loaded.origin == "as given in mine.csv, not drawn by vitrail"


def test_a_file_about_another_state_of_the_data_set_is_refused(tmp_path, drawn):
    split, manifest, audit = drawn
    path = tmp_path / "split.csv"
    save_split(path, split, manifest)
    first = manifest.files[0]
    fewer = replace(manifest, files=manifest.files[1:])
    changed = replace(manifest, files=(replace(first, sha256="f" * 64), *manifest.files[1:]))
    more = replace(manifest, files=(*manifest.files, replace(first, path="z.png")))
    for other, words in ((fewer, "no longer in the data set"), (changed, "other bytes"), (more, "not in it, first z.png")):
        with pytest.raises(SplitError, match=words):
            load_split(path, other, audit)


def test_an_edited_file_that_lets_a_group_cross_is_refused(tmp_path, drawn):
    split, manifest, audit = drawn
    path = tmp_path / "split.csv"
    row = next(row for row, file in enumerate(manifest.files) if file.label == "cyst" and split.parts[row] == "train")
    save_split(path, moved(split, row, "test"), manifest)
    with pytest.raises(SplitError, match="in two parts"):
        load_split(path, manifest, audit)


@pytest.mark.parametrize(
    "content", ["", "path,part\na.png,train\n", "path,sha256,label,group,part,note\na.png,train\n", "\xff\xfe"]
)
def test_a_file_that_is_no_split_is_refused(tmp_path, drawn, content):
    _, manifest, audit = drawn
    path = tmp_path / "split.csv"
    path.write_bytes(content.encode("latin-1"))
    with pytest.raises(SplitError, match=r"split\.csv"):
        load_split(path, manifest, audit)
    with pytest.raises(SplitError, match="cannot be read"):
        load_split(tmp_path / "none.csv", manifest, audit)


def test_lines_that_repeat_a_file_are_refused(tmp_path, drawn):
    split, manifest, audit = drawn
    path = tmp_path / "split.csv"
    save_split(path, split, manifest)
    path.write_text(path.read_text() + path.read_text().splitlines()[1] + "\n")
    with pytest.raises(SplitError, match="1 lines repeat"):
        load_split(path, manifest, audit)


def test_a_broken_origin_is_refused(tmp_path, drawn):
    split, manifest, audit = drawn
    save_split(tmp_path / "split.csv", split, manifest)
    (tmp_path / "split.origin.json").write_text("{")
    with pytest.raises(SplitError, match=r"split\.origin\.json"):
        load_split(tmp_path / "split.csv", manifest, audit)
