"""Look-alike groups: where nobody says which images show the same patient, images of a class that look alike stay together.

Neighbouring slices of one scan are no copies, yet a model that has seen one knows the other. With them on both sides of a split
the validation score says how well a model remembers, and prefers the models that remember best.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitrail.audit import unite
from vitrail.audit.alignment import shrunk
from vitrail.audit.groups import edges_of
from vitrail.records import AuditReport, FloatArray, IntArray, Manifest
from vitrail.settings import SplitSettings
from vitrail.split.check import exclusion_of

LEAST_LIKENESS = 0.6
"""Correlation of two thumbnails, what all images share left out, from which on images may be put into one group."""
LARGEST_SHARE = 0.05
"""No look-alike group holds more than this share of a class's images: five folds then still come out even, and one common view
does not pull a whole class together."""
NEIGHBOURS = 10
"""So many images most like it every image proposes."""
SIDE = 32
"""Thumbnails are compared at so many pixels a side."""

_BLOCK = 1024  # images whose neighbours are looked for at a time
_SCALE = 2048.0  # vectors are rounded to whole numbers of this length: sums of their products are exact in float32 (below 2^24),
# so that groups do not depend on the order in which a processor adds


def with_groups(audit: AuditReport, manifest: Manifest, *, settings: SplitSettings) -> AuditReport:
    """Return an audit whose groups are those that a split shall keep whole.

    Under ``groups: known`` that is the audit itself. Under ``lookalike`` its groups are united further: pairs of images of one
    class, the most alike first, as long as the group does not grow beyond ``LARGEST_SHARE`` of the class (single linkage with a
    limit; without one, chains of neighbours join most of a class). Groups of the audit are never cut. Only images that a split
    may draw take part: those of a test part that is kept, and what is left out, keep the groups that they have.

    Args:
        audit: The audit of the data set.
        manifest: The data set.
        settings: Of the split.
    """
    if settings.groups == "known":
        return audit
    kept = settings.use_shipped_test and manifest.has_shipped_test
    drawn = [not exclusion_of(file, audit) and not (kept and file.part == "test") for file in manifest.files]
    rows = np.flatnonzero(drawn)
    first, second = _pairs(_vectors(manifest, rows), manifest.labels[rows])
    limits = np.maximum(2, (LARGEST_SHARE * np.bincount(manifest.labels[rows])).astype(np.int64))
    limit = limits[manifest.labels[rows[first]]]
    united = _united(np.asarray(audit.groups, dtype=np.int64), rows, rows[first], rows[second], limit)
    return replace(audit, groups=unite(len(manifest), edges_of(str(number) for number in united.tolist())))


def _vectors(manifest: Manifest, rows: IntArray) -> FloatArray:
    """Return thumbnails as vectors of whole numbers of length ``_SCALE``, shape (n, 1024), without their own mean and without
    what all have in common."""
    blocks = [
        _unit(shrunk(manifest.thumbnails[rows[start : start + _BLOCK]], SIDE).reshape(-1, SIDE * SIDE))
        for start in range(0, len(rows), _BLOCK)
    ]
    vectors = np.concatenate(blocks) if blocks else np.zeros((0, SIDE * SIDE), dtype=np.float32)
    structured = vectors.any(axis=1)  # blank images resemble everything and nothing: they stay zero
    if structured.any():
        vectors[structured] -= vectors[structured].mean(axis=0)
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    return np.asarray(np.rint(_SCALE * vectors / lengths), dtype=np.float32)


def _unit(vectors: FloatArray) -> FloatArray:
    centred = vectors - vectors.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6), dtype=np.float32)


def _pairs(vectors: FloatArray, labels: IntArray) -> tuple[IntArray, IntArray]:
    """Return every image's nearest neighbours of its class as positions of pairs, the most alike first, then by position."""
    first, second, likeness = [], [], []
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        count = min(NEIGHBOURS, len(members) - 1)
        if count == 0:
            continue
        for start in range(0, len(members), _BLOCK):
            own = members[start : start + _BLOCK]
            found = vectors[own] @ vectors[members].T / np.float32(_SCALE**2)
            found[np.arange(len(own)), np.arange(start, start + len(own))] = -2  # itself
            nearest = np.argpartition(-found, count - 1, axis=1)[:, :count]
            value = np.take_along_axis(found, nearest, axis=1)
            alike = value >= LEAST_LIKENESS
            first.append(np.repeat(own, count).reshape(-1, count)[alike])
            second.append(members[nearest][alike])
            likeness.append(value[alike])
    if not first:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    one, other, value = np.concatenate(first), np.concatenate(second), np.concatenate(likeness)
    low, high = np.minimum(one, other), np.maximum(one, other)
    order = np.lexsort((high, low, -value))
    return low[order], high[order]


def _united(groups: IntArray, rows: IntArray, first: IntArray, second: IntArray, limit: IntArray) -> IntArray:
    """Unite the groups of pairs of files, in the order of the pairs, where together they have at most ``limit`` images.

    Args:
        groups: Group of every file, shape (files,).
        rows: Positions of the files that count as images of a group.
        first: Position of a file, shape (pairs,).
        second: Position of another one.
        limit: Most images of the group that a pair makes.

    Returns:
        The new group of every file, numbered by one of the old ones.
    """
    parent = np.arange(int(groups.max(initial=-1)) + 1)
    size = np.bincount(groups[rows], minlength=len(parent))

    def root(group: int) -> int:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = int(parent[group])
        return group

    for one, other, most in zip(groups[first].tolist(), groups[second].tolist(), limit.tolist(), strict=True):
        one, other = root(one), root(other)
        if one != other and size[one] + size[other] <= most:
            parent[other] = one
            size[one] += size[other]
    return np.array([root(int(group)) for group in groups], dtype=np.int64)
