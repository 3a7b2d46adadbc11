"""SEARCH: settings compared by cross-validation on training and validation images; the test images stay closed."""

from vitrail.search.candidates import candidate, check_space, grid_of
from vitrail.search.cross_validation import CandidateScorer, fold_splits, predict_fold, shared_cores
from vitrail.search.describe import describe_search
from vitrail.search.nested import NestedFolder, NestedPlan, nested_fits, nested_selection, plan_nested
from vitrail.search.nested_estimate import UNTESTED, Nested, OuterFold, meaning, nested_row
from vitrail.search.search_models import SearchJob, search_models, winner_of
from vitrail.search.trials import FINISHED, Searched, Trial, best_of, run_trials

__all__ = [
    "FINISHED",
    "UNTESTED",
    "CandidateScorer",
    "Nested",
    "NestedFolder",
    "NestedPlan",
    "OuterFold",
    "SearchJob",
    "Searched",
    "Trial",
    "best_of",
    "candidate",
    "check_space",
    "describe_search",
    "fold_splits",
    "grid_of",
    "meaning",
    "nested_fits",
    "nested_row",
    "nested_selection",
    "plan_nested",
    "predict_fold",
    "run_trials",
    "search_models",
    "shared_cores",
    "winner_of",
]
