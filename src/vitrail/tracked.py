"""What MLflow shall show of a study, as plain records; :mod:`vitrail.tracking` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vitrail.records import Energy, ModelResult, RunResult, Scores
from vitrail.storage import fingerprint


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value of a metric that has a history.

    Attributes:
        name: Name of the metric, for example ``validation_loss``.
        step: The epoch, from 1.
        value: Its value; left out when not finite.
    """

    name: str
    step: int
    value: float


@dataclass(frozen=True)
class TrackedModel:
    """One model of a study, as MLflow shall show it.

    Attributes:
        name: Name of the nested run.
        tags: Free texts.
        params: Settings, flat.
        metrics: Final metrics, for example those of :func:`score_metrics`.
        history: Metrics per epoch.
        figures: File name -> SVG text; written below ``figures/``.
        package: Folder of the model package; written below ``model/``.
        failure: Why there is no such model; else empty. The nested run is then marked as failed.
    """

    name: str
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[Measurement, ...] = ()
    figures: Mapping[str, str] = field(default_factory=dict)
    package: Path | None = None
    failure: str = ""


@dataclass(frozen=True)
class TrackedRun:
    """One study, as MLflow shall show it.

    Attributes:
        key: Says which run this is; a finished parent run with the same key is left as it is.
        name: Name of the parent run.
        experiment: Name of the MLflow experiment.
        models: One nested run each; baselines come last and carry the tag ``family: baseline``.
        tags: Free texts.
        params: Settings of the whole study.
        metrics: Numbers of the whole study.
        figures: File name -> SVG text; written below ``figures/``.
        files: Report, settings and the like. No lists of images: a tracking server may be read by more people than the data.
    """

    key: str
    name: str
    experiment: str
    models: tuple[TrackedModel, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()


def describe_run(
    result: RunResult,
    *,
    experiment: str | None = None,
    figures: Mapping[str, str] | None = None,
    model_figures: Mapping[str, Mapping[str, str]] | None = None,
    files: tuple[Path, ...] = (),
) -> TrackedRun:
    """Return what MLflow shall show of a finished run.

    Args:
        result: The run.
        experiment: Name of the experiment; ``None``: the study's name.
        figures: Figures of the study, file name -> SVG text.
        model_figures: Figures of each model: model name -> file name -> SVG text.
        files: Report and settings, to be kept beside the numbers.
    """
    made = result.provenance
    trained = [model.name for model in result.trained()]
    champion = next((model.evaluation for model in result.trained() if model.name == result.champion), None)
    severities = [finding.severity for finding in result.audit.findings]
    return TrackedRun(
        key=f"{result.folder.name}-{fingerprint(made.study_fingerprint, made.data_fingerprint, trained)}",
        name=result.folder.name,
        experiment=experiment or result.name,
        models=(
            *(describe_model(model, figures=(model_figures or {}).get(model.name, {})) for model in result.models),
            *(describe_model(baseline, figures={}) for baseline in result.baselines),
        ),
        tags={
            "champion": result.champion,
            "vitrail.version": made.vitrail,
            "data": made.data_fingerprint,
            "started": made.started,
            "energy": result.energy.method or result.energy.note,
        },
        params={"seed": str(made.seed), "study": made.study_fingerprint, "split": result.split.origin},
        metrics={
            "images": len(result.manifest),
            "audit.errors": severities.count("error"),
            "audit.warnings": severities.count("warning"),
            **(score_metrics(champion.test_clean, prefix="test_clean") if champion else {}),
            **energy_metrics(result.energy, prefix="energy"),
        },
        figures=figures or {},
        files=files,
    )


def describe_model(result: ModelResult, *, figures: Mapping[str, str]) -> TrackedModel:
    """Return what MLflow shall show of one model of a run."""
    training, evaluation = result.training, result.evaluation
    metrics: dict[str, float] = {}
    if evaluation is not None:
        for prefix in ("validation", "test", "test_clean"):
            metrics |= score_metrics(getattr(evaluation, prefix), prefix=prefix)
        metrics["test_openings"] = evaluation.test_openings
    tags = {"family": result.family}
    if evaluation is not None and evaluation.decision is not None and evaluation.decision.threshold is not None:
        metrics["threshold"] = evaluation.decision.threshold
        tags["decision"] = evaluation.decision.words
    if training is not None:
        metrics |= {"training.seconds": training.seconds, "training.best_epoch": training.best_epoch}
        metrics |= {"training.images": training.images, "training.parameters": training.parameters}
        metrics |= {"training.batch_size": training.batch_size} if training.batch_size is not None else {}
        metrics |= energy_metrics(training.energy, prefix="training.energy")
        tags |= {"mlflow.note.content": training.description, "stopped": training.stopped}
        if training.computed.device:
            tags |= {name: str(value) for name, value in vars(training.computed).items()}
        tags |= {"energy": training.energy.method or training.energy.note}
    names = ("training_loss", "validation_loss", "validation_balanced_accuracy", "learning_rate", "seconds")
    return TrackedModel(
        name=result.name,
        tags=tags,
        params=_flat(training.settings) if training else {},
        metrics=metrics,
        history=tuple(
            Measurement(f"epoch.{name}", epoch.number, getattr(epoch, name))
            for epoch in (training.epochs if training else ())
            for name in names
        ),
        figures=figures,
        package=result.package,
        failure=result.failure,
    )


def score_metrics(scores: Scores, *, prefix: str) -> dict[str, float]:
    """Return every estimate as ``prefix.metric`` with ``.low`` and ``.high``; what is not estimable is left out.

    Metrics per class are called ``prefix.metric.class``.
    """
    estimates = {f"{prefix}.{metric}": estimate for metric, estimate in scores.overall.items()}
    for name, of_class in scores.per_class.items():
        estimates |= {f"{prefix}.{metric}.{name}": estimate for metric, estimate in of_class.items()}
    metrics: dict[str, float] = {f"{prefix}.n": scores.n, f"{prefix}.groups": scores.groups}
    for name, estimate in estimates.items():
        ends = {name: estimate.value, f"{name}.low": estimate.low, f"{name}.high": estimate.high}
        metrics |= {end: value for end, value in ends.items() if value is not None}
    return metrics


def energy_metrics(energy: Energy, *, prefix: str) -> dict[str, float]:
    """Return ``prefix.kwh``, ``prefix.co2_kg`` and ``prefix.seconds``; what was not measured is left out."""
    values = {"kwh": energy.kwh, "co2_kg": energy.co2_kg, "seconds": energy.seconds if energy.kwh is not None else None}
    return {f"{prefix}.{name}": value for name, value in values.items() if value is not None}


def _flat(settings: Mapping[str, object], *, above: str = "") -> dict[str, str]:
    """Return nested settings as ``outer.inner`` -> text."""
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, above=f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat
