"""PLANNING: from a folder and a length of time to a study, with the reason for every choice.

Fingerprint (:func:`facts_of`) -> rules (:func:`outline`) -> timings (:func:`measure`) -> plan (:func:`decide`).
All but the timings are pure functions.
"""

from vitrail.planning.budget import DEFAULT_BUDGET, parse_budget, spoken
from vitrail.planning.decide import decide
from vitrail.planning.facts import Facts, Hardware, drawn_groups, facts_of
from vitrail.planning.measure import Measured, load_measured, measure
from vitrail.planning.plan import Choice, Cost, Plan, Timing
from vitrail.planning.rules import outline, validation_choice

__all__ = [
    "DEFAULT_BUDGET",
    "Choice",
    "Cost",
    "Facts",
    "Hardware",
    "Measured",
    "Plan",
    "Timing",
    "decide",
    "drawn_groups",
    "facts_of",
    "load_measured",
    "measure",
    "outline",
    "parse_budget",
    "spoken",
    "validation_choice",
]
