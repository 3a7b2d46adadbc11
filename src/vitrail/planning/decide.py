"""From the outline and the timings to the plan: who fits into the budget, for how many epochs, and who is left out.

A pure function: the same facts, timings and budget give the same plan.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

from vitrail.planning.budget import spoken
from vitrail.planning.facts import Facts
from vitrail.planning.measure import Measured
from vitrail.planning.plan import Choice, Cost, Plan, Timing
from vitrail.planning.rules import NEEDS, Outline, wanted_epochs
from vitrail.study import FAMILIES, Study, changed

RESERVE = 0.15
"""Share of the budget that is planned for nothing: timings of seconds do not tell minutes exactly."""
EPOCHS = (3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
"""Numbers of epochs that a plan may choose: far enough apart that small changes of a timing change nothing."""
SMALLER_SIZES = (160, 128, 96, 64)
"""Sides in pixels that a network falls back to where its own size is too slow; the time goes with the number of pixels."""
OCCLUSIONS = 225
"""Times that an image passes a model without feature maps to be explained."""
GRADING_SHARE = 0.03
"""Share of the budget that the grading of one model's explanations may take, where the study does not give it less."""
GRADING_PASSES = 500
"""Times that an image passes a model, about, for its methods of explanation to be graded on it."""
MAP_PASSES = 200
"""Times that an image of the gallery passes a model for its map to be held against random ones."""
HUNT_PASSES, HUNT_MAPS = 9, 49
"""Times that an image passes a model, about, for shortcuts to be hunted on it; and how much more where there are no maps."""
OF_ANY_RUN, OF_ANY_MODEL = 8.0, 2.0
"""Seconds of report and tracking, and of packing, evaluating and drawing one model, on an ordinary server."""
PROGRAMME = 700 * 2**20
"""Bytes of the programme and its libraries."""
MEMORY_SHARE = 0.7
"""Share of the main memory that a model may take."""
ENSEMBLE = "ensemble"
"""Family, and name, of the model that puts the planned ones together."""
SLACK = 1.5
"""The epochs of a network may take so many times the expected time, as far as the budget has it, before they are ended."""


class _Fitting(NamedTuple):
    """How a model fits into what is left."""

    seconds: float
    epochs: int
    size: int
    memory: int


