"""From the fingerprint to the settings: what follows without any timing. Every rule is a line that a person can question.

The idea is that of nnU-Net (Isensee et al., Nature Methods 2021): fixed choices, choices that follow from the data set by a rule,
and few that are found by trying; here for classification, and what is tried is only how long things take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from vitrail.planning.facts import Facts
from vitrail.planning.plan import Choice
from vitrail.study import FAMILIES, Study, changed

VALIDATION_GROUPS = 20
"""So many groups of the smallest class shall validate."""
VALIDATION_SHARES = (0.15, 0.2, 0.25, 0.3)
"""Shares of the training images that may validate."""
COLOUR_SHARE = 0.05
"""From this share of coloured images on, networks see colour."""
EVEN = 1.5
"""Up to this many images of the largest class per image of the smallest, classes count as equally large."""
MANY_IMAGES = 2000
"""From so many training images on, a batch is twice as large."""
SIZES = (32, 64, 96, 128)
"""Sides in pixels that a network from scratch may have."""
NO_SIDES = frozenset({"microscopy", "dermoscopy"})
"""Kinds of image without left, right, up or down."""


REMEDIES: dict[str, tuple[str, dict[str, float]]] = {
    "SHC501": ("the size or shape of the files tells the classes apart", {"stretch": 0.3}),
    "SHC502": ("edges and margins tell the classes apart", {"zoom": 0.2, "translation": 0.1}),
    "SHC503": ("brightness and contrast tell the classes apart", {"brightness": 0.2, "contrast": 0.2}),
}
"""Finding of the audit -> what it says, and how far a network's training images are changed so that it cannot lean on it."""


class Need(NamedTuple):
    """What a family needs to be worth its time.

    Attributes:
        groups: Training groups of the smallest class.
        epochs: Fewest epochs that are worth a start; 0: it has none.
        steps: Steps of the optimiser that a full training has at least; epochs are added for small data sets.
        why: In words.
    """

    groups: int
    epochs: int
    steps: int
    why: str


NEEDS: dict[str, Need] = {
    "forest": Need(0, 0, 0, "always: the cheapest, and what everything else must beat"),
    "probe": Need(0, 0, 0, "always where a backbone is given: pretrained features need few images"),
    "finetune": Need(20, 3, 600, "a pretrained backbone that learns as a whole needs some images of every class"),
    "cnn": Need(40, 8, 2000, "a network from scratch knows nothing of images at first"),
    "boosted": Need(20, 0, 0, "its leaves hold at least ten training images"),
    "transformer": Need(200, 24, 6000, "attention from scratch needs more images than convolutions"),
}
"""Families that a plan may use, in the order in which they get their time."""
WITH_BACKBONE = frozenset({"probe", "finetune"})


class Outline(NamedTuple):
    """What the rules alone decide.

    Attributes:
        study: With every family that may be planned.
        choices: Why it is as it is.
        left_out: Family -> why it is not even measured.
    """

    study: Study
    choices: tuple[Choice, ...]
    left_out: dict[str, str]


def validation_choice(groups: Mapping[str, int], wishes: Study) -> Choice:
    """Choose the share of the training images that validates.

    Args:
        groups: Groups per class of what trains and validates.
        wishes: The study that the user asked for.
    """
    share = wishes.split.validation
    if wishes.split.file is not None:
        return Choice("split.validation", share, "given", "the split is read from split.file")
    if share != type(wishes.split).model_fields["validation"].default:
        return Choice("split.validation", share, "given", "asked for")
    smallest = min(groups.values())
    wanted = VALIDATION_GROUPS / max(1, smallest)
    share = next((one for one in VALIDATION_SHARES if one >= wanted), VALIDATION_SHARES[-1])
    reason = (
        f"about {VALIDATION_GROUPS} groups of the smallest class shall validate, within {VALIDATION_SHARES[0]:g} to "
        f"{VALIDATION_SHARES[-1]:g}; it has {smallest} (groups: copies, volumes, patients). A shipped validation part that "
        "serves is kept instead"
    )
    return Choice("split.validation", share, "rule", reason)


