"""What every family of nuisance properties achieves on a data set, and how bad that is; measured once for all checks."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from vitrail.audit.additive import FOLDS, Predictability, Trial, draw_trial, predictability, sample_rows
from vitrail.audit.association import adjusted
from vitrail.audit.check import AuditContext, NotApplicable
from vitrail.audit.nuisance import Family, FamilyName, nuisance_families
from vitrail.records import IntArray, Severity

IMAGES = 20_000
"""Images that are looked at, at most; of larger data sets a sample, group by group."""
ERROR_GAIN = 0.30
"""Balanced accuracy above chance from which a property that cannot be anatomy is an error."""
WARNING_GAIN = 0.10
"""The same for a warning."""
ANATOMY_WARNING_GAIN = 0.20
"""Balanced accuracy above chance from which a property that may be anatomy is a warning; from ``WARNING_GAIN`` on, it is
mentioned."""

_TARGETS = 200_000  # images times classes, so that many classes do not take minutes
_ADJUSTED = 0.05
_LOCK = threading.Lock()


@dataclass(frozen=True)
class FamilyResult:
    """What one family of properties achieves.

    Attributes:
        family: The properties.
        result: How well they predict the label.
        adjusted: The p-value, adjusted for the number of families.
    """

    family: Family
    result: Predictability
    adjusted: float


@dataclass(frozen=True)
class Shortcuts:
    """What all families achieve, on the images that were looked at.

    Attributes:
        rows: Positions of these images in the manifest: readable, one of every set of exact copies, of classes with enough
            groups, at most ``IMAGES``.
        classes: Names of their classes.
        trial: Their labels, groups and folds.
        sampled: Whether there were more.
        families: The results.
    """

    rows: IntArray
    classes: tuple[str, ...]
    trial: Trial
    sampled: bool
    families: tuple[FamilyResult, ...]

    @property
    def chance(self) -> float:
        """Balanced accuracy of guessing."""
        return 1.0 / len(self.classes)

    @property
    def majority(self) -> float:
        """Accuracy of always naming the most frequent class."""
        return float(np.bincount(self.trial.labels).max() / len(self.trial.labels))

    def named(self, name: FamilyName) -> FamilyResult | None:
        """Return the result of one family; ``None`` where all images agree in it."""
        return next((item for item in self.families if item.family.name == name), None)

    def severity(self, item: FamilyResult) -> Severity | None:
        """Judge a family by its gain over chance; ``None`` where there is nothing to tell."""
        gain = item.result.balanced_accuracy - self.chance
        if not item.result.stands_out or item.adjusted >= _ADJUSTED or gain < WARNING_GAIN:
            return None
        if item.family.suspect:
            return "error" if gain >= ERROR_GAIN else "warning"
        return "warning" if gain >= ANATOMY_WARNING_GAIN else "info"


def measure_shortcuts(context: AuditContext) -> Shortcuts:
    """Measure all families on one choice of images, folds and dealt labels; computed once for every context.

    Raises:
        NotApplicable: Fewer than two classes have enough independent images.
    """
    kept = vars(context)
    with _LOCK:  # checks run in threads, and seven of them ask for this
        if "_shortcuts" not in kept:
            kept["_shortcuts"] = _measure(context)
    found: Shortcuts = kept["_shortcuts"]
    return found


def _measure(context: AuditContext) -> Shortcuts:
    manifest = context.manifest
    first: dict[str, int] = {}
    for row in context.readable():
        first.setdefault(manifest.files[row].sha256, row)
    unique = [row for row in first.values() if manifest.files[row].path not in context.quarantined]
    rows, groups = np.array(unique, dtype=np.int64), np.array([context.groups[row] for row in unique], dtype=np.int64)
    rows = rows[sample_rows(groups, min(IMAGES, _TARGETS // max(1, len(manifest.classes))))]
    groups = np.asarray(context.groups, dtype=np.int64)[rows]
    pairs = np.unique(np.stack([manifest.labels[rows], groups]), axis=1)[0]
    enough = np.flatnonzero(np.bincount(pairs, minlength=len(manifest.classes)) >= FOLDS)
    if len(enough) < 2:
        raise NotApplicable(f"fewer than two classes have {FOLDS} independent images")
    wanted = np.isin(manifest.labels[rows], enough)
    rows, groups = rows[wanted], groups[wanted]
    trial = draw_trial(np.searchsorted(enough, manifest.labels[rows]), groups)
    families = nuisance_families(manifest, rows)
    results = predictability([family.properties for family in families], trial)
    p_values = adjusted([result.p_value for result in results])
    return Shortcuts(
        rows=rows,
        classes=tuple(manifest.classes[index] for index in enough),
        trial=trial,
        sampled=bool(len(unique) > len(wanted)),
        families=tuple(FamilyResult(*item) for item in zip(families, results, p_values, strict=True)),
    )
