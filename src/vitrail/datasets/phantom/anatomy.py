"""The healthy head of the phantom: scalp, skull, folded cortex, ventricles; or, lower down, brain stem, cerebellum and orbits.

Signals are T1-like: fat bright, white matter brighter than grey matter, fluid and bone dark. Every drawing function takes a
:class:`Region` (some pixels of the head, flat) and returns the region's new signal, so that small structures cost little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from vitrail.datasets.phantom.fields import Field, capsule, ellipse, inside, paint, smooth_field
from vitrail.datasets.phantom.patient import BRAIN_EDGE, SELLA_ALONG, Patient

AIR, BONE, FLUID, MARROW, GREY, WHITE, FAT = 0.01, 0.05, 0.14, 0.36, 0.41, 0.64, 0.95
"""Signals of the tissues at usual contrast."""

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Region:
    """Some pixels of the head, flat float32 arrays of one length.

    Attributes:
        signal: What has been drawn so far.
        across: Position in head units.
        along: Position in head units.
        radius: 0 in the middle of the head, 1 on the skin.
        lobe: Smooth random field as coarse as a lobe, deviation about 1.
        gyrus: The same, as coarse as a gyrus.
        sulcus: The same, as coarse as a sulcus.
    """

    signal: Field
    across: Field
    along: Field
    radius: Field
    lobe: Field
    gyrus: Field
    sulcus: Field

    def part(self, places: Places) -> Region:
        """Return a copy of the pixels at ``places``."""
        arrays = (self.signal, self.across, self.along, self.radius, self.lobe, self.gyrus, self.sulcus)
        return Region(*(array[places] for array in arrays))


def lay_out_head(patient: Patient, rng: np.random.Generator, *, progress: float) -> tuple[Places, Region]:
    """Place the head in the image and draw its random fields.

    Args:
        patient: Whose head.
        rng: The patient's own; the same for every slice.
        progress: Position along the stack of slices, -1 to 1.

    Returns:
        The places of the head's pixels in the flattened image, and those pixels, all air as yet.
    """
    rows, columns = patient.rows, patient.columns
    noise = [smooth_field(rng, rows, columns, waves=waves, progress=1.5 * progress) for waves in (6, 11, 26)]
    unit = 0.5 * min(rows, columns) * patient.length
    x = (np.arange(columns, dtype=np.float32) - 0.5 * (columns - 1)) * (1.0 / unit) - patient.shift_across
    y = ((np.arange(rows, dtype=np.float32) - 0.5 * (rows - 1)) * (1.0 / unit) - patient.shift_along)[:, None]
    cosine, sine = math.cos(patient.turn), math.sin(patient.turn)
    across, along = cosine * x + sine * y, cosine * y - sine * x
    taper, growth = (0.07, -0.02) if patient.level == "ventricles" else (0.12, 0.012)
    scale = 1.0 + growth * progress
    wide, long = along * taper, along * along
    wide += 1.0
    np.divide(across, wide, out=wide)
    wide *= wide
    wide *= 1.0 / (patient.aspect * scale) ** 2
    long *= 1.0 / scale**2
    square = wide + long  # of the radius, were the outline an ellipse; the product makes it a little squarer
    wide *= long
    wide *= 0.16
    square -= wide
    places = np.flatnonzero(square < 1.09)
    across, along, square, lobe, gyrus, sulcus = (array.ravel()[places] for array in (across, along, square, *noise))
    radius = np.sqrt(square) * (1.0 + 0.010 * lobe)
    return places, Region(np.full_like(radius, AIR), across, along, radius, lobe, gyrus, sulcus)


def draw_wall(head: Region) -> Field:
    """Return the signal of skin, scalp, skull and the fluid under it; the brain's place is filled with fluid."""
    radius, soft = head.radius, 0.018
    signal = head.signal
    scalp = 0.945 + 0.012 * head.lobe - 0.016 * head.along
    paint(signal, 0.40, inside(radius - 1.0, soft))
    paint(signal, FAT * (0.84 + 0.08 * head.gyrus + 0.04 * head.sulcus), inside(radius - 0.988, soft))
    paint(signal, BONE, inside(radius - scalp, soft))
    diploe = inside(np.abs(radius - 0.5 * (scalp + (BRAIN_EDGE + 0.018))) - 0.010, soft)
    paint(signal, MARROW, diploe * np.clip(0.55 + 0.45 * head.gyrus, 0.0, 1.0))
    paint(signal, 0.34, inside(np.abs(radius - (BRAIN_EDGE + 0.012)) - 0.002, soft))
    paint(signal, FLUID, inside(radius - BRAIN_EDGE, soft))
    return signal


