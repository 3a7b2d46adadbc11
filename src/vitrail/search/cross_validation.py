"""Cross-validation: every fold is predicted by a model that saw neither it nor its groups, not even to stop training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.engine import available_cores, limited_to
from vitrail.evaluation import OVERALL_METRICS, held_out_decisions, predictions_of, save_predictions
from vitrail.models import FAMILIES, stops_early, weighted_mean
from vitrail.preprocess import VIEWS, View, pixel_batches, seen
from vitrail.progress import SILENT, Progress
from vitrail.records import AuditReport, Manifest, Predictions, Split
from vitrail.search.candidates import candidate
from vitrail.split import Folds, draw_rows
from vitrail.study import ModelSettings, Study
from vitrail.training import Job, features, train

SCORE = "balanced_accuracy"
"""The metric that candidates are compared by."""
SHARES = 8
"""Parts that the cores of a large machine are cut into: so many folds at a time are enough, and fill the memory less."""


def fold_splits(split: Split, folds: Folds, manifest: Manifest, audit: AuditReport, *, validation: float) -> list[Split]:
    """Return the parts that train, stop training and are predicted, for every fold.

    The held-out fold stands as the ``test`` part of its split, so nothing that trains can look at it; the study's own test images
    are excluded. What stops training early is drawn from the other folds.

    Args:
        split: The study's split.
        folds: Folds of its training and validation images.
        manifest: The data set.
        audit: Its audit: groups.
        validation: Share of the other folds that stops training.

    Raises:
        SplitError: A class has too few groups for that.
    """
    splits = []
    for fold in range(1, folds.count + 1):
        others = folds.others(fold)
        rng = np.random.default_rng((folds.seed, folds.repeat, fold))
        what = f"training and validation without fold {fold}"
        drawn = draw_rows(others.tolist(), manifest, audit, shares=(1 - validation, validation), what=what, rng=rng)
        parts = np.full(len(manifest), "excluded", dtype=object)
        parts[folds.held_out(fold)] = "test"
        parts[others] = np.where(drawn == 0, "train", "validation")
        origin = f"fold {fold} of {folds.count}, repeat {folds.repeat}: {folds.origin}"
        splits.append(replace(split, parts=tuple(parts.tolist()), origin=origin, seed=folds.seed))
    return splits


def predict_fold(study: Study, settings: ModelSettings, job: Job) -> Predictions:
    """Train a model on a fold's training images and let it predict the fold.

    Models that are fitted in one go train on the validation images too, for nothing has to stop them.

    Args:
        study: With the candidate's settings in it.
        settings: The candidate.
        job: The fold's split, and where to keep what is under way.

    Returns:
        Scores for the held-out fold, decided by the study's rule, each image by a threshold that others of the fold chose. Its
        images are called validation images, as the study's own test images stay closed.

    Raises:
        VitrailError: The candidate cannot be trained.
    """
    if not stops_early(settings):
        parts = tuple("train" if part == "validation" else part for part in job.split.parts)
        job = replace(job, split=replace(job.split, parts=parts))
    trained = train(settings, replace(job, study=study))
    rows = job.split.rows("test")
    views = views_of(settings)
    if FAMILIES[settings.model].training == "network":  # used once: nothing to keep
        batches = pixel_batches(job.manifest, rows, trained.embedder.recipe, batch_size=32)
        embedded = [[trained.embedder.embed(seen(batch, view)) for view in views] for batch in batches]
        vectors = [np.concatenate(parts) for parts in zip(*embedded, strict=True)]
    else:
        vectors = [
            features(trained.embedder, job.manifest, rows, view=view, cache=job.cache, progress=job.progress) for view in views
        ]
    probabilities = weighted_mean((1 / len(views), trained.head.scores(of_view)) for of_view in vectors)
    predictions = predictions_of(settings.name, job.manifest, job.split, part="test", probabilities=probabilities)
    if not np.isfinite(probabilities).all():
        return replace(predictions, part="validation")
    decided = held_out_decisions(
        predictions.truth,
        predictions.groups,
        probabilities,
        classes=predictions.classes,
        settings=study.evaluation,
        seed=study.seed,
    )
    return replace(predictions, part="validation", decided=decided)


def scores_of(predictions: Predictions) -> dict[str, float]:
    """Return every overall metric of a fold's predictions, by name; not-a-number where it is not estimable."""
    if not np.isfinite(predictions.probabilities).all():
        return dict.fromkeys(OVERALL_METRICS, math.nan)
    weights = np.ones((1, len(predictions.truth)))
    computed = {
        name: metric.compute(predictions.truth, predictions.answers if metric.decides else predictions.probabilities, weights)
        for name, metric in OVERALL_METRICS.items()
    }
    return {name: float(value[0]) for name, value in computed.items()}


