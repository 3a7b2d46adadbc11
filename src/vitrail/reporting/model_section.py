"""What the report shows of the models: the leaderboard, and one part per model with its curves, tables and maps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from vitrail.evaluation import MEANING, held_against_baselines
from vitrail.explanation.picture import is_grey, shown_values
from vitrail.preprocess.examples import load_examples
from vitrail.records import (
    Computation,
    Estimate,
    Evaluation,
    Explanation,
    Manifest,
    ModelResult,
    Predictions,
    RunResult,
    Scores,
    Training,
)
from vitrail.reporting.augmentation import augmented_examples_figure
from vitrail.reporting.choices import chosen_facts
from vitrail.reporting.decisions import AtHalf, at_half, decision_facts
from vitrail.reporting.figures import can_draw_roc, confusion_matrix, learning_curves, roc_curves, score_intervals
from vitrail.reporting.grades import GradeView, grade_view
from vitrail.reporting.hunt import HuntView, hunt_view
from vitrail.reporting.images import MapPictures, map_pictures
from vitrail.reporting.thumbnails import Picture, Thumbnails
from vitrail.reporting.wording import Shown, caveats, counted, duration, electricity, methods, metric, show

CLASS_METRICS = ("sensitivity", "specificity", "positive_predictive_value", "f1_score", "auc")


@dataclass(frozen=True)
class Standing:
    """One row of the leaderboard; ``scores`` are in the order of :data:`STANDINGS`, empty for a failed model.

    Attributes:
        name: The model.
        anchor: Id of its part of the page.
        family: Its family.
        description: One line.
        champion: Whether it is the champion.
        scores: Its numbers.
        openings: How often its test images were opened.
        failure: Why there is no such model; else empty.
    """

    name: str
    anchor: str
    family: str
    description: str
    champion: bool
    scores: tuple[Shown, ...]
    openings: int
    failure: str


STANDINGS: tuple[tuple[str, str], ...] = (
    ("test_clean", "balanced_accuracy"),
    ("test_clean", "accuracy"),
    ("test_clean", "auc_weighted"),
    ("test", "balanced_accuracy"),
    ("test", "accuracy"),
    ("validation", "balanced_accuracy"),
)


@dataclass(frozen=True)
class ScoreTable:
    """Estimates in a table: ``columns`` are headings; each row is a name (a class, a metric) and its numbers.

    ``methods`` says how the intervals were made; ``notes`` are the caveats, as footnotes.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shown, ...]], ...]
    methods: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Confusion:
    """A confusion matrix as picture and as numbers; ``title`` says which images it counts."""

    title: str
    figure: str
    counts: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Case:
    """One explained image.

    Attributes:
        path: Of the image.
        verdict: ``right``, ``wrong``, or empty when it is no test image of this run.
        truth: True class, or empty.
        predicted: Predicted class, or empty.
        predicted_score: Score of the predicted class, or empty.
        clean: Whether it counts for the clean score.
        explanation: Method, target, warnings.
        score: Score of the explained class.
        details: What made the map, as (name, value) texts.
        pictures: Original and overlay.
    """

    path: str
    verdict: str
    truth: str
    predicted: str
    predicted_score: str
    clean: bool
    explanation: Explanation
    score: str
    details: tuple[tuple[str, str], ...]
    pictures: MapPictures


@dataclass(frozen=True)
class ModelView:
    """One model's part of the page; figures are SVG, empty where there is nothing to draw."""

    standing: Standing
    facts: tuple[tuple[str, str], ...]
    settings: tuple[tuple[str, str], ...]
    curves: str
    classes: tuple[str, ...]
    confusions: tuple[Confusion, ...]
    clean_table: ScoreTable | None
    official_table: ScoreTable | None
    overall_table: ScoreTable | None
    half_table: ScoreTable | None
    half_errors: str
    roc: str
    cases: tuple[Case, ...]
    augmented: tuple[tuple[str, tuple[Picture, ...]], ...]
    grades: GradeView | None = None
    hunt: HuntView | None = None


