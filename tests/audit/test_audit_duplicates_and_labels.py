from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from audit_data import data_set, entry, plain
from copy_data import brightened, cropped, encoded, picture, thumbnail
from hypothesis import given
from hypothesis import strategies as st

from vitrail.audit import AuditContext, NotApplicable, run_audit
from vitrail.audit.duplicates import ExactDuplicates, NearDuplicates, Redundancy, TurnedDuplicates
from vitrail.audit.labels import ConflictingLabels
from vitrail.records import Manifest
from vitrail.split import make_split
from vitrail.study import AuditSettings, SplitSettings


def run(check, *files):
    return check.run(AuditContext.of(data_set(*files)))


def drawn(*paths: str, **copies: tuple[str, str, Callable[[np.ndarray], np.ndarray]]) -> Manifest:
    """Return a data set of different pictures, and of copies: of which path, under which path, and what was done to it."""
    pictures = {path: picture(number) for number, path in enumerate(paths)}
    pictures |= {path: change(pictures[original]) for original, path, change in copies.values()}
    return data_set(*(entry(path) for path in pictures), pictures={path: thumbnail(own) for path, own in pictures.items()})


def several(folder: str, count: int) -> list[str]:
    return [f"{folder}/{number}.png" for number in range(count)]


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=30))
def test_dup201_counts_the_files_that_could_go(contents):
    found = run(ExactDuplicates(), *[entry(f"cyst/{number:02d}.png", content) for number, content in enumerate(contents)])
    assert (found.count if found else 0) == len(contents) - len(set(contents))


def test_dup201_names_groups_files_and_redundant_files_by_class_large_groups_first():
    found = run(
        ExactDuplicates(),
        *plain("train/cyst", 4),
        entry("test/cyst/x.png", "one"),
        entry("train/cyst/x.png", "one"),
        entry("train/healthy/1.png", "two"),
        entry("train/healthy/2.png", "two"),
        entry("train/healthy/3.png", "two"),
    )
    assert (found.severity, found.count) == ("warning", 3)
    assert found.message == "5 files in 2 groups are byte-identical copies; redundant: 3 (healthy 2, cyst 1)."
    assert found.evidence[0].paths == ("train/healthy/1.png", "train/healthy/2.png", "train/healthy/3.png")
    assert [piece.note for piece in found.evidence] == [
        "3 copies: healthy in train (3)",
        "2 copies: cyst in test, cyst in train",
    ]


def test_dup201_passes_without_copies():
    assert run(ExactDuplicates(), *plain("cyst", 4), *plain("healthy", 2)) is None


def test_lbl401_finds_copies_under_different_labels_and_quarantines_the_whole_group():
    files = [
        *plain("healthy", 4),
        entry("cyst/1.png", "one"),
        entry("healthy/1.png", "one"),
        entry("healthy/2.png", "one"),
        entry("cyst/3.png", "two"),
        entry("cyst/4.png", "two"),
    ]
    context = AuditContext.of(data_set(*files))
    found = ConflictingLabels().run(context)
    assert (found.severity, found.count) == ("error", 1)
    assert found.message == (
        "1 group of copies of one picture (3 files; 1 of the groups byte-identical) with different labels (cyst / healthy: 1)."
    )
    assert found.evidence[0].note == "3 copies: cyst, healthy (2)"
    assert context.quarantined == {"cyst/1.png", "healthy/1.png", "healthy/2.png"}


def test_lbl401_passes_copies_under_one_label():
    assert run(ConflictingLabels(), entry("cyst/1.png", "one"), entry("cyst/2.png", "one"), *plain("healthy", 2)) is None


def test_lbl401_quarantines_near_copies_too():
    manifest = drawn(*several("cyst", 4), *several("healthy", 4), turned=("cyst/1.png", "healthy/copy.png", np.fliplr))
    context = AuditContext.of(manifest)
    found = ConflictingLabels().run(context)
    assert found.message == (
        "1 group of copies of one picture (2 files; 0 of the groups byte-identical) with different labels (cyst / healthy: 1)."
    )
    assert context.quarantined == {"cyst/1.png", "healthy/copy.png"}


# ---------------------------------------------------------------------------------------------------- near copies


@pytest.fixture(scope="module")
def copied() -> Manifest:
    """Eight pictures of two classes, and copies: saved again, brightened after cropping, mirrored, turned."""
    return drawn(
        *several("cyst", 4),
        *several("healthy", 4),
        saved=("cyst/0.png", "cyst/saved.png", lambda pixels: encoded(pixels, 50)),
        cut=("healthy/1.png", "healthy/cut.png", lambda pixels: brightened(cropped(pixels, 0.03, 0.02, 0, 0.04), gamma=1.2)),
        mirrored=("cyst/2.png", "cyst/mirrored.png", np.fliplr),
        turned=("cyst/2.png", "cyst/turned.png", lambda pixels: np.rot90(pixels, -1)),
    )


