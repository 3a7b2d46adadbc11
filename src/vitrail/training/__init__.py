"""TRAIN: one protocol for every family, on one split."""

from vitrail.training.baselines import BASELINES, Predict, Scores, fit_baseline
from vitrail.training.batches import batch_remarks
from vitrail.training.features import features
from vitrail.training.schedules import check_schedule
from vitrail.training.train import Job, Trained, train

__all__ = [
    "BASELINES",
    "Job",
    "Predict",
    "Scores",
    "Trained",
    "batch_remarks",
    "check_schedule",
    "features",
    "fit_baseline",
    "train",
]
