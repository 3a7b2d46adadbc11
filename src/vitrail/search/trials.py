"""Trials: which candidate comes next and what came out, kept so that a killed search goes on. The only door to Optuna."""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from vitrail.engine import WorkerPool
from vitrail.progress import SILENT, Progress
from vitrail.search.candidates import Space, grid_of, place_of, trials_of, whole
from vitrail.search.cross_validation import SCORE
from vitrail.search.fold_queue import Asked, Fold, FoldQueue, ScoreFold, number_of
from vitrail.search.sent_once import sent_once
from vitrail.settings import RangeSettings, SearchSettings
from vitrail.storage import write_bytes

if TYPE_CHECKING:
    import optuna

FINISHED = ("complete", "stopped", "failed")
NO_NUMBER = "its balanced accuracy is not estimable on every fold: its scores are no finite numbers. Lower its learning rate."


@dataclass(frozen=True)
class Trial:
    """One candidate and how it did.

    Attributes:
        number: From 1, in the order in which trials ended.
        parameters: Dotted key below the model -> value.
        state: ``complete``; ``stopped`` after some folds, because others did better on these; or ``failed``.
        folds: The metrics of every fold that was scored, in order.
        seconds: Wall-clock time, over all starts.
        failure: Why it failed; else empty.
    """

    number: int
    parameters: dict[str, Any]
    state: Literal["complete", "stopped", "failed"]
    folds: tuple[dict[str, float], ...]
    seconds: float
    failure: str = ""

    @property
    def scores(self) -> tuple[float, ...]:
        """Balanced accuracy of every fold that was scored."""
        return tuple(fold[SCORE] for fold in self.folds)

    @property
    def score(self) -> float:
        """Mean balanced accuracy over the folds; not-a-number where none was scored."""
        return float(np.mean(self.scores)) if self.folds else math.nan

    @property
    def standard_error(self) -> float:
        """Of that mean, from the spread between the folds; not-a-number for fewer than two. Folds share training images, so it is
        somewhat too small (Bengio and Grandvalet 2004)."""
        return float(np.std(self.scores, ddof=1) / math.sqrt(len(self.scores))) if len(self.scores) > 1 else math.nan


@dataclass(frozen=True)
class Searched:
    """All trials of one model.

    Attributes:
        model: Its name.
        trials: In the order in which they ended.
        best: Number of the best complete trial; 0 where there is none.
    """

    model: str
    trials: tuple[Trial, ...]
    best: int


def run_trials(
    model: str,
    space: Space,
    search: SearchSettings,
    score_fold: ScoreFold,
    *,
    folds: int,
    seed: int,
    folder: Path,
    pool: WorkerPool | None = None,
    prepare: Callable[[Mapping[str, Any]], None] | None = None,
    progress: Progress = SILENT,
) -> Searched:
    """Try candidates of one model until there are as many as asked.

    Folds are scored at the same time by the pool's workers: those of a trial, and those of the trials after it. Trials are told
    in the order in which they were asked for, so that all is as it would be with one worker. Under ``tpe`` a trial is asked for
    when the one before it is told, for what it proposes depends on that.

    A search that was killed, at whatever moment, goes on when it is called again: trials that ended are kept as they are, the one
    under way is taken up with the folds that it had scored, and those that come are as they would have been.

    Args:
        model: Its name.
        space: What may be tried.
        search: How.
        score_fold: Scores a candidate on one fold; a :class:`VitrailError` from it makes the trial a failed one. Is pickled where
            the pool has several workers.
        folds: Number of folds, over all repeats.
        seed: Same seed, same candidates, as long as scores are the same.
        folder: Of this model's search.
        pool: Who scores the folds; ``None``: this process, one after another.
        prepare: Does what all folds of a candidate share, in this process, before the first begins; ``None``: nothing.
        progress: Told of every fold.
    """
    optuna_study = _open(folder, search)
    wanted = trials_of(search, space)
    _take_up(optuna_study)
    candidates = _candidates(optuna_study, space, search, prepare, seed=seed)
    title = f"{model}: searching"
    pool = pool or WorkerPool(1)
    with progress.task(title, wanted * folds) as advance, sent_once(score_fold, pool, folder) as sent:
        ended = _ended(optuna_study)
        advance(len(ended) * folds)
        queue = FoldQueue(
            lambda: next(candidates),
            sent,
            pool,
            folds=folds,
            folder=folder / "trials",
            ahead=search.method != "tpe",
        )
        while len(ended) < wanted:
            trial, scores = queue.next(left=wanted - len(ended))
            _run_trial(trial, scores, folds=folds, study=optuna_study, advance=advance)
            queue.drop()
            ended = _ended(optuna_study)
            advance(0, _standing(ended, wanted))
    trials = tuple(_trial(number, frozen, space) for number, frozen in enumerate(ended, start=1))
    return Searched(model, trials, best_of(trials, space))


