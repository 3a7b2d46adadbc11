"""The result of a shortcut hunt in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from vitrail.explanation.hunting.changes import NO_ANATOMY, OUTLINE, Survival
from vitrail.explanation.hunting.places import Verdict
from vitrail.records import Estimate, Intervention, RegionShare

_PLACES = {"text": "on letters in the images", "border": "at the border", "outside the anatomy": "outside the anatomy"}


def verdict_of(points: Verdict, survives: Verdict) -> Literal["found", "not found", "not estimable"]:
    """Return the verdict: a shortcut is found where both tests say yes; one that says no is enough for "not found"."""
    if points == "yes" and survives == "yes":
        return "found"
    return "not found" if "no" in (points, survives) and survives != "not estimable" else "not estimable"


def message_of(survival: Survival, regions: Sequence[RegionShare], points: Verdict, *, smallest: float | None) -> str:
    """Say what was found, what it rests on and what to do."""
    if survival.verdict == "not estimable":
        return f"Not estimable: {survival.reason}."
    left = _of(survival, NO_ANATOMY)
    survived = f"{in_percent(left.survives)} of what the model adds over chance survives without the anatomy"
    survived = f"{survived} (AUC {in_numbers(left.auc)})"
    found = verdict_of(points, survival.verdict)
    if found == "not estimable":
        return f"Not estimable: where the maps point could not be tested. {survived}."
    if found == "found":
        best = max(left.auc_of_class, key=lambda name: left.auc_of_class[name].value or 0.0)
        most = f"; most of {best} (AUC {in_numbers(left.auc_of_class[best])})" if len(left.auc_of_class) > 2 else ""
        return (
            f"Shortcut found: {survived}{most}. Its maps point there too: "
            f"{'; '.join(_places(regions))}. Look at these places in the images of the classes named; crop or cover them in all "
            "images, and train again."
        )
    alone = "One sign alone is no finding."
    if survival.verdict == "yes":
        return f"{survived}, but its maps do not point outside the anatomy more than chance would. {alone}"
    first = f"No shortcut found: {survived}"
    outline = _of(survival, OUTLINE).survives
    if _clearly(outline):
        first += (
            f"; its outline alone carries {in_percent(outline)}, which can be anatomy (the plane, the size) or how it was imaged"
        )
    if points == "yes":
        where = "; ".join(_places(regions))
        return f"{first}. Its maps point outside the anatomy ({where}), but the model does not need what is there. {alone}"
    return f"{first}.{_sensitivity(smallest)}"


def _sensitivity(smallest: float | None) -> str:
    if smallest is None:
        return " Taking places away is weak here: it misses a made-up mark that makes half of the scores. Give it more images."
    return f" Taking places away would show a made-up mark of one class that makes {100 * smallest:.0f} % of the scores."


def _places(regions: Sequence[RegionShare]) -> list[str]:
    """Say where the maps point, the clearest three, each for the class in which it is clearest."""
    telling: dict[str, RegionShare] = {}
    for one in sorted((one for one in regions if one.above_chance == "yes"), key=_clarity, reverse=True):
        telling.setdefault(one.region, one)
    return [
        f"{_percent(one.share)} of what speaks for {one.target or 'the true classes'} lies {place_in_words(one.region)}, on "
        f"{_percent(one.area)} of the area"
        + (f" ({_percent(one.untrained)} without what it has learnt)" if one.untrained is not None else "")
        for one in list(telling.values())[:3]
    ]


def place_in_words(region: str) -> str:
    """Return a part of the image after "lies"."""
    return _PLACES.get(region, f"in the {region}")


def _clarity(one: RegionShare) -> tuple[float, bool]:
    """How many times its area a part's share is; of equals that of a class comes before that of all images."""
    return (one.share.value or 0.0) / (one.area.value or 1.0), bool(one.target)


def _percent(share: Estimate) -> str:
    return "not estimable" if share.value is None else f"{100 * share.value:.0f} %"


def _of(survival: Survival, name: str) -> Intervention:
    return next(one for one in survival.interventions if one.name == name)


def _clearly(share: Estimate | None) -> bool:
    return share is not None and share.low is not None and share.low > 0


def in_percent(share: Estimate | None) -> str:
    """Return a share with its interval, for example ``41 % [30, 52]``."""
    if share is None or share.value is None:
        return "a share that is not estimable"
    interval = "" if share.low is None or share.high is None else f" [{100 * share.low:.0f}, {100 * share.high:.0f}]"
    return f"{100 * share.value:.0f} %{interval}"


def in_numbers(estimate: Estimate) -> str:
    """Return a number with its interval, for example ``0.71 [0.66, 0.76]``."""
    if estimate.value is None:
        return "not estimable"
    interval = "" if estimate.low is None or estimate.high is None else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.value:.2f}{interval}"
