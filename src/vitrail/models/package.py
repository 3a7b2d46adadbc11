"""The model package: one folder that holds everything a prediction needs, and proof that it still gives the same answer.

    package.json        format, name, family, classes, recipe, embedder, head, versions, golden answers
    embedder.onnx       a network's trunk (not for hand-made features)
    head.safetensors    dense layers, or head.onnx for trees and support vectors
    golden/*            synthetic images (never a patient's) whose answers are known
    hashes.json         SHA-256 of every file above

Loading checks the hashes and asks the golden questions again, through the same decoding and preparation as any image. Nothing is
unpickled. Neither torch nor scikit-learn is needed. Several of these make an ensemble: :mod:`vitrail.models.ensemble_package`.
"""

from __future__ import annotations

import importlib.metadata
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import ValidationError

from vitrail.decision import Decision
from vitrail.errors import PackageError, UsageError
from vitrail.models.answering import Package, WeightedModel, weighted_mean
from vitrail.models.embedders import DescriptorEmbedder, OnnxEmbedder, Pooling, load_embedder
from vitrail.models.feature_places import feature_places
from vitrail.models.heads import DenseHead, EstimatorHead, Scores, load_head
from vitrail.models.proof import GoldenAnswer, ask_golden_questions, check_hashes, golden_answers, write_hashes
from vitrail.preprocess import VIEWS, View, missing_for, prepare_file, seen
from vitrail.records import ByteArray, FloatArray, NetworkParts, Placement, Recipe, TreeParts
from vitrail.storage import file_sha256, read_record, whole_folder, write_record

FORMAT: Literal[1] = 1
LIMITS = "Research and teaching. Not a medical device. A score is no diagnosis."


def packing_versions(*recipes: Recipe) -> dict[str, str]:
    """Return the versions of what the answers of a package with these recipes depend on."""
    corrected = any(recipe.bias_correction == "n4" for recipe in recipes)
    packages = ("vitrail", "numpy", "onnxruntime", "pillow", *(("simpleitk",) if corrected else ()))
    return {package: importlib.metadata.version(package) for package in packages}


@dataclass(frozen=True)
class PackageDescription:
    """The content of ``package.json``.

    Attributes:
        format: Version of this layout.
        name: The model's name in its study.
        family: Its family in the catalogue.
        description: One line that a reader understands.
        classes: Class names, in the order of the scores.
        recipe: How an image becomes the model's input.
        embedder: Kind and settings of the first half.
        head: Kind and settings of the second half.
        golden: Questions with known answers.
        versions: Package name -> version at the time of training.
        data_fingerprint: Of the data set it was trained on.
        study_fingerprint: Of the settings it was trained with.
        test_time_augmentation: Over which views of an image the scores are averaged: a key of
            :data:`vitrail.preprocess.views.VIEWS`. Packages made before there were any say nothing of them.
        limits: What a user must know.
        decision: How scores become a class; packages made before there was a choice say nothing of it (the highest score).
    """

    format: Literal[1]
    name: str
    family: str
    description: str
    classes: tuple[str, ...]
    recipe: Recipe
    embedder: dict[str, Any]
    head: dict[str, Any]
    golden: tuple[GoldenAnswer, ...]
    versions: dict[str, str]
    data_fingerprint: str
    study_fingerprint: str
    test_time_augmentation: Literal["none", "mirror", "shifts"] = "none"
    limits: str = LIMITS
    decision: Decision | None = None


