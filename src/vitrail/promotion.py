"""From a run to the model registry: may this model take the champion's place, and what the registry shall say of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vitrail.errors import UsageError
from vitrail.evaluation import load_predictions
from vitrail.evaluation.comparison import compare_pair
from vitrail.models import load_package
from vitrail.records import ModelResult, Predictions, RunResult
from vitrail.run_folder import RunFolder, now
from vitrail.storage import file_sha256
from vitrail.study import Study
from vitrail.tracking import Registration, Version

Role = Literal["champion", "challenger"]
SCORE = "balanced_accuracy"


@dataclass(frozen=True)
class Contest:
    """A model against the present champion, on validation images.

    Attributes:
        allowed: Whether it may take the champion's place without a reason.
        words: What was found, for people and for the registry.
    """

    allowed: bool
    words: str


@dataclass(frozen=True)
class Promotion:
    """A model in its role.

    Attributes:
        version: Of the registered model.
        role: Its alias.
        new: Whether the version is new; a package that is registered already keeps its version.
        replaced: The version that had the role before; ``None``: none, or the same one.
        contest: How it does against the champion that it replaced; ``None`` where there was none to compare with.
        forced: The reason given for going against the contest; else empty.
        uri: The registry, without user name and password.
    """

    version: Version
    role: Role
    new: bool
    replaced: Version | None
    contest: Contest | None
    forced: str
    uri: str

    @property
    def address(self) -> str:
        """What ``mlflow.pyfunc.load_model`` takes."""
        return f"models:/{self.version.name}@{self.role}"


def chosen_model(run: RunResult, name: str | None) -> ModelResult:
    """Return the model that is to be promoted: the named one, else the run's champion.

    Raises:
        UsageError: There is no such model, or it is not evaluated.
    """
    wished = name or run.champion
    known = {model.name: model for model in run.models}
    if not wished:
        raise UsageError(f"{run.folder}: none of its models is evaluated. Evaluate them first: vitrail evaluate {run.folder}.")
    if wished not in known:
        raise UsageError(f"--model: must be a model of the run ({', '.join(known)}). Found: {wished}.")
    model = known[wished]
    if model.failure:
        raise UsageError(f"{wished}: there is no such model to promote: {model.failure}")
    if model.evaluation is None:
        raise UsageError(f"{wished}: is not evaluated yet. First: vitrail evaluate {run.folder}.")
    return model


def package_hash(package: Path) -> str:
    """Return the SHA-256 of a package's list of hashes, which covers every file of it."""
    return file_sha256(package / "hashes.json")


def registration(run: RunResult, model: ModelResult, *, role: Role) -> Registration:
    """Return what the registry shall hold of a model; its package is verified first.

    Raises:
        PackageError: The package is damaged.
        UsageError: The package is not the one that was evaluated.
    """
    if model.package is None or model.evaluation is None:
        raise UsageError(f"{model.name}: is not evaluated yet. First: vitrail evaluate {run.folder}.")
    description = load_package(model.package).description
    if description.data_fingerprint != run.provenance.data_fingerprint:
        raise UsageError(f"{model.package}: was made from other data than its run ({run.folder}). Run the study again.")
    score = model.evaluation.validation.overall[SCORE]
    tags = {
        "vitrail.package": package_hash(model.package),
        "vitrail.data": run.provenance.data_fingerprint,
        "vitrail.study": run.provenance.study_fingerprint,
        "vitrail.split": run.split.fingerprint,
        "vitrail.run": run.folder.name,
        "vitrail.model": model.name,
        "vitrail.family": model.family,
        "vitrail.promoted": now(),
        **{
            f"vitrail.validation.{SCORE}{end}": "not estimable" if value is None else f"{value:.6f}"
            for end, value in (("", score.value), (".low", score.low), (".high", score.high))
        },
        "vitrail.validation.n": str(score.n),
        "vitrail.validation.groups": str(score.groups),
        "vitrail.limits": description.limits,
    }
    study = Study.from_yaml(run.folder / "study.yaml")
    return Registration(
        name=study.name,
        experiment=study.tracking.experiment or study.name,
        role=role,
        package=model.package,
        key=tags["vitrail.package"],
        tags=tags,
        description=f"{model.name} of run {run.folder.name}: {description.description}. {description.limits}",
    )


def contest(run: RunResult, model: ModelResult, present: Version) -> Contest:
    """Hold a model against the present champion on validation images.

    Where the champion's run lies beside this one, the two are compared in pairs; else by the score that the registry keeps. A
    model is clearly worse where the whole 95 % interval says so.

    Args:
        run: The model's run.
        model: The model.
        present: The present champion.
    """
    tags = present.tags
    if tags.get("vitrail.data") != run.provenance.data_fingerprint:
        return Contest(False, "the present champion was validated on other data: the scores cannot be compared")
    validation = load_predictions(RunFolder(run.folder).model(model.name).predictions("validation"))
    theirs = _predictions_of(present, beside=run.folder)
    if theirs is not None and theirs.paths == validation.paths and np.array_equal(theirs.groups, validation.groups):
        study = Study.from_yaml(run.folder / "study.yaml")
        found = compare_pair(theirs, validation, resamples=study.evaluation.resamples, seed=study.seed).differences[SCORE]
        if found.value is None or found.low is None or found.high is None:
            worse = found.value is not None and found.value < 0
            told = "not estimable" if found.value is None else f"{found.value:+.3f} without an interval ({found.note})"
            return Contest(not worse, f"validation, balanced accuracy minus the champion's: {told}")
        told = f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {found.method}"
        return Contest(found.high >= 0, f"validation, balanced accuracy minus the champion's: {told}")
    if tags.get("vitrail.split") != run.split.fingerprint:
        return Contest(False, "the present champion was validated on other images: the scores cannot be compared")
    return _by_score(model, tags)


def _predictions_of(version: Version, *, beside: Path) -> Predictions | None:
    """Return the validation predictions of a registered model, where its run lies beside and holds the same package."""
    name, model = version.tags.get("vitrail.run", ""), version.tags.get("vitrail.model", "")
    if not name or not model or "/" in name + model or "\\" in name + model:  # tags come from a server: no way out of the folder
        return None
    folder = RunFolder(beside.parent / name).model(model)
    try:
        if package_hash(folder.package) != version.tags.get("vitrail.package"):
            return None
        return load_predictions(folder.predictions("validation"))
    except (OSError, UsageError):
        return None


def _by_score(model: ModelResult, tags: dict[str, str]) -> Contest:
    """Compare by the two scores alone: clearly worse where the intervals do not even touch."""
    own = model.evaluation.validation.overall[SCORE] if model.evaluation is not None else None
    try:
        value, low = (float(tags[f"vitrail.validation.{SCORE}{end}"]) for end in ("", ".low"))
    except (KeyError, ValueError):
        return Contest(False, "the registry keeps no validation score of the present champion to compare with")
    if own is None or own.value is None or own.high is None:
        return Contest(False, "the model's own validation score is not estimable")
    told = f"validation, balanced accuracy: {own.value:.3f} (up to {own.high:.3f}), the champion's {value:.3f} (from {low:.3f})"
    return Contest(own.high >= low, told)
