"""Test-time augmentation: as the study says, or as the validation images say."""

from __future__ import annotations

from typing import Literal

import numpy as np

from vitrail.evaluation import Gain, held_out_decisions, paired_gain
from vitrail.models.heads import Scores
from vitrail.preprocess import VIEWS
from vitrail.records import Choice
from vitrail.study import ModelSettings
from vitrail.training.scoring import view_scores
from vitrail.training.train import Job, Trained

Views = Literal["none", "mirror", "shifts"]

WHAT = "test-time augmentation"


def choose_views(settings: ModelSettings, trained: Trained, job: Job) -> tuple[Views, Choice | None]:
    """Return the views over which a trained model's scores are averaged and, under ``auto``, how they were chosen.

    Balanced accuracy is that of the study's rule, as validation scores have it: with two classes by thresholds that other images
    chose. Views are taken where they raise it on the validation images by more than noise (the 95 % interval of the
    difference, by a paired bootstrap of groups, lies above zero); or where they do not lower it and lower log loss by more than
    noise. Of several, those with the higher balanced accuracy, then the lower log loss. The test images stay closed.

    Args:
        settings: The model.
        trained: What training made of it.
        job: The data.
    """
    if settings.test_time_augmentation != "auto":
        return settings.test_time_augmentation, None
    rows = job.validation_rows
    truth, groups = job.manifest.labels[rows], np.asarray(job.split.groups, dtype=np.int64)[rows]

    def scores(views: Views) -> Scores:
        title = f"{settings.name}: views of validation images"
        halves = (trained.embedder, trained.head)
        return view_scores(*halves, job.manifest, rows, views=VIEWS[views], cache=job.cache, progress=job.progress, title=title)

    def decided(of_views: Scores) -> Scores:
        classes, rule = job.manifest.classes, job.study.evaluation
        predicted = held_out_decisions(truth, groups, of_views, classes=classes, settings=rule, seed=job.study.seed)
        return np.asarray(np.eye(len(classes))[predicted])

    plain, resamples = scores("none"), job.study.evaluation.resamples
    candidates: tuple[Views, ...] = ("mirror", "shifts") if job.study.augment.flip_horizontal else ("shifts",)
    gains: dict[Views, tuple[Gain, Gain]] = {}
    for views in candidates:
        after = scores(views)
        pairs = {"balanced_accuracy": (decided(plain), decided(after)), "log_loss": (plain, after)}
        accuracy, loss = (
            paired_gain(metric, truth, groups, *pair, resamples=resamples, seed=job.study.seed) for metric, pair in pairs.items()
        )
        gains[views] = (accuracy, loss)
    good = [views for views, (accuracy, loss) in gains.items() if is_better(accuracy, loss)]
    chosen: Views = max(good, key=lambda views: tuple(gain.gain or 0.0 for gain in gains[views])) if good else "none"
    first = gains[candidates[0]]
    measured = {"none": {"balanced_accuracy": first[0].before, "log_loss": first[1].before}}
    measured |= {views: {"balanced_accuracy": gain[0].after, "log_loss": gain[1].after} for views, gain in gains.items()}
    if all(gain.low is None for pair_of_gains in gains.values() for gain in pair_of_gains):
        reason = "too few independent validation images of a class to tell views apart"
    else:
        found = f"{chosen} is" if good else "no views are"
        reason = f"on {len(rows):,} validation images {found} better than the image alone by more than noise"
    return chosen, Choice(WHAT, chosen, reason, measured)


def is_better(accuracy: Gain, loss: Gain) -> bool:
    """Return whether views are better: balanced accuracy by more than noise, or not lower and log loss by more than noise."""
    return accuracy.beyond_noise or (accuracy.gain is not None and accuracy.gain >= 0 and loss.beyond_noise)
