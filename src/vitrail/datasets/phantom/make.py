"""The phantom: brain-like MR slices of four classes with known truth and known faults, drawn on the spot.

    >>> key = make_phantom(Path("phantom"), PhantomSettings(patients_per_class=8, faults={}))

    phantom/
        images/{Training,Testing}/<class>/patient012_slice03.jpg    what a data set looks like
        masks/patient012_slice03.png                                where the lesion is (0 or 255), for images that have one
        answer_key.json                                             what is true, and what was made wrong on purpose

The pictures are for demonstrations, tests and benchmarks; nobody's brain is in them. Training and test patients differ, file
names and everything but the lesion are drawn alike for all classes, with one exception that is anatomy: a pituitary mass is
seen at the base of the skull only, where half the slices of the other classes lie.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from vitrail.datasets.phantom.bench import Bench, PhantomImage, PlantedFault, encode_jpeg, encode_mask, image_path
from vitrail.datasets.phantom.faults import FAULT_KINDS, plant_faults
from vitrail.datasets.phantom.patient import CLASSES, Patient, draw_patient
from vitrail.datasets.phantom.scanner import scan
from vitrail.engine import map_in_order
from vitrail.errors import OutputError, UsageError
from vitrail.progress import SILENT, Progress
from vitrail.records import ByteArray
from vitrail.storage import read_record, whole_folder, write_record

ANSWER_KEY = "answer_key.json"


def usual_faults() -> dict[str, int]:
    """Return the number of faults of every kind that a phantom has unless something else is asked for."""
    return {name: kind.usual for name, kind in FAULT_KINDS.items()}


@dataclass(frozen=True)
class PhantomSettings:
    """What to draw. The same settings give the same bytes (on one machine, with one version of the libraries).

    Attributes:
        patients_per_class: Patients of each of the four classes, both parts together; at least 2.
        slices_per_patient: Neighbouring slices of each patient, 1 to 99.
        size: Usual side of the images in pixels, 64 to 1024; a patient's sides lie between 0.95 and 1.22 times that.
        test_share: Share of each class's patients in the test part; each part gets at least one.
        quality: JPEG quality of the images, 1 to 95.
        seed: 0 or more.
        faults: How many faults of which kind (keys of ``FAULT_KINDS``); ``{}`` for a clean phantom. The images that no fault
            concerns do not change with it.
    """

    patients_per_class: int = 32
    slices_per_patient: int = 4
    size: int = 208
    test_share: float = 0.25
    quality: int = 90
    seed: int = 0
    faults: dict[str, int] = field(default_factory=usual_faults)

    def __post_init__(self) -> None:
        _check("patients_per_class", self.patients_per_class, 2, 100_000)
        _check("slices_per_patient", self.slices_per_patient, 1, 99)
        _check("size", self.size, 64, 1024)
        _check("test_share", self.test_share, 0.0, 1.0)
        _check("quality", self.quality, 1, 95)
        _check("seed", self.seed, 0, 2**31)
        for kind, count in self.faults.items():
            if kind not in FAULT_KINDS:
                raise UsageError(f"phantom: unknown kind of fault {kind!r}. Known: {', '.join(FAULT_KINDS)}.")
            _check(f"faults[{kind!r}]", count, 0, 100_000)

    @property
    def test_patients_per_class(self) -> int:
        """Patients of each class in the test part."""
        return min(max(round(self.test_share * self.patients_per_class), 1), self.patients_per_class - 1)


@dataclass(frozen=True)
class AnswerKey:
    """What is true about a phantom.

    Attributes:
        settings: What it was drawn from.
        images: Every file of the image tree, in the order of their paths.
        faults: Everything that was made wrong on purpose; empty for a clean phantom.
    """

    settings: PhantomSettings
    images: tuple[PhantomImage, ...]
    faults: tuple[PlantedFault, ...]

    def of_kind(self, kind: str) -> tuple[PlantedFault, ...]:
        """Return the faults of one kind."""
        return tuple(fault for fault in self.faults if fault.kind == kind)

    def image(self, path: str) -> PhantomImage:
        """Return the image at ``path``.

        Raises:
            KeyError: There is none.
        """
        for image in self.images:
            if image.path == path:
                return image
        raise KeyError(path)


def make_phantom(folder: Path, settings: PhantomSettings | None = None, *, progress: Progress = SILENT) -> AnswerKey:
    """Draw a phantom, plant its faults and write it, whole or not at all.

    Args:
        folder: Where to write; must not exist or be empty.
        settings: What to draw; ``None`` means the usual settings.
        progress: Told about every image.

    Returns:
        What is true about it, as written to ``answer_key.json``.

    Raises:
        OutputError: The folder holds something or cannot be written.
        UsageError: There are more faults than images to plant them in.
    """
    settings = settings or PhantomSettings()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(
            f"{folder}: a phantom is only written to a new or empty folder, and this one holds something. Choose another."
        )
    patients = _draw_patients(settings)
    with whole_folder(folder) as temporary:
        images = _write_images(temporary, settings, patients, progress)

        def render(image: PhantomImage) -> ByteArray:
            patient = patients[image.patient].patient
            return scan(patient, number=image.slice - 1, slices=settings.slices_per_patient).pixels

        bench = Bench(temporary, images, render, settings.quality, np.random.default_rng(settings.seed))
        faults = plant_faults(bench, settings.faults, seed=settings.seed)
        key = AnswerKey(settings, tuple(sorted(bench.images, key=lambda image: image.path)), tuple(faults))
        write_record(temporary / ANSWER_KEY, key)
    return key


def read_answer_key(folder: Path) -> AnswerKey:
    """Read what is true about the phantom in ``folder``.

    Raises:
        UsageError: There is no phantom in the folder.
    """
    path = folder / ANSWER_KEY
    if not path.is_file():
        raise UsageError(f"{path}: there is no answer key, so this is no phantom's folder. Make one with `vitrail demo`.")
    return read_record(path, AnswerKey)


@dataclass(frozen=True)
class _Case:
    """A patient and where the images go."""

    patient: Patient
    number: int
    label: str
    part: Literal["train", "test"]


def _draw_patients(settings: PhantomSettings) -> dict[int, _Case]:
    """Return the cases by patient number. Numbers are dealt at random, so that they tell neither class nor part."""
    deal = np.random.default_rng((settings.seed, 0)).permutation(len(CLASSES) * settings.patients_per_class) + 1
    cases = {}
    for place, number in enumerate(deal.tolist()):
        label, within = CLASSES[place % len(CLASSES)], place // len(CLASSES)
        test = within < settings.test_patients_per_class
        patient = draw_patient(label, seed=(settings.seed, 2, number), size=settings.size, low=within % 2 == 1)
        cases[number] = _Case(patient, number, label, "test" if test else "train")
    return cases


def _write_images(folder: Path, settings: PhantomSettings, cases: dict[int, _Case], progress: Progress) -> list[PhantomImage]:
    """Draw and write every slice of every patient; return what was written."""

    def draw(case: _Case) -> list[tuple[PhantomImage, bytes, bytes]]:
        drawn = []
        for number in range(1, settings.slices_per_patient + 1):
            result = scan(case.patient, number=number - 1, slices=settings.slices_per_patient)
            path = image_path(case.part, case.label, patient=case.number, number=number)
            mask = f"masks/{Path(path).stem}.png" if case.patient.lesion else None
            image = PhantomImage(path, case.label, case.label, case.part, case.number, number, mask)
            drawn.append(
                (image, encode_jpeg(result.pixels, quality=settings.quality), encode_mask(result.lesion) if mask else b"")
            )
        return drawn

    images = []
    (folder / "masks").mkdir()
    with progress.task("Drawing the phantom", len(cases) * settings.slices_per_patient) as advance:
        for drawn in map_in_order(draw, cases.values()):
            for image, picture, mask in drawn:
                path = folder / "images" / image.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(picture)
                if image.mask is not None:
                    (folder / image.mask).write_bytes(mask)
                images.append(image)
            advance(len(drawn))
    return images


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"phantom: {name} must be between {low} and {high}. Found: {value}.")
