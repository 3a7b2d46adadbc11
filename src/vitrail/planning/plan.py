"""What a plan is: a study, why each choice in it was made, and what it is expected to cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from vitrail.planning.budget import spoken
from vitrail.planning.facts import Facts
from vitrail.study import Study, commented_yaml

Kind = Literal["fixed", "rule", "measured", "given"]
"""Where a choice comes from: always so; a rule and what it saw; a timing on this machine; the user."""


@dataclass(frozen=True)
class Timing:
    """What was measured of one model at its planned size, in seconds, rounded up to a grid; bytes are computed, not measured.

    Attributes:
        size: Side of the input in pixels at which it was measured.
        prepare: Per image: reading, decoding, resizing.
        embed: Per image: its first half (hand-made features, frozen backbone, forward pass of a network).
        start: Once: what fitting costs however few images there are.
        fit: Per training image: of what is fitted in one go all of it, of a network one epoch.
        maps: Whether explanations come from feature maps; else an image passes the model a few hundred times.
        memory: Bytes that do not depend on the number of images.
        memory_image: Bytes per training image (fitted in one go), or per image of a batch (network).
        once: Per training and validation image of a network, before its first epoch: what frozen layers give that are computed
            once; 0: none are.
        check: Per validation image of an epoch; ``None``: as ``embed``.
    """

    size: int
    prepare: float
    embed: float
    start: float
    fit: float
    maps: bool
    memory: int
    memory_image: int
    once: float = 0.0
    check: float | None = None


@dataclass(frozen=True)
class Choice:
    """One decision.

    Attributes:
        key: Dotted key of the setting, a model by its name; or a word where there is no such setting.
        value: What was chosen, as plain data.
        kind: Where the choice comes from.
        reason: The reason, the rule with what it saw, or the timing.
    """

    key: str
    value: Any
    kind: Kind
    reason: str


@dataclass(frozen=True)
class Cost:
    """What one part of the run is expected to take.

    Attributes:
        what: Name of a model, or ``audit``, ``planning``, ``report``.
        seconds: Expected wall-clock time on this machine; ``None``: not measured.
        memory: Expected bytes of main memory at the most; ``None``: not estimated.
        planned: Whether it is part of the plan.
        reason: Why it is, or is not.
    """

    what: str
    seconds: float | None
    memory: int | None
    planned: bool
    reason: str


@dataclass(frozen=True)
class Plan:
    """A planned study.

    Attributes:
        study: What to run.
        budget: Seconds given for all of it, audit and planning included.
        facts: What the rules saw.
        timings: What was measured, by model; the models that are not planned included.
        choices: Why the study is as it is.
        costs: What it is expected to take, part by part; the models that are left out last.
        remarks: What must be said aloud.
    """

    study: Study
    budget: float
    facts: Facts
    timings: dict[str, Timing]
    choices: tuple[Choice, ...]
    costs: tuple[Cost, ...]
    remarks: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Expected time of all that is planned, audit and planning included."""
        return sum(cost.seconds or 0.0 for cost in self.costs if cost.planned)

    def table(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield what is planned and what is not as words: part, time, memory, reason."""
        for cost in self.costs:
            seconds = "not measured" if cost.seconds is None else spoken(cost.seconds)
            memory = "" if cost.memory is None else f"{cost.memory / 2**30:.1f} GiB"
            yield cost.what if cost.planned else f"({cost.what})", seconds, memory, cost.reason

    def to_yaml(self) -> str:
        """Return the study as YAML in which every setting carries its sentence, and every choice of the plan its reason."""
        keys = {choice.key for choice in self.choices if _stands_in(self.study, choice.key)}
        reasons = {choice.key: f"Plan ({choice.kind}): {choice.reason}" for choice in self.choices if choice.key in keys}
        rows = [("part", "time", "memory", "why"), *self.table()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "A vitrail study, planned. Run it with: vitrail run study.yaml",
            f"Budget {spoken(self.budget)}; expected {spoken(self.seconds)} on this machine, audit and planning included.",
            "",
            "Plan (fixed): always so. Plan (rule): follows from the data set. Plan (measured): follows from a timing on this",
            "machine. Plan (given): you asked for it. A setting without such a line is as vitrail always has it.",
            "",
            *(
                "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]).rstrip()
                for row in rows
            ),
            "",
            *(
                f"{choice.key}: {choice.value}. {choice.kind}: {choice.reason}"
                for choice in self.choices
                if choice.key not in keys
            ),
            *self.remarks,
        ]
        return commented_yaml(self.study, head=tuple(lines), reasons=reasons)


def _stands_in(study: Study, key: str) -> bool:
    """Return whether a key is a setting of the study."""
    place: Any = study
    for part in key.split("."):
        if isinstance(place, tuple):
            place = next((model for model in place if model.name == part), None)
        elif hasattr(type(place), "model_fields") and part in type(place).model_fields:
            place = getattr(place, part)
        else:
            return False
    return place is not None or not key.startswith("models.")
