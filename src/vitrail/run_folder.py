"""A run on disk: what stands where, so that a killed run goes on where it stopped and a finished one can be read again.

    <output>/<study>-<fingerprint>/
      study.yaml  provenance.json  manifest.json  audit.json  split.csv  report.html  energy.json
      models/<name>/training.json  package/  weights.safetensors  predictions-validation.csv  predictions-test.csv
                    evaluation.json  grades.json  hunt.json  explanations/  augmented.npz  failure.txt
                    while it trains: checkpoint.pt  embedder.onnx
      baselines/<name>/training.json  predictions-validation.csv  predictions-test.csv  evaluation.json
      baselines/differences.json   every model against every baseline
    <output>/test-openings.json   when the test images of which data set were opened, for which model
    <output>/cache/               scans, pixels, backbones, features: may be deleted at any time
    <output>/mlflow.db            what MLflow was told

The fingerprint changes with any setting that may change a number, any byte of the data or of a backbone's weights, the groups
that the audit found, the table of a split, vitrail's code and the versions of the packages it computes with: other questions get
other folders, and nothing is overwritten.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from vitrail.energy import total_use
from vitrail.errors import UsageError
from vitrail.evaluation import choose_champion, load_predictions
from vitrail.explanation import load_explanations
from vitrail.explanation.grading import GRADES
from vitrail.models import identity
from vitrail.models.continued import WEIGHTS
from vitrail.places import source_fingerprint
from vitrail.records import (
    AuditReport,
    Difference,
    Evaluation,
    GradeTable,
    Manifest,
    ModelResult,
    Provenance,
    RunResult,
    ShortcutHunt,
    Training,
)
from vitrail.split import load_split
from vitrail.storage import file_sha256, fingerprint, read_record, versions, without_credentials
from vitrail.study import ModelSettings, Study
from vitrail.training import BASELINES

COMPUTING_PACKAGES = ("numpy", "pillow", "onnxruntime", "scikit-image", "scipy", "scikit-learn", "torch", "timm", "skl2onnx")
"""Packages that numbers may depend on; a report states their versions."""


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
    def weights(self) -> Path:
        """A network's weights in the form that learns: what training can go on from."""
        return self.path / WEIGHTS

    @property
    def evaluation(self) -> Path:
        """How well it does. Written after the predictions."""
        return self.path / "evaluation.json"

    @property
    def explanations(self) -> Path:
        """Maps of some test images."""
        return self.path / "explanations"

    @property
    def grades(self) -> Path:
        """How good methods of explanation are for this model. Beside the package, where ``vitrail explain`` finds it."""
        return self.path / GRADES

    @property
    def hunt(self) -> Path:
        """Whether the model takes shortcuts."""
        return self.path / "hunt.json"

    @property
    def checkpoint(self) -> Path:
        """Where a training under way goes on after a kill."""
        return self.path / "checkpoint.pt"

    @property
    def augmented(self) -> Path:
        """What the augmentation made of some training images; only where there was one."""
        return self.path / "augmented.npz"

    @property
    def failure(self) -> Path:
        """Why there is no such model."""
        return self.path / "failure.txt"

    def predictions(self, part: str) -> Path:
        """Scores of one part of the data."""
        return self.path / f"predictions-{part}.csv"

    def forget(self) -> None:
        """Remove what was made from the model: it is about to be trained anew."""
        for path in (self.training, self.weights, self.evaluation, self.failure, self.augmented, self.grades, self.hunt):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.explanations, ignore_errors=True)

    def tidy(self) -> None:
        """Remove what only a training under way needs."""
        for name in ("checkpoint.pt", "embedder.onnx"):
            (self.path / name).unlink(missing_ok=True)

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
            grades=read_record(self.grades, GradeTable) if self.grades.exists() else None,
            hunt=read_record(self.hunt, ShortcutHunt) if self.hunt.exists() else None,
            augmented=self.augmented if self.augmented.exists() else None,
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

    @property
    def energy(self) -> Path:
        """What every step took in electricity."""
        return self.path / "energy.json"

    def model(self, name: str) -> ModelFolder:
        """Return the folder of one model."""
        return ModelFolder(self.path / "models" / name)

    def baseline(self, name: str) -> ModelFolder:
        """Return the folder of one baseline: that of a model without a package."""
        return ModelFolder(self.path / "baselines" / name)

    @property
    def differences(self) -> Path:
        """Every model against every baseline."""
        return self.path / "baselines" / "differences.json"

    def result(self) -> RunResult:
        """Read the whole run back.

        Raises:
            UsageError: It is no run, has not come to a split yet, or is damaged.
        """
        if not self.split.exists():
            raise UsageError(f"{self.path}: not the folder of a run. Give one that `vitrail run` printed.")
        try:
            return self._result()
        except (OSError, ValueError) as error:  # a file is gone, or is not what was written
            reason = " ".join(str(error).split())[:200]
            raise UsageError(f"{self.path}: the run is damaged ({reason}). Run the study again with --fresh.") from error

    def _result(self) -> RunResult:
        study = Study.from_yaml(self.study)
        manifest = read_record(self.manifest, Manifest)
        audit = read_record(self.audit, AuditReport)
        models = tuple(self.model(settings.name).result(settings) for settings in study.models)
        evaluations = [model.evaluation for model in models if model.evaluation is not None]
        chosen = choose_champion(
            evaluations,
            members={model.name: counting_members(model.training) for model in models if model.training is not None},
            validation=lambda name: load_predictions(self.model(name).predictions("validation")),
            resamples=study.evaluation.resamples,
            seed=study.seed,
        )
        return RunResult(
            name=study.name,
            folder=self.path,
            manifest=manifest,
            audit=audit,
            split=load_split(self.split, manifest, audit),
            models=models,
            champion=chosen.name,
            provenance=read_record(self.provenance, Provenance),
            study=self.study.read_text(encoding="utf-8"),
            baselines=self._baselines() if study.evaluation.baselines else (),
            differences=self._differences({evaluation.model for evaluation in evaluations}) if study.evaluation.baselines else (),
            energy=total_use(self.energy),
            champion_reason=chosen.reason,
        )

    def _baselines(self) -> tuple[ModelResult, ...]:
        """Read the baselines that are evaluated."""
        folders = [(baseline.name, self.baseline(baseline.name)) for baseline in BASELINES]
        return tuple(
            ModelResult(
                name,
                "baseline",
                training=read_record(folder.training, Training),
                evaluation=read_record(folder.evaluation, Evaluation),
                predictions=load_predictions(folder.predictions("test")),
            )
            for name, folder in folders
            if folder.training.exists() and folder.evaluation.exists()
        )

    def _differences(self, evaluated: set[str]) -> tuple[Difference, ...]:
        """Read how the evaluated models compare with the baselines."""
        if not self.differences.exists():
            return ()
        return tuple(one for one in read_record(self.differences, list[Difference]) if one.model in evaluated)


