"""What makes a split honest, and the proof that one is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

from vitrail.errors import SplitError
from vitrail.records import AuditReport, ImageFile, Manifest, Part, Split
from vitrail.settings import SplitSettings

TOGETHER = "copies, slices of one volume or images of one patient"
"""What a group is, in words."""


def staying_together(settings: SplitSettings) -> str:
    """Return what a split keeps on one side, in words for its origin."""
    alike = ", and of a class images that look alike," if settings.groups == "lookalike" else ""
    return f"copies, slices of a volume and images of a patient{alike}"


def exclusion_of(file: ImageFile, audit: AuditReport) -> str:
    """Return why a file may not train, validate or be drawn for a test; empty when it may."""
    if file.status == "excluded":
        return "left out"
    if not file.readable:
        return "unreadable"
    return "quarantined" if file.path in audit.quarantined else ""


def note_of(file: ImageFile, audit: AuditReport, *, in_shipped_test: bool) -> str:
    """Return the note that a file must have in a split.

    Args:
        file: The file.
        audit: The audit of its data set.
        in_shipped_test: Whether the file is in the test part of the split, and that part is the data set's own.
    """
    exclusion = exclusion_of(file, audit)
    if exclusion or not in_shipped_test:
        return exclusion
    return "leaked" if file.path in audit.leaked else "doubtful" if file.path in audit.doubtful else ""


def tests_on_shipped(files: Iterable[ImageFile], parts: Iterable[str]) -> bool:
    """Return whether the test part of a split is the data set's own test part, excluded files aside."""
    return all((file.part == "test") == (part == "test") for file, part in zip(files, parts, strict=True) if part != "excluded")


def check_split(split: Split, manifest: Manifest, audit: AuditReport) -> None:
    """Make sure that a split is honest.

    No group is in two parts, but for images of the data set's own test part that the audit knows to leak, to leak perhaps, or
    to be quarantined, and that are noted so; no unreadable or quarantined file trains or validates; no part is empty; every
    class is in training, in validation and in a test part that vitrail drew.

    Raises:
        SplitError: The first rule that is broken, with the file, group or class.
    """
    files = manifest.files
    if not len(files) == len(split.parts) == len(split.notes) == len(split.groups):
        raise SplitError(f"The split is about {len(split.parts):,} files, the data set has {len(files):,}. Draw the split anew.")
    if split.groups != audit.groups:
        raise SplitError("The split was drawn with other groups than the audit now finds. Draw the split anew.")
    shipped_test = tests_on_shipped(files, split.parts)
    known = get_args(Part)
    for file, part, note in zip(files, split.parts, split.notes, strict=True):
        if part not in known:
            raise SplitError(f"{file.path}: unknown part {part!r} in the split. Known: {', '.join(known)}.")
        exclusion = exclusion_of(file, audit)
        in_shipped_test = shipped_test and part == "test" and file.readable
        if not in_shipped_test and bool(exclusion) != (part == "excluded"):
            rule = f"is {exclusion} and must be excluded" if exclusion else "is usable and must be in a part"
            raise SplitError(f"{file.path} {rule}. Found in the split: {part}. Draw the split anew.")
        expected = note_of(file, audit, in_shipped_test=in_shipped_test)
        if note != expected:
            raise SplitError(f"{file.path}: its note in the split must be {expected!r}. Found: {note!r}.")
    _check_groups(split, manifest)
    _check_classes(split, manifest, with_test=not shipped_test)


def _check_groups(split: Split, manifest: Manifest) -> None:
    """Raise when a group is in two parts; excluded files and images of the shipped test part with a note aside."""
    home: dict[int, int] = {}
    for row, (part, note, group) in enumerate(zip(split.parts, split.notes, split.groups, strict=True)):
        if part == "excluded" or note:
            continue
        first = home.setdefault(group, row)
        if split.parts[first] != part:
            raise SplitError(
                f"Images that belong together ({TOGETHER}; group {group}) are in two parts: {manifest.files[first].path} in "
                f"{split.parts[first]}, {manifest.files[row].path} in {part}. A group belongs to one part: put it there, or draw "
                "the split anew."
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