def draw_cortex(brain: Region, patient: Patient) -> Field:
    """Return white matter with its folded grey ribbon and the dark sulci.

    Sulci are the crests of a wave around the head whose phase wanders; they reach inwards as far as a smooth field allows.
    """
    grey, white = _tissues(patient)
    depth = (BRAIN_EDGE - 0.012) - brain.radius - 0.006 * brain.sulcus
    split = np.abs(brain.across)
    reaches_in = (
        inside(0.36 - np.abs(brain.along + 0.03), 0.08) if patient.level == "ventricles" else inside(brain.along + 0.30, 0.08)
    )
    depth = np.minimum(depth, 0.9 * split + 0.4 * (1.0 - reaches_in))
    angle = np.arctan2(brain.across * (1.0 / patient.aspect), brain.along + 0.02)
    crest = np.clip(np.cos(25.0 * angle + 2.3 * brain.gyrus + 0.9 * brain.sulcus), 0.0, 1.0)
    reach = np.clip(0.17 + 0.07 * brain.gyrus + 0.03 * brain.lobe, 0.03, 0.40)
    fold = inside(depth - reach, 0.10)
    crest *= crest
    winding = np.clip(1.0 - 1.5 * np.abs(brain.sulcus), 0.0, 1.0) * inside(depth - (reach + 0.10), 0.16)
    ribbon = np.maximum(inside(depth - 0.045, 0.03), np.maximum(fold * np.clip(2.4 * crest, 0.0, 1.0), 0.8 * winding))
    tissue = white + (grey - white) * ribbon + 0.008 * brain.sulcus
    crest *= crest
    crest *= crest
    furrow = np.clip(1.1 * patient.atrophy * crest * fold, 0.0, 0.9)
    tissue += furrow * (FLUID - tissue)
    gap = reaches_in * inside(split - 0.008 * patient.atrophy, 0.02)
    tissue += 0.85 * gap * (FLUID - tissue)
    signal = brain.signal
    paint(signal, tissue, inside(-depth, 0.02))
    return signal


