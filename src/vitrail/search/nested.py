"""Nested cross-validation: what a whole search is worth, its choice included.

The score of a search's winner is too good on average, for the folds that gave it also chose the winner. Here every fold of an
outer cross-validation is predicted by the candidate that the same search chooses on the other folds, trained on these (Varma and
Simon 2006; Cawley and Talbot 2010). The study's own test images stay closed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vitrail.engine import WorkerPool
from vitrail.errors import Problem, SplitError, StudyError, UsageError
from vitrail.evaluation import CLASS_METRICS, OVERALL_METRICS, evaluate, load_predictions, save_predictions
from vitrail.progress import SILENT, Advance, Progress, SilentProgress
from vitrail.records import IntArray, Predictions, Scores, Split
from vitrail.search.candidates import Space, has_continuous, trials_of
from vitrail.search.cross_validation import SCORE
from vitrail.search.features_ahead import FeaturesAhead
from vitrail.search.fold_queue import Outcome, Work, answer_or_alone, score_and_keep
from vitrail.search.nested_estimate import Nested, OuterFold, nested_row
from vitrail.search.search_models import SearchJob, search_models, winner_of
from vitrail.search.sent_once import sent_once
from vitrail.search.trials import Trial
from vitrail.settings import SearchSettings
from vitrail.split import Folds, save_folds
from vitrail.storage import write_record

NOTHING_CHOSEN = "no candidate could be trained on the other folds"


@dataclass(frozen=True)
class NestedFolder:
    """Where a nested cross-validation lies; the searches within it and their folds are kept, so that a killed one goes on."""

    path: Path

    @property
    def folds(self) -> Path:
        """Outer fold of every image."""
        return self.path / "folds.csv"

    @property
    def predictions(self) -> Path:
        """What was predicted of every image by what was chosen without it."""
        return self.path / "predictions.csv"

    @property
    def record(self) -> Path:
        """What came out: :func:`nested_row`."""
        return self.path / "nested.json"

    def inner_folds(self, fold: int) -> Path:
        """Return the folds that the search within an outer fold's training images has, counted from 1."""
        return self.path / f"fold{fold}" / "folds.csv"

    def model(self, fold: int, name: str) -> Path:
        """Return the folder of one model's trials in that search."""
        return self.path / f"fold{fold}" / "models" / name

    def chosen(self, fold: int) -> Path:
        """Return where the chosen candidate is trained; its predictions of the outer fold lie beside it (``.csv``)."""
        return self.path / "chosen" / f"fold{fold}"


@dataclass(frozen=True)
class NestedPlan:
    """Who is predicted by whom.

    Attributes:
        folds: The outer folds.
        splits: Of every outer fold; the fold is the ``test`` part.
        inner_folds: Of every outer fold: the folds of its training and validation images, one cut for each repeat.
        inner: Of every outer fold: the splits of all of these; the outer fold is excluded from them.
    """

    folds: Folds
    splits: tuple[Split, ...]
    inner_folds: tuple[tuple[Folds, ...], ...]
    inner: tuple[tuple[Split, ...], ...]


def nested_fits(search: SearchSettings, spaces: Mapping[str, Space]) -> tuple[int, int]:
    """Return how many models a search trains (at the most), and how many its nested cross-validation does besides."""
    once = sum(trials_of(search, space) for space in spaces.values()) * search.folds * search.repeats
    return once, search.outer_folds * (once + 1)


def plan_nested(job: SearchJob, split: Split) -> NestedPlan:
    """Cut the training and validation images of a split into outer folds, and what trains for each into the folds of a search.

    Raises:
        StudyError: A class has too few groups for that; the message says how many outer folds there can be.
    """
    asked = job.study.search.outer_folds
    try:
        return _planned(job, split, asked)
    except SplitError as error:
        smallest, groups = _smallest_class(job, split)
        most = next((number for number in range(min(asked - 1, groups), 1, -1) if _possible(job, split, number)), 0)
        inner = job.study.search.folds
        message = (
            f"must leave every class independent images in each fold, and in the {inner} folds of each search (search.folds) "
            f"within the others; {smallest!r} has {groups}. Set search.outer_folds: {most}, "
            f"{'lower search.folds, ' if inner > 2 else ''}or add images of the class."
        )
        raise StudyError("study", (Problem("search.outer_folds", message, str(asked)),)) from error


