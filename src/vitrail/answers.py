"""What a model package answers for image files. Needs the base install only, and nothing of the run that made the package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitrail.errors import DataError
from vitrail.explanation import explain_image, write_map, write_picture
from vitrail.explanation.grading import graded, kept_grades
from vitrail.models import Package, load_package
from vitrail.progress import SILENT, Progress
from vitrail.records import Explanation, GradeTable
from vitrail.storage import check_writable, record_to_plain


def explain(package: Package, image: str | Path, *, method: str | None = None, target: str | None = None) -> Explanation:
    """Say which places of an image speak for (and against) a class.

    Args:
        package: From :func:`vitrail.load_package`.
        image: An image file.
        method: A key of ``vitrail.explanation.EXPLAINERS``; ``None`` or ``auto``: the first that suits the model.
        target: The class to explain; ``None``: the predicted one.

    Returns:
        The explanation; its map has the upright image's height and width.

    Raises:
        DataError: It is no readable image.
        UsageError: The method or the class is unknown, or the method does not suit the model.
    """
    return explain_image(package, Path(image), image=str(image), method=method, target=target)


def explain_files(
    package_folder: Path,
    images: Sequence[Path],
    *,
    method: str | None = None,
    target: str | None = None,
    output: Path,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """Explain image files with a model package: a map and a picture of it for each.

    Args:
        package_folder: The model package; nothing else of a run is needed.
        images: Image files.
        method: How; ``None`` or ``auto``: the one that was graded as the most faithful for this model, where its grades lie
            beside the package; else the first that suits.
        target: Class to explain; ``None``: the predicted one.
        output: Folder for the maps (``.npy``, float32, the upright image's height and width) and pictures (``.png``).
        progress: Told of every image.

    Returns:
        What ``vitrail explain --json`` prints, one entry per image in their order; one that could not be read has an ``error``
        and nulls elsewhere.

    Raises:
        UsageError: The package, the method or the target cannot be used.
    """
    check_writable(output)
    package = load_package(package_folder)
    table = kept_grades(package_folder, package)
    if method in (None, "auto"):
        method = table.chosen if table and table.chosen else None
        progress.say(_why(table))
    answers: list[dict[str, Any]] = []
    with progress.task("Explaining", len(images)) as advance:
        for number, image in enumerate(images):
            nothing = dict.fromkeys(("method", "target", "score", "map", "picture"))
            answer: dict[str, Any] = {"image": str(image), **nothing, "warnings": []}
            try:
                explanation = explain(package, image, method=method, target=target)
                if table is not None:
                    explanation = graded(package, image, explanation, table, seed=0)
            except DataError as error:
                answers.append({**answer, "error": str(error)})
            else:
                # The number keeps two images of one name in different folders apart; names are cut to what a file name may hold.
                stem = f"{number:03d}-{image.stem[:60]}-{package.name[:40]}-{explanation.method}"
                answer |= {"method": explanation.method, "target": explanation.target, "score": explanation.score}
                answer["map"] = str(write_map(explanation, output / f"{stem}.npy"))
                answer["picture"] = str(write_picture(explanation, image, output / f"{stem}.png"))
                answer["warnings"] = list(explanation.warnings)
                if explanation.grade is not None:
                    answer["grade"] = record_to_plain(explanation.grade)
                answers.append(answer)
            advance()
    return answers


def _why(table: GradeTable | None) -> str:
    """Say how the method was chosen."""
    if table is None:
        return "Method: the first that suits the model. Its grades, which a run leaves beside the package, are not there."
    return f"Method, chosen on {table.n} validation images: {table.why}" if table.chosen else "Method: the first that suits."
