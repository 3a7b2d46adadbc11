"""Too few images, of a class or in a part, for what is asked of them."""

from __future__ import annotations

import math
from collections import Counter

from vitrail.audit.check import AuditContext, NotApplicable, finding, number_of
from vitrail.records import Evidence, Finding

CLASS_RATIO = 10
"""Largest class to smallest class, in readable images, above which BAL801 warns."""
TEST_GROUPS_PER_CLASS = 30
"""Independent test images of a class below which BAL802 warns."""
VALIDATION_GROUPS_PER_CLASS = 10
"""Independent validation images of a class below which SPL852 warns."""
VALIDATION_HALF_WIDTH = 0.05
"""Half-width of the interval of an accuracy of 0.9 above which SPL852 warns (fewer than 141 independent images)."""


def wilson_half_width(share: float, n: int) -> float:
    """Return half the width of the 95 % score interval of a proportion (Wilson 1927).

    Args:
        share: The proportion that is observed, 0..1.
        n: Number of independent observations, at least 1.
    """
    z = 1.959963984540054
    return z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))


class ClassImbalance:
    """BAL801: a class that another outnumbers ten to one."""

    code = "BAL801"
    title = "Classes of very different size"
    why = "A model that never names the rare class looks accurate, and the rare class is often the one that matters."

    def run(self, context: AuditContext) -> Finding | None:
        """Compare the readable images of the classes. ``count``: classes more than ten times smaller than the largest."""
        files = context.manifest.files
        found = Counter(files[row].label for row in context.readable())
        sizes = {name: found[name] for name in context.manifest.classes}
        if len(sizes) < 2:
            raise NotApplicable("the data set has fewer than two classes")
        largest = max(sizes, key=lambda name: sizes[name])
        rare = sorted((name for name in sizes if sizes[name] * CLASS_RATIO < sizes[largest]), key=lambda name: sizes[name])
        if not rare:
            return None
        smallest = sizes[rare[0]]
        ratio = f"{sizes[largest] / smallest:.1f} to 1" if smallest else f"{sizes[largest]:,} to none"
        return finding(
            self,
            severity="warning",
            count=len(rare),
            message=f"{largest} has {number_of(sizes[largest], 'readable image')}, {rare[0]} has {smallest:,}: {ratio}.",
            fix="Collect more images of the rare classes; until then read balanced accuracy and the figures per class.",
            consequence="Splits are drawn class by class, and balanced accuracy stands beside accuracy; the settings "
            "`balance_classes` say which models weight the classes equally.",
            evidence=[Evidence((), f"{name}: {number_of(sizes[name], 'readable image')}") for name in rare],
        )


class SmallTestClass:
    """BAL802: a class with few independent images in the shipped test part."""

    code = "BAL802"
    title = "A class with few test images"
    why = "On so few images the sensitivity for the class cannot be told apart from a much better or much worse one."

    def run(self, context: AuditContext) -> Finding | None:
        """Count the groups of every class in the shipped test part. ``count``: classes with fewer than 30."""
        test = context.shipped("test")
        groups = context.groups_per_class(test)
        few = sorted((name for name in groups if groups[name] < TEST_GROUPS_PER_CLASS), key=lambda name: groups[name])
        if not few:
            return None
        notes = [f"{name} {groups[name]}{_interval(groups[name])}" for name in few]
        return finding(
            self,
            severity="warning",
            count=len(few),
            message=f"{number_of(len(few), 'class')} with fewer than {TEST_GROUPS_PER_CLASS} independent test images: "
            f"{', '.join(notes)}.",
            fix="Add test images of the listed classes, or set `use_shipped_test: false` under `split:` in the study to draw "
            "a larger test set from all images.",
            consequence="The class is scored with its interval, and the interval is wide.",
            evidence=[Evidence((), note) for note in notes],
        )


class SmallValidationPart:
    """SPL852: a shipped validation part that is too small to choose models with."""

    code = "SPL852"
    title = "Shipped validation part too small"
    why = "Training is stopped and models are chosen on these images; on a handful of them, chance chooses."

    def run(self, context: AuditContext) -> Finding | None:
        """Judge the shipped validation part by its interval and its rarest class. ``count``: its readable images."""
        rows = context.shipped("validation")
        per_class = context.groups_per_class(rows)
        independent = len({context.groups[row] for row in rows})
        half_width = wilson_half_width(0.9, independent)
        rarest = min(per_class, key=lambda name: per_class[name])
        if half_width <= VALIDATION_HALF_WIDTH and per_class[rarest] >= VALIDATION_GROUPS_PER_CLASS:
            return None
        files = context.manifest.files
        return finding(
            self,
            severity="warning",
            count=len(rows),
            message=f"The shipped validation part has {number_of(len(rows), 'readable image')}, {independent:,} independent "
            f"(rarest class, {rarest}: {per_class[rarest]:,}): an accuracy of 90 % measured on it would be uncertain by "
            f"± {100 * half_width:.0f} points (95 % interval).",
            fix="Nothing needs to be done: see what vitrail does. To keep a part of your own, move more images into it.",
            consequence="Where it is too small to stop training on, it is pooled with the training part and validation is "
            "drawn anew, by group and class; the split says so.",
            evidence=[Evidence(tuple(files[row].path for row in rows), f"all {number_of(len(rows), 'image')} of the part")],
        )


def _interval(groups: int) -> str:
    """Return the half-width that a sensitivity of 0.9 would have, in words; empty when there is nothing to measure."""
    return f" (± {100 * wilson_half_width(0.9, groups):.0f} points at a sensitivity of 90 %)" if groups else ""
