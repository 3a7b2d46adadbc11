"""What rooms hand to one another: frozen, plain, saved whole.

The data flows one way: ``Manifest`` (images in) -> ``AuditReport`` -> ``Split`` -> ``Recipe`` (preprocess) -> ``Training``
-> ``Predictions`` -> ``Evaluation`` -> ``Explanation`` -> the report. Nothing here computes; nothing here imports a room.
Per-image columns of one manifest always have the same length and order as ``Manifest.files``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrail.decision import Decision
from vitrail.row_file import RowFile
from vitrail.storage import fingerprint

FloatArray = npt.NDArray[np.float32]
ByteArray = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]

Part = Literal["train", "validation", "test", "excluded"]
Severity = Literal["error", "warning", "info"]
FileStatus = Literal["readable", "empty", "not_an_image", "unreadable", "excluded"]


# ---------------------------------------------------------------------------------------------------- images in


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image of the data set, as the one pass over its bytes found it: a file, or one slice or frame of a file.

    Attributes:
        path: Relative to the manifest's root, with forward slashes; a slice or frame of a file ends with ``#`` and its number,
            counted from 0.
        label: Class name: the name of the folder it stands in, or what the data set's table says.
        part: The data set's own part (``train``, ``validation`` or ``test``); ``None`` where the folder has no such parts.
        size_bytes: Length of the file.
        sha256: Hash of the file's bytes, hexadecimal.
        status: ``readable``, or why it is not; ``excluded``: a list of fixes says that it shall not be used.
        problem: The reason in words when not readable, else empty.
        format: What the bytes are (``JPEG``, ``PNG``, ``DICOM``...), whatever the name says; empty when unknown.
        mode: How the pixels are stored: Pillow's mode (``L``, ``RGB``, ``I;16``, ``CMYK``...) or, for DICOM, the photometric
            interpretation (``MONOCHROME1``...); empty when unknown.
        width: Width in pixels, upright (EXIF orientation applied); 0 when unknown.
        height: Height in pixels, upright; 0 when unknown.
        turned: Whether the stored image lies on its side or is mirrored, and its EXIF orientation says how to turn it.
        patient: Whom it shows, as the data set itself says it: the table's column, or a pseudonym of the DICOM patient
            identifier; empty when it does not say.
        volume: The volume, series or clip that it is a slice or frame of; empty when it stands alone.
        encoding: How it was compressed, for example ``quality 75, 4:2:0``; empty when unknown.
        source: What made it, as its header says: scanner, station, protocol, software; empty when unknown.
        private: Names (never values) of the header's fields that point to a person, for example ``PatientName``.
    """

    path: str
    label: str
    part: Literal["train", "validation", "test"] | None
    size_bytes: int
    sha256: str
    status: FileStatus
    problem: str = ""
    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    turned: bool = False
    patient: str = ""
    volume: str = ""
    encoding: str = ""
    source: str = ""
    private: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether the whole image could be decoded."""
        return self.status == "readable"


@dataclass(frozen=True)
class Manifest:
    """A data set as found on disk: every file in it, readable or not, in the order of their paths.

    Attributes:
        root: The folder.
        classes: Class names, sorted.
        files: One entry per file.
        thumbnails_path: ``.npy`` file, uint8 of shape (files, 128, 128): grey, stretched to a square; zeros
            where unreadable.
        facts_path: ``.npy`` array of shape (files,) with one named float32 field per measurement of
            :mod:`vitrail.datasets.facts`; not-a-number where unknown.
        notes: What was passed over and why, one line each.
    """

    root: Path
    classes: tuple[str, ...]
    files: tuple[ImageFile, ...]
    thumbnails_path: Path
    facts_path: Path
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def has_shipped_test(self) -> bool:
        """Whether the data set brings its own test part."""
        return any(file.part == "test" for file in self.files)

    @cached_property
    def labels(self) -> IntArray:
        """Class index of every file, shape (files,)."""
        index = {name: number for number, name in enumerate(self.classes)}
        return np.array([index[file.label] for file in self.files], dtype=np.int64)

    @cached_property
    def thumbnails(self) -> RowFile:
        """The thumbnails; ``thumbnails[rows]`` reads some of them, uint8 of shape (rows, 128, 128)."""
        return RowFile(self.thumbnails_path)

    @cached_property
    def facts(self) -> npt.NDArray[np.void]:
        """Measurements by name: ``facts["sharpness"]`` is float32 of shape (files,)."""
        return np.load(self.facts_path)  # type: ignore[no-any-return]

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with any path, label, part or byte of the data set, and with what is left out."""
        return fingerprint([(file.path, file.label, file.part, file.sha256, file.status == "excluded") for file in self.files])


