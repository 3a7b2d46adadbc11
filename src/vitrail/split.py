"""SPLIT: who trains, who stops training early, who tests.

Groups (copies of one image) are drawn as wholes, class by class, from a seed. Every split, drawn or read from a file, passes
:func:`check_split` before anybody sees it.

How far a drawn part may be from what was asked: where every group has one label, a drawn part's number of images of a class
differs from its share of that class by at most the size of the class's largest group; with single images, by at most one.
Where groups mix labels (patients with several findings), the same is aimed at and every class is in every part.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import cast, get_args

import numpy as np
import numpy.typing as npt

from vitrail.errors import SplitError
from vitrail.records import AuditReport, IntArray, Manifest, Part, Split
from vitrail.storage import read_record, write_record, write_text
from vitrail.study import SplitSettings

SHIPPED_VALIDATION_GROUPS = 10
"""A shipped validation part with fewer groups of any class is not used as it is."""
SHIPPED_VALIDATION_SHARE = 0.3
"""Nor is one with less than this share of the images that the study asks for."""

_COLUMNS = ("path", "sha256", "label", "group", "part", "note")
_EXCHANGES = 200
_CANDIDATES = 200

Counts = npt.NDArray[np.float64]


# ---------------------------------------------------------------------------------------------------- make


def make_split(manifest: Manifest, audit: AuditReport, *, settings: SplitSettings, seed: int) -> Split:
    """Give every file of a data set its part.

    The shipped test part stays the test part unless the settings say otherwise; its leaked and quarantined images stay in it,
    with a note. A shipped validation part is kept when it is large enough and holds no copies of training images; otherwise
    it is pooled with the training part. What is missing is drawn by group and class.

    Args:
        manifest: The data set.
        audit: Its audit: groups, quarantined and leaked files.
        settings: Shares of the drawn parts.
        seed: Same seed, same split.

    Raises:
        SplitError: A class has too few groups to be in every part.
    """
    files = manifest.files
    notes = [_exclusion(row, manifest, audit) for row in range(len(files))]
    keep_test = settings.use_shipped_test and manifest.has_shipped_test
    usable = [row for row, file in enumerate(files) if not notes[row] and not (keep_test and file.part == "test")]
    drawn = f"drawn by group (copies stay together) and class with seed {seed}"
    validation, test = settings.validation, settings.test
    shares: dict[Part, float]
    if not keep_test:
        shares = {"train": (1 - test) * (1 - validation), "validation": (1 - test) * validation, "test": test}
        assigned = _draw(usable, manifest, audit, shares=shares, seed=seed)
        pooled = " (the data set's own parts are pooled)" if any(file.part for file in files) else ""
        origin = f"test: {100 * test:g} % of all images{pooled}; validation: {100 * validation:g} % of the others; {drawn}"
    elif (refusal := _refusal(usable, manifest, audit, settings)) is None:
        assigned = ["validation" if files[row].part == "validation" else "train" for row in usable]
        origin = "test and validation: the data set's own parts"
    else:
        shares = {"train": 1 - validation, "validation": validation}
        assigned = _draw(usable, manifest, audit, shares=shares, seed=seed)
        origin = f"test: the data set's own part; validation: {100 * validation:g} % of the other images{refusal}, {drawn}"
    parts: list[Part] = ["excluded"] * len(files)
    for row, part in zip(usable, assigned, strict=True):
        parts[row] = part
    for row, file in enumerate(files):
        if keep_test and file.part == "test" and file.readable:
            parts[row] = "test"
            notes[row] = notes[row] or ("leaked" if file.path in audit.leaked else "")
    split = Split(tuple(parts), tuple(notes), audit.groups, seed, origin)
    check_split(split, manifest, audit)
    return split


def _exclusion(row: int, manifest: Manifest, audit: AuditReport) -> str:
    """Return why a file may not train, validate or be drawn for a test; empty when it may."""
    file = manifest.files[row]
    if not file.readable:
        return "unreadable"
    return "quarantined" if file.path in audit.quarantined else ""


def _refusal(rows: Sequence[int], manifest: Manifest, audit: AuditReport, settings: SplitSettings) -> str | None:
    """Judge the shipped validation part among ``rows``: ``None`` when it can be used, else why not, for the split's origin."""
    files = manifest.files
    validation = [row for row in rows if files[row].part == "validation"]
    if not validation:
        return ""
    pooled = f" (the data set's own {len(validation):,} validation images are pooled with the training images: "
    if {files[row].label for row in rows if files[row].part != "validation"} != set(manifest.classes):
        return f"{pooled}without them not every class has training images)"
    groups = {audit.groups[row] for row in validation}
    if any(audit.groups[row] in groups for row in rows if files[row].part != "validation"):
        return f"{pooled}some are copies of training images)"
    asked = settings.validation * len(rows)
    if len(validation) < SHIPPED_VALIDATION_SHARE * asked:
        return f"{pooled}too few, {asked:,.0f} are asked for)"
    for name in manifest.classes:
        independent = len({audit.groups[row] for row in validation if files[row].label == name})
        if independent < SHIPPED_VALIDATION_GROUPS:
            return f"{pooled}only {independent} of class {name} are independent, {SHIPPED_VALIDATION_GROUPS} are needed)"
    return None


