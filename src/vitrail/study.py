"""What the user asks for: one documented settings model per room, in one YAML file.

Every field says what it means, in which unit and range; ``vitrail init`` prints those sentences as comments and
``vitrail schema`` as a JSON schema. A setting that is ``null`` is left to the model's family, which knows best.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from vitrail.errors import Problem, StudyError
from vitrail.storage import fingerprint


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


SettingsKind = TypeVar("SettingsKind", bound=Settings)


# ---------------------------------------------------------------------------------------------------- one model per room


class DataSettings(Settings):
    """Images in."""

    path: Path = Field(
        description="Folder of the images: one folder per class, with or without split folders (train/val/test) above."
    )


class Acceptance(Settings):
    """A finding that the study accepts, with the reason."""

    code: str = Field(description="Code of the finding, for example LEAK301.")
    reason: str = Field(min_length=3, description="Why it is accepted; printed in the report.")
    until: datetime.date | None = Field(
        default=None, description="Last day on which the acceptance holds (YYYY-MM-DD); null: no end."
    )


class AuditSettings(Settings):
    """Audit."""

    strict: bool = Field(
        default=False,
        description="Stop before training while an error-level finding stands that is not accepted below.",
    )
    accept: tuple[Acceptance, ...] = Field(default=(), description="Findings that are accepted: a list of {code, reason, until}.")


class SplitSettings(Settings):
    """Split."""

    validation: float = Field(
        default=0.2,
        gt=0,
        lt=0.5,
        description="Share of the training images held out to stop training and to choose models.",
    )
    test: float = Field(
        default=0.2,
        gt=0,
        lt=0.5,
        description="Share of all images held out for the test; used when the folder has no test part.",
    )
    use_shipped_test: bool = Field(
        default=True,
        description="Keep the folder's own test part as the test set. false: pool everything and split anew.",
    )


class PreprocessSettings(Settings):
    """Preprocess. Stands in the study for all models and, if wished, inside one model for that model alone."""

    size: int | None = Field(
        default=None,
        ge=16,
        le=1024,
        description="Height and width of the model's input in pixels; null: the model's own.",
    )
    colour: Literal["grey", "rgb"] | None = Field(default=None, description="grey or rgb; null: the model's own.")
    crop_margins: bool | None = Field(
        default=None,
        description="Cut the dark margin around the object before resizing; null: the model's own (false).",
    )
    keep_aspect: bool | None = Field(
        default=None, description="Pad to a square instead of stretching to one; null: the model's own (false)."
    )
    scaling: Literal["unit", "minmax", "standardise", "channel"] | None = Field(
        default=None,
        description="unit: 0..255 to 0..1; minmax: each image to 0..1; standardise: each image to mean 0, deviation 1; "
        "channel: the backbone's own mean and deviation; null: the model's own.",
    )


class AugmentSettings(Settings):
    """Augment: random changes of the training images. Used by networks trained from pixels (cnn)."""

    flip_horizontal: bool = Field(
        default=False, description="Mirror half of the images. Off by default: left and right matter in many organs."
    )
    rotation: float = Field(default=10.0, ge=0, le=180, description="Turn by up to so many degrees either way.")
    zoom: float = Field(default=0.1, ge=0, le=0.5, description="Zoom in or out by up to this share.")
    translation: float = Field(default=0.05, ge=0, le=0.5, description="Shift by up to this share of the side.")
    brightness: float = Field(default=0.1, ge=0, le=1, description="Add up to this share of the full range, either way.")
    contrast: float = Field(default=0.1, ge=0, le=1, description="Stretch around the mean by up to this share, either way.")


class TrainingSettings(Settings):
    """Training of networks. Stands in the study for all models and, if wished, inside one model for that model alone."""

    epochs: int | None = Field(default=None, ge=1, le=10_000, description="At most so many passes over the training images.")
    patience: int | None = Field(default=None, ge=1, description="Stop after so many epochs without a lower validation loss.")
    batch_size: int | None = Field(default=None, ge=1, le=4096, description="Images per step.")
    optimiser: Literal["adam", "adamw", "sgd", "rmsprop"] | None = Field(default=None, description="How weights are moved.")
    learning_rate: float | None = Field(default=None, gt=0, le=1, description="Length of the first steps; halved on plateaus.")
    weight_decay: float | None = Field(default=None, ge=0, le=1, description="Pull of the weights towards zero.")
    balance_classes: bool | None = Field(
        default=None, description="Weight the loss so that every class counts the same, however many images it has."
    )


class EvaluationSettings(Settings):
    """Evaluate."""

    resamples: int = Field(
        default=2000, ge=200, le=100_000, description="Bootstrap resamples of groups behind every 95 % interval."
    )


class ExplanationSettings(Settings):
    """Explain."""

    gallery: int = Field(
        default=3, ge=0, le=50, description="Right and wrong test images per model that the report shows with a map."
    )


class TrackingSettings(Settings):
    """Tracking with MLflow."""

    enabled: bool = Field(default=True, description="Write parameters, metrics, figures and packages to MLflow.")
    uri: str | None = Field(
        default=None,
        description="Tracking server; null: MLFLOW_TRACKING_URI, else an SQLite file in the output folder.",
    )
    experiment: str | None = Field(default=None, description="Name of the MLflow experiment; null: the study's name.")


# ---------------------------------------------------------------------------------------------------- models


class ModelSettings(Settings):
    """What every model of a study has."""

    preprocess_defaults: ClassVar[PreprocessSettings]
    training_defaults: ClassVar[TrainingSettings] = TrainingSettings()

    model: str
    name: str = Field(
        default="", pattern=r"^[A-Za-z0-9._-]*$", description="Name in tables and folders; empty: the family's name."
    )
    preprocess: PreprocessSettings = Field(default=PreprocessSettings(), description="Overrides the study's preprocess.")
    training: TrainingSettings = Field(default=TrainingSettings(), description="Overrides the study's training.")


class ForestSettings(ModelSettings):
    """Random forest on hand-made features (Breiman 2001)."""

    preprocess_defaults = PreprocessSettings(size=64, colour="grey", crop_margins=False, keep_aspect=False, scaling="unit")

    model: Literal["forest"] = "forest"
    features: tuple[Literal["pixels", "hog"], ...] = Field(
        default=("pixels", "hog"),
        min_length=1,
        description="pixels: the grey image, flattened; hog: histograms of oriented gradients (Dalal & Triggs 2005).",
    )
    trees: int = Field(default=300, ge=1, le=5000, description="Number of trees.")
    max_depth: int | None = Field(default=None, ge=1, description="Deepest level of a tree; null: until leaves are pure.")
    min_samples_split: int = Field(default=2, ge=2, description="Fewest images in a node that is split further.")
    max_features: Literal["sqrt", "log2"] = Field(default="sqrt", description="Features tried per split.")
    balance_classes: bool = Field(default=True, description="Weight images so that every class counts the same.")


class CnnSettings(ModelSettings):
    """Convolutional network trained from scratch."""

    preprocess_defaults = PreprocessSettings(
        size=128, colour="grey", crop_margins=False, keep_aspect=False, scaling="standardise"
    )
    training_defaults = TrainingSettings(
        epochs=30,
        patience=6,
        batch_size=32,
        optimiser="adamw",
        learning_rate=1e-3,
        weight_decay=1e-4,
        balance_classes=True,
    )

    model: Literal["cnn"] = "cnn"
    filters: tuple[Annotated[int, Field(ge=1, le=2048)], ...] = Field(
        default=(16, 32, 64, 128),
        min_length=1,
        max_length=8,
        description="Filters of each block (convolution, normalisation, activation, 2x2 max pooling); one number per block.",
    )
    kernel: Literal[3, 5, 7] = Field(default=3, description="Side of the convolutions in pixels.")
    convolutions: int = Field(default=1, ge=1, le=4, description="Convolutions per block.")
    batch_normalisation: bool = Field(default=True, description="Normalise activations over the batch.")
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = Field(default="relu", description="Non-linearity.")
    pooling: Literal["average", "max", "flatten"] = Field(
        default="average",
        description="From the last feature maps to one vector: mean per map, maximum per map, or all values.",
    )
    dense: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        default=(), description="Units of the dense layers before the output; empty: none."
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Share of units dropped before each dense layer in training.")
    augment: bool = Field(default=True, description="Apply the study's augmentation to the training images.")


class ProbeSettings(ModelSettings):
    """Frozen pretrained backbone with a trained head."""

    preprocess_defaults = PreprocessSettings(crop_margins=False, keep_aspect=False, colour="rgb", scaling="channel")
    training_defaults = TrainingSettings(
        epochs=200,
        patience=20,
        batch_size=256,
        optimiser="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        balance_classes=False,  # weighted classes would bend the scores away from the prevalence that a linear probe keeps
    )

    model: Literal["probe"] = "probe"
    backbone: str = Field(
        default="mobilenetv2_100.ra_in1k",
        min_length=1,
        description="A timm model name (downloaded once), or local-dir:FOLDER for weights on disk.",
    )
    dense: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        default=(), description="Units of the dense layers between features and output; empty: a linear probe."
    )
    inverse_regularisation: float = Field(
        default=1.0, gt=0, le=1e6, description="Linear probe: C of its logistic regression; smaller pulls the weights to zero."
    )
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = Field(default="relu", description="Non-linearity of dense layers.")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Share of features dropped before each dense layer in training.")


FAMILIES: dict[str, type[ModelSettings]] = {"forest": ForestSettings, "probe": ProbeSettings, "cnn": CnnSettings}
"""Family name -> its settings, cheap ones first. A new family adds a line here and in ``models/catalogue.py``."""

AnyModel = Annotated[ForestSettings | CnnSettings | ProbeSettings, Field(discriminator="model")]


def _name_to_settings(value: Any) -> Any:
    """Let ``models: [forest, cnn]`` stand for ``models: [{model: forest}, {model: cnn}]``."""
    if isinstance(value, list | tuple):
        return tuple({"model": item} if isinstance(item, str) else item for item in value)
    return value


# ---------------------------------------------------------------------------------------------------- the study


class Study(Settings):
    """One experiment: the data, the models and how they are compared.

    Example:
        >>> study = Study(data={"path": "images"}, models=["forest", {"model": "cnn", "filters": [8, 16]}])
        >>> [model.name for model in study.models]
        ['forest', 'cnn']
    """

    name: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="Name of the study in reports, folders and MLflow; empty: the name of the image folder.",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="Same seed, same machine, same numbers.")
    output: Path = Field(default=Path("runs"), description="Folder for runs, caches and the MLflow file.")
    data: DataSettings
    audit: AuditSettings = AuditSettings()
    split: SplitSettings = SplitSettings()
    preprocess: PreprocessSettings = PreprocessSettings()
    augment: AugmentSettings = AugmentSettings()
    models: Annotated[tuple[AnyModel, ...], BeforeValidator(_name_to_settings)] = Field(
        default=(ForestSettings(), ProbeSettings(), CnnSettings()),
        min_length=1,
        description="The models to train and compare, on the same split.",
    )
    training: TrainingSettings = TrainingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    explanation: ExplanationSettings = ExplanationSettings()
    tracking: TrackingSettings = TrackingSettings()

    @model_validator(mode="after")
    def _give_names(self) -> Study:
        """Name the study after its folder and every model after its family; two models may not share a name."""
        if not self.name:
            folder = self.data.path.expanduser().resolve().name
            safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in folder)
            object.__setattr__(self, "name", safe or "study")
        named = tuple(model if model.name else model.model_copy(update={"name": model.model}) for model in self.models)
        object.__setattr__(self, "models", named)
        names = [model.name for model in named]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"models: two models are called {twice[0]!r}; give each its own `name`")
        return self

    # ------------------------------------------------------------------------------------------ in and out

    @classmethod
    def from_mapping(cls, content: Any, source: str = "study") -> Study:
        """Build a study from plain data.

        Raises:
            StudyError: With every problem found, not only the first.
        """
        if not isinstance(content, dict):
            found = type(content).__name__
            raise StudyError(source, (Problem("(whole file)", "must hold settings as `key: value` lines.", found),))
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            problems = tuple(_problem(detail, content) for detail in error.errors(include_url=False))
            raise StudyError(source, problems) from None

    @classmethod
    def from_yaml(cls, path: str | Path) -> Study:
        """Read a study from a YAML file. A relative ``data.path`` or ``output`` is meant relative to the file's folder.

        Raises:
            StudyError: The file is missing, is no YAML, or has wrong settings (all are listed).
        """
        path = Path(path)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(str(path), (Problem("(whole file)", "cannot be read.", str(error)),)) from error
        except yaml.YAMLError as error:
            where = f"line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else "the file"  # type: ignore[attr-defined]
            raise StudyError(str(path), (Problem(where, "is not valid YAML.", str(getattr(error, "problem", error))),)) from error
        study = cls.from_mapping(content, str(path))
        base = path.resolve().parent
        return study.model_copy(
            update={
                "data": study.data.model_copy(update={"path": base / study.data.path.expanduser()}),
                "output": base / study.output.expanduser(),
            }
        )

    def to_yaml(self) -> str:
        """Return the study as YAML that :meth:`from_yaml` reads back to an equal study."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any setting that may change a result (not with places or tracking)."""
        return fingerprint(self.model_dump(mode="json", exclude={"output", "tracking", "data", "audit"}))

    # ------------------------------------------------------------------------------------------ resolved settings

    def preprocess_for(self, model: ModelSettings) -> PreprocessSettings:
        """Return the preprocessing of one model: its own wish, else the study's, else its family's."""
        return _first_set(model.preprocess, self.preprocess, model.preprocess_defaults)

    def training_for(self, model: ModelSettings) -> TrainingSettings:
        """Return the training settings of one model: its own wish, else the study's, else its family's."""
        return _first_set(model.training, self.training, model.training_defaults)


