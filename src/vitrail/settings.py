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

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)


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


def _window(value: Any) -> Any:
    """Let through two rising percentiles, ``none`` or null; one sentence for whatever else there is.

    Raises:
        ValueError: It is none of these.
    """
    if value is None or value == "none":
        return value
    numbers = isinstance(value, list | tuple) and all(isinstance(end, int | float) and not isinstance(end, bool) for end in value)
    if not numbers or len(value) != 2 or not 0 <= value[0] < value[1] <= 100:
        raise ValueError("must be two rising percentiles from 0 to 100, such as [0.5, 99.5], or none")
    return value


def _outer_folds(number: int) -> int:
    """Let through none, or as many as there can be.

    Raises:
        ValueError: There are too few or too many.
    """
    if number != 0 and not 2 <= number <= MOST_OUTER_FOLDS:
        raise ValueError(f"must be 0 (no nested cross-validation) or 2 to {MOST_OUTER_FOLDS}, for example 5")
    return number


def _device(device: str | None) -> str | None:
    """Let through what may be a device; whether this machine has it is found out before training.

    Raises:
        ValueError: It cannot be one.
    """
    if device is not None and re.fullmatch(r"auto|cpu|mps|(?:cuda|xpu)(?::\d{1,2})?", device) is None:
        raise ValueError("must be auto, cpu, cuda, mps or xpu, or one of several such as cuda:1")
    return device


NAME_PATTERN = r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,99})?"
"""Names become folders: nothing that leads elsewhere, nothing hidden, nothing that looks like an option; empty: to be given."""

MOST_OUTER_FOLDS = 20

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
    groups: Literal["known", "lookalike"] = Field(
        default="known",
        description="What stays on one side. known: copies, slices of a volume, images of a patient; lookalike: images of a "
        "class that look alike too, for data that do not tell the patients: the validation score is lower then, and more honest.",
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
    bias_correction: Literal["none", "n4"] | None = Field(
        default=None,
        description="Before the window. n4: takes out the slow changes of brightness that an MRI coil leaves (Tustison et al. "
        "2010; 0.05 to 0.2 s per image; needs pip install 'vitrail[n4]', also to predict); none; null: the model's own (none). "
        "Colour images: by their luminance, all channels alike.",
    )
    window: Annotated[tuple[float, float] | Literal["none"] | None, BeforeValidator(_window)] = Field(
        default=None,
        description="Two percentiles of each image's grey values, such as [0.5, 99.5]: what lies below becomes black, what lies "
        "above white, the rest is stretched between; none; null: the model's own (none). Colour images: of their luminance.",
    )
    contrast: Literal["none", "clahe", "equalise"] | None = Field(
        default=None,
        description="After the window. clahe: contrast is raised tile by tile, up to a limit (CLAHE, Zuiderveld 1994; doubles "
        "the time that preparing an image takes); equalise: all grey values become equally frequent; none; null: the model's own "
        "(none). Colour images: their luminance.",
    )
    clip_limit: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="clahe: largest share of a tile that one grey value may count for: 0.004 changes nothing, 1 is no limit; "
        "null: the model's own (0.01).",
    )
    tiles: int | None = Field(
        default=None,
        ge=1,
        le=32,
        description="clahe: tiles down and across, each of at least 8 pixels; many are slow (32: 20 to 35 ms per image of 224 "
        "pixels, 8: 4 ms); null: the model's own (8).",
    )


