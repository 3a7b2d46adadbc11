"""EVALUATE: how good a model is, and how sure that is.

A metric is one function in ``metrics.py`` and one line in a dictionary there.
"""

from vitrail.evaluation.against_baselines import MEANING, compare_with_baselines, held_against_baselines
from vitrail.evaluation.cases import pick_cases
from vitrail.evaluation.championship import Chosen, choose_champion
from vitrail.evaluation.curves import RocCurve, roc_curve
from vitrail.evaluation.evaluate import champion, evaluate, evaluation_of, leaderboard_row
from vitrail.evaluation.gain import Gain, paired_gain
from vitrail.evaluation.intervals import folds_of_groups, sampling_design, wilson_interval
from vitrail.evaluation.metrics import CLASS_METRICS, OVERALL_METRICS, Metric
from vitrail.evaluation.openings import note_test_opening
from vitrail.evaluation.predictions import load_predictions, predictions_of, save_predictions
from vitrail.evaluation.threshold import (
    best_threshold,
    check_threshold,
    choose_decision,
    decide_held_out,
    fixed_decision,
    held_out_decisions,
)

__all__ = [
    "CLASS_METRICS",
    "MEANING",
    "OVERALL_METRICS",
    "Chosen",
    "Gain",
    "Metric",
    "RocCurve",
    "best_threshold",
    "champion",
    "check_threshold",
    "choose_champion",
    "choose_decision",
    "compare_with_baselines",
    "decide_held_out",
    "evaluate",
    "evaluation_of",
    "fixed_decision",
    "folds_of_groups",
    "held_against_baselines",
    "held_out_decisions",
    "leaderboard_row",
    "load_predictions",
    "note_test_opening",
    "paired_gain",
    "pick_cases",
    "predictions_of",
    "roc_curve",
    "sampling_design",
    "save_predictions",
    "wilson_interval",
]
