"""Slow changes of brightness taken out of an image: the bias field of an MRI coil, or uneven light."""

from __future__ import annotations

import importlib.util
import threading

import numpy as np
import numpy.typing as npt
from PIL import Image

from vitrail.records import ByteArray

INSTALL = "pip install 'vitrail[n4]'"
"""What brings the package that the correction needs."""
SMALLEST_SIDE = 16
"""Images with a shorter side, in pixels, stay as they are: a slow change cannot be told from what they show."""
WORKING_SIDE = 48
"""The field is estimated where the shorter side has at least so many pixels, and fewer than twice as many: it is smooth, and time
goes with the number of pixels."""
ITERATIONS = (30, 30, 30)
"""Most iterations per level, each with twice as many splines a side as the one before. A fourth would follow the anatomy."""
FEWEST_PIXELS = 64
"""Pixels of the reduced image that must stand out from the background."""
KEPT_PERCENTILE = 99
"""This percentile of what stands out from the background is as bright after the correction as before."""


def missing_for(bias_correction: str | None) -> str:
    """Return what a correction needs and is not installed, in words with the next step; empty: nothing is missing."""
    if bias_correction != "n4" or importlib.util.find_spec("SimpleITK") is not None:
        return ""
    return f"n4 needs SimpleITK, which is not installed. Install it: {INSTALL}"


def corrected(pixels: ByteArray) -> ByteArray:
    """Divide an image by its bias field, as N4 finds it (Tustison et al., IEEE Transactions on Medical Imaging 2010).

    N4 looks for the smooth multiplicative field (cubic B-splines, coarse to fine) without which the histogram of the logarithm is
    sharpest, among the pixels brighter than the background (Otsu 1979). How bright the whole is, the field leaves open: it is
    scaled so that one percentile stays, and at most a hundredth of those pixels is cut off at 255. Outside of them the field
    goes no further than within, so that the noise of the background is not blown up. Nothing is drawn at random: the same
    pixels give the same pixels.

    Args:
        pixels: uint8, shape (rows, columns) when grey or (rows, columns, 3) when RGB, without padding. Of colour, the field is
            that of the luminance (ITU-R BT.601), and all channels are divided by it alike.

    Returns:
        uint8, same shape; the very same pixels where there is nothing to go by: a side below :data:`SMALLEST_SIDE`, one grey
        value, or next to nothing that stands out from the background.
    """
    grey = pixels if pixels.ndim == 2 else np.asarray(Image.fromarray(pixels).convert("L"))
    if min(grey.shape) < SMALLEST_SIDE or grey.min() == grey.max():
        return pixels
    with _ONE_THREAD:
        found = _log_field(grey)
    if found is None:
        return pixels
    log_field, bright = found
    gain = np.exp(-log_field)
    before, after = np.percentile(grey[bright], KEPT_PERCENTILE), np.percentile((grey * gain)[bright], KEPT_PERCENTILE)
    gain *= before / after
    divided = pixels * (gain if pixels.ndim == 2 else gain[:, :, None])
    return np.asarray(np.clip(np.rint(divided), 0, 255), dtype=np.uint8)


class _OneThread:
    """Gives all of SimpleITK one thread for as long as anybody is within; after that, what it had.

    The sums of N4's splines depend on the number of threads in their last digits, and only the number for all of SimpleITK
    reaches them. One is no slower: images are prepared side by side already.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._within, self._before = 0, 1

    def __enter__(self) -> None:
        from SimpleITK import ProcessObject

        with self._lock:
            if not self._within:
                self._before = ProcessObject.GetGlobalDefaultNumberOfThreads()
                ProcessObject.SetGlobalDefaultNumberOfThreads(1)
            self._within += 1

    def __exit__(self, *exception: object) -> None:
        from SimpleITK import ProcessObject

        with self._lock:
            self._within -= 1
            if not self._within:
                ProcessObject.SetGlobalDefaultNumberOfThreads(self._before)


_ONE_THREAD = _OneThread()


def _log_field(grey: ByteArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | None:
    """Return the logarithm of the field and which pixels it was found among, both (rows, columns); ``None``: there is none."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(grey.astype(np.float32))
    factor = max(1, min(grey.shape) // WORKING_SIDE)
    reduced = SimpleITK.BinShrink(image, [factor, factor])  # its pixels are means, and know where they lie in the whole
    otsu = SimpleITK.OtsuThresholdImageFilter()
    otsu.SetInsideValue(0)
    otsu.SetOutsideValue(1)
    mask = otsu.Execute(reduced)
    among = SimpleITK.GetArrayFromImage(mask) > 0
    values = SimpleITK.GetArrayFromImage(reduced)[among]
    if len(values) < FEWEST_PIXELS or values.min() == values.max():
        return None
    n4 = SimpleITK.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations(ITERATIONS)
    n4.Execute(reduced, mask)
    within = SimpleITK.GetArrayFromImage(n4.GetLogBiasFieldAsImage(reduced))[among]
    whole = SimpleITK.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).astype(np.float64)
    bright = grey > otsu.GetThreshold()
    if not bright.any() or not np.isfinite(whole).all():
        return None
    return np.clip(whole, float(within.min()), float(within.max())), bright