def test_dup202_names_upright_pairs_by_label(copied):
    found = NearDuplicates().run(AuditContext.of(copied))
    assert (found.severity, found.count) == ("warning", 2)
    assert found.message.startswith("2 pairs of images show the same picture in other bytes (cyst 1, healthy 1);")
    assert sorted(piece.paths for piece in found.evidence) == [
        ("cyst/0.png", "cyst/saved.png"),
        ("healthy/1.png", "healthy/cut.png"),
    ]
    assert all(piece.note.startswith("detail agrees by 0.9") for piece in found.evidence)


def test_dup203_names_turned_pairs_by_what_was_done(copied):
    found = TurnedDuplicates().run(AuditContext.of(copied))
    assert (found.severity, found.count) == ("warning", 3)
    assert found.message.startswith("3 pairs of images show the same picture turned or mirrored (")
    notes = {piece.paths: piece.note.partition(";")[0] for piece in found.evidence}
    assert notes == {
        ("cyst/2.png", "cyst/mirrored.png"): "mirrored left-right",
        ("cyst/2.png", "cyst/turned.png"): "rotated by 90° clockwise",
        ("cyst/mirrored.png", "cyst/turned.png"): "mirrored along the other diagonal",
    }


def test_dup202_and_dup203_pass_different_pictures_and_need_two(copied):
    different = AuditContext.of(drawn(*several("cyst", 4), *several("healthy", 4)))
    for check in (NearDuplicates(), TurnedDuplicates()):
        assert check.run(different) is None
        with pytest.raises(NotApplicable, match="fewer than two images"):
            run(check, entry("cyst/1.png"))


def test_dup202_leaves_exact_copies_to_dup201():
    pictures = {f"cyst/{number}.png": thumbnail(picture(number % 2)) for number in range(4)}
    manifest = data_set(*(entry(path, str(int(path[5]) % 2)) for path in pictures), pictures=pictures)
    assert NearDuplicates().run(AuditContext.of(manifest)) is None
    assert ExactDuplicates().run(AuditContext.of(manifest)).count == 2


def test_dup204_counts_every_picture_once_whatever_was_done_to_it():
    files = [*plain("cyst", 8), *[entry(f"cyst/copy{number}.png", "one") for number in range(3)], *plain("healthy", 20)]
    assert run(Redundancy(), *files) is None  # 2 of 11 are further copies: 18 %
    found = run(Redundancy(), *files, entry("cyst/copy3.png", "one"))
    assert (found.severity, found.count) == ("warning", 1)
    assert found.message.endswith("cyst: 12 images, 9 different (25 % copies).")


def test_dup204_counts_near_copies(copied):
    found = Redundancy().run(AuditContext.of(copied))
    assert [piece.note for piece in found.evidence] == ["cyst: 7 images, 4 different (43 % copies)"]


# ---------------------------------------------------------------------------------------------------- groups


def test_groups_unite_copies_near_copies_volumes_and_patients():
    pictures = {f"cyst/{number}.png": thumbnail(picture(number)) for number in range(9)}
    pictures["cyst/1.png"] = thumbnail(encoded(picture(0), 60))
    pictures["cyst/3.png"] = pictures["cyst/2.png"]
    files = [
        entry("cyst/0.png"),
        entry("cyst/1.png"),  # near copy of 0
        entry("cyst/2.png", "same", patient="p1"),
        entry("cyst/3.png", "same", volume="v1"),  # exact copy of 2
        entry("cyst/4.png", volume="v1"),
        entry("cyst/5.png", patient="p1"),
        entry("cyst/6.png", patient="p2"),
        entry("cyst/7.png", patient="p2", status="unreadable"),
        entry("cyst/8.png"),
    ]
    context = AuditContext.of(data_set(*files, pictures=pictures))
    assert context.groups == (0, 0, 1, 1, 1, 1, 2, 3, 4)
    assert context.pictures == (0, 0, 1, 1, 2, 3, 4, 5, 6)
    assert context.alike == ((0, 1), (2, 3))


def test_a_split_keeps_near_copies_on_one_side():
    names = [*several("cyst", 20), *several("healthy", 20)]
    copies = {
        f"copy{number}": (f"{label}/{number}.png", f"{label}/copy{number}.png", change)
        for number, change in enumerate([np.fliplr, encoded, np.rot90, lambda pixels: cropped(pixels, 0.03, 0.02, 0, 0.04)] * 4)
        for label in (["cyst", "healthy"][number % 2],)
    }
    manifest = drawn(*names, **copies)
    report = run_audit(manifest, settings=AuditSettings())
    assert len(set(report.groups)) == 40
    for seed in range(5):
        split = make_split(manifest, report, settings=SplitSettings(), seed=seed)
        part = dict(zip((file.path for file in manifest.files), split.parts, strict=True))
        assert {part[original] == part[copy] for original, copy, _ in copies.values()} == {True}
        assert set(part.values()) == {"train", "validation", "test"}
