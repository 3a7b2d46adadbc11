"""What a command line asks for, as a study: a file, a folder or a run, the options on top; planned where it names no models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # these load pydantic and more: `vitrail --help` goes without
    from vitrail.planning import Plan
    from vitrail.progress import Progress
    from vitrail.study import Study


def asked_study(
    path: Path,
    models: str | None,
    backbone: str | None,
    seed: int | None,
    output: Path | None,
    changes: list[str] | None,
    *,
    strict: bool,
) -> Study:
    """Make the study that a command line asks for: a file or a folder, then the options on top."""
    from vitrail.study import Study, changed

    if _is_study_file(path):
        study = Study.from_yaml(path)
    elif _is_run(path):
        study = Study.from_yaml(path / "study.yaml")
    else:
        study = Study.from_mapping({"data": {"path": path}}, str(path))
    updates: dict[str, Any] = {}
    if models is not None:
        updates["models"] = _chosen(study, [name.strip() for name in models.split(",") if name.strip()])
    if seed is not None:
        updates["seed"] = seed
    if output is not None:
        updates["output"] = output
    if strict:
        updates["audit.strict"] = True
    if backbone is not None:
        updates["models.probe.backbone"] = backbone
    return changed(study, updates, texts=tuple(changes or ()))


def _chosen(study: Study, names: list[str]) -> list[Any]:
    """Return models by name: as the study has them, where it has one of this name or family; else as the family has them."""
    chosen: list[Any] = []
    for name in names:
        known = [model for model in study.models if model.name == name] or [
            model for model in study.models if model.model == name
        ]
        chosen += [model.model_dump(mode="json") for model in known] or [name]
    return chosen


def _is_study_file(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml") and not path.is_dir()


def _is_run(path: Path) -> bool:
    return (path / "study.yaml").is_file() and (path / "provenance.json").is_file()


def says_what_to_do(path: Path, models: str | None, changes: list[str] | None) -> bool:
    """Whether a command line says itself which models shall be trained: then nothing is planned."""
    set_models = any(change.split("=")[0].split(".")[0].strip() == "models" for change in changes or ())
    return _is_study_file(path) or _is_run(path) or models is not None or set_models


def refuse_budget(budget: str | None, path: Path) -> None:
    """Refuse a budget where nothing is planned: what nothing keeps must not be taken in silence.

    Raises:
        UsageError: There is one.
    """
    from vitrail.errors import UsageError

    if budget is not None:
        raise UsageError(
            f"--budget: plans a folder of images for which no models are named. Found: {budget!r} for {path}, whose models are "
            "given. Leave it out; --set training.minutes=5 ends the epochs of each network after five minutes."
        )


def planned(wishes: Study, budget: str | None, backbone: str | None, *, fresh: bool, progress: Progress) -> Plan:
    """Plan a study within the budget that was given in words; ``None``: the usual one."""
    from vitrail.planning.budget import DEFAULT_BUDGET, parse_budget

    seconds = DEFAULT_BUDGET if budget is None else parse_budget(budget)
    from vitrail.pipeline import plan as plan_study

    return plan_study(wishes, budget=seconds, backbone=backbone or "", fresh=fresh, progress=progress)


def plan_aloud(wishes: Study, budget: str | None, backbone: str | None, *, fresh: bool, progress: Progress) -> Plan:
    """Plan, say what it will cost before any of it is spent, and leave the commented study beside the runs."""
    from vitrail.output import plan_lines
    from vitrail.storage import write_text

    made = planned(wishes, budget, backbone, fresh=fresh, progress=progress)
    file = made.study.output / "plans" / f"{made.study.name}.yaml"
    write_text(file, made.to_yaml())
    for line in (*plan_lines(made), f"Planned  {file}"):
        progress.say(line)
    return made
