"""Make an ensemble of trained models: score the validation images with each, and choose the weights."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrail.errors import VitrailError
from vitrail.evaluation import OVERALL_METRICS
from vitrail.models import describe_weights, load_package
from vitrail.models.heads import Scores
from vitrail.records import Choice, IntArray, Member, Training
from vitrail.storage import file_sha256
from vitrail.study import EnsembleSettings
from vitrail.training.scoring import score_rows
from vitrail.training.train import Job
from vitrail.training.weights import Weighting, choose_weights, mixed


@dataclass(frozen=True)
class Combined:
    """An ensemble, ready to be packed.

    Attributes:
        weights: Member -> weight.
        training: How it was made.
        validation: Its scores of the validation images, shape (n, classes).
    """

    weights: dict[str, float]
    training: Training
    validation: Scores


def packed_as(packages: Mapping[str, Path | None]) -> dict[str, str]:
    """Return what tells the packages of members apart: name -> SHA-256 of its hashes; empty where there is no package."""
    return {name: file_sha256(path / "hashes.json") if path else "" for name, path in sorted(packages.items())}


def combine(settings: EnsembleSettings, job: Job, packages: Mapping[str, Path | None], *, parameters: int) -> Combined:
    """Choose the weights of an ensemble. Only validation images are looked at.

    Args:
        settings: The ensemble.
        job: The data.
        packages: Member -> folder of its package; ``None``: it could not be trained, and is left out.
        parameters: Trained parameters of all members together, for the record.

    Raises:
        VitrailError: Fewer than two members were trained.
    """
    trained = {name: path for name, path in sorted(packages.items()) if path is not None}
    missing = sorted(set(packages) - set(trained))
    if missing:
        job.progress.say(f"{settings.name}: {', '.join(missing)} left out, not trained.")
    if len(trained) < 2:
        raise VitrailError(
            f"models.{settings.name}: an ensemble needs at least two trained members. Found: {', '.join(trained) or 'none'} "
            f"(not trained: {', '.join(missing)}). See why these were left out, or add models."
        )
    started = time.monotonic()
    rows = job.validation_rows
    truth, groups = job.manifest.labels[rows], np.asarray(job.split.groups, dtype=np.int64)[rows]
    scores = {
        name: score_rows(
            load_package(path), job.manifest, rows, cache=job.cache, progress=job.progress, title=f"{name}: validation images"
        )
        for name, path in trained.items()
    }
    weighting = choose_weights(truth, groups, scores, resamples=job.study.evaluation.resamples, seed=job.study.seed)
    known = packed_as(packages)
    return Combined(
        weighting.weights,
        Training(
            model=settings.name,
            family=settings.model,
            description=describe_weights(weighting.weights),
            parameters=parameters,
            images=len(job.training_rows),
            epochs=(),
            best_epoch=0,
            stopped=f"weights chosen on {len(rows):,} validation images",
            seconds=time.monotonic() - started,
            split=job.split.fingerprint,
            settings=settings.model_dump(mode="json", exclude={"preprocess", "training", "test_time_augmentation"}),
            choices=(_choice(weighting, truth, scores),),
            members=tuple(Member(name, weighting.weights.get(name, 0.0), known[name]) for name in sorted(packages)),
        ),
        mixed(scores, weighting.weights),
    )


def _choice(weighting: Weighting, truth: IntArray, scores: Mapping[str, Scores]) -> Choice:
    equal = dict.fromkeys(scores, 1 / len(scores))
    options = {**scores, "equal weights": mixed(scores, equal), "selected weights": mixed(scores, weighting.selected)}
    gain = weighting.gain
    if gain.low is None or gain.before is None or gain.after is None:
        reason = "too few independent validation images of a class to tell weights apart"
    else:
        told = f"log loss {gain.after:.4f} against {gain.before:.4f} on validation images that did not choose the weights"
        better = "better" if weighting.greedy else "not better"
        reason = f"greedy selection is {better} than equal weights by more than noise: {told}"
    return Choice(
        what="weights",
        chosen="selected weights" if weighting.greedy else "equal weights",
        reason=reason,
        validation={name: _measured(truth, option) for name, option in options.items()},
    )


def _measured(truth: IntArray, scores: Scores) -> dict[str, float | None]:
    values = {
        name: float(OVERALL_METRICS[name].compute(truth, scores, np.ones((1, len(truth))))[0])
        for name in ("balanced_accuracy", "log_loss")
    }
    return {name: value if np.isfinite(value) else None for name, value in values.items()}
