"""LIME and KernelSHAP: superpixels of an image are covered in many combinations, and a linear model tells what each is worth.

Both ask about the same combinations, so that asking for both costs no more than asking for one.
"""

from __future__ import annotations

import abc
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail.engine import one_thread_per_product
from vitrail.explanation.coalitions import Coalitions, Values, draw_coalitions, lime_coefficients, shapley_values
from vitrail.explanation.explainer import Cost, ExplainableModel, Question, Relevance, Scores, picture_of
from vitrail.explanation.perturbing import (
    SuitsEveryModel,
    batch_size,
    fill_warnings,
    inside,
    median_fill,
    quantity_asked,
    quantity_of,
)
from vitrail.records import ByteArray, IntArray, Placement, Quantity

COMPACTNESS = 10.0
"""Of SLIC, in its colour space: weight of nearness against likeness."""
FLAT = 8
"""Grey levels: an image that spans no more has no superpixels, and is cut into squares."""
NOISY = 0.8
"""Reliability of the superpixels' values below which it is said that they are noisy."""
DIGITS = 6
"""Of numbers in the record's details."""
POOR_FIT = 0.5
"""Share of explained variance below which it is said that LIME's linear model does not describe the model."""


@dataclass(frozen=True)
class Bank:
    """What a model answered about one image with superpixels covered.

    Attributes:
        segments: Number of each pixel's superpixel within the image (padding left out), from 0.
        fill: What covers.
        coalitions: Which superpixels were shown.
        scores: Shape (coalitions, classes).
        none: Scores with all covered, shape (1, classes).
    """

    segments: IntArray
    fill: ByteArray
    coalitions: Coalitions
    scores: Scores
    none: Scores


@dataclass(frozen=True)
class _Superpixels(SuitsEveryModel, abc.ABC):
    """What the two methods share. See :class:`Lime` and :class:`KernelShap`."""

    superpixels: int = 50
    samples: int = 600
    quantity: Quantity | None = None

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - the same for all
        """See :class:`~vitrail.explanation.explainer.Explainer`. The two methods together cost no more than one of them."""
        return Cost(forward=self.samples + 1)

    @property
    def answers(self) -> tuple[str, int, int]:
        """See :class:`~vitrail.explanation.explainer.SharesAnswers`."""
        return "superpixels", self.superpixels, self.samples

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        quantity = quantity_asked(self.quantity, question)
        maps = np.zeros(question.pixels.shape[:3], dtype=np.float32)
        errors = np.zeros_like(maps)
        warnings, details, asked = [], [], 0
        for number, bank in enumerate(_banks(model, question, self.superpixels, self.samples)):
            rows, columns = inside(question.placements[number])
            target = int(question.targets[number])
            answers = quantity_of(bank.scores, target, quantity)
            none = float(quantity_of(bank.none, target, quantity)[0])
            whole = float(quantity_of(question.scores[number : number + 1], target, quantity)[0])
            with one_thread_per_product():
                values, deviations, more, doubts = self._fit(bank.coalitions, answers, none, whole)
            maps[number, rows, columns] = values[bank.segments]
            errors[number, rows, columns] = deviations[bank.segments]
            asked += len(answers) + 1
            warnings.append(
                (
                    *fill_warnings(question.pixels[number, rows, columns], bank.fill, what="Covered superpixels"),
                    *_noise(values, deviations),
                    *doubts,
                )
            )
            details.append(
                {
                    "fill": bank.fill.tolist(),
                    "superpixels": len(values),
                    "combinations": len(answers),
                    "all_combinations": bank.coalitions.exact,
                    "whole_image": round(whole, DIGITS),
                    "all_covered": round(none, DIGITS),
                    **more,
                }
            )
        return Relevance(
            maps=maps,
            warnings=tuple(warnings),
            details=self._parameters(),
            details_of=tuple(details),
            quantity=quantity,
            forward_passes=asked / max(1, len(question)),
            standard_errors=errors,
        )

    def _parameters(self) -> dict[str, object]:
        return {"samples": self.samples, "compactness": COMPACTNESS}

    @abc.abstractmethod
    def _fit(
        self, coalitions: Coalitions, answers: Values, none: float, whole: float
    ) -> tuple[Values, Values, dict[str, object], tuple[str, ...]]:
        """Return the superpixels' values, their standard errors, more for the record, and doubts."""


