"""Finished runs side by side: are they about the same images, which model is the champion, how do the others do against it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vitrail.errors import UsageError
from vitrail.evaluation import choose_champion, evaluation_of, leaderboard_row, load_predictions
from vitrail.evaluation.comparison import (
    PARTS,
    Candidate,
    Comparison,
    PairedComparison,
    PartName,
    adjusted,
    compare_pair,
    restricted,
)
from vitrail.places import plain_study
from vitrail.records import Evaluation, Predictions, Provenance, RunResult
from vitrail.run_folder import RunFolder, counting_members
from vitrail.settings import EvaluationSettings
from vitrail.storage import fingerprint, read_record
from vitrail.study import Study


@dataclass(frozen=True)
class _Entry:
    """A model of a run, before it is known whether it can be compared."""

    name: str
    run: RunResult
    model: str
    family: str
    description: str
    evaluation: Evaluation
    validation: Predictions
    test: Predictions
    members: tuple[str, ...]


@dataclass(frozen=True)
class ComparisonResult:
    """A comparison and where it stands.

    Attributes:
        comparison: What was found.
        page: The HTML page.
        summary: The same as JSON.
    """

    comparison: Comparison
    page: Path
    summary: Path


def compare_runs(paths: Sequence[Path]) -> Comparison:
    """Compare the models of finished runs on the same images.

    Runs on the same split are compared on all of its images; runs on other splits of the same data on those images that are
    validation (or test) images in all of them, so that none was a training image of any. Runs on other data are refused.

    Args:
        paths: Folders of runs, or study files, each of which stands for its run; a run that is given twice counts once.

    Raises:
        UsageError: They cannot be compared, and why.
    """
    runs = [RunFolder(folder).result() for folder in dict.fromkeys(_run_of(path).resolve() for path in paths)]
    entries = [entry for run, prefix in zip(runs, _prefixes(runs), strict=True) for entry in _entries(run, prefix)]
    if len(entries) < 2:
        raise UsageError(
            f"compare: needs at least two evaluated models, found {len(entries)} in {_listed(runs)}. "
            "Name more runs, or train more models: vitrail run FOLDER --models forest,cnn."
        )
    _require_same_data(runs)
    study = Study.from_yaml(runs[0].folder / "study.yaml")
    resamples, seed = study.evaluation.resamples, study.seed
    if len({run.split.fingerprint for run in runs}) == 1:
        one = entries[0]
        images = f"the same split: {len(one.validation.truth):,} validation and {len(one.test.truth):,} test images"
    else:
        entries = _on_common_images(entries, resamples=resamples, seed=seed)
        one = entries[0]
        images = (
            f"different splits of the same data: only the {len(one.validation.truth):,} images that are validation images, and "
            f"the {len(one.test.truth):,} that are test images, in all of them"
        )
    validation = {entry.name: entry.validation for entry in entries}
    chosen = choose_champion(
        [entry.evaluation for entry in entries],
        members={entry.name: entry.members for entry in entries},
        validation=validation.__getitem__,
        resamples=resamples,
        seed=seed,
    )
    best = chosen.name
    ordered = sorted(entries, key=lambda entry: (entry.name != best, -_score(entry.evaluation)))
    return Comparison(
        name=runs[0].name,
        data_fingerprint=runs[0].provenance.data_fingerprint,
        images=images,
        champion=best,
        candidates=tuple(
            Candidate(entry.name, entry.run.folder, entry.model, entry.family, entry.description, entry.evaluation)
            for entry in ordered
        ),
        challengers=_challengers(ordered, resamples=resamples, seed=seed),
        resamples=resamples,
        seed=seed,
        champion_reason=chosen.reason,
    )


def comparison_summary(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison as plain data: what ``vitrail compare --json`` prints.

    Every difference is challenger minus champion, with the keys of an estimate (``value``, ``low``, ``high``, ``n``, ``groups``,
    ``method``, ``note``); what is not estimable is ``None``.
    """
    return {
        "study": comparison.name,
        "data": comparison.data_fingerprint,
        "images": comparison.images,
        "champion": comparison.champion,
        "chosen_by": "balanced accuracy on the validation images",
        "champion_reason": comparison.champion_reason,
        "candidates": [
            {
                "name": one.name,
                "run": str(one.run),
                "family": one.family,
                "package": str(one.package),
                **{key: value for key, value in leaderboard_row(one.evaluation).items() if key != "model"},
                "model": one.model,
            }
            for one in comparison.candidates
        ],
        "challengers": {
            name: {part: dataclasses.asdict(row) for part, row in parts.items()} for name, parts in comparison.challengers.items()
        },
        "resamples": comparison.resamples,
        "seed": comparison.seed,
    }


def comparison_folder(comparison: Comparison) -> Path:
    """Return where a comparison is kept: beside the runs, under a name of its own for every choice of runs."""
    runs = sorted({str(one.run) for one in comparison.candidates})
    return comparison.candidates[0].run.parent / "comparisons" / f"{comparison.name}-{fingerprint(runs)[:8]}"


