"""Train one model of a study on the split, and give back its two halves ready to be packed."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.errors import UsageError
from vitrail.models import (
    FAMILIES,
    DenseHead,
    DescriptorEmbedder,
    EstimatorHead,
    OnnxEmbedder,
    check_continued_data,
    check_model,
    describe,
    family_module,
    load_weights,
    save_weights,
    stops_early,
)
from vitrail.models.continued import WEIGHTS
from vitrail.preprocess import decode_cache, make_recipe
from vitrail.preprocess.examples import augmented_examples, augments, save_examples
from vitrail.progress import SILENT, Progress
from vitrail.records import Computation, Continuation, Epoch, FloatArray, IntArray, Manifest, Split, Training
from vitrail.row_file import RowFile
from vitrail.storage import write_bytes
from vitrail.study import AugmentSettings, ModelSettings, Study, TrainingSettings
from vitrail.training.continuing import continued_record, seed_of, start_is_best
from vitrail.training.features import features
from vitrail.training.imbalance import BalancedSet, balanced_set
from vitrail.training.schedules import check_schedule

OPEN_SIZE = 128
"""Side of the input in pixels where neither the study nor the family says one."""

EXAMPLE_CLASSES, EXAMPLE_VARIANTS = 6, 4
"""Of how many classes the report shows what the augmentation makes of an image, and how many variants of each."""


@dataclass(frozen=True)
class Job:
    """What every way of training needs.

    Attributes:
        study: All settings.
        manifest: The data set.
        split: Who trains, who validates.
        folder: The model's own folder, for what is under way.
        cache: Folder of the caches.
        progress: Told of everything long.
        of_fold: Whether the split is a fold's: pixels are then decoded with those of the images held out, once for all folds.
    """

    study: Study
    manifest: Manifest
    split: Split
    folder: Path
    cache: Path
    progress: Progress = SILENT
    of_fold: bool = False

    @property
    def training_rows(self) -> IntArray:
        """Positions of the training images."""
        return self.split.rows("train")

    @property
    def validation_rows(self) -> IntArray:
        """Positions of the validation images."""
        return self.split.rows("validation")

    @property
    def decoded_rows(self) -> IntArray:
        """Positions of the images whose pixels are decoded together, in the order of the manifest. Test images are not opened."""
        wanted = {"train", "validation", *(["test"] if self.of_fold else [])}
        return np.array([row for row, part in enumerate(self.split.parts) if part in wanted], dtype=np.int64)


@dataclass(frozen=True)
class Trained:
    """A trained model.

    Attributes:
        embedder: Its first half.
        head: Its second half.
        training: How it was trained.
    """

    embedder: DescriptorEmbedder | OnnxEmbedder
    head: DenseHead | EstimatorHead
    training: Training


def train(settings: ModelSettings, job: Job) -> Trained:
    """Train one model. Only training and validation images are looked at.

    Args:
        settings: The model.
        job: The data and where to keep what is under way.

    Raises:
        VitrailError: It cannot be trained, and why.
    """
    check_trainable(settings, job.study, source=f"model {settings.name}")
    match FAMILIES[settings.model].training:
        case "grown":
            return _grow(settings, job)
        case "probe":
            return _probe(settings, job)
        case "network":
            return _network(settings, job)
        case "ensemble":
            raise UsageError(f"models.{settings.name}: an ensemble is not trained, it is combined. See vitrail.training.combine.")


def check_trainable(settings: ModelSettings, study: Study, *, source: str = "study") -> None:
    """Find out before any work whether a model can be built and trained as the settings say.

    Args:
        settings: The model.
        study: Its study.
        source: What they come from, for the message.

    Raises:
        StudyError: It cannot: parts that do not fit together, a warm-up longer than the training, a device that is not there.
    """
    training = study.training_for(settings)
    check_model(settings.model_copy(update={"training": training}), study.preprocess_for(settings))
    check_schedule(training, source=source, key=f"models.{settings.name}.training")
    check_device(settings, training, source=source)


def check_device(settings: ModelSettings, training: TrainingSettings, *, source: str) -> None:
    """Find out before any work whether a model can be trained where and how the settings wish.

    Args:
        settings: The model; what is fitted in one go is fitted on the CPU, whatever the wish.
        training: Resolved for it: :meth:`vitrail.study.Study.training_for`.
        source: What they come from, for the message.

    Raises:
        StudyError: This machine has no such device, too few of them, or the device computes no faster in mixed precision.
    """
    wished = not {training.device, training.precision} <= {None, "auto"} or (training.devices or 1) > 1
    if stops_early(settings) and wished:  # torch is loaded for a wish only
        from vitrail.training.device import choose_devices

        choose_devices(training, source=source, key=f"models.{settings.name}.training")


def frozen_embedder(settings: ModelSettings, job: Job) -> DescriptorEmbedder | OnnxEmbedder | None:
    """Return what makes the features that a model trains on, as training does; ``None``: it trains on pixels.

    Raises:
        VitrailError: It cannot be made, and why.
    """
    family, preprocess = family_module(settings.model), job.study.preprocess_for(settings)
    made: DescriptorEmbedder | OnnxEmbedder | None = None
    match FAMILIES[settings.model].training:
        case "grown":
            made = family.embedder(settings, make_recipe(preprocess, size=OPEN_SIZE))
        case "probe":
            made = family.embedder(settings, preprocess, cache=job.cache, progress=job.progress)
    return made


def _grow(settings: Any, job: Job) -> Trained:
    """Fit an estimator on hand-made features in one go."""
    family = family_module(settings.model)
    embedder: Any = frozen_embedder(settings, job)
    chosen = _balanced(settings, job)
    rows = job.training_rows[chosen.positions]
    title = f"{settings.name}: features"
    vectors = features(embedder, job.manifest, rows, turns=chosen.turns, cache=job.cache, progress=job.progress, title=title)
    started = time.monotonic()
    with job.progress.task(f"{settings.name}: fitting", 1) as advance:
        weighted = job.study.training_for(settings).imbalance == "weights"
        labels, groups = job.manifest.labels[rows], np.asarray(job.split.groups, dtype=np.int64)[rows]
        head, nodes = family.fit(settings, vectors, labels, groups=groups, class_weights=weighted, seed=job.study.seed)
        advance()
    return Trained(embedder, head, _record(settings, job, parameters=nodes, seconds=time.monotonic() - started))


def _probe(settings: Any, job: Job) -> Trained:
    """Compute the frozen features once, then train a head on them: linear in one go, dense layers epoch by epoch."""
    family = family_module(settings.model)
    embedder: Any = frozen_embedder(settings, job)
    chosen = _balanced(settings, job)
    count = len(chosen.positions)
    rows = np.concatenate([job.training_rows[chosen.positions], job.validation_rows])
    turns = np.concatenate([chosen.turns, np.zeros_like(job.validation_rows)])
    title = f"{settings.name}: features"
    vectors = features(embedder, job.manifest, rows, turns=turns, cache=job.cache, progress=job.progress, title=title)
    labels = job.manifest.labels[rows]
    if settings.dense:
        examples = (vectors[:count], labels[:count], vectors[count:], labels[count:])
        return _dense_head(settings, job, embedder, *examples)
    started = time.monotonic()
    weighted = job.study.training_for(settings).imbalance == "weights"
    with job.progress.task(f"{settings.name}: fitting the head", 1) as advance:
        head, parameters = family.fit_linear(settings, vectors[:count], labels[:count], class_weights=weighted)
        advance()
    return Trained(embedder, head, _record(settings, job, parameters=parameters, seconds=time.monotonic() - started))


def _dense_head(
    settings: Any,
    job: Job,
    embedder: OnnxEmbedder,
    training: FloatArray,
    training_labels: IntArray,
    validation: FloatArray,
    validation_labels: IntArray,
) -> Trained:
    from vitrail.models.network import DenseLayers
    from vitrail.training.examples import FeatureExamples
    from vitrail.training.fit import fit

    classes = len(job.manifest.classes)
    head = DenseLayers.seeded(
        training.shape[1],
        settings.dense,
        classes,
        activation=settings.activation,
        dropout=settings.dropout,
        standardise_like=training,
        seed=job.study.seed,
    )
    outcome = fit(
        head,
        FeatureExamples(training, training_labels, validation, validation_labels),
        classes=classes,
        settings=job.study.training_for(settings),
        seed=job.study.seed,
        checkpoint=job.folder / "checkpoint.pt",
        split=job.split.fingerprint,
        progress=job.progress,
        title=f"{settings.name}: training the head",
    )
    return Trained(embedder, head.to_head(), _record(settings, job, **_outcome(head, outcome)))


def _network(settings: Any, job: Job) -> Trained:
    """Train everything from pixels, then take the trunk out of torch."""
    import torch

    from vitrail.models.network import export_onnx
    from vitrail.training.examples import PixelExamples
    from vitrail.training.fit import fit
    from vitrail.training.frozen import frozen_once

    family = family_module(settings.model)
    start = check_continued_data(settings, data_fingerprint=job.manifest.fingerprint, split=job.split.fingerprint)
    preprocess = job.study.preprocess_for(settings)
    recipe = family.recipe(settings, preprocess) if hasattr(family, "recipe") else make_recipe(preprocess, size=OPEN_SIZE)
    decoded = job.decoded_rows
    pixels = decode_cache(job.manifest, decoded, recipe, cache=job.cache, progress=job.progress)
    training_rows, validation_rows = (np.searchsorted(decoded, rows) for rows in (job.training_rows, job.validation_rows))
    _keep_examples(settings, job, pixels, training_rows)
    classes = len(job.manifest.classes)
    network = family.build(settings, recipe, classes=classes, seed=job.study.seed)
    network.to(memory_format=torch.channels_last)  # a quarter less time per step on a CPU
    if start is not None:
        load_weights(network, start)
    # Under `sampling` the fit loop draws anew for every epoch.
    chosen = _balanced(settings, job, unless="sampling")
    examples = PixelExamples(
        pixels,
        training_rows[chosen.positions],
        validation_rows,
        job.manifest.labels[decoded],
        recipe=recipe,
        augmentation=augmentation_of(settings, job.study),
        turns=chosen.turns if chosen.turns.any() else None,
    )
    training = job.study.training_for(settings)
    with frozen_once(network, examples, training, folder=job.folder, name=settings.name, progress=job.progress) as shown:
        outcome = fit(
            network,
            shown,
            classes=classes,
            settings=training,
            seed=seed_of(start, job.study.seed),
            checkpoint=job.folder / "checkpoint.pt",
            split=job.split.fingerprint,
            progress=job.progress,
            title=f"{settings.name}: training",
        )
    told = _outcome(network, outcome)
    if start is not None:
        kept_start = start_is_best(start, outcome, job.study.training_for(settings))
        if kept_start:
            load_weights(network, start)
        told |= continued_record(start, outcome, kept_start=kept_start)
    graph = export_onnx(network.trunk, channels=recipe.channels, size=recipe.size, outputs=network.trunk.outputs)
    path = job.folder / "embedder.onnx"
    write_bytes(path, graph)
    embedder = OnnxEmbedder(path, recipe, network.trunk.pooling)
    told["weights"] = save_weights(network, job.folder / WEIGHTS)
    return Trained(embedder, network.head.to_head(), _record(settings, job, **told))


def augmentation_of(settings: Any, study: Study) -> AugmentSettings | None:
    """Return how the training images of a network are augmented; ``None``: not at all, so that they are the same in every epoch.

    Args:
        settings: The network.
        study: Its study.
    """
    return study.augment if settings.augment and augments(study.augment) else None


def _keep_examples(settings: Any, job: Job, pixels: RowFile, training_rows: IntArray) -> None:
    """Keep, for the report, what the augmentation makes of the first training image of each class."""
    if augmentation_of(settings, job.study) is None:
        return
    labels, first = np.unique(job.manifest.labels[job.training_rows], return_index=True)
    labels, first = labels[:EXAMPLE_CLASSES], first[:EXAMPLE_CLASSES]
    pictures = augmented_examples(pixels[training_rows[first]], job.study.augment, variants=EXAMPLE_VARIANTS, seed=job.study.seed)
    save_examples(job.folder / "augmented.npz", pictures, [job.manifest.classes[label] for label in labels])


def _balanced(settings: ModelSettings, job: Job, *, unless: str = "") -> BalancedSet:
    """Return who of the training images trains, how often and how turned."""
    imbalance = job.study.training_for(settings).imbalance
    labels = job.manifest.labels[job.training_rows]
    return balanced_set(labels, None if imbalance == unless else imbalance, seed=job.study.seed)


def _outcome(module: Any, outcome: Any) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return {
        "parameters": parameters,
        "seconds": outcome.seconds,
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "stopped": outcome.stopped,
        "batch_size": outcome.batch_size,
        "out_of_time": outcome.out_of_time,
        "computed": outcome.computed,
    }


def _record(
    settings: ModelSettings,
    job: Job,
    *,
    parameters: int,
    seconds: float,
    epochs: tuple[Epoch, ...] = (),
    best_epoch: int = 0,
    stopped: str = "fitted in one go",
    batch_size: int | None = None,
    weights: str = "",
    continues: Continuation | None = None,
    out_of_time: bool = False,
    computed: Computation = Computation(),  # noqa: B008 - frozen
) -> Training:
    resolved = settings.model_copy(
        update={"preprocess": job.study.preprocess_for(settings), "training": job.study.training_for(settings)}
    )
    return Training(
        model=settings.name,
        family=settings.model,
        description=describe(settings),
        parameters=parameters,
        images=len(job.training_rows),
        epochs=epochs,
        best_epoch=best_epoch,
        stopped=stopped,
        seconds=seconds,
        split=job.split.fingerprint,
        settings=resolved.model_dump(mode="json"),
        batch_size=batch_size,
        weights=weights,
        continues=continues,
        out_of_time=out_of_time,
        computed=computed,
    )