# ---------------------------------------------------------------------------------------------------- check


def check_split(split: Split, manifest: Manifest, audit: AuditReport) -> None:
    """Make sure that a split is honest.

    No group is in two parts, but for test images that the data set itself leaked and that are noted as ``leaked``; no
    unreadable or quarantined file trains or validates; no part is empty; every class is in training, in validation and in a
    test part that vitrail drew.

    Raises:
        SplitError: The first rule that is broken, with the file, group or class.
    """
    files = manifest.files
    if not len(files) == len(split.parts) == len(split.notes) == len(split.groups):
        raise SplitError(f"The split is about {len(split.parts):,} files, the data set has {len(files):,}. Draw the split anew.")
    if split.groups != audit.groups:
        raise SplitError("The split was drawn with other groups than the audit now finds. Draw the split anew.")
    rows = list(zip(files, split.parts, split.notes, strict=True))
    shipped_test = all((file.part == "test") == (part == "test") for file, part, _ in rows if part != "excluded")
    for row, (file, part, note) in enumerate(rows):
        if part not in get_args(Part):
            raise SplitError(f"{file.path}: unknown part {part!r} in the split. Known: {', '.join(get_args(Part))}.")
        exclusion = _exclusion(row, manifest, audit)
        in_shipped_test = shipped_test and part == "test" and file.readable
        if not in_shipped_test and bool(exclusion) != (part == "excluded"):
            rule = f"is {exclusion} and must be excluded" if exclusion else "is usable and must be in a part"
            raise SplitError(f"{file.path} {rule}. Found in the split: {part}. Draw the split anew.")
        expected = exclusion or ("leaked" if in_shipped_test and file.path in audit.leaked else "")
        if note != expected:
            raise SplitError(f"{file.path}: its note in the split must be {expected!r}. Found: {note!r}.")
    _check_groups(split, manifest)
    _check_classes(split, manifest, with_test=not shipped_test)


def _check_groups(split: Split, manifest: Manifest) -> None:
    """Raise when a group is in two parts, leaked test images aside."""
    home: dict[int, int] = {}
    for row, (part, note, group) in enumerate(zip(split.parts, split.notes, split.groups, strict=True)):
        if part == "excluded" or note == "leaked":
            continue
        first = home.setdefault(group, row)
        if split.parts[first] != part:
            raise SplitError(
                f"Copies of one image (group {group}) are in two parts: {manifest.files[first].path} in {split.parts[first]}, "
                f"{manifest.files[row].path} in {part}. A group belongs to one part; draw the split anew."
            )


def _check_classes(split: Split, manifest: Manifest, *, with_test: bool) -> None:
    """Raise when a part is empty, or a class is missing where it must be."""
    present: dict[str, set[str]] = {"train": set(), "validation": set(), "test": set(), "excluded": set()}
    for file, part in zip(manifest.files, split.parts, strict=True):
        present[part].add(file.label)
    for part in ("train", "validation", "test"):
        if not present[part]:
            raise SplitError(f"The {part} part is empty. Check the folders of the data set, or change `split:` in the study.")
        missing = sorted(set(manifest.classes) - present[part])
        if missing and (with_test or part != "test"):
            raise SplitError(
                f"The {part} part has no usable image of class {missing[0]!r}; every class must be in it. "
                "Add images of the class, or leave its folder out."
            )


# ---------------------------------------------------------------------------------------------------- save and load


@dataclass(frozen=True)
class _Source:
    """What a split's table cannot hold; it stands beside it."""

    seed: int
    origin: str


