"""The model package: one folder that holds everything a prediction needs, and proof that it still gives the same answer.

    package.json        format, name, family, classes, recipe, embedder, head, versions, golden answers
    embedder.onnx       a network's trunk (not for hand-made features)
    head.safetensors    dense layers, or head.onnx for trees and support vectors
    golden/*            synthetic images (never a patient's) whose answers are known
    hashes.json         SHA-256 of every file above

Loading checks the hashes and asks the golden questions again, through the same decoding and preparation as any image. Nothing is
unpickled. Neither torch nor scikit-learn is needed. Hashes show damage and mix-ups; they are no signature, so take packages from
people you trust.
"""

from __future__ import annotations

import importlib.metadata
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import ValidationError

from vitrail.engine import map_in_order
from vitrail.errors import DataError, PackageError, UsageError
from vitrail.models.embedders import BATCH, DescriptorEmbedder, OnnxEmbedder, Pooling, load_embedder
from vitrail.models.heads import DenseHead, EstimatorHead, load_head
from vitrail.preprocess import prepare_file
from vitrail.progress import SILENT, Progress
from vitrail.records import ByteArray, FloatArray, Placement, Recipe
from vitrail.storage import file_sha256, read_record, whole_folder, write_bytes, write_record

FORMAT: Literal[1] = 1
GOLDEN_SIDES = ((96, 96), (131, 77), (64, 160), (240, 200))
"""Height and width of the golden images: square, tall, wide, large."""
GOLDEN_TOLERANCE = 1e-3
"""Largest difference of a score that other versions of Pillow or ONNX Runtime may make."""


@dataclass(frozen=True)
class GoldenAnswer:
    """The scores of one golden image, in the order of the classes."""

    image: str
    scores: tuple[float, ...]


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
        limits: What a user must know.
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
    limits: str = "Research and teaching. Not a medical device. A score is no diagnosis."


@dataclass(frozen=True)
class ImagePrediction:
    """What the model says of one image; ``error`` is set and the rest empty where it could not be read.

    Attributes:
        image: As it was given.
        predicted: Class with the highest score.
        probabilities: Class name -> score; they sum to 1.
        error: Why there is no prediction.
    """

    image: str
    predicted: str
    probabilities: dict[str, float]
    error: str = ""


