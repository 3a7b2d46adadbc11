"""Explanations on disk: maps for programmes (``.npy``), and the gallery of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.explanation.agreement import Agreement
from vitrail.records import Estimate, Explanation, FloatArray, MapGrade
from vitrail.storage import read_record, whole_file, whole_folder, write_record


def write_map(explanation: Explanation, path: Path) -> Path:
    """Write the map as ``.npy``, float32, shape (height, width) of the upright original, whole or not at all."""
    return _write_array(explanation.map, path)


def write_shares(agreement: Agreement, path: Path) -> Path:
    """Write where methods agree as ``.npy``: shares, float32, shape (height, width) of the upright original."""
    return _write_array(agreement.shares, path)


def _write_array(values: FloatArray, path: Path) -> Path:
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, values, allow_pickle=False)
    return path


def save_explanations(folder: Path, explanations: Sequence[Explanation]) -> None:
    """Write several explanations into a folder, whole or not at all: ``index.json`` and one ``.npy`` for each map, and for each
    standard error.
    """
    with whole_folder(folder) as temporary:
        index = []
        for number, explanation in enumerate(explanations):
            write_map(explanation, temporary / f"{number:03d}.npy")
            error = explanation.standard_error
            if error is not None:
                np.save(temporary / f"{number:03d}-error.npy", error, allow_pickle=False)
            index.append({key: value for key, value in vars(explanation).items() if key not in ("map", "standard_error")})
        write_record(temporary / "index.json", index)


def load_explanations(folder: Path) -> tuple[Explanation, ...]:
    """Read what :func:`save_explanations` wrote, in the same order."""
    entries = read_record(folder / "index.json", list[dict[str, Any]])
    return tuple(_loaded(folder, number, entry) for number, entry in enumerate(entries))


def _loaded(folder: Path, number: int, entry: dict[str, Any]) -> Explanation:
    if "details" in entry:  # runs made before explanations said their layer and cost apart
        parameters = entry.pop("details")
        entry |= {"parameters": parameters, "forward_passes": parameters.pop("model_runs", 0)}
        entry |= {"layer": parameters.pop("layer", "")}
    if entry.get("grade") is not None:
        grade = entry["grade"]
        of_method = grade.get("method_gain")
        told = {"random_gains": tuple(grade["random_gains"]), "method_gain": of_method and Estimate(**of_method)}
        entry["grade"] = MapGrade(**{**grade, **told})
    error = folder / f"{number:03d}-error.npy"
    arrays = {"map": np.load(folder / f"{number:03d}.npy"), "standard_error": np.load(error) if error.exists() else None}
    return Explanation(**{**entry, **arrays, "warnings": tuple(entry["warnings"])})
