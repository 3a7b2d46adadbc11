"""Phantoms for the tests of the phantom, and how to look at their files."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vitrail.datasets import FAULT_KINDS, PhantomSettings
from vitrail.datasets.phantom.faults import FaultKind

SMALL = PhantomSettings(patients_per_class=6, slices_per_patient=2, size=96, faults={})
"""A clean phantom."""


def _at_least_one(kind: FaultKind) -> int:
    return kind.usual or (1 if kind.unit == "class" else 3)


FAULTY = replace(SMALL, patients_per_class=12, faults={name: _at_least_one(kind) for name, kind in FAULT_KINDS.items()})
"""A phantom with every kind of fault."""
UNREADABLE = ("truncated_file", "empty_file", "not_an_image")
"""Kinds whose files cannot be decoded."""


def read(folder: Path, path: str) -> np.ndarray:
    """Return an image of a phantom, upright, as stored or in grey, as floating point of shape (rows, columns)."""
    picture = ImageOps.exif_transpose(Image.open(folder / "images" / path))
    grey = picture if picture.mode.startswith("I;16") else picture.convert("L")
    return np.asarray(grey).astype(float)


def sha256(folder: Path, path: str) -> str:
    return hashlib.sha256((folder / "images" / path).read_bytes()).hexdigest()


def alike(one: np.ndarray, two: np.ndarray) -> float:
    """Return the correlation of two images of one shape."""
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])
