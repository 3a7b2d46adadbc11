"""Ensemble: the weighted mean of the scores of other models of the study (Caruana et al., ICML 2004). Nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vitrail.errors import Problem, StudyError
from vitrail.study import EnsembleSettings, ModelSettings
from vitrail.study_text import suggestion


def describe(settings: EnsembleSettings) -> str:
    """Return one line for tables."""
    return f"weighted mean of the scores of {', '.join(settings.members) if settings.members else 'all models'}"


def describe_weights(weights: Mapping[str, float]) -> str:
    """Return one line for tables with the members that count, heaviest first."""
    counting = sorted(((name, weight) for name, weight in weights.items() if weight > 0), key=lambda one: (-one[1], one[0]))
    return f"weighted mean of the scores of {', '.join(f'{name} ({weight:.0%})' for name, weight in counting)}"


def members_of(settings: EnsembleSettings, models: Sequence[ModelSettings]) -> tuple[str, ...]:
    """Return the names of the members, sorted.

    Args:
        settings: The ensemble.
        models: All models of the study.

    Raises:
        StudyError: A member is unknown, is an ensemble, is named twice, or there are fewer than two.
    """
    known = [model.name for model in models if not isinstance(model, EnsembleSettings)]
    wished = known if settings.members is None else list(settings.members)
    key, listed = f"models.{settings.name}.members", ", ".join(known) or "none"
    ensembles = [model.name for model in models if isinstance(model, EnsembleSettings)]
    problems = []
    for name in dict.fromkeys(wished):
        if name in ensembles:
            message = f"must name trained models, not ensembles. Models of this study: {listed}."
            problems.append(Problem(key, message, repr(name)))
        elif name not in known:
            message = f"unknown model. {suggestion(name, known)}Models of this study: {listed}."
            problems.append(Problem(key, message, repr(name)))
        elif wished.count(name) > 1:
            problems.append(Problem(key, "must name every model once: weights are found, not given.", f"{name!r} twice"))
    if not problems and len(wished) < 2:
        message = "must be at least two models: the mean of one is that model. Add a model to the study, or drop the ensemble."
        problems.append(Problem(key, message, ", ".join(wished) or "none"))
    if problems:
        raise StudyError("study", tuple(problems))
    return tuple(sorted(wished))
