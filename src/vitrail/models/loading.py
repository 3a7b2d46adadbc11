"""The one way to load a package, of a single model or of several."""

from __future__ import annotations

import json
from pathlib import Path

from vitrail.errors import PackageError
from vitrail.models.ensemble_package import EnsemblePackage, open_ensemble
from vitrail.models.package import ModelPackage, open_model


def load_package(folder: str | Path) -> ModelPackage | EnsemblePackage:
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
    return open_ensemble(folder) if _is_ensemble(folder) else open_model(folder)


def extras_needed(folder: Path) -> tuple[str, ...]:
    """Return which extras of vitrail a package needs to answer, for example ``("n4",)``."""
    recipes = [json.loads(path.read_bytes()).get("recipe", {}) for path in folder.rglob("package.json")]
    return ("n4",) if any(recipe.get("bias_correction") == "n4" for recipe in recipes) else ()


def _is_ensemble(folder: Path) -> bool:
    """Return whether a package says that it is an ensemble; one that cannot be read is refused by whoever opens it."""
    try:
        content = json.loads((folder / "package.json").read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and content.get("family") == "ensemble"
