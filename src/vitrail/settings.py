"""What can be set: one documented settings model per room. Families of models have theirs in :mod:`vitrail.model_settings`, and
:mod:`vitrail.study` puts them together.

Every field says what it means, in which unit and range; ``vitrail init`` prints those sentences as comments and
``vitrail schema`` as a JSON schema. A setting that is ``null`` is left to the model's family, which knows best.
"""

from __future__ import annotations

import datetime
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, WithJsonSchema, model_validator


class Settings(BaseModel):
    """Base of all settings: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_section(cls, value: Any) -> Any:
        """Take ``split:`` with nothing below it as a section without wishes, not as a mistake."""
        return {} if value is None else value


def placed(path: Path, info: ValidationInfo) -> Path:
    """Put a relative place where it is meant: in the folder of the study's file, when the settings come from one.

    Raises:
        ValueError: It cannot be a place.
    """
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"must begin with the home of a known user ({error})") from error
    if os.fsencode(path).decode("utf-8", errors="ignore") != str(path):
        raise ValueError("must be valid UTF-8, so that a report can name it: rename the folder")
    return info.context["folder"] / path if info.context else path


def _safe_name(name: str) -> str:
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise ValueError("must be made of letters a-z, digits, dots, hyphens and underscores, and not begin with a dot or hyphen")
    return name


def one_group(pattern: str | None) -> str | None:
    """Return a pattern for patients: a regular expression with one group, ``off`` or ``None``.

    Raises:
        ValueError: It is none of these; the message begins with the rule.
    """
    if pattern in (None, "off"):
        return pattern
    rule = "must be a regular expression with one group around the patient's number, such as 'person(\\d+)', or off"
    try:
        groups = re.compile(str(pattern)).groups
    except re.error as error:
        raise ValueError(f"{rule} ({error})") from error
    if groups != 1:
        raise ValueError(f"{rule} (it has {groups or 'no'} groups)")
    return pattern


NAME_PATTERN = r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,99})?"
"""Names become folders: nothing that leads elsewhere, nothing hidden, nothing that looks like an option; empty: to be given."""

Place = Annotated[Path, AfterValidator(placed)]
Name = Annotated[str, AfterValidator(_safe_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME_PATTERN}$"})]


# ---------------------------------------------------------------------------------------------------- one per room


class ColumnSettings(Settings):
    """Columns of a table of images. null: recognised by the usual names."""

    path: str | None = Field(default=None, description="Column with the file of the image; null: recognised by its name.")
    label: str | None = Field(default=None, description="Column with the class; null: recognised by its name.")
    part: str | None = Field(default=None, description="Column with train, validation or test; null: recognised by its name.")
    patient: str | None = Field(default=None, description="Column with the patient; null: recognised by its name.")


class DataSettings(Settings):
    """Images in."""

    path: Place = Field(
        description="Images: a folder with one folder per class, with or without split folders (train/val/test) above; "
        "or a table (CSV, Parquet), a zip or tar file, a MedMNIST file (npz)."
    )
    table: Place | None = Field(default=None, description="Table with a line per image: file, class, part, patient.")
    columns: ColumnSettings = Field(default=ColumnSettings(), description="Columns of the table.")
    patient: Annotated[str | None, AfterValidator(one_group)] = Field(
        default=None,
        description="Which images show the same patient: a regular expression with one group, searched in the path, for "
        "example 'person(\\d+)'; off: every image stands for itself; null: numbers that file names call a patient's.",
    )
    slices: int = Field(
        default=1, ge=1, le=1000, description="Slices or frames taken from each volume or clip, spread over its middle."
    )
    fixes: Place | None = Field(default=None, description="List of fixes (CSV) to apply: images to leave out, labels to change.")


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
    file: Place | None = Field(
        default=None, description="Table (CSV) with the columns path and part to use instead of drawing; null: draw."
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
    imbalance: Literal["none", "weights", "sampling", "rotations"] | None = Field(
        default=None,
        description="What is done about classes of unequal size, on training images only. weights: the loss counts every class "
        "the same; sampling: images of small classes are shown more often; rotations: small classes are filled up with copies "
        "turned by 90, 180 and 270 degrees; none.",
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
