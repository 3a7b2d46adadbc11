"""The anatomy of an image, found without a trained model: what stands out from an even ground.

It works where a body part lies before an empty ground, as in slices of the head. It says "not estimable" where the anatomy
reaches the edges nearly everywhere (a chest film, a sector of ultrasound that fills the frame) or where nothing stands out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.explanation.explainer import picture_of
from vitrail.records import ByteArray, Placement

BoolArray = npt.NDArray[np.bool_]

SMOOTHING = 1 / 100
"""Standard deviation of the blur before the threshold, as a share of the shorter side: noise and thin letters fade."""
PART = 0.1
"""A piece belongs to the anatomy where it has at least this share of the largest piece: two lungs, not a letter."""
GROWN = 0.03
"""The anatomy is grown by this share of the shorter side: its outline, which may carry the disease, is part of it."""
LEAST, MOST = 0.05, 0.9
"""Share of what the input shows that the anatomy may take, grown; beyond, it is not estimable."""
CONTRAST = 10.0
"""Grey levels by which the anatomy must stand out from the ground, on average."""
EVEN = 0.85
"""Share of the ground that must lie on the other side of the threshold; where it does not, the hull cuts through anatomy."""
UNEVEN = 0.3
"""Range of the ground's grey levels (from its 15th to its 85th percentile) against the contrast; beyond, it is no
empty ground. A mark in the ground does not count."""
FRAMED = 0.6
"""Share of the outermost pixels that the brighter side may take; where it takes more, the brighter side is the ground."""


@dataclass(frozen=True, eq=False)
class Foreground:
    """Where the anatomy is.

    Attributes:
        mask: At the model's input, shape (size, size); no pixel of the padding. All false where it is not estimable.
        share: Share of what the input shows that it takes, 0..1.
        reason: Why it is not estimable; else empty.
    """

    mask: BoolArray
    share: float
    reason: str = ""

    @property
    def estimable(self) -> bool:
        """Whether there is a mask."""
        return not self.reason


def foreground(pixels: ByteArray, placement: Placement) -> Foreground:
    """Find the anatomy of a prepared image.

    The image is smoothed, cut at Otsu's threshold (Otsu 1979) into a brighter and a darker side, of which the one that holds
    most of the frame is the ground. Of the other the largest pieces are kept, each filled by its convex hull, and grown a little.

    Args:
        pixels: uint8, shape (size, size, channels).
        placement: What of it is image.
    """
    from scipy import ndimage

    nothing = np.zeros(pixels.shape[:2], dtype=np.bool_)
    rows, columns = (
        slice(placement.inner_top, placement.inner_bottom),
        slice(placement.inner_left, placement.inner_right),
    )
    grey = picture_of(pixels[rows, columns]).mean(axis=-1, dtype=np.float64)
    side = min(grey.shape)
    smooth = ndimage.gaussian_filter(grey, max(0.5, SMOOTHING * side), mode="nearest")
    if side < 8 or np.ptp(smooth) < CONTRAST:
        return Foreground(nothing, 0.0, "nothing stands out in it")
    from skimage import filters

    threshold_otsu: Any = filters.threshold_otsu  # scikit-image ships no types for it
    stands_out = smooth > threshold_otsu(smooth)
    if _frame(stands_out).mean() > FRAMED:
        stands_out = ~stands_out
    hull = _hulls(stands_out)
    if not hull.any():
        return Foreground(nothing, 0.0, "nothing stands out in it")
    middle = hull[len(hull) // 4 : -(len(hull) // 4), hull.shape[1] // 4 : -(hull.shape[1] // 4)]
    if middle.mean() < hull.mean():  # dark corners around a body are no anatomy
        return Foreground(nothing, float(hull.mean()), "what stands out is not in the middle")
    grown = ndimage.distance_transform_edt(~hull) <= GROWN * side if not hull.all() else hull
    share = float(grown.mean())
    if share < LEAST:
        return Foreground(nothing, share, f"what stands out takes less than {LEAST:.0%} of it")
    if share > MOST:
        return Foreground(nothing, share, f"what stands out takes more than {MOST:.0%} of it, and hardly anything lies outside")
    ground = ~grown
    if np.count_nonzero(stands_out & ground) > (1 - EVEN) * np.count_nonzero(ground):
        return Foreground(nothing, share, "the ground around what stands out is not even")
    contrast = abs(float(smooth[hull].mean() - smooth[ground].mean()))
    if contrast < CONTRAST:
        return Foreground(nothing, share, "nothing stands out in it")
    if np.diff(np.quantile(smooth[ground], (0.15, 0.85)))[0] > UNEVEN * contrast:
        return Foreground(nothing, share, "the ground around what stands out is not even")
    answer = nothing.copy()
    answer[rows, columns] = grown
    return Foreground(answer, share)


def _frame(mask: BoolArray) -> BoolArray:
    """Return the outermost pixels."""
    return np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])


def _hulls(mask: BoolArray) -> BoolArray:
    """Return the convex hulls of the largest pieces, together."""
    from scipy import ndimage
    from skimage import morphology

    convex_hull_image: Any = morphology.convex_hull_image
    labelled, count = ndimage.label(mask)
    answer = np.zeros_like(mask)
    if not count:
        return answer
    sizes = np.bincount(labelled.ravel())[1:]
    for number, place in enumerate(ndimage.find_objects(labelled), start=1):
        if sizes[number - 1] >= PART * sizes.max():
            answer[place] |= convex_hull_image(labelled[place] == number)
    return answer