def _planned(job: SearchJob, split: Split, number: int) -> NestedPlan:
    search = job.study.search
    outer = job.cuts(split, folds=number)
    splits = job.splits(split, outer)
    inner_folds = tuple(job.cuts(one, folds=search.folds, repeats=search.repeats) for one in splits)
    inner = tuple(job.splits(one, cuts) for one, cuts in zip(splits, inner_folds, strict=True))
    return NestedPlan(outer[0], splits, inner_folds, inner)


def _possible(job: SearchJob, split: Split, number: int) -> bool:
    try:
        _planned(job, split, number)
    except SplitError:
        return False
    return True


def _smallest_class(job: SearchJob, split: Split) -> tuple[str, int]:
    """Return the class with the fewest groups among the training and validation images, and how many it has."""
    rows = np.concatenate([split.rows("train"), split.rows("validation")])
    groups, labels = np.asarray(split.groups)[rows], job.manifest.labels[rows]
    found = [len(np.unique(groups[labels == label])) for label in range(len(job.manifest.classes))]
    return job.manifest.classes[int(np.argmin(found))], min(found)


def nested_selection(
    job: SearchJob,
    plan: NestedPlan,
    folder: NestedFolder,
    winner: tuple[str, Trial],
    *,
    pool: WorkerPool,
    progress: Progress = SILENT,
) -> Nested:
    """Search within the training images of every outer fold, train what was chosen on all of these, and let it predict the fold.

    A killed one goes on when it is called again: trials that ended and outer folds that were predicted are kept as they are.

    Args:
        job: What is searched.
        plan: The folds: :func:`plan_nested`.
        folder: Where everything of it lies.
        winner: Model and trial that the search on all images chose, for comparison.
        pool: Who trains.
        progress: Told of every model that is trained.

    Raises:
        UsageError: A search cannot be carried out as asked.
    """
    fits, count = nested_fits(job.study.search, job.spaces)[1], plan.folds.count
    save_folds(folder.folds, (plan.folds,), job.manifest)
    chosen: list[tuple[str, Trial] | None] = []
    with progress.task("nested selection", fits) as advance:
        for fold, (cuts, splits) in enumerate(zip(plan.inner_folds, plan.inner, strict=True), start=1):
            save_folds(folder.inner_folds(fold), cuts, job.manifest)
            within = _Within(progress, advance, f"outer fold {fold} of {count}")
            places = {model: folder.model(fold, model) for model in job.spaces}
            chosen.append(winner_of(search_models(job, splits, places.__getitem__, pool=pool, progress=within)))
        for fold, one in enumerate(chosen, start=1):
            if one is not None and not folder.chosen(fold).with_suffix(".json").exists():
                FeaturesAhead(job.scorer(one[0], plan.splits), folder.path, progress)(one[1].parameters)
        outer, predicted = _predict(job, plan, folder, chosen, pool, advance)
    scores = None
    if len(predicted) == count:
        pooled = _pooled(predicted)
        save_predictions(folder.predictions, pooled)
        scores = _of_decisions(evaluate(pooled, settings=job.study.evaluation, seed=job.study.seed))
    model, trial = winner
    nested = Nested(
        fits=fits,
        inner_folds=job.study.search.folds,
        model=model,
        parameters=trial.parameters,
        inner_score=trial.score,
        inner_standard_error=trial.standard_error,
        folds=tuple(outer),
        scores=scores,
        continuous=tuple(name for name, space in job.spaces.items() if has_continuous(space)),
    )
    write_record(folder.record, nested_row(nested))
    return nested