def _run_of(path: Path) -> Path:
    """Return the folder of a run: the path itself, or the only run of a study file.

    Raises:
        UsageError: The study has no run, or several.
    """
    if not path.is_file():
        return path
    study = plain_study(Study.from_yaml(path))
    found = [
        provenance.parent
        for provenance in sorted(study.output.glob(f"{study.name}-*/provenance.json"))
        if read_record(provenance, Provenance).study_fingerprint == study.fingerprint
    ]
    if len(found) != 1:
        listed = ", ".join(str(folder) for folder in found) or f"none in {study.output}"
        raise UsageError(
            f"{path}: stands for its run where there is exactly one; found {listed}. "
            f"{'Name the folder of the run you mean.' if found else f'Run it first: vitrail run {path}.'}"
        )
    return found[0]


def _prefixes(runs: Sequence[RunResult]) -> list[str]:
    """Return what stands before the names of each run's models, so that no two share one: as much of its path as that takes."""
    if len(runs) == 1:
        return [""]
    for length in range(1, max(len(run.folder.parts) for run in runs)):
        prefixes = ["/".join((*run.folder.parts[-length:], "")) for run in runs]
        if len(set(prefixes)) == len(runs):
            return prefixes
    return [f"{run.folder}/" for run in runs]


def _entries(run: RunResult, prefix: str) -> list[_Entry]:
    """Return the models of a run that were evaluated.

    Raises:
        UsageError: There are none.
    """
    folder, entries = RunFolder(run.folder), []
    for model in run.models:
        if model.evaluation is None or model.predictions is None or model.training is None:
            continue
        name = prefix + model.name
        entries.append(
            _Entry(
                name=name,
                run=run,
                model=model.name,
                family=model.family,
                description=model.training.description,
                evaluation=dataclasses.replace(model.evaluation, model=name),
                validation=load_predictions(folder.model(model.name).predictions("validation")),
                test=model.predictions,
                members=tuple(prefix + member for member in counting_members(model.training)),
            )
        )
    if not entries:
        raise UsageError(f"{run.folder}: none of its models is evaluated. Evaluate them first: vitrail evaluate {run.folder}.")
    return entries


def _listed(runs: Sequence[RunResult]) -> str:
    return ", ".join(run.folder.name for run in runs)


def _require_same_data(runs: Sequence[RunResult]) -> None:
    """Refuse runs whose images, or whose groups of images, are not the same."""
    if len({run.provenance.data_fingerprint for run in runs}) > 1:
        told = ", ".join(f"{run.folder.name} (data {run.provenance.data_fingerprint})" for run in runs)
        raise UsageError(
            f"compare: all runs must be about the same images, byte for byte. Found {told}. "
            "Run both studies on the same data set, with the same list of fixes."
        )
    if len({run.split.groups for run in runs}) > 1:
        raise UsageError(
            f"compare: {_listed(runs)} must agree on which images belong together (copies, volumes, patients). They do not, so "
            "a test image of one may be a patient in another's training. Use the same data.patient and code for all."
        )


def _on_common_images(entries: Sequence[_Entry], *, resamples: int, seed: int) -> list[_Entry]:
    """Return the models on the images that have the same part in all runs, evaluated anew there."""
    validation = _common([entry.validation for entry in entries], part="validation")
    test = _common([entry.test for entry in entries], part="test")
    settings = EvaluationSettings(resamples=resamples)
    return [
        dataclasses.replace(
            entry,
            validation=own_validation,
            test=own_test,
            evaluation=evaluation_of(
                entry.name,
                own_validation,
                own_test,
                settings=settings,
                seed=seed,
                test_openings=entry.evaluation.test_openings,
                test_openings_of_data=entry.evaluation.test_openings_of_data,
                decision=entry.evaluation.decision,
            ),
        )
        for entry, own_validation, own_test in zip(entries, validation, test, strict=True)
    ]


def _common(all_of_them: Sequence[Predictions], *, part: Literal["validation", "test"]) -> list[Predictions]:
    paths = sorted(set.intersection(*(set(one.paths) for one in all_of_them)))
    places = [{path: place for place, path in enumerate(one.paths)} for one in all_of_them]
    chosen = [
        restricted(one, np.array([place[path] for path in paths], dtype=np.int64))
        for one, place in zip(all_of_them, places, strict=True)
    ]
    first = chosen[0]
    missing = [name for number, name in enumerate(first.classes) if not (first.truth == number).any()]
    if missing:
        raise UsageError(
            f"compare: the runs have different splits, and share {len(paths)} {part} images, none of class {', '.join(missing)}. "
            "Train them on one split: split.file: RUN/split.csv in the second study."
        )
    clean = np.logical_and.reduce([one.clean for one in chosen])
    return [dataclasses.replace(one, clean=clean) for one in chosen]


def _score(evaluation: Evaluation) -> float:
    value = evaluation.validation.overall["balanced_accuracy"].value
    return -np.inf if value is None else value


def _challengers(ordered: Sequence[_Entry], *, resamples: int, seed: int) -> dict[str, dict[PartName, PairedComparison]]:
    """Compare everyone with the first, part by part."""
    best, *others = ordered
    found: dict[str, dict[PartName, PairedComparison]] = {entry.name: {} for entry in others}
    for part in PARTS:
        shown = _images(best, part)
        rows = {entry.name: compare_pair(shown, _images(entry, part), resamples=resamples, seed=seed) for entry in others}
        for name, row in adjusted(rows).items():
            found[name][part] = row
    return found


def _images(entry: _Entry, part: PartName) -> Predictions:
    if part == "validation":
        return entry.validation
    return entry.test if part == "test" else restricted(entry.test, np.flatnonzero(entry.test.clean))
