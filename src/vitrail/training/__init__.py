"""TRAIN: one protocol for every family, on one split."""

from vitrail.training.baselines import BASELINES, Predict, fit_baseline
from vitrail.training.batches import batch_remarks
from vitrail.training.choose_views import choose_views
from vitrail.training.combine import Combined, combine, packed_as
from vitrail.training.features import features
from vitrail.training.scoring import score_rows, view_scores
from vitrail.training.train import Job, Trained, check_trainable, frozen_embedder, train

__all__ = [
    "BASELINES",
    "Combined",
    "Job",
    "Predict",
    "Trained",
    "batch_remarks",
    "check_trainable",
    "choose_views",
    "combine",
    "features",
    "fit_baseline",
    "frozen_embedder",
    "packed_as",
    "score_rows",
    "train",
    "view_scores",
]