def _first_set(*layers: SettingsKind) -> SettingsKind:
    """Merge settings field by field; the first layer that does not say null wins."""
    values = {}
    for name in type(layers[0]).model_fields:
        values[name] = next((value for layer in layers if (value := getattr(layer, name)) is not None), None)
    return type(layers[0]).model_validate(values)


def changed(study: Study, updates: dict[str, Any], *, texts: tuple[str, ...] = ()) -> Study:
    """Return a study with some settings changed, checked anew.

    Args:
        study: Where to start.
        updates: Dotted key -> value; a model is reached by its name or number: ``models.cnn.training.epochs``.
        texts: More of them as ``key=value``, the value written as in YAML.

    Raises:
        StudyError: A text is no ``key=value``, or a setting is wrong (all are listed).
    """
    content = study.model_dump(mode="json")
    problems = []
    for text in texts:
        key, equals, value = text.partition("=")
        try:
            if not equals:
                raise yaml.YAMLError
            updates = {**updates, key.strip(): yaml.safe_load(value)}
        except yaml.YAMLError:
            problems.append(Problem("--set", "must be KEY=VALUE, for example split.validation=0.15.", repr(text)))
    for key, value in updates.items():
        try:
            if key == "models":
                value = _name_to_settings(value)
            _put(content, key.split("."), value)
        except LookupError as error:
            problems.append(Problem(key, f"no such setting: {error.args[0]}.", repr(value)))
    if problems:
        raise StudyError("settings", tuple(problems))
    return Study.from_mapping(content, "settings")


