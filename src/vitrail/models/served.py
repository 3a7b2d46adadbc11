"""A model package behind MLflow's door: what ``mlflow.pyfunc`` loads a registered package with.

MLflow calls :func:`_load_pyfunc` by its name; neither MLflow nor pandas is imported here, and nothing is unpickled: MLflow's
model says "load this folder with this module", and the folder is a model package with its own hashes and golden answers.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from typing import Any, TypedDict

from vitrail.errors import UsageError
from vitrail.models.answering import ImagePrediction, Package
from vitrail.models.loading import load_package

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

    def __init__(self, package: Package) -> None:
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
        contents = [_content_or_reason(image) for image in _column(model_input)]
        answers = iter(self.package.predict([content for content in contents if isinstance(content, bytes)]))
        return [
            {"predicted": answer.predicted, "probabilities": answer.probabilities, "error": answer.error}
            for answer in (
                next(answers) if isinstance(content, bytes) else ImagePrediction("", "", {}, content) for content in contents
            )
        ]


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


def _content_or_reason(image: object) -> bytes | str:
    """Return the bytes of an image file, or say why these are none."""
    if isinstance(image, str):
        try:
            return base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError):
            return "an image must be the bytes of a file, or their base64 text; found another text."
    if not isinstance(image, bytes | bytearray | memoryview):
        return f"an image must be the bytes of a file, or their base64 text; found {type(image).__name__}."
    return bytes(image)
