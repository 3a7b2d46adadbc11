"""A package as one model that answers, whatever it is made of: what methods that ask for nothing but scores can be asked of.

An ensemble's members prepare an image each in its own way. What they are given lies in layers one behind the other, at the size
of the largest, so that whoever covers a place covers it for all; each member is then asked of its own layer, at its own size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from vitrail.decision import Decision
from vitrail.errors import UsageError
from vitrail.explanation.explainer import ExplainableModel, Explainer, Pooling, Scores
from vitrail.records import ByteArray, FloatArray, IntArray, Placement, Recipe

FRAME = ("crop_margins", "keep_aspect")
"""Settings of a recipe that decide which part of an image the model sees, and in which shape."""


class ExplainablePart(ExplainableModel, Protocol):
    """A single model of a package."""

    @property
    def views(self) -> Sequence[object]:
        """The views of an image over which its scores are averaged."""
        ...

    @property
    def plain(self) -> ExplainablePart:
        """The same model, asked of the image itself alone."""
        ...

    def prepare(self, image: str | Path) -> tuple[ByteArray, Placement]:
        """Return the model's input for one image file and where it lies in the original."""
        ...


class ExplainablePackage(Protocol):
    """A loaded package, as explanations see it: models with weights that sum to 1."""

    @property
    def name(self) -> str:
        """The model's name in its study."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of its ``hashes.json``; empty where it is in no folder."""
        ...

    @property
    def folder(self) -> Path | None:
        """Where it was loaded from; ``None``: nowhere."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the scores."""
        ...

    @property
    def decision(self) -> Decision | None:
        """How scores become a class; ``None``: the highest score."""
        ...

    def scores_of(self, image: str | Path) -> npt.NDArray[np.float64]:
        """Return the scores of one image file, shape (classes,)."""
        ...

    @property
    def parts(self) -> tuple[tuple[float, ExplainablePart], ...]:
        """The single models, and how much the scores of each count."""
        ...


@dataclass(frozen=True)
class LayeredRecipe(Recipe):
    """The recipes of several models that see the same part of an image: their pixels one behind the other, at one size.

    Attributes:
        layers: Channels of all of them together.
    """

    layers: int = 1

    @property
    def channels(self) -> int:
        """Of all layers together."""
        return self.layers


@dataclass(frozen=True, eq=False)
class _Layer:
    """The pixels of one recipe among those of others.

    Attributes:
        maker: A member that prepares them.
        first: The first of their channels.
        stop: One past the last.
        repeats: How often their channels stand one behind the other: a grey picture in front of others three times, so that the
            first three channels are a picture (:func:`picture_of`).
        enlarged: Which of their rows (and columns) every row at the common size repeats, shape (size,).
        picked: Which row at the common size every one of theirs is read from, shape (their own size,).
    """

    maker: ExplainablePart
    first: int
    stop: int
    repeats: int
    enlarged: IntArray
    picked: IntArray