def best_of(trials: Sequence[Trial], space: Space) -> int:
    """Return the number of the complete trial with the highest score; 0 where none is complete.

    Of equals it is the one that stands first in the space (:func:`place_of`), for no kill changes that: earlier in its lists, at
    lower values of its ranges.
    """
    complete = [trial for trial in trials if trial.state == "complete" and not math.isnan(trial.score)]
    return (
        min(complete, key=lambda trial: (-trial.score, place_of(trial.parameters, space), trial.number)).number if complete else 0
    )


def _candidates(
    study: optuna.Study, space: Space, search: SearchSettings, prepare: Callable[[Mapping[str, Any]], None] | None, *, seed: int
) -> Iterator[Asked]:
    """Ask for one candidate after another, from where the search stands."""
    ended, distributions = _ended(study), _distributions(space)
    left = _left_of(grid_of(space), ended) if search.method == "grid" else iter(())
    for position in itertools.count(len(ended)):
        if search.method == "grid":
            study.enqueue_trial(next(left))
        else:
            study.sampler = _sampler(search.method, seed, position)
        trial = study.ask(distributions)
        parameters = _decoded(trial.params, space)
        if prepare is not None:
            prepare(parameters)
        yield trial, parameters


def _run_trial(
    trial: optuna.Trial,
    scores: Iterator[Fold | str],
    *,
    folds: int,
    study: optuna.Study,
    advance: Callable[..., None],
) -> None:
    """Take a candidate's scores fold by fold, and tell Optuna how it ended."""
    import optuna

    scored: list[Fold] = []
    for fold, score in enumerate(scores):
        if isinstance(score, str):
            _keep(trial, scored, failure=score)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            advance(folds - fold)
            return
        scored.append(score)
        advance(1)
        mean = float(np.mean([one.score for one in scored]))
        trial.report(mean, fold)
        if fold + 1 < folds and trial.should_prune():
            _keep(trial, scored)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            advance(folds - fold - 1)
            return
    if math.isnan(mean):  # Optuna would take it for a trial that never ended
        _keep(trial, scored, failure=NO_NUMBER)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return
    _keep(trial, scored)
    study.tell(trial, mean)


def _keep(trial: optuna.Trial, scored: list[Fold], *, failure: str = "") -> None:
    """Note beside the trial what came out, before it is told as ended: an ended trial is a whole one."""
    trial.set_user_attr("folds", [one.metrics for one in scored])
    trial.set_user_attr("seconds", sum(one.seconds for one in scored))
    if failure:
        trial.set_user_attr("failure", failure)


# ---------------------------------------------------------------------------------------------------- what Optuna keeps


def _open(folder: Path, search: SearchSettings) -> optuna.Study:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    logging.getLogger("optuna").setLevel(logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / "trials.log"
    _cut_torn_line(journal)
    # This lock needs no symbolic links, which not every disk has.
    storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalFileOpenLock(str(journal))))
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5) if search.stop_early else optuna.pruners.NopPruner()
    return optuna.create_study(
        storage=storage,
        study_name="search",
        direction="maximize",
        load_if_exists=True,
        pruner=pruner,
    )