def save_split(path: Path, split: Split, manifest: Manifest) -> None:
    """Write a split as a table (CSV: path, sha256, label, group, part, note), and its seed and origin as ``.origin.json``."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for file, group, part, note in zip(manifest.files, split.groups, split.parts, split.notes, strict=True):
        writer.writerow((file.path, file.sha256, file.label, group, part, note))
    write_record(path.with_suffix(".origin.json"), _Source(split.seed, split.origin))
    write_text(path, table.getvalue())


def load_split(path: Path, manifest: Manifest, audit: AuditReport) -> Split:
    """Read a split that :func:`save_split` wrote, or that a person made in the same form, and check it.

    The groups are the audit's, not the file's: what belongs together is not a matter of the table. Without an ``.origin.json``
    beside it the split counts as given, not drawn, and its seed is 0.

    Raises:
        SplitError: The file is missing or no such table, is about other files, or the split is not honest.
    """
    rows = _read_table(path)
    known = {file.path: file for file in manifest.files}
    changed = [name for name in known if name in rows and rows[name][1:3] != [known[name].sha256, known[name].label]]
    for what, paths in (
        ("are not in it", sorted(known.keys() - rows.keys())),
        ("are in it and no longer in the data set", sorted(rows.keys() - known.keys())),
        ("have other bytes or another label now", changed),
    ):
        if paths:
            raise SplitError(
                f"{path}: the split is about another state of the data set: {len(paths):,} files {what}, first {paths[0]}. "
                "Restore the files, or remove the split so that it is drawn anew."
            )
    beside = path.with_suffix(".origin.json")
    try:
        source = read_record(beside, _Source)
    except FileNotFoundError:
        source = _Source(0, f"as given in {path.name}, not drawn by vitrail")
    except (OSError, ValueError) as error:
        raise SplitError(f"{beside}: the origin of the split cannot be read. Remove it, or draw the split anew.") from error
    in_order = [rows[file.path] for file in manifest.files]
    split = Split(
        parts=tuple(cast(Part, row[4]) for row in in_order),
        notes=tuple(row[5] for row in in_order),
        groups=audit.groups,
        seed=source.seed,
        origin=source.origin,
    )
    check_split(split, manifest, audit)
    return split


def _read_table(path: Path) -> dict[str, list[str]]:
    """Return the lines of a split's table by path."""
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            header, *lines = list(csv.reader(stream)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SplitError(f"{path}: the split cannot be read ({error}). Remove it so that it is drawn anew.") from error
    if tuple(header) != _COLUMNS or any(len(line) != len(_COLUMNS) for line in lines):
        raise SplitError(f"{path}: a split is a table with the columns {', '.join(_COLUMNS)}. Found: {', '.join(header)}.")
    rows = {line[0]: line for line in lines}
    if len(rows) != len(lines):
        raise SplitError(f"{path}: {len(lines) - len(rows):,} lines repeat a file of another line. Keep one line per file.")
    return rows


# ---------------------------------------------------------------------------------------------------- draw


def _draw(rows: Sequence[int], manifest: Manifest, audit: AuditReport, *, shares: dict[Part, float], seed: int) -> list[Part]:
    """Draw a part for each of ``rows``, group by group.

    Raises:
        SplitError: A class has fewer groups than there are parts, or cannot be in all of them.
    """
    index = {name: number for number, name in enumerate(manifest.classes)}
    labels = np.array([index[manifest.files[row].label] for row in rows], dtype=np.int64)
    group_of = np.unique(np.array([audit.groups[row] for row in rows], dtype=np.int64), return_inverse=True)[1]
    counts = np.zeros((int(group_of.max(initial=-1)) + 1, len(index)))
    np.add.at(counts, (group_of, labels), 1)
    found = (counts > 0).sum(axis=0)
    few = [f"{name!r} has {number}" for name, number in zip(manifest.classes, found, strict=True) if number < len(shares)]
    if few:
        raise SplitError(
            f"Drawing {' and '.join(shares)} needs at least {len(shares)} independent usable images of every class (copies count "
            f"as one, quarantined ones not at all): {', '.join(few)}. Add images of the class, or leave its folder out."
        )
    drawing = Drawing(counts, tuple(shares.values()), np.random.default_rng(seed))
    stuck = drawing.complete()
    if stuck is not None:
        raise SplitError(
            f"Class {manifest.classes[stuck]!r} cannot be in all of {', '.join(shares)}: its images are in groups with "
            "images of other classes. Add images of the class, or leave its folder out."
        )
    drawing.improve()
    names = list(shares)
    return [names[number] for number in drawing.part_of[group_of]]


class Drawing:
    """Groups on their way into parts. Groups that count the same images of every class are of one *kind* and exchangeable.

    Deviation is measured as the sum over parts and classes of (images missing) squared, divided by the images of the class.
    """

    def __init__(self, counts: Counts, shares: Sequence[float], rng: np.random.Generator) -> None:
        self._rng = rng
        self._kinds, self._kind_of = np.unique(counts, axis=0, return_inverse=True)
        self._weights = 1 / counts.sum(axis=0)
        self._targets = np.outer(shares, counts.sum(axis=0))
        self._missing = self._targets.copy()
        self.part_of: IntArray = self._deal(counts)
        self._stock = np.zeros((len(shares), len(self._kinds)), dtype=np.int64)
        np.add.at(self._stock, (self.part_of, self._kind_of), 1)

    def _deal(self, counts: Counts) -> IntArray:
        """Deal the groups out, large ones first, in random order among equals.

        A group goes, among the parts that it brings nearer to their targets, to the one that lacks the largest share of what
        it holds: so large groups spread over the parts in proportion. Where it fits nowhere, it goes where it does least harm.
        """
        order = self._rng.permutation(len(counts))
        order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
        part_of = np.empty(len(counts), dtype=np.int64)
        for group in order:
            held = counts[group]
            fit = (self._missing - held / 2) @ (held * self._weights)
            lack = (self._missing / self._targets) @ held
            part = int(np.where(fit >= 0, lack, -np.inf).argmax()) if fit.max() >= 0 else int(fit.argmax())
            part_of[group] = part
            self._missing[part] -= held
        return part_of

    def complete(self) -> int | None:
        """Move groups so that every class is in every part; return a class for which no move does it, or ``None``."""
        for part, number in np.argwhere(self._present() == 0).tolist():
            if self._present()[part, number] > 0:
                continue  # an earlier move brought it along
            change, giver, kind = min(self._best_gift(giver, part, number) for giver in range(len(self._stock)))
            if change == np.inf:
                return int(number)
            self._move(kind, giver=giver, taker=part)
        return None

    def _best_gift(self, giver: int, taker: int, number: int) -> tuple[float, int, int]:
        """Return the change in deviation, the giver, and the kind to give so that the taker gets class ``number``."""
        change = np.where(self._leaves_all(giver, self._kinds), self._change(giver, taker, self._kinds), np.inf)
        change[(self._stock[giver] == 0) | (self._kinds[:, number] == 0)] = np.inf
        kind = int(change.argmin())
        return float(change[kind]), giver, kind

    def improve(self) -> None:
        """Exchange single groups between parts (or move one) while that lowers the deviation; every class stays in every part."""
        for _ in range(_EXCHANGES):
            pairs = combinations(range(len(self._stock)), 2)
            change, one, other, given, taken = min((self._best_exchange(one, other) for one, other in pairs))
            if change > -1e-9:
                return
            if given >= 0:
                self._move(given, giver=one, taker=other)
            if taken >= 0:
                self._move(taken, giver=other, taker=one)

    def _best_exchange(self, one: int, other: int) -> tuple[float, int, int, int, int]:
        """Return the change in deviation, the two parts, and the kinds that change places (-1: nothing in return)."""
        given, taken = self._candidates(one), self._candidates(other)
        padded = np.vstack([self._kinds, np.zeros(self._kinds.shape[1])])  # so that kind -1 is "no group"
        net = padded[given][:, None, :] - padded[taken][None, :, :]
        change = np.where(self._leaves_all(one, net) & self._leaves_all(other, -net), self._change(one, other, net), np.inf)
        row, column = np.unravel_index(change.argmin(), change.shape)
        return float(change[row, column]), one, other, int(given[row]), int(taken[column])

    def _candidates(self, part: int) -> IntArray:
        """Return kinds of which a part has a group, a random choice when there are very many, and -1 for "no group"."""
        kinds = np.flatnonzero(self._stock[part])
        if len(kinds) > _CANDIDATES:
            kinds = self._rng.choice(kinds, _CANDIDATES, replace=False)
        return np.append(kinds, -1)

    def _present(self) -> Counts:
        """Return the number of images per part and class."""
        return np.asarray(np.rint(self._targets - self._missing))

    def _leaves_all(self, part: int, net: Counts) -> npt.NDArray[np.bool_]:
        """Return whether a part that gives ``net`` keeps at least one image of every class that it has."""
        present = self._present()[part]
        return np.asarray(np.all((present - net >= 1) | (net == 0), axis=-1))

    def _change(self, giver: int, taker: int, net: Counts) -> Counts:
        """Return the change in deviation when ``net`` images per class (last axis) go from one part to another."""
        gap = self._missing[giver] - self._missing[taker]
        return np.asarray(2 * ((net**2 + net * gap) * self._weights).sum(axis=-1))

    def _move(self, kind: int, *, giver: int, taker: int) -> None:
        """Move one group of a kind, chosen at random."""
        group = self._rng.choice(np.flatnonzero((self.part_of == giver) & (self._kind_of == kind)))
        self.part_of[group] = taker
        self._stock[giver, kind] -= 1
        self._stock[taker, kind] += 1
        self._missing[giver] += self._kinds[kind]
        self._missing[taker] -= self._kinds[kind]
