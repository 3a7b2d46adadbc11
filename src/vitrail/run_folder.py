"""A run on disk: what stands where, so that a killed run goes on where it stopped and a finished one can be read again.

    <output>/<study>-<fingerprint>/
      study.yaml  provenance.json  manifest.json  audit.json  split.csv  report.html
      models/<name>/training.json  package/  predictions-validation.csv  predictions-test.csv  evaluation.json
                    test_openings.json  explanations/  failure.txt
    <output>/cache/         scans, pixels, backbones, features: may be deleted at any time
    <output>/mlflow.db      what MLflow was told

The fingerprint changes with any setting that may change a number, any byte of the data and the version of vitrail: other
questions get other folders, and nothing is overwritten.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

from vitrail.errors import UsageError
from vitrail.evaluation import champion, load_predictions
from vitrail.explanation import load_explanations
from vitrail.records import AuditReport, Evaluation, Manifest, ModelResult, Provenance, RunResult, Training
from vitrail.split import load_split
from vitrail.storage import fingerprint, read_record, write_record
from vitrail.study import ModelSettings, Study

TOLD_PACKAGES = ("numpy", "pillow", "onnxruntime", "scikit-image", "scipy", "scikit-learn", "torch", "timm", "skl2onnx", "mlflow")
"""Packages whose versions a report states."""


@dataclass(frozen=True)
class ModelFolder:
    """The folder of one model in a run."""

    path: Path

    @property
    def training(self) -> Path:
        """How it was trained. Written last: when it exists, the package is there too."""
        return self.path / "training.json"

    @property
    def package(self) -> Path:
        """The model package."""
        return self.path / "package"

    @property
    def evaluation(self) -> Path:
        """How well it does. Written after the predictions."""
        return self.path / "evaluation.json"

    @property
    def explanations(self) -> Path:
        """Maps of some test images."""
        return self.path / "explanations"

    @property
    def failure(self) -> Path:
        """Why there is no such model."""
        return self.path / "failure.txt"

    def predictions(self, part: str) -> Path:
        """Scores of one part of the data."""
        return self.path / f"predictions-{part}.csv"

    def count_test_opening(self) -> int:
        """Note that the test images are about to be opened for this model, and return how often that happened."""
        path = self.path / "test_openings.json"
        openings = (read_record(path, int) if path.exists() else 0) + 1
        write_record(path, openings)
        return openings

    def result(self, settings: ModelSettings) -> ModelResult:
        """Return what is known of the model so far."""
        if self.failure.exists():
            return ModelResult(settings.name, settings.model, failure=self.failure.read_text(encoding="utf-8"))
        if not self.training.exists():
            return ModelResult(settings.name, settings.model, failure="not trained yet")
        evaluated = self.evaluation.exists()
        return ModelResult(
            settings.name,
            settings.model,
            package=self.package,
            training=read_record(self.training, Training),
            evaluation=read_record(self.evaluation, Evaluation) if evaluated else None,
            predictions=load_predictions(self.predictions("test")) if evaluated else None,
            explanations=load_explanations(self.explanations) if self.explanations.exists() else (),
        )


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def study(self) -> Path:
        """The settings, as they were."""
        return self.path / "study.yaml"

    @property
    def provenance(self) -> Path:
        """What made the run."""
        return self.path / "provenance.json"

    @property
    def manifest(self) -> Path:
        """The data set as it was found."""
        return self.path / "manifest.json"

    @property
    def audit(self) -> Path:
        """What is wrong with the data set."""
        return self.path / "audit.json"

    @property
    def split(self) -> Path:
        """Who trains, who tests."""
        return self.path / "split.csv"

    @property
    def report(self) -> Path:
        """The page."""
        return self.path / "report.html"

    def model(self, name: str) -> ModelFolder:
        """Return the folder of one model."""
        return ModelFolder(self.path / "models" / name)

    def result(self) -> RunResult:
        """Read the whole run back.

        Raises:
            UsageError: It is no run, or it has not come to a split yet.
        """
        if not self.split.exists():
            raise UsageError(f"{self.path}: not the folder of a run. Give one that `vitrail run` printed.")
        study = Study.from_yaml(self.study)
        manifest = read_record(self.manifest, Manifest)
        audit = read_record(self.audit, AuditReport)
        models = tuple(self.model(settings.name).result(settings) for settings in study.models)
        evaluations = [model.evaluation for model in models if model.evaluation is not None]
        return RunResult(
            name=study.name,
            folder=self.path,
            manifest=manifest,
            audit=audit,
            split=load_split(self.split, manifest, audit),
            models=models,
            champion=champion(evaluations) if evaluations else "",
            provenance=read_record(self.provenance, Provenance),
            study=self.study.read_text(encoding="utf-8"),
        )


def run_folder_of(study: Study, manifest: Manifest) -> RunFolder:
    """Return the folder in which this study of these bytes by this version of vitrail belongs."""
    key = fingerprint(study.fingerprint, manifest.fingerprint, str(manifest.root), importlib.metadata.version("vitrail"))
    return RunFolder(study.output / f"{study.name}-{key[:8]}")


def cache_of(study: Study) -> Path:
    """Return the folder of the caches, shared by all runs of one output folder."""
    return study.output / "cache"


def provenance_of(study: Study, manifest: Manifest) -> Provenance:
    """Return what makes a run that starts now."""
    versions = {}
    for package in TOLD_PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return Provenance(
        vitrail=importlib.metadata.version("vitrail"),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages=versions,
        seed=study.seed,
        study_fingerprint=study.fingerprint,
        data_fingerprint=manifest.fingerprint,
        started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def plain_study(study: Study) -> Study:
    """Return the study with absolute places, as it is kept in the run's folder."""
    data = study.data.model_copy(update={"path": study.data.path.expanduser().resolve()})
    return study.model_copy(update={"data": data, "output": study.output.expanduser().resolve()})
