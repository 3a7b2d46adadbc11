"""Folds for cross-validation: every image is held out once per repeat, its group with it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vitrail.errors import SplitError, UsageError
from vitrail.records import AuditReport, IntArray, Manifest, Split
from vitrail.settings import SplitSettings
from vitrail.split.check import TOGETHER, exclusion_of, staying_together
from vitrail.split.make import draw_rows
from vitrail.split.table import compare, read_table
from vitrail.storage import fingerprint, read_record, write_record, write_text

_COLUMNS = ("path", "sha256", "label", "group")


@dataclass(frozen=True)
class Folds:
    """One way to cut the images that are not kept for the test into folds. Built only through :func:`make_folds` or its checks.

    Attributes:
        fold_of: Fold of every file, 1 to ``count``; 0: in no fold (kept for the test, or not usable).
        count: Number of folds.
        repeat: Which of several such ways, counted from 1.
        groups: Group number of every file (see :class:`~vitrail.records.AuditReport`).
        seed: The seed that drew it.
        origin: Where the folds come from, in words, for the report.
    """

    fold_of: tuple[int, ...]
    count: int
    repeat: int
    groups: tuple[int, ...]
    seed: int
    origin: str

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when any file changes its fold or its group."""
        return fingerprint(self.fold_of, self.groups)

    def held_out(self, fold: int) -> IntArray:
        """Return the positions in the manifest of the files of one fold (1 to ``count``)."""
        return np.flatnonzero(np.asarray(self.fold_of) == fold)

    def others(self, fold: int) -> IntArray:
        """Return the positions in the manifest of the files of all other folds: those that train while ``fold`` is held out."""
        numbers = np.asarray(self.fold_of)
        return np.flatnonzero((numbers > 0) & (numbers != fold))


def make_folds(
    manifest: Manifest,
    audit: AuditReport,
    *,
    folds: int,
    repeats: int = 1,
    seed: int,
    split: Split | None = None,
    settings: SplitSettings = SplitSettings(),  # noqa: B008 - frozen
) -> tuple[Folds, ...]:
    """Cut the usable images that are not kept for the test into folds, by class and by group.

    Args:
        manifest: The data set.
        audit: Its audit: groups and quarantined files.
        folds: Number of folds, at least 2.
        repeats: How many different ways to cut, at least 1.
        seed: Same seed, same folds.
        split: The split whose training and validation images are folded; its test images stay out. ``None``: the data set's
            own test part stays out, where there is one.
        settings: Of the split: says in words what stays together.

    Returns:
        One :class:`Folds` per repeat. No group is in two folds, and every class is in every fold.

    Raises:
        SplitError: A class has fewer groups than there are folds, or cannot be in all of them.
        UsageError: ``folds`` or ``repeats`` is out of range.
    """
    if folds < 2 or repeats < 1:
        raise UsageError(f"Cross-validation needs at least 2 folds and 1 repeat. Found: folds={folds}, repeats={repeats}.")
    rows = np.flatnonzero(_foldable(manifest, audit, split))
    kept = " (the test images stay out)" if split is not None or manifest.has_shipped_test else ""
    origin = (
        f"{folds} folds of the usable images{kept}, drawn by class and by group ({staying_together(settings)} "
        f"stay together) with seed {seed}"
    )
    made = []
    for repeat in range(1, repeats + 1):
        fold_of = np.zeros(len(manifest), dtype=np.int64)
        fold_of[rows] = 1 + draw_rows(
            rows.tolist(),
            manifest,
            audit,
            shares=(1 / folds,) * folds,
            what=f"{folds} folds",
            rng=np.random.default_rng((seed, repeat)),
        )
        made.append(Folds(tuple(fold_of.tolist()), folds, repeat, audit.groups, seed, origin))
        check_folds(made[-1], manifest, audit, split=split)
    return tuple(made)