def draw_ventricles(core: Region, patient: Patient, *, progress: float) -> Field:
    """Return the deep grey nuclei and the lateral and third ventricles over what is there."""
    height = _height(patient, progress)
    low = 1.0 - height
    size = patient.ventricles * (1.0 - 0.06 * progress)
    grey, _ = _tissues(patient)
    along, folded, wobble, signal = core.along, _folded(core, patient), 0.008 * core.gyrus, core.signal
    thalamus = ellipse(folded, along, at=(0.12, 0.10), half=(0.085, 0.15), turn=-0.35)
    putamen = ellipse(folded, along, at=(0.27, -0.07), half=(0.055, 0.16), turn=-0.25)
    paint(signal, grey + 0.03, min(1.0, 0.35 + low) * inside(np.minimum(thalamus, putamen) + wobble, 0.03))
    caudate = ellipse(folded, along, at=(0.155 + 0.02 * size, -0.24), half=(0.04, 0.10), turn=-0.2)
    paint(signal, grey, inside(caudate + wobble, 0.03))
    bent = folded + 0.35 * (along + 0.22) ** 2
    front = capsule(bent, along, start=(0.05, -0.12 + 0.08 * height), end=(0.135, -0.36), radii=(0.024 * size, 0.036 * size))
    bent = folded + 0.25 * (along - 0.12) ** 2
    start, end = (0.06 + 0.10 * low, 0.16 * low), (0.19 + 0.09 * low, 0.40 + 0.05 * low)
    back = capsule(bent, along, start=start, end=end, radii=((0.020 + 0.012 * height) * size, 0.042 * size))
    third = capsule(folded, along, start=(0.0, -0.04), end=(0.0, 0.14), radii=(0.007 + 0.006 * size, 0.008 + 0.005 * size))
    dark = np.minimum(np.minimum(front, back) + wobble, third + 0.05 * height)
    paint(signal, 0.85 * FLUID, inside(dark, 0.022))
    plexus = ellipse(bent, along, at=(0.16 + 0.09 * low, 0.33), half=(0.016, 0.045), turn=-0.3)
    paint(signal, 0.62, inside(plexus + wobble, 0.02) * np.clip(0.4 + core.sulcus, 0.0, 0.85))
    return signal


def draw_cerebellum(brain: Region, patient: Patient, *, progress: float) -> Field:
    """Return the cerebellum under its tent, behind the brain stem, over what is there."""
    height = _height(patient, progress)
    grey, white = _tissues(patient)
    along, folded, wobble, signal = brain.along, _folded(brain, patient), 0.014 * brain.gyrus, brain.signal
    within = inside(brain.radius - (BRAIN_EDGE - 0.02), 0.02)
    tip = 0.16 + 0.10 * height
    tent = np.maximum(folded - (1.7 - 0.9 * height) * np.sqrt(np.maximum(along - tip, 0.0)) * 0.62, tip - along) + wobble
    rings = np.sqrt((0.8 * folded) ** 2 + (along - 0.02) ** 2)
    folia = np.clip(np.cos(85.0 * rings + 2.6 * brain.gyrus + 1.3 * brain.sulcus), 0.0, 1.0)
    tone = grey + 0.07 - 0.17 * folia + 0.015 * brain.sulcus
    deep = inside(ellipse(folded, along, at=(0.17, 0.46), half=(0.12, 0.13)) + 2.0 * wobble, 0.10)
    tone += 0.85 * deep * (white - 0.02 - tone)
    paint(signal, tone, within * inside(tent, 0.02))
    paint(signal, 0.26, 0.75 * within * inside(np.abs(tent) - 0.008, 0.02))
    return signal


def draw_sylvian_fissures(brain: Region, patient: Patient) -> Field:
    """Return the fissures between frontal and temporal lobes over what is there."""
    grey, _ = _tissues(patient)
    along, folded, signal = brain.along, _folded(brain, patient), brain.signal
    within = inside(brain.radius - (BRAIN_EDGE - 0.02), 0.02)
    bent = along + 0.9 * (folded - 0.30) ** 2 + 0.021 * brain.gyrus + 0.03 * brain.lobe
    sylvian = capsule(folded, bent, start=(0.10, -0.13), end=(0.64, -0.13), radii=(0.020, 0.010 * patient.atrophy))
    sylvian += 0.014 * brain.gyrus
    paint(signal, grey, 0.8 * within * inside(sylvian - 0.05, 0.03))
    paint(signal, FLUID, within * inside(sylvian, 0.02))
    return signal


