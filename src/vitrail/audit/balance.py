"""Too few images, of a class or in a part, for what is asked of them."""

from __future__ import annotations

import math
from collections import Counter
from itertools import count

from vitrail.audit.check import AuditContext, NotApplicable, finding, number_of
from vitrail.records import Evidence, Finding, Severity
from vitrail.settings import SplitSettings

CLASS_RATIO = 10
"""Largest class to smallest class, in readable images, above which BAL801 warns."""
MENTIONED_RATIO = 2
"""The same from which BAL801 mentions it, for information."""
TEST_GROUPS_PER_CLASS = 30
"""Independent test images of a class below which BAL802 warns."""
VALIDATION_GROUPS_PER_CLASS = 10
"""Independent validation images of a class below which SPL852 warns."""
VALIDATION_HALF_WIDTH = 0.05
"""Half-width of the interval of an accuracy of 0.9 above which SPL852 warns (fewer than 141 independent images)."""
TARGET_SENSITIVITY = 0.9
"""The sensitivity at which BAL803 judges how wide an interval will be."""
TARGET_HALF_WIDTH = 0.05
"""Half-width of that interval above which BAL803 speaks."""
TARGET_IMAGES = 141
"""So many independent images of a class make the interval that narrow."""
PROVEN_SENSITIVITY = 0.95
"""The sensitivity of which BAL803 says whether it can be shown at all."""
CONFIDENCE = 0.95
"""How sure such a proof is."""


def wilson_half_width(share: float, n: int) -> float:
    """Return half the width of the 95 % score interval of a proportion (Wilson 1927).

    Args:
        share: The proportion that is observed, 0..1.
        n: Number of independent observations, at least 1.
    """
    z = 1.959963984540054
    return z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))


def proven_sensitivity(positives: int, misses: int, *, confidence: float = CONFIDENCE) -> float:
    """Return the sensitivity that a test shows at least: the exact one-sided lower bound (Clopper and Pearson 1934).

    Args:
        positives: Number of independent test images of the class, at least 1.
        misses: How many of them the model missed, 0 to ``positives``.
        confidence: How sure the statement shall be.
    """
    from scipy.special import betaincinv

    return float(betaincinv(positives - misses, misses + 1, 1 - confidence)) if misses < positives else 0.0


def misses_allowed(positives: int, *, sensitivity: float = PROVEN_SENSITIVITY, confidence: float = CONFIDENCE) -> int:
    """Return how many of ``positives`` a model may miss and still be shown to have at least ``sensitivity``; -1: not even none.

    A sensitivity is shown when so few misses would be improbable with any smaller one: P(misses or fewer) <= 1 - confidence,
    the same as the bound of :func:`proven_sensitivity`.
    """
    from scipy.special import bdtr

    allowed = -1
    while allowed + 1 <= positives and bdtr(allowed + 1, positives, 1 - sensitivity) <= 1 - confidence:
        allowed += 1
    return allowed


def positives_needed(misses: int, *, sensitivity: float = PROVEN_SENSITIVITY, confidence: float = CONFIDENCE) -> int:
    """Return how many independent test images of a class show ``sensitivity`` when the model misses ``misses`` of them."""
    from scipy.special import bdtr

    return next(n for n in count(misses + 1) if bdtr(misses, n, 1 - sensitivity) <= 1 - confidence)


