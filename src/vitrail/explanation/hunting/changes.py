"""Images of which a part is replaced, and what a model still knows of them: the second half of the shortcut hunt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vitrail.decision import Decision, decide
from vitrail.evaluation.gain import FEWEST_GROUPS
from vitrail.evaluation.intervals import Design, estimate, resample, sampling_design
from vitrail.evaluation.metrics import CLASS_METRICS, OVERALL_METRICS, Metric, auc
from vitrail.explanation.grading.cells import BoolArray, DoubleArray, inner_slices
from vitrail.explanation.grading.faithfulness import Scorer
from vitrail.explanation.hunting.places import Verdict, border_of
from vitrail.records import ByteArray, Estimate, IntArray, Intervention, Placement

WHOLE, NO_OUTSIDE, NO_ANATOMY, OUTLINE, BORDER_ALONE = (
    "nothing",
    "all outside the anatomy",
    "the anatomy",
    "both: the outline is left",
    "all but the border",
)
CHANGES = (WHOLE, NO_OUTSIDE, NO_ANATOMY, OUTLINE, BORDER_ALONE)
CHANCE = 0.5
"""AUC of a guess."""
LEAST_SHARE = 0.1
"""Share of what the model adds over chance that must survive for it to count: less is not worth an alarm."""
WEIGHTS = (0.05, 0.1, 0.2, 0.5)
"""Weights of a made-up mark in the scores, of which the smallest that is found is told."""
MARKED = 0.9
"""Share of its class's images that carry the made-up mark."""
_BATCH = 64


def changed_images(pixels: ByteArray, placements: Sequence[Placement], anatomy: BoolArray) -> dict[str, ByteArray]:
    """Return the images with a part replaced, by what is replaced.

    The fill is one colour for all images: the median of all anatomies where anatomy is replaced, the median of everything else
    elsewhere. An image's own median would tell how bright it was. Padding is left as it is.

    Args:
        pixels: Prepared images, uint8, shape (n, size, size, channels).
        placements: What of them is image.
        anatomy: Shape (n, size, size); images without any keep theirs, and only :data:`BORDER_ALONE` makes sense of them.
    """
    size = pixels.shape[1]
    inside = np.zeros(anatomy.shape, dtype=np.bool_)
    for one, placement in zip(inside, placements, strict=True):
        one[inner_slices(placement)] = True
    within, without = inside & anatomy, inside & ~anatomy
    fill_within, fill_without = (_median(pixels, mask) for mask in (within, without))
    border = np.stack([border_of(placement, size=size) for placement in placements])
    return {
        WHOLE: pixels,
        NO_OUTSIDE: _filled(pixels, without, fill_without),
        NO_ANATOMY: _filled(pixels, within, fill_within),
        OUTLINE: _filled(_filled(pixels, within, fill_within), without, fill_without),
        BORDER_ALONE: _filled(pixels, inside & ~border, _median(pixels, inside & ~border)),
    }


def _median(pixels: ByteArray, mask: BoolArray) -> ByteArray:
    """Return the median colour of some pixels; black where there are none."""
    chosen = pixels[mask]
    middle = np.median(chosen, axis=0) if len(chosen) else np.zeros(pixels.shape[-1])
    return np.asarray(np.rint(middle), dtype=np.uint8)


def _filled(pixels: ByteArray, mask: BoolArray, fill: ByteArray) -> ByteArray:
    answer = pixels.copy()
    answer[mask] = fill
    return answer


def scores_of(scores: Scorer, images: Mapping[str, ByteArray]) -> dict[str, DoubleArray]:
    """Ask the model about every changed image, a few at a time."""
    return {
        name: np.concatenate(
            [scores(pixels[start : start + _BATCH]).astype(np.float64) for start in range(0, len(pixels), _BATCH)]
        )
        for name, pixels in images.items()
    }


@dataclass(frozen=True)
class Survival:
    """What a model still knows when parts are replaced.

    Attributes:
        interventions: In the order of :data:`CHANGES`, those that were asked.
        beyond_outline: What survives without the anatomy, less what its outline alone carries, as a share of what the model adds.
        verdict: Whether enough survives without the anatomy, beyond the outline and beyond noise.
        reason: Why it is not estimable; else empty.
    """

    interventions: tuple[Intervention, ...]
    beyond_outline: Estimate | None
    verdict: Verdict
    reason: str = ""


