"""Occlusion: cover a part of the image and see what becomes of the score. Works with any model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from vitrail.explanation.explainer import ExplainableModel, Question, Relevance
from vitrail.records import ByteArray

SATURATED_SCORE = 0.999
NEGLIGIBLE_DROP = 0.01
VISIBLE_FILL = 0.2  # of the full range of grey levels


@dataclass(frozen=True)
class Occlusion:
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
        batch: Covered images handed to the model at a time.
    """

    patch: float = 1 / 8
    stride: float = 1 / 2
    batch: int = 64

    needs: ClassVar[str] = "nothing but scores"

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance | None:
        """See :class:`~vitrail.explanation.explainer.Explainer`. Applies to every model."""
        pixels, placement = question.pixels, question.placement
        image = pixels[placement.inner_top : placement.inner_bottom, placement.inner_left : placement.inner_right]
        fill = np.rint(np.median(image, axis=(0, 1))).astype(np.uint8)
        side = max(1, round(self.patch * len(pixels)))
        step = max(1, min(side, round(self.stride * side)))
        rows = _spans(placement.inner_top, placement.inner_bottom, side=side, step=step)
        columns = _spans(placement.inner_left, placement.inner_right, side=side, step=step)
        patches = tuple(product(rows, columns))

        total = np.zeros(pixels.shape[:2])
        covered = np.zeros(pixels.shape[:2])
        largest = 0.0
        for group in _groups(patches, self.batch):
            drops = question.score - model.scores(_cover(pixels, group, fill))[:, question.target]
            for (row, column), drop in zip(group, drops, strict=True):
                total[row, column] += drop
                covered[row, column] += 1
            largest = max(largest, float(np.abs(drops).max()))
        return Relevance(
            map=(total / np.maximum(covered, 1)).astype(np.float32),
            warnings=_warnings(image, fill, score=question.score, largest=largest),
            details={
                "patch": side,
                "stride": step,
                "fill": [int(value) for value in fill],
                "model_runs": len(patches),
                "largest_change": largest,
            },
        )


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


def _warnings(image: npt.NDArray[np.uint8], fill: ByteArray, *, score: float, largest: float) -> tuple[str, ...]:
    """Say when the patches were a stimulus of their own, and when the score could hardly move."""
    warnings = []
    contrast = float(np.abs(image.astype(np.int16) - fill).mean())
    if contrast > VISIBLE_FILL * 255:
        warnings.append(
            f"The patches stand out: their fill differs from the image by {contrast:.0f} of 255 grey levels on average. "
            "Part of the effect may come from the edges of the patch."
        )
    if 0 < largest < NEGLIGIBLE_DROP:
        saturated = (
            f" The score is saturated ({score:.4f}), so that small losses hardly move it." if score > SATURATED_SCORE else ""
        )
        warnings.append(
            f"No single patch changes the score by more than {largest:.2g}: the evidence is spread or redundant, "
            f"and the map enlarges small differences.{saturated}"
        )
    return tuple(warnings)