# ---------------------------------------------------------------------------------------------------- audit


@dataclass(frozen=True)
class Evidence:
    """One piece of evidence: the files it is about and what was seen.

    Attributes:
        paths: Relative paths; copies stand together in one piece of evidence.
        note: One short phrase, for example "2 copies: no_tumor in train, no_tumor in test".
    """

    paths: tuple[str, ...]
    note: str


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the data set.

    Attributes:
        code: Stable code, for example ``LEAK301``.
        title: What the check looks for, a few words.
        severity: ``error`` (claims about the test set are not to be trusted), ``warning`` or ``info``.
        count: How many files (or groups, as ``message`` says) it concerns.
        message: One sentence with the figures.
        why: One sentence: why it matters.
        fix: What the person can do: a command or an action.
        consequence: What vitrail itself does about it in this run.
        evidence: The most telling pieces first; complete, not a sample.
        accepted: The reason the study gives for accepting the finding; empty when not accepted.
    """

    code: str
    title: str
    severity: Severity
    count: int
    message: str
    why: str
    fix: str
    consequence: str
    evidence: tuple[Evidence, ...] = ()
    accepted: str = ""


@dataclass(frozen=True)
class CheckOutcome:
    """How one check ended when it found nothing: passed, or not applicable and why."""

    code: str
    title: str
    outcome: Literal["passed", "not applicable"]
    reason: str = ""


@dataclass(frozen=True)
class AuditReport:
    """What the audit says and what follows from it, per file.

    Attributes:
        images: Number of files that are images by name or content (the unreadable ones included).
        readable: Number of images that can be decoded.
        findings: Most severe first, then by code.
        silent: The checks that found nothing.
        groups: Group number per file: copies (exact, near, mirrored), slices of one volume and images of one patient share it.
            Groups never cross training, validation and a test part that vitrail makes; intervals resample them.
        quarantined: Paths of copies that carry different labels: used neither for training nor for the clean score.
        leaked: Paths of shipped test images of which a copy, another slice or the patient also stands in the training or
            validation part the data set ships.
        doubtful: Paths of shipped test images that may leak: their file names share a patient number with images outside the
            test part, and nobody has confirmed that the number names the patient.
    """

    images: int
    readable: int
    findings: tuple[Finding, ...]
    silent: tuple[CheckOutcome, ...]
    groups: tuple[int, ...]
    quarantined: frozenset[str]
    leaked: frozenset[str]
    doubtful: frozenset[str] = frozenset()

    def unaccepted_errors(self) -> tuple[Finding, ...]:
        """Error-level findings that the study does not accept."""
        return tuple(finding for finding in self.findings if finding.severity == "error" and not finding.accepted)


# ---------------------------------------------------------------------------------------------------- split


@dataclass(frozen=True)
class Split:
    """Who trains, who stops training early, who tests. Built only through :func:`vitrail.split.make_split` or its checks.

    Attributes:
        parts: Part of every file.
        notes: Why a file is excluded (``unreadable``, ``quarantined``, ``left out``); for an image of the shipped test part, why
            it does not count for the clean score (``leaked``, ``quarantined``), or that it may leak (``doubtful``); else empty.
        groups: Group number of every file (see :class:`AuditReport`).
        seed: The seed that drew it.
        origin: Where the parts come from, in words, for the report.
    """

    parts: tuple[Part, ...]
    notes: tuple[str, ...]
    groups: tuple[int, ...]
    seed: int
    origin: str

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change when any file changes its part, its note or its group."""
        return fingerprint(self.parts, self.notes, self.groups)

    def clean(self, row: int) -> bool:
        """Whether a file counts for the clean score, if it is in the test part: not surely leaked, not of conflicting labels."""
        return self.notes[row] in ("", "doubtful")

    def rows(self, part: Part) -> IntArray:
        """Return the positions in the manifest of the files of one part."""
        return np.array([row for row, name in enumerate(self.parts) if name == part], dtype=np.int64)


# ---------------------------------------------------------------------------------------------------- preprocess