def _predict(
    job: SearchJob,
    plan: NestedPlan,
    folder: NestedFolder,
    chosen: list[tuple[str, Trial] | None],
    pool: WorkerPool,
    advance: Advance,
) -> tuple[list[OuterFold], list[Predictions]]:
    """Let the chosen candidate of every outer fold predict it; return what came out, and the predictions of those that could."""
    outer, predicted = [], list[Predictions]()
    with contextlib.ExitStack() as stack:
        models = sorted({one[0] for one in chosen if one is not None})
        scorers = {
            model: stack.enter_context(sent_once(job.scorer(model, plan.splits, keeps=True), pool, folder.path))
            for model in models
        }
        work: list[Work] = [
            (scorers[one[0]], one[1].parameters, folder.chosen(fold), fold - 1)
            for fold, one in enumerate(chosen, start=1)
            if one is not None
        ]
        outcomes = _outcomes(pool, work)
        for fold, (one, split) in enumerate(zip(chosen, plan.splits, strict=True), start=1):
            n, groups = _size(split, plan.folds.held_out(fold))
            if one is None:
                outer.append(OuterFold(fold, "", {}, None, None, n, groups, NOTHING_CHOSEN))
                advance(1)
                continue
            outcome = next(outcomes)
            if outcome.refused:
                raise UsageError(outcome.refused)
            score, failure = None, outcome.failure
            if outcome.fold is not None:
                predictions = load_predictions(folder.chosen(fold).with_suffix(".csv"))
                if np.isfinite(predictions.probabilities).all():
                    predicted.append(predictions)
                    score = outcome.fold.metrics[SCORE]
                else:
                    failure = "its scores are no numbers: it did not converge"
            model, trial = one
            outer.append(OuterFold(fold, model, trial.parameters, trial.score, score, n, groups, failure))
            advance(1, f"outer fold {fold} of {len(chosen)}: predicted")
    return outer, predicted


def _outcomes(pool: WorkerPool, work: list[Work]) -> Iterator[Outcome]:
    """Score candidates, each on one fold, at the same time; yield what comes out in order."""
    if pool.workers == 1:
        for one in work:
            yield score_and_keep(*one)
        return
    answers = [pool.submit(score_and_keep, *one) for one in work]
    for one, answer in zip(work, answers, strict=True):
        yield answer_or_alone(pool, answer, one, answers)


def _size(split: Split, rows: IntArray) -> tuple[int, int]:
    return len(rows), len({split.groups[row] for row in rows.tolist()})


def _pooled(predicted: list[Predictions]) -> Predictions:
    """Return the predictions of all folds as those of one model, in the order of the images."""
    order = np.argsort(np.concatenate([one.rows for one in predicted]), kind="stable")
    paths = [path for one in predicted for path in one.paths]
    return replace(
        predicted[0],
        model="chosen in nested cross-validation",
        rows=np.concatenate([one.rows for one in predicted])[order],
        paths=tuple(paths[place] for place in order.tolist()),
        truth=np.concatenate([one.truth for one in predicted])[order],
        probabilities=np.concatenate([one.probabilities for one in predicted])[order],
        groups=np.concatenate([one.groups for one in predicted])[order],
        clean=np.concatenate([one.clean for one in predicted])[order],
        decided=np.concatenate([one.predicted for one in predicted])[order],
    )


def _of_decisions(scores: Scores) -> Scores:
    """Leave out what ranks or weighs scores: each outer fold may have been predicted by another model, on another scale."""
    return replace(
        scores,
        overall={name: value for name, value in scores.overall.items() if OVERALL_METRICS[name].decides},
        per_class={
            label: {name: value for name, value in of_class.items() if CLASS_METRICS[name].decides}
            for label, of_class in scores.per_class.items()
        },
    )


class _Within(SilentProgress):
    """Lets the steps of a task be steps of one that is under way: a terminal shows one bar at a time."""

    def __init__(self, outer: Progress, advance: Advance, title: str) -> None:
        self._outer = outer
        self._advance = advance
        self._title = title

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:  # noqa: ARG002 - the outer task has counted these steps
        """See :class:`vitrail.progress.Progress`."""

        def advance(steps: int = 1, note: str = "") -> None:
            self._advance(steps, f"{self._title}, {title.removesuffix(': searching')}: {note}" if note else "")

        yield advance

    def say(self, message: str) -> None:
        """See :class:`vitrail.progress.Progress`."""
        self._outer.say(message)
