"""The lesions of the phantom, drawn from the textbook look of each kind on a T1 image with contrast agent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vitrail.datasets.phantom.anatomy import FLUID, Region
from vitrail.datasets.phantom.fields import Field, inside, paint
from vitrail.datasets.phantom.patient import BRAIN_EDGE, Lesion


def cross_section(lesion: Lesion, *, progress: float) -> float:
    """Return the radius of the lesion in the slice at ``progress`` (-1 to 1), head units: that of a cut sphere."""
    away = 0.5 * (progress - lesion.middle)
    return lesion.radius * float(np.sqrt(max(0.0, 1.0 - away * away)))


def push_aside(head: Region, lesion: Lesion, *, progress: float) -> Region:
    """Return the region with the positions at which it looks up the anatomy pulled to the lesion's middle (mass effect)."""
    radius = cross_section(lesion, progress=progress)
    dx, dy = head.across - lesion.across, head.along - lesion.along
    pull = lesion.push * np.exp((dx * dx + dy * dy) * (-0.5 / (1.3 * radius) ** 2))
    return replace(head, across=head.across - pull * dx, along=head.along - pull * dy)


def draw_lesion(area: Region, lesion: Lesion, *, progress: float) -> tuple[Field, Field]:
    """Draw the lesion over what is there.

    Returns:
        The new signal, and how far each pixel belongs to the lesion, 0 to 1; the halo (oedema) does not count as lesion.
    """
    radius = cross_section(lesion, progress=progress)
    dx, dy = area.across - lesion.across, area.along - lesion.along
    gap = np.sqrt(dx * dx + dy * dy)
    bumps = 1.1 * _lobes(dx, dy, gap, lesion) + 0.45 * area.gyrus + 0.30 * area.sulcus
    distance = gap - radius * np.clip(1.0 + lesion.irregularity * bumps, 0.5, 1.7)
    brain = inside(area.radius - (BRAIN_EDGE - 0.004), 0.016)
    signal = area.signal
    if lesion.oedema > 0.02:
        halo = np.clip(0.9 - (distance + 0.02) / (0.75 * radius) + 0.4 * area.gyrus, 0.0, 1.0)
        paint(signal, 0.36, 0.75 * lesion.oedema * halo * brain)
    if lesion.kind == "glioma":
        return signal, _draw_ring(area, lesion, distance=distance, bumps=bumps, radius=radius, brain=brain)
    rim = inside(np.abs(distance - 0.012) - 0.006, 0.016) * brain
    paint(signal, FLUID + 0.08, 0.6 * rim)
    tone = 0.50 + 0.42 * lesion.contrast + 0.02 * area.sulcus
    if lesion.necrosis > 0.02:
        tone = tone - 0.5 * lesion.necrosis * inside(gap - 0.4 * radius, 0.08)
    if lesion.kind == "meningioma":
        strip = inside(np.abs(area.radius - (BRAIN_EDGE - 0.006)) - 0.010, 0.014)
        paint(signal, 0.8, lesion.contrast * strip * np.clip(2.0 - gap / radius, 0.0, 1.0))
    cover = inside(distance, 0.02) * brain
    paint(signal, tone, cover)
    return signal, cover


def _lobes(dx: Field, dy: Field, gap: Field, lesion: Lesion) -> Field:
    """Return a smooth function of the direction from the lesion's middle: its lobes, with amplitudes of about 1."""
    cosine, sine = dx / (gap + 1e-6), dy / (gap + 1e-6)
    total = np.zeros_like(gap)
    c, s = cosine, sine
    for order, (amplitude, phase) in enumerate(lesion.lobes, start=2):
        c, s = c * cosine - s * sine, s * cosine + c * sine
        total += (amplitude / order) * (c * float(np.cos(phase)) + s * float(np.sin(phase)))
    return total


def _draw_ring(area: Region, lesion: Lesion, *, distance: Field, bumps: Field, radius: float, brain: Field) -> Field:
    """Draw a dark core behind a bright rim of uneven thickness; return the cover."""
    cover = inside(distance, 0.04) * brain
    uneven = 0.34 + 0.14 * area.gyrus + 0.12 * area.sulcus - 0.10 * bumps
    core = inside(distance + radius * (1.5 - lesion.necrosis) * np.clip(uneven, 0.10, 0.9), 0.035)
    rim = 0.46 + 0.46 * lesion.contrast * (0.80 + 0.22 * area.sulcus)
    paint(area.signal, rim + core * lesion.necrosis * (0.20 + 0.04 * area.sulcus - rim), cover)
    return cover
