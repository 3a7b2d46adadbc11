"""Which files belong together: edges between files, united into groups.

Every source of "these two show the same thing" (equal bytes here; near copies and patients elsewhere) yields edges, pairs of
positions in the manifest. :func:`unite` turns any number of such sets into one group number per file.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from vitrail.records import Manifest

Edge = tuple[int, int]


def unite(size: int, *edge_sets: Iterable[Edge]) -> tuple[int, ...]:
    """Unite files that edges connect, directly or through others.

    Args:
        size: Number of files.
        edge_sets: Pairs of positions, each in 0..size-1; order and repetition do not matter.

    Returns:
        The group number of every file, counted from 0 in the order of the groups' first files.
    """
    first = list(range(size))  # of every file, one that stands earlier in its group, or itself where none does (union-find)

    def root(row: int) -> int:
        while first[row] != row:
            first[row] = first[first[row]]  # halves the way of the next who asks
            row = first[row]
        return row

    for one, other in chain.from_iterable(edge_sets):
        low, high = sorted((root(one), root(other)))
        first[high] = low
    number: dict[int, int] = {}
    return tuple(number.setdefault(root(row), len(number)) for row in range(size))


def exact_edges(manifest: Manifest) -> list[Edge]:
    """Return an edge from the first readable file with some bytes to every later one with the same bytes."""
    return edges_of(file.sha256 if file.readable else "" for file in manifest.files)


def edges_of(keys: Iterable[str]) -> list[Edge]:
    """Return an edge from the first file with some key to every later one with the same key; files without a key have none."""
    first: dict[str, int] = {}
    return [(first[key], row) for row, key in enumerate(keys) if key and first.setdefault(key, row) != row]


def exact_groups(manifest: Manifest) -> tuple[int, ...]:
    """Return the group number of every file: readable files of equal bytes share one, every other file is its own group."""
    return unite(len(manifest), exact_edges(manifest))


def copies(groups: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return the positions of the files of every group with more than one file, large groups first, then in manifest order."""
    members: dict[int, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    several = [tuple(rows) for rows in members.values() if len(rows) > 1]
    return tuple(sorted(several, key=lambda rows: (-len(rows), rows)))
