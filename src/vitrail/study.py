"""What the user asks for: one study, in one YAML file. Its settings, one model per room, stand in :mod:`vitrail.settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from vitrail.errors import Problem, StudyError
from vitrail.model_settings import (
    FAMILIES,
    AnyModel,
    BoostedSettings,
    CnnSettings,
    EnsembleSettings,
    FinetuneSettings,
    ForestSettings,
    HeadLayer,
    ModelSettings,
    NetworkSettings,
    ProbeSettings,
    SvmSettings,
    TransformerSettings,
)
from vitrail.settings import (
    Acceptance,
    AuditSettings,
    AugmentSettings,
    DataSettings,
    EnergySettings,
    EvaluationSettings,
    ExplanationSettings,
    Name,
    Place,
    PreprocessSettings,
    SearchSettings,
    Settings,
    SplitSettings,
    TrackingSettings,
    TrainingSettings,
)
from vitrail.storage import fingerprint
from vitrail.study_text import commented_yaml, problems_in_words, put, read_yaml, write_yaml

__all__ = [
    "FAMILIES",
    "Acceptance",
    "AnyModel",
    "AuditSettings",
    "AugmentSettings",
    "BoostedSettings",
    "CnnSettings",
    "DataSettings",
    "EnergySettings",
    "EnsembleSettings",
    "EvaluationSettings",
    "ExplanationSettings",
    "FinetuneSettings",
    "ForestSettings",
    "HeadLayer",
    "ModelSettings",
    "PreprocessSettings",
    "ProbeSettings",
    "Settings",
    "SplitSettings",
    "Study",
    "SvmSettings",
    "TrackingSettings",
    "TrainingSettings",
    "TransformerSettings",
    "changed",
    "commented_yaml",
]

SettingsKind = TypeVar("SettingsKind", bound=Settings)


def _name_to_settings(value: Any) -> Any:
    """Let ``models: [forest, cnn]`` stand for ``models: [{model: forest}, {model: cnn}]``."""
    if isinstance(value, list | tuple):
        return tuple({"model": item} if isinstance(item, str) else item for item in value)
    return value


class Study(Settings):
    """One experiment: the data, the models and how they are compared.

    Example:
        >>> study = Study(data={"path": "images"}, models=["forest", {"model": "cnn", "filters": [8, 16]}])
        >>> [model.name for model in study.models]
        ['forest', 'cnn']
    """

    name: Name = Field(
        default="",
        description="Name of the study in reports, folders and MLflow; empty: the name of the image folder.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Same seed, same machine, same numbers.")
    output: Place = Field(default=Path("runs"), description="Folder for runs, caches and the MLflow file.")
    data: DataSettings = Field(description="Images in.")
    audit: AuditSettings = Field(default=AuditSettings(), description="Audit.")
    split: SplitSettings = Field(default=SplitSettings(), description="Split.")
    preprocess: PreprocessSettings = Field(
        default=PreprocessSettings(),
        description="Preprocess. Stands here for all models and, if wished, inside one model for that model alone.",
    )
    augment: AugmentSettings = Field(
        default=AugmentSettings(),
        description="Augment: random changes of the training images. Used by networks trained from pixels.",
    )
    models: Annotated[tuple[AnyModel, ...], BeforeValidator(_name_to_settings)] = Field(
        default=(ForestSettings(), ProbeSettings(), CnnSettings()),
        min_length=1,
        description="The models to train and compare, on the same split.",
    )
    training: TrainingSettings = Field(
        default=TrainingSettings(),
        description="Training of networks. Stands here for all models and, if wished, inside one model for that model alone.",
    )
    search: SearchSettings = Field(default=SearchSettings(), description="Search.")
    evaluation: EvaluationSettings = Field(default=EvaluationSettings(), description="Evaluate.")
    explanation: ExplanationSettings = Field(default=ExplanationSettings(), description="Explain.")
    energy: EnergySettings = Field(default=EnergySettings(), description="Energy: electricity and carbon dioxide of a run.")
    tracking: TrackingSettings = Field(default=TrackingSettings(), description="Tracking with MLflow.")

    @field_validator("models")
    @classmethod
    def _name_models(cls, models: tuple[AnyModel, ...]) -> tuple[AnyModel, ...]:
        """Name every model after its family; two models may not share a name (nor a folder, where case does not count)."""
        named = tuple(model if model.name else model.model_copy(update={"name": model.model}) for model in models)
        names = [model.name.casefold() for model in named]
        twice = [model.name for model in named if names.count(model.name.casefold()) > 1]
        if twice:
            raise ValueError(f"must have different names, and {len(twice)} are called {twice[0]!r}: give each its own `name`")
        return named

    @model_validator(mode="after")
    def _name_study(self) -> Study:
        """Name the study after its folder."""
        if not self.name:
            folder = self.data.path.resolve().name
            safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in folder)
            object.__setattr__(self, "name", safe.lstrip(".-")[:60] or "study")
        return self

    # ------------------------------------------------------------------------------------------ in and out

    @classmethod
    def from_mapping(cls, content: Any, source: str = "study", *, folder: Path | None = None) -> Study:
        """Build a study from plain data.

        Args:
            content: Settings by key.
            source: What they come from, for messages.
            folder: Where relative places begin; ``None``: the folder in which the programme runs.

        Raises:
            StudyError: With every problem found, not only the first.
        """
        if not isinstance(content, dict):
            found = "nothing" if content is None else type(content).__name__
            raise StudyError(source, (Problem("(whole file)", "must hold settings as `key: value` lines.", found),))
        try:
            return cls.model_validate(content, context={"folder": folder} if folder else None)
        except ValidationError as error:
            raise StudyError(source, problems_in_words(error, content, cls)) from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> Study:
        """Read a study from a YAML file. Relative places (images, output, weights) are meant relative to the file's folder.

        Raises:
            StudyError: The file is missing, is no YAML, or has wrong settings (all are listed).
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise StudyError(str(path), (Problem("(whole file)", "cannot be read.", error.strerror or str(error)),)) from error
        except UnicodeDecodeError as error:
            raise StudyError(str(path), (Problem("(whole file)", "is not text in UTF-8.", str(error)),)) from error
        content, problem = read_yaml(text)
        if problem is not None:
            raise StudyError(str(path), (problem,))
        return cls.from_mapping(content, str(path), folder=path.resolve().parent)

    def to_yaml(self) -> str:
        """Return the study as YAML that :meth:`from_yaml` reads back to an equal study."""
        return write_yaml(self.model_dump(mode="json"))

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any setting that may change a result (not with places or tracking)."""
        return fingerprint(self.model_dump(mode="json", exclude={"output", "energy", "tracking", "data", "audit", "search"}))

    # ------------------------------------------------------------------------------------------ resolved settings

    def preprocess_for(self, model: ModelSettings) -> PreprocessSettings:
        """Return the preprocessing of one model: its own wish, else the study's, else its family's."""
        return _first_set(model.preprocess, self.preprocess, model.preprocess_defaults)

    def training_for(self, model: ModelSettings) -> TrainingSettings:
        """Return the training settings of one model: its own wish, else the study's, else its family's.

        Steps on features are too small to be shared by several devices: ``devices`` is for networks that learn from pixels.
        """
        settings = _first_set(model.training, self.training, model.training_defaults)
        if settings.devices is None or isinstance(model, NetworkSettings):
            return settings
        return settings.model_copy(update={"devices": 1})


def _first_set(*layers: SettingsKind) -> SettingsKind:
    """Merge settings field by field; the first layer that does not say null wins."""
    values = {}
    for name in type(layers[0]).model_fields:
        values[name] = next((value for layer in layers if (value := getattr(layer, name)) is not None), None)
    return type(layers[0]).model_validate(values)


def _places(content: dict[str, Any], keys: list[str]) -> list[tuple[dict[str, Any], list[str]]]:
    """Return the places that a key means, as what to begin in and the way from there: one, or for ``models.*`` one in every model
    whose family has the setting.

    Raises:
        LookupError: No model has it.
    """
    if keys[:2] != ["models", "*"] or len(keys) < 3:
        return [(content, keys)]
    families = [(model, FAMILIES.get(model.get("model", ""))) for model in content["models"] if isinstance(model, dict)]
    found = [(model, keys[2:]) for model, family in families if family is not None and keys[2] in family.model_fields]
    if not found:
        raise LookupError(f"no model of the study has {keys[2]!r}")
    return found


def changed(study: Study, updates: dict[str, Any], *, texts: tuple[str, ...] = ()) -> Study:
    """Return a study with some settings changed, checked anew.

    Args:
        study: Where to start.
        updates: Dotted key -> value; a model is reached by its name or number, ``models.cnn.training.epochs``, and all that
            have a setting by a star: ``models.*.pretrained``.
        texts: More of them as ``key=value``, the value written as in YAML; made after ``updates``.

    Raises:
        StudyError: A text is no ``key=value``, or a setting is wrong (all are listed).
    """
    content = study.model_dump(mode="json")
    problems: list[Problem] = []
    wishes = list(updates.items())
    for text in texts:
        key, equals, written = text.partition("=")
        value, problem = read_yaml(written)
        if problem is not None or not equals or not all(key.strip().split(".")):
            problems.append(Problem("--set", "must be KEY=VALUE, for example split.validation=0.15.", repr(text)))
        else:
            wishes.append((key.strip(), value))
    for key, value in wishes:
        wish = list(_name_to_settings(value)) if key == "models" and isinstance(value, list | tuple) else value
        try:
            for part, keys in _places(content, key.split(".")):
                put(part, keys, wish)
        except LookupError as error:
            problems.append(Problem(key, f"no such setting: {error.args[0]}.", repr(value)))
    if problems:
        raise StudyError("settings", tuple(problems))
    return Study.from_mapping(content, "settings")
