"""Why an image got its score, and how far that can be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from vitrail.records.evaluation import Estimate
from vitrail.records.preparing import Recipe
from vitrail.records.types import ByteArray, FloatArray, IntArray, Quantity


@dataclass(frozen=True)
class MapGrade:
    """How good one map of one image is, beside maps of the same image that know nothing of the model.

    Attributes:
        relevance_gain: Symmetric relevance gain of the map, -1..1 of probability; see :class:`MethodGrade`. ``None``: this map
            was not graded, only the grade of its method is known.
        random_gains: The same of random maps of the image; empty: this map was not graded.
        share_beaten: Share of those that the map beats, 0..1; equal ones count half. ``None``: this map was not graded.
        passed: Whether it beats enough of them for chance to be a poor explanation; ``None``: this map was not graded.
        reason: Why the map is drawn in grey, in a sentence; empty where it is not.
        method_gain: Mean gain of the method's maps on the images of the package's grade table; ``None``: it is not in the table.
        method_beats_baselines: What the table says of the method; empty: it is not in the table.
    """

    relevance_gain: float | None
    random_gains: tuple[float, ...]
    share_beaten: float | None
    passed: bool | None
    reason: str = ""
    method_gain: Estimate | None = None
    method_beats_baselines: Literal["yes", "no", "not estimable", ""] = ""


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


@dataclass(frozen=True)
class RegionShare:
    """How much of what speaks for a class lies in a part of the images where no anatomy is.

    Attributes:
        region: The part: ``outside the anatomy``, ``border``, ``upper left corner``..., ``text``.
        target: The class that is explained, that of its own images; empty: of all images.
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
        make_room: Lets go of what else holds the weights, where they are large; called before anything is computed with a copy.
    """

    trunk: Path
    recipe: Recipe
    pooling: Literal["average", "max", "flatten", "none"]
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]
    activations: tuple[str, ...]
    replaced: dict[str, FloatArray] = field(default_factory=dict)
    make_room: Callable[[], None] = lambda: None


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
