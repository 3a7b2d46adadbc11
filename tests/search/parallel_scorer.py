"""A scorer that workers can be sent: it notes in a file what it did, in which process, and takes its time."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from vitrail.engine import WorkerPool
from vitrail.errors import UsageError, VitrailError
from vitrail.search import run_trials
from vitrail.settings import SearchSettings

GRID = {"trees": (10, 30, 50), "max_depth": (None, 4), "features": (["pixels"], ["hog", "pixels"])}


def goodness(parameters, fold):
    text = json.dumps(parameters, sort_keys=True)
    return sum(map(ord, text)) % 97 / 97 + fold / 1000


@dataclass(frozen=True)
class NotingScorer:
    """Scores by formula. ``trouble``: value of ``trees`` -> ``fail``, ``wrong``, ``killed`` (always), ``killed once``,
    ``no memory`` (always) or ``no memory once``;
    ``together``: so many have to begin before one ends, within a minute.
    """

    notes: Path
    seconds: float = 0.0
    together: int = 0
    trouble: tuple[tuple[int, str], ...] = ()

    def __call__(self, parameters, place, fold):
        self.note("begin", parameters, fold)
        time.sleep(self.seconds * (1 + sum(map(ord, str(parameters))) % 3))
        patience = time.monotonic() + 60
        while sum(line[0] == "begin" for line in self.read()) < self.together and time.monotonic() < patience:
            time.sleep(0.02)
        match dict(self.trouble).get(parameters.get("trees"), ""):
            case "fail":
                raise VitrailError("diverged")
            case "wrong":
                raise UsageError("the images are gone")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "killed once" if len([line for line in self.read() if line[1] == parameters and line[2] == fold]) == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            case "no memory":
                raise MemoryError("Unable to allocate 9.00 TiB")
            case "no memory once" if len([line for line in self.read() if line[1] == parameters and line[2] == fold]) == 1:
                raise MemoryError("Unable to allocate 9.00 TiB")
        self.note("end", parameters, fold)
        return {"balanced_accuracy": goodness(parameters, fold), "log_loss": 0.5}

    def note(self, what, parameters, fold):
        with self.notes.open("a") as stream:
            stream.write(json.dumps([what, parameters, fold, os.getpid()]) + "\n")

    def read(self):
        return [json.loads(line) for line in self.notes.read_text().splitlines()] if self.notes.exists() else []


@dataclass(frozen=True)
class SlowLater(NotingScorer):
    """The first fold is scored at once, the others take a second."""

    def __call__(self, parameters, place, fold):
        time.sleep(min(fold, 1))
        return super().__call__(parameters, place, fold)


def search(folder, scorer, *, workers, space=GRID, folds=3, **settings):
    with WorkerPool(workers) as pool:
        return run_trials("m", space, SearchSettings(**settings), scorer, folds=folds, seed=0, folder=folder, pool=pool)


if __name__ == "__main__":  # a search in a process that a test kills
    import test_fold_queue as tests

    method, target, pause = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
    tests.search(target / "search", tests.NotingScorer(target / "notes", pause), workers=2, **tests.SPACES[method])