def _cut_torn_line(journal: Path) -> None:
    """Take away half a record at the end of Optuna's journal, which a full disk or a power cut leaves: the next record would be
    glued to it, and neither could be read."""
    if not journal.exists():
        return
    content = journal.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        write_bytes(journal, whole)


def _sampler(method: str, seed: int, position: int) -> optuna.samplers.BaseSampler:
    """Return what draws the candidate at a position of a search, counted from 0. Each has a seed of its own: a search that was
    killed goes on to draw what it would have drawn."""
    from optuna import samplers

    own = int(np.random.default_rng((seed, position)).integers(2**31))
    return samplers.TPESampler(seed=own) if method == "tpe" else samplers.RandomSampler(seed=own)


def _take_up(study: optuna.Study) -> None:
    """Put aside what a killed search had under way: it is asked for again, in its turn, and finds its scored folds."""
    from optuna.trial import TrialState

    for _ in study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.tell(study.ask(), state=TrialState.FAIL)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def _left_of(grid: Sequence[Mapping[str, Any]], ended: Sequence[optuna.trial.FrozenTrial]) -> Iterator[dict[str, str]]:
    """Yield what of a grid has not ended, in order."""
    known = Counter(_text(trial.params) for trial in ended)
    for parameters in grid:
        encoded = {key: json.dumps(value) for key, value in parameters.items()}
        if known[_text(encoded)]:
            known[_text(encoded)] -= 1
        else:
            yield encoded


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Return the trials that ended by themselves, in order; those that a killed search left are no trials."""
    from optuna.trial import TrialState

    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    trials = study.get_trials(deepcopy=False, states=states)
    own = [trial for trial in trials if trial.state != TrialState.FAIL or "failure" in trial.user_attrs]
    return sorted(own, key=lambda trial: (trial.datetime_complete is None, trial.datetime_complete, trial.number))


def _text(parameters: Mapping[str, Any]) -> str:
    return json.dumps(parameters, sort_keys=True)


def _distributions(space: Space) -> dict[str, optuna.distributions.BaseDistribution]:
    """Return the space in Optuna's terms. Values of lists may be anything that YAML holds: they go as text."""
    from optuna import distributions as kinds

    result: dict[str, kinds.BaseDistribution] = {}
    for key, choice in space.items():
        if not isinstance(choice, RangeSettings):
            result[key] = kinds.CategoricalDistribution([json.dumps(value) for value in choice])
        elif choice.integer:
            result[key] = kinds.IntDistribution(int(choice.low), int(choice.high), log=choice.log)
        else:
            result[key] = kinds.FloatDistribution(choice.low, choice.high, log=choice.log)
    return result


def _decoded(parameters: Mapping[str, Any], space: Space) -> dict[str, Any]:
    values = {}
    for key, choice in space.items():
        value = parameters[key]
        values[key] = whole(choice, value) if isinstance(choice, RangeSettings) else json.loads(value)
    return values


def _trial(number: int, frozen: optuna.trial.FrozenTrial, space: Space) -> Trial:
    states: dict[str, Literal["complete", "stopped", "failed"]]
    states = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "failed"}
    kept = frozen.user_attrs
    return Trial(
        number=number,
        parameters=_decoded(frozen.params, space),
        state=states[frozen.state.name],
        folds=tuple({name: number_of(value) for name, value in fold.items()} for fold in kept.get("folds", ())),
        seconds=float(kept.get("seconds", 0.0)),
        failure=str(kept.get("failure", "")),
    )


def _standing(ended: Sequence[optuna.trial.FrozenTrial], wanted: int) -> str:
    best = max((trial.value for trial in ended if trial.value is not None), default=math.nan)
    return f"{len(ended)} of {wanted} trials, best {best:.3f}"