def _put(content: Any, keys: list[str], value: Any) -> None:
    """Put a value at a place in nested plain data."""
    for key in keys[:-1]:
        if isinstance(content, list | tuple):
            names = {str(item.get("name") or item.get("model")): item for item in content}
            names |= {str(number): item for number, item in enumerate(content)}
            if key not in names:
                known = ", ".join(name for name in names if not name.isdigit())
                raise LookupError(f"no model is called {key!r}; the study has {known}")
            content = names[key]
        else:
            if not isinstance(content, dict) or key not in content:
                raise LookupError(f"{key!r} is unknown")
            content = content[key]
    if not isinstance(content, dict):
        raise LookupError(f"{keys[-1]!r} is not a setting here")
    content[keys[-1]] = value


# ---------------------------------------------------------------------------------------------------- problems in words


def _problem(detail: Any, content: Any) -> Problem:
    """Turn one pydantic error into the house's words: key path, rule, allowed values, value found."""
    location = [part for part in detail["loc"] if not (isinstance(part, str) and part in FAMILIES)]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".") or "(whole file)"
    context = detail.get("ctx", {})
    kind = detail["type"]
    found = repr(detail["input"])
    if kind == "extra_forbidden":
        known = _known_keys(location, content)
        message = f"unknown setting. {_suggestion(str(location[-1]), known)}Known here: {', '.join(known)}."
        key_and_value = f"{location[-1]}: {detail['input']!r}"
        return Problem(key, message, key_and_value)
    if kind == "union_tag_invalid":
        name = str(detail["input"].get("model")) if isinstance(detail["input"], dict) else found
        return Problem(
            f"{key}.model",
            f"unknown model. {_suggestion(name, list(FAMILIES))}Known: {', '.join(FAMILIES)}.",
            repr(name),
        )
    if kind == "union_tag_not_found":
        return Problem(f"{key}.model", f"missing: every model names its family. Known: {', '.join(FAMILIES)}.", found)
    if kind == "missing":
        return Problem(key, "missing, and it has no default.", "nothing")
    if kind == "literal_error":
        return Problem(key, f"must be one of {context['expected']}.", found)
    message = detail["msg"].removeprefix("Value error, ").replace("a valid tuple", "a list").replace("Input should", "must")
    return Problem(key, f"{message[:1].lower()}{message[1:]}.", found if len(found) < 120 else f"{found[:117]}...")


