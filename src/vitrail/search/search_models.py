"""The models of a search, one after another, with the same workers, on whatever images a split lets them see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vitrail.engine import WorkerPool
from vitrail.progress import SILENT, Progress
from vitrail.records import AuditReport, Manifest, Split
from vitrail.search.candidates import Space
from vitrail.search.cross_validation import CandidateScorer, fold_splits
from vitrail.search.features_ahead import FeaturesAhead
from vitrail.search.trials import Searched, Trial, run_trials
from vitrail.split import Folds, make_folds
from vitrail.study import Study


@dataclass(frozen=True)
class SearchJob:
    """What every search of a study needs, whatever images it may see.

    Attributes:
        study: With its search settings.
        spaces: What may be tried, by the model's name: :func:`vitrail.search.check_space`.
        manifest: The data set.
        audit: Its audit: groups.
        cache: Folder of the caches.
        threads: Cores for each fold.
    """

    study: Study
    spaces: Mapping[str, Space]
    manifest: Manifest
    audit: AuditReport
    cache: Path
    threads: int

    def cuts(self, split: Split, *, folds: int, repeats: int = 1) -> tuple[Folds, ...]:
        """Return the training and validation images of a split, cut into folds; one such cut for each repeat.

        Raises:
            SplitError: A class has too few groups for that.
        """
        study = self.study
        return make_folds(
            self.manifest, self.audit, folds=folds, repeats=repeats, seed=study.seed, split=split, settings=study.split
        )

    def splits(self, split: Split, cuts: tuple[Folds, ...]) -> tuple[Split, ...]:
        """Return who trains, who stops training and who is predicted, for every fold of every cut of a split.

        Raises:
            SplitError: A class has too few groups for that.
        """
        validation = self.study.split.validation
        return tuple(one for folds in cuts for one in fold_splits(split, folds, self.manifest, self.audit, validation=validation))

    def scorer(self, model: str, splits: tuple[Split, ...], *, keeps: bool = False) -> CandidateScorer:
        """Return what scores candidates of a model on such splits; see :class:`CandidateScorer`."""
        return CandidateScorer(self.study, model, self.manifest, splits, self.cache, self.threads, keeps)


def search_models(
    job: SearchJob,
    splits: tuple[Split, ...],
    folder_of: Callable[[str], Path],
    *,
    pool: WorkerPool,
    progress: Progress = SILENT,
) -> tuple[Searched, ...]:
    """Search one model after another; see :func:`vitrail.search.trials.run_trials`.

    Args:
        job: What is searched.
        splits: Of every fold: :meth:`SearchJob.splits`. What they exclude is not looked at.
        folder_of: Gives the folder of a model's search, by its name.
        pool: Who scores the folds.
        progress: Told of every fold.
    """
    searched = []
    for model, space in job.spaces.items():
        folder, scorer = folder_of(model), job.scorer(model, splits)
        searched.append(
            run_trials(
                model,
                space,
                job.study.search,
                scorer,
                folds=len(splits),
                seed=job.study.seed,
                folder=folder,
                pool=pool,
                prepare=FeaturesAhead(scorer, folder, progress),
                progress=progress,
            )
        )
    return tuple(searched)


def winner_of(searched: tuple[Searched, ...]) -> tuple[str, Trial] | None:
    """Return the model and the trial with the highest score of all models; of equals those of the model that stands first
    in the study (and of its trials :func:`vitrail.search.best_of`): no kill changes that.

    ``None``: no trial is complete.
    """
    best = [(one.model, trial) for one in searched for trial in one.trials if trial.number == one.best]
    return max(best, key=lambda pair: pair[1].score, default=None)
