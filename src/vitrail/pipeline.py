"""The order of the rooms, and nothing else: images in, audit, split, train, evaluate, explain, report, track.

Every step leaves its result in the run's folder, whole, and is skipped when it is already there: the same command after a kill
goes on where it stopped and ends with the same numbers.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitrail.audit import check_acceptances, enforce
from vitrail.auditing import audit, find_images
from vitrail.comparing import ComparisonResult, compare_runs, comparison_folder, comparison_summary
from vitrail.continuing import continued_study
from vitrail.energy import Meter, check_energy
from vitrail.engine import WorkerPool
from vitrail.errors import Problem, StudyError, UsageError
from vitrail.evaluation import check_threshold
from vitrail.explanation.grading import check_explanation, find_masks, masks_found
from vitrail.models import check_continued_data, identity, members_of
from vitrail.places import cache_of, check_places, plain_study, source_fingerprint
from vitrail.preprocess import remarks, view_remarks
from vitrail.progress import SILENT, Progress
from vitrail.promotion import Promotion, Role, chosen_model, contest, registration
from vitrail.records import AuditReport, Manifest, RunResult, Split
from vitrail.run_folder import (
    RunFolder,
    computing_versions,
    provenance_of,
    run_folder_of,
    shown_study,
)
from vitrail.search import (
    SearchJob,
    check_space,
    describe_search,
    nested_fits,
    nested_selection,
    plan_nested,
    search_models,
    shared_cores,
    winner_of,
)
from vitrail.search_folder import SearchFolder, SearchResult, save_search
from vitrail.split import load_split, make_split, save_folds, save_split, with_groups
from vitrail.steps import (
    combine_models,
    evaluate_baselines,
    evaluate_model,
    explain_model,
    tell_mlflow,
    track_run,
    train_model,
)
from vitrail.storage import fingerprint, locked, sweep, write_record, write_text
from vitrail.study import EnsembleSettings, Study, changed
from vitrail.tracking import in_role, register
from vitrail.training import Job, batch_remarks, check_trainable

if TYPE_CHECKING:  # planning loads what training needs
    from vitrail.planning import Plan

Step = Literal["train", "evaluate", "report"]
MEASURING = 0.15
"""Share of a budget after which a plan begins no further timing."""


def run(study: Study, *, until: Step = "report", fresh: bool = False, progress: Progress = SILENT) -> RunResult:
    """Take a study from its folder of images to its report.

    Args:
        study: What to do.
        until: The last step: ``train``, ``evaluate`` or ``report``.
        fresh: Throw away what an earlier run of the same study left (caches are kept).
        progress: Told of everything long.

    Raises:
        UsageError: The folder or the study cannot be used.
        AuditStopped: The study is strict and error-level findings stand.
    """
    from vitrail.reporting import write_report  # needs the extra [train], as training does; audits work without it

    study = plain_study(study)
    check_places(study)
    find_images(study)  # a wrong folder is told at once: what checks the models takes seconds to load
    _check_settings(study)
    for remark in (*remarks(study.augment), *view_remarks(study.models)):
        progress.say(remark)
    manifest, audit_report = audit(study, progress=progress)
    if study.audit.strict:
        enforce(audit_report)
    audit_report = with_groups(audit_report, manifest, settings=study.split)
    check_threshold(study.evaluation, manifest.classes)
    if study.explanation.masks is not None:
        masks = find_masks(study.explanation.masks, manifest)
        images = [file.path for file in manifest.files if file.readable]
        progress.say(masks_found(masks, images, what="images of the data set"))
    for settings in study.models:
        check_continued_data(settings, data_fingerprint=manifest.fingerprint)
    folder = run_folder_of(study, manifest, audit_report.groups)
    with locked(folder.path, wait=0):
        if fresh and folder.path.exists():
            shutil.rmtree(folder.path)
        sweep(folder.path)
        split = _open(folder, study, manifest, audit_report)
        meter = Meter(study.energy, folder.energy, progress)
        jobs = {
            settings.name: Job(study, manifest, split, folder.model(settings.name).path, cache_of(study), progress)
            for settings in study.models
        }
        for settings in sorted(study.models, key=lambda model: isinstance(model, EnsembleSettings)):  # members first
            job = jobs[settings.name]
            if isinstance(settings, EnsembleSettings):
                combine_models(settings, job, folder, meter)
                continue
            for remark in batch_remarks(settings, job):
                progress.say(remark)
            train_model(settings, job, folder, meter)
        if until == "train":
            return folder.result()
        for settings in study.models:
            evaluate_model(settings, jobs[settings.name], folder, meter)
        if study.evaluation.baselines:
            evaluate_baselines(study, manifest, split, folder, progress)
        if until == "evaluate":
            return folder.result()
        for settings in study.models:
            explain_model(settings, jobs[settings.name], folder, meter)
        result = folder.result()
        write_report(result, folder.report)
        if study.tracking.enabled:
            track_run(result, study, folder, progress)
    return result


def plan(study: Study, *, budget: float = 20 * 60, backbone: str = "", fresh: bool = False, progress: Progress = SILENT) -> Plan:
    """Plan a study within a length of time: fingerprint, rules, short timings on this machine. Only training images are timed.

    The same call plans the same: timings are kept in the cache, and with ``fresh``, which measures anew, only what has clearly
    moved changes.

    Args:
        study: Images, output and whatever else is wished; what is set in it stays, its models do not matter.
        budget: Seconds for all: audit, planning, training, evaluation, report.
        backbone: A timm name or ``local-dir:FOLDER``; empty: none, and no model that needs one.
        fresh: Measure anew.
        progress: Told of everything long.

    Raises:
        UsageError: The folder, a setting or the backbone cannot be used.
        AuditStopped: The study is strict and error-level findings stand.
    """
    from vitrail.planning import decide, drawn_groups, facts_of, load_measured, measure, outline, validation_choice

    study = plain_study(study)
    check_places(study)
    find_images(study)
    _check_settings(changed(study, {"models": [{"model": "probe", "backbone": backbone} if backbone else "forest"]}))
    started = time.monotonic()
    manifest, audit_report = audit(study, progress=progress)
    if study.audit.strict:
        enforce(audit_report)
    audit_report = with_groups(audit_report, manifest, settings=study.split)
    audit_seconds = time.monotonic() - started
    validation = validation_choice(drawn_groups(manifest, audit_report, study)[1], study)
    study = changed(study, {"split.validation": validation.value})
    split = _split_of(study, manifest, audit_report)
    facts = facts_of(manifest, audit_report, split, study, backbone=backbone)
    drawn = outline(facts, study, backbone=backbone, first=(validation,))
    made_by = (source_fingerprint(), computing_versions(drawn.study), [identity(model) for model in drawn.study.models])
    key = fingerprint(manifest.fingerprint, str(manifest.root), split.fingerprint, drawn.study.fingerprint, made_by, budget)
    kept_in = cache_of(study) / "plans" / f"{key}-{facts.hardware.cores}.json"
    kept = load_measured(kept_in)
    if kept is None or fresh:
        kept = measure(
            drawn.study,
            manifest,
            split,
            audit_seconds=audit_seconds,
            limit=MEASURING * budget,
            kept=kept,
            path=kept_in,
            cache=cache_of(study),
            progress=progress,
        )
    return decide(drawn, facts, kept, budget=budget)


def search(study: Study, *, fresh: bool = False, progress: Progress = SILENT) -> SearchResult:
    """Compare settings of the study's models by cross-validation on its training and validation images.

    The test images stay closed. A killed search goes on when started again; no trial is lost or done twice. With
    ``search.outer_folds``, the whole search is cross-validated too: an honest estimate, its choice included.

    Args:
        study: With ``search.space``.
        fresh: Throw away the trials of an earlier start.
        progress: Told of every fold.

    Raises:
        UsageError: The folder or the study cannot be used.
        AuditStopped: The study is strict and error-level findings stand.
    """
    study = plain_study(study)
    check_places(study)
    find_images(study)
    spaces = check_space(study)
    _check_settings(study)
    manifest, audit_report = audit(study, progress=progress)
    if study.audit.strict:
        enforce(audit_report)
    audit_report = with_groups(audit_report, manifest, settings=study.split)
    check_threshold(study.evaluation, manifest.classes)
    workers, threads = shared_cores(study, spaces, progress)
    split = _split_of(study, manifest, audit_report)
    folder = SearchFolder.of(study, manifest, split, threads=threads)
    with locked(folder.path, wait=0):
        if fresh and folder.path.exists():
            shutil.rmtree(folder.path)
        sweep(folder.path)
        job = SearchJob(study, spaces, manifest, audit_report, cache_of(study), threads)
        cuts = job.cuts(split, folds=study.search.folds, repeats=study.search.repeats)
        splits = job.splits(split, cuts)
        outer = plan_nested(job, split) if study.search.outer_folds else None
        if outer is not None:
            once, more = nested_fits(study.search, spaces)
            most = "at most " if study.search.stop_early else ""
            progress.say(f"{most}{once + more:,} models are trained: {once:,} for the search, {more:,} for its nested estimate")
        write_text(folder.study, shown_study(study).to_yaml())
        save_split(folder.split, split, manifest)
        save_folds(folder.folds, cuts, manifest)
        with WorkerPool(workers) as pool:
            searched = search_models(job, splits, folder.model, pool=pool, progress=progress)
            result = SearchResult(folder.path, searched, folder.best)
            save_search(folder, study, result)
            winner = winner_of(searched)
            if outer is not None and winner is not None:
                place = folder.nested(outer.folds.count)
                result = replace(result, nested=nested_selection(job, outer, place, winner, pool=pool, progress=progress))
        if study.tracking.enabled:
            experiment, files = study.tracking.experiment or study.name, (folder.best, folder.table)
            described = describe_search(searched, name=folder.path.name, experiment=experiment, files=files, nested=result.nested)
            tell_mlflow(described, study, progress)
    return result


def _check_settings(study: Study) -> None:
    """Find out before any work what cannot be done as asked, all of it at once.

    Raises:
        StudyError: With every problem.
    """
    problems: list[Problem] = []
    for settings in study.models:
        try:
            if isinstance(settings, EnsembleSettings):
                members_of(settings, study.models)
            check_trainable(settings, study)
        except StudyError as error:
            problems += error.problems
    try:
        check_acceptances(study.audit)
    except StudyError as error:
        problems += error.problems
    try:
        check_energy(study.energy)
    except StudyError as error:
        problems += error.problems
    try:
        check_explanation(study.explanation)
    except StudyError as error:
        problems += error.problems
    if problems:
        raise StudyError(f"study {study.name}", tuple(problems))


def _open(folder: RunFolder, study: Study, manifest: Manifest, report: AuditReport) -> Split:
    """Make the run's folder, or find it as an earlier start left it; return its split.

    The split is made before anything is written and written after everything else: where no honest split exists nothing is
    left behind, and a folder with a split is whole.
    """
    known = folder.split.exists()
    split = load_split(folder.split, manifest, report) if known else _split_of(study, manifest, report)
    write_text(folder.study, shown_study(study).to_yaml())
    if not folder.provenance.exists():
        write_record(folder.provenance, provenance_of(study, manifest))
    write_record(folder.manifest, manifest)
    write_record(folder.audit, report)
    if not known:
        save_split(folder.split, split, manifest)
    return split


def _split_of(study: Study, manifest: Manifest, report: AuditReport) -> Split:
    """Read or draw the split that the study asks for."""
    if study.split.file is not None:
        return load_split(study.split.file, manifest, report)
    return make_split(manifest, report, settings=study.split, seed=study.seed)


def continue_training(path: Path, *, model: str | None = None, epochs: int, progress: Progress = SILENT) -> RunResult:
    """Train a network of a finished run for some more epochs: a new run, on the same images in the same parts.

    Args:
        path: Folder of a run, of one of its models or of that model's package.
        model: The network; ``None``: the only one.
        epochs: How many more.
        progress: Told of everything long.

    Raises:
        UsageError: It cannot be trained further, or the data or the split is another one.
    """
    return run(continued_study(path, model=model, epochs=epochs), until="train", progress=progress)


def report(path: Path) -> RunResult:
    """Write the report of a run again from what stands in its folder.

    Raises:
        UsageError: It is no run.
    """
    from vitrail.reporting import write_report

    folder = RunFolder(path.absolute())
    result = folder.result()
    write_report(result, folder.report)
    return result


def compare(paths: Sequence[Path], *, output: Path | None = None) -> ComparisonResult:
    """Compare the models of finished runs on the same images: the champion by validation score, everyone else against it.

    Nothing is predicted again and no image is opened.

    Args:
        paths: Folders of runs, or study files.
        output: Folder for the page and the JSON; ``None``: ``comparisons/`` beside the runs.

    Raises:
        UsageError: They are not about the same images, or there are fewer than two models.
    """
    from vitrail.reporting import write_comparison

    comparison = compare_runs(paths)
    folder = output or comparison_folder(comparison)
    result = ComparisonResult(comparison, folder / "comparison.html", folder / "comparison.json")
    write_comparison(comparison, result.page)
    write_record(result.summary, comparison_summary(comparison))
    return result


def promote(
    path: Path, *, model: str | None = None, role: Role = "champion", force: str = "", uri: str | None = None
) -> Promotion:
    """Register a model of a finished run in MLflow's model registry, and make it the champion or a challenger.

    The registered model has the study's name; the model package becomes a version of it (the same package never becomes two),
    loadable as ``models:/NAME@champion``.

    Args:
        path: Folder of the run.
        model: One of its models; ``None``: its champion.
        role: The alias.
        force: Why a model that is clearly worse than the present champion, or cannot be compared with it, shall replace it.
        uri: The registry; ``None``: the study's ``tracking.uri``, else ``MLFLOW_TRACKING_URI``, else SQLite beside the runs.

    Raises:
        UsageError: There is no such model, or the champion would be replaced by a worse one without a reason.
        TrackingError: The registry cannot be reached or refuses.
    """
    finished = RunFolder(path.absolute()).result()
    chosen = chosen_model(finished, model)
    wished = registration(finished, chosen, role=role)
    output = finished.folder.parent
    address = uri or Study.from_yaml(finished.folder / "study.yaml").tracking.uri
    present = in_role(wished.name, role, output=output, uri=address)
    replaced = present if present is not None and present.tags.get("vitrail.package") != wished.key else None
    found = contest(finished, chosen, replaced) if replaced is not None and role == "champion" else None
    if replaced is not None and found is not None and not found.allowed:
        if not force.strip():
            raise UsageError(
                f"{chosen.name}: must not be clearly worse than the present champion of {wished.name} (version "
                f"{replaced.number}, {replaced.tags.get('vitrail.model', 'unknown')}) to replace it. Found: {found.words}. "
                'Promote it --as challenger, or say why: --force "REASON".'
            )
        wished = replace(wished, tags={**wished.tags, "vitrail.forced": force.strip()})
    made = register(wished, output=output, uri=address)
    forced = wished.tags.get("vitrail.forced", "")
    return Promotion(made.version, role, made.new, replaced, found, forced, made.uri)
