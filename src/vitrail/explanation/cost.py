"""What methods of explanation will cost, in passes through the model, before they run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vitrail.explanation.explainer import ExplainableModel, SharesAnswers
from vitrail.explanation.run_explain import ALL, choose_methods, defined_methods


@dataclass(frozen=True)
class PlannedMethod:
    """What a method will cost, known before it runs.

    Attributes:
        method: Its name.
        forward: Images that pass through the model, per image explained, where it is asked alone.
        backward: The same, backwards.
        shared: Whether one pass forth and one back serve all such methods together.
        refusal: Why it is not defined for the model; empty: it is.
        own_way_back: Whether it shares the pass forth alone.
        answers: What it asks the model about, where methods that ask about the same ask once; empty: it shares no answers.
    """

    method: str
    forward: float
    backward: float
    shared: bool
    refusal: str = ""
    own_way_back: bool = False
    answers: tuple[str | int, ...] = ()


@dataclass(frozen=True)
class ExplanationPlan:
    """What explaining one image will cost, known before it begins.

    Attributes:
        methods: Those that will be asked; with ``all``, also those that are not defined for the model.
        grading_passes: Images that pass through the model to grade the maps, at most; 0: they are not graded.
    """

    methods: tuple[PlannedMethod, ...]
    grading_passes: int = 0

    @property
    def passes(self) -> tuple[float, float]:
        """Forward and backward passes per image of everything together."""
        forward, backward = total_cost(self.methods)
        return forward + self.grading_passes, backward

    def seconds(self, per_pass: float) -> float:
        """Return about how long one image takes, where one forward pass takes ``per_pass`` seconds."""
        return pass_units(*self.passes) * per_pass


def pass_units(forward: float, backward: float) -> float:
    """Return what passes cost in forward passes: a backward pass counts as two."""
    return forward + 2 * backward


def plan_methods(model: ExplainableModel, methods: Sequence[str] = (ALL,)) -> tuple[PlannedMethod, ...]:
    """Return what methods will cost for a model; with ``all``, also which are not defined for it, and why.

    Raises:
        UsageError: A method is unknown, or one asked for by name is not defined for the model.
    """
    planned = []
    for name, explainer in choose_methods(model, methods).items():
        cost = explainer.cost(model)
        guided = "guided gradient" in explainer.wants
        answers = explainer.answers if isinstance(explainer, SharesAnswers) else ()
        planned.append(
            PlannedMethod(name, cost.forward, cost.backward, bool(explainer.wants), own_way_back=guided, answers=answers)
        )
    refused = defined_methods(model).items() if ALL in methods else ()
    return (*planned, *(PlannedMethod(name, 0.0, 0.0, False, why) for name, why in refused if why))


def total_cost(planned: Sequence[PlannedMethod]) -> tuple[float, float]:
    """Return the forward and backward passes per image of all planned methods together, what they share counted once."""
    defined = [one for one in planned if not one.refusal]
    forth = [one.forward for one in defined if one.shared]
    back = [one.backward for one in defined if one.shared and not one.own_way_back]
    asked: dict[tuple[str | int, ...], float] = {}
    for one in defined:
        if not one.shared:
            alike = one.answers or ("alone", one.method)
            asked[alike] = max(asked.get(alike, 0.0), one.forward)
    forward = max(forth, default=0.0) + sum(asked.values())
    return forward, max(back, default=0.0) + sum(one.backward for one in defined if not one.shared or one.own_way_back)