class AugmentSettings(Settings):
    """Augment: random changes of the training images. Used by networks trained from pixels."""

    flip_horizontal: bool = Field(
        default=False, description="Mirror half of the images. Off by default: left and right matter in many organs."
    )
    flip_vertical: bool = Field(
        default=False, description="Turn half of the images upside down. Off by default: up and down matter in most images."
    )
    rotation: float = Field(default=10.0, ge=0, le=180, description="Turn by up to so many degrees either way.")
    zoom: float = Field(default=0.1, ge=0, le=0.5, description="Zoom in or out by up to this share.")
    stretch: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="Change the ratio of width to height by up to this share, either way: where the shape of the files tells "
        "the classes apart (the audit's SHC501), a network cannot rely on it then; 0: none.",
    )
    translation: float = Field(default=0.05, ge=0, le=0.5, description="Shift by up to this share of the side.")
    brightness: float = Field(default=0.1, ge=0, le=1, description="Add up to this share of the full range, either way.")
    contrast: float = Field(default=0.1, ge=0, le=1, description="Stretch around the mean by up to this share, either way.")
    blur: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="Blur by a Gaussian of up to so many pixels (sigma); wide ones are slow (10: up to 15 ms per "
        "colour image of 224 pixels); 0: none.",
    )
    noise: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="Add Gaussian noise whose standard deviation is this share of the full range; 0: none.",
    )
    erase: float = Field(
        default=0.0,
        ge=0,
        le=0.5,
        description="In half of the images, put noise in place of a random rectangle of up to this share of the area "
        "(Zhong et al. 2020); 0: none.",
    )


class TrainingSettings(Settings):
    """Training of networks. Stands in the study for all models and, if wished, inside one model for that model alone."""

    epochs: int | None = Field(default=None, ge=1, le=10_000, description="At most so many passes over the training images.")
    patience: int | None = Field(default=None, ge=1, description="Stop after so many epochs without a lower validation loss.")
    batch_size: int | None = Field(default=None, ge=1, le=4096, description="Images per step.")
    optimiser: Literal["adam", "adamw", "sgd", "rmsprop"] | None = Field(default=None, description="How weights are moved.")
    learning_rate: float | None = Field(default=None, gt=0, le=1, description="Length of the steps at its largest; see schedule.")
    weight_decay: float | None = Field(default=None, ge=0, le=1, description="Pull of the weights towards zero.")
    loss: Literal["cross_entropy", "focal"] | None = Field(
        default=None,
        description="What training makes small. cross_entropy: softmax over all classes (with two classes the same model as "
        "binary cross-entropy on one output); focal: images already told apart count less (Lin et al. 2017).",
    )
    focusing: float | None = Field(
        default=None, ge=0, le=10, description="Focal loss: how much less (gamma); 0: the same as cross_entropy."
    )
    label_smoothing: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Share of each label that is spread over all classes, so that no score is driven to 1 (Szegedy et al. 2016); "
        "in training only, never in the validation loss.",
    )
    schedule: Literal["constant", "plateau", "cosine"] | None = Field(
        default=None,
        description="Learning rate over the epochs. constant; plateau: halved where the validation loss stands still; cosine: "
        "falls along half a cosine to zero at the last of `epochs` (Loshchilov & Hutter 2017).",
    )
    plateau: int | None = Field(
        default=None, ge=1, description="Schedule plateau: epochs without a lower validation loss after which the rate is halved."
    )
    warmup: int | None = Field(
        default=None, ge=0, le=10_000, description="Epochs at the beginning in which the learning rate grows evenly from zero."
    )
    average: float | None = Field(
        default=None,
        ge=0,
        lt=1,
        description="Keep a moving average of the weights instead of the last ones: 0.99 averages over about a hundred steps; "
        "0: none.",
    )
    clip: float | None = Field(
        default=None, ge=0, le=1e6, description="Largest norm of the gradient; a longer one is shortened to it; 0: no limit."
    )
    imbalance: Literal["none", "weights", "sampling", "rotations"] | None = Field(
        default=None,
        description="What is done about classes of unequal size, on training images only. weights: the loss counts every class "
        "the same; sampling: images of small classes are shown more often; rotations: small classes are filled up with copies "
        "turned by 90, 180 and 270 degrees; none.",
    )
    minutes: float | None = Field(
        default=None,
        gt=0,
        le=1e6,
        description="Longest time for the epochs of one model, in minutes: the first epoch that ends after it is the last, and "
        "the best weights so far are kept. What it cuts short is not the same on another machine; null: no limit.",
    )
    device: Annotated[str | None, AfterValidator(_device)] = Field(
        default=None,
        description="Where networks are trained: auto (the machine's accelerator, else the CPU), cpu, cuda, mps, xpu, or one of "
        "several, such as cuda:1. Bit for bit the same again on the CPU only; null: auto.",
    )
    devices: int | None = Field(
        default=None,
        ge=1,
        le=64,
        description="How many devices of that kind share every step, each with its part of the batch, which stays as large as "
        "batch_size says; with device cpu, so many processes, among which the cores are divided. Another number gives other last "
        "digits; null: 1.",
    )
    precision: Literal["auto", "full", "mixed"] | None = Field(
        default=None,
        description="full: 32 bits; mixed: products in 16 bits, weights in 32, faster where the device has units for it; auto: "
        "mixed on accelerators that have them, full on the CPU; null: auto.",
    )


