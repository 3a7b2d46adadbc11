"""Several workers: the same trials as with one, whatever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from parallel_scorer import GRID, NotingScorer, SlowLater, search

from vitrail.engine import WorkerPool
from vitrail.errors import UsageError
from vitrail.search import fold_queue
from vitrail.search.fold_queue import FoldQueue
from vitrail.settings import RangeSettings
from vitrail.storage import fingerprint

RANGES = {"rate": RangeSettings(low=1e-4, high=1e-1, log=True), "layers": RangeSettings(low=1, high=4, integer=True)}
SPACES = {
    "grid": {"space": GRID},
    "random": {"space": RANGES, "method": "random", "trials": 9},
    "tpe": {"space": RANGES, "method": "tpe", "trials": 14},
    "random, stopping early": {"space": RANGES, "method": "random", "trials": 14, "stop_early": True},
    "random among few": {"space": {"trees": (1, 2, 3)}, "method": "random", "trials": 9},
    "random among few, stopping early": {"space": {"trees": (1, 2, 3, 4)}, "method": "random", "trials": 16, "stop_early": True},
}


def told(searched):
    return [(trial.number, trial.parameters, trial.state, trial.folds, trial.failure) for trial in searched.trials]


@pytest.mark.parametrize("case", SPACES)
def test_the_trials_are_those_of_one_worker(case, tmp_path):
    alone = search(tmp_path / "1", NotingScorer(tmp_path / "notes 1"), workers=1, **SPACES[case])
    scorer = NotingScorer(tmp_path / "notes 3", seconds=0.01)
    together = search(tmp_path / "3", scorer, workers=3, **SPACES[case])
    assert told(together) == told(alone) and together.best == alone.best
    begun = [str(line[1:3]) for line in scorer.read() if line[0] == "begin"]
    assert len(begun) == len(set(begun))
    assert os.getpid() not in {line[3] for line in scorer.read()}
    if "stopping early" in case:
        assert "stopped" in {trial.state for trial in together.trials}


def test_folds_are_scored_at_the_same_time_also_of_a_single_trial(tmp_path):
    scorer = NotingScorer(tmp_path / "notes", together=3)
    search(tmp_path / "s", scorer, workers=3, space={"trees": (1,)})
    whats = [line[0] for line in scorer.read()]
    assert whats == ["begin"] * 3 + ["end"] * 3


def test_one_trial_that_fails_ends_no_other(tmp_path):
    trouble = ((30, "fail"),)
    alone = search(tmp_path / "1", NotingScorer(tmp_path / "notes 1", trouble=trouble), workers=1)
    together = search(tmp_path / "2", NotingScorer(tmp_path / "notes 2", trouble=trouble), workers=2)
    assert told(together) == told(alone)
    assert [trial.state for trial in together.trials].count("failed") == 4


def test_a_wrong_use_ends_the_search(tmp_path):
    with pytest.raises(UsageError, match="the images are gone"):
        search(tmp_path, NotingScorer(tmp_path / "notes", seconds=0.05, trouble=((30, "wrong"),)), workers=2)


def test_what_kills_its_process_is_a_failed_trial_that_says_so(tmp_path):
    searched = search(
        tmp_path, NotingScorer(tmp_path / "notes", trouble=((30, "killed"),)), workers=2, space={"trees": (10, 30, 50)}
    )
    assert [trial.state for trial in searched.trials] == ["complete", "failed", "complete"]
    assert "its process was killed on fold 1" in searched.trials[1].failure


def test_a_kill_by_chance_costs_nothing_but_time(tmp_path):
    scorer = NotingScorer(tmp_path / "notes", trouble=((30, "killed once"),))
    searched = search(tmp_path / "2", scorer, workers=2, space={"trees": (10, 30, 50)})
    alone = search(tmp_path / "1", NotingScorer(tmp_path / "others"), workers=1, space={"trees": (10, 30, 50)})
    assert told(searched) == told(alone)


def test_memory_that_ran_out_beside_others_costs_nothing_but_time(tmp_path):
    scorer = NotingScorer(tmp_path / "notes", trouble=((30, "no memory once"),))
    searched = search(tmp_path / "2", scorer, workers=2, space={"trees": (10, 30, 50)})
    alone = search(tmp_path / "1", NotingScorer(tmp_path / "others"), workers=1, space={"trees": (10, 30, 50)})
    assert told(searched) == told(alone)
    again = [fold for what, parameters, fold, _ in scorer.read() if what == "begin" and parameters == {"trees": 30}]
    assert sorted(again) == [0, 0, 1, 1, 2, 2]


def test_memory_that_runs_out_alone_fails_the_trial_whatever_the_workers(tmp_path):
    trouble = ((30, "no memory"),)
    one, two = (
        search(tmp_path / f"{workers}", NotingScorer(tmp_path / f"notes {workers}", trouble=trouble), workers=workers)
        for workers in (1, 2)
    )
    assert told(one) == told(two)
    failures = {trial.failure for trial in two.trials if trial.state == "failed"}
    assert len(failures) == 1 and "memory ran out on fold 1, though it ran alone" in failures.pop()


class NotingPool(WorkerPool):
    """Notes where it was asked to work."""

    def __init__(self, workers):
        super().__init__(workers)
        self.places = []

    def submit(self, function, *arguments):
        self.places.append(arguments[2])
        return super().submit(function, *arguments)


def test_a_fold_under_way_whose_trial_was_stopped_is_not_begun_again_for_the_same_parameters(tmp_path):
    scorer = SlowLater(tmp_path / "notes")
    with NotingPool(2) as pool:
        asked = iter([(None, {"trees": 1}), (None, {"trees": 1})])
        queue = FoldQueue(lambda: next(asked), scorer, pool, folds=3, folder=tmp_path / "trials", ahead=True)
        _, scores = queue.next(left=1)
        first = next(scores)
        queue.drop()  # while the second fold is under way
        assert "fold2" in {place.name for place in pool.places}
        _, scores = queue.next(left=1)
        again = list(scores)
    assert again[0] == first and len(again) == 3
    assert sorted(place.name for place in pool.places if place.name != "fold1") == ["fold2", "fold3"]
    begun = [str(line[1:3]) for line in scorer.read() if line[0] == "begin"]
    assert len(begun) == len(set(begun)) == 3


def test_folds_of_a_stopped_trial_are_not_waited_for_at_the_end(tmp_path):
    started = time.monotonic()
    with WorkerPool(2) as pool:
        scorer = NotingScorer(tmp_path / "notes", seconds=30)
        queue = FoldQueue(lambda: (None, {"trees": 1}), scorer, pool, folds=3, folder=tmp_path / "trials", ahead=False)
        queue.next(left=1)
        queue._fill()
        while len(scorer.read()) < 2:
            time.sleep(0.01)
        queue.drop()
    assert time.monotonic() - started < 25
    assert not any(line[0] == "end" for line in scorer.read())


def test_what_was_under_way_is_removed_only_when_the_scores_are_written(tmp_path):
    place, found = tmp_path / "fold1", []

    def score(parameters, place, fold):
        place.mkdir()
        (place / "checkpoint.pt").touch()
        return {"balanced_accuracy": 0.5}

    def write(path, record, *, original=fold_queue.write_record):
        found.append((place / "checkpoint.pt").exists())
        original(path, record)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fold_queue, "write_record", write)
        outcome = fold_queue.score_and_keep(score, {}, place, 0)
    assert outcome.fold.score == 0.5 and found == [True] and not place.exists()


def test_the_scorer_is_not_left_on_disk(tmp_path):
    search(tmp_path / "s", NotingScorer(tmp_path / "notes"), workers=2, space={"trees": (1,)})
    assert not list(tmp_path.rglob("*scorer*"))


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc")
@pytest.mark.slow
@pytest.mark.parametrize("method", ["grid", "random", "tpe"])
def test_a_search_killed_again_and_again_loses_and_doubles_nothing(tmp_path, method):
    """Killed by signal 9 with folds of several trials under way: workers end, what was scored is not scored again."""
    generator = np.random.default_rng(0)
    scorer, target = NotingScorer(tmp_path / "notes"), tmp_path / "search"
    script = Path(__file__).with_name("parallel_scorer.py")
    begun = []
    for _ in range(3):
        before, kept = len(scorer.read()), scored(target)
        with subprocess.Popen([sys.executable, str(script), method, str(tmp_path), "0.1"], stderr=subprocess.DEVNULL) as started:
            while len(scorer.read()) < before + 3 and started.poll() is None:
                time.sleep(0.01)
            time.sleep(float(generator.uniform(0, 0.4)))
            started.send_signal(signal.SIGKILL)
        begun = [(fingerprint(line[1]), line[2]) for line in scorer.read()[before:] if line[0] == "begin"]
        assert begun and kept.isdisjoint(begun)
        deadline = time.monotonic() + 10
        while any(running(line[3]) for line in scorer.read()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(running(line[3]) for line in scorer.read())
    before, kept = len(scorer.read()), scored(target)
    assert len(kept) > 3
    searched = search(target, scorer, workers=2, **SPACES[method])
    assert len(searched.trials) == {"grid": 12, "random": 9, "tpe": 14}[method]
    assert len({str(trial.parameters) for trial in searched.trials}) == len(searched.trials)
    assert all(trial.state == "complete" and len(trial.folds) == 3 for trial in searched.trials)
    begun = [(fingerprint(line[1]), line[2]) for line in scorer.read()[before:] if line[0] == "begin"]
    assert len(begun) == len(set(begun)) == 3 * len(searched.trials) - len(kept) and kept.isdisjoint(begun)


def scored(folder: Path) -> set[tuple[str, int]]:
    """Return the folds of which the scores are on disk: fingerprint of the candidate, number from 0."""
    return {(path.parent.name, int(path.stem.removeprefix("fold")) - 1) for path in folder.rglob("fold*.json")}


def test_a_pool_of_one_works_in_this_process():
    with WorkerPool(1) as pool:
        assert pool.submit(os.getpid).result() == os.getpid()
