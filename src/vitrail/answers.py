"""What a model package answers for image files. Needs the base install only, and nothing of the run that made the package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitrail.errors import DataError
from vitrail.explanation import explain, write_map, write_picture
from vitrail.models import load_package
from vitrail.progress import SILENT, Progress
from vitrail.storage import check_writable


def explain_files(
    package_folder: Path,
    images: Sequence[Path],
    *,
    method: str | None = None,
    target: str | None = None,
    output: Path,
    progress: Progress = SILENT,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Explain image files with a model package: a map and a picture of it for each.

    Args:
        package_folder: The model package; nothing else of a run is needed.
        images: Image files.
        method: How; ``None``: the first that suits the model.
        target: Class to explain; ``None``: the predicted one.
        output: Folder for the maps (``.npy``, float32, the upright image's height and width) and pictures (``.png``).
        progress: Told of every image.

    Returns:
        What ``vitrail explain --json`` prints per image, and ``{"image", "error"}`` for those that could not be read.

    Raises:
        UsageError: The package, the method or the target cannot be used.
    """
    check_writable(output)
    package = load_package(package_folder)
    answers: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    with progress.task("Explaining", len(images)) as advance:
        for number, image in enumerate(images):
            advance()
            try:
                pixels, placement = package.prepare(image)
            except DataError as error:
                failures.append({"image": str(image), "error": str(error)})
                continue
            explanation = explain(package, pixels, placement, image=str(image), method=method, target=target)
            # The number keeps two images of the same name in different folders apart; the rest must leave room in a file name.
            stem = output / f"{number:03d}-{image.stem[:60]}-{explanation.method}"
            answers.append(
                {
                    "image": str(image),
                    "method": explanation.method,
                    "target": explanation.target,
                    "score": explanation.score,
                    "map": str(write_map(explanation, stem.with_name(stem.name + ".npy"))),
                    "picture": str(write_picture(explanation, image, stem.with_name(stem.name + ".png"))),
                    "warnings": list(explanation.warnings),
                }
            )
    return answers, failures
