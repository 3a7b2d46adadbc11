"""What proves that a package is whole and still gives the same answers: SHA-256 of every file, and golden questions.

Hashes show damage and mix-ups; they are no signature, so take packages from people you trust.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import ValidationError

from vitrail.errors import PackageError
from vitrail.models.heads import Scores
from vitrail.records import ByteArray
from vitrail.storage import file_sha256, read_record, write_bytes, write_record

GOLDEN_SIDES = ((96, 96), (131, 77), (64, 160), (240, 200))
"""Height and width of the golden images: square, tall, wide, large."""
GOLDEN_TOLERANCE = 1e-3
"""Largest difference of a score that other versions of Pillow or ONNX Runtime may make."""


@dataclass(frozen=True)
class GoldenAnswer:
    """The scores of one golden image, in the order of the classes."""

    image: str
    scores: tuple[float, ...]


# ---------------------------------------------------------------------------------------------------- hashes


def write_hashes(folder: Path) -> None:
    """Write ``hashes.json``: the SHA-256 of every file of a package."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    write_record(folder / "hashes.json", {path.relative_to(folder).as_posix(): file_sha256(path) for path in files})


def check_hashes(folder: Path) -> None:
    """Hold the files of a package against its list: neither an altered, nor a missing, nor an additional one is let through.

    Raises:
        PackageError: One is.
    """
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


# ---------------------------------------------------------------------------------------------------- golden questions


def golden_answers(folder: Path, size: int, answer: Callable[[Path], Scores]) -> tuple[GoldenAnswer, ...]:
    """Write the golden images into a package that is being made, and return what it says of them.

    Args:
        folder: The package.
        size: Side of the model's input.
        answer: Scores of one image file, shape (classes,).
    """
    golden = []
    for image, encoded in _golden_images(size).items():
        write_bytes(folder / image, encoded)
        golden.append(GoldenAnswer(image, tuple(float(score) for score in answer(folder / image))))
    return tuple(golden)


def ask_golden_questions(
    folder: Path,
    golden: Sequence[GoldenAnswer],
    answer: Callable[[Path], Scores],
    *,
    classes: int,
    step: float,
    versions: dict[str, str],
) -> None:
    """Ask a package what it was asked when it was made.

    Args:
        folder: The package.
        golden: What it said then.
        answer: What it says now, shape (classes,).
        classes: Number of classes.
        step: How far a tiny change of the input can move a score.
        versions: Of then, for the message.

    Raises:
        PackageError: It answers differently, or the questions are not those in its folder.
    """
    packed = {path.relative_to(folder).as_posix() for path in folder.glob("golden/*")}
    asked = {one.image for one in golden}
    if not asked or asked != packed:
        raise PackageError(
            f"{folder}: package.json must ask exactly the images in golden/, at least one. Found {len(asked)} questions and "
            f"{len(packed)} images. Make the package again."
        )
    for one in golden:
        scores = answer(folder / one.image)
        if not len(scores) == len(one.scores) == classes:
            raise PackageError(
                f"{folder}: it must give one score per class ({classes}), it gives {len(scores)} and gave "
                f"{len(one.scores)} when it was made. Make the package again."
            )
        difference = float(np.abs(scores - np.array(one.scores)).max())
        allowed = max(GOLDEN_TOLERANCE, step)
        if not difference <= allowed:
            raise PackageError(
                f"{folder}: {one.image} gets other scores than when the package was made "
                f"(difference {difference:.4f}, allowed {allowed:.4f}). "
                f"Use the versions of then: {versions}; or make the package again."
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