def decide(outline: Outline, facts: Facts, measured: Measured, *, budget: float) -> Plan:
    """Make the plan.

    Families get their time in the order of ``NEEDS``. The first, which is cheap, is planned whatever the budget is.

    Args:
        outline: What the rules say.
        facts: The fingerprint.
        measured: What was measured.
        budget: Seconds for all.
    """
    study, choices = outline.study, list(outline.choices)
    minutes = round(max(0.01, GRADING_SHARE * budget / 60), 2)
    if minutes < study.explanation.grade_minutes and _grades(study):
        study = changed(study, {"explanation.grade_minutes": minutes})
        told = f"{GRADING_SHARE:.0%} of the budget for each model; fewer images or methods are graded where that is too short"
        choices.append(Choice("explanation.grade_minutes", minutes, "rule", told))
    after = OF_ANY_RUN * measured.pace
    costs = [
        Cost("audit", measured.audit, None, True, "reading and auditing the images (measured; what is kept is not done again)"),
        Cost("planning", measured.planning, None, True, "the timings of this plan, loading libraries included (measured)"),
    ]
    left = budget * (1 - RESERVE) - measured.audit - measured.planning - after
    planned: list[str] = []
    passes: list[float] = []
    left_out: list[Cost] = []
    for family in NEEDS:
        timing = None if family in outline.left_out else measured.timings.get(family)
        if timing is None:
            reason = outline.left_out.get(family) or measured.failures.get(family) or "too little time is left to measure it"
            left_out.append(Cost(family, None, None, False, reason))
            continue
        fitting, reason = _fit(family, study, facts, timing, left, pace=measured.pace)
        if fitting is None:
            left_out.append(Cost(family, _needed(family, study, facts, timing, measured.pace), None, False, reason))
            continue
        left -= fitting.seconds
        planned.append(family)
        passes.append(timing.embed * _shrunk(timing, fitting.size))
        costs.append(Cost(family, fitting.seconds, fitting.memory, True, reason))
        choices += _choices(family, study, facts, fitting, timing, reason)
    remarks: list[str] = []
    if not planned:
        planned, told = [_cheapest(study, facts, measured)], f"The budget of {spoken(budget)} is too small for anything"
        cost = next(cost for cost in left_out if cost.what == planned[0])
        left_out.remove(cost)
        costs.append(dataclasses.replace(cost, planned=True, reason="over the budget: the cheapest, and the only one planned"))
        remarks.append(f"{told}: only the cheapest model ({planned[0]}) is planned, and it takes longer.")
    if len(planned) > 1:
        reason = "the mean of what the others say, with weights only where the validation images say so; it costs no training"
        seconds = _together(sum(passes), study, facts, pace=measured.pace)
        if seconds <= left:
            planned.append(ENSEMBLE)
            costs.append(Cost(ENSEMBLE, seconds, None, True, reason))
            choices.append(Choice(f"models.{ENSEMBLE}", ENSEMBLE, "fixed", reason))
        else:
            left_out.append(Cost(ENSEMBLE, seconds, None, False, f"it takes about {spoken(seconds)}; too little is left"))
    costs.append(Cost("report", after, None, True, "report and tracking, by the pace of this machine"))
    choices = [choice for choice in choices if not choice.key.startswith("models.") or choice.key.split(".")[1] in planned]
    plan = Plan(_study_of(study, planned, choices), budget, facts, measured.timings, (), (*costs, *left_out), tuple(remarks))
    # Where a timing has overruled a rule, the last word and its reason are what is told.
    choices = list({choice.key: choice for choice in (*choices, *_limits(plan, planned))}.values())
    return dataclasses.replace(plan, study=_study_of(study, planned, choices), choices=tuple(choices))


def epoch_seconds(facts: Facts, timing: Timing, *, size: int) -> float:
    """Return the seconds of one epoch of a network: training images forth and back, validation images forth."""
    check = timing.embed if timing.check is None else timing.check
    return _shrunk(timing, size) * (facts.training_images * timing.fit + facts.validation * check)


def epochs_seconds(facts: Facts, timing: Timing, epochs: int, *, size: int) -> float:
    """Return the seconds of some epochs of a network, with what is computed once in the first of them."""
    once = (facts.training_images + facts.validation) * timing.once * _shrunk(timing, size)
    return once + epochs * epoch_seconds(facts, timing, size=size)


def other_seconds(family: str, study: Study, facts: Facts, timing: Timing, *, size: int, pace: float) -> float:
    """Return the seconds of one model without its epochs: features, fit in one go, evaluation, maps."""
    images = facts.training_images + facts.validation + facts.test
    cases = 2 * study.explanation.gallery
    passes = cases * (1 if timing.maps else OCCLUSIONS)
    if FAMILIES[family].training_defaults.epochs is None or family == "probe":
        work = images * (timing.prepare + timing.embed) + timing.start + timing.fit * facts.training_images
    else:  # pixels are decoded once for training, and once more where the packed model is evaluated
        work = (images + facts.validation) * timing.prepare + (facts.validation + facts.test) * timing.embed * _shrunk(
            timing, size
        )
    passes_seconds = timing.embed * _shrunk(timing, size)
    explained = _grading_seconds(study, facts, passes_seconds) + _hunting_seconds(study, facts, passes_seconds, maps=timing.maps)
    return work + passes * passes_seconds + explained + OF_ANY_MODEL * pace


def _grades(study: Study) -> bool:
    """Whether methods of explanation are graded."""
    return study.explanation.gallery > 0 and study.explanation.grade_images > 0


def _grading_seconds(study: Study, facts: Facts, pass_seconds: float) -> float:
    """Return the seconds of grading the explanations of one model, and the maps of the gallery."""
    if not _grades(study):
        return 0.0
    images = min(study.explanation.grade_images, facts.validation)
    gallery = 2 * study.explanation.gallery * MAP_PASSES * pass_seconds
    return gallery + min(60 * study.explanation.grade_minutes, images * GRADING_PASSES * pass_seconds)


