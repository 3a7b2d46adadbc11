"""A run as the pipeline would hand it to the report: small phantoms on disk, findings, three models of which one failed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.records import (
    AuditReport,
    CheckOutcome,
    Epoch,
    Estimate,
    Evaluation,
    Evidence,
    Explanation,
    Finding,
    ImageFile,
    Manifest,
    ModelResult,
    Predictions,
    Provenance,
    RunResult,
    Scores,
    Split,
    Training,
)

CLASSES = ("glioma", "healthy", "pituitary")
PER_CLASS = {"train": (24, 30, 18), "validation": (6, 7, 5), "test": (9, 10, 7)}


def phantom(rng: np.random.Generator, label: int, height: int, width: int) -> np.ndarray:
    """Draw a skull, a brain and, but for the healthy class, a bright spot; uint8, shape (height, width)."""
    rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    radius = np.hypot(rows / 0.9, columns / 0.75)
    picture = 90.0 * (radius < 0.86) + 170.0 * ((radius > 0.9) & (radius < 0.97))
    picture += 12 * np.sin(9 * rows + rng.uniform(0, 6)) * np.cos(8 * columns + rng.uniform(0, 6)) * (radius < 0.86)
    if label != 1:
        middle = (rng.uniform(-0.4, 0.2), rng.uniform(-0.4, 0.4)) if label == 0 else (0.45, rng.uniform(-0.1, 0.1))
        picture += 110 * np.exp(-((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2) / 0.02)
    return np.clip(picture + rng.normal(0, 7, picture.shape), 0, 255).astype(np.uint8)


def build_manifest(folder: Path, rng: np.random.Generator) -> Manifest:
    files, thumbnails = [], []
    for part, counts in PER_CLASS.items():
        for label, (name, count) in enumerate(zip(CLASSES, counts, strict=True)):
            for number in range(count):
                height, width = (160, 128) if number % 2 else (140, 140)
                pixels = phantom(rng, label, height, width)
                path = f"{part}/{name}/scan_{number:03d}.png"
                (folder / "images" / path).parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(folder / "images" / path)
                content = (folder / "images" / path).read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                files.append(ImageFile(path, name, part, len(content), digest, "readable", "", "PNG", "L", width, height))
                thumbnails.append(np.asarray(Image.fromarray(pixels).resize((128, 128))))
    files.append(ImageFile(f"train/{CLASSES[0]}/torn.png", CLASSES[0], "train", 0, "0" * 64, "empty", "zero bytes"))
    thumbnails.append(np.zeros((128, 128), np.uint8))
    order = sorted(range(len(files)), key=lambda row: files[row].path)
    np.save(folder / "thumbnails.npy", np.stack([thumbnails[row] for row in order]))
    in_order = tuple(files[row] for row in order)
    return Manifest(folder / "images", CLASSES, in_order, folder / "thumbnails.npy", folder / "facts.npy")


def build_split(manifest: Manifest, *, leaks: bool) -> Split:
    parts = [file.part or "train" for file in manifest.files]
    notes = [""] * len(parts)
    groups = list(range(len(parts)))
    for row, file in enumerate(manifest.files):
        if not file.readable:
            parts[row], notes[row] = "excluded", "unreadable"
    if leaks:
        tests = [row for row, part in enumerate(parts) if part == "test"]
        trains = [row for row, part in enumerate(parts) if part == "train"]
        for test, train in zip(tests[::4], trains, strict=False):
            notes[test], groups[test] = "leaked", groups[train]
        notes[tests[1]] = "quarantined"
    return Split(tuple(parts), tuple(notes), tuple(groups), 7, "The test part is the one the data set ships.")


def interval(value: float, n: int, groups: int, note: str = "") -> Estimate:
    half = 1.96 * (max(value * (1 - value), 0.01) / max(n, 1)) ** 0.5
    how = f"bootstrap of {groups} groups, 2,000 resamples"
    return Estimate(value, max(0.0, value - half), min(1.0, value + half), n, groups, how, note)


def scores_of(predictions: Predictions, rows: np.ndarray) -> Scores:
    """Count what can be counted by hand; the AUCs are made up."""
    truth, predicted = predictions.truth[rows], predictions.predicted[rows]
    n, groups, size = len(truth), len(np.unique(predictions.groups[rows])), len(predictions.classes)
    confusion = np.zeros((size, size), dtype=int)
    np.add.at(confusion, (truth, predicted), 1)
    per_class: dict[str, dict[str, Estimate]] = {}
    for label, name in enumerate(predictions.classes):
        hits, own, given = confusion[label, label], confusion[label].sum(), confusion[:, label].sum()
        per_class[name] = {
            "sensitivity": interval(hits / own, own, own),
            "specificity": interval(1 - (given - hits) / (n - own), n - own, n - own),
            "positive_predictive_value": interval(hits / given, given, given)
            if given
            else Estimate(None, None, None, 0, 0, "", "no image of this class, or none was given it"),
            "f1_score": interval(2 * hits / (own + given), own + given - hits, own),
            "auc": interval(0.5 + 0.49 * hits / own, n, groups),
        }
    balanced = float(np.mean(confusion.diagonal() / confusion.sum(axis=1)))
    overall = {
        "accuracy": interval(confusion.trace() / n, n, groups),
        "balanced_accuracy": interval(balanced, n, groups),
        "auc_weighted": interval(0.5 + 0.49 * balanced, n, groups),
        "log_loss": interval(0.3, n, groups),
    }
    return Scores(n, groups, overall, per_class, tuple(tuple(int(count) for count in row) for row in confusion))


def build_predictions(
    rng: np.random.Generator, manifest: Manifest, split: Split, model: str, skill: float, part: str
) -> Predictions:
    rows = split.rows(part)
    truth = manifest.labels[rows]
    logits = rng.normal(0, 1, (len(rows), len(manifest.classes)))
    remembered = np.array([3.0 * (split.notes[row] == "leaked") for row in rows])
    logits[np.arange(len(rows)), truth] += skill + remembered
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    clean = np.array([not split.notes[row] for row in rows])
    groups = np.array(split.groups)[rows]
    paths = tuple(manifest.files[row].path for row in rows)
    return Predictions(model, part, manifest.classes, rows, paths, truth, shares, groups, clean)


def build_explanations(predictions: Predictions, manifest: Manifest, method: str) -> tuple[Explanation, ...]:
    wrong = np.flatnonzero(predictions.predicted != predictions.truth)[:2]
    right = np.flatnonzero(predictions.predicted == predictions.truth)[:2]
    made = []
    for position in (*right, *wrong):
        file = manifest.files[predictions.rows[position]]
        rows, columns = np.mgrid[-1 : 1 : file.height * 1j, -1 : 1 : file.width * 1j]
        values = np.exp(-((rows - 0.1) ** 2 + (columns + 0.2) ** 2) / 0.1) - 0.6 * np.exp(
            -((rows + 0.5) ** 2 + columns**2) / 0.05
        )
        label = int(predictions.predicted[position])
        warnings = () if position in right else ("The map barely changes when the model's weights are shuffled.",)
        details = {"rows": 7} if method == "grad-cam" else {"patch": 16}
        layer = "blocks.6" if method == "grad-cam" else ""
        score = float(predictions.probabilities[position, label])
        target = predictions.classes[label]
        made.append(Explanation(file.path, predictions.model, method, target, score, values, warnings, details, layer))
    return tuple(made)


def build_model(rng: np.random.Generator, manifest: Manifest, split: Split, name: str, skill: float, epochs: int) -> ModelResult:
    validation = build_predictions(rng, manifest, split, name, skill, "validation")
    test = build_predictions(rng, manifest, split, name, skill, "test")
    everything = np.arange(len(test.truth))
    evaluation = Evaluation(
        name,
        manifest.classes,
        scores_of(validation, np.arange(len(validation.truth))),
        scores_of(test, everything),
        scores_of(test, everything[test.clean]),
        1,
    )
    losses = [1.05 * 0.86**number + 0.1 for number in range(epochs)]
    history = tuple(
        Epoch(number + 1, loss, loss + 0.05 + 0.004 * number, min(0.97, 1.3 - loss * 0.7), 1e-3, 4.2)
        for number, loss in enumerate(losses)
    )
    description = "random forest, 300 trees, grey pixels + HOG" if name == "forest" else "MobileNetV2, frozen, linear head"
    training = Training(
        name,
        name,
        description,
        1284 if epochs else 48_210,
        len(split.rows("train")),
        history,
        max(0, epochs - 3),
        "no lower validation loss for 6 epochs" if epochs else "fitted in one go",
        71.4 if epochs else 3.2,
        {"trees": 300} if name == "forest" else {"backbone": "mobilenetv2_100", "learning_rate": 0.001},
    )
    method = "grad-cam" if epochs else "occlusion"
    explanations = build_explanations(test, manifest, method)
    return ModelResult(name, name, Path("models") / name, training, evaluation, test, explanations)


def build_audit(manifest: Manifest, split: Split, *, leaks: bool) -> AuditReport:
    silent = (
        CheckOutcome("IO101", "Unreadable files", "passed"),
        CheckOutcome("DICOM501", "Patient data in headers", "not applicable", "no DICOM files"),
    )
    readable = sum(file.readable for file in manifest.files)
    if not leaks:
        return AuditReport(len(manifest), readable, (), silent, split.groups, frozenset(), frozenset())
    leaked = [manifest.files[row].path for row, note in enumerate(split.notes) if note == "leaked"]
    train = [file.path for file in manifest.files if file.part == "train" and file.readable]
    pairs = tuple(
        Evidence((path, copy), "2 copies: one in test, one in train, mirrored") for path, copy in zip(leaked, train, strict=False)
    )
    findings = (
        Finding(
            "LEAK301",
            "Test images that also stand in training",
            "error",
            len(leaked),
            f"{len(leaked)} of 26 test images have a copy among the training or validation images.",
            "A model may remember them: the official score is then too good.",
            "Remove the copies from one side, or report the clean score.",
            "They stay in the official score and are left out of the clean score.",
            pairs,
        ),
        Finding(
            "SIZE201",
            "Images of several sizes",
            "warning",
            len(train),
            f"{len(train)} images have 2 different sizes.",
            "The size alone may give the class away.",
            "Export all images alike.",
            "All images are brought to one size.",
            tuple(Evidence((path,), "128 x 160") for path in train[:30]),
            "Both sizes stand in every class; checked by hand.",
        ),
        Finding(
            "IO102",
            "Broken files",
            "info",
            1,
            "1 file is empty.",
            "It teaches nothing.",
            "Export it again.",
            "It is excluded.",
            (Evidence((f"train/{manifest.classes[0]}/torn.png",), "zero bytes"),),
        ),
    )
    return AuditReport(len(manifest), readable, findings, silent, split.groups, frozenset(), frozenset(leaked))


def build_result(folder: Path, *, leaks: bool = True) -> RunResult:
    rng = np.random.default_rng(11)
    manifest = build_manifest(folder, rng)
    split = build_split(manifest, leaks=leaks)
    failed = ModelResult("cnn", "cnn", failure="Out of memory at batch size 512. Set training.batch_size to 64 or less.")
    models = (
        build_model(rng, manifest, split, "forest", 1.2, 0),
        failed,
        build_model(rng, manifest, split, "probe", 1.9, 24),
    )
    provenance = Provenance(
        "0.1.0",
        "3.11.9",
        "Linux x86_64",
        {"numpy": "2.4.6", "torch": "2.9.0"},
        "0123456789abcdef",
        7,
        "a1b2c3d4e5f60718",
        manifest.fingerprint,
        "2026-03-01T09:30:00+01:00",
    )
    audit = build_audit(manifest, split, leaks=leaks)
    return RunResult(
        "brain-demo", folder / "run", manifest, audit, split, models, "probe", provenance, "name: brain-demo\nseed: 7\n"
    )


@pytest.fixture
def make_result(tmp_path: Path) -> Callable[..., RunResult]:
    """A function that builds a run in the test's own folder, for tests that change its files: ``make_result(leaks=...)``."""

    def make(*, leaks: bool = True) -> RunResult:
        return build_result(tmp_path, leaks=leaks)

    return make


@pytest.fixture(scope="session")
def result(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run with leaks, findings and a failed model; shared, so its files must stay as they are."""
    return build_result(tmp_path_factory.mktemp("run"))
