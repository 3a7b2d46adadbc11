"""The patients of the phantom: every number behind a drawn head, drawn once per patient from the patient's own seed.

Positions are in *head units*: the origin is the middle of the head, 1 is half its length from forehead to nape; ``across`` grows
towards the right edge of the picture, ``along`` from forehead (-1) to nape (+1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

LesionKind = Literal["glioma", "meningioma", "pituitary"]
Level = Literal["ventricles", "base"]

CLASSES: tuple[str, ...] = ("glioma", "meningioma", "no_tumor", "pituitary")
BRAIN_EDGE = 0.865
"""Where the brain ends, as a share of the way from the middle of the head to the skin."""
SELLA_ALONG = -0.14
"""Where the sella lies on the midline, head units."""


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion, with the traits of its kind.

    Attributes:
        kind: What it is drawn as.
        across: Position of its middle, head units.
        along: Position of its middle, head units.
        radius: In its largest slice, head units.
        contrast: 0.3 (faint) to 1 (as in a textbook).
        necrosis: 0 (solid) to 1 (dark core behind a bright rim).
        irregularity: How far the outline strays from a circle, as a share of the radius.
        oedema: Strength of the dark halo around it, 0 to 1.
        push: How far it displaces its neighbourhood, as a share of its radius.
        middle: Position along the stack of slices (-1 to 1) at which it is largest.
        lobes: Amplitude and phase of the outline's 2nd, 3rd... circular harmonic.
    """

    kind: LesionKind
    across: float
    along: float
    radius: float
    contrast: float
    necrosis: float
    irregularity: float
    oedema: float
    push: float
    middle: float
    lobes: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Patient:
    """One patient on one scanner.

    Attributes:
        seed: Entropy of everything random about this patient; the pixels of every slice follow from it.
        level: Whether the stack of slices lies at the lateral ventricles or at the base of the skull.
        height: Position of the stack within its level, 0 (low) to 1 (high).
        rows: Height of the image in pixels.
        columns: Width of the image in pixels.
        length: Half the head's length as a share of half the image's shorter side.
        aspect: Width of the head over its length.
        turn: Rotation of the head in radians.
        shift_across: Displacement of the head in head units.
        shift_along: Displacement of the head in head units.
        ventricles: Size of the ventricles, 1 is usual.
        asymmetry: Difference between the hemispheres, share.
        atrophy: Width of the sulci, 1 is usual.
        contrast: Between grey and white matter, 1 is usual.
        brightness: Mean grey value of the image, 0 to 255.
        noise: Standard deviation of the noise in each channel of the receiver, as a share of white matter's signal.
        shading: Strength of the smooth unevenness of the coil (bias field), share.
        lesion: The lesion, if any.
    """

    seed: tuple[int, ...]
    level: Level
    height: float
    rows: int
    columns: int
    length: float
    aspect: float
    turn: float
    shift_across: float
    shift_along: float
    ventricles: float
    asymmetry: float
    atrophy: float
    contrast: float
    brightness: float
    noise: float
    shading: float
    lesion: Lesion | None


def draw_patient(label: str, *, seed: tuple[int, ...], size: int, low: bool) -> Patient:
    """Draw a patient.

    All but the lesion is drawn before the class matters and in the same way for every class, except that a pituitary mass can
    only be seen at the base of the skull.

    Args:
        label: One of :data:`CLASSES`.
        seed: Entropy of this patient.
        size: Usual side of the image in pixels; a side lies between 0.95 and 1.22 times that.
        low: Whether the stack lies at the base of the skull; ignored for ``pituitary``.
    """
    rng = np.random.default_rng(seed)
    side = size * rng.uniform(0.97, 1.2)
    rows, columns = (int(4 * round(side * rng.uniform(0.985, 1.015) / 4)) for _ in range(2))
    level: Level = "base" if low or label == "pituitary" else "ventricles"
    # Python floats, not NumPy's: those would turn every float32 array they meet into float64.
    plain = {
        "height": rng.uniform(0.0, 1.0),
        "length": rng.uniform(0.82, 0.93),
        "aspect": rng.uniform(0.76, 0.86),
        "turn": rng.normal(0.0, 0.06),
        "shift_across": rng.normal(0.0, 0.02),
        "shift_along": rng.normal(0.0, 0.02),
        "ventricles": rng.uniform(0.75, 1.35),
        "asymmetry": rng.normal(0.0, 0.04),
        "atrophy": rng.uniform(0.7, 1.4),
        "contrast": rng.uniform(0.75, 1.2),
        "brightness": rng.uniform(48.0, 72.0),
        "noise": rng.uniform(0.025, 0.06),
        "shading": rng.uniform(0.08, 0.25),
    }
    plain = {name: float(value) for name, value in plain.items()}
    lesion = None if label == "no_tumor" else _DRAW[label](rng, level, plain["aspect"])
    return Patient(seed=seed, level=level, rows=rows, columns=columns, lesion=lesion, **plain)