def counting_members(training: Training) -> tuple[str, ...]:
    """Return the names of an ensemble's members that have a weight; none of any other model."""
    return tuple(member.name for member in training.members if member.weight > 0)


def run_folder_of(study: Study, manifest: Manifest, groups: tuple[int, ...]) -> RunFolder:
    """Return the folder in which this study of these bytes by this code belongs.

    Args:
        study: With all its settings.
        manifest: The data set.
        groups: Of every file, as the audit found them: other groups ask for another split.
    """
    models = [identity(settings) for settings in study.models]
    made_by = (source_fingerprint(), computing_versions(study))
    table = file_sha256(study.split.file) if study.split.file is not None else ""
    key = fingerprint(study.fingerprint, manifest.fingerprint, str(manifest.root), groups, table, models, made_by)
    return RunFolder(study.output / f"{study.name}-{key[:8]}")


def computing_versions(study: Study) -> dict[str, str]:
    """Return the versions of the libraries that a study's numbers may change with."""
    corrected = any(study.preprocess_for(settings).bias_correction == "n4" for settings in study.models)
    return versions(*COMPUTING_PACKAGES, *(("simpleitk",) if corrected else ()))


def openings_of(study: Study) -> Path:
    """Return the list of openings of test images, shared by all runs of one output folder."""
    return study.output / "test-openings.json"


def provenance_of(study: Study, manifest: Manifest) -> Provenance:
    """Return what makes a run that starts now."""
    return Provenance(
        vitrail=importlib.metadata.version("vitrail"),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages=computing_versions(study),
        code=source_fingerprint(),
        seed=study.seed,
        study_fingerprint=study.fingerprint,
        data_fingerprint=manifest.fingerprint,
        started=now(),
    )


def now() -> str:
    """Return the time, ISO 8601 with time zone, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def shown_study(study: Study) -> Study:
    """Return the study as others may see it: a user name and password in the tracking address are left out."""
    if study.tracking.uri is None:
        return study
    tracking = study.tracking.model_copy(update={"uri": without_credentials(study.tracking.uri)})
    return study.model_copy(update={"tracking": tracking})