@dataclass(frozen=True)
class Leaderboard:
    """All models, best validation score first, failed ones last.

    Attributes:
        standings: The rows.
        figure: SVG, empty when no model was trained.
        methods: How the intervals were made.
        notes: Caveats, as footnotes.
        same: Whether clean and official test images are the same for every model.
        openings_of_data: How often the test images were opened for any model of any study; 0 when they were not.
        baselines: What the models are held against, simplest first.
        meaning: What a model that does not beat them has shown.
        held: How champion and models compare with them, a sentence each.
        reason: How an ensemble that is first compares with its best member; empty where none is.
    """

    standings: tuple[Standing, ...]
    figure: str
    methods: tuple[str, ...]
    notes: tuple[str, ...]
    same: bool
    openings_of_data: int
    baselines: tuple[Standing, ...]
    meaning: str
    held: tuple[str, ...]
    reason: str


def ranked(result: RunResult) -> tuple[ModelResult, ...]:
    """Return the models as validation ranks them, failed ones last; the test has no say in the order."""

    def rank(model: ModelResult) -> tuple[bool, bool, float]:
        score = _validation_score(model)
        return (model.evaluation is None, model.name != result.champion, -score if score is not None else 1.0)

    return tuple(sorted(result.models, key=rank))


def leaderboard(result: RunResult) -> Leaderboard:
    """Collect the leaderboard."""
    models = ranked(result)
    evaluations = [model.evaluation for model in (*models, *result.baselines) if model.evaluation is not None]
    rows = [
        (evaluation.model, _overall(evaluation.test_clean, "balanced_accuracy"), _overall(evaluation.test, "balanced_accuracy"))
        for evaluation in evaluations
    ]
    estimates = (getattr(evaluation, part).overall.get(name) for evaluation in evaluations for part, name in STANDINGS)
    chance = 1 / max(1, len(result.manifest.classes))
    standings = tuple(_standing(model, position, result.champion) for position, model in enumerate(models, start=1))
    baselines = tuple(_standing(baseline, position, "") for position, baseline in enumerate(result.baselines, start=1))
    return Leaderboard(
        standings=standings,
        figure=score_intervals(rows, chance=chance, key="leaderboard", baselines=len(baselines)) if rows else "",
        methods=methods(estimates),
        notes=caveats(standing.scores for standing in (*standings, *baselines)),
        same=all(evaluation.test.n == evaluation.test_clean.n for evaluation in evaluations),
        openings_of_data=max((evaluation.test_openings_of_data for evaluation in evaluations), default=0),
        baselines=baselines,
        meaning=MEANING,
        held=held_against_baselines(result),
        reason=result.champion_reason,
    )


def model_views(result: RunResult, thumbnails: Thumbnails) -> tuple[ModelView, ...]:
    """Collect one part per model, in the order of the leaderboard."""
    return tuple(
        _model_view(model, _standing(model, position, result.champion), result.manifest, thumbnails)
        for position, model in enumerate(ranked(result), start=1)
    )


def clean_confusion_figure(evaluation: Evaluation, *, key: str) -> str:
    """Draw the confusion matrix of the clean test images."""
    title = _title("Clean test images", evaluation.test_clean)
    return confusion_matrix(evaluation.classes, evaluation.test_clean.confusion, title=title, key=key)


def roc_figure(evaluation: Evaluation, predictions: Predictions, *, key: str) -> str:
    """Draw the ROC curves of the clean test images."""
    areas = {name: metrics["auc"] for name, metrics in evaluation.test_clean.per_class.items() if "auc" in metrics}
    return roc_curves(predictions, areas, title=_title("Clean test images", evaluation.test_clean), key=key)


def _validation_score(model: ModelResult) -> float | None:
    if model.evaluation is None:
        return None
    estimate = model.evaluation.validation.overall.get("balanced_accuracy")
    return None if estimate is None else estimate.value


def _overall(scores: Scores, name: str) -> Estimate:
    missing = Estimate(None, None, None, scores.n, scores.groups, "", "not computed in this run")
    return scores.overall.get(name, missing)


