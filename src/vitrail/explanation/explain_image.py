"""Explain an image file with a whole package."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from vitrail.explanation.explainer import ExplainableModel
from vitrail.explanation.run_explain import explain_pixels
from vitrail.records import ByteArray, Explanation, Placement


class ExplainablePart(ExplainableModel, Protocol):
    """A single model of a package."""

    def prepare(self, image: str | Path) -> tuple[ByteArray, Placement]:
        """Return the model's input for one image file and where it lies in the original."""
        ...


class ExplainablePackage(Protocol):
    """A loaded package, as explanations see it: models with weights that sum to 1."""

    @property
    def parts(self) -> tuple[tuple[float, ExplainablePart], ...]:
        """The single models, and how much the scores of each count."""
        ...


def explain_image(
    package: ExplainablePackage, path: Path, *, image: str, method: str | None = None, target: str | None = None
) -> Explanation:
    """Say which places of an image file speak for (and against) a class.

    Args:
        package: A loaded package.
        path: The image file.
        image: Its path as the record shall name it.
        method: A key of ``EXPLAINERS``; ``None`` is the first that suits the model.
        target: The class to explain; ``None`` is the predicted one.

    Raises:
        DataError: It is no readable image.
        UsageError: The method or the class is unknown, or the method does not suit the model.
        PackageError: The model answers with numbers that are not finite.
    """
    ((_, model),) = package.parts
    pixels, placement = model.prepare(path)
    return explain_pixels(model, pixels, placement, image=image, method=method, target=target)