def _hunting_seconds(study: Study, facts: Facts, pass_seconds: float, *, maps: bool) -> float:
    """Return the seconds of the hunt for shortcuts of one model."""
    wished = study.explanation
    if not wished.shortcut_hunt or not wished.gallery:
        return 0.0
    passes = HUNT_PASSES + (0 if maps else HUNT_MAPS)
    return min(wished.hunt_images, facts.validation) * passes * pass_seconds


def memory_of(family: str, study: Study, facts: Facts, timing: Timing, *, size: int) -> int:
    """Return the bytes of main memory that training a model takes at the most, libraries included: an estimate."""
    settings = next(model for model in study.models if model.name == family)
    count = facts.training_images if not NEEDS[family].epochs else (study.training_for(settings).batch_size or 16)
    return round(PROGRAMME + timing.memory + count * timing.memory_image * _shrunk(timing, size))


def _shrunk(timing: Timing, size: int) -> float:
    return (size / timing.size) ** 2


def _fit(family: str, study: Study, facts: Facts, timing: Timing, left: float, *, pace: float) -> tuple[_Fitting | None, str]:
    """Return how a model fits into what is left, or ``None`` and why it does not."""
    need, memory = NEEDS[family], memory_of(family, study, facts, timing, size=timing.size)
    if facts.hardware.memory and memory > MEMORY_SHARE * facts.hardware.memory:
        return None, f"it needs about {memory / 2**30:.1f} GiB of memory; there are {facts.hardware.memory / 2**30:.1f}"
    if not need.epochs:
        seconds = other_seconds(family, study, facts, timing, size=timing.size, pace=pace)
        if seconds <= left:
            return _Fitting(seconds, 0, timing.size, memory), need.why
        return None, f"it takes about {spoken(seconds)}; {spoken(max(0.0, left))} are left"
    wanted, fewest = _wanted(family, study, facts), _fewest(family, study, facts)
    for size in _sizes(study, timing):
        epoch = epoch_seconds(facts, timing, size=size)
        other = other_seconds(family, study, facts, timing, size=size, pace=pace)
        numbers = (number for number in {*EPOCHS, wanted} if fewest <= number <= wanted)
        taken = {number: epochs_seconds(facts, timing, number, size=size) for number in numbers}
        epochs = max((number for number, seconds in taken.items() if other + seconds <= left), default=0)
        if epochs:
            used = memory_of(family, study, facts, timing, size=size)
            told = f"{epochs} epochs of {spoken(epoch)} at {size} px"
            return _Fitting(other + taken[epochs], epochs, size, used), told
    needed = _needed(family, study, facts, timing, pace)
    return None, f"{fewest} epochs, the fewest worth a start, take about {spoken(needed)}; {spoken(max(0.0, left))} are left"


def _sizes(study: Study, timing: Timing) -> tuple[int, ...]:
    """Return the sides that a network may have, the measured one first; none is less than half of it, or what it sees is lost."""
    if study.preprocess.size is not None:
        return (timing.size,)
    return timing.size, *(size for size in SMALLER_SIZES if timing.size / 2 <= size < timing.size)


def _wanted(family: str, study: Study, facts: Facts) -> int:
    """Return the epochs of a full training, as a number that a plan may choose; or those that the user asked for."""
    if study.training.epochs is not None:
        return study.training.epochs
    full = wanted_epochs(family, study, facts)
    return next((number for number in EPOCHS if number >= full), EPOCHS[-1])


def _fewest(family: str, study: Study, facts: Facts) -> int:
    """Return the epochs below which a network is not worth a start; what the user asked for is never cut."""
    wanted = _wanted(family, study, facts)
    return wanted if study.training.epochs is not None else min(NEEDS[family].epochs, wanted)