def _standing(model: ModelResult, position: int, champion: str) -> Standing:
    evaluation = model.evaluation
    shown = () if evaluation is None else tuple(show(name, _overall(getattr(evaluation, part), name)) for part, name in STANDINGS)
    return Standing(
        name=model.name,
        anchor=f"model-{position}",
        family=model.family,
        description=model.training.description if model.training else "",
        champion=model.name == champion,
        scores=shown,
        openings=evaluation.test_openings if evaluation else 0,
        failure=model.failure or ("" if evaluation else "It was not evaluated; no reason was recorded."),
    )


def _model_view(model: ModelResult, standing: Standing, manifest: Manifest, thumbnails: Thumbnails) -> ModelView:
    evaluation, training, key = model.evaluation, model.training, standing.anchor
    confusions: tuple[Confusion, ...] = ()
    if evaluation is not None:
        confusions = _confusions(evaluation, key)
    roc = ""
    if evaluation is not None and model.predictions is not None and can_draw_roc(model.predictions):
        roc = roc_figure(evaluation, model.predictions, key=f"{key}-roc")
    same = evaluation is None or evaluation.test.n == evaluation.test_clean.n
    half = at_half(evaluation) if evaluation else None
    return ModelView(
        standing=standing,
        facts=(*(_facts(training) if training else ()), *(decision_facts(evaluation) if evaluation else ())),
        settings=tuple((name, str(value)) for name, value in training.settings.items()) if training else (),
        curves=learning_curves(training, key=f"{key}-curves") if training and training.epochs else "",
        classes=evaluation.classes if evaluation else (),
        confusions=confusions,
        clean_table=_class_table(evaluation.test_clean, evaluation.classes) if evaluation else None,
        official_table=None if evaluation is None or same else _class_table(evaluation.test, evaluation.classes),
        overall_table=_overall_table(evaluation) if evaluation else None,
        half_table=_half_table(half) if half else None,
        half_errors=half.errors if half else "",
        roc=roc,
        cases=tuple(_case(explanation, model.predictions, manifest, thumbnails) for explanation in model.explanations),
        augmented=_augmented(model),
        grades=grade_view(model.grades),
        hunt=hunt_view(model.hunt),
    )


def _augmented(model: ModelResult) -> tuple[tuple[str, tuple[Picture, ...]], ...]:
    """Draw what the augmentation makes of some training images; nothing where the file is gone or damaged."""
    if model.augmented is None:
        return ()
    try:
        pictures, names = load_examples(model.augmented)
    except (OSError, ValueError):
        return ()
    return augmented_examples_figure(pictures, names)


def _computed_on(computed: Computation) -> str:
    shared = f", steps shared by {computed.processes} such devices" if computed.processes > 1 else ""
    return f"{computed.device}{shared}, {computed.precision} precision"


def _facts(training: Training) -> tuple[tuple[str, str], ...]:
    facts = [
        ("Training images", f"{training.images:,}"),
        ("Trained parameters", f"{training.parameters:,}"),
        ("Training time", duration(training.seconds)),
    ]
    if training.epochs:
        kept = f"epoch {training.best_epoch} of {len(training.epochs)}" if training.best_epoch else "none recorded"
        facts.append(("Weights kept", kept))
    if training.batch_size is not None:
        facts.append(("Images per step", _batch_size(training)))
    if training.computed.device:
        facts.append(("Computed on", _computed_on(training.computed)))
    if training.continues is not None:
        before = training.continues
        facts.append(("Goes on from", f"{before.model} of run {before.run}, after {counted(before.epochs, 'epoch', 'epochs')}"))
    facts.append(("Why training ended", training.stopped or "not recorded"))
    facts.append(("Electricity of training", electricity(training.energy)))
    return (*facts, *chosen_facts(training))


def _batch_size(training: Training) -> str:
    """Say how many images a step had, and that they were fewer than asked for where memory was too small."""
    chosen = training.settings.get("training")
    wished = chosen.get("batch_size") if isinstance(chosen, dict) else None
    if wished is None or training.batch_size == wished:
        return f"{training.batch_size:,}"
    return f"{training.batch_size:,} at the end: the {wished:,} asked for did not fit into memory"


def _title(what: str, scores: Scores) -> str:
    return f"{what}, n = {scores.n:,}"


