"""The steps of a run, each on one model: what a step finds it leaves in the run's folder, whole, and does not do again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from vitrail.decision import Decision, decide
from vitrail.energy import Meter
from vitrail.errors import PackageError, UsageError, VitrailError
from vitrail.evaluation import (
    choose_decision,
    compare_with_baselines,
    decide_held_out,
    evaluation_of,
    fixed_decision,
    load_predictions,
    note_test_opening,
    pick_cases,
    predictions_of,
    save_predictions,
)
from vitrail.explanation import explain_image, save_explanations
from vitrail.explanation.grading import (
    ToGrade,
    chosen_words,
    find_masks,
    first_named,
    grade_package,
    graded,
    masks_found,
    pick_images,
)
from vitrail.explanation.shortcut_hunt import hunt_package, pick_hunted
from vitrail.models import Package, load_package, members_of, save_ensemble, save_package
from vitrail.models.heads import Scores
from vitrail.preprocess import VIEWS
from vitrail.progress import SILENT, Progress
from vitrail.records import Explanation, GradeTable, Manifest, Part, Predictions, RunResult, ShortcutHunt, Split, Training
from vitrail.run_folder import ModelFolder, RunFolder, openings_of
from vitrail.storage import read_record, write_record, write_text
from vitrail.study import EnsembleSettings, ModelSettings, Study
from vitrail.tracked import TrackedRun, describe_run
from vitrail.tracking import TrackingError, track_study
from vitrail.training import (
    BASELINES,
    Job,
    Predict,
    Trained,
    choose_views,
    combine,
    fit_baseline,
    packed_as,
    score_rows,
    train,
    view_scores,
)


def train_model(settings: ModelSettings, job: Job, folder: RunFolder, meter: Meter) -> None:
    """Train one model and pack it. One that cannot be trained is left out, and says why."""
    model = folder.model(settings.name)
    if model.training.exists():
        if read_record(model.training, Training).split == job.split.fingerprint:
            return
        job.progress.say(f"{settings.name}: the split has changed; training anew")
        model.tidy()
    model.forget()
    resumed = "an earlier part of this training, which was interrupted, is not in it" if model.checkpoint.exists() else ""
    try:
        with meter.lap(f"{settings.name}: training", note=resumed) as lap:
            trained = train(settings, job)
            views, choice = choose_views(settings, trained, job)
            decision = _decision(lambda: _validation_scores(trained, views, job), job.study, job.manifest, job.split)
    except UsageError:
        raise
    except VitrailError as error:
        write_text(model.failure, str(error))
        job.progress.say(f"{settings.name}: left out. {error}")
        return
    save_package(
        model.package,
        name=settings.name,
        family=settings.model,
        description=trained.training.description,
        classes=job.manifest.classes,
        embedder=trained.embedder,
        head=trained.head,
        data_fingerprint=job.manifest.fingerprint,
        study_fingerprint=job.study.fingerprint,
        test_time_augmentation=views,
        decision=decision,
    )
    chosen = (choice,) if choice else ()
    training = replace(trained.training, energy=lap.energy, test_time_augmentation=views, choices=chosen)
    write_record(model.training, training)
    model.tidy()


def combine_models(settings: EnsembleSettings, job: Job, folder: RunFolder, meter: Meter) -> None:
    """Choose the weights of an ensemble and pack it. It is made anew when a member is another than it was."""
    model = folder.model(settings.name)
    members = {name: folder.model(name) for name in members_of(settings, job.study.models)}
    packages = {name: member.package if member.training.exists() else None for name, member in members.items()}
    if model.training.exists():
        before = read_record(model.training, Training)
        same = {member.name: member.package for member in before.members} == packed_as(packages)
        if same and before.split == job.split.fingerprint:
            return
        job.progress.say(f"{settings.name}: its members have changed; combining anew")
    model.forget()
    parameters = sum(read_record(members[name].training, Training).parameters for name, path in packages.items() if path)
    try:
        with meter.lap(f"{settings.name}: training") as lap:
            combined = combine(settings, job, packages, parameters=parameters)
            decision = _decision(lambda: combined.validation, job.study, job.manifest, job.split)
    except UsageError:
        raise
    except VitrailError as error:
        write_text(model.failure, str(error))
        job.progress.say(f"{settings.name}: left out. {error}")
        return
    save_ensemble(
        model.package,
        name=settings.name,
        description=combined.training.description,
        classes=job.manifest.classes,
        members={name: (combined.weights[name], path) for name, path in packages.items() if path},
        data_fingerprint=job.manifest.fingerprint,
        study_fingerprint=job.study.fingerprint,
        decision=decision,
    )
    write_record(model.training, replace(combined.training, energy=lap.energy))


def _validation_scores(trained: Trained, views: Literal["none", "mirror", "shifts"], job: Job) -> Scores:
    """Score the validation images with a model that is not packed yet; the evaluation finds its vectors in the cache."""
    title = f"{trained.training.model}: validation images"
    halves, kept = (trained.embedder, trained.head), job.cache
    return view_scores(
        *halves, job.manifest, job.validation_rows, views=VIEWS[views], cache=kept, progress=job.progress, title=title
    )


def _decision(validation: Callable[[], Scores], study: Study, manifest: Manifest, split: Split) -> Decision:
    """Choose how scores become a class. Only validation images have a say; they are scored only where a threshold is chosen."""
    rows = split.rows("validation")
    return fixed_decision(study.evaluation, manifest.classes) or choose_decision(
        manifest.labels[rows],
        np.asarray(split.groups, dtype=np.int64)[rows],
        validation(),
        classes=manifest.classes,
        settings=study.evaluation,
        seed=study.seed,
    )


def evaluate_model(settings: ModelSettings, job: Job, folder: RunFolder, meter: Meter) -> None:
    """Score validation and test images with the packed model: what is evaluated is what will serve."""
    model = folder.model(settings.name)
    if model.evaluation.exists() or not model.training.exists():
        return
    package = load_package(model.package)

    def scores(part: Part) -> Scores:
        title = f"{settings.name}: {part} images"
        return score_rows(package, job.manifest, job.split.rows(part), cache=job.cache, progress=job.progress, title=title)

    with meter.lap(f"{settings.name}: evaluation"):
        _score(settings.name, scores, job.study, job.manifest, job.split, model, decision=package.decision)


def _score(
    name: str,
    scores: Callable[[Part], Scores],
    study: Study,
    manifest: Manifest,
    split: Split,
    folder: ModelFolder,
    *,
    decision: Decision | None,
    opened_for: str = "",
) -> None:
    """Evaluate whatever gives scores, models and baselines alike; the opening of the test images is noted before it happens."""

    def predict(part: Literal["validation", "test"]) -> Predictions:
        rows, probabilities = split.rows(part), scores(part)
        decided = decide(probabilities, manifest.classes, decision)
        if part == "validation" and decision is not None:
            truth, groups = manifest.labels[rows], np.asarray(split.groups, dtype=np.int64)[rows]
            decided = decide_held_out(truth, groups, probabilities, classes=manifest.classes, decision=decision, seed=study.seed)
        predictions = predictions_of(name, manifest, split, part=part, probabilities=probabilities, decided=decided)
        save_predictions(folder.predictions(part), predictions)
        return predictions

    validation = predict("validation")
    of_model, of_data = note_test_opening(
        openings_of(study), data=manifest.fingerprint, study=study.fingerprint, model=opened_for or name
    )
    evaluation = evaluation_of(
        name,
        validation,
        predict("test"),
        settings=study.evaluation,
        seed=study.seed,
        test_openings=of_model,
        test_openings_of_data=of_data,
        decision=decision,
    )
    write_record(folder.evaluation, evaluation)


def evaluate_baselines(study: Study, manifest: Manifest, split: Split, folder: RunFolder, progress: Progress) -> None:
    """Hold the models against the baselines; without a model there is nothing to hold, and the test images stay closed."""
    models = [model for settings in study.models if (model := folder.model(settings.name)).evaluation.exists()]
    if not models:
        return
    with progress.task("baselines", len(BASELINES)) as advance:
        for baseline in BASELINES:
            own = folder.baseline(baseline.name)
            whole = own.evaluation.exists() and own.training.exists()
            if not whole or read_record(own.training, Training).split != split.fingerprint:
                own.forget()
                predict, training = fit_baseline(baseline, manifest, split, seed=study.seed)
                write_record(own.training, training)

                @functools.cache  # the validation images are asked for twice: for the threshold, and for the score
                def scores(part: Part, predict: Predict = predict) -> Scores:
                    return predict(split.rows(part))

                decision = _decision(lambda: scores("validation"), study, manifest, split)
                opened_for = f"baseline {baseline.name}"
                _score(baseline.name, scores, study, manifest, split, own, decision=decision, opened_for=opened_for)
            advance()
    tested = [load_predictions(model.predictions("test")) for model in models]
    held = [load_predictions(folder.baseline(baseline.name).predictions("test")) for baseline in BASELINES]
    differences = compare_with_baselines(tested, held, settings=study.evaluation, seed=study.seed)
    write_record(folder.differences, list(differences))


def explain_model(settings: ModelSettings, job: Job, folder: RunFolder, meter: Meter) -> None:
    """Explain some right and wrong test images for the report."""
    model, gallery = folder.model(settings.name), job.study.explanation.gallery
    predictions = model.result(settings).predictions
    if model.explanations.exists() or predictions is None or not gallery:
        return
    package = load_package(model.package)
    cases = pick_cases(predictions, each=gallery)
    explanations: list[Explanation] = []
    failures: list[str] = []
    with meter.lap(f"{settings.name}: explanation"):
        table = _grades(settings, job, model, package)
        named = job.study.explanation.methods
        method = table.chosen if table and table.chosen else first_named(package, () if named == "auto" else named)
        _hunt(settings, job, model, package)
        with job.progress.task(f"{settings.name}: explaining", len(cases)) as advance:
            for case in cases:
                path = job.manifest.root / predictions.paths[case]
                try:
                    explanation = explain_image(package, path, image=predictions.paths[case], method=method, seed=job.study.seed)
                    if table:
                        told = {**explanation.parameters, "chosen": chosen_words(table)}
                        explanation = graded(package, path, replace(explanation, parameters=told), table, seed=job.study.seed)
                    explanations.append(explanation)
                except PackageError as error:  # the model is trained and evaluated: a map that fails must not take that away
                    failures.append(str(error))
                advance()
    if failures:
        note = f"{len(failures)} of {len(cases)} images of the gallery have no map. {failures[0]}"
        job.progress.say(f"{settings.name}: {note}")
        if table:
            write_record(model.grades, replace(table, notes=(*table.notes, note)))
    save_explanations(model.explanations, explanations)


def _grades(settings: ModelSettings, job: Job, model: ModelFolder, package: Package) -> GradeTable | None:
    """Grade the methods of explanation on validation images, once; ``None`` where the study wants no grades."""
    wished, split, manifest = job.study.explanation, job.split, job.manifest
    if not wished.grade_images:
        return None
    if model.grades.exists():
        return read_record(model.grades, GradeTable)
    rows = split.rows("validation")
    rows = rows[pick_images(np.array(split.groups)[rows], most=wished.grade_images, seed=job.study.seed)]
    paths = tuple(manifest.files[row].path for row in rows)
    masks = {} if wished.masks is None else find_masks(wished.masks, manifest)
    with job.progress.task(f"{settings.name}: grading explanations", len(rows)) as advance:
        table = grade_package(
            package,
            ToGrade(
                files=tuple(manifest.root / path for path in paths),
                paths=paths,
                groups=np.array(split.groups)[rows],
                masks={path: masks[path] for path in paths if path in masks},
            ),
            methods=None if wished.methods == "auto" else wished.methods,
            minutes=wished.grade_minutes,
            seed=job.study.seed,
            resamples=job.study.evaluation.resamples,
            advance=advance,
        )
    if table is not None:
        if wished.masks is not None and table.n:
            table = replace(table, notes=(*table.notes, masks_found(masks, table.images, what="graded images")))
        write_record(model.grades, table)
    return table


def _hunt(settings: ModelSettings, job: Job, model: ModelFolder, package: Package) -> None:
    """Hunt for shortcuts of the model on validation images, once, where the study wants it."""
    if not job.study.explanation.shortcut_hunt or model.hunt.exists():
        return
    try:
        hunt = hunt_model(settings.name, package, job.study, job.manifest, job.split, progress=job.progress)
    except PackageError as error:
        job.progress.say(f"{settings.name}: not hunted for shortcuts. {error}")
        return
    if hunt is not None:
        write_record(model.hunt, hunt)


def hunt_model(
    name: str,
    package: Package,
    study: Study,
    manifest: Manifest,
    split: Split,
    *,
    progress: Progress = SILENT,
) -> ShortcutHunt | None:
    """Hunt for shortcuts of a trained model on as many validation images as its study says.

    Args:
        name: The model's name, for the progress.
        package: Its package.
        study: How many images, how many resamples, which seed.
        manifest: The data set.
        split: Which of it are validation images.
        progress: Told of every few images.

    Returns:
        The hunt; ``None`` where no image can be read.
    """
    rows = split.rows("validation")
    groups = np.array(split.groups)
    rows = rows[pick_hunted(manifest.labels[rows], groups[rows], most=study.explanation.hunt_images, seed=study.seed)]
    paths = tuple(manifest.files[row].path for row in rows)
    with progress.task(f"{name}: hunting for shortcuts", len(rows)) as advance:
        return hunt_package(
            package,
            tuple(manifest.root / path for path in paths),
            paths,
            manifest.labels[rows],
            groups[rows],
            seed=study.seed,
            resamples=study.evaluation.resamples,
            advance=advance,
        )


def track_run(result: RunResult, study: Study, folder: RunFolder, progress: Progress) -> None:
    """Tell MLflow. Results stand on disk: a tracking server that is down must not take them away."""
    from vitrail.reporting import figure_files

    figures = {model.name: figure_files(result, model) for model in result.trained()}
    described = describe_run(result, experiment=study.tracking.experiment, model_figures=figures, files=(folder.study,))
    tell_mlflow(described, study, progress)


def tell_mlflow(described: TrackedRun, study: Study, progress: Progress) -> None:
    """Write what was described to the study's MLflow, and say where it is or why it is not."""
    try:
        tracked = track_study(described, output=study.output, uri=study.tracking.uri)
    except TrackingError as error:
        progress.say(f"Not tracked. {error}")
    else:
        progress.say(f"MLflow: experiment {tracked.experiment} at {tracked.uri}")