def outline(facts: Facts, wishes: Study, *, backbone: str, first: tuple[Choice, ...] = ()) -> Outline:
    """Decide all that needs no timing.

    Args:
        facts: The fingerprint.
        wishes: The study that the user asked for: what he set stays as it is. Its models do not matter.
        backbone: That the user gave; empty: none.
        first: Choices that were made before, such as :func:`validation_choice`; the study has them already.
    """
    left_out, families = {}, []
    for family, need in NEEDS.items():
        if family in WITH_BACKBONE and not backbone:
            left_out[family] = "no backbone was named: --backbone local-dir:FOLDER, or a timm name, which is downloaded"
        elif facts.fewest_groups < need.groups:
            left_out[family] = f"{need.why}: {need.groups} training groups of the smallest class; it has {facts.fewest_groups}"
        else:
            families.append(family)
    choices = [*first, *_of_all(facts, wishes), *(choice for family in families for choice in _of_model(family, facts, wishes))]
    models: list[dict[str, Any]] = [
        {"model": family, "name": family} | ({"backbone": backbone} if family in WITH_BACKBONE else {}) for family in families
    ]
    made = [choice for choice in choices if choice.kind != "given"]
    updates = {choice.key: choice.value for choice in made if not choice.key.startswith("models.") or choice.key.count(".") > 1}
    study = changed(wishes, {"models": models, **updates})
    return Outline(study, tuple(choices), left_out)


def _of_all(facts: Facts, wishes: Study) -> list[Choice]:
    """Return the choices that concern all models."""
    test = facts.shipped.get("test", 0) if wishes.split.use_shipped_test else 0
    choices = [
        Choice("seed", wishes.seed, "fixed", "one seed for everything that is drawn"),
        Choice("audit.strict", wishes.audit.strict, "fixed", "findings are told and handled, and the run goes on"),
        Choice(
            "split.use_shipped_test",
            wishes.split.use_shipped_test,
            "rule",
            f"a shipped test part stays the test part; found: {_counted(facts.shipped) or 'no parts'}",
        ),
        Choice(
            "split.test",
            wishes.split.test,
            "rule" if test else "fixed",
            f"not used: the data set ships {test:,} test images" if test else "a fifth of all groups is never trained on",
        ),
        *_flips(facts),
        Choice(
            "augment.rotation", wishes.augment.rotation, "fixed", "images are rarely taken quite upright; small turns are safe"
        ),
        *_against_shortcuts(facts),
        Choice("evaluation.resamples", wishes.evaluation.resamples, "fixed", "enough for 95 % intervals of two digits"),
    ]
    usual = Study.model_validate({"data": wishes.data})
    return [_as_given(choice, wishes, usual) for choice in choices]


def _flips(facts: Facts) -> list[Choice]:
    if facts.modality in NO_SIDES:
        reason = f"{facts.modality} ({facts.hint}): such images have no left, right, up or down"
        return [Choice("augment.flip_horizontal", True, "rule", reason), Choice("augment.flip_vertical", True, "rule", reason)]
    what = f"{facts.modality} ({facts.hint})" if facts.modality else "nothing says what kind of images these are"
    return [
        Choice(
            "augment.flip_horizontal",
            False,
            "rule",
            f"no left-right flips: {what}, and the side may matter (the heart is on the left, situs inversus is a finding)",
        ),
        Choice("augment.flip_vertical", False, "rule", f"no upside-down images: {what}, and they are taken upright"),
    ]


def _against_shortcuts(facts: Facts) -> list[Choice]:
    """Return wider augmentation of what the audit found to tell the classes apart without the organ."""
    found = {code: remedy for code, remedy in REMEDIES.items() if code in facts.shortcuts}
    return [
        Choice(f"augment.{name}", value, "rule", f"the audit's {code}: {what}; a network sees it changed at random")
        for code, (what, changes) in found.items()
        for name, value in changes.items()
    ]