class ClassImbalance:
    """BAL801: a class that another outnumbers ten to one."""

    code = "BAL801"
    title = "Classes of very different size"
    why = "A model that never names the rare class looks accurate, and the rare class is often the one that matters."
    explanation = (
        "Classes are imbalanced when some have many more images than others. A model that is asked to be right as often "
        'as possible then learns to prefer the large class: where 95 of 100 images are healthy, the answer "healthy" to '
        "everything is 95 % accurate and finds no patient.\n\n"
        "This check compares the numbers of readable images of the classes and warns when the largest has more than ten "
        "times as many as another; from twice as many on it mentions it. Imbalance is no fault of the data: in the clinic "
        "most diseases are rare. It asks for "
        "other figures (sensitivity for each class, balanced accuracy, which is their mean), for training that weighs the "
        "classes, and for enough images of the rare class in the test part; copying the images of the rare class helps "
        "nobody."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Compare the readable images of the classes. ``count``: classes ten times (or else twice) smaller than the largest."""
        files = context.manifest.files
        found = Counter(files[row].label for row in context.readable())
        sizes = {name: found[name] for name in context.manifest.classes}
        if len(sizes) < 2:
            raise NotApplicable("the data set has fewer than two classes")
        largest = max(sizes, key=lambda name: sizes[name])
        ordered = sorted(sizes, key=lambda name: sizes[name])
        rare = [name for name in ordered if sizes[name] * CLASS_RATIO < sizes[largest]]
        severity: Severity = "warning" if rare else "info"
        rare = rare or [name for name in ordered if sizes[name] * MENTIONED_RATIO < sizes[largest]]
        if not rare:
            return None
        smallest = sizes[rare[0]]
        ratio = f"{sizes[largest] / smallest:.1f} to 1" if smallest else f"{sizes[largest]:,} to none"
        return finding(
            self,
            severity=severity,
            count=len(rare),
            message=f"{largest} has {number_of(sizes[largest], 'readable image')}, {rare[0]} has {smallest:,}: {ratio}.",
            fix="Collect more images of the rare classes; until then read balanced accuracy and the figures per class.",
            consequence="Splits are drawn class by class, and balanced accuracy stands beside accuracy; the setting "
            "`training.imbalance` says what each model does about it.",
            evidence=[Evidence((), f"{name}: {number_of(sizes[name], 'readable image')}") for name in rare],
        )


class SmallTestClass:
    """BAL802: a class with few independent images in the shipped test part."""

    code = "BAL802"
    title = "A class with few test images"
    why = "On so few images the sensitivity for the class cannot be told apart from a much better or much worse one."
    explanation = (
        "The sensitivity for a class is the share of its images that the model recognises. Measured on ten images, 9 "
        "right answers mean a sensitivity anywhere between 60 % and 98 %: nothing can be said about the class.\n\n"
        "This check counts the independent images of every class in the shipped test part: copies and images of one "
        "patient count once, and images that also stand in training, or whose copies carry different labels, do not "
        "count. Fewer than 30 are too few for any statement about the class. BAL803 tells how narrow the intervals will "
        "be where there are more. More test images are the only remedy; where there are none, report the class as not "
        "evaluated."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Count the clean groups of every class in the shipped test part. ``count``: classes with fewer than 30."""
        groups = context.groups_per_class(_clean_test(context))
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


class SampleSize:
    """BAL803: how narrow the intervals will be, and what the test can show at all."""

    code = "BAL803"
    title = "Wide intervals from few test images"
    why = "However good the model is, the number of test images sets how sure anybody can be of it."
    explanation = (
        "Every score is measured on a sample. The 95 % interval says how far the true value may be from the measured one: "
        'with 100 test images of a class, a sensitivity of 90 % means "between 83 % and 94 %". Before anything is '
        "trained, the number of images already tells how wide the interval will be. Narrower than 5 points to either side "
        "takes 141 independent images of the class (score interval by Wilson at a sensitivity of 90 %).\n\n"
        "A safety claim asks for more: that the sensitivity is at least 95 %, and that this is 95 % sure. The exact bound "
        "by Clopper and Pearson gives the answer: 59 images of the class and no miss, 93 and one miss, 124 and two. With "
        "fewer than 59, no result can show it, not even a perfect one.\n\n"
        "The check counts independent images in the test part that the data set ships: copies and images of one patient "
        "count once; images that leak from training or carry two labels do not count. Where no test part is shipped it "
        "reckons with the usual share. It assumes that the test images are like the patients to come. It is a matter of "
        "planning, not a fault: collect more test images where the claim needs them, or claim less."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Judge the number of independent test images of every class. ``count``: classes with fewer than 141."""
        try:
            groups, drawn = context.groups_per_class(_clean_test(context)), False
        except NotApplicable:
            usable = [row for row in context.readable() if context.manifest.files[row].path not in context.quarantined]
            if not usable:
                raise NotApplicable("the data set has no readable image") from None
            share = _usual_test_share()
            groups, drawn = {name: round(share * n) for name, n in context.groups_per_class(usable).items()}, True
        few = sorted((name for name in groups if groups[name] < TARGET_IMAGES), key=lambda name: groups[name])
        if not few:
            return None
        fewest, most, about = groups[few[0]], groups[few[-1]], "about " if drawn else ""
        where = f"a test part of the usual {100 * _usual_test_share():g} %" if drawn else "the shipped test part"
        numbers = f"{about}{fewest:,}{f' to {most:,}' if most > fewest else ''} independent images"
        beyond_proof = not drawn and fewest < positives_needed(0)
        return finding(
            self,
            severity="warning" if beyond_proof else "info",
            count=len(few),
            message=f"In {where}, {len(few):,} of {number_of(len(groups), 'class')} "
            f"{'has' if len(few) == 1 else 'have'} {numbers}, fewer than the "
            f"{TARGET_IMAGES} that keep a sensitivity of {100 * TARGET_SENSITIVITY:g} % within "
            f"± {100 * TARGET_HALF_WIDTH:g} points; for {few[0]}, {_provable(fewest)}.",
            fix="Collect more test images of the listed classes, or claim no more than the intervals allow.",
            consequence="Every score is shown with its interval and the number of independent images behind it.",
            evidence=[Evidence((), f"{name}: {about}{_prospect(groups[name])}") for name in few],
        )


class SmallValidationPart:
    """SPL852: a shipped validation part that is too small to choose models with."""

    code = "SPL852"
    title = "Shipped validation part too small"
    why = "Training is stopped and models are chosen on these images; on a handful of them, chance chooses."
    explanation = (
        "The validation part is held back from training and asked again and again while a model learns: when to stop, "
        "which settings are best, which model wins. When it holds only a handful of images, two models that differ by one "
        "lucky answer look different, and the choice is a draw of lots.\n\n"
        "This check computes how uncertain an accuracy of 90 % measured on the shipped validation part would be (95 % "
        "score interval by Wilson, counting copies and images of one patient once) and speaks when that is more than 5 "
        "points, or when a class has fewer than 10 independent images there. A well-known collection of chest X-rays "
        "ships 16 validation images. People pool such a part with the training images and draw a larger one, which is "
        "what vitrail does where it must."
    )

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


def _clean_test(context: AuditContext) -> list[int]:
    """Return the positions of the readable images of the shipped test part that count for the clean score.

    Raises:
        NotApplicable: There is no such part, or the study draws its own.
    """
    apart = context.leaked | context.quarantined
    return [row for row in context.shipped("test") if context.manifest.files[row].path not in apart]


def _usual_test_share() -> float:
    """Return the share of the images that a study holds out for the test unless it says otherwise."""
    return float(SplitSettings().test)


def _interval(groups: int) -> str:
    """Return the half-width that a sensitivity of 0.9 would have, in words; empty when there is nothing to measure."""
    return f" (± {100 * wilson_half_width(TARGET_SENSITIVITY, groups):.0f} points at a sensitivity of 90 %)" if groups else ""


def _prospect(groups: int) -> str:
    """Say what so many independent test images of a class allow."""
    return f"{number_of(groups, 'independent test image')}{_interval(groups)}; {_provable(groups)}"


def _provable(groups: int) -> str:
    """Say with how many misses a sensitivity of 0.95 can be shown on so many independent images."""
    aim = f"a sensitivity of at least {100 * PROVEN_SENSITIVITY:g} %"
    allowed = misses_allowed(groups)
    if allowed < 0:
        return f"{aim} cannot be shown even without a miss ({positives_needed(0)} images are needed)"
    if allowed == 0:
        return f"{aim} can be shown only without a miss (one miss is allowed from {positives_needed(1)} images)"
    more = positives_needed(allowed + 1)
    return f"{aim} can be shown only with at most {number_of(allowed, 'miss')} ({allowed + 1} from {more} images)"
