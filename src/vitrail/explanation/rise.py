"""RISE: show random parts of an image and see which pixels were shown when the score was high. Works with any model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitrail.engine import one_thread_per_product
from vitrail.explanation.explainer import Cost, ExplainableModel, Question, Relevance
from vitrail.explanation.perturbing import (
    SuitsEveryModel,
    batch_size,
    fill_warnings,
    inside,
    median_fill,
    quantity_asked,
    quantity_of,
)
from vitrail.records import ByteArray, FloatArray, Quantity

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Rise(SuitsEveryModel):
    """RISE (Petsiuk et al., BMVC 2018): how much higher the score is, over random masks, where a pixel is shown.

    The paper's map is ``E[f(I * M) M(x)] / E[M(x)]``, f the score, M a smooth random mask with a mean of 1/2. Here its mean level
    ``E[f]`` is taken off, a constant that tells nothing about places: positive is where showing the pixel raises the score.
    The unit is the score. Masks are asked in pairs M and 1 - M, so that this level cancels in every pair instead of in the mean
    of many; the standard error of every pixel is that over pairs. What is hidden fades to the median of the image (the paper: to
    black), and padding stays as it is.

    Masks are drawn until the map is precise enough or there are ``most`` of them. A pixel's value is about its surroundings of
    about a cell; a small finding is smeared over that. What happens only where two distant parts are shown together is
    not told apart from what either does.

    Attributes:
        cells: Cells of the random grid along the longer side of the image.
        fewest: Masks asked before precision is looked at.
        most: Masks asked at most.
        reliability: It is enough when this share of the map's variance over its pixels is not noise: an estimate of the
            correlation with a second map of other masks. 1: always ask ``most``.
        quantity: What is measured; ``None``: the score, or the contrast where that is asked.
    """

    cells: int = 7
    fewest: int = 256
    most: int = 4000
    reliability: float = 0.9
    quantity: Quantity | None = None

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - the same for all
        """See :class:`~vitrail.explanation.explainer.Explainer`: the most it may be."""
        return Cost(forward=self.most)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        quantity = quantity_asked(self.quantity, question)
        maps = np.zeros(question.pixels.shape[:3], dtype=np.float32)
        errors = np.zeros_like(maps)
        warnings, details, asked = [], [], 0
        for number, pixels in enumerate(question.pixels):
            rows, columns = inside(question.placements[number])
            image = pixels[rows, columns]
            fill = median_fill(image)
            with one_thread_per_product():  # beside the threads of the model, those of small products only wait
                found = self._ask(model, question, number, fill, quantity)
            maps[number, rows, columns] = found.mean
            errors[number, rows, columns] = found.standard_error
            asked += 2 * found.pairs
            warnings.append((*fill_warnings(image, fill, what="Hidden parts"), *self._noise(found)))
            details.append({"fill": fill.tolist(), "masks": 2 * found.pairs, "reliability": round(found.reliability, 3)})
        return Relevance(
            maps=maps,
            warnings=tuple(warnings),
            details={"cells": self.cells, "most_masks": self.most, "aim_of_reliability": self.reliability, "shown": 0.5},
            details_of=tuple(details),
            quantity=quantity,
            forward_passes=asked / max(1, len(question)),
            standard_errors=errors,
        )

    def _ask(self, model: ExplainableModel, question: Question, number: int, fill: ByteArray, quantity: Quantity) -> RunningMap:
        """Show masked copies of one image until its map is precise enough."""
        pixels, target = question.pixels[number], int(question.targets[number])
        rows, columns = inside(question.placements[number])
        height, width = rows.stop - rows.start, columns.stop - columns.start
        cell = max(1, -(-max(height, width) // self.cells))
        generator = question.generator(number)
        found = RunningMap(0, np.zeros((height, width)), np.zeros((height, width)))
        for pairs in _chunks(max(2, self.most // 2), max(1, batch_size(pixels) // 2)):
            masks = smooth_masks(generator, pairs, height=height, width=width, cell=cell, channels=pixels.shape[2])
            answers = quantity_of(model.scores(_masked(pixels, masks, fill, rows, columns)), target, quantity)
            found.add(masks[..., :: pixels.shape[2]], answers[:pairs] - answers[pairs:])
            if max(4, self.fewest) <= 2 * found.pairs and self.reliability < 1 and found.reliability >= self.reliability:
                break
        return found

    def _noise(self, found: RunningMap) -> tuple[str, ...]:
        """Say when the map is noisier than was asked for."""
        if self.reliability >= 1 or found.reliability >= self.reliability:
            return ()
        return (
            f"After {2 * found.pairs} masks, {1 - found.reliability:.0%} of the map's variance is still noise of the random "
            f"masks (aim: {1 - self.reliability:.0%}). Look at the standard error before you read anything into it.",
        )


@dataclass
class RunningMap:
    """Mean and standard error per pixel of the independent maps of pairs of masks, added chunk by chunk.

    A pair is a mask M (0..1, on average 1/2) and its complement 1 - M, with answers f and f'. RISE weights every mask by its
    answer and divides by the mean mask; of a pair that is ``f M + f' (1 - M) = (f + f') / 2 + (f - f') (M - 1/2)``. The first
    term is the same at every pixel, so only the second is kept.

    Attributes:
        pairs: Number of pairs added.
        total: Sum of ``(f - f') (M - 1/2)``, shape (h, w).
        squares: Sum of its squares.
    """

    pairs: int
    total: Values
    squares: Values

    def add(self, masks: FloatArray, difference: Values) -> None:
        """Add pairs: masks (n, h, w) and what each mask's answer has more than its complement's (n,)."""
        centred = masks.astype(np.float64).reshape(len(masks), -1) - 0.5
        self.pairs += len(masks)
        self.total += (difference @ centred).reshape(self.total.shape)
        self.squares += (difference**2 @ centred**2).reshape(self.total.shape)

    @property
    def mean(self) -> Values:
        """The map so far."""
        return self.total / self.pairs

    @property
    def standard_error(self) -> Values:
        """Of every pixel of the mean; needs two pairs."""
        variance = np.maximum(self.squares - self.total**2 / self.pairs, 0.0) / (self.pairs - 1)
        return np.asarray(np.sqrt(variance / self.pairs))

    @property
    def reliability(self) -> float:
        """Share of the map's variance over its pixels that is not noise: 1 minus mean squared standard error / variance.

        It estimates the correlation of two such maps of independent masks. 0 where there is more noise than map.
        """
        spread = float(self.mean.var())
        noise = float((self.standard_error**2).mean())
        return max(0.0, 1.0 - noise / spread) if spread > 0 else float(noise == 0)


def _chunks(total: int, size: int) -> Iterator[int]:
    for start in range(0, total, size):
        yield min(size, total - start)


def _masked(pixels: ByteArray, masks: FloatArray, fill: ByteArray, rows: slice, columns: slice) -> ByteArray:
    """Return copies of an image, first those masked with M, then those with 1 - M; shape (2 masks, height, width, channels).

    ``masks``: shape (masks, rows, columns * channels).
    """
    image = pixels[rows, columns]
    whole = image.reshape(len(image), -1).astype(np.float32)
    hidden = np.tile(fill, image.shape[1]).astype(np.float32)
    shown = masks * (whole - hidden)
    mixed = np.empty((2 * len(masks), *whole.shape), dtype=np.uint8)
    np.add(shown, hidden + 0.5, out=mixed[: len(masks)], casting="unsafe")  # cut off above a half more: rounded
    np.subtract(whole + 0.5, shown, out=mixed[len(masks) :], casting="unsafe")
    copies = np.repeat(pixels[np.newaxis], 2 * len(masks), axis=0)
    copies[:, rows, columns] = mixed.reshape(2 * len(masks), *image.shape)
    return copies


def smooth_masks(
    generator: np.random.Generator, count: int, *, height: int, width: int, cell: int, channels: int = 1
) -> FloatArray:
    """Draw smooth random masks: a coin for every node of a grid, the grid shifted by chance, bilinear in between.

    Args:
        generator: Source of chance.
        count: Number of masks.
        height: Rows.
        width: Columns.
        cell: Distance of the nodes in pixels. The grid is shifted by 0 to cell - 1 pixels in either direction, and reaches
            beyond the image on all sides, so that all pixels are treated alike.
        channels: How often each value is repeated along a row: a row of an image with all its channels is then one stretch,
            over which numpy is fast.

    Returns:
        float32, shape (count, height, width * channels), 0..1, on average 1/2 at every pixel.
    """
    rows, columns = -(-height // cell) + 2, -(-width // cell) + 2
    nodes = generator.integers(0, 2, (count, rows, columns)).astype(np.float32)
    shifts = generator.integers(0, cell, (count, 2))
    down = _interpolation(shifts[:, 0], height, rows, cell)
    across = np.repeat(_interpolation(shifts[:, 1], width, columns, cell), channels, axis=1)
    return np.asarray(down @ (nodes @ across.transpose(0, 2, 1)), dtype=np.float32)


def _interpolation(shifts: npt.NDArray[np.int64], pixels: int, nodes: int, cell: int) -> FloatArray:
    """Return the weights (shifts, pixels, nodes) of linear interpolation between nodes; rows sum to 1."""
    positions = (np.arange(pixels) + shifts[:, np.newaxis]) / cell
    return np.maximum(0.0, 1.0 - np.abs(positions[..., np.newaxis] - np.arange(nodes))).astype(np.float32)