class RangeSettings(Settings):
    """Numbers between two ends."""

    low: float = Field(description="Smallest value.")
    high: float = Field(description="Largest value.")
    log: bool = Field(default=False, description="Draw evenly on a logarithmic scale.")
    integer: bool = Field(default=False, description="Whole numbers only.")

    @model_validator(mode="after")
    def _check_ends(self) -> RangeSettings:
        if not self.low < self.high:
            raise ValueError(f"must have low below high (low {self.low:g}, high {self.high:g})")
        if self.log and self.low <= 0:
            raise ValueError(f"must begin above 0 on a logarithmic scale (low {self.low:g})")
        if self.integer and (self.low % 1 or self.high % 1):
            raise ValueError(f"must have whole ends for whole numbers (low {self.low:g}, high {self.high:g})")
        return self


class SearchSettings(Settings):
    """Search (`vitrail search`): settings of models compared by cross-validation; the test images stay closed."""

    method: Literal["grid", "random", "tpe"] = Field(
        default="grid",
        description="grid: every combination; random: drawn; tpe: drawn where earlier trials did well (Bergstra et al. 2011).",
    )
    trials: int = Field(default=20, ge=1, le=100_000, description="Trials per model, for random and tpe.")
    folds: int = Field(default=3, ge=2, le=20, description="Folds of the training and validation images, groups kept whole.")
    repeats: int = Field(default=1, ge=1, le=50, description="How often these are cut into folds in another way.")
    outer_folds: Annotated[int, AfterValidator(_outer_folds)] = Field(
        default=0,
        json_schema_extra={"minimum": 0, "maximum": MOST_OUTER_FOLDS},
        description="Folds around the whole search (nested cross-validation, Varma and Simon 2006): each is predicted by what "
        "the same search chooses on the others, which says honestly what choosing and training are worth; takes about so many "
        "times as long as the search alone; 0: none.",
    )
    stop_early: bool = Field(default=False, description="End a trial whose first folds are worse than half of the others'.")
    workers: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Folds that are trained at the same time, each in a process of its own; results are the same whatever the "
        "number. tpe: folds of one trial only, so that every proposal knows all trials before it. null: as many as there are "
        "cores for (cores / threads), which on the CPU is the most at any rate; one where networks train on an accelerator.",
    )
    threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Cores for each fold, whatever the workers: the last digits of a network's sums depend on them. null: an "
        "eighth of the machine's cores, at least 1; all of them where networks train on an accelerator.",
    )
    space: dict[str, tuple[Any, ...] | RangeSettings] = Field(
        default={},
        description="Setting -> list of values or {low, high, log, integer}, for example models.forest.trees: [100, 300].",
    )