class ModelPackage(Package):
    """A single trained model, ready to answer. Get one with :func:`vitrail.load_package`.

    Args:
        description: What ``package.json`` says.
        embedder: Its first half.
        head: Its second half.
        fingerprint: SHA-256 of the package's ``hashes.json``; empty: it is in no folder.
        folder: Where it lies; ``None``: in no folder.
    """

    def __init__(
        self,
        description: PackageDescription,
        embedder: DescriptorEmbedder | OnnxEmbedder,
        head: DenseHead | EstimatorHead,
        fingerprint: str = "",
        folder: Path | None = None,
    ) -> None:
        self.description = description
        self.embedder = embedder
        self.head = head
        self.fingerprint = fingerprint
        self.folder = folder

    @property
    def name(self) -> str:
        """The model's name in its study."""
        return self.description.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the scores."""
        return self.description.classes

    @property
    def recipe(self) -> Recipe:
        """How an image becomes the model's input."""
        return self.description.recipe

    @property
    def decision(self) -> Decision | None:
        """How scores become a class; ``None``: the highest score."""
        return self.description.decision

    @property
    def parts(self) -> tuple[WeightedModel, ...]:
        """Itself, alone."""
        return (WeightedModel(1.0, self),)

    def prepare(self, image: str | Path) -> tuple[ByteArray, Placement]:
        """Return the model's input for one image file and where it lies in the original.

        Raises:
            DataError: It is no readable image.
        """
        return prepare_file(Path(image), self.recipe)

    def scores(self, pixels: ByteArray) -> Scores:
        """Return scores, shape (n, classes), for prepared pixels, uint8 of shape (n, size, size, channels)."""
        return mean_over_views(self.embedder, self.head, pixels, self.views)

    @property
    def views(self) -> tuple[View, ...]:
        """The views of an image whose scores are averaged, the plain one first."""
        return VIEWS[self.description.test_time_augmentation]

    @cached_property
    def plain(self) -> ModelPackage:
        """The same model without test-time augmentation; itself where it has none."""
        if self.description.test_time_augmentation == "none":
            return self
        description = replace(self.description, test_time_augmentation="none")
        return ModelPackage(description, self.embedder, self.head, self.fingerprint, self.folder)

    # ---------------------------------------------------------------- what explanations ask for

    @property
    def pooling(self) -> Pooling:
        """How feature maps become the vector; ``none`` where there are none."""
        return self.embedder.pooling

    @cached_property
    def network(self) -> NetworkParts | None:
        """What gradients need to know of a network with dense layers at its end; ``None`` for all else."""
        if not isinstance(self.embedder, OnnxEmbedder) or not isinstance(self.head, DenseHead):
            return None
        trunk, head = self.embedder, self.head
        dense = head.weights, head.biases, head.activations
        return NetworkParts(trunk.path, self.recipe, trunk.pooling, *dense, make_room=_while_alive(trunk.make_room))

    @cached_property
    def trees(self) -> TreeParts | None:
        """What the values of features need to know of an estimator on hand-made features; ``None`` for all else."""
        if not isinstance(self.embedder, DescriptorEmbedder) or not isinstance(self.head, EstimatorHead):
            return None
        places = feature_places(self.embedder.features, self.recipe.size)
        return TreeParts(self.head.graph, self.embedder.embed, self.head.scores, places)

    def embed_with_maps(self, pixels: ByteArray) -> tuple[FloatArray, FloatArray] | None:
        """Return feature maps (maps, height, width) and vector of one prepared image; ``None`` without feature maps."""
        return self.embedder.embed_with_maps(pixels) if isinstance(self.embedder, OnnxEmbedder) else None

    def scores_with_maps(self, pixels: ByteArray) -> tuple[Scores, FloatArray, FloatArray] | None:
        """Return :meth:`scores` and, from the same run, feature maps and vectors: (n, classes), (n, maps, h, w), (n, dimension).

        ``None`` without feature maps, and where scores are averaged over views: one run does not give both.
        """
        if not isinstance(self.embedder, OnnxEmbedder) or len(self.views) > 1:
            return None
        found = self.embedder.embed_all_with_maps(pixels)
        return None if found is None else (self.head.scores(found[1]), *found)

    def values_inside(self, pixels: ByteArray, names: tuple[str, ...]) -> dict[str, FloatArray] | None:
        """Return values inside the network by name, (n, ...), for pixels (n, size, size, channels).

        ``None`` without a network, and of a large one.
        """
        return self.embedder.values_inside(pixels, names) if isinstance(self.embedder, OnnxEmbedder) else None

    def embedding_gradient(self, embedding: FloatArray, target: int) -> FloatArray:
        """Return the gradient of one class's logit with respect to the vector, shape (dimension,).

        Raises:
            UsageError: The head has no gradient (trees, support vectors).
        """
        if not isinstance(self.head, DenseHead):
            raise UsageError(f"model {self.name!r}: a head of kind {self.head.kind!r} has no gradient. Use occlusion.")
        return self.head.gradient(embedding, target)


