"""TRAIN: one protocol for every family, on one split."""

from vitrail.training.features import features
from vitrail.training.schedules import check_schedule
from vitrail.training.scoring import score_rows
from vitrail.training.train import Job, Trained, train

__all__ = ["Job", "Trained", "check_schedule", "features", "score_rows", "train"]
