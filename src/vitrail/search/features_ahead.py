"""Features that all folds of a candidate share are computed before its first fold begins, in one pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.engine import out_of_memory
from vitrail.errors import VitrailError
from vitrail.progress import Advance, Progress, SilentProgress
from vitrail.search.candidates import candidate
from vitrail.search.cross_validation import CandidateScorer, views_of
from vitrail.training import Job, features, frozen_embedder


class _InWords(SilentProgress):
    """Tells of a task in one line: the bar of the search stands there already."""

    def __init__(self, outer: Progress) -> None:
        self._outer = outer

    @contextlib.contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        """See :class:`vitrail.progress.Progress`."""
        self._outer.say(f"{title} of {total:,} images, once for all folds")
        with super().task(title, total) as advance:
            yield advance

    def say(self, message: str) -> None:
        """See :class:`vitrail.progress.Progress`."""
        self._outer.say(message)


class FeaturesAhead:
    """Puts the features of all training and validation images into the cache, in the order of the images, with all cores.

    Else the worker that comes first would compute them with the few cores of a fold, and all others would wait for it.

    Args:
        scorer: Scores the candidates.
        folder: Of the search; nothing is left there.
        progress: Told what is computed.
    """

    def __init__(self, scorer: CandidateScorer, folder: Path, progress: Progress) -> None:
        self._scorer = scorer
        self._folder = folder
        self._progress = _InWords(progress)
        self._known: set[tuple[str, str]] = set()

    def __call__(self, parameters: Mapping[str, Any]) -> None:
        """Compute what a candidate needs and the cache lacks; what cannot be computed is left for its folds to say.

        Args:
            parameters: Dotted key below the model -> value.
        """
        try:
            self._compute(parameters)
        except Exception as error:
            if not (isinstance(error, VitrailError) or out_of_memory(error)):
                raise

    def _compute(self, parameters: Mapping[str, Any]) -> None:
        scorer = self._scorer
        study, settings = candidate(scorer.study, scorer.model, parameters)
        job = Job(study, scorer.manifest, scorer.splits[0], self._folder, scorer.cache, self._progress)
        embedder = frozen_embedder(settings, job)
        if embedder is None:
            return
        rows = np.flatnonzero(np.array(job.split.parts, dtype=object) != "excluded")
        for view in views_of(settings):
            if (embedder.fingerprint, view.name) not in self._known:
                title = f"{settings.name}: features"
                features(embedder, job.manifest, rows, cache=job.cache, view=view, progress=job.progress, title=title)
                self._known.add((embedder.fingerprint, view.name))