def _known_keys(location: list[Any], content: Any) -> list[str]:
    """Return the keys that are allowed beside an unknown one."""
    settings: Any = Study
    for part in location[:-1]:
        if isinstance(part, int):
            content = content[part]
            if location[0] == "models":
                settings = FAMILIES.get(content.get("model", "")) if isinstance(content, dict) else None
            elif location[0] == "audit":
                settings = Acceptance
            continue
        content = content.get(part) if isinstance(content, dict) else None
        annotation = settings.model_fields[part].annotation if settings and part in settings.model_fields else None
        settings = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else settings
    return list(settings.model_fields) if settings else []


def _suggestion(word: str, known: list[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f"Did you mean {close[0]!r}? " if close else ""


# ---------------------------------------------------------------------------------------------------- a commented file


def commented_yaml(study: Study) -> str:
    """Return the study as YAML in which every setting carries its sentence: what ``vitrail init`` writes."""
    lines = [
        "# A vitrail study. Run it with: vitrail run study.yaml",
        "# Every problem in this file is reported at once.",
        "",
    ]
    for name, field in Study.model_fields.items():
        value = getattr(study, name)
        if isinstance(value, Settings):
            lines += ["", f"# {(type(value).__doc__ or '').strip()}", f"{name}:"]
            lines += _commented_fields(value, indent=2)
        elif name == "models":
            lines += ["", f"# {field.description}", "models:"]
            for model in value:
                lines += [f"  # {(type(model).__doc__ or '').strip()}", f"  - model: {model.model}"]
                lines += _commented_fields(model, indent=4, leave_out=("model", "preprocess", "training"))
        else:
            lines += [f"# {field.description}", f"{name}: {_inline(value)}"]
    return "\n".join(lines) + "\n"


def _commented_fields(settings: Settings, *, indent: int, leave_out: tuple[str, ...] = ()) -> list[str]:
    margin = " " * indent
    lines = []
    for name, field in type(settings).model_fields.items():
        if name not in leave_out:
            lines += [f"{margin}# {field.description}", f"{margin}{name}: {_inline(getattr(settings, name))}"]
    return lines


def _inline(value: object) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, tuple):
        value = [item.model_dump(mode="json") if isinstance(item, Settings) else item for item in value]
    plain = str(value) if isinstance(value, Path) else value
    return yaml.safe_dump(plain, default_flow_style=True, width=1000, allow_unicode=True).strip().removesuffix("...").strip()