class EvaluationSettings(Settings):
    """Evaluate."""

    resamples: int = Field(
        default=2000, ge=200, le=100_000, description="Bootstrap resamples of groups behind every 95 % interval."
    )
    threshold: Literal["auto", "half", "balanced", "sensitivity", "specificity"] = Field(
        default="auto",
        description="Two classes: from which score on the one is predicted and not the other, chosen on the validation images. "
        "balanced: the largest balanced accuracy; sensitivity, specificity: `reach` is reached for the class `positive`; half: "
        "0.5; auto: balanced where each class has 50 independent validation images, else half. More classes: the highest score.",
    )
    reach: float = Field(
        default=0.95, gt=0, le=1, description="Share that threshold sensitivity or specificity reaches on the validation images."
    )
    positive: str | None = Field(
        default=None,
        description="The class whose sensitivity or specificity is meant (specificity: of not finding it); null: none named.",
    )
    baselines: bool = Field(
        default=True,
        description="Evaluate three baselines beside the models: the most frequent class, a forest on file properties alone, the "
        "nearest thumbnails. They take seconds and open no image.",
    )

    @field_validator("positive")
    @classmethod
    def _name_positive(cls, positive: str | None, info: ValidationInfo) -> str | None:
        threshold = info.data.get("threshold")
        if threshold in ("sensitivity", "specificity") and not positive:
            raise ValueError(f"must name a class: the {threshold} of one class is that of the other turned round")
        return positive


class ExplanationSettings(Settings):
    """Explain."""

    gallery: int = Field(
        default=3, ge=0, le=50, description="Right and wrong test images per model that the report shows with a map."
    )
    methods: Literal["auto"] | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        default="auto",
        description="How maps are made: auto: of the methods that suit a model and are not too dear, the one that is most "
        "faithful on validation images; or a list of names to choose from in the same way (`vitrail explain --help` names them).",
    )
    grade_images: int = Field(
        default=32,
        ge=0,
        le=10_000,
        description="Validation images per model on which methods are graded beside maps that know nothing of the model; 0: no "
        "grades, and the first method (of those named) that suits is taken.",
    )
    grade_minutes: float = Field(
        default=2.0,
        gt=0,
        le=10_000,
        description="About how long grading may take per model; methods and images are left out to keep to it, which the report "
        "says.",
    )
    shortcut_hunt: bool = Field(
        default=True,
        description="Look for shortcuts of every model on validation images: whether its maps point outside the anatomy, and "
        "what it still knows when the anatomy is replaced. Takes 5 passes and one or two maps per image; needs a gallery.",
    )
    hunt_images: int = Field(
        default=64,
        ge=2,
        le=10_000,
        description="Validation images per model for that; 10 independent ones of every class are needed.",
    )
    masks: Place | None = Field(
        default=None,
        description="Folder of masks (white where the finding is) with the relative paths or the names of their images, `_mask` "
        "or the like behind them or not: maps are held against them. It may be the folder of the images; null: none.",
    )


def _country_code(code: str | None) -> str | None:
    if code is not None and re.fullmatch("[A-Z]{3}", code) is None:
        raise ValueError("must be the country's code of three capital letters (ISO 3166-1 alpha-3), such as FRA or DEU")
    return code


class EnergySettings(Settings):
    """Energy: electricity and carbon dioxide of a run. Needs the extra `vitrail[energy]`; without it nothing is measured."""

    measure: bool = Field(
        default=True,
        description="Measure (or, where the machine has no meter, estimate) the electricity of training, evaluation and "
        "explanation, if codecarbon is installed.",
    )
    country: Annotated[str | None, AfterValidator(_country_code)] = Field(
        default=None,
        description="Whose electricity it is: code of three letters, such as FRA; the carbon per kWh comes from a table, not "
        "from the network; null: no carbon is estimated.",
    )
    intensity: float | None = Field(
        default=None,
        ge=0,
        le=2000,
        description="Grams of CO2 equivalent per kWh, where the supplier's own number is known; it goes before country.",
    )


class TrackingSettings(Settings):
    """Tracking with MLflow."""

    enabled: bool = Field(default=True, description="Write parameters, metrics, figures and packages to MLflow.")
    uri: str | None = Field(
        default=None,
        description="Tracking server; null: MLFLOW_TRACKING_URI, else an SQLite file in the output folder.",
    )
    experiment: str | None = Field(default=None, description="Name of the MLflow experiment; null: the study's name.")