def survival(
    found: Mapping[str, DoubleArray],
    truth: IntArray,
    groups: IntArray,
    classes: Sequence[str],
    *,
    decision: Decision | None = None,
    resamples: int,
    seed: int,
) -> Survival:
    """Measure what survives: a ranking of the images (AUC), for a fill shifts all scores of a class alike.

    Args:
        found: Scores by what is replaced, each of shape (n, classes).
        truth: True class of every image, shape (n,).
        groups: Group number of every image, shape (n,).
        classes: Their names.
        decision: How scores become a class, for the balanced accuracy; ``None``: the highest score.
        resamples: Behind each interval: the same resamples of groups for everything.
        seed: Of those.
    """
    design, names = sampling_design(truth, groups), list(found)
    accuracy = OVERALL_METRICS["balanced_accuracy"]
    decided = {name: np.eye(len(classes))[decide(scores, classes, decision)] for name, scores in found.items()}

    def measured(weights: DoubleArray) -> DoubleArray:  # (b, conditions, classes + 1): AUC of each class, balanced accuracy
        rows = [
            np.column_stack([auc(truth, found[name], weights), accuracy.compute(truth, decided[name], weights)]) for name in names
        ]
        return np.stack(rows, axis=1) if len(weights) else np.empty((0, len(names), len(classes) + 1))

    values = measured(np.ones((1, len(truth))))[0]
    draws = resample(measured, design, resamples=resamples, seed=seed)
    everybody = np.ones(len(truth), dtype=np.bool_)
    means, drawn = values[:, :-1].mean(axis=1), draws[:, :, :-1].mean(axis=2)
    shares = {name: _share(means, drawn, names, name, None, design) for name in names if name != WHOLE}
    interventions = tuple(
        Intervention(
            name,
            auc=estimate(OVERALL_METRICS["auc_macro"], float(means[row]), drawn[:, row], images=everybody, design=design),
            balanced_accuracy=estimate(accuracy, float(values[row, -1]), draws[:, row, -1], images=everybody, design=design),
            survives=shares.get(name),
            auc_of_class={
                one: estimate(CLASS_METRICS["auc"], float(values[row, k]), draws[:, row, k], images=everybody, design=design)
                for k, one in enumerate(classes)
            },
        )
        for row, name in enumerate(names)
    )
    if NO_ANATOMY not in found:
        return Survival(interventions, None, "not estimable", "the anatomy is not estimable in enough images")
    beyond = _share(means, drawn, names, NO_ANATOMY, OUTLINE, design)
    fewest = int(np.bincount(design.stratum, minlength=len(classes)).min())
    if fewest < FEWEST_GROUPS:
        reason = f"a class has {fewest} independent images with an estimable anatomy, and {FEWEST_GROUPS} are needed"
        return Survival(interventions, beyond, "not estimable", reason)
    whole = interventions[names.index(WHOLE)].auc
    if whole.value is None or (whole.low if whole.low is not None else whole.value) <= CHANCE:
        return Survival(interventions, beyond, "not estimable", "the model is not surely better than chance on these images")
    verdict: Verdict = "yes" if _lies_above(shares[NO_ANATOMY], LEAST_SHARE) and _lies_above(beyond, LEAST_SHARE) else "no"
    return Survival(interventions, beyond, verdict)


def _lies_above(share: Estimate, least: float) -> bool:
    """Whether a share is large enough and beyond noise; one that no resample moves is beyond it."""
    if share.value is None or share.value < least:
        return False
    return share.low > 0 if share.low is not None else "resamples agree" in share.note


def _share(means: DoubleArray, drawn: DoubleArray, names: list[str], name: str, less: str | None, design: Design) -> Estimate:
    """Return what a condition has over chance (or over another condition), as a share of what whole images have over chance."""
    over = np.full(len(drawn) + 1, CHANCE) if less is None else np.append(drawn[:, names.index(less)], means[names.index(less)])
    own = np.append(drawn[:, names.index(name)], means[names.index(name)])
    whole = np.append(drawn[:, names.index(WHOLE)], means[names.index(WHOLE)]) - CHANCE
    share = np.full(len(own), np.nan)
    np.divide(own - over, whole, out=share, where=whole > 0)
    everybody = np.ones(len(design.group), dtype=np.bool_)
    return estimate(_SURVIVES, float(share[-1]), share[:-1], images=everybody, design=design)


def smallest_found(
    found: Mapping[str, DoubleArray], truth: IntArray, groups: IntArray, classes: Sequence[str], *, resamples: int, seed: int
) -> float | None:
    """Return the smallest weight of a made-up mark that :func:`survival` finds in these images: its own sensitivity.

    The mark stands outside the anatomy in 90 % of the images of the most frequent class. The scores are mixed with those of
    somebody who sees nothing but the mark; where the outside is replaced, it is gone.
    """
    marked_class = int(np.bincount(truth, minlength=len(classes)).argmax())
    marked = (truth == marked_class) & (np.random.default_rng(seed).random(len(truth)) < MARKED)
    without = np.full((len(truth), len(classes)), 1.0)
    without[:, marked_class] = 0.5
    without /= without.sum(axis=1, keepdims=True)
    reader = without.copy()
    reader[marked] = np.eye(len(classes))[marked_class]
    for weight in WEIGHTS:
        seen = {WHOLE: reader, NO_OUTSIDE: without, NO_ANATOMY: reader, OUTLINE: without}
        mixed = {name: (1 - weight) * found[name] + weight * seen[name] for name in seen if name in found}
        if survival(mixed, truth, groups, classes, resamples=resamples, seed=seed).verdict == "yes":
            return weight
    return None


def _unused(truth: IntArray, scores: DoubleArray, weights: DoubleArray) -> DoubleArray:  # noqa: ARG001 - a metric's signature
    return np.full(len(weights), np.nan)


_SURVIVES = Metric(
    _unused, "Share that survives", "the model adds nothing over chance", lowest=-np.inf, highest=np.inf, wilson_over="nothing"
)
