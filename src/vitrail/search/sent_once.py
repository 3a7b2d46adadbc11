"""A scorer holds the whole manifest and every split: workers read it once from disk, and are not sent it with every fold."""

from __future__ import annotations

import contextlib
import functools
import pickle
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitrail.engine import WorkerPool
from vitrail.search.fold_queue import FoldScores, ScoreFold
from vitrail.storage import write_bytes


@dataclass(frozen=True)
class ScorerOnDisk:
    """Scores as the scorer does that lies in a file.

    Attributes:
        path: Of the file.
    """

    path: Path

    def __call__(self, parameters: Mapping[str, Any], place: Path, fold: int) -> FoldScores:
        """See :data:`vitrail.search.fold_queue.ScoreFold`."""
        return _read(self.path)(parameters, place, fold)


@contextlib.contextmanager
def sent_once(score_fold: ScoreFold, pool: WorkerPool, folder: Path) -> Iterator[ScoreFold]:
    """Give what can be sent to workers with every fold in place of a scorer.

    Args:
        score_fold: Is pickled, where the pool has several workers.
        pool: Where it is sent.
        folder: Where it lies while the context lasts; after a kill with whatever else was unfinished.
    """
    if pool.workers == 1:
        yield score_fold
        return
    path = folder / f".scorer-{secrets.token_hex(6)}.partial"
    write_bytes(path, pickle.dumps(score_fold))
    try:
        yield ScorerOnDisk(path)
    finally:
        path.unlink(missing_ok=True)


@functools.lru_cache(maxsize=1)
def _read(path: Path) -> ScoreFold:
    scorer: ScoreFold = pickle.loads(path.read_bytes())  # noqa: S301 - this very search has written it
    return scorer