@dataclass(frozen=True)
class Lime(_Superpixels):
    """LIME (Ribeiro et al., KDD 2016): coefficients of a linear model of the score near the image, one per superpixel.

    For the law of combinations, the kernel of nearness and the penalty see
    :func:`~vitrail.explanation.coalitions.lime_coefficients`. Superpixels are those of SLIC (Achanta et al., TPAMI 2012), which
    draws nothing at random; where the image is flat, squares. They are covered with the median of the image.

    The unit is the score: what a superpixel adds, on average over combinations near the image, in a model without
    interactions. All pixels of a superpixel have its value. The coefficients do not sum to anything, and another number or
    shape of superpixels gives another map.

    Attributes:
        superpixels: Number that SLIC is asked for; it makes about so many.
        samples: Combinations asked about; all there are, where they are no more than that; never fewer than four per superpixel.
        quantity: What is measured; ``None``: the score, or the contrast where that is asked.
        width: Of the kernel of nearness, in cosine distance; the authors' code has 0.25.
        ridge: Penalty on the squared coefficients, against the mean weighted squared error; the authors' code has 1 for the sum
            over 1000 samples.
    """

    width: float = 0.25
    ridge: float = 0.001

    def _parameters(self) -> dict[str, object]:
        return {**super()._parameters(), "kernel_width": self.width, "ridge": self.ridge}

    def _fit(
        self, coalitions: Coalitions, answers: Values, none: float, whole: float
    ) -> tuple[Values, Values, dict[str, object], tuple[str, ...]]:
        values, errors, fit = lime_coefficients(coalitions, answers, none=none, all_=whole, width=self.width, ridge=self.ridge)
        doubts: tuple[str, ...] = ()
        if fit < POOR_FIT:
            doubts = (
                f"LIME's linear model explains {max(fit, 0.0):.0%} of how the answers vary near the image: the superpixels act "
                "together, not one by one, and its coefficients describe the model badly.",
            )
        return values, errors, {"explained_variance": round(fit, 3)}, doubts


@dataclass(frozen=True)
class KernelShap(_Superpixels):
    """KernelSHAP (Lundberg and Lee, NeurIPS 2017): Shapley values of superpixels, by weighted least squares.

    A superpixel's value is the mean, over all orders in which superpixels may be uncovered, of how far its uncovering moves the
    score; the values sum to the score less that of the image with all covered. Combinations are asked in pairs of complements
    (Covert and Lee, AISTATS 2021); where there are few superpixels, all combinations, and the values are exact. Superpixels are
    those of SLIC (Achanta et al., TPAMI 2012), which draws nothing at random; where the image is flat, squares. They are
    covered with the median of the image.

    The unit is the score. All pixels of a superpixel have its value, so the map sums to more than the values do. Values depend on
    what covers: a part that looks like the fill has little, whatever the model thinks of it.

    Attributes:
        superpixels: Number that SLIC is asked for; it makes about so many.
        samples: Combinations asked about; all there are, where they are no more than that; never fewer than four per superpixel.
        quantity: What is measured; ``None``: the score, or the contrast where that is asked.
    """

    def _fit(
        self, coalitions: Coalitions, answers: Values, none: float, whole: float
    ) -> tuple[Values, Values, dict[str, object], tuple[str, ...]]:
        values, errors = shapley_values(coalitions, answers, none=none, all_=whole)
        return values, errors, {"sum_of_values": round(float(values.sum()), DIGITS)}, ()


def _noise(values: Values, errors: Values) -> tuple[str, ...]:
    """Say when the values differ about as much as chance makes them differ."""
    spread = float(values.var())
    reliability = max(0.0, 1 - float((errors**2).mean()) / spread) if spread > 0 else 1.0
    if reliability >= NOISY:
        return ()
    return (
        f"{1 - reliability:.0%} of the variance of the superpixels' values is noise of the random combinations. Look at the "
        "standard error before you read anything into it.",
    )