@dataclass(frozen=True)
class Recipe:
    """How an image becomes a model's input. Part of every model package, so that serving does what training did.

    Attributes:
        size: Height and width of the model's input in pixels.
        colour: ``grey`` (1 channel) or ``rgb`` (3 channels).
        crop_margins: Cut the dark margin around the object before resizing.
        keep_aspect: Pad to a square with black instead of stretching.
        scaling: ``unit`` (0..255 to 0..1), ``minmax`` (each image to 0..1), ``standardise`` (each image to mean 0 and
            deviation 1) or ``channel`` (0..1, then minus ``mean``, divided by ``deviation``, per channel).
        mean: Per channel, for ``channel`` scaling; else empty.
        deviation: Per channel, for ``channel`` scaling; else empty.
        window: Two percentiles (0..100) of the luminance that become black and white; ``None``: no window.
        contrast: ``clahe`` (tile by tile, limited), ``equalise`` (over the whole image) or ``none``; after the window.
        clip_limit: For ``clahe``: largest share of a tile, above 0 to 1, that one grey level may count for.
        tiles: For ``clahe``: number of tiles down and across.
    """

    size: int
    colour: Literal["grey", "rgb"]
    crop_margins: bool
    keep_aspect: bool
    scaling: Literal["unit", "minmax", "standardise", "channel"]
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    # Packages made before these steps existed say nothing of them, and load without.
    window: tuple[float, float] | None = None
    contrast: Literal["none", "clahe", "equalise"] = "none"
    clip_limit: float = 0.01
    tiles: int = 8

    @property
    def channels(self) -> int:
        """1 for grey, 3 for rgb."""
        return 1 if self.colour == "grey" else 3

    @property
    def pixels_fingerprint(self) -> str:
        """Changes with everything that shapes the uint8 pixels (all but the scaling): the key of the decode cache."""
        # A step that is off leaves no trace: recipes from before it existed keep their fingerprint, and with it their caches.
        steps: list[tuple[object, ...]] = []
        if self.window is not None:
            steps.append(("window", *map(float, self.window)))
        if self.contrast != "none":
            steps.append((self.contrast, *((float(self.clip_limit), self.tiles) if self.contrast == "clahe" else ())))
        return fingerprint("pixels-1", self.size, self.colour, self.crop_margins, self.keep_aspect, *steps)

    @property
    def fingerprint(self) -> str:
        """Changes with anything in the recipe: part of the key of the feature cache."""
        return fingerprint(self.pixels_fingerprint, self.scaling, self.mean, self.deviation)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the model's input came from in the original image, so that a map can be drawn back at the image's own geometry.

    All in pixels; boxes are half-open (``top`` <= row < ``bottom``).

    Attributes:
        height: Height of the upright original.
        width: Width of the upright original.
        top: First row of the original that the input shows.
        left: First column.
        bottom: One past the last row.
        right: One past the last column.
        inner_top: First row of the input that shows image (not padding).
        inner_left: First such column.
        inner_bottom: One past the last such row.
        inner_right: One past the last such column.
    """

    height: int
    width: int
    top: int
    left: int
    bottom: int
    right: int
    inner_top: int
    inner_left: int
    inner_bottom: int
    inner_right: int


# ---------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images.

    Attributes:
        number: From 1.
        training_loss: Mean loss over the training images, as seen during the pass; weighted by class where the
            training settings balance the classes.
        validation_loss: The same over all validation images after the pass.
        validation_balanced_accuracy: Mean sensitivity over the classes, validation images.
        learning_rate: The largest during the pass.
        seconds: Wall-clock time.
    """

    number: int
    training_loss: float
    validation_loss: float
    validation_balanced_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Energy:
    """Electricity that some work took; ``None`` means not known, and ``note`` says why. It is never zero for want of a meter.

    Attributes:
        kwh: Kilowatt-hours.
        co2_kg: Kilograms of carbon dioxide equivalent.
        seconds: Wall-clock time that was measured.
        method: What was measured and what was estimated, and the carbon per kilowatt-hour, in words.
        note: Why a number is missing, or a caveat; else empty.
    """

    kwh: float | None = None
    co2_kg: float | None = None
    seconds: float = 0.0
    method: str = ""
    note: str = "not measured"


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a training went on from.

    Attributes:
        package: SHA-256 of the list of hashes of the model package that was continued.
        run: Name of the run it stands in.
        model: Its name there.
        epochs: Epochs behind the weights it began with: those up to its best one, over all trainings before.
    """

    package: str
    run: str
    model: str
    epochs: int


@dataclass(frozen=True)
class Choice:
    """Something that was chosen on the validation images after training.

    Attributes:
        what: ``test-time augmentation`` or ``weights``.
        chosen: The option taken.
        reason: Why, in one sentence.
        validation: Option -> metric -> value on the validation images; ``None``: not estimable.
    """

    what: str
    chosen: str
    reason: str
    validation: dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Member:
    """A model of the study that an ensemble was asked to average.

    Attributes:
        name: Its name in the study.
        weight: How much its scores count, 0 to 1; 0: not at all.
        package: SHA-256 of its package's ``hashes.json``; empty: it could not be trained and was left out.
    """

    name: str
    weight: float
    package: str


@dataclass(frozen=True)
class Computation:
    """What the epochs of a training were computed on; where a killed training went on elsewhere, both are named in order.

    Attributes:
        device: For example ``CPU`` or ``NVIDIA A100-SXM4-40GB (cuda:0)``; empty: not recorded.
        precision: ``full``, ``mixed (bfloat16)`` or ``mixed (float16)``.
        processes: That shared every step.
    """

    device: str = ""
    precision: str = ""
    processes: int = 1


@dataclass(frozen=True)
class Training:
    """How one model was trained.

    Attributes:
        model: The model's name in the study.
        family: ``forest``, ``cnn``, ``probe``...
        description: One line a reader understands, for example "random forest, 300 trees, grey pixels + HOG".
        parameters: Number of trained parameters (nodes of the trees for a forest).
        images: Number of training images.
        epochs: Empty for models that are fitted in one go.
        best_epoch: The epoch whose weights were kept; 0 when there are no epochs.
        stopped: Why training ended, in words.
        seconds: Wall-clock time of the training itself, over all resumed parts.
        split: Fingerprint of the split it was trained on.
        settings: The settings it was trained with, resolved, as plain data.
        batch_size: Images per step at the end, smaller than ``settings`` say where batches did not fit into memory; ``None`` for
            what is fitted in one go.
        energy: Electricity that training took, the preparing of its images included.
        weights: SHA-256 of the file of weights beside the package, from which training can go on; empty: none is kept.
        continues: What it went on from; its epochs then begin with those behind the weights it began with.
        test_time_augmentation: The views over which its scores are averaged; ``none``: the image itself alone.
        choices: What was chosen on the validation images after training.
        members: Of an ensemble, in the order of their names.
        out_of_time: Whether ``training.minutes`` ended it: then the same seed gives other weights on another machine.
        computed: On what; its device is empty for what is fitted in one go, on the CPU.
    """

    model: str
    family: str
    description: str
    parameters: int
    images: int
    epochs: tuple[Epoch, ...]
    best_epoch: int
    stopped: str
    seconds: float
    split: str = ""
    settings: dict[str, object] = field(default_factory=dict)
    batch_size: int | None = None
    energy: Energy = Energy()
    weights: str = ""
    continues: Continuation | None = None
    test_time_augmentation: Literal["none", "mirror", "shifts"] = "none"
    choices: tuple[Choice, ...] = ()
    members: tuple[Member, ...] = ()
    out_of_time: bool = False
    computed: Computation = Computation()


# ---------------------------------------------------------------------------------------------------- evaluation


@dataclass(frozen=True)
class Predictions:
    """One model's scores for one part of the data, in the order of ``rows``.

    Attributes:
        model: The model's name in the study.
        part: ``validation`` or ``test``.
        classes: Class names; the columns of ``probabilities``.
        rows: Position of every image in the manifest, shape (n,).
        paths: Relative path of every image.
        truth: True class index, shape (n,).
        probabilities: Scores that sum to 1 per row, float64, shape (n, classes).
        groups: Group number per image, shape (n,); intervals resample groups.
        clean: Whether the image counts for the clean score (nothing of it stands in training for sure, no conflicting
            label), shape (n,).
        decided: Index of the class that the model's rule gave each image, shape (n,); on validation images by thresholds that
            other validation images chose; ``None``: the class with the highest score.
    """

    model: str
    part: Literal["validation", "test"]
    classes: tuple[str, ...]
    rows: IntArray
    paths: tuple[str, ...]
    truth: IntArray
    probabilities: npt.NDArray[np.float64]
    groups: IntArray
    clean: npt.NDArray[np.bool_]
    decided: IntArray | None = None

    @property
    def predicted(self) -> IntArray:
        """Index of the predicted class, shape (n,)."""
        return self.decided if self.decided is not None else np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @property
    def answers(self) -> npt.NDArray[np.float64]:
        """1 for the predicted class and 0 for the others, shape (n, classes): the decision in the form of scores."""
        return np.asarray(np.eye(len(self.classes))[self.predicted], dtype=np.float64)


@dataclass(frozen=True)
class Estimate:
    """A number with its interval and its origin; ``None`` means not estimable, and ``note`` says why.

    Attributes:
        value: Point estimate on all images it is about.
        low: Lower end of the 95 % interval.
        high: Upper end.
        n: Number of images it rests on (for sensitivity: the images of the class).
        groups: Number of independent groups among them.
        method: How the interval was made, for example "bootstrap of 251 groups, 2,000 resamples".
        note: Why it is not estimable, or a caveat; else empty.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    groups: int
    method: str
    note: str = ""


