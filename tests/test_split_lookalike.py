"""Look-alike groups: images of a class that look alike stay on one side, within a limit, and without touching the test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from split_data import Item, data_set
from vitrail.records import AuditReport, Manifest
from vitrail.settings import SplitSettings
from vitrail.split import make_folds, make_split, with_groups

LOOKALIKE = SplitSettings(groups="lookalike")
SLICES, SCANS = 4, 10


def scans(folder: Path) -> tuple[Manifest, AuditReport]:
    """Return per class so many scans of so many slices, file by file: every scan has a picture, every slice noise of its own."""
    rng = np.random.default_rng(0)
    items, pictures = [], []
    for label in ("mass", "none"):
        for _ in range(SCANS):
            picture = np.kron(rng.uniform(60, 190, (8, 8)), np.ones((16, 16)))
            for _ in range(SLICES):
                items.append(Item(label, len(items)))
                pictures.append(picture + np.kron(rng.normal(0, 20, (32, 32)), np.ones((4, 4))))
    return with_pictures(folder, items, pictures)


def with_pictures(folder: Path, items: list[Item], pictures: list[np.ndarray]) -> tuple[Manifest, AuditReport]:
    """Return a made-up data set whose thumbnails are these pictures."""
    manifest, audit = data_set(items)
    np.save(folder / "thumbnails.npy", np.clip(np.stack(pictures), 0, 255).astype(np.uint8))
    return replace(manifest, thumbnails_path=folder / "thumbnails.npy"), audit


def scan_of(manifest: Manifest) -> np.ndarray:
    return np.arange(len(manifest)) // SLICES


def test_slices_of_a_scan_share_a_group_where_nobody_names_the_patients(tmp_path):
    manifest, audit = scans(tmp_path)
    groups = np.array(with_groups(audit, manifest, settings=LOOKALIKE).groups)
    # The limit of 5 % of 40 images is 2: pairs of slices.
    assert {len({groups[row] for row in np.flatnonzero(scan_of(manifest) == scan)}) for scan in range(2 * SCANS)} == {2}


def test_without_a_tight_limit_a_group_is_a_scan(tmp_path, monkeypatch):
    monkeypatch.setattr("vitrail.split.lookalike.LARGEST_SHARE", 0.5)
    manifest, audit = scans(tmp_path)
    groups = with_groups(audit, manifest, settings=LOOKALIKE).groups
    assert groups == tuple(scan_of(manifest).tolist())


def test_a_split_and_folds_by_lookalike_groups_leave_no_scan_on_both_sides(tmp_path, monkeypatch):
    monkeypatch.setattr("vitrail.split.lookalike.LARGEST_SHARE", 0.2)
    manifest, audit = scans(tmp_path)
    scan = scan_of(manifest)

    def crossing(parts: tuple[object, ...]) -> int:
        return sum(len({parts[row] for row in np.flatnonzero(scan == number)}) > 1 for number in range(2 * SCANS))

    grouped = with_groups(audit, manifest, settings=LOOKALIKE)
    assert crossing(make_split(manifest, audit, settings=SplitSettings(), seed=0).parts) > SCANS
    split = make_split(manifest, grouped, settings=LOOKALIKE, seed=0)
    assert crossing(split.parts) == 0
    assert "look alike" in split.origin
    (folds,) = make_folds(manifest, grouped, folds=3, seed=0, split=split, settings=LOOKALIKE)
    drawn = [row for row, fold in enumerate(folds.fold_of) if fold]
    assert not {scan[row] for row in drawn if folds.fold_of[row] == 1} & {scan[row] for row in drawn if folds.fold_of[row] > 1}
    assert "look alike" in folds.origin


def test_a_shipped_validation_part_that_looks_like_the_training_part_is_pooled(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [np.kron(rng.uniform(60, 190, (8, 8)), np.ones((16, 16))) for _ in range(60)]
    items, shown = [], []
    for label in ("mass", "none"):
        for _ in range(20):
            picture = pictures.pop()
            items += [Item(label, len(items), part="train"), Item(label, len(items) + 1, part="validation")]
            shown += [picture, picture + np.kron(rng.normal(0, 20, (32, 32)), np.ones((4, 4)))]
        items.append(Item(label, len(items), part="test"))
        shown.append(pictures.pop())
    manifest, audit = with_pictures(tmp_path, items, shown)
    assert make_split(manifest, audit, settings=SplitSettings(), seed=0).origin == "test and validation: the data set's own parts"
    grouped = with_groups(audit, manifest, settings=LOOKALIKE)
    assert "some look like training images" in make_split(manifest, grouped, settings=LOOKALIKE, seed=0).origin


def test_known_groups_are_those_of_the_audit(tmp_path):
    manifest, audit = scans(tmp_path)
    assert with_groups(audit, manifest, settings=SplitSettings()) is audit


def test_images_of_a_test_part_that_is_kept_join_no_group_but_do_where_the_parts_are_pooled(tmp_path):
    pictures = [np.kron(np.random.default_rng(0).uniform(60, 190, (8, 8)), np.ones((16, 16)))] * 4
    others = [np.kron(np.random.default_rng(seed).uniform(60, 190, (8, 8)), np.ones((16, 16))) for seed in range(1, 21)]
    items = [Item("mass", number, part="test" if number % 2 else "train") for number in range(4)]
    items += [Item("none", number + 4, part="train") for number in range(20)]
    manifest, audit = with_pictures(tmp_path, items, [*pictures, *others])
    kept = with_groups(audit, manifest, settings=LOOKALIKE).groups
    assert kept[0] == kept[2]
    assert len({kept[0], kept[1], kept[3]}) == 3
    pooled = with_groups(audit, manifest, settings=SplitSettings(groups="lookalike", use_shipped_test=False)).groups
    assert len(set(pooled[:4])) == 2  # the limit is two images


def test_images_of_different_classes_never_join_and_groups_of_the_audit_are_never_cut(tmp_path):
    picture = np.kron(np.random.default_rng(0).uniform(60, 190, (8, 8)), np.ones((16, 16)))
    items = [Item(("mass", "none")[number % 2], number) for number in range(8)]
    items += [Item("none", 8)] * 6
    manifest, audit = with_pictures(tmp_path, items, [picture] * len(items))
    groups = with_groups(audit, manifest, settings=LOOKALIKE).groups
    assert len(set(groups[8:])) == 1
    labels = manifest.labels
    assert all(len({int(labels[row]) for row, one in enumerate(groups) if one == group}) == 1 for group in set(groups))


def test_blank_images_resemble_nothing(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [np.full((128, 128), 40.0 + 10 * number) for number in range(4)]
    pictures += [np.kron(rng.uniform(60, 190, (8, 8)), np.ones((16, 16))) for _ in range(36)]
    manifest, audit = with_pictures(tmp_path, [Item("mass", number) for number in range(40)], pictures)
    groups = with_groups(audit, manifest, settings=LOOKALIKE).groups
    assert len(set(groups)) == 40


@pytest.mark.parametrize("order", [1, 2])
def test_the_order_of_files_does_not_change_who_belongs_together(tmp_path, order):
    manifest, audit = scans(tmp_path)
    plain = with_groups(audit, manifest, settings=LOOKALIKE).groups
    mixed = np.random.default_rng(order).permutation(len(manifest))
    pictures = np.load(manifest.thumbnails_path)[mixed]
    other, other_audit = with_pictures(
        tmp_path, [Item(manifest.files[row].label, number) for number, row in enumerate(mixed.tolist())], list(pictures)
    )
    shuffled = with_groups(other_audit, other, settings=LOOKALIKE).groups

    def sets(groups: tuple[int, ...], rows: list[int]) -> set[frozenset[int]]:
        homes: dict[int, set[int]] = {}
        for place, group in enumerate(groups):
            homes.setdefault(group, set()).add(rows[place])
        return {frozenset(members) for members in homes.values()}

    assert sets(plain, list(range(len(manifest)))) == sets(shuffled, mixed.tolist())