def _of_model(family: str, facts: Facts, wishes: Study) -> list[Choice]:
    """Return the choices of one model, the number of epochs left open."""
    key, own = f"models.{family}", FAMILIES[family]
    if family in ("forest", "boosted", "probe"):
        size = "the backbone's own" if family == "probe" else f"{own.preprocess_defaults.size} px, grey"
        reason = f"{NEEDS[family].why}. Size: {size}. Imbalance: the family's own ({own.training_defaults.imbalance})"
        return [Choice(key, family, "fixed", reason)]
    choices = [Choice(key, family, "measured", f"it fits into the budget; {NEEDS[family].why}")]
    choices += _calm(key, wishes) if family == "finetune" else _input(key, facts, wishes)
    if wishes.training.batch_size is None:
        batch = 32 if facts.training_images >= MANY_IMAGES else 16
        reason = f"16, from {MANY_IMAGES:,} training images on 32; there are {facts.training_images:,}"
        choices.append(Choice(f"{key}.training.batch_size", batch, "rule", reason))
    if wishes.training.imbalance is None:
        imbalance = "none" if facts.imbalance <= EVEN else "weights"
        reason = (
            f"weights where the largest class has more than {EVEN:g} times the training images of the smallest; here "
            f"{facts.imbalance:.2f} times"
        )
        choices.append(Choice(f"{key}.training.imbalance", imbalance, "rule", reason))
    return choices


def _calm(key: str, wishes: Study) -> list[Choice]:
    """Return how a pretrained network settles within few epochs: its validation loss jumps, and the best epoch would be luck."""
    choices = []
    if wishes.training.schedule is None:
        reason = "the epochs are known: the rate falls to nothing by the last of them (Loshchilov & Hutter 2017)"
        choices.append(Choice(f"{key}.training.schedule", "cosine", "fixed", reason))
    if wishes.training.average is None:
        reason = "the mean of about the last hundred steps jumps less than the last step (Polyak & Juditsky 1992)"
        choices.append(Choice(f"{key}.training.average", 0.99, "fixed", reason))
    return choices


def _input(key: str, facts: Facts, wishes: Study) -> list[Choice]:
    """Return size and colour of a network from scratch."""
    choices = []
    if wishes.preprocess.size is None:
        # The largest size is for images of at least twice that side: below, there is little that the smaller one loses.
        fitting = [size for size in SIZES if size <= facts.side and (size < SIZES[-1] or 2 * size <= facts.side)]
        size = fitting[-1] if fitting else SIZES[0]
        reason = (
            f"the largest of {', '.join(map(str, SIZES))} that the images have themselves ({SIZES[-1]} from {2 * SIZES[-1]} px "
            f"on); the median of their shorter sides is {facts.side} px"
        )
        choices.append(Choice(f"{key}.preprocess.size", size, "rule", reason))
    if wishes.preprocess.colour is None:
        colour = "rgb" if facts.coloured >= COLOUR_SHARE else "grey"
        reason = f"rgb from {COLOUR_SHARE:.0%} coloured images on; {facts.coloured:.1%} show colour"
        choices.append(Choice(f"{key}.preprocess.colour", colour, "rule", reason))
    return choices


def wanted_epochs(family: str, study: Study, facts: Facts) -> int:
    """Return the epochs of a full training: the family's own, and for small data sets up to four times as many."""
    settings = next(model for model in study.models if model.name == family)
    training = study.training_for(settings)
    steps = max(1, math.ceil(facts.training_images / (training.batch_size or 16)))
    own = FAMILIES[family].training_defaults.epochs or 1
    return min(4 * own, max(own, math.ceil(NEEDS[family].steps / steps)))


def _as_given(choice: Choice, wishes: Study, usual: Study) -> Choice:
    """Return the choice, or the user's where he set something that is not the usual."""
    wish, default = _at(wishes, choice.key), _at(usual, choice.key)
    return choice if wish == default else Choice(choice.key, wish, "given", "asked for")


def _at(study: Study, key: str) -> Any:
    place: Any = study
    for part in key.split("."):
        place = getattr(place, part, None)
    return place


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())
