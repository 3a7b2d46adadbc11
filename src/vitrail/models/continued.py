"""A trained network that another training goes on from: its weights as torch knows them, and what was done to get them.

The package holds a network in the form that answers (ONNX, numpy); training needs it in the form that learns. So every network
leaves ``weights.safetensors`` beside its package, and its training record says which file that is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vitrail.errors import PackageError, Problem, StudyError, UsageError
from vitrail.models.package import PackageDescription
from vitrail.records import Training
from vitrail.storage import file_sha256, fingerprint, read_record, write_bytes
from vitrail.study import ModelSettings, PreprocessSettings

if TYPE_CHECKING:
    import torch

WEIGHTS = "weights.safetensors"
MAY_CHANGE = {
    *("model", "name", "preprocess", "training", "continues", "augment"),
    *(
        "pretrained",
        "strategy",
        "frozen_layers",
        "head_epochs",
        "tuning_rate",
        "backbone_rate",
        "layer_decay",
    ),  # how a backbone is trained
}
"""Settings that do not shape the network or its input; all others must be as they were."""


@dataclass(frozen=True)
class Start:
    """What a training goes on from.

    Attributes:
        folder: Of the model that was trained.
        training: How it was trained.
        package: SHA-256 of its package's list of hashes, which covers every file of the package.
        data_fingerprint: Of the data set it was trained on.
    """

    folder: Path
    training: Training
    package: str
    data_fingerprint: str

    @property
    def weights(self) -> Path:
        """The weights of its best epoch."""
        return self.folder / WEIGHTS


def save_weights(module: torch.nn.Module, path: Path) -> str:
    """Write a network's weights (safetensors: numbers and names, nothing that could be executed); return the file's SHA-256."""
    from safetensors.torch import save

    write_bytes(path, save({name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}))
    return file_sha256(path)


def load_weights(module: torch.nn.Module, start: Start) -> None:
    """Put the weights of a trained network into one of the same shape.

    Raises:
        UsageError: They are of another shape.
    """
    from safetensors.torch import load_file

    try:
        module.load_state_dict(load_file(start.weights))
    except RuntimeError as error:  # torch lists every tensor: the first is enough
        first = " ".join(str(error).split())[:200]
        raise UsageError(f"{start.weights}: does not fit the network ({first}). Use the settings it was trained with.") from error


def read_start(folder: Path, *, key: str) -> Start:
    """Read what a training shall go on from, after checking that it is whole.

    Args:
        folder: Of a model: ``RUN/models/NAME``.
        key: The setting that names it, for messages.

    Raises:
        StudyError: There is nothing to go on from, and why.
    """

    def refused(rule: str) -> StudyError:
        return StudyError("study", (Problem(key, rule, str(folder)),))

    try:
        training = read_record(folder / "training.json", Training)
        description = read_record(folder / "package" / "package.json", PackageDescription)
        package = file_sha256(folder / "package" / "hashes.json")
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())[:160]
        raise refused(f"must be the folder of a trained model, RUN/models/NAME ({reason}).") from error
    if not (training.weights and (folder / WEIGHTS).is_file()):
        raise refused(
            f"must hold {WEIGHTS}, which networks leave beside their package. An older vitrail did not keep it: train it again."
        )
    if file_sha256(folder / WEIGHTS) != training.weights:
        raise refused(f"must hold the {WEIGHTS} that its training wrote; the file there is another one. Train it again.")
    return Start(folder, training, package, description.data_fingerprint)


def check_continued(settings: ModelSettings, preprocess: PreprocessSettings) -> None:
    """Find out early whether a model can go on from where its settings say.

    Args:
        settings: The model; nothing is checked where it continues nothing.
        preprocess: Resolved.

    Raises:
        StudyError: It cannot, and why.
    """
    folder = continues(settings)
    if folder is None:
        return
    key = f"models.{settings.name or settings.model}.continues"
    before = read_start(folder, key=key).training
    if before.family != settings.model:
        message = f"must be a model of the same family ({settings.model}), it is of family {before.family}."
        raise StudyError("study", (Problem(key, message, str(folder)),))
    now: dict[str, Any] = {**settings.model_dump(mode="json"), "preprocess": preprocess.model_dump(mode="json")}
    then: dict[str, Any] = json.loads(json.dumps(before.settings))
    changed = [name for name in now if name not in MAY_CHANGE and now[name] != then.get(name)]
    changed += [f"preprocess.{name}" for name, value in now["preprocess"].items() if value != then["preprocess"].get(name)]
    if changed:
        message = f"the network and its input must be as they were; these settings differ: {', '.join(changed)}."
        raise StudyError("study", (Problem(key, message, str(folder)),))


def check_continued_data(settings: ModelSettings, *, data_fingerprint: str, split: str | None = None) -> Start | None:
    """Find out whether a model goes on with the images it was trained on, each in its part.

    On another split, images that validate now may have been training images before.

    Args:
        settings: The model.
        data_fingerprint: Of the data set.
        split: Fingerprint of the split; ``None``: not known yet.

    Returns:
        What it goes on from; ``None``: nothing.

    Raises:
        UsageError: They are others.
    """
    folder = continues(settings)
    if folder is None:
        return None
    key = f"models.{settings.name}.continues"
    start = read_start(folder, key=key)
    if start.data_fingerprint != data_fingerprint:
        raise UsageError(
            f"{key}: must go on with the data it was trained on ({start.data_fingerprint}); found data {data_fingerprint}. "
            "Images that validate or test now may have been training images before. Train a new model instead."
        )
    if split is not None and start.training.split != split:
        raise UsageError(
            f"{key}: must go on with the split it was trained on ({start.training.split}); found split {split}. Images that "
            "validate or test now may have been training images before. Set split.file to the split.csv of its run."
        )
    return start


def continued_identity(settings: ModelSettings) -> object:
    """Return what a continued model begins with, as plain data; ``None`` where it continues nothing."""
    folder = continues(settings)
    if folder is None:
        return None
    try:
        return fingerprint(file_sha256(folder / "package" / "hashes.json"), file_sha256(folder / WEIGHTS))
    except OSError as error:
        raise PackageError(f"{folder}: cannot be read ({error.strerror or error}). Give RUN/models/NAME.") from error


def continues(settings: ModelSettings) -> Path | None:
    """Return the folder of the model that a model continues."""
    folder: Path | None = getattr(settings, "continues", None)
    return folder