# ------------------------------------------------------------------------------------------------ the bank of answers

_BANKS: dict[int, dict[tuple[int, int], tuple[Any, tuple[Bank, ...]]]] = {}
"""Per question that is still alive (by its identity): what was asked for it, by number of superpixels and samples."""


def _banks(model: ExplainableModel, question: Question, superpixels: int, samples: int) -> tuple[Bank, ...]:
    """Return the bank of every image; asked for once per question, number of superpixels and of samples."""
    if id(question) not in _BANKS:
        weakref.finalize(question, _BANKS.pop, id(question), None)
    kept = _BANKS.setdefault(id(question), {})
    owner, banks = kept.get((superpixels, samples), (None, ()))
    if owner is not model:
        banks = tuple(_bank(model, question, number, superpixels, samples) for number in range(len(question)))
        kept[superpixels, samples] = (model, banks)
    return banks


def _bank(model: ExplainableModel, question: Question, number: int, superpixels: int, samples: int) -> Bank:
    """Ask a model about combinations of one image's superpixels."""
    pixels, placement = question.pixels[number], question.placements[number]
    rows, columns = inside(placement)
    image = pixels[rows, columns]
    segments = segment(image, superpixels)
    count = int(segments.max()) + 1
    coalitions = draw_coalitions(question.generator(number), count, max(samples, 4 * count))
    fill = median_fill(image)
    masks = np.concatenate([coalitions.masks, np.zeros((1, count), dtype=bool)])
    size = batch_size(pixels)
    scores = np.concatenate(
        [
            model.scores(_covered(pixels, masks[start : start + size], segments, fill, placement))
            for start in range(0, len(masks), size)
        ]
    )
    return Bank(segments, fill, coalitions, scores=scores[:-1], none=scores[-1:])


def _covered(
    pixels: ByteArray, shown: npt.NDArray[np.bool_], segments: IntArray, fill: ByteArray, placement: Placement
) -> ByteArray:
    """Return a copy of the image per combination of shown superpixels (n, superpixels), the others covered."""
    rows, columns = inside(placement)
    image = pixels[rows, columns]
    channels = image.shape[2]  # rows of all channels at a stretch: numpy is slow over a last axis of 3
    covers = np.take(~shown, np.repeat(segments, channels, axis=1), axis=1)
    filled = np.repeat(image.reshape(1, len(image), -1), len(shown), axis=0)
    np.copyto(filled, np.tile(fill, image.shape[1]), where=covers)
    copies = np.repeat(pixels[np.newaxis], len(shown), axis=0)
    copies[:, rows, columns] = filled.reshape(len(shown), *image.shape)
    return copies


def segment(image: ByteArray, count: int) -> IntArray:
    """Cut an image into about ``count`` superpixels of like pixels, or into squares where it is flat.

    Args:
        image: uint8, shape (height, width, channels): a grey or coloured picture, and whatever other models are given of it.
        count: At least 2.

    Returns:
        Numbers from 0, none left out, shape (height, width); at least two different ones where there are two pixels.
    """
    from skimage import segmentation

    if np.ptp(image) > FLAT:
        slic: Any = segmentation.slic  # scikit-image ships no types for it
        colours = np.broadcast_to(picture_of(image), (*image.shape[:2], 3))
        found = slic(colours, n_segments=count, compactness=COMPACTNESS, sigma=1, start_label=0, channel_axis=-1)
        numbers = np.unique(found, return_inverse=True)[1].reshape(found.shape)
        if numbers.max() + 1 >= min(count, 8) / 2 and numbers.max() > 0:
            return np.asarray(numbers, dtype=np.int64)
    return _squares(image.shape[0], image.shape[1], count)


def _squares(height: int, width: int, count: int) -> IntArray:
    """Cut a rectangle into about ``count`` squares."""
    down = min(height, max(1, round((count * height / width) ** 0.5)))
    across = min(width, max(1, round(count / down)))
    if down * across == 1:
        down, across = min(height, 2), min(width, 2)
    rows, columns = np.arange(height) * down // height, np.arange(width) * across // width
    return np.asarray(rows[:, np.newaxis] * across + columns, dtype=np.int64)