def draw_stem(core: Region, patient: Patient, *, progress: float) -> Field:
    """Return brain stem, cisterns, stalk of the pituitary, carotid arteries and temporal horns over what is there."""
    height = _height(patient, progress)
    _, white = _tissues(patient)
    along, folded, wobble, signal = core.along, _folded(core, patient), 0.012 * core.gyrus, core.signal
    horn = capsule(folded, along, start=(0.36, 0.02), end=(0.40, 0.13), radii=(0.008, 0.014 * patient.ventricles))
    angle = np.arctan2(folded, along - SELLA_ALONG)
    star = ellipse(folded, along, at=(0.0, SELLA_ALONG), half=(0.15, 0.12)) + 0.05 * np.cos(5.0 * angle)
    ambient = ellipse(folded, along, at=(0.0, 0.10), half=(0.20, 0.17))
    paint(signal, FLUID, inside(np.minimum(np.minimum(star, ambient) + 0.5 * wobble, horn), 0.02))
    back = ellipse(folded, along, at=(0.0, 0.12), half=(0.155, 0.125))
    peduncle = ellipse(folded, along, at=(0.085, 0.02), half=(0.065, 0.085), turn=0.5)
    paint(signal, white - 0.07 + 0.02 * core.sulcus, inside(np.minimum(back, peduncle) + 0.4 * wobble, 0.02))
    duct = ellipse(folded, along, at=(0.0, 0.21 + 0.04 * (1.0 - height)), half=(0.016 + 0.03 * (1.0 - height), 0.018))
    paint(signal, FLUID, inside(duct, 0.02))
    paint(signal, 0.66, inside(ellipse(folded, along, at=(0.0, SELLA_ALONG), half=(0.028, 0.022)), 0.02))
    paint(signal, 0.75, inside(ellipse(folded, along, at=(0.10, SELLA_ALONG + 0.005), half=(0.022, 0.022)), 0.015))
    return signal


def draw_orbits(front: Region) -> Field:
    """Return the eyes in their fat and the air of the nose between them over what is there."""
    along, folded, signal = front.along, np.abs(front.across), front.signal
    within = inside(front.radius - 0.93, 0.02)
    socket = capsule(folded, along, start=(0.27, -0.72), end=(0.16, -0.44), radii=(0.165, 0.04)) + 0.012 * front.gyrus
    paint(signal, BONE, within * inside(socket - 0.025, 0.02))
    paint(signal, 0.80 + 0.07 * front.sulcus, within * inside(socket, 0.025))
    muscle = capsule(folded, along, start=(0.38, -0.66), end=(0.19, -0.44), radii=(0.012, 0.012))
    nerve = capsule(folded, along, start=(0.26, -0.60), end=(0.15, -0.42), radii=(0.016, 0.012))
    paint(signal, 0.45, within * inside(np.minimum(muscle, nerve), 0.02))
    globe = ellipse(folded, along, at=(0.28, -0.73), half=(0.112, 0.118))
    paint(signal, 0.50, within * inside(globe, 0.02))
    paint(signal, 0.22, within * inside(globe + 0.014, 0.02))
    nose = ellipse(folded, along, at=(0.0, -0.66), half=(0.10, 0.24)) + 0.02 * front.gyrus
    septa = np.clip(np.abs(np.cos(34.0 * folded + front.gyrus)) - 0.75 + 0.2 * front.sulcus, 0.0, 0.25) * 2.0
    paint(signal, BONE + septa, within * inside(nose, 0.03))
    return signal


def bend(head: Region) -> Region:
    """Return the region with its positions bent by its random fields, so that no structure is a ruler's or a compass's."""
    across = head.across + 0.018 * head.lobe + 0.006 * head.gyrus
    along = head.along - 0.014 * head.gyrus + 0.016 * head.lobe
    return replace(head, across=across, along=along)


def _height(patient: Patient, progress: float) -> float:
    return float(np.clip(patient.height + 0.12 * progress, 0.0, 1.0))


def _tissues(patient: Patient) -> tuple[float, float]:
    change = 0.06 * (patient.contrast - 1.0)
    return GREY - change, WHITE + change


def _folded(region: Region, patient: Patient) -> Field:
    """Distance from the midline; the hemispheres differ a little."""
    share = np.sign(region.across)
    share *= patient.asymmetry
    share += 1.0
    share *= np.abs(region.across)
    return share