@dataclass(frozen=True)
class Scores:
    """All metrics of one model on one set of images.

    Attributes:
        n: Number of images.
        groups: Number of independent groups.
        overall: Metric name -> estimate, for example ``accuracy``, ``balanced_accuracy``, ``auc_weighted``.
        per_class: Class name -> metric name -> estimate, for example ``sensitivity``, ``specificity``, ``auc``.
        confusion: Counts, true class by row, predicted class by column, in the order of the classes.
    """

    n: int
    groups: int
    overall: dict[str, Estimate]
    per_class: dict[str, dict[str, Estimate]]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Evaluation:
    """One model, evaluated. The test images were opened here and nowhere before.

    Attributes:
        model: The model's name in the study.
        classes: Class names.
        validation: On the validation images (they chose the epoch and the champion: optimistic). A threshold is judged on
            those that did not choose it.
        test: On all test images: the official score.
        test_clean: Without test images that also stand in training and without conflicting copies: the headline.
        test_openings: How often the test images were opened for this model of this study; ``--fresh`` does not set it back.
        test_openings_of_data: How often the test images of this data set were opened from this output folder, for any model of
            any study: every look at them that guides a next study makes the scores more optimistic.
        decision: How scores become a class; ``None``: the highest score (evaluations from before there were any).
        test_clean_at_half: The clean test images with a threshold of 0.5; ``None`` where that is the rule.
    """

    model: str
    classes: tuple[str, ...]
    validation: Scores
    test: Scores
    test_clean: Scores
    test_openings: int
    test_openings_of_data: int = 1
    decision: Decision | None = None
    test_clean_at_half: Scores | None = None