class ModelPackage:
    """A trained model, ready to answer. Get one with :func:`load_package`.

    Args:
        description: What ``package.json`` says.
        embedder: Its first half.
        head: Its second half.
    """

    def __init__(
        self, description: PackageDescription, embedder: DescriptorEmbedder | OnnxEmbedder, head: DenseHead | EstimatorHead
    ) -> None:
        self.description = description
        self.embedder = embedder
        self.head = head

    def __repr__(self) -> str:
        return f"ModelPackage({self.name!r}, classes={list(self.classes)})"

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

    def predict(self, images: str | Path | Sequence[str | Path], *, progress: Progress = SILENT) -> list[ImagePrediction]:
        """Score image files.

        Args:
            images: One path or several.
            progress: Told of every image.

        Returns:
            One answer per image, in their order; an unreadable one gets an ``error``, the others their scores.
        """
        paths = [images] if isinstance(images, str | Path) else list(images)
        answers: list[ImagePrediction] = []
        with progress.task(f"{self.name}: scoring", len(paths)) as advance:
            for start in range(0, len(paths), BATCH):
                batch = [str(path) for path in paths[start : start + BATCH]]
                answers += self._predict_batch(batch)
                advance(len(batch))
        return answers

    def _predict_batch(self, images: list[str]) -> list[ImagePrediction]:
        prepared = list(map_in_order(self._prepared_or_reason, images))
        readable = [pixels for pixels in prepared if not isinstance(pixels, str)]
        scores = iter(list(self.scores(np.stack(readable))) if readable else [])
        answers = []
        for image, pixels in zip(images, prepared, strict=True):
            if isinstance(pixels, str):
                answers.append(ImagePrediction(image, "", {}, pixels))
                continue
            of_image = next(scores)
            probabilities = {name: float(score) for name, score in zip(self.classes, of_image, strict=True)}
            answers.append(ImagePrediction(image, self.classes[int(of_image.argmax())], probabilities))
        return answers

    def _prepared_or_reason(self, image: str) -> ByteArray | str:
        try:
            return prepare_file(Path(image), self.recipe)[0]
        except DataError as error:
            return str(error)

    def prepare(self, image: str | Path) -> tuple[ByteArray, Placement]:
        """Return the model's input for one image file and where it lies in the original.

        Raises:
            DataError: It is no readable image.
        """
        return prepare_file(Path(image), self.recipe)

    def scores(self, pixels: ByteArray) -> npt.NDArray[np.float64]:
        """Return scores, shape (n, classes), for prepared pixels, uint8 of shape (n, size, size, channels)."""
        return self.head.scores(self.embedder.embed(pixels))

    # ---------------------------------------------------------------- what explanations ask for

    @property
    def pooling(self) -> Pooling:
        """How feature maps become the vector; ``none`` where there are none."""
        return self.embedder.pooling

    def embed_with_maps(self, pixels: ByteArray) -> tuple[FloatArray, FloatArray] | None:
        """Return feature maps (maps, height, width) and vector of one prepared image; ``None`` without feature maps."""
        return self.embedder.embed_with_maps(pixels) if isinstance(self.embedder, OnnxEmbedder) else None

    def embedding_gradient(self, embedding: FloatArray, target: int) -> FloatArray:
        """Return the gradient of one class's logit with respect to the vector, shape (dimension,).

        Raises:
            UsageError: The head has no gradient (trees, support vectors).
        """
        if not isinstance(self.head, DenseHead):
            raise UsageError(f"model {self.name!r}: a head of kind {self.head.kind!r} has no gradient. Use occlusion.")
        return self.head.gradient(embedding, target)


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
) -> None:
    """Write a package, whole or not at all. See :class:`PackageDescription` for the arguments."""
    with whole_folder(folder) as temporary:
        embedder_description = embedder.save(temporary)
        head_description = head.save(temporary)
        golden = []
        for image, encoded in _golden_images(embedder.recipe.size).items():
            write_bytes(temporary / image, encoded)
            prepared, _ = prepare_file(temporary / image, embedder.recipe)
            scores = head.scores(embedder.embed(prepared[None]))[0]
            golden.append(GoldenAnswer(image, tuple(float(score) for score in scores)))
        content = PackageDescription(
            format=FORMAT,
            name=name,
            family=family,
            description=description,
            classes=classes,
            recipe=embedder.recipe,
            embedder=embedder_description,
            head=head_description,
            golden=tuple(golden),
            versions={package: importlib.metadata.version(package) for package in ("vitrail", "numpy", "onnxruntime", "pillow")},
            data_fingerprint=data_fingerprint,
            study_fingerprint=study_fingerprint,
        )
        write_record(temporary / "package.json", content)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        hashes = {path.relative_to(temporary).as_posix(): file_sha256(path) for path in files}
        write_record(temporary / "hashes.json", hashes)


def load_package(folder: str | Path) -> ModelPackage:
    """Load a model package after checking that it is whole, unaltered and gives its golden answers.

    Example:
        >>> package = load_package("runs/brain/models/forest/package")      # doctest: +SKIP
        >>> package.predict(["slice.jpg"])[0].predicted                     # doctest: +SKIP
        'glioma'

    Raises:
        PackageError: It is missing, altered, of another format, or answers differently than when it was made.
    """
    folder = Path(folder)
    if not (folder / "package.json").is_file():
        found = "a folder without package.json" if folder.is_dir() else "nothing"
        raise PackageError(
            f"{folder}: not a model package (found {found}). "
            "Give the folder that a run calls models/NAME/package; `vitrail run --json` prints the champion's."
        )
    _check_hashes(folder)
    try:
        description = read_record(folder / "package.json", PackageDescription)
    except ValidationError as error:
        first = error.errors()[0]
        key, found = ".".join(map(str, first["loc"])) or "the file", repr(first["input"])[:80]
        raise PackageError(
            f"{folder}/package.json: not format {FORMAT}, which this vitrail reads ({key}: {first['msg']}; found {found}). "
            "Update vitrail, or make the package again."
        ) from error
    try:
        package = ModelPackage(
            description,
            load_embedder(folder, description.embedder, description.recipe),
            load_head(folder, description.head),
        )
        _check_golden(folder, description)
        _ask_golden_questions(folder, package)
    except PackageError:
        raise
    except Exception as error:  # a key that is missing, a matrix of another width, an image that is none: it was made wrongly
        raise PackageError(
            f"{folder}: its parts do not fit together ({type(error).__name__}: {error}). Make the package again."
        ) from error
    return package


