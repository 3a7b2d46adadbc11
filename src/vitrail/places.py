"""Where a study reads and writes, and which of our own source files did it."""

from __future__ import annotations

import functools
from pathlib import Path

from vitrail.errors import OutputError
from vitrail.storage import check_writable, file_sha256, fingerprint
from vitrail.study import Study


def cache_of(study: Study) -> Path:
    """Return the folder of the caches, shared by all runs of one output folder."""
    return study.output / "cache"


def check_places(study: Study) -> None:
    """Find out early whether the study can write where it wants to.

    Raises:
        OutputError: It cannot, or it would write among the images.
    """
    images, output = study.data.path.resolve(), study.output.resolve()
    if output.is_relative_to(images):
        raise OutputError(
            f"{study.output}: lies inside the folder of the images ({images}), where it would be taken for a class. "
            "Choose an --output outside."
        )
    check_writable(study.output)


def plain_study(study: Study) -> Study:
    """Return the study with absolute places, as it is kept in the run's folder."""
    of_data = {name: place.resolve() for name in ("path", "table", "fixes") if (place := getattr(study.data, name)) is not None}
    data = study.data.model_copy(update=of_data)
    split = study.split.model_copy(update={"file": study.split.file.resolve()} if study.split.file else {})
    masks = study.explanation.masks
    explanation = study.explanation.model_copy(update={"masks": masks.resolve()} if masks else {})
    places = {"data": data, "split": split, "explanation": explanation, "output": study.output.resolve()}
    return study.model_copy(update=places)


@functools.cache
def source_fingerprint() -> str:
    """Return 16 hexadecimal digits that change with any of vitrail's own source files."""
    folder = Path(__file__).parent
    return fingerprint([(str(path.relative_to(folder)), file_sha256(path)) for path in sorted(folder.rglob("*.py"))])
