"""A model package behind MLflow's door: what ``mlflow.pyfunc`` loads a registered package with.

MLflow calls :func:`_load_pyfunc` by its name; neither MLflow nor pandas is imported here, and nothing is unpickled: MLflow's
model says "load this folder with this module", and the folder is a model package with its own hashes and golden answers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from vitrail.datasets import read_image
from vitrail.engine import map_in_order
from vitrail.errors import DataError, UsageError
from vitrail.models.embedders import BATCH
from vitrail.models.package import ModelPackage, load_package
from vitrail.preprocess import prepare
from vitrail.records import ByteArray

COLUMN = "image"
"""The one column of the input: the bytes of an image file."""


class Answer(TypedDict):
    """What is said of one image; ``error`` is set and the rest empty where it could not be read."""

    predicted: str
    probabilities: dict[str, float]
    error: str


class ServedPackage:
    """A model package with the call that MLflow makes.

    Args:
        package: The model.
    """

    def __init__(self, package: ModelPackage) -> None:
        self.package = package

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> list[Answer]:  # noqa: ARG002 - MLflow's call
        """Score images.

        Paths are not taken: behind a network address they would let strangers ask for the server's files.

        Args:
            model_input: A table with the column ``image`` (a data frame, or a mapping of lists), or a list of images: each the
                bytes of a file, or their base64 text.
            params: Not used.

        Returns:
            One answer per image, in their order.

        Raises:
            UsageError: There is no such column.
        """
        images = list(_column(model_input))
        answers: list[Answer] = []
        for start in range(0, len(images), BATCH):
            prepared = list(map_in_order(self._prepared_or_reason, images[start : start + BATCH]))
            readable = [pixels for pixels in prepared if not isinstance(pixels, str)]
            scores = iter(list(self.package.scores(np.stack(readable))) if readable else [])
            answers += [
                {"predicted": "", "probabilities": {}, "error": pixels} if isinstance(pixels, str) else self._answer(next(scores))
                for pixels in prepared
            ]
        return answers

    def _prepared_or_reason(self, image: object) -> ByteArray | str:
        """Prepare an image as :func:`vitrail.preprocess.prepare_file` does, or say why it cannot be read."""
        recipe = self.package.recipe
        try:
            at_least = None if recipe.crop_margins else 2 * recipe.size
            return prepare(read_image(_content(image), at_least=at_least), recipe)[0]
        except DataError as error:
            return str(error)

    def _answer(self, scores: npt.NDArray[np.float64]) -> Answer:
        classes = self.package.classes
        probabilities = {name: float(score) for name, score in zip(classes, scores, strict=True)}
        return {"predicted": classes[int(scores.argmax())], "probabilities": probabilities, "error": ""}


def _load_pyfunc(data_path: str) -> ServedPackage:
    """Load a package for MLflow, after checking it.

    Raises:
        PackageError: It is missing, altered, of another format, or answers differently than when it was made.
    """
    return ServedPackage(load_package(data_path))


def _column(model_input: Any) -> Iterable[object]:
    if isinstance(model_input, list | tuple):
        return model_input
    try:
        column: Iterable[object] = model_input[COLUMN]
    except (KeyError, IndexError, TypeError) as error:
        raise UsageError(f"the input must have a column {COLUMN!r} with the bytes of image files. It has none.") from error
    return column


def _content(image: object) -> bytes:
    if isinstance(image, str):
        try:
            return base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError) as error:
            raise DataError("an image must be the bytes of a file, or their base64 text; found another text.") from error
    if not isinstance(image, bytes | bytearray | memoryview):
        raise DataError(f"an image must be the bytes of a file, or their base64 text; found {type(image).__name__}.")
    return bytes(image)
