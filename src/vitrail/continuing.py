"""From a finished run to the study that goes on with one of its networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitrail.errors import UsageError
from vitrail.models import FAMILIES
from vitrail.models.continued import read_start
from vitrail.run_folder import RunFolder
from vitrail.study import ModelSettings, Study, changed

WHY_NOT = {
    "grown": "it is fitted in one go, there are no epochs to add. Train it anew with other settings",
    "probe": "its backbone is frozen and its head is trained on finished features within seconds. Train it anew with more "
    "training.epochs, or fine-tune the backbone (family finetune)",
    "ensemble": "nothing in it is trained, it averages what its members say. Go on with one of the members",
}


def continued_study(path: Path, *, model: str | None = None, epochs: int) -> Study:
    """Return the study that trains a network of a run for some more epochs, on the same images in the same parts.

    Args:
        path: Folder of a run, of one of its models (``RUN/models/NAME``) or of that model's package.
        model: Name of the network; ``None``: the one that ``path`` names, else the only network of the run.
        epochs: How many more.

    Raises:
        UsageError: There is no such network, or it cannot be trained further, and why.
    """
    if epochs < 1:
        raise UsageError(f"--epochs: must be at least 1. Found: {epochs}.")
    run, named = _run_and_model(path.absolute())
    study = Study.from_yaml(run.study)
    settings = _chosen(study, model or named)
    folder = run.model(settings.name)
    start = read_start(folder.path, key=f"models.{settings.name}.continues")
    network: dict[str, Any] = settings.model_dump(mode="json") | {"continues": str(folder.path)}
    network["training"] |= {"epochs": epochs}
    if hasattr(settings, "head_epochs"):  # of them, those that are left after what this run added
        before = start.training.continues.epochs if start.training.continues else 0
        network["head_epochs"] = max(0, settings.head_epochs - (start.training.best_epoch - before))
    return changed(
        study,
        {"models": [network], "output": str(run.path.parent), "split.file": str(run.split), "search.space": {}},
    )


def _run_and_model(path: Path) -> tuple[RunFolder, str | None]:
    """Return the run in which a path lies, and the model that it names."""
    place = path.parent if path.name == "package" else path
    run, named = (RunFolder(place.parents[1]), place.name) if place.parent.name == "models" else (RunFolder(path), None)
    if not run.split.exists() or not run.study.exists():
        raise UsageError(
            f"{path}: not the folder of a run, nor of a model or package in one. Training goes on in a run only: the split that "
            "tells training from validation images stands there."
        )
    return run, named


def _chosen(study: Study, name: str | None) -> ModelSettings:
    models = {model.name: model for model in study.models}
    networks = [model for model in study.models if FAMILIES[model.model].training == "network"]
    if name is None:
        if len(networks) == 1:
            return networks[0]
        listed = ", ".join(f"{model.name} ({model.model})" for model in study.models)
        raise UsageError(
            f"--continue: needs one network (cnn, finetune, transformer); this run has {len(networks)}: {listed}. "
            "Name one with --models."
        )
    if name not in models:
        raise UsageError(f"--models: must be one model of the run ({', '.join(models)}). Found: {name}.")
    kind = FAMILIES[models[name].model].training
    if kind != "network":
        raise UsageError(f"{name}: a model of family {models[name].model} cannot be trained further: {WHY_NOT[kind]}.")
    return models[name]
