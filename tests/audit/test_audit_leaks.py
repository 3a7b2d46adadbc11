from __future__ import annotations

import pytest
from audit_data import data_set, entry, plain
from hypothesis import given
from hypothesis import strategies as st

from vitrail.audit import AuditContext, NotApplicable
from vitrail.audit.leaks import LeakedTestImages, LeakedValidationImages


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
