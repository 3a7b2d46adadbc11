"""The package of an ensemble: the packages of its members, whole, and the weights of their scores.

    package.json        format, name, family, classes, members (folder, weight), versions, golden answers
    members/<name>/     the package of each member that counts, with its own hashes and golden answers
    golden/*            synthetic images whose answers are known, asked of all members together
    hashes.json         SHA-256 of every file above, those of the members included

Every member prepares the image as it did alone (size, colour, crop), so its scores here are those that its own package gives.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitrail.decision import Decision
from vitrail.errors import PackageError
from vitrail.models.answering import Package, WeightedModel
from vitrail.models.package import (
    FORMAT,
    LIMITS,
    ModelPackage,
    check_decision,
    does_not_fit,
    open_model,
    packing_versions,
    read_description,
)
from vitrail.models.proof import GoldenAnswer, ask_golden_questions, check_hashes, golden_answers, write_hashes
from vitrail.storage import file_sha256, whole_folder, write_record

WEIGHTS_ASTRAY = 1e-9
"""How far the sum of the weights may be from 1."""


@dataclass(frozen=True)
class PackedMember:
    """A member of a packed ensemble.

    Attributes:
        name: Its name in the study, and its folder below ``members``.
        weight: How much its scores count, above 0 to 1.
    """

    name: str
    weight: float


@dataclass(frozen=True)
class EnsembleDescription:
    """The content of ``package.json``; see :class:`vitrail.models.package.PackageDescription`.

    Attributes:
        format: Version of this layout.
        name: The ensemble's name in its study.
        family: ``ensemble``.
        description: One line that a reader understands.
        classes: Class names, in the order of the scores.
        members: Those that count, in the order in which their scores are added up.
        golden: Questions with known answers.
        versions: Package name -> version at the time of packing.
        data_fingerprint: Of the data set that the members were trained on.
        study_fingerprint: Of the settings.
        limits: What a user must know.
        decision: How scores become a class; packages made before there was a choice say nothing of it (the highest score).
    """

    format: Literal[1]
    name: str
    family: Literal["ensemble"]
    description: str
    classes: tuple[str, ...]
    members: tuple[PackedMember, ...]
    golden: tuple[GoldenAnswer, ...]
    versions: dict[str, str]
    data_fingerprint: str
    study_fingerprint: str
    limits: str = LIMITS
    decision: Decision | None = None


class EnsemblePackage(Package):
    """Several trained models that answer together. Get one with :func:`vitrail.load_package`.

    Args:
        description: What ``package.json`` says.
        models: The members, in the order of the description.
        fingerprint: SHA-256 of the package's ``hashes.json``; empty: it is in no folder.
        folder: Where it lies; ``None``: in no folder.
    """

    def __init__(
        self,
        description: EnsembleDescription,
        models: tuple[ModelPackage, ...],
        fingerprint: str = "",
        folder: Path | None = None,
    ) -> None:
        self.description = description
        self.models = models
        self.fingerprint = fingerprint
        self.folder = folder

    @property
    def name(self) -> str:
        """The ensemble's name in its study."""
        return self.description.name

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the scores."""
        return self.description.classes

    @property
    def decision(self) -> Decision | None:
        """How scores become a class; ``None``: the highest score."""
        return self.description.decision

    @property
    def parts(self) -> tuple[WeightedModel, ...]:
        """The members with their weights."""
        return tuple(
            WeightedModel(member.weight, model) for member, model in zip(self.description.members, self.models, strict=True)
        )


def save_ensemble(
    folder: Path,
    *,
    name: str,
    description: str,
    classes: tuple[str, ...],
    members: Mapping[str, tuple[float, Path]],
    data_fingerprint: str,
    study_fingerprint: str,
    decision: Decision | None = None,
) -> None:
    """Write the package of an ensemble, whole or not at all.

    Args:
        folder: Where.
        name: Of the ensemble.
        description: One line that a reader understands.
        classes: Class names, those of every member.
        members: Name -> weight and folder of the member's package; weights sum to 1, members that do not count are left out.
        data_fingerprint: Of the data set.
        study_fingerprint: Of the settings.
        decision: How the scores of all together become a class; ``None``: the highest score.

    Raises:
        PackageError: A member's package is damaged, or knows other classes.
    """
    counting = {member: given for member, given in sorted(members.items()) if given[0] > 0}
    with whole_folder(folder) as temporary:
        for member, (_, package) in counting.items():
            shutil.copytree(package, temporary / "members" / member)
        models = tuple(open_model(temporary / "members" / member) for member in counting)
        content = EnsembleDescription(
            format=FORMAT,
            name=name,
            family="ensemble",
            description=description,
            classes=classes,
            members=tuple(PackedMember(member, weight) for member, (weight, _) in counting.items()),
            golden=(),
            versions=packing_versions(*(model.recipe for model in models)),
            data_fingerprint=data_fingerprint,
            study_fingerprint=study_fingerprint,
            decision=decision,
        )
        _check_members(folder, content, models)
        largest = max(model.recipe.size for model in models)
        golden = golden_answers(temporary, largest, EnsemblePackage(content, models).scores_of)
        write_record(temporary / "package.json", {**vars(content), "golden": golden})
        write_hashes(temporary)


def open_ensemble(folder: Path) -> EnsemblePackage:
    """Load the package of an ensemble after checking it and every member: whole, unaltered, golden answers.

    Raises:
        PackageError: It, or a member, is altered, of another format, or answers differently than when it was made.
    """
    check_hashes(folder)
    description = read_description(folder, EnsembleDescription)
    try:
        models = tuple(open_model(folder / "members" / member.name) for member in description.members)
        _check_members(folder, description, models)
        check_decision(folder, description.decision, description.classes)
        package = EnsemblePackage(description, models, file_sha256(folder / "hashes.json"), folder)
        ask_golden_questions(
            folder,
            description.golden,
            package.scores_of,
            classes=len(package.classes),
            step=sum(part.weight * part.model.head.step for part in package.parts),
            versions=description.versions,
        )
    except PackageError:
        raise
    except Exception as error:  # a member that is missing, an image that is none: it was made wrongly
        raise does_not_fit(folder, error) from error
    return package


def _check_members(folder: Path, description: EnsembleDescription, models: tuple[ModelPackage, ...]) -> None:
    for member, model in zip(description.members, models, strict=True):
        if model.classes != description.classes:
            raise PackageError(
                f"{folder}: its member {member.name} must know the classes {list(description.classes)}, in this order. "
                f"Found: {list(model.classes)}. Make the package again."
            )
    weights = [member.weight for member in description.members]
    if not weights or min(weights) <= 0 or abs(sum(weights) - 1) > WEIGHTS_ASTRAY:
        raise PackageError(f"{folder}: weights must be above 0 and sum to 1. Found: {weights}. Make the package again.")
