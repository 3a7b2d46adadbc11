"""What the methods that show a model changed copies of an image share: the fill, the size of a batch, the quantity."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vitrail.explanation.explainer import ExplainableModel, Question, Want
from vitrail.records import ByteArray, Placement, Quantity

Values = npt.NDArray[np.float64]

LOWEST_SCORE = 1e-6
"""Scores below count as this before their logarithm is taken: a forest whose trees all agree gives 0."""
VISIBLE_FILL = 0.2
"""Of the full range of grey levels: from so far on, what is covered is a stimulus of its own."""
LARGEST_BATCH = 64
"""Changed copies handed to a model at a time: more are no faster on a CPU."""
MEMORY = 2**28
"""Bytes that the copies of a batch may take, as bytes and as the four-byte numbers that a network reads."""
BYTES_PER_VALUE = 10
"""Of one value of a copy: the byte, the mask's product and the model's input as float32, and a copy of either."""


class SuitsEveryModel:
    """What a method that asks for nothing but scores says of itself; see :class:`~vitrail.explanation.explainer.Explainer`."""

    needs: ClassVar[str] = "nothing but scores"
    wants: ClassVar[frozenset[Want]] = frozenset()

    def refusal(self, model: ExplainableModel) -> str:  # noqa: ARG002 - it suits every model
        """Return why the method is not defined for a model: it always is."""
        return ""


def inside(placement: Placement) -> tuple[slice, slice]:
    """Return the rows and columns of the model's input that show image: padding is never changed."""
    return slice(placement.inner_top, placement.inner_bottom), slice(placement.inner_left, placement.inner_right)


def median_fill(image: ByteArray) -> ByteArray:
    """Return the median of an image (height, width, channels) per channel: uint8, shape (channels,).

    Of all constants it differs least from the image (smallest mean absolute difference), and it draws no grey shapes on a dark
    background.
    """
    return np.asarray(np.rint(np.median(image, axis=(0, 1))), dtype=np.uint8)


def median_inside(pixels: ByteArray, placement: Placement) -> ByteArray:
    """Return a model's input (size, size, channels) with the median of its image wherever it shows image; padding stays."""
    answer = pixels.copy()
    answer[inside(placement)] = median_fill(pixels[inside(placement)])
    return answer


def blurred_inside(pixels: ByteArray, placement: Placement, width: float) -> ByteArray:
    """Return a model's input (size, size, channels) with its image blurred; padding stays, and none of it bleeds in.

    Args:
        pixels: The input.
        placement: What of it is image.
        width: Standard deviation of the Gaussian, in pixels.
    """
    from scipy.ndimage import gaussian_filter

    answer = pixels.copy()
    blurred = gaussian_filter(pixels[inside(placement)].astype(np.float64), sigma=(width, width, 0), mode="nearest")
    answer[inside(placement)] = np.clip(np.rint(blurred), 0, 255)
    return answer


def batch_size(pixels: ByteArray, largest: int = LARGEST_BATCH) -> int:
    """Return how many copies of one image (height, width, channels) a batch holds: at most ``largest``, and what fits."""
    return max(1, min(largest, MEMORY // (BYTES_PER_VALUE * pixels.size)))


def quantity_of(scores: Values, target: int, quantity: Quantity) -> Values:
    """Turn scores into the quantity whose change is measured.

    Args:
        scores: Shape (n, classes), rows sum to 1.
        target: Index of the class.
        quantity: ``probability`` is the score p. ``logit`` is log p, scores below :data:`LOWEST_SCORE` raised to it: a network's
            logit up to a term that all classes of an image share, and all that scores alone tell. ``contrast`` is log p minus
            the largest log of another class: exactly the difference of a network's logits.

    Returns:
        Shape (n,).
    """
    if quantity == "probability":
        return np.asarray(scores[:, target], dtype=np.float64)
    logs = np.log(np.maximum(np.asarray(scores, dtype=np.float64), LOWEST_SCORE))
    if quantity == "logit":
        return np.asarray(logs[:, target])
    return np.asarray(logs[:, target] - np.delete(logs, target, axis=1).max(axis=1))


def quantity_asked(own: Quantity | None, question: Question) -> Quantity:
    """Return what a method measures: its own choice, else the contrast where that is asked, else the score.

    The score is what every model has and what a reader can check ("covered, it falls by 0.2"). Logits are not known from scores,
    and the logarithm of a score of 0, which forests give, would need a constant that shapes the map: who wants that asks the
    method itself for it.
    """
    if own is not None:
        return own
    return "contrast" if question.quantity == "contrast" else "probability"


def fill_warnings(image: ByteArray, fill: ByteArray, *, what: str) -> tuple[str, ...]:
    """Say when what is covered is a stimulus of its own.

    Args:
        image: Shape (height, width, channels).
        fill: Shape (channels,).
        what: What is covered, in the plural, to begin the sentence.
    """
    contrast = float(np.abs(image.astype(np.int16) - fill).mean())
    if contrast <= VISIBLE_FILL * 255:
        return ()
    return (
        f"{what} stand out: their fill differs from the image by {contrast:.0f} of 255 grey levels on average. "
        "Part of the effect may come from their edges.",
    )
