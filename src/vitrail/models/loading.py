"""The one way to load a package, of a single model or of several."""

from __future__ import annotations

from pathlib import Path

from vitrail.errors import PackageError
from vitrail.models.package import ModelPackage, open_model


def load_package(folder: str | Path) -> ModelPackage:
    """Load a package after checking that it is whole, unaltered and gives its golden answers.

    Example:
        >>> package = load_package("runs/brain/models/forest/package")      # doctest: +SKIP
        >>> package.predict(["slice.jpg"])[0].predicted                     # doctest: +SKIP
        'glioma'

    Raises:
        PackageError: It is missing, altered, of another format, or answers differently than when it was made.
    """
    folder = Path(folder)
    if not (folder / "package.json").is_file():
        found = "a folder without package.json" if folder.is_dir() else "nothing"
        raise PackageError(
            f"{folder}: not a model package (found {found}). "
            "Give the folder that a run calls models/NAME/package; `vitrail run --json` prints the champion's."
        )
    return open_model(folder)
