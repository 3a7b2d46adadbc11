"""What rooms hand to one another: frozen, plain, saved whole.

The data flows one way: ``Manifest`` (images in) -> ``AuditReport`` -> ``Split`` -> ``Recipe`` (preprocess) -> ``Training``
-> ``Predictions`` -> ``Evaluation`` -> ``Explanation`` -> the report. Nothing here computes; nothing here imports a room.
Per-image columns of one manifest always have the same length and order as ``Manifest.files``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
Quantity = Literal["logit", "probability", "contrast"]
QUANTITIES: tuple[Quantity, ...] = ("logit", "probability", "contrast")
"""What can be explained of a class."""
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


# ---------------------------------------------------------------------------------------------------- grades of explanations


@dataclass(frozen=True)
class MapGrade:
    """How good one map of one image is, beside maps of the same image that know nothing of the model.

    Attributes:
        relevance_gain: Symmetric relevance gain of the map, -1..1 of probability; see :class:`MethodGrade`.
        random_gains: The same of random maps of the image.
        share_beaten: Share of those that the map beats, 0..1; equal ones count half.
        passed: Whether it beats enough of them for chance to be a poor explanation.
        reason: Why the map is drawn in grey, in a sentence; empty where it is not.
    """

    relevance_gain: float
    random_gains: tuple[float, ...]
    share_beaten: float
    passed: bool
    reason: str = ""


@dataclass(frozen=True)
class RandomisationTest:
    """Whether a method's maps change when what the model has learnt is taken away (Adebayo et al., NeurIPS 2018).

    Attributes:
        stages: Last layer re-drawn at each stage, from the scores down; at the last stage all weights are.
        similarities: Mean rank correlation of absolute maps with those of the model, -1..1, one per stage.
        last: That of the last stage, with its interval.
        threshold: The test is passed below it.
        passed: ``None``: not estimable.
    """

    stages: tuple[str, ...]
    similarities: tuple[float | None, ...]
    last: Estimate | None
    threshold: float
    passed: bool | None


@dataclass(frozen=True)
class LocalisationGrade:
    """How well a method's maps agree with masks; plausible, not yet faithful. All 0..1.

    Attributes:
        pointing: How often the strongest place lies in the mask.
        energy: Share of the positive part of the map in the mask.
        rank_accuracy: Share of the mask among as many strongest pixels as the mask has.
        chance: Share of the image that the mask takes: what a random map reaches on average.
    """

    pointing: Estimate
    energy: Estimate
    rank_accuracy: Estimate
    chance: Estimate


@dataclass(frozen=True)
class MapAgreement:
    """How alike two methods' maps of the same images are.

    Attributes:
        first: A method.
        second: Another.
        spearman: Mean rank correlation on a coarse grid, -1..1; ``None``: not estimable, a method's maps are constant.
        chance: The same between maps of different images.
        corrected: ``(spearman - chance) / (1 - chance)``: 0 is no more than chance, 1 is the same.
        n: Images it rests on.
    """

    first: str
    second: str
    spearman: float | None
    chance: float | None
    corrected: float | None
    n: int


@dataclass(frozen=True)
class MethodGrade:
    """How good a method's maps of one model are, on average; or a baseline's.

    Attributes:
        name: The method, or the baseline.
        baseline: Whether it is a baseline, which knows nothing of what the model has learnt.
        relevance_gain: Symmetric relevance gain: area under the score while the least relevant parts are removed first, less
            the area while the most relevant are (arXiv:2401.06654); -1..1 of probability, 0 is a map that knows nothing.
        deletion_area: Area while the most relevant go first, 0..1; low is faithful.
        insertion_area: Area while the most relevant come first into the blurred image, 0..1; high is faithful.
        best_baseline: The baseline with the highest gain on the same images; empty for a baseline.
        difference: Gain less that baseline's, image by image.
        beats_baselines: ``yes``: the interval of the difference to every baseline is above zero. Empty for a baseline.
        completeness_error: For methods whose maps promise to add up to something: mean of |promised - sum| / |promised|.
        sensitivity: Sensitivity-max (Yeh et al. 2019), see the table's settings for radius and samples.
        randomisation: The randomisation test, where it was made.
        localisation: Agreement with masks, where there are any.
        passes: Passes of the model per map, forward and backward.
        seconds: Time per map on the machine that graded.
        note: What a reader must know, or why there is no grade; else empty.
    """

    name: str
    baseline: bool
    relevance_gain: Estimate
    deletion_area: Estimate
    insertion_area: Estimate | None = None
    best_baseline: str = ""
    difference: Estimate | None = None
    beats_baselines: Literal["yes", "no", "not estimable", ""] = ""
    completeness_error: Estimate | None = None
    sensitivity: Estimate | None = None
    randomisation: RandomisationTest | None = None
    localisation: LocalisationGrade | None = None
    passes: float = 0.0
    seconds: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class GradeTable:
    """The methods that suit one model, graded on the same images beside baselines.

    Attributes:
        model: Name of the model.
        package: SHA-256 of the package's ``hashes.json``; empty where the model was in no package.
        images: Paths of the images, where they have any.
        n: Number of images.
        groups: Number of independent groups among them.
        settings: How it was measured: steps, cells, fill, radius, seed...
        grades: Methods, then baselines.
        agreement: Between the methods.
        gains: Name -> symmetric relevance gain of every image.
        chosen: The method that ``auto`` takes; empty where none suits.
        why: Why that one, in a sentence.
        notes: What a reader must know.
    """

    model: str
    package: str
    images: tuple[str, ...]
    n: int
    groups: int
    settings: dict[str, object]
    grades: tuple[MethodGrade, ...]
    agreement: tuple[MapAgreement, ...]
    gains: dict[str, tuple[float, ...]]
    chosen: str
    why: str
    notes: tuple[str, ...] = ()

    def grade_of(self, name: str) -> MethodGrade | None:
        """Return the grade of a method or a baseline; ``None`` where it was not graded."""
        return next((grade for grade in self.grades if grade.name == name), None)


# ---------------------------------------------------------------------------------------------------- shortcuts of a model


@dataclass(frozen=True)
class RegionShare:
    """How much of what speaks for a class lies in a part of the images where no anatomy is.

    Attributes:
        region: The part: ``outside the anatomy``, ``border``, ``upper left corner``..., ``text``.
        target: The predicted class that is explained; empty: of all images.
        share: Share of the positive relevance that lies there, 0..1, mean over images.
        area: Share of the image that it takes: what a map that knows nothing reaches on average.
        untrained: The share in maps of the same network with its weights drawn anew; ``None``: it has none.
        above_chance: ``yes``: above both, with the intervals widened for the number of parts and classes that are looked at.
    """

    region: str
    target: str
    share: Estimate
    area: Estimate
    untrained: Estimate | None
    above_chance: Literal["yes", "no", "not estimable"]


@dataclass(frozen=True)
class Intervention:
    """What a model still knows when a part of the images is replaced.

    Attributes:
        name: What is replaced; ``nothing``: the images as they are.
        auc: AUC, mean over classes.
        balanced_accuracy: Balanced accuracy.
        survives: Share of what the model adds over chance (AUC less 0.5) that is still there; ``None`` of the images as they are.
        auc_of_class: Class -> AUC against the rest.
    """

    name: str
    auc: Estimate
    balanced_accuracy: Estimate
    survives: Estimate | None
    auc_of_class: dict[str, Estimate]


@dataclass(frozen=True)
class ShortcutHunt:
    """Where a model looks, and whether it needs to: relevance outside the anatomy, and what survives without the anatomy.

    Attributes:
        model: Name of the model.
        package: SHA-256 of the package's ``hashes.json``; empty where the model was in no package.
        images: Paths of the images that were looked at.
        n: Number of images.
        with_anatomy: How many of them have an estimable anatomy; the numbers rest on these, where they are enough.
        groups: Number of independent groups among the images.
        method: The method of explanation behind the shares of relevance; empty: none was asked.
        regions: Shares of relevance.
        interventions: What survives.
        beyond_outline: Share of what the model adds over chance that what stands outside the anatomy carries beyond the outline
            of the anatomy.
        points_outside: Whether maps point outside the anatomy more than chance would.
        survives: Whether the model still knows the classes without the anatomy.
        verdict: ``found`` where both say yes; ``not estimable`` where there are too few images, no anatomy or no skill.
        message: The same in sentences.
        smallest_found: Weight, 0..1, of a made-up mark in the scores that the second test finds in these images: the smallest of
            those tried. ``None``: none of them.
        settings: How it was measured.
        passes: Passes of the model per image, forward and backward.
        notes: What a reader must know.
    """

    model: str
    package: str
    images: tuple[str, ...]
    n: int
    with_anatomy: int
    groups: int
    method: str
    regions: tuple[RegionShare, ...]
    interventions: tuple[Intervention, ...]
    beyond_outline: Estimate | None
    points_outside: Literal["yes", "no", "not estimable"]
    survives: Literal["yes", "no", "not estimable"]
    verdict: Literal["found", "not found", "not estimable"]
    message: str
    smallest_found: float | None
    settings: dict[str, object]
    passes: float
    notes: tuple[str, ...] = ()


# ---------------------------------------------------------------------------------------------------- explanation


@dataclass(frozen=True, eq=False)
class NetworkParts:
    """What a packed network is made of, as far as gradients need to know.

    Attributes:
        trunk: File of the ONNX graph: scaled input ``pixels`` in, ``embedding`` out, and ``activations`` where there are maps.
        recipe: How pixels are scaled to its input.
        pooling: How the activations become the embedding; ``none``: there are no feature maps.
        weights: One matrix per dense layer of the head, float32, shape (outputs, inputs).
        biases: One vector per dense layer.
        activations: Between two dense layers each: ``relu``, ``tanh``, ``sigmoid`` or ``gelu``.
        replaced: Learned values that stand in for the stored ones, by their names in the graph: for tests of explanations.
    """

    trunk: Path
    recipe: Recipe
    pooling: Literal["average", "max", "flatten", "none"]
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    activations: tuple[str, ...]
    replaced: dict[str, FloatArray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FeaturePlaces:
    """What the features of a vector are and where in the model's input they are read.

    Attributes:
        boxes: Shape (dimension, 4): first row, first column, one past the last row, one past the last column. A feature of the
            whole image has no place: its box is empty, all zeros.
        groups: Names of kinds of features.
        group: Number of each feature's kind, shape (dimension,).
    """

    boxes: IntArray
    groups: tuple[str, ...]
    group: IntArray


@dataclass(frozen=True, eq=False)
class TreeParts:
    """What a packed model of trees is made of, as far as the values of its features need to know.

    Attributes:
        graph: The trees as a serialised ONNX model.
        embed: Prepared pixels, uint8 (n, size, size, channels), to features, float32 (n, dimension).
        scores: Features to scores (n, classes).
        places: Where each feature is read.
    """

    graph: bytes
    embed: Callable[[ByteArray], FloatArray]
    scores: Callable[[FloatArray], npt.NDArray[np.float64]]
    places: FeaturePlaces


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
        parameters: What made it: the patch size, the number of samples...
        layer: The layer whose maps these are; empty where there is none.
        forward_passes: Times that an image passed through the model for it, what methods share counted in full.
        backward_passes: The same, backwards.
        seconds: Time that it took; of several images or methods together: its share.
        package: SHA-256 of the package's ``hashes.json``; empty where the model was in no package.
        seed: What its randomness came from.
        quantity: What is explained: the logit of the class, its probability, or its logit minus the largest other logit.
        standard_error: Of the map, same shape, where the method draws at random; else ``None``.
        grade: How the map holds beside random maps of its image, where it was graded; with a reason in it, it is drawn grey.
    """

    image: str
    model: str
    method: str
    target: str
    score: float
    map: FloatArray
    warnings: tuple[str, ...]
    parameters: dict[str, object] = field(default_factory=dict)
    layer: str = ""
    forward_passes: float = 0.0
    backward_passes: float = 0.0
    seconds: float = 0.0
    package: str = ""
    seed: int = 0
    quantity: Quantity = "logit"
    standard_error: FloatArray | None = None
    grade: MapGrade | None = None


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
    energy: Energy = Energy()
    champion_reason: str = ""

    def trained(self) -> Iterator[ModelResult]:
        """The models that were trained and evaluated."""
        return (model for model in self.models if model.evaluation is not None)

    @property
    def champion_package(self) -> Path | None:
        """Folder of the champion's model package."""
        return next((model.package for model in self.models if model.name == self.champion), None)