def views_of(settings: ModelSettings) -> tuple[View, ...]:
    """Return how a candidate looks at a fold's images. ``auto`` is decided on validation images, which here may train: it counts
    as none."""
    return VIEWS.get(settings.test_time_augmentation, VIEWS["none"])


@dataclass(frozen=True)
class CandidateScorer:
    """Scores candidates of one model, in this process or in another one.

    Attributes:
        study: Where candidates start.
        model: Name of the model.
        manifest: The data set.
        splits: Of every fold: :func:`fold_splits`.
        cache: Folder of the caches.
        threads: Cores for each fold.
        keeps: Whether the predictions are kept: ``place.csv``, written before the scores are known.
    """

    study: Study
    model: str
    manifest: Manifest
    splits: tuple[Split, ...]
    cache: Path
    threads: int
    keeps: bool = False

    def __call__(self, parameters: Mapping[str, Any], place: Path, fold: int) -> dict[str, float]:
        """Train a candidate and score it on a fold, counted from 0; see :func:`predict_fold`.

        Args:
            parameters: Dotted key below the model -> value.
            place: For what is under way: whoever has written the scores removes it.
            fold: Which one.
        """
        new, settings = candidate(self.study, self.model, parameters)
        place.mkdir(parents=True, exist_ok=True)
        with limited_to(self.threads, "scipy.linalg", "sklearn.linear_model", *(["torch"] if stops_early(settings) else [])):
            job = Job(new, self.manifest, self.splits[fold], place, self.cache, of_fold=True)
            predictions = predict_fold(new, settings, job)
        if self.keeps:
            save_predictions(place.with_suffix(".csv"), predictions)
        return scores_of(predictions)


def shared_cores(study: Study, models: Iterable[str], progress: Progress = SILENT) -> tuple[int, int]:
    """Return how many folds of a search are trained at the same time, and the cores for each; results depend on the cores alone.

    On the CPU these are not more folds than the machine has cores for, whatever the settings. On an accelerator they are as many
    as the settings say: what limits them there is its memory, of which nothing is known here.

    Args:
        study: Its search settings, and where its models train.
        models: Names of those that are searched.
        progress: Told where there are fewer than the settings say.
    """
    cores, search = available_cores(), study.search
    searched = [model for model in study.models if model.name in set(models)]
    if any(_accelerated(study, model) for model in searched):
        return search.workers or 1, search.threads or cores
    devices = max((study.training_for(model).devices or 1 for model in searched), default=1)
    threads = max(search.threads or max(1, cores // SHARES), devices)  # a core at least for each process of a training
    most = max(1, cores // threads)
    workers = min(search.workers or most, most)
    if search.workers and search.workers > workers:
        progress.say(
            f"search.workers: {workers} of the {search.workers} folds asked for are trained at a time, as this machine has "
            f"{cores} cores and each takes {threads} (search.threads, training.devices)"
        )
    return workers, threads


def _accelerated(study: Study, model: ModelSettings) -> bool:
    """Return whether a model trains on an accelerator."""
    if not stops_early(model):
        return False
    from vitrail.training.device import choose_device

    return choose_device(study.training_for(model)).device.type != "cpu"
