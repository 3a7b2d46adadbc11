from __future__ import annotations

from audit_data import data_set, entry, plain
from hypothesis import given
from hypothesis import strategies as st

from vitrail.audit import AuditContext
from vitrail.audit.duplicates import ExactDuplicates
from vitrail.audit.labels import ConflictingLabels


def run(check, *files):
    return check.run(AuditContext.of(data_set(*files)))


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
    assert found.message == "1 group of byte-identical images (3 files) with different labels (cyst / healthy: 1)."
    assert found.evidence[0].note == "3 copies: cyst, healthy (2)"
    assert context.quarantined == {"cyst/1.png", "healthy/1.png", "healthy/2.png"}


def test_lbl401_passes_copies_under_one_label():
    assert run(ConflictingLabels(), entry("cyst/1.png", "one"), entry("cyst/2.png", "one"), *plain("healthy", 2)) is None