def mean_over_views(
    embedder: DescriptorEmbedder | OnnxEmbedder, head: DenseHead | EstimatorHead, pixels: ByteArray, views: tuple[View, ...]
) -> Scores:
    """Return the mean of a model's scores over views of prepared images, shape (n, classes).

    Args:
        embedder: First half.
        head: Second half.
        pixels: uint8, shape (n, size, size, channels).
        views: See :mod:`vitrail.preprocess.views`, also for why scores are averaged and not logits.
    """
    return weighted_mean((1 / len(views), head.scores(embedder.embed(seen(pixels, view)))) for view in views)


def _while_alive(method: Callable[[], None]) -> Callable[[], None]:
    """Return a call of a method that does not keep its object alive: graphs of a network are kept longer than its package."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    return call


def save_package(
    folder: Path,
    *,
    name: str,
    family: str,
    description: str,
    classes: tuple[str, ...],
    embedder: DescriptorEmbedder | OnnxEmbedder,
    head: DenseHead | EstimatorHead,
    data_fingerprint: str,
    study_fingerprint: str,
    test_time_augmentation: Literal["none", "mirror", "shifts"] = "none",
    decision: Decision | None = None,
) -> None:
    """Write a package, whole or not at all. See :class:`PackageDescription` for the arguments."""
    with whole_folder(folder) as temporary:
        embedder_description = embedder.save(temporary)
        head_description = head.save(temporary)

        def answer(image: Path) -> Scores:
            pixels, _ = prepare_file(image, embedder.recipe)
            return np.asarray(mean_over_views(embedder, head, pixels[None], VIEWS[test_time_augmentation])[0])

        golden = golden_answers(temporary, embedder.recipe.size, answer)
        content = PackageDescription(
            format=FORMAT,
            name=name,
            family=family,
            description=description,
            classes=classes,
            recipe=embedder.recipe,
            embedder=embedder_description,
            head=head_description,
            golden=golden,
            versions=packing_versions(embedder.recipe),
            data_fingerprint=data_fingerprint,
            study_fingerprint=study_fingerprint,
            test_time_augmentation=test_time_augmentation,
            decision=decision,
        )
        write_record(temporary / "package.json", content)
        write_hashes(temporary)


def open_model(folder: Path) -> ModelPackage:
    """Load the package of a single model after checking that it is whole, unaltered and gives its golden answers.

    Raises:
        PackageError: It is altered, of another format, needs a package that is not installed, or answers differently than when
            it was made.
    """
    check_hashes(folder)
    description = read_description(folder, PackageDescription)
    if missing := missing_for(description.recipe.bias_correction):
        raise PackageError(f"{folder}: its images are prepared with preprocess.bias_correction n4: {missing}.")
    try:
        check_decision(folder, description.decision, description.classes)
        package = ModelPackage(
            description,
            load_embedder(folder, description.embedder, description.recipe),
            load_head(folder, description.head),
            file_sha256(folder / "hashes.json"),
            folder,
        )
        ask_golden_questions(
            folder,
            description.golden,
            package.scores_of,
            classes=len(package.classes),
            step=package.head.step,
            versions=description.versions,
        )
    except PackageError:
        raise
    except Exception as error:  # a key that is missing, a matrix of another width, an image that is none: it was made wrongly
        raise does_not_fit(folder, error) from error
    return package


Description = TypeVar("Description")


def read_description(folder: Path, kind: type[Description]) -> Description:
    """Read ``package.json``.

    Raises:
        PackageError: It is none that this vitrail reads.
    """
    try:
        return read_record(folder / "package.json", kind)
    except ValidationError as error:
        first = error.errors()[0]
        key, found = ".".join(map(str, first["loc"])) or "the file", repr(first["input"])[:80]
        raise PackageError(
            f"{folder}/package.json: not format {FORMAT}, which this vitrail reads ({key}: {first['msg']}; found {found}). "
            "Update vitrail, or make the package again."
        ) from error


def check_decision(folder: Path, decision: Decision | None, classes: tuple[str, ...]) -> None:
    """Find out whether the rule by which a package decides fits its classes.

    Raises:
        PackageError: It does not.
    """
    problem = decision.problem(classes) if decision is not None else ""
    if problem:
        raise PackageError(f"{folder}/package.json: decision must be a rule for the model's classes: {problem}. Make it again.")


def does_not_fit(folder: Path, error: Exception) -> PackageError:
    """Return the error that says that a package was made wrongly."""
    return PackageError(f"{folder}: its parts do not fit together ({type(error).__name__}: {error}). Make the package again.")