@dataclass(frozen=True)
class Difference:
    """By how much a model is better than a baseline on the same test images.

    Attributes:
        model: The model's name in the study.
        baseline: The baseline's name.
        part: The images: ``test_clean``, or ``test`` where no clean test image of some class exists.
        balanced_accuracy: The model's minus the baseline's, -1..1; the interval resamples groups, for both at once.
    """

    model: str
    baseline: str
    part: Literal["test_clean", "test"]
    balanced_accuracy: Estimate

    @property
    def beaten(self) -> bool:
        """Whether the model is surely better: the whole interval lies above 0."""
        return self.balanced_accuracy.low is not None and self.balanced_accuracy.low > 0


# ---------------------------------------------------------------------------------------------------- explanation


@dataclass(frozen=True)
class Explanation:
    """Why one image got its score: a map at the image's own geometry.

    Attributes:
        image: Path of the image, as it was given.
        model: Name of the model.
        method: ``grad-cam``, ``occlusion``...
        target: Class whose score is explained.
        score: The model's score for that class, 0..1.
        map: Signed relevance, float32, shape (height, width) of the upright original; zero outside what the model saw.
        warnings: What a reader must know before he trusts the map.
        details: What made it: the layer, the patch size, the number of model runs.
    """

    image: str
    model: str
    method: str
    target: str
    score: float
    map: FloatArray
    warnings: tuple[str, ...]
    details: dict[str, object] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------------------- the whole run


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
    energy: Energy = Energy()
    champion_reason: str = ""

    def trained(self) -> Iterator[ModelResult]:
        """The models that were trained and evaluated."""
        return (model for model in self.models if model.evaluation is not None)

    @property
    def champion_package(self) -> Path | None:
        """Folder of the champion's model package."""
        return next((model.package for model in self.models if model.name == self.champion), None)
