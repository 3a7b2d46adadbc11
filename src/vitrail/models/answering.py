"""What every package offers, whatever it is made of: scores for image files.

A package is a list of single models, each with a weight; its scores are the weighted mean of theirs. Most packages are a list of
one.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vitrail.decision import Decision, decide
from vitrail.engine import map_in_order
from vitrail.errors import DataError
from vitrail.models.embedders import BATCH
from vitrail.models.heads import Scores
from vitrail.preprocess import prepare_file_for_all
from vitrail.progress import SILENT, Progress
from vitrail.records import ByteArray, Recipe

if TYPE_CHECKING:
    from vitrail.models.package import ModelPackage


@dataclass(frozen=True)
class ImagePrediction:
    """What the model says of one image; ``error`` is set and the rest empty where it could not be read.

    Attributes:
        image: As it was given; empty where its bytes were.
        predicted: The class that the package's decision takes: that with the highest score, or the one a threshold says.
        probabilities: Class name -> score; they sum to 1.
        error: Why there is no prediction.
    """

    image: str
    predicted: str
    probabilities: dict[str, float]
    error: str = ""


class WeightedModel(NamedTuple):
    """A single model in a package, and how much its scores count; the weights of a package sum to 1."""

    weight: float
    model: ModelPackage


def weighted_mean(parts: Iterable[tuple[float, Scores]]) -> Scores:
    """Return the weighted mean of scores, each of shape (n, classes); weights sum to 1. Added up in the order given."""
    return np.asarray(np.sum([weight * scores for weight, scores in parts], axis=0), dtype=np.float64)


class Package(abc.ABC):
    """A package, ready to answer. Get one with :func:`vitrail.load_package`.

    Attributes:
        fingerprint: SHA-256 of its ``hashes.json``; empty where it is in no folder.
        folder: Where it was loaded from: what was found out about it later, such as its grades, lies beside. ``None``: nowhere.
    """

    fingerprint: str
    folder: Path | None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, classes={list(self.classes)})"

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The model's name in its study."""

    @property
    @abc.abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the scores."""

    @property
    @abc.abstractmethod
    def decision(self) -> Decision | None:
        """How scores become a class; ``None``: the highest score."""

    @property
    @abc.abstractmethod
    def parts(self) -> tuple[WeightedModel, ...]:
        """The single models that it is made of."""

    def predict(
        self, images: str | Path | bytes | Sequence[str | Path | bytes], *, progress: Progress = SILENT
    ) -> list[ImagePrediction]:
        """Score images.

        Args:
            images: Path of an image file, or its bytes; one or several.
            progress: Told of every image.

        Returns:
            One answer per image, in their order; an unreadable one gets an ``error``, the others their scores.
        """
        given = [images] if isinstance(images, str | Path | bytes) else list(images)
        answers: list[ImagePrediction] = []
        with progress.task(f"{self.name}: scoring", len(given)) as advance:
            for start in range(0, len(given), BATCH):
                batch = given[start : start + BATCH]
                answers += self._predict_batch(batch)
                advance(len(batch))
        return answers

    def scores_of(self, image: str | Path | bytes) -> Scores:
        """Return the scores of one image, shape (classes,).

        Raises:
            DataError: It is no readable image.
        """
        return np.asarray(self._scores([self._inputs(image)])[0])

    def _predict_batch(self, images: Sequence[str | Path | bytes]) -> list[ImagePrediction]:
        prepared = list(map_in_order(self._inputs_or_reason, images))
        readable = [inputs for inputs in prepared if not isinstance(inputs, str)]
        of_readable = self._scores(readable) if readable else np.empty((0, len(self.classes)))
        scores = zip(of_readable, decide(of_readable, self.classes, self.decision), strict=True)
        answers = []
        for given, inputs in zip(images, prepared, strict=True):
            image = "" if isinstance(given, bytes) else str(given)
            if isinstance(inputs, str):
                answers.append(ImagePrediction(image, "", {}, inputs))
                continue
            of_image, predicted = next(scores)
            probabilities = {name: float(score) for name, score in zip(self.classes, of_image, strict=True)}
            answers.append(ImagePrediction(image, self.classes[predicted], probabilities))
        return answers

    def _scores(self, images: list[dict[Recipe, ByteArray]]) -> Scores:
        return weighted_mean(
            (part.weight, part.model.scores(np.stack([inputs[part.model.recipe] for inputs in images]))) for part in self.parts
        )

    def _inputs(self, image: str | Path | bytes) -> dict[Recipe, ByteArray]:
        """Prepare an image for every model in the package; models that see it alike share the work."""
        source = image if isinstance(image, bytes) else Path(image)
        return prepare_file_for_all(source, {part.model.recipe for part in self.parts})

    def _inputs_or_reason(self, image: str | Path | bytes) -> dict[Recipe, ByteArray] | str:
        try:
            return self._inputs(image)
        except DataError as error:
            return str(error)