def _draw_glioma(rng: np.random.Generator, level: Level, aspect: float) -> Lesion:
    """Inside the white matter of one hemisphere, away from the midline and from the wall."""
    radius = float(rng.uniform(0.13, 0.28))
    side = rng.choice((-1.0, 1.0))
    reach = BRAIN_EDGE - 0.6 * radius - 0.1
    for _ in range(100):
        across, along = rng.uniform(0.2, 0.65), rng.uniform(-0.6 if level == "ventricles" else -0.45, 0.65)
        if np.hypot(across / aspect, along) < reach and across > 0.12 + 0.5 * radius:
            break
    return Lesion(
        kind="glioma",
        across=float(side * across),
        along=float(along),
        radius=radius,
        contrast=float(rng.uniform(0.55, 1.0)),
        necrosis=float(rng.uniform(0.45, 1.0)),
        irregularity=float(rng.uniform(0.2, 0.45)),
        oedema=float(rng.uniform(0.4, 1.0)),
        push=float(rng.uniform(0.1, 0.5)),
        middle=float(rng.uniform(-0.6, 0.6)),
        lobes=_draw_lobes(rng),
    )


def _draw_meningioma(rng: np.random.Generator, level: Level, aspect: float) -> Lesion:
    """Sitting on the inner wall of the skull with a broad base: its middle lies a third of its radius inside the wall."""
    radius = float(rng.uniform(0.11, 0.24))
    angle = rng.uniform(-0.85, 0.85) if level == "ventricles" else rng.uniform(-0.3, 0.75)
    reach = BRAIN_EDGE - 0.45 * radius
    return Lesion(
        kind="meningioma",
        across=float(rng.choice((-1.0, 1.0)) * aspect * reach * np.cos(angle * np.pi / 2)),
        along=float(reach * np.sin(angle * np.pi / 2)),
        radius=radius,
        contrast=float(rng.uniform(0.4, 1.0)),
        necrosis=float(max(0.0, rng.uniform(-0.6, 0.25))),
        irregularity=float(rng.uniform(0.02, 0.1)),
        oedema=float(max(0.0, rng.uniform(-0.5, 0.6))),
        push=float(rng.uniform(0.2, 0.5)),
        middle=float(rng.uniform(-0.6, 0.6)),
        lobes=_draw_lobes(rng),
    )


def _draw_pituitary(rng: np.random.Generator, level: Level, aspect: float) -> Lesion:  # noqa: ARG001 - one signature for all
    """In the sella: on the midline, in front of the brain stem."""
    return Lesion(
        kind="pituitary",
        across=float(rng.normal(0.0, 0.012)),
        along=float(SELLA_ALONG + rng.normal(0.0, 0.012)),
        radius=float(rng.uniform(0.075, 0.17)),
        contrast=float(rng.uniform(0.4, 1.0)),
        necrosis=float(max(0.0, rng.uniform(-0.8, 0.3))),
        irregularity=float(rng.uniform(0.02, 0.08)),
        oedema=0.0,
        push=float(rng.uniform(0.3, 0.6)),
        middle=float(rng.uniform(-0.6, 0.6)),
        lobes=_draw_lobes(rng),
    )


def _draw_lobes(rng: np.random.Generator) -> tuple[tuple[float, float], ...]:
    return tuple((float(rng.normal()), float(rng.uniform(-np.pi, np.pi))) for _ in range(4))


_DRAW = {"glioma": _draw_glioma, "meningioma": _draw_meningioma, "pituitary": _draw_pituitary}
