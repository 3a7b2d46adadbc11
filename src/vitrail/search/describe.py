"""What MLflow shall show of a search: a nested run per trial with its folds as steps, and one per outer fold."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from vitrail.search.cross_validation import SCORE
from vitrail.search.nested_estimate import Nested, OuterFold, meaning
from vitrail.search.trials import Searched, Trial
from vitrail.tracked import Measurement, TrackedModel, TrackedRun, score_metrics


def describe_search(
    searched: Sequence[Searched], *, name: str, experiment: str, files: tuple[Path, ...], nested: Nested | None = None
) -> TrackedRun:
    """Return what MLflow shall show of a finished search.

    Args:
        searched: The trials of every model.
        name: Of the parent run; says which search this is.
        experiment: Name of the MLflow experiment.
        files: The table of trials and the best study.
        nested: Its nested cross-validation; ``None``: it has none.
    """
    best = {f"{one.model} {SCORE}": trial.score for one in searched for trial in one.trials if trial.number == one.best}
    trials = tuple(_tracked(one.model, trial, best=trial.number == one.best) for one in searched for trial in one.trials)
    tags, key = {"kind": "search"}, name
    if nested is not None:
        key = f"{name}-nested-{len(nested.folds)}"  # the search alone may have been told before
        trials += tuple(_outer(one) for one in nested.folds)
        counted = "winner" if nested.counts_settings else "model_of_the_winner"
        best |= {f"nested.inner_{SCORE}": nested.inner_score, f"nested.chose_the_{counted}": nested.chose_the_winner}
        best |= score_metrics(nested.scores, prefix="nested") if nested.scores is not None else {}
        tags |= {"nested": meaning(nested)}
    return TrackedRun(key=key, name=name, experiment=experiment, models=trials, metrics=best, files=files, tags=tags)


def _outer(one: OuterFold) -> TrackedModel:
    scores = {f"inner_{SCORE}": one.inner_score, SCORE: one.score}
    return TrackedModel(
        name=f"outer fold {one.fold}",
        tags={"kind": "outer fold", "model": one.model},
        params={key: json.dumps(value) for key, value in one.parameters.items()},
        metrics={"n": one.n, **{name: value for name, value in scores.items() if value is not None}},
        failure=one.failure,
    )


def _tracked(model: str, trial: Trial, *, best: bool) -> TrackedModel:
    metrics = {
        f"mean_{metric}": sum(fold[metric] for fold in trial.folds) / len(trial.folds)
        for metric in (trial.folds[0] if trial.folds else ())
    }
    if not math.isnan(trial.standard_error):
        metrics[f"standard_error_{SCORE}"] = trial.standard_error
    return TrackedModel(
        name=f"{model} trial {trial.number}",
        tags={"state": trial.state, "model": model, "best": str(best).lower()},
        params={key: json.dumps(value) for key, value in trial.parameters.items()},
        metrics={**metrics, "seconds": trial.seconds},
        history=tuple(
            Measurement(metric, number, value)
            for number, fold in enumerate(trial.folds, start=1)
            for metric, value in fold.items()
        ),
        failure=trial.failure,
    )
