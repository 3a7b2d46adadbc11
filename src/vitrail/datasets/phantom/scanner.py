"""From a patient to pixels: the head is drawn, shaded by the coil, blurred by noise and windowed to 8 bits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vitrail.datasets.phantom import anatomy, lesions
from vitrail.datasets.phantom.fields import Field, smooth_field
from vitrail.datasets.phantom.patient import Lesion, Patient
from vitrail.records import ByteArray


@dataclass(frozen=True)
class Slice:
    """One image and its truth.

    Attributes:
        pixels: Grey values, uint8 of shape (rows, columns).
        lesion: Where the lesion is (oedema left out), boolean of shape (rows, columns).
    """

    pixels: ByteArray
    lesion: npt.NDArray[np.bool_]


def scan(patient: Patient, *, number: int, slices: int, with_lesion: bool = True) -> Slice:
    """Draw one slice of a patient.

    Args:
        patient: Who lies in the scanner.
        number: Which slice, from 0.
        slices: Number of slices in the stack.
        with_lesion: ``False`` draws the same slice as if the patient had no lesion: the counterfactual.
    """
    progress = 0.0 if slices == 1 else 2.0 * number / (slices - 1) - 1.0
    own = np.random.default_rng((*patient.seed, 1))
    places, head = anatomy.lay_out_head(patient, own, progress=progress)
    lesion = patient.lesion if with_lesion else None
    _draw_head(head, patient, lesion, progress=progress)
    truth = np.zeros((patient.rows, patient.columns), dtype=bool)
    if lesion is not None:
        reach = 2.6 * lesion.radius
        near = np.flatnonzero((np.abs(head.across - lesion.across) < reach) & (np.abs(head.along - lesion.along) < reach))
        head.signal[near], cover = lesions.draw_lesion(head.part(near), lesion, progress=progress)
        truth.ravel()[places[near[cover > 0.5]]] = True
    signal = np.full((patient.rows, patient.columns), anatomy.AIR, dtype=np.float32)
    signal.ravel()[places] = head.signal
    signal *= 1.0 + patient.shading * smooth_field(own, patient.rows, patient.columns, waves=2)
    own = np.random.Generator(np.random.SFC64((*patient.seed, 2, number)))
    image = add_noise(signal, own, deviation=patient.noise * anatomy.WHITE)
    image *= patient.brightness / float(image.mean())
    image += 0.5
    return Slice(np.minimum(image, 255.0, out=image).astype(np.uint8), truth)


def _draw_head(head: anatomy.Region, patient: Patient, lesion: Lesion | None, *, progress: float) -> None:
    """Draw the anatomy into ``head.signal``, pushed aside where there is a lesion."""
    outer = np.flatnonzero(head.radius > 0.83)
    head.signal[outer] = anatomy.draw_wall(head.part(outer))
    bent = anatomy.bend(head if lesion is None else lesions.push_aside(head, lesion, progress=progress))
    brain = np.flatnonzero(head.radius < 0.88)
    head.signal[brain] = anatomy.draw_cortex(bent.part(brain), patient)
    core = np.abs(bent.across) < 0.46
    if patient.level == "ventricles":
        deep = np.flatnonzero(core & (np.abs(bent.along + 0.02) < 0.56))
        head.signal[deep] = anatomy.draw_ventricles(bent.part(deep), patient, progress=progress)
        return
    inner = head.radius < 0.88
    back = np.flatnonzero(inner & (bent.along > 0.08))
    head.signal[back] = anatomy.draw_cerebellum(bent.part(back), patient, progress=progress)
    middle = np.flatnonzero(inner & (np.abs(bent.along + 0.18) < 0.26))
    head.signal[middle] = anatomy.draw_sylvian_fissures(bent.part(middle), patient)
    deep = np.flatnonzero(core & (np.abs(bent.along) < 0.34))
    head.signal[deep] = anatomy.draw_stem(bent.part(deep), patient, progress=progress)
    if patient.height < 0.45:
        front = np.flatnonzero((bent.along < -0.3) & (np.abs(bent.across) < 0.55))
        head.signal[front] = anatomy.draw_orbits(bent.part(front))


def add_noise(signal: Field, rng: np.random.Generator, *, deviation: float) -> Field:
    """Return the magnitude of ``signal`` after Gaussian noise in both channels of the receiver.

    The result follows the Rician distribution (Gudbjartsson & Patz 1995): in air the mean is deviation * sqrt(pi / 2), not 0.
    The pair of Gaussians comes in polar form (Box & Muller 1958), so that only its length and one cosine are needed:
    |signal + noise|^2 = signal^2 + 2 signal length cos(angle) + length^2.
    """
    share, turn = rng.random((2, *signal.shape), dtype=np.float32)
    length_squared = np.log1p(-share)
    length_squared *= -2.0 * deviation**2
    turn *= 2.0 * np.pi
    np.cos(turn, out=turn)
    turn *= np.sqrt(length_squared)
    turn *= 2.0
    turn += signal
    turn *= signal
    turn += length_squared
    # Rounding can leave a sum that is zero in truth a little below it.
    magnitude: Field = np.sqrt(np.maximum(turn, 0.0, out=turn), out=turn)
    return magnitude
