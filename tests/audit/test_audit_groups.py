from __future__ import annotations

from audit_data import data_set, entry
from hypothesis import given
from hypothesis import strategies as st

from vitrail.audit import exact_groups, unite
from vitrail.audit.groups import copies


@st.composite
def edge_sets(draw):
    size = draw(st.integers(1, 25))
    row = st.integers(0, size - 1)
    return size, draw(st.lists(st.lists(st.tuples(row, row), max_size=15), max_size=3))


@given(edge_sets())
def test_files_share_a_group_exactly_when_edges_connect_them(case):
    size, sets = case
    reach = [{row} for row in range(size)]  # by exhaustion: spread until nothing changes
    changed = True
    while changed:
        changed = False
        for one, other in (edge for edges in sets for edge in edges):
            both = reach[one] | reach[other]
            for row in both:
                changed |= reach[row] != both
                reach[row] = both
    groups = unite(size, *sets)
    for one in range(size):
        assert {other for other in range(size) if groups[other] == groups[one]} == reach[one]


@given(edge_sets())
def test_groups_are_numbered_without_gaps_in_the_order_of_their_first_files(case):
    size, sets = case
    groups = unite(size, *sets)
    assert list(dict.fromkeys(groups)) == list(range(max(groups) + 1))


def test_no_files_have_no_groups():
    assert unite(0) == ()
    assert unite(3) == (0, 1, 2)


def test_equal_bytes_share_a_group_and_all_other_files_stand_alone():
    manifest = data_set(entry("a/1.png", "x"), entry("a/2.png", "y"), entry("a/3.png", "x"), entry("b/1.png", "x"))
    assert exact_groups(manifest) == (0, 1, 0, 0)


def test_files_without_a_readable_image_are_never_grouped():
    manifest = data_set(
        entry("a/1.png", "x", status="empty"), entry("a/2.png", "x", status="empty"), entry("a/3.png", "x", status="unreadable")
    )
    assert exact_groups(manifest) == (0, 1, 2)


def test_large_groups_of_copies_come_first():
    assert copies((0, 1, 0, 2, 1, 3, 1)) == ((1, 4, 6), (0, 2))
