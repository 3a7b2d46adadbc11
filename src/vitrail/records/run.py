"""A model of a run, and the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vitrail.records.auditing import AuditReport
from vitrail.records.evaluation import Difference, Evaluation, Predictions
from vitrail.records.explanation import Explanation, GradeTable, ShortcutHunt
from vitrail.records.images import Manifest
from vitrail.records.splitting import Split
from vitrail.records.training import Energy, Training


@dataclass(frozen=True)
class ModelResult:
    """Everything known of one model of a run; ``failure`` is set and the rest absent when it could not be trained.

    Attributes:
        name: The model's name in the study.
        family: Its family in the catalogue.
        package: Folder of its model package.
        training: How it was trained.
        evaluation: How well it does.
        predictions: Its test predictions.
        explanations: Maps for the report's gallery.
        grades: How good methods of explanation are for this model; ``None``: they were not graded.
        hunt: Whether the model takes shortcuts; ``None``: it was not looked for.
        failure: Why there is no such model, and the next step; else empty.
        augmented: File with examples of its augmented training images, where there are any.
    """

    name: str
    family: str
    package: Path | None = None
    training: Training | None = None
    evaluation: Evaluation | None = None
    predictions: Predictions | None = None
    explanations: tuple[Explanation, ...] = ()
    failure: str = ""
    augmented: Path | None = None
    grades: GradeTable | None = None
    hunt: ShortcutHunt | None = None


@dataclass(frozen=True)
class Provenance:
    """What made a run, so that it can be made again.

    Attributes:
        vitrail: Version of vitrail.
        python: Version of Python.
        platform: Operating system and processor.
        packages: Package name -> version.
        code: Fingerprint of vitrail's own source files.
        seed: The study's seed.
        study_fingerprint: Changes with any setting.
        data_fingerprint: Changes with any byte of the data set.
        started: When the run was first started, ISO 8601 with time zone.
    """

    vitrail: str
    python: str
    platform: str
    packages: dict[str, str]
    code: str
    seed: int
    study_fingerprint: str
    data_fingerprint: str
    started: str


@dataclass(frozen=True)
class RunResult:
    """A finished run: what the report shows and ``--json`` prints.

    Attributes:
        name: The study's name.
        folder: The run's folder.
        manifest: The data set.
        audit: What is wrong with it.
        split: Who trained, who tested.
        models: In the order of the study.
        champion: Name of the model with the best validation score, or of a member of it that does as well; empty when none was
            trained.
        provenance: What made the run.
        study: The study as YAML text.
        baselines: What the models must be held against, simplest first; they have no package. Empty before the evaluation, and
            where the study wants none.
        differences: Every evaluated model against every baseline.
        energy: Electricity that training, evaluation and explanation took together.
        champion_reason: How an ensemble with the best validation score compares with its best member, and which of them is the
            champion for that; empty where no ensemble is first.
    """

    name: str
    folder: Path
    manifest: Manifest = field(repr=False)
    audit: AuditReport = field(repr=False)
    split: Split = field(repr=False)
    models: tuple[ModelResult, ...] = field(repr=False)
    champion: str
    provenance: Provenance = field(repr=False)
    study: str = field(repr=False)
    baselines: tuple[ModelResult, ...] = field(default=(), repr=False)
    differences: tuple[Difference, ...] = field(default=(), repr=False)
    energy: Energy = field(default_factory=Energy)
    champion_reason: str = ""

    def trained(self) -> Iterator[ModelResult]:
        """The models that were trained and evaluated."""
        return (model for model in self.models if model.evaluation is not None)

    @property
    def champion_package(self) -> Path | None:
        """Folder of the champion's model package."""
        return next((model.package for model in self.models if model.name == self.champion), None)
