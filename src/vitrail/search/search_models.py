"""The models of a search, one after another, with the same workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vitrail.engine import WorkerPool
from vitrail.progress import SILENT, Progress
from vitrail.search.candidates import Space
from vitrail.search.cross_validation import CandidateScorer
from vitrail.search.features_ahead import FeaturesAhead
from vitrail.search.trials import Searched, run_trials


def search_models(
    scorers: Sequence[CandidateScorer],
    spaces: Mapping[str, Space],
    folder_of: Callable[[str], Path],
    *,
    workers: int,
    progress: Progress = SILENT,
) -> tuple[Searched, ...]:
    """Search one model after another; see :func:`vitrail.search.trials.run_trials`.

    Args:
        scorers: One per model.
        spaces: What may be tried, by the model's name.
        folder_of: Gives the folder of a model's search, by its name.
        workers: Folds that are trained at the same time, each in a process of its own; 1: all in this one.
        progress: Told of every fold.
    """
    searched = []
    with WorkerPool(workers) as pool:
        for scorer in scorers:
            folder = folder_of(scorer.model)
            searched.append(
                run_trials(
                    scorer.model,
                    spaces[scorer.model],
                    scorer.study.search,
                    scorer,
                    folds=len(scorer.splits),
                    seed=scorer.study.seed,
                    folder=folder,
                    pool=pool,
                    prepare=FeaturesAhead(scorer, folder, progress),
                    progress=progress,
                )
            )
    return tuple(searched)
