"""Gradients along the way from something else to the image, and around the image: what saturates a single gradient does not
hide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from vitrail.explanation.explainer import Cost, ExplainableModel, Question, Relevance, Want
from vitrail.explanation.gradients import Gradient, grey_level_slope, value_and_gradient
from vitrail.explanation.passes import gradient_refusal, network_of
from vitrail.explanation.perturbing import blurred_inside, inside, median_inside
from vitrail.preprocess import normalise
from vitrail.records import ByteArray, FloatArray, Placement, Recipe

if TYPE_CHECKING:
    from vitrail.explanation.graph import NetworkGraph

BLURS = (1 / 64, 1 / 32, 1 / 16, 1 / 8)
"""Widths of the blurred versions of an image that stand in for other images, as shares of its side."""

Precise = npt.NDArray[np.float64]


class _OfGradients:
    """What the methods of many gradients have in common."""

    needs: ClassVar[str] = Gradient.needs
    wants: ClassVar[frozenset[Want]] = frozenset()

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return gradient_refusal(model)


@dataclass(frozen=True)
class IntegratedGradients(_OfGradients):
    """Integrated gradients (Sundararajan et al., ICML 2017): the gradient, averaged on the straight way from a baseline to the
    image.

    ``(x - b) int_0^1 d y(b + t (x - b)) / d x dt``, summed over the channels; x and b are scaled as the network's input. The map
    adds up to ``y(x) - y(b)`` (completeness): the number of steps (Clenshaw-Curtis) is doubled until it does, to ``tolerance``,
    and a warning says where it does not. The baseline decides what can be seen: black pixels get nothing from a black one.

    Attributes:
        baseline: ``black``; ``blur``: the image, blurred to an eighth of the input's side; ``median``: the image's median per
            channel. Padding stays as it is.
        steps: Gradients per image at first.
        most_steps: Gradients per image at most, in the last attempt.
        tolerance: How far the sum of the map may be from the difference of what is explained, as a share of it.
    """

    baseline: Literal["black", "blur", "median"] = "black"
    steps: int = 16
    most_steps: int = 128
    tolerance: float = 0.01

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - the model does not matter
        """See :class:`~vitrail.explanation.explainer.Explainer`. More where the first steps are too few."""
        return Cost(forward=self.steps + 3.0, backward=self.steps + 3.0)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        graph = _graph(model)
        found = [self._of_image(graph, question, image) for image in range(len(question))]
        return Relevance(
            maps=np.stack([one.map for one in found]),
            warnings=tuple(self._warnings(one) for one in found),
            details={"baseline": self.baseline, "rule": "Clenshaw-Curtis"},
            details_of=tuple({"steps": one.steps, "completeness_error": one.error} for one in found),
            forward_passes=float(np.mean([one.passes for one in found])),
            backward_passes=float(np.mean([one.passes for one in found])),
        )

    def _of_image(self, graph: NetworkGraph, question: Question, image: int) -> _Integrated:
        pixels = question.pixels[image]
        inputs = normalise(pixels[None], graph.parts.recipe)[0].astype(np.float64)
        placement = question.placements[image]
        baseline = _framed(_baseline(pixels, placement, self.baseline), inputs, placement, graph.parts.recipe)
        target = int(question.targets[image])
        (of_image, _), (of_baseline, _) = _each(graph, question, target, iter((inputs, baseline)))
        difference = of_image - of_baseline
        found: dict[float, Precise] = {}  # place on the way -> (x - b) times gradient, summed over the channels
        steps = self.steps
        while True:
            places, weights = clenshaw_curtis(steps)
            new = [place for place in places if place not in found]
            points = (baseline + place * (inputs - baseline) for place in new)
            for place, (_, gradient) in zip(new, _each(graph, question, target, points), strict=True):
                found[place] = ((inputs - baseline) * gradient).sum(axis=0)
            values = np.sum([weight * found[place] for place, weight in zip(places, weights, strict=True)], axis=0)
            error = abs(float(values.sum()) - difference) / max(abs(difference), _SMALL_DIFFERENCE)
            if error <= self.tolerance or 2 * steps > self.most_steps:
                break
            steps *= 2
        return _Integrated(values.astype(np.float32), steps, error, difference, len(found) + 2)

    def _warnings(self, found: _Integrated) -> tuple[str, ...]:
        warnings = []
        if found.error > self.tolerance:
            warnings.append(
                f"With {found.steps} steps the map still adds up to {100 * found.error:.2g} % more or less than it must "
                f"({found.difference:.3g}, the difference between image and baseline): take small differences in it for noise."
            )
        return tuple(warnings)


_SMALL_DIFFERENCE = 1e-3
"""A difference smaller than this counts as this when the error is said as a share of it."""


@dataclass(frozen=True)
class _Integrated:
    map: FloatArray
    steps: int
    error: float
    difference: float
    passes: int


@dataclass(frozen=True)
class ExpectedGradients(_OfGradients):
    """Expected gradients (Erion et al., Nature Machine Intelligence 2021): integrated gradients, averaged over baselines from
    the data.

    ``E [(x - b) d y(b + t (x - b)) / d x]`` over images b of the data set and t uniform in 0..1, summed over the channels. The
    map adds up to ``y(x) - E y(b)``, up to its standard error. Where no images are given, blurred versions of the image stand in
    for them, which a warning says: what is then explained is the detail.

    Attributes:
        samples: Gradients per image.
    """

    samples: int = 96

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - the model does not matter
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return Cost(forward=float(self.samples), backward=float(self.samples))

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        graph = _graph(model)
        maps, errors = zip(*(self._of_image(graph, question, image) for image in range(len(question))), strict=True)
        given = 0 if question.background is None else len(question.background)
        warning = (
            "No images to compare with were given: blurred versions of the image itself stand in for them, so the map shows what "
            "its detail adds."
        )
        return Relevance(
            maps=np.stack(maps),
            warnings=(() if given else (warning,),) * len(question),
            details={"samples": self.samples, "baselines": f"{given} images" if given else f"{len(BLURS)} blurred versions"},
            forward_passes=float(self.samples),
            backward_passes=float(self.samples),
            standard_errors=np.stack(errors),
        )

    def _of_image(self, graph: NetworkGraph, question: Question, image: int) -> tuple[FloatArray, FloatArray]:
        pixels, placement, random = question.pixels[image], question.placements[image], question.generator(image)
        others = question.background
        if others is None or not len(others):
            others = np.stack([blurred_inside(pixels, placement, width * len(pixels)) for width in BLURS])
        inputs = normalise(pixels[None], graph.parts.recipe)[0].astype(np.float64)
        picked = random.integers(len(others), size=self.samples)
        shares = random.uniform(size=self.samples)

        def baselines() -> Iterator[Precise]:  # scaled one by one: all of them together would fill much memory
            return (_framed(others[number], inputs, placement, graph.parts.recipe) for number in picked)

        points = (baseline + share * (inputs - baseline) for baseline, share in zip(baselines(), shares, strict=True))
        mean = _Mean()
        gradients = _each(graph, question, int(question.targets[image]), points)
        for baseline, (_, gradient) in zip(baselines(), gradients, strict=True):
            mean.add(((inputs - baseline) * gradient).sum(axis=0))
        return mean.value, mean.standard_error


@dataclass(frozen=True)
class SmoothGrad(_OfGradients):
    """SmoothGrad (Smilkov et al., arXiv:1706.03825): the gradient, averaged over noisy copies of the image.

    ``mean_k d y(x + e_k) / d x``, ``e ~ N(0, s^2)``, summed over the channels, per grey level as in ``gradient``; s is a share
    of the range of the network's input. It shows where the gradient is stable around the image, and is no closer to the model
    than that.

    Attributes:
        samples: Noisy copies.
        noise: s, as a share of the range.
    """

    samples: int = 32
    noise: float = 0.15

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - the model does not matter
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return Cost(forward=float(self.samples), backward=float(self.samples))

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        graph = _graph(model)
        maps, errors = zip(*(self._of_image(graph, question, image) for image in range(len(question))), strict=True)
        return Relevance(
            maps=np.stack(maps),
            warnings=((),) * len(question),
            details={"samples": self.samples, "noise": self.noise},
            forward_passes=float(self.samples),
            backward_passes=float(self.samples),
            standard_errors=np.stack(errors),
        )

    def _of_image(self, graph: NetworkGraph, question: Question, image: int) -> tuple[FloatArray, FloatArray]:
        pixels, random = question.pixels[image : image + 1], question.generator(image)
        inputs = normalise(pixels, graph.parts.recipe)[0].astype(np.float64)
        slope = grey_level_slope(pixels, graph.parts.recipe)[0]
        width = self.noise * float(np.ptp(inputs))
        points = (inputs + random.normal(scale=width, size=inputs.shape) for _ in range(self.samples))
        mean = _Mean()
        for _, gradient in _each(graph, question, int(question.targets[image]), points):
            mean.add((gradient * slope).sum(axis=0))
        return mean.value, mean.standard_error


# ---------------------------------------------------------------------------------------------------- parts


def clenshaw_curtis(steps: int) -> tuple[list[float], list[float]]:
    """Return places in 0..1 and weights, ``steps + 1`` each, of the rule of Clenshaw and Curtis (1960).

    On smooth ways it is about as exact as that of Gauss (Trefethen, SIAM Review 2008), and twice as many steps keep every place:
    what was computed is used again.

    Args:
        steps: 1 (the trapezoid), or an even number.
    """
    if steps == 1:
        return [0.0, 1.0], [0.5, 0.5]
    turns = np.arange(steps + 1) / steps
    # The integral of the k-th cosine of the interpolation over -1..1 is 2 / (1 - k^2) for even k, else 0.
    even = np.arange(0, steps + 1, 2)
    scale = np.where((even == 0) | (even == steps), 0.5, 1.0) * 2.0 / (1.0 - even**2)
    weights = (2.0 / steps) * np.cos(np.pi * np.outer(turns, even)) @ scale
    weights[[0, -1]] /= 2
    places = np.round((1 - np.cos(np.pi * turns)) / 2, 15)  # rounded, so that the same place is the same number
    return places.tolist(), (weights / 2).tolist()


class _Mean:
    """The mean of maps that come one after another, and its standard error (Welford 1962)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Precise = np.zeros(())
        self._squares: Precise = np.zeros(())

    def add(self, values: Precise) -> None:
        """Take one more."""
        self._count += 1
        distance = values - self._mean
        self._mean = self._mean + distance / self._count
        self._squares = self._squares + distance * (values - self._mean)

    @property
    def value(self) -> FloatArray:
        """The mean, float32."""
        return self._mean.astype(np.float32)

    @property
    def standard_error(self) -> FloatArray:
        """Of the mean, float32; of a single map it is zero, as nothing is known of it."""
        variance = self._squares / max(self._count - 1, 1)
        return np.asarray(np.sqrt(variance / self._count), dtype=np.float32)


