"""The fingerprint of a data set and of the machine: what the rules of a plan look at. No image is opened here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail.engine import available_cores, machine_memory
from vitrail.model_settings import LOCAL_WEIGHTS
from vitrail.records import AuditReport, Manifest, Split
from vitrail.split.check import exclusion_of
from vitrail.study import Study

COLOURED = 0.01
"""An image whose share of coloured pixels is above this is a colour image."""

MODALITIES: dict[str, str] = {
    "microscopy": r"histolog\w*|histopatholog\w*|patholog\w*|microscop\w*|cytolog\w*|blood ?cells?|h&e|wsi",
    "dermoscopy": r"dermoscop\w*|dermatoscop\w*|dermoscopic|isic|ham10000|skin lesions?",
    "fundus": r"fundus|retina\w*|retinopath\w*",
    "ultrasound": r"ultrasound|sonograph\w*|echocardiogra\w*|busi",
    "X-ray": r"x ?rays?|radiograph\w*|cxr|mammogra\w*|chest ?xray\d*",
    "MR": r"mri?|flair|t[12]w?",
    "CT": r"ct|tomograph\w*",
}
"""Kind of image -> words that hint at it, in the folder's name, the class names or the headers. Only a hint."""


SHORTCUTS = "SHC"
"""Codes of findings about shortcuts begin with this."""
FILE_SHORTCUT = "SHC501"
"""The one about the length and the sides of files."""


@dataclass(frozen=True)
class Hardware:
    """The machine.

    Attributes:
        cores: Processor cores that this process may use.
        memory: Bytes of main memory that it may use; 0: unknown.
    """

    cores: int
    memory: int


@dataclass(frozen=True)
class Facts:
    """What the rules look at.

    Attributes:
        images: Usable images per class, the shipped test part left out where it stays the test part.
        groups: Groups (copies, volumes, patients) per class among them.
        training: Training images per class.
        training_groups: Groups of the training images per class.
        validation: Number of validation images.
        test: Number of test images.
        split: Where the parts come from, in words.
        shipped: Images per part that the data set ships.
        side: Median of the shorter sides in pixels.
        coloured: Share of images that show colour.
        modality: Kind of image that names or headers hint at; empty: none.
        hint: The word that hinted, and where it stood.
        formats: Images per file format.
        hardware: The machine.
        backbone: Name of the backbone that the user gave; empty: none.
        shortcuts: :func:`shortcuts_of`.
    """

    images: dict[str, int]
    groups: dict[str, int]
    training: dict[str, int]
    training_groups: dict[str, int]
    validation: int
    test: int
    split: str
    shipped: dict[str, int]
    side: int
    coloured: float
    modality: str
    hint: str
    formats: dict[str, int]
    hardware: Hardware
    backbone: str = ""
    shortcuts: tuple[str, ...] = ()

    @property
    def fewest_groups(self) -> int:
        """Groups of the class that has the fewest for training."""
        return min(self.training_groups.values())

    @property
    def training_images(self) -> int:
        """Number of training images."""
        return sum(self.training.values())

    @property
    def imbalance(self) -> float:
        """Training images of the largest class per image of the smallest."""
        return max(self.training.values()) / max(1, min(self.training.values()))


def drawn_groups(manifest: Manifest, report: AuditReport, study: Study) -> tuple[dict[str, int], dict[str, int]]:
    """Return images and groups per class of what trains and validates (and tests, where the test part is drawn)."""
    shipped = study.split.use_shipped_test and manifest.has_shipped_test
    rows = [
        row for row, file in enumerate(manifest.files) if not exclusion_of(file, report) and not (shipped and file.part == "test")
    ]
    return _per_class(manifest, rows), _groups_per_class(manifest, report.groups, rows)


def facts_of(manifest: Manifest, report: AuditReport, split: Split, study: Study, *, backbone: str = "") -> Facts:
    """Read the fingerprint.

    Args:
        manifest: The data set.
        report: Its audit.
        split: Who trains, who validates, who tests.
        study: Which parts it keeps.
        backbone: That the user gave; empty: none.
    """
    images, groups = drawn_groups(manifest, report, study)
    readable = [row for row, file in enumerate(manifest.files) if file.readable]
    files = [manifest.files[row] for row in readable]
    training = [int(row) for row in split.rows("train")]
    colour = np.nan_to_num(manifest.facts["colour"][readable])
    modality, hint = modality_of(manifest.root, manifest.classes, [file.source for file in files])
    return Facts(
        images=images,
        groups=groups,
        training=_per_class(manifest, training),
        training_groups=_groups_per_class(manifest, split.groups, training),
        validation=len(split.rows("validation")),
        test=len(split.rows("test")),
        split=split.origin,
        shipped=dict(sorted(Counter(file.part for file in files if file.part).items())),
        side=int(np.median([min(file.width, file.height) for file in files])),
        coloured=round(float((colour > COLOURED).mean()), 3),
        modality=modality,
        hint=hint,
        formats=dict(Counter(file.format for file in files).most_common()),
        hardware=this_machine(),
        backbone=Path(backbone.removeprefix(LOCAL_WEIGHTS)).name,
        shortcuts=shortcuts_of(manifest, report),
    )


def shortcuts_of(manifest: Manifest, report: AuditReport) -> tuple[str, ...]:
    """Return the codes of the audit's findings that something beside the organ gives the label away, in order.

    Remarks and accepted findings do not count; nor does the length of the files where all images have the same sides: it says
    nothing of the pixels that augmentation could change.
    """
    sides = {(file.width, file.height) for file in manifest.files if file.readable}
    codes = {
        finding.code
        for finding in report.findings
        if finding.code.startswith(SHORTCUTS) and finding.severity != "info" and not finding.accepted
    }
    return tuple(sorted(codes - ({FILE_SHORTCUT} if len(sides) == 1 else set())))


def modality_of(root: Path, classes: Sequence[str], sources: Sequence[str]) -> tuple[str, str]:
    """Return the kind of image that names or headers hint at, and the hint; two empty texts where nothing does.

    The folder's own name counts first, then the classes, then the most frequent header.
    """
    headers = Counter(source for source in sources if source).most_common(1)
    places = [("the folder's name", root.name), *(("a class name", name) for name in classes)]
    places += [("the headers", text) for text, _ in headers]
    for place, text in places:
        words = re.sub(r"[^a-z0-9&]+", " ", text.lower())
        for modality, pattern in MODALITIES.items():
            found = re.search(rf"(?<![a-z0-9])(?:{pattern})(?![a-z0-9])", words)
            if found:
                return modality, f"{found.group()!r} in {place}"
    return "", ""


def this_machine() -> Hardware:
    """Return what this process may use."""
    return Hardware(available_cores(), machine_memory())


def _per_class(manifest: Manifest, rows: Sequence[int]) -> dict[str, int]:
    found = Counter(manifest.files[row].label for row in rows)
    return {name: found[name] for name in manifest.classes}


def _groups_per_class(manifest: Manifest, groups: Sequence[int], rows: Sequence[int]) -> dict[str, int]:
    found = Counter(label for label, _ in {(manifest.files[row].label, groups[row]) for row in rows})
    return {name: found[name] for name in manifest.classes}