def _needed(family: str, study: Study, facts: Facts, timing: Timing, pace: float) -> float:
    """Return the seconds of the smallest form of a model that is worth a start."""
    need = NEEDS[family]
    size = _sizes(study, timing)[-1] if need.epochs else timing.size
    epochs = _fewest(family, study, facts) if need.epochs else 0
    epochs_take = epochs_seconds(facts, timing, epochs, size=size) if epochs else 0.0
    return other_seconds(family, study, facts, timing, size=size, pace=pace) + epochs_take


def _together(pass_seconds: float, study: Study, facts: Facts, *, pace: float) -> float:
    """Return the seconds of an ensemble of which one image passes all members in so many: its members' scores are computed anew,
    and its maps are made, graded and hunted with by occlusion, which asks all members.
    """
    cases = 2 * study.explanation.gallery * OCCLUSIONS
    explained = _grading_seconds(study, facts, pass_seconds) + _hunting_seconds(study, facts, pass_seconds, maps=False)
    return OF_ANY_MODEL * pace + cases * pass_seconds + explained


def _cheapest(study: Study, facts: Facts, measured: Measured) -> str:
    """Return the model that takes the least time of those that are fitted in one go."""
    allowed = {model.name for model in study.models if not NEEDS[model.name].epochs}
    timings = {name: timing for name, timing in measured.timings.items() if name in allowed}
    return min(timings, key=lambda name: _needed(name, study, facts, timings[name], measured.pace))


def _choices(family: str, study: Study, facts: Facts, fitting: _Fitting, timing: Timing, reason: str) -> list[Choice]:
    """Return what was decided by timings for one network."""
    if not fitting.epochs:
        return []
    key, own = f"models.{family}", FAMILIES[family].training_defaults
    choices = []
    if study.training.epochs is None:
        full = _wanted(family, study, facts)
        steps = f"a full training has {full} epochs (the family's {own.epochs}, more where images are few)"
        choices.append(Choice(f"{key}.training.epochs", fitting.epochs, "measured", f"{steps}; {reason} fit into the budget"))
    if study.training.patience is None:
        patience = max(own.patience or 1, fitting.epochs // 4)
        choices.append(
            Choice(f"{key}.training.patience", patience, "rule", f"the family's {own.patience}, or a quarter of the epochs")
        )
    if fitting.size != timing.size:
        told = f"{timing.size} px would be too slow for the budget; the time is taken to go with the number of pixels"
        choices.append(Choice(f"{key}.preprocess.size", fitting.size, "measured", told))
    return choices


def _limits(plan: Plan, planned: list[str]) -> list[Choice]:
    """Return the longest time of each network: what is expected, and its share of what the budget has left."""
    if plan.study.training.minutes is not None:
        return []
    epochs: dict[str, float] = {}
    for name in planned:
        if name in NEEDS and NEEDS[name].epochs:
            settings = next(model for model in plan.study.models if model.name == name)
            size = plan.study.preprocess_for(settings).size or plan.timings[name].size
            number = plan.study.training_for(settings).epochs or 1
            epochs[name] = epochs_seconds(plan.facts, plan.timings[name], number, size=size)
    over = max(0.0, plan.budget - plan.seconds)
    factor = min(SLACK, 1 + over / sum(epochs.values())) if epochs else 1.0
    return [
        Choice(
            f"models.{name}.training.minutes",
            max(0.01, math.floor(100 * factor * seconds / 60) / 100),
            "measured",
            f"its epochs are expected to take {spoken(seconds)}, and are ended after {spoken(factor * seconds)} so that the "
            "budget is kept; then they are not the same on another machine",
        )
        for name, seconds in epochs.items()
    ]


def _study_of(study: Study, planned: list[str], choices: list[Choice]) -> Study:
    """Return the study of the planned models with every choice put in."""
    models: list[Any] = [model.model_dump(mode="json") for model in study.models if model.name in planned]
    models += [ENSEMBLE] if ENSEMBLE in planned else []
    keys = {choice.key: choice.value for choice in choices if choice.key.count(".") > 1 and choice.key.startswith("models.")}
    return changed(study, {"models": models, **keys})
