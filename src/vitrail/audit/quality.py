"""Images of poor quality, judged against the other images of the data set and never by their brightness."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vitrail.audit.check import AuditContext, Check, NotApplicable, finding, number_of, per_class
from vitrail.records import Evidence, Finding, IntArray, Severity

BLANK_DEVIATION = 3.0
"""Deviation of the grey values, out of 0..127.5, below which QLT601 calls an image blank."""
BLANK_SHARE = 0.998
"""Share of pure black or of pure white pixels from which it does, too."""
CLIPPED_SHARE = 0.15
"""Share of pixels at 255 from which QLT602 may warn."""
CLIPPED_TIMES = 5.0
"""It must be so many times what nine tenths of the images stay below."""
SOFT = 5.0
"""Robust z-score of relative sharpness, downwards, from which QLT603 and QLT604 speak."""
NOISY = 5.0
"""Robust z-score of noise, upwards, from which QLT603 speaks."""
TINY = 64
"""Side in pixels below which QLT604 calls an image tiny."""
ENLARGED = 1.4
"""An image that is too soft and so many times larger than usual has probably been enlarged."""
ODD_RATIO = 1.5
"""Times the usual ratio of width to height, either way, from which QLT605 speaks."""
ODD_RANGES = 3.0
"""It must be so many interquartile ranges outside the quartiles, too."""
LISTED = 100
"""So many images are named at most."""

_ENOUGH = 20  # independent images of the same class and size to be compared with
_LEAST_SPREAD = 0.15  # of the logarithms: no data set is so even that ten per cent more is an outlier
_DECODED = 256  # see Manifest.facts: a large JPEG is measured at a fraction of its size
_FACTORS = (8, 4, 2)

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class BlankImages:
    """QLT601: images that show nothing."""

    code = "QLT601"
    title = "Blank images"
    why = "A blank image has a label but nothing to learn it from, and often stands for a failed export."
    explanation = (
        "An image is called blank when its grey values hardly differ (their standard deviation is below 3 of 255), or when all "
        "but a few pixels are pure black or pure white. Usual reasons are an export that failed, the empty first or last slice "
        "of a volume, a wrong display window, or a mask that stands among the images.\n\n"
        "A very dark image is not blank for this check as long as something can be made out in it once it is brightened. "
        "Delete blank images, or export them again."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find images that hardly vary. ``count``: such images."""
        rows = _rows(context)
        facts = context.manifest.facts
        deviation = facts["deviation"][rows].astype(np.float64)
        same = np.fmax(facts["black"][rows], facts["white"][rows])
        found = np.flatnonzero((deviation < BLANK_DEVIATION) | (same >= BLANK_SHARE))
        order = found[np.argsort(deviation[found], kind="stable")]
        return _report(
            self,
            context,
            rows[order],
            severity="warning",
            what=("is blank or nearly so", "are blank or nearly so"),
            notes=[f"standard deviation of the grey values {deviation[row]:.1f}" for row in order],
            fix="Export the listed images again, or delete them.",
        )


