"""Make a split: keep the parts that the data set ships where they serve, draw what is missing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vitrail.errors import SplitError
from vitrail.records import AuditReport, IntArray, Manifest, Part, Split
from vitrail.split.check import check_split, exclusion_of, note_of, staying_together
from vitrail.split.drawing import Inseparable, draw
from vitrail.study import SplitSettings

SHIPPED_VALIDATION_GROUPS = 10
"""A shipped validation part with fewer groups of any class is not used as it is."""
SHIPPED_VALIDATION_SHARE = 0.3
"""Nor is one with less than this share of the images that the study asks for."""


def make_split(manifest: Manifest, audit: AuditReport, *, settings: SplitSettings, seed: int) -> Split:
    """Give every file of a data set its part.

    The shipped test part stays the test part unless the settings say otherwise; its leaked, doubtful and quarantined images
    stay in it, with a note. A shipped validation part is kept when it is large enough and shares no group with the training
    part; otherwise it is pooled with the training part. What is missing is drawn by group and class.

    Args:
        manifest: The data set.
        audit: Its audit: groups (of :func:`vitrail.split.with_groups`), quarantined, leaked and doubtful files.
        settings: Shares of the drawn parts.
        seed: Same seed, same split.

    Raises:
        SplitError: A class has too few groups to be in every part.
    """
    files = manifest.files
    exclusions = [exclusion_of(file, audit) for file in files]
    keep_test = settings.use_shipped_test and manifest.has_shipped_test
    usable = [row for row, file in enumerate(files) if not exclusions[row] and not (keep_test and file.part == "test")]
    drawn = f"drawn by class and by group ({staying_together(settings)} stay together) with seed {seed}"
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
    notes = list(exclusions)
    for row, file in enumerate(files):
        if keep_test and file.part == "test" and file.readable:
            parts[row] = "test"
            notes[row] = note_of(file, audit, in_shipped_test=True)
    split = Split(tuple(parts), tuple(notes), audit.groups, seed, origin)
    check_split(split, manifest, audit)
    return split


def _refusal(rows: Sequence[int], manifest: Manifest, audit: AuditReport, settings: SplitSettings) -> str | None:
    """Judge the shipped validation part among ``rows``: ``None`` when it can be used, else why not, for the split's origin."""
    files = manifest.files
    validation = [row for row in rows if files[row].part == "validation"]
    if not validation:
        return ""
    training = [row for row in rows if files[row].part != "validation"]
    pooled = f" (the data set's own {len(validation):,} validation images are pooled with the training images: "
    if {files[row].label for row in training} != set(manifest.classes):
        return f"{pooled}without them not every class has training images)"
    shared = {audit.groups[row] for row in validation} & {audit.groups[row] for row in training}
    if shared:
        return f"{pooled}{_crossing(shared, validation, training, manifest, audit, settings)})"
    asked = settings.validation * len(rows)
    if len(validation) < SHIPPED_VALIDATION_SHARE * asked:
        return f"{pooled}too few, {asked:,.0f} are asked for)"
    for name in manifest.classes:
        independent = len({audit.groups[row] for row in validation if files[row].label == name})
        if independent < SHIPPED_VALIDATION_GROUPS:
            return f"{pooled}only {independent} of class {name} are independent, {SHIPPED_VALIDATION_GROUPS} are needed)"
    return None


def _crossing(
    shared: set[int],
    validation: Sequence[int],
    training: Sequence[int],
    manifest: Manifest,
    audit: AuditReport,
    settings: SplitSettings,
) -> str:
    """Say what the groups that stand in both parts have in common, as far as the files themselves tell."""

    def of(rows: Sequence[int], field: str) -> set[str]:
        return {getattr(manifest.files[row], field) for row in rows if audit.groups[row] in shared} - {""}

    sights = (
        ("sha256", "are copies of training images"),
        ("volume", "are slices of volumes that also train"),
        ("patient", "show patients who also train"),
    )
    seen = [words for field, words in sights if of(validation, field) & of(training, field)]
    if seen:
        return f"some {' and some '.join(seen)}"
    if settings.groups == "lookalike":
        return "some look like training images"
    return "some are near copies of training images or show patients who also train"


def group_counts(rows: Sequence[int], manifest: Manifest, audit: AuditReport) -> tuple[npt.NDArray[np.float64], IntArray]:
    """Return the number of images per group and class, shape (groups, classes), and the group of each of ``rows`` in it."""
    labels = manifest.labels[np.asarray(rows, dtype=np.int64)]
    group_of = np.unique(np.asarray(audit.groups, dtype=np.int64)[np.asarray(rows, dtype=np.int64)], return_inverse=True)[1]
    counts = np.zeros((int(group_of.max(initial=-1)) + 1, len(manifest.classes)))
    np.add.at(counts, (group_of, labels), 1)
    return counts, group_of


def draw_rows(
    rows: Sequence[int], manifest: Manifest, audit: AuditReport, *, shares: Sequence[float], what: str, rng: np.random.Generator
) -> IntArray:
    """Draw a part, 0 to ``len(shares) - 1``, for each of ``rows``, group by group.

    Args:
        rows: Positions of usable files.
        manifest: The data set.
        audit: Its audit: the groups.
        shares: Share of every class that each part shall have; they sum to 1.
        what: The parts in words, for errors.
        rng: Decides among what is equal.

    Raises:
        SplitError: A class has fewer groups than there are parts, or cannot be in all of them.
    """
    counts, group_of = group_counts(rows, manifest, audit)
    found = (counts > 0).sum(axis=0)
    few = [f"{name!r} has {number}" for name, number in zip(manifest.classes, found, strict=True) if number < len(shares)]
    if few:
        raise SplitError(
            f"Drawing {what} needs at least {len(shares)} independent usable images of every class (copies of one image and "
            f"images of one patient count as one, quarantined ones not at all): {', '.join(few)}. Add images of the class, or "
            "leave its folder out."
        )
    try:
        return draw(counts, shares, rng)[group_of]
    except Inseparable as stuck:
        raise SplitError(
            f"Class {manifest.classes[stuck.number]!r} cannot be in all of {what}: its images are in groups with "
            "images of other classes. Add images of the class, or leave its folder out."
        ) from None


def _draw(rows: Sequence[int], manifest: Manifest, audit: AuditReport, *, shares: dict[Part, float], seed: int) -> list[Part]:
    """Draw a part for each of ``rows``."""
    names = list(shares)
    what = f"{', '.join(names[:-1])} and {names[-1]}"
    drawn = draw_rows(rows, manifest, audit, shares=tuple(shares.values()), what=what, rng=np.random.default_rng(seed))
    return [names[number] for number in drawn.tolist()]
