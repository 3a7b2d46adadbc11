"""The catalogue of planted faults. A new kind is one function, in the file of its family, and one line in :data:`FAULT_KINDS`."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vitrail.datasets.phantom import classes, contents, copies, files
from vitrail.datasets.phantom.bench import Bench, PlantedFault


@dataclass(frozen=True)
class FaultKind:
    """A kind of fault.

    Attributes:
        plant: Plants so many faults of the kind on a bench and says which.
        usual: How many are planted unless something else is asked for.
        codes: Codes of the audit's checks: the first must find it, the others may name its files too, with good reason.
        unit: What is counted: ``file`` (single files), ``group`` (files that belong together: an original and its copy, the
            slices of a patient) or ``class`` (a shortcut that gives a whole class away).
    """

    plant: Callable[[Bench, int], list[PlantedFault]]
    usual: int
    codes: tuple[str, ...]
    unit: Literal["file", "group", "class"] = "file"


FAULT_KINDS: dict[str, FaultKind] = {
    "exact_copy": FaultKind(copies.plant_exact_copies, 6, ("DUP201",), "group"),
    "exact_copy_across_split": FaultKind(copies.plant_exact_copies_across_split, 5, ("LEAK301", "DUP201"), "group"),
    "conflicting_copy": FaultKind(copies.plant_conflicting_copies, 2, ("LBL401", "DUP201"), "group"),
    "mirrored_copy_across_split": FaultKind(copies.plant_mirrored_copies_across_split, 2, ("LEAK302", "DUP203"), "group"),
    "truncated_file": FaultKind(files.plant_truncated_files, 1, ("IO101",)),
    "empty_file": FaultKind(files.plant_empty_files, 1, ("IO103",)),
    "not_an_image": FaultKind(files.plant_texts_named_as_images, 1, ("IO103",)),
    "swapped_label": FaultKind(contents.plant_swapped_labels, 2, ("LBL402",)),
    "mirrored_copy": FaultKind(copies.plant_mirrored_copies, 2, ("DUP203",), "group"),
    "rotated_copy": FaultKind(copies.plant_rotated_copies, 1, ("DUP203", "LBL404"), "group"),
    "reencoded_copy": FaultKind(copies.plant_reencoded_copies, 2, ("DUP202",), "group"),
    "brightness_copy": FaultKind(copies.plant_brightness_copies, 1, ("DUP202",), "group"),
    "cropped_copy": FaultKind(copies.plant_cropped_copies, 1, ("DUP202",), "group"),
    "near_copy_across_split": FaultKind(copies.plant_near_copies_across_split, 2, ("LEAK302", "DUP202", "DUP203"), "group"),
    "same_patient_across_split": FaultKind(copies.plant_patients_across_split, 1, ("LEAK303",), "group"),
    "derived_mask": FaultKind(files.plant_derived_masks, 1, ("IO104", "LBL404", "QLT601", "QLT602")),
    "misnamed_image": FaultKind(files.plant_misnamed_images, 0, ("IO102",)),
    "odd_form": FaultKind(files.plant_odd_forms, 0, ("IO105",)),
    "personal_exif": FaultKind(files.plant_personal_exif, 1, ("PHI703",)),
    "blank_image": FaultKind(contents.plant_blank_images, 1, ("QLT601", "LBL404")),
    "blurred_image": FaultKind(contents.plant_blurred_images, 1, ("QLT603", "LBL404")),
    "burned_in_text": FaultKind(contents.plant_burned_in_texts, 1, ("PHI702", "LBL404")),
    "off_topic": FaultKind(contents.plant_off_topic_images, 1, ("LBL404", "PHI702", "QLT602", "QLT603")),
    "corner_mark": FaultKind(classes.plant_corner_marks, 1, ("SHC504", "SHC502", "SHC503", "PHI702"), "class"),
    "jpeg_quality_by_class": FaultKind(classes.plant_qualities_by_class, 0, ("SHC506", "SHC501", "SHC503"), "class"),
    "size_by_class": FaultKind(classes.plant_sizes_by_class, 0, ("SHC501", "SHC502", "SHC503", "SHC506"), "class"),
}
"""In the order in which they are planted; those that count classes come last because they take what the others left."""


def plant_faults(bench: Bench, counts: dict[str, int], *, seed: int) -> list[PlantedFault]:
    """Plant so many faults of each kind, in the order of :data:`FAULT_KINDS`.

    Raises:
        UsageError: There are not enough images.
    """
    planted: list[PlantedFault] = []
    for name, kind in FAULT_KINDS.items():
        if counts.get(name, 0):
            bench.rng = np.random.default_rng((seed, 1, zlib.crc32(name.encode())))
            planted += kind.plant(bench, counts[name])
    return planted