def _confusions(evaluation: Evaluation, key: str) -> tuple[Confusion, ...]:
    """Clean first; the official one only where it differs."""
    clean, official = evaluation.test_clean, evaluation.test
    title = _title("Clean test images", clean)
    first = Confusion(title, clean_confusion_figure(evaluation, key=f"{key}-clean"), clean.confusion)
    if official.n == clean.n:
        return (first,)
    title = _title("All test images (official)", official)
    figure = confusion_matrix(evaluation.classes, official.confusion, title=title, key=f"{key}-official")
    return (first, Confusion(title, figure, official.confusion))


def _class_table(scores: Scores, classes: Iterable[str]) -> ScoreTable:
    """Turn per-class metrics to text: the known ones in their usual order."""
    names = [name for name in CLASS_METRICS if any(name in metrics for metrics in scores.per_class.values())]
    rows = tuple((label, tuple(show(name, scores.per_class.get(label, {}).get(name)) for name in names)) for label in classes)
    used = (metrics.get(name) for metrics in scores.per_class.values() for name in names)
    columns = tuple(metric(name).label for name in names)
    return ScoreTable(columns, rows, methods(used), caveats(numbers for _, numbers in rows))


def _half_table(half: AtHalf) -> ScoreTable:
    return ScoreTable(half.columns, half.rows, methods(half.estimates), caveats(numbers for _, numbers in half.rows))


def _overall_table(evaluation: Evaluation) -> ScoreTable:
    """Every metric of the whole set of images, on the three sets it was computed on."""
    sets = (evaluation.test_clean, evaluation.test, evaluation.validation)
    names = dict.fromkeys(name for scores in sets for name in scores.overall)
    rows = tuple((metric(name).label, tuple(show(name, scores.overall.get(name)) for scores in sets)) for name in names)
    used = (scores.overall.get(name) for scores in sets for name in names)
    columns = ("Clean test images", "All test images (official)", "Validation images")
    return ScoreTable(columns, rows, methods(used), caveats(numbers for _, numbers in rows))


def _case(explanation: Explanation, predictions: Predictions | None, manifest: Manifest, thumbnails: Thumbnails) -> Case:
    path = _relative_path(explanation.image, manifest)
    position = predictions.paths.index(path) if predictions is not None and path in predictions.paths else None
    truth = predicted = score = verdict = ""
    clean = True
    if predictions is not None and position is not None:
        chosen = int(predictions.predicted[position])
        truth, predicted = predictions.classes[int(predictions.truth[position])], predictions.classes[chosen]
        score = f"{predictions.probabilities[position, chosen]:.2f}"
        verdict = "right" if truth == predicted else "wrong"
        clean = bool(predictions.clean[position])
    return Case(
        path=path,
        verdict=verdict,
        truth=truth,
        predicted=predicted,
        predicted_score=score,
        clean=clean,
        explanation=explanation,
        score=f"{explanation.score:.2f}",
        details=_details(explanation),
        pictures=map_pictures(manifest.root / path, shown_values(explanation), thumbnails.grey(path), grey=is_grey(explanation)),
    )


def _details(explanation: Explanation) -> tuple[tuple[str, str], ...]:
    """Return what made a map, as a reader sees it: where, with what parameters, at what cost."""
    shown = [("layer", explanation.layer), *explanation.parameters.items(), ("explained", explanation.quantity)]
    passes = explanation.forward_passes + explanation.backward_passes
    shown.append(("model runs", f"{passes:g}" if passes else ""))
    return tuple((str(name).replace("_", " "), str(value)) for name, value in shown if value not in ("", None))


def _relative_path(image: str, manifest: Manifest) -> str:
    """Return the path as the manifest writes it; images may be explained under their full path."""
    root = manifest.root.as_posix().rstrip("/") + "/"
    return image.replace("\\", "/").removeprefix(root) if image.startswith(root) else image


def gallery_words(cases: tuple[Case, ...]) -> str:
    """Say how many right and wrong images a gallery holds."""
    right, wrong = (sum(case.verdict == verdict for case in cases) for verdict in ("right", "wrong"))
    return f"{counted(right, 'image', 'images')} predicted right, {wrong:,} predicted wrong"
