"""Occlusion: cover a part of the image and see what becomes of the score. Works with any model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from vitrail.explanation.explainer import Cost, ExplainableModel, Question, Relevance
from vitrail.explanation.perturbing import (
    LARGEST_BATCH,
    SuitsEveryModel,
    batch_size,
    fill_warnings,
    inside,
    median_fill,
    quantity_asked,
    quantity_of,
)
from vitrail.records import ByteArray, FloatArray, Quantity

NEGLIGIBLE_DROP = 0.01
SATURATED_SCORE = 0.999
"""From here on, small losses of evidence hardly move a score."""


@dataclass(frozen=True)
class Occlusion(SuitsEveryModel):
    """Occlusion sensitivity (Zeiler and Fergus, ECCV 2014): the mean drop of the score over the patches that cover a pixel.

    The unit is the score itself (0..1): a reader can check "covered, it falls by 0.2". The drop of the log-odds would not
    fade near a score of 1, and orders the patches of one image in the same way, but it is infinite for a forest whose trees
    all agree, and any constant that makes it finite would shape the map. So drops stay drops, and a saturated score is
    said in a warning.

    The fill is the median of the image per channel (padding left out): of all constants it differs least from the image
    (smallest mean absolute difference), and it does not draw grey squares on a dark background.

    Attributes:
        patch: Side of the square patch as a share of the input's side.
        stride: Distance between patches as a share of the patch's side; at most 1, so that every pixel is covered.
        batch: Covered images handed to the model at a time, at most; fewer where they are large.
        quantity: What is measured. By default always the score, whatever the question asks: only then may maps of several models
            be averaged. ``None``: the contrast where that is asked, else the score.
    """

    patch: float = 1 / 8
    stride: float = 1 / 2
    batch: int = LARGEST_BATCH
    quantity: Quantity | None = "probability"

    def cost(self, model: ExplainableModel) -> Cost:
        """See :class:`~vitrail.explanation.explainer.Explainer`. Padding, which is not covered, makes it less."""
        side, step = self._patch(model.recipe.size)
        return Cost(forward=float(len(_spans(0, model.recipe.size, side=side, step=step)) ** 2))

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        quantity = quantity_asked(self.quantity, question)
        found = [self._of_image(model, question, image, quantity) for image in range(len(question))]
        side, step = self._patch(model.recipe.size)
        return Relevance(
            maps=np.stack([one.map for one in found]),
            warnings=tuple(one.warnings for one in found),
            details={"patch": side, "stride": step},
            details_of=tuple({"fill": one.fill, "largest_change": one.largest_change} for one in found),
            quantity=quantity,
            forward_passes=float(np.mean([one.patches for one in found])),
        )

    def _patch(self, size: int) -> tuple[int, int]:
        """Return side and step of the patches in pixels."""
        side = max(1, round(self.patch * size))
        return side, max(1, min(side, round(self.stride * side)))

    def _of_image(self, model: ExplainableModel, question: Question, image: int, quantity: Quantity) -> _Covered:
        pixels, placement = question.pixels[image], question.placements[image]
        target = int(question.targets[image])
        before = float(quantity_of(question.scores[image : image + 1], target, quantity)[0])
        shown = pixels[inside(placement)]
        fill = median_fill(shown)
        side, step = self._patch(len(pixels))
        rows = _spans(placement.inner_top, placement.inner_bottom, side=side, step=step)
        columns = _spans(placement.inner_left, placement.inner_right, side=side, step=step)
        patches = tuple(product(rows, columns))

        total = np.zeros(pixels.shape[:2])
        covered = np.zeros(pixels.shape[:2])
        largest = 0.0
        for group in _groups(patches, batch_size(pixels, self.batch)):
            drops = before - quantity_of(model.scores(_cover(pixels, group, fill)), target, quantity)
            for (row, column), drop in zip(group, drops, strict=True):
                total[row, column] += drop
                covered[row, column] += 1
            largest = max(largest, float(np.abs(drops).max()))
        return _Covered(
            map=(total / np.maximum(covered, 1)).astype(np.float32),
            warnings=(
                *fill_warnings(shown, fill, what="The patches"),
                *_small_changes(float(question.scores[image, target]), largest, quantity),
            ),
            fill=[int(value) for value in fill],
            largest_change=largest,
            patches=len(patches),
        )


@dataclass(frozen=True)
class _Covered:
    """What covering one image found."""

    map: FloatArray
    warnings: tuple[str, ...]
    fill: list[int]
    largest_change: float
    patches: int


def _spans(start: int, stop: int, *, side: int, step: int) -> tuple[slice, ...]:
    """Return overlapping spans of length ``side`` that together cover ``start`` .. ``stop`` and nothing else."""
    last = max(start, stop - side)
    return tuple(slice(first, min(first + side, stop)) for first in [*range(start, last, step), last])


def _groups(patches: tuple[tuple[slice, slice], ...], size: int) -> Iterator[tuple[tuple[slice, slice], ...]]:
    for first in range(0, len(patches), size):
        yield patches[first : first + size]


def _cover(pixels: ByteArray, patches: tuple[tuple[slice, slice], ...], fill: ByteArray) -> ByteArray:
    """Return one copy of the image per patch, shape (patches, size, size, channels), with that patch filled."""
    copies = np.repeat(pixels[np.newaxis], len(patches), axis=0)
    for copy, (row, column) in zip(copies, patches, strict=True):
        copy[row, column] = fill
    return copies


def _small_changes(score: float, largest: float, quantity: Quantity) -> tuple[str, ...]:
    """Say when the score could hardly move."""
    if quantity != "probability" or not 0 < largest < NEGLIGIBLE_DROP:
        return ()
    saturated = f" The score is saturated ({score:.4f}), so that small losses hardly move it." if score > SATURATED_SCORE else ""
    return (
        f"No single patch changes the score by more than {largest:.2g}: the evidence is spread or redundant, "
        f"and the map enlarges small differences.{saturated}",
    )
