"""Candidates under way: the folds of one are scored while those of the next are, and come out in order."""

from __future__ import annotations

import math
import shutil
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitrail.engine import WorkerPool, out_of_memory
from vitrail.errors import StudyError, UsageError, VitrailError
from vitrail.search.cross_validation import SCORE
from vitrail.storage import FOR_EVER, fingerprint, locked, read_record, write_record

if TYPE_CHECKING:
    import optuna

FoldScores = Mapping[str, float]
ScoreFold = Callable[[Mapping[str, Any], Path, int], FoldScores]
"""What scores a candidate (parameters, folder for what is under way) on one fold, counted from 0."""
Asked = tuple["optuna.Trial", dict[str, Any]]
Work = tuple[ScoreFold, dict[str, Any], Path, int]
"""What :func:`score_and_keep` takes."""

KILLED = (
    "its process was killed on fold {fold}, also when it ran alone; most often memory runs out. Lower its size or its batches."
)
NO_MEMORY = "memory ran out on fold {fold}, though it ran alone ({reason}). Lower its size or its batches."


@dataclass(frozen=True)
class Fold:
    """One fold's scores, on disk as soon as they are known; ``None``: not estimable."""

    metrics: dict[str, float | None]
    seconds: float

    @classmethod
    def of(cls, metrics: FoldScores, seconds: float) -> Fold:
        """Return the scores in the form that is written."""
        return cls({name: value if math.isfinite(value) else None for name, value in metrics.items()}, seconds)

    @property
    def score(self) -> float:
        """By what candidates are compared."""
        return number_of(self.metrics[SCORE])


def number_of(value: float | None) -> float:
    """Return a score as it was before it was written."""
    return math.nan if value is None else value


@dataclass(frozen=True)
class Outcome:
    """What a worker gives back: errors as words, for they do not all survive the way between processes.

    Attributes:
        fold: The scores; ``None``: there are none.
        failure: Why the candidate cannot be trained.
        refused: Why the whole search cannot be carried out as asked.
        no_memory: Whether memory ran out, which may be the doing of what ran at the same time.
    """

    fold: Fold | None
    failure: str = ""
    refused: str = ""
    no_memory: bool = False


def score_and_keep(score_fold: ScoreFold, parameters: dict[str, Any], place: Path, fold: int) -> Outcome:
    """Score a candidate on one fold and write the scores to ``place.json``; those that are there are not computed again.

    A worker of a search that was killed may still be at the same fold: it is waited for, and what it wrote is taken.

    Args:
        score_fold: Scores it.
        parameters: Of the candidate.
        place: Folder for what is under way; gone once the scores are written.
        fold: Counted from 0.
    """
    path = place.with_suffix(".json")
    try:
        with locked(place, wait=FOR_EVER):
            if not path.exists():
                started = time.monotonic()
                write_record(path, Fold.of(score_fold(parameters, place, fold), time.monotonic() - started))
            shutil.rmtree(place, ignore_errors=True)
            return Outcome(read_record(path, Fold))
    except StudyError as error:  # settings that do not go together: this candidate's, for what the study itself says was checked
        return Outcome(None, failure=str(error))
    except UsageError as error:
        return Outcome(None, refused=str(error))
    except VitrailError as error:
        return Outcome(None, failure=str(error))
    except Exception as error:
        if not out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        return Outcome(None, failure=NO_MEMORY.format(fold=fold + 1, reason=reason), no_memory=True)


def answer_or_alone(pool: WorkerPool, answer: Future[Outcome], work: Work, others: Collection[Future[Outcome]]) -> Outcome:
    """Return what came out of a fold. One whose process was killed, or whose memory ran out, is scored once more while no other
    is: it shows whether it was to blame, and how many workers there are decides nothing.

    Args:
        pool: Who worked on it.
        answer: That ended.
        work: What was submitted.
        others: Answers that may be under way; all of them have ended where the fold was scored once more.
    """
    killed = isinstance(answer.exception(), BrokenExecutor)
    if not killed and (pool.workers == 1 or not answer.result().no_memory):
        return answer.result()
    wait(others)
    try:
        return replace(pool.alone(score_and_keep, *work), no_memory=False)
    except BrokenExecutor:
        return Outcome(None, failure=KILLED.format(fold=work[-1] + 1))


@dataclass(frozen=True)
class _UnderWay:
    """A candidate that was asked for: its trial, and where each of its folds is worked on, the same for the same parameters."""

    trial: optuna.Trial
    parameters: dict[str, Any]
    places: tuple[Path, ...]