class CombinedModel:
    """Several models that see the same part of an image, as one: its scores are the weighted mean of theirs.

    It has nothing but scores: whatever looks into a network looks into one member alone. Pixels are repeated to the common size,
    never mixed, and each member's own are read back from there: an unchanged image has exactly the scores that the members give.
    (Where images are padded, the common frame of the padding is right to one pixel of the smallest member.)

    Args:
        name: Of the whole.
        parts: Weights that sum to 1, and models.
        fingerprint: Of the package.

    Raises:
        UsageError: The models see different parts of an image.
    """

    pooling: Pooling = "none"
    network = None

    def __init__(self, name: str, parts: Sequence[tuple[float, ExplainablePart]], fingerprint: str = "") -> None:
        frames = {part.name: tuple(getattr(part.recipe, key) for key in FRAME) for _, part in parts}
        if len(set(frames.values())) > 1:
            told = "; ".join(f"{one}: {_words(frame)}" for one, frame in frames.items())
            raise UsageError(
                f"{name}: its members see different parts of an image ({told}), so that no place can be changed for all of them "
                f"at once. Give them the same preprocess.{FRAME[0]} and preprocess.{FRAME[1]}."
            )
        self.name = name
        self.fingerprint = fingerprint
        self.parts = tuple(parts)
        self._layers, self._seen = _layers([part for _, part in parts])

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the scores."""
        return self.parts[0][1].classes

    @cached_property
    def recipe(self) -> Recipe:
        """The common size and all channels; how the image is made ready is each member's own."""
        first = self._largest.recipe
        values = {field.name: getattr(first, field.name) for field in fields(Recipe)}
        return LayeredRecipe(**values, layers=self._layers[-1].stop)

    @property
    def views(self) -> tuple[object, ...]:
        """The views over which the scores of the member with most of them are averaged."""
        return max((tuple(part.views) for _, part in self.parts), key=len)

    @cached_property
    def plain(self) -> CombinedModel:
        """The same, every member asked of the image itself alone."""
        if len(self.views) == 1:
            return self
        return CombinedModel(self.name, [(weight, part.plain) for weight, part in self.parts], self.fingerprint)

    def prepare(self, image: str | Path) -> tuple[ByteArray, Placement]:
        """Return the inputs of all members for one image file, and where that of the largest lies in the original."""
        placements: dict[int, Placement] = {}
        found = []
        for layer in self._layers:
            pixels, placements[len(layer.picked)] = layer.maker.prepare(image)
            found += layer.repeats * [pixels[layer.enlarged][:, layer.enlarged]]
        return np.concatenate(found, axis=-1), placements[max(placements)]

    def scores(self, pixels: ByteArray) -> Scores:
        """See :class:`~vitrail.explanation.explainer.ExplainableModel`."""
        own = [self._own(pixels, layer) for layer in self._layers]
        answers = [weight * part.scores(own[layer]) for (weight, part), layer in zip(self.parts, self._seen, strict=True)]
        return np.asarray(np.sum(answers, axis=0), dtype=np.float64)

    def embed_with_maps(self, pixels: ByteArray) -> tuple[FloatArray, FloatArray] | None:  # noqa: ARG002 - it has none
        """See :class:`~vitrail.explanation.explainer.ExplainableModel`."""
        return None

    def embedding_gradient(self, embedding: FloatArray, target: int) -> FloatArray:  # noqa: ARG002 - it has none
        """See :class:`~vitrail.explanation.explainer.ExplainableModel`.

        Raises:
            UsageError: Always.
        """
        raise UsageError(f"{self.name}: several models together have no gradient. Use occlusion.")

    @property
    def _largest(self) -> ExplainablePart:
        return max((layer.maker for layer in self._layers), key=lambda part: part.recipe.size)

    @staticmethod
    def _own(pixels: ByteArray, layer: _Layer) -> ByteArray:
        """Return what one layer's members are given, of pixels (n, size, size, channels)."""
        chosen = pixels[..., layer.first : layer.first + (layer.stop - layer.first) // layer.repeats]
        if len(layer.picked) < pixels.shape[1]:
            chosen = chosen[:, layer.picked][:, :, layer.picked]
        return np.ascontiguousarray(chosen)


def model_of(package: ExplainablePackage) -> ExplainablePart:
    """Return a package as one model that can be explained, with its views.

    Raises:
        UsageError: It is of several models that see different parts of an image.
    """
    if len(package.parts) == 1:
        return package.parts[0][1]
    return CombinedModel(package.name, package.parts, package.fingerprint)


def members_in_words(parts: Sequence[tuple[float, ExplainablePart]]) -> str:
    """Return the names and weights of several models."""
    return ", ".join(f"{part.name} {weight:.2f}" for weight, part in parts)


def why_not(explainer: Explainer, model: ExplainableModel) -> str:
    """Return why a method is not defined for a model, in a sentence; empty: it is. The one way to ask a method."""
    reason = explainer.refusal(model)
    if reason and isinstance(model, CombinedModel):
        return (
            f"{model.name} averages {len(model.parts)} models: what goes on inside one of them is not what goes on in all. Only "
            "methods that ask for nothing but scores see the whole."
        )
    return reason


def _layers(parts: Sequence[ExplainablePart]) -> tuple[tuple[_Layer, ...], tuple[int, ...]]:
    """Return the layers, colours first and large before small, for what is shown of them is shown of the first; and which of them
    each model sees: models whose recipes give the same pixels share one.
    """
    keys = [part.recipe.pixels_fingerprint for part in parts]
    makers = dict(zip(reversed(keys), reversed(parts), strict=True))
    order = sorted(makers, key=lambda key: (-makers[key].recipe.channels, -makers[key].recipe.size, key))
    size = max(part.recipe.size for part in parts)
    rows = np.arange(size)
    layers: list[_Layer] = []
    for key in order:
        recipe, first = makers[key].recipe, layers[-1].stop if layers else 0
        repeats = 3 // recipe.channels if len(order) > 1 and not layers else 1
        # In whole numbers: the middle one of the rows that repeat a row is where it is read back from.
        enlarged = (2 * rows + 1) * recipe.size // (2 * size)
        picked = (2 * np.arange(recipe.size) + 1) * size // (2 * recipe.size)
        layers.append(_Layer(makers[key], first, first + repeats * recipe.channels, repeats, enlarged, picked))
    return tuple(layers), tuple(order.index(key) for key in keys)


def _words(frame: tuple[bool, ...]) -> str:
    return ", ".join(f"{key} {str(value).lower()}" for key, value in zip(FRAME, frame, strict=True))