def check_folds(folds: Folds, manifest: Manifest, audit: AuditReport, *, split: Split | None = None) -> None:
    """Make sure that folds are honest.

    No group is in two folds; exactly the usable images that are not kept for the test are in a fold; every class is in every
    fold.

    Args:
        folds: The folds.
        manifest: The data set.
        audit: Its audit.
        split: As in :func:`make_folds`.

    Raises:
        SplitError: The first rule that is broken, with the file, group or class.
    """
    if not len(manifest) == len(folds.fold_of) == len(folds.groups):
        raise SplitError(f"The folds are about {len(folds.fold_of):,} files, the data set has {len(manifest):,}. Draw them anew.")
    if folds.groups != audit.groups:
        raise SplitError("The folds were drawn with other groups than the audit now finds. Draw them anew.")
    fold_of, groups = np.asarray(folds.fold_of), np.asarray(folds.groups)
    foldable = _foldable(manifest, audit, split)
    unknown = np.flatnonzero((fold_of < 0) | (fold_of > folds.count))
    if len(unknown):
        row = int(unknown[0])
        raise SplitError(f"{manifest.files[row].path}: fold {fold_of[row]}; the folds are 1 to {folds.count}. Draw them anew.")
    for rows, rule in (
        (np.flatnonzero(foldable & (fold_of == 0)), "is usable and must be in a fold"),
        (np.flatnonzero(~foldable & (fold_of > 0)), "is kept for the test or not usable, and must be in no fold"),
    ):
        if len(rows):
            raise SplitError(f"{manifest.files[int(rows[0])].path} {rule}. Draw the folds anew.")
    rows = np.flatnonzero(fold_of)
    _, first, group_of = np.unique(groups[rows], return_index=True, return_inverse=True)
    crossing = rows[fold_of[rows] != fold_of[rows[first]][group_of]]
    if len(crossing):
        row = int(crossing[0])
        raise SplitError(
            f"Images that belong together ({TOGETHER}; group {groups[row]}) are in two folds, among them "
            f"{manifest.files[row].path}. A group belongs to one fold; draw the folds anew."
        )
    present = np.zeros((folds.count + 1, len(manifest.classes)), dtype=bool)
    present[fold_of[rows], manifest.labels[rows]] = True
    for fold, number in np.argwhere(~present[1:]).tolist():
        raise SplitError(
            f"Fold {fold + 1} of {folds.count} has no image of class {manifest.classes[number]!r}; every class must be in it. "
            "Draw the folds anew."
        )


def _foldable(manifest: Manifest, audit: AuditReport, split: Split | None) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return for every file whether it must be in a fold."""
    if split is not None:
        return np.array([part in ("train", "validation") for part in split.parts], dtype=np.bool_)
    return np.array([not exclusion_of(file, audit) and file.part != "test" for file in manifest.files], dtype=np.bool_)


# ---------------------------------------------------------------------------------------------------- save and load


@dataclass(frozen=True)
class _Source:
    """What a table of folds cannot hold; it stands beside it."""

    seed: int
    folds: int
    origin: str


def save_folds(path: Path, folds: Sequence[Folds], manifest: Manifest) -> None:
    """Write folds as a table (CSV: path, sha256, label, group, and one column of fold numbers per repeat), and ``.origin.json``.

    Args:
        path: The table.
        folds: What :func:`make_folds` gave: all repeats.
        manifest: The data set.

    Raises:
        UsageError: There are no folds.
    """
    if not folds:
        raise UsageError("There are no folds to save. Give what make_folds returned.")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow((*_COLUMNS, *(f"repeat {one.repeat}" for one in folds)))
    for file, group, *numbers in zip(manifest.files, folds[0].groups, *(one.fold_of for one in folds), strict=True):
        writer.writerow((file.path, file.sha256, file.label, group, *numbers))
    write_record(path.with_suffix(".origin.json"), _Source(folds[0].seed, folds[0].count, folds[0].origin))
    write_text(path, table.getvalue())


def load_folds(path: Path, manifest: Manifest, audit: AuditReport, *, split: Split | None = None) -> tuple[Folds, ...]:
    """Read folds that :func:`save_folds` wrote, and check them.

    Args:
        path: The table.
        manifest: The data set.
        audit: Its audit.
        split: As in :func:`make_folds`.

    Raises:
        SplitError: The file is missing or no such table, is about other files, or the folds are not honest.
    """
    lines, columns = read_table(path, needed=_COLUMNS)
    compare(path, lines, manifest)
    repeats = [name for name in columns if name not in _COLUMNS]
    beside = path.with_suffix(".origin.json")
    try:
        source = read_record(beside, _Source)
        numbers = [tuple(int(lines[file.path][name]) for file in manifest.files) for name in repeats]
    except (OSError, ValueError) as error:
        raise SplitError(
            f"{path}: the folds or their {beside.name} cannot be read. Remove them, or draw the folds anew."
        ) from error
    if repeats != [f"repeat {number}" for number in range(1, len(repeats) + 1)] or not repeats:
        found = ", ".join(repeats) or "none"
        raise SplitError(f"{path}: needs the columns repeat 1, repeat 2, ... Found: {found}. Draw the folds anew.")
    loaded = tuple(
        Folds(fold_of, source.folds, repeat, audit.groups, source.seed, source.origin)
        for repeat, fold_of in enumerate(numbers, start=1)
    )
    for one in loaded:
        check_folds(one, manifest, audit, split=split)
    return loaded