class ClippedImages:
    """QLT602: images with large overexposed areas."""

    code = "QLT602"
    title = "Overexposed images"
    why = "Where everything is pure white, whatever the scanner saw is lost."
    explanation = (
        "Pixels at the highest value (255) are clipped: whatever was brighter was cut off when the image was windowed or "
        "scanned. This check finds images in which at least 15 % of the pixels are clipped, and five times as many as nine "
        "tenths of the other images have. So a data set with a white background throughout is not reported. Black pixels are "
        "not looked at: a black background is normal in radiology.\n\n"
        "Reasons are a wrong display window, an inverted image, or a white frame or page around it. Export the images again with "
        "the window of the others."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find images with far more white than usual. ``count``: such images."""
        rows = _rows(context)
        white = np.nan_to_num(context.manifest.facts["white"][rows]).astype(np.float64)
        limit = max(CLIPPED_SHARE, CLIPPED_TIMES * float(np.quantile(white, 0.9)))
        found = np.flatnonzero((white >= limit) & (white < BLANK_SHARE))
        order = found[np.argsort(-white[found], kind="stable")]
        usual = f"usual in this data set: {100 * float(np.median(white)):.1f} %"
        return _report(
            self,
            context,
            rows[order],
            severity="warning",
            what=(f"has {100 * limit:.0f} % or more pure white pixels", f"have {100 * limit:.0f} % or more pure white pixels"),
            notes=[f"{100 * white[row]:.0f} % of the pixels at 255; {usual}" for row in order],
            fix="Export the listed images again with the window of the others, or crop the white frame.",
        )


class OutOfFocus:
    """QLT603: images that are far more blurred or more noisy than others of their class and size."""

    code = "QLT603"
    title = "Blurred or noisy images"
    why = "Blur and noise hide what the label is about, and they tell where an image comes from."
    explanation = (
        "Sharpness is measured by how strongly the grey value of a pixel differs from that of its neighbours (the "
        "variance of the Laplacian), relative to the contrast of the whole image, so that a dark image does not count as "
        "blurred; noise by differences that no edge explains (Immerkaer 1996). Both are compared, on a logarithmic "
        "scale, with the images of the same class (where those are few, of all classes) and about the same size, for small "
        "images always look sharper. Reported is what lies five robust standard deviations outside: an image that moved, that "
        "was smoothed, or saved at very low quality, or one with strong grain.\n\n"
        "Other protocols look different without being worse: a T2 image among T1 images, a scan with a soft reconstruction. "
        "Look at the images before you remove any."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find outliers of sharpness and noise. ``count``: such images."""
        rows = _rows(context)
        softness = -_sharpness_z(context, rows)
        noise = context.manifest.facts["noise"][rows].astype(np.float64)
        grain = _z_among_alike(context, rows, np.log(noise + 0.05))
        soft = (softness >= SOFT) & ~_larger_than_usual(context, rows)
        noisy = (grain >= NOISY) & ~soft
        found = np.flatnonzero((soft | noisy) & ~_blank(context, rows))
        extent = np.where(soft, softness, grain)
        order = found[np.argsort(-extent[found], kind="stable")]
        kinds = f"{int(soft[found].sum()):,} blurred, {int(noisy[found].sum()):,} noisy"
        return _report(
            self,
            context,
            rows[order],
            severity="warning",
            what=(
                f"is far more blurred or noisy than others of its class and size ({kinds})",
                f"are far more blurred or noisy than others of their class and size ({kinds})",
            ),
            notes=[
                f"{'blurred' if soft[row] else 'noisy'}: {extent[row]:.1f} robust standard deviations from usual" for row in order
            ],
            fix="Look at the listed images; fetch or export them again where the original is better, and leave out what cannot "
            "be judged by eye.",
        )


class LowResolution:
    """QLT604: images that are tiny, or hold less detail than their size promises."""

    code = "QLT604"
    title = "Tiny or enlarged images"
    why = "Detail that was never there cannot be learnt, however many pixels the file has."
    explanation = (
        "An image with a side below 64 pixels shows hardly more than an outline: such files are often previews. "
        "An image that is at least 1.4 times larger than usual in its class, and far softer than others of that size, has "
        "probably been enlarged by software from a smaller one: the pixels were made up between the real ones.\n\n"
        "Data sets that are tiny throughout are reported, too: many published ones were shrunk to 28 x 28 pixels, which is fine "
        "for exercises and too little for findings that are small. Enlargement is inferred and can be mistaken for blur. Where a "
        "whole class was enlarged, the checks of shortcuts (SHC501) tell."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find small images and soft large ones. ``count``: such images."""
        rows = _rows(context)
        width, height = _sizes(context, rows)
        side = np.minimum(width, height)
        tiny = side < TINY
        softness = -_sharpness_z(context, rows)
        enlarged = (softness >= SOFT) & _larger_than_usual(context, rows) & ~tiny & ~_blank(context, rows)
        order = np.concatenate(
            [
                np.flatnonzero(tiny)[np.argsort(side[tiny], kind="stable")],
                np.flatnonzero(enlarged)[np.argsort(-softness[enlarged], kind="stable")],
            ]
        )
        kinds = f"{int(tiny.sum()):,} below {TINY} pixels, {int(enlarged.sum()):,} probably enlarged"
        return _report(
            self,
            context,
            rows[order],
            severity="warning" if tiny.any() and not tiny.all() else "info",
            what=(f"has little detail ({kinds})", f"have little detail ({kinds})"),
            notes=[
                f"{width[row]:.0f} x {height[row]:.0f} pixels"
                + ("" if tiny[row] else f", {softness[row]:.1f} robust standard deviations softer than others of that size")
                for row in order
            ],
            fix="Fetch the originals of the listed images in place of previews and enlarged copies.",
        )


class OddShapes:
    """QLT605: images of an unusual ratio of width to height."""

    code = "QLT605"
    title = "Images of unusual shape"
    why = "Models see squares: a long image is squeezed or padded more than the others, and may show a montage or a screenshot."
    explanation = (
        "The ratio of width to height is compared with what is usual in the data set. Reported are images whose ratio is at "
        "least 1.5 times larger or smaller than the median and more than three interquartile ranges outside the middle half of "
        "all ratios. A data set of many shapes has a wide range, and little is reported there.\n\n"
        "Odd shapes are often two views side by side, a screenshot with its menus, or a crop. Others are as good as any. "
        "Look at them, and crop what does not belong to the image."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find outliers of the ratio of the sides. ``count``: such images."""
        rows = _rows(context)
        width, height = _sizes(context, rows)
        ratio = np.log(np.maximum(width, 1) / np.maximum(height, 1))
        low, middle, high = np.quantile(ratio, (0.25, 0.5, 0.75))
        margin = ODD_RANGES * (high - low)
        away = np.abs(ratio - middle)
        found = np.flatnonzero(((ratio < low - margin) | (ratio > high + margin)) & (away >= np.log(ODD_RATIO)))
        order = found[np.argsort(-away[found], kind="stable")]
        usual = f"usual: {np.exp(middle):.2f} to 1"
        return _report(
            self,
            context,
            rows[order],
            severity="info",
            what=("has an unusual ratio of width to height", "have an unusual ratio of width to height"),
            notes=[f"{width[row]:.0f} x {height[row]:.0f} pixels, {np.exp(ratio[row]):.2f} to 1; {usual}" for row in order],
            fix="Look at the listed images; split montages and crop screenshots.",
        )


# ---------------------------------------------------------------------------------------------------- what they share


def _rows(context: AuditContext) -> IntArray:
    """Return the positions of the readable images.

    Raises:
        NotApplicable: There are none.
    """
    rows = np.array(context.readable(), dtype=np.int64)
    if len(rows) == 0:
        raise NotApplicable("the data set has no readable image")
    return rows


def _report(
    check: Check,
    context: AuditContext,
    rows: IntArray,
    *,
    severity: Severity,
    what: tuple[str, str],
    notes: Sequence[str],
    fix: str,
) -> Finding | None:
    """Return the finding about ``rows``, in their order; ``None`` when there are none. ``what``: for one, and for several."""
    if len(rows) == 0:
        return None
    files = [context.manifest.files[row] for row in rows.tolist()]
    limited = f"; the first {LISTED} are listed" if len(files) > LISTED else ""
    return finding(
        check,
        severity=severity,
        count=len(files),
        message=f"{number_of(len(files), 'image')} {what[0] if len(files) == 1 else what[1]}; by class "
        f"{per_class(file.label for file in files)}{limited}.",
        fix=fix,
        consequence="They are used like all others.",
        evidence=[Evidence((file.path,), note) for file, note in zip(files[:LISTED], notes, strict=False)],
    )


def _blank(context: AuditContext, rows: IntArray) -> Mask:
    blank: Mask = context.manifest.facts["deviation"][rows] < BLANK_DEVIATION
    return blank


def _sizes(context: AuditContext, rows: IntArray) -> tuple[Values, Values]:
    """Return widths and heights of the originals in pixels."""
    files = context.manifest.files
    sizes = np.array([(files[row].width, files[row].height) for row in rows.tolist()], dtype=np.float64)
    return sizes[:, 0], sizes[:, 1]


def _larger_than_usual(context: AuditContext, rows: IntArray) -> Mask:
    """Whether an image is much larger than the median of its class."""
    width, height = _sizes(context, rows)
    side = np.minimum(width, height)
    labels = context.manifest.labels[rows]
    usual = np.empty(len(rows))
    for label in np.unique(labels):
        usual[labels == label] = np.median(side[labels == label])
    larger: Mask = side >= ENLARGED * usual
    return larger


def _sharpness_z(context: AuditContext, rows: IntArray) -> Values:
    """Return the robust z-score of sharpness relative to contrast, on the logarithmic scale, among images alike."""
    facts = context.manifest.facts
    sharpness, deviation = (facts[name][rows].astype(np.float64) for name in ("sharpness", "deviation"))
    return _z_among_alike(context, rows, np.log(sharpness + 0.1) - 2 * np.log(deviation + 1))


def _z_among_alike(context: AuditContext, rows: IntArray, values: Values) -> Values:
    """Return robust z-scores of ``values`` among images of the same class, size and scale of decoding; 0 where unknown.

    Sizes count as the same within a factor of about 1.4. Where fewer than 20 independent images of a class are alike, all classes
    are compared; where fewer than 20 of all classes are, nothing is said. Slices of one patient count once.
    """
    files = context.manifest.files
    width, height = _sizes(context, rows)
    side = np.maximum(np.minimum(width, height), 1)
    jpeg = np.array([files[row].format == "JPEG" for row in rows.tolist()])
    scale = np.ones(len(rows))
    for factor in sorted(_FACTORS):
        scale[jpeg & (side >= factor * _DECODED)] = factor
    alike = np.stack([scale, np.round(2 * np.log2(side / scale)), context.manifest.labels[rows]], axis=1)
    groups = np.array([context.groups[row] for row in rows.tolist()], dtype=np.int64)
    result = np.zeros(len(rows))
    remaining = np.ones(len(rows), dtype=bool)
    for columns in (3, 2):
        number = np.unique(alike[:, :columns], axis=0, return_inverse=True)[1].ravel()
        for group in np.unique(number[remaining]):
            members = number == group
            there = members & np.isfinite(values)
            if len(np.unique(groups[there])) >= _ENOUGH:
                chosen = members & remaining
                result[chosen] = _z(values[chosen], values[there])
                remaining &= ~members
    return np.nan_to_num(result)


def _z(values: Values, known: Values) -> Values:
    """Return how many robust standard deviations ``values`` lie above the median of ``known``."""
    median = np.median(known)
    spread = 1.4826 * float(np.median(np.abs(known - median)))
    z: Values = (values - median) / max(spread, _LEAST_SPREAD)
    return z
