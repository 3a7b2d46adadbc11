"""Which settings a search may try: the study's ``search.space``, model by model."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

from vitrail.errors import Problem, StudyError
from vitrail.preprocess import missing_for
from vitrail.settings import RangeSettings, SearchSettings
from vitrail.study import ModelSettings, Study, changed

Space = Mapping[str, tuple[Any, ...] | RangeSettings]
"""Dotted key of a setting below its model (``training.learning_rate``) -> what it may be."""


def check_space(study: Study) -> dict[str, Space]:
    """Return the space of every model that has one, in the order of the models.

    Every value of every list, and both ends of every range, is put into the study alone, so that a wrong one is told before hours
    of work.

    Raises:
        StudyError: There is nothing to search, a key is no setting of a model, a value is wrong (all are listed), or a grid has
            a range in it.
    """
    search, spaces, problems = study.search, {model.name: dict[str, Any]() for model in study.models}, list[Problem]()
    ensembles = {model.name for model in study.models if model.model == "ensemble"}
    if not search.space:
        example = "search: {space: {models.forest.trees: [100, 300]}}"
        raise StudyError("study", (Problem("search.space", f"must name what to try, for example {example}.", "nothing"),))
    for key, choice in search.space.items():
        room, name, setting = (*key.split(".", 2), "", "")[:3]
        if room != "models" or name not in spaces or not setting:
            known = ", ".join(f"models.{name}" for name in spaces)
            message = f"must begin with a model of the study and name one of its settings. Models: {known}."
            problems.append(Problem(f"search.space.{key}", message, repr(key)))
            continue
        if name in ensembles:
            message = "must name a model that is trained: an ensemble has nothing to search, its weights are found in a run."
            problems.append(Problem(f"search.space.{key}", message, repr(key)))
            continue
        spaces[name][setting] = choice
        problems += _wrong_values(study, key, choice, method=search.method)
    if problems:
        raise StudyError("study", tuple(problems))
    return {name: space for name, space in spaces.items() if space}


def _wrong_values(study: Study, key: str, choice: tuple[Any, ...] | RangeSettings, *, method: str) -> list[Problem]:
    if isinstance(choice, RangeSettings):
        if method == "grid":
            message = "must be a list for a grid, which tries every value; ranges are for search.method random or tpe."
            return [Problem(f"search.space.{key}", message, f"{choice.low:g} to {choice.high:g}")]
        values: tuple[Any, ...] = (whole(choice, choice.low), whole(choice, choice.high))
    else:
        values = choice
    problems = []
    for value in values:
        try:
            changed(study, {key: value})
        except StudyError as error:
            problems += [Problem(f"search.space.{key}", problem.message, problem.value) for problem in error.problems]
        if key.endswith(".preprocess.bias_correction") and (missing := missing_for(value)):
            problems.append(Problem(f"search.space.{key}", f"{missing}, or leave it out.", repr(value)))
    return problems


def whole(choice: RangeSettings, value: float) -> float | int:
    """Return a number of a range, as an integer where the range has only these."""
    return int(value) if choice.integer else value


def grid_of(space: Space) -> list[dict[str, Any]]:
    """Return every combination of the lists of a space, the last key changing fastest."""
    lists = [choice for choice in space.values() if not isinstance(choice, RangeSettings)]
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*lists)]


def has_continuous(space: Space) -> bool:
    """Return whether a value of a space comes from a continuous range: two searches never draw the same one."""
    return any(isinstance(choice, RangeSettings) and not choice.integer for choice in space.values())


def place_of(parameters: Mapping[str, Any], space: Space) -> tuple[float, ...]:
    """Return where a candidate stands in a space, to be compared with others: for a list the position, for a range the value.

    Candidates of a grid compare as they are ordered by :func:`grid_of`.
    """
    return tuple(
        parameters[key]
        if isinstance(choice, RangeSettings)
        else [json.dumps(value) for value in choice].index(json.dumps(parameters[key]))
        for key, choice in space.items()
    )


def trials_of(search: SearchSettings, space: Space) -> int:
    """Return how many trials a search of one model has: all combinations of a grid, else what the settings say."""
    if search.method == "grid":
        return math.prod(len(choice) for choice in space.values() if not isinstance(choice, RangeSettings))
    return search.trials


def candidate(study: Study, model: str, parameters: Mapping[str, Any]) -> tuple[Study, ModelSettings]:
    """Return the study and the model with some settings put in.

    Args:
        study: Where to start.
        model: Name of the model.
        parameters: Dotted key below the model -> value.

    Raises:
        StudyError: The values do not go together.
    """
    new = changed(study, {f"models.{model}.{key}": value for key, value in parameters.items()})
    return new, next(settings for settings in new.models if settings.name == model)