def _graph(model: ExplainableModel) -> NetworkGraph:
    from vitrail.explanation.graph import network_graph

    return network_graph(network_of(model))


def _gradients(graph: NetworkGraph, question: Question, target: int, inputs: Precise) -> tuple[Precise, Precise]:
    """Return what is explained and its gradient at some scaled inputs (n, channels, size, size)."""
    import torch

    tensor = torch.from_numpy(inputs.astype(np.float32))
    value, gradient = value_and_gradient(graph, tensor, np.full(len(inputs), target), question)
    return value.double().numpy(), gradient.double().numpy()


def _each(graph: NetworkGraph, question: Question, target: int, points: Iterator[Precise]) -> Iterator[tuple[float, Precise]]:
    """Yield value and gradient at every point, computed a few at a time."""
    batch: list[Precise] = []

    def answers() -> Iterator[tuple[float, Precise]]:
        values, gradients = _gradients(graph, question, target, np.stack(batch))
        yield from zip(values.tolist(), gradients, strict=True)

    for point in points:
        batch.append(point)
        if len(batch) == graph.images_per_pass:
            yield from answers()
            batch = []
    if batch:
        yield from answers()


def _baseline(pixels: ByteArray, placement: Placement, kind: str) -> ByteArray:
    """Return the image to compare with, uint8 (size, size, channels)."""
    if kind == "black":
        return np.zeros_like(pixels)
    return median_inside(pixels, placement) if kind == "median" else blurred_inside(pixels, placement, len(pixels) / 8)


def _framed(baseline: ByteArray, inputs: Precise, placement: Placement, recipe: Recipe) -> Precise:
    """Return the scaled baseline (channels, size, size) with the image's own padding.

    So nothing changes in the padding on the way, nothing is given to it, and what is cut away with it takes nothing from the sum.
    """
    scaled = normalise(baseline[None], recipe)[0].astype(np.float64)
    rows, columns = inside(placement)
    answer = inputs.copy()
    answer[:, rows, columns] = scaled[:, rows, columns]
    return answer
