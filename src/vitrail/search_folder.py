"""Where everything of a search lies, and the two files that people open: the table of trials and the best study."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

from vitrail.records import Manifest, Split
from vitrail.run_folder import run_folder_of, shown_study
from vitrail.search import Nested, NestedFolder, Searched
from vitrail.storage import fingerprint, write_text
from vitrail.study import Study, changed


@dataclass(frozen=True)
class SearchFolder:
    """The folder of one search."""

    path: Path

    @classmethod
    def of(cls, study: Study, manifest: Manifest, split: Split, *, threads: int) -> SearchFolder:
        """Return the folder of a study's search: another one for other data, splits, settings, searches or code.

        How many workers there are changes no result: a killed search may go on with more of them, or fewer. Outer folds are added
        to a search that is there, and change nothing in it.

        Args:
            study: With its search settings.
            manifest: The data set.
            split: Who is kept for the test, and which images belong together.
            threads: Cores for each fold, as resolved for this machine: the last digits of results depend on them.
        """
        run = run_folder_of(study, manifest, split.groups).path
        asked = study.search.model_dump(mode="json", exclude={"workers", "outer_folds"})
        asked |= {"threads": threads, "split": split.fingerprint}
        return cls(study.output / "searches" / f"{run.name}-{fingerprint(asked)[:8]}")

    @property
    def study(self) -> Path:
        """The settings, as they were."""
        return self.path / "study.yaml"

    @property
    def split(self) -> Path:
        """Who is kept for the test."""
        return self.path / "split.csv"

    @property
    def folds(self) -> Path:
        """Fold of every other image."""
        return self.path / "folds.csv"

    @property
    def table(self) -> Path:
        """A line per trial."""
        return self.path / "trials.csv"

    @property
    def best(self) -> Path:
        """The study with the best settings put in."""
        return self.path / "best.yaml"

    def model(self, name: str) -> Path:
        """Return the folder of one model's trials."""
        return self.path / "models" / name

    def nested(self, outer_folds: int) -> NestedFolder:
        """Return the folder of its nested cross-validation with so many outer folds."""
        return NestedFolder(self.path / f"nested-{outer_folds}")


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Attributes:
        folder: Where it lies.
        models: The trials of every model that was searched.
        best: A study file with the best settings put in: what ``vitrail run`` takes next.
        nested: What the search is worth, its choice included; ``None``: not asked for, or no candidate could be trained.
    """

    folder: Path
    models: tuple[Searched, ...]
    best: Path
    nested: Nested | None = None


def save_search(folder: SearchFolder, study: Study, result: SearchResult) -> None:
    """Write the table of trials and the study with the best settings."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    folds = max((len(trial.folds) for one in result.models for trial in one.trials), default=0)
    head = ["model", "trial", "state", "balanced accuracy", "standard error", *(f"fold {n + 1}" for n in range(folds))]
    writer.writerow([*head, "seconds", "settings", "failure"])
    updates: dict[str, object] = {}
    for one in result.models:
        for trial in one.trials:
            scores = [f"{score:.4f}" for score in trial.scores]
            writer.writerow(
                [
                    *(one.model, trial.number, trial.state, f"{trial.score:.4f}", f"{trial.standard_error:.4f}"),
                    *(*scores, *[""] * (folds - len(scores))),
                    *(f"{trial.seconds:.1f}", json.dumps(trial.parameters), trial.failure),
                ]
            )
            if trial.number == one.best:
                updates |= {f"models.{one.model}.{key}": value for key, value in trial.parameters.items()}
    write_text(folder.table, table.getvalue())
    best = changed(shown_study(study), {**updates, "search.space": {}})
    write_text(folder.best, best.to_yaml())