class FoldQueue:
    """Candidates in the order in which they are asked for; while one is waited for, workers that are free begin the next ones.

    Args:
        ask: Gives the next candidate.
        score_fold: Scores one on one fold.
        pool: Who does it.
        folds: Number of folds.
        folder: Of all trials.
        ahead: Whether a candidate may be asked for before those before it are told.
    """

    def __init__(
        self, ask: Callable[[], Asked], score_fold: ScoreFold, pool: WorkerPool, *, folds: int, folder: Path, ahead: bool
    ) -> None:
        self._ask = ask
        self._score_fold = score_fold
        self._pool = pool
        self._folds = folds
        self._folder = folder
        self._ahead = ahead
        self._under_way: deque[_UnderWay] = deque()
        self._answers: dict[Path, Future[Outcome]] = {}
        self._busy: set[Future[Outcome]] = set()
        self._left = 0

    def next(self, *, left: int) -> tuple[optuna.Trial, Iterator[Fold | str]]:
        """Return the next trial, and its scores fold by fold; words in place of scores say why there are none, and are the last.

        Args:
            left: So many candidates are still wanted, this one included.

        Raises:
            UsageError: The search cannot be carried out as asked (from the scores).
        """
        self._left = left
        if not self._under_way:
            self._add_next()
        first = self._under_way[0]
        return first.trial, self._scores(first)

    def drop(self) -> None:
        """Be done with the present candidate. Folds of it that are under way go on; whoever wants the same gets their answer."""
        self._under_way.popleft()
        needed = {place for candidate in self._under_way for place in candidate.places}
        self._answers = {place: answer for place, answer in self._answers.items() if place in needed or not answer.done()}

    def _scores(self, candidate: _UnderWay) -> Iterator[Fold | str]:
        for fold in range(self._folds):
            outcome = self._outcome(candidate, fold)
            if outcome.refused:
                raise UsageError(outcome.refused)
            if outcome.fold is None:
                yield outcome.failure
                return
            yield outcome.fold

    def _outcome(self, candidate: _UnderWay, fold: int) -> Outcome:
        """Wait for a fold's scores, and keep the workers busy meanwhile."""
        if candidate.places[fold] not in self._answers:
            self._begin(candidate, fold)
        answer = self._answers[candidate.places[fold]]
        self._fill()
        while not answer.done():
            wait([answer, *self._busy], return_when=FIRST_COMPLETED)
            self._fill()
        outcome = answer_or_alone(self._pool, answer, self._work(candidate, fold), self._busy)
        if answer.exception() is not None or answer.result() is not outcome:  # what else was lost in a kill is begun again
            self._answers = {
                place: one for place, one in self._answers.items() if not isinstance(one.exception(), BrokenExecutor)
            }
            self._answers[candidate.places[fold]] = again = Future[Outcome]()
            again.set_result(outcome)
        return outcome

    def _fill(self) -> None:
        """Begin folds until every worker has one: of the present candidate first, then of the next ones."""
        self._busy = {answer for answer in self._busy if not answer.done()}
        if self._pool.workers == 1:
            return  # work is done at once there, before anybody asks for it
        while len(self._busy) < self._pool.workers:
            open_folds = ((one, fold) for one in self._under_way if not self._failed(one) for fold in range(self._folds))
            following = next(((one, fold) for one, fold in open_folds if one.places[fold] not in self._answers), None)
            if following is None:
                if not self._ahead or len(self._under_way) >= self._left:
                    return
                self._add_next()
            else:
                self._begin(*following)

    def _add_next(self) -> None:
        trial, parameters = self._ask()
        folder = self._folder / fingerprint(parameters)
        self._under_way.append(_UnderWay(trial, parameters, tuple(folder / f"fold{fold + 1}" for fold in range(self._folds))))

    def _failed(self, candidate: _UnderWay) -> bool:
        """Return whether it is known already that a candidate cannot be trained."""
        begun = (self._answers[place] for place in candidate.places if place in self._answers)
        return any(answer.done() and (answer.exception() or answer.result().fold is None) for answer in begun)

    def _begin(self, candidate: _UnderWay, fold: int) -> None:
        answer = self._pool.submit(score_and_keep, *self._work(candidate, fold))
        self._answers[candidate.places[fold]] = answer
        self._busy.add(answer)

    def _work(self, candidate: _UnderWay, fold: int) -> Work:
        return self._score_fold, candidate.parameters, candidate.places[fold], fold