def _ask_golden_questions(folder: Path, package: ModelPackage) -> None:
    for answer in package.description.golden:
        prepared, _ = prepare_file(folder / answer.image, package.recipe)
        scores = package.scores(prepared[None])[0]
        if not len(scores) == len(answer.scores) == len(package.classes):
            raise PackageError(
                f"{folder}: it must give one score per class ({len(package.classes)}), it gives {len(scores)} and gave "
                f"{len(answer.scores)} when it was made. Make the package again."
            )
        difference = float(np.abs(scores - np.array(answer.scores)).max())
        allowed = max(GOLDEN_TOLERANCE, package.head.step)
        if not difference <= allowed:
            raise PackageError(
                f"{folder}: {answer.image} gets other scores than when the package was made "
                f"(difference {difference:.4f}, allowed {allowed:.4f}). "
                f"Use the versions of then: {package.description.versions}; or make the package again."
            )


def _check_hashes(folder: Path) -> None:
    """Hold the files of a package against its list: neither an altered, nor a missing, nor an additional one is let through."""
    try:
        expected = read_record(folder / "hashes.json", dict[str, str])
    except (OSError, ValidationError) as error:
        raise PackageError(f"{folder}: hashes.json is missing or damaged. Copy the package again, whole.") from error
    present = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file() or path.is_symlink()}
    del present["hashes.json"]
    for name in sorted(expected.keys() | present.keys()):
        if name not in present:
            raise PackageError(f"{folder}: {name} is missing. Copy the package again, whole.")
        if name not in expected:
            raise PackageError(f"{folder}: hashes.json does not cover {name}. Remove that file, or do not use this package.")
        if present[name].is_symlink() or file_sha256(present[name]) != expected[name]:
            raise PackageError(f"{folder}: {name} is not the file that was packed (SHA-256 differs). Do not use this package.")


def _check_golden(folder: Path, description: PackageDescription) -> None:
    packed = {path.relative_to(folder).as_posix() for path in folder.glob("golden/*")}
    asked = {answer.image for answer in description.golden}
    if not asked or asked != packed:
        raise PackageError(
            f"{folder}: package.json must ask exactly the images in golden/, at least one. Found {len(asked)} questions and "
            f"{len(packed)} images. Make the package again."
        )


def _golden_images(size: int) -> dict[str, bytes]:
    """Return synthetic image files, the same on every machine: smooth random blobs with an edge.

    Small PNG files of several shapes, and one JPEG large enough to be decoded at a fraction of its size, as most images are.

    Args:
        size: Side of the model's input.
    """
    generator = np.random.default_rng(20)
    files = {}
    for number, (height, width) in enumerate(GOLDEN_SIDES):
        files[f"golden/{number}.png"] = _encoded(_blobs(height, width, generator), "PNG")
    files[f"golden/{len(GOLDEN_SIDES)}.jpg"] = _encoded(_blobs(5 * size, 4 * size + 3, generator), "JPEG")
    return files


def _encoded(pixels: ByteArray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind)
    return buffer.getvalue()


def _blobs(height: int, width: int, generator: np.random.Generator) -> ByteArray:
    rows, columns = np.mgrid[0:height, 0:width]
    image = np.zeros((height, width))
    for _ in range(6):
        centre = generator.uniform(0, 1, 2) * (height, width)
        spread = generator.uniform(0.05, 0.3) * min(height, width)
        distance = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
        image += generator.uniform(-1, 1) * np.exp(-distance / (2 * spread**2))
    image += columns > width * generator.uniform(0.3, 0.7)
    return np.asarray(255 * (image - image.min()) / np.ptp(image), dtype=np.uint8)
