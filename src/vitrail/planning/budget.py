"""Lengths of time: what a person writes (``20m``), what a person reads, and the grid that measured times are rounded to."""

from __future__ import annotations

import math
import re

from vitrail.errors import UsageError

DEFAULT_BUDGET = 20 * 60.0
"""Seconds of a planned run where nobody says."""
STEPS_PER_DECADE = 10
"""Measured times are rounded up to a grid of so many values per factor of ten: 1, 1.26, 1.58, 2, 2.51..."""
UNMOVED = 1.5
"""A new measurement that differs from a kept one by less than this factor is noise: the kept one stands."""

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0}
_LENGTH = re.compile(r"(?:(?P<h>\d+(?:\.\d+)?)h)?(?:(?P<m>\d+(?:\.\d+)?)m(?:in)?)?(?:(?P<s>\d+(?:\.\d+)?)s)?")


def parse_budget(text: str, *, key: str = "--budget") -> float:
    """Return a length of time in seconds.

    Args:
        text: Hours, minutes, seconds, largest first: ``20m``, ``90s``, ``1.5h``, ``1h30m``.
        key: What it was given as, for the message.

    Raises:
        UsageError: It is none, or not above 0.
    """
    found = _LENGTH.fullmatch(text.strip().lower())
    given = {unit: float(number) for unit, number in found.groupdict().items() if number} if found else {}
    seconds = sum(number * _UNITS[unit] for unit, number in given.items())
    if not seconds:
        raise UsageError(
            f"{key}: must be a length of time above 0 with its unit, for example 90s, 20m or 1h30m. Found: {text!r}."
        )
    return seconds


def spoken(seconds: float) -> str:
    """Return a length of time for tables: ``0.4 s``, ``12 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def on_grid(seconds: float) -> float:
    """Return a measured time rounded up to the grid: small noise gives the same number, and estimates err on the safe side."""
    if seconds <= 0:
        return 0.0
    step = math.ceil(STEPS_PER_DECADE * math.log10(seconds) - 1e-6)  # a value of the grid stays where it is
    return float(10.0 ** (step / STEPS_PER_DECADE))


def settled(new: float, kept: float) -> float:
    """Return the kept value of a measurement unless the new one is clearly another: no decision hangs on noise."""
    return kept if kept / UNMOVED <= new <= kept * UNMOVED else new
