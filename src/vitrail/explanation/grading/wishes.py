"""What a study wishes of explanations, checked before any work."""

from __future__ import annotations

from vitrail.errors import Problem, StudyError
from vitrail.explanation.run_explain import EXPLAINERS
from vitrail.study import ExplanationSettings


def check_explanation(settings: ExplanationSettings) -> None:
    """Find out whether every method that the study names is one, and whether there are masks where it says.

    Raises:
        StudyError: With every one that is not.
    """
    named = () if settings.methods == "auto" else settings.methods
    problems = [
        Problem(f"explanation.methods[{position}]", f"no method has this name. Known: {', '.join(EXPLAINERS)}.", repr(name))
        for position, name in enumerate(named)
        if name not in EXPLAINERS
    ]
    if settings.masks is not None and not settings.masks.is_dir():
        problems.append(Problem("explanation.masks", "must be a folder that exists, or null.", str(settings.masks)))
    if problems:
        raise StudyError("study", tuple(problems))
