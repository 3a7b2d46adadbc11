"""Images in: one file per reader, one for the layout of a data set, one for the pass over its bytes, and the phantom.

What is named here loads when it is first asked for: the processes that read images need the readers and nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitrail.datasets.decoded import Decoded
    from vitrail.datasets.derived import DERIVED, masked_stem
    from vitrail.datasets.facts import FACTS, THUMBNAIL_SIZE
    from vitrail.datasets.fetching import FRIENDLY_NAMES, fetch
    from vitrail.datasets.folder import find_layout
    from vitrail.datasets.images import FORMATS, SUFFIXES, read_image, suffix_of
    from vitrail.datasets.layout import PART_NAMES
    from vitrail.datasets.patients import PatientKey, name_patients, propose_patient_keys
    from vitrail.datasets.phantom import (
        FAULT_KINDS,
        AnswerKey,
        PhantomImage,
        PhantomSettings,
        PlantedFault,
        make_phantom,
        read_answer_key,
    )
    from vitrail.datasets.scan import scan_folder

__all__ = [
    "DERIVED",
    "FACTS",
    "FAULT_KINDS",
    "FORMATS",
    "FRIENDLY_NAMES",
    "PART_NAMES",
    "SUFFIXES",
    "THUMBNAIL_SIZE",
    "AnswerKey",
    "Decoded",
    "PatientKey",
    "PhantomImage",
    "PhantomSettings",
    "PlantedFault",
    "fetch",
    "find_layout",
    "make_phantom",
    "masked_stem",
    "name_patients",
    "propose_patient_keys",
    "read_answer_key",
    "read_image",
    "scan_folder",
    "suffix_of",
]

_NAMES = {
    "decoded": ("Decoded",),
    "derived": ("DERIVED", "masked_stem"),
    "facts": ("FACTS", "THUMBNAIL_SIZE"),
    "fetching": ("FRIENDLY_NAMES", "fetch"),
    "folder": ("find_layout",),
    "images": ("FORMATS", "SUFFIXES", "read_image", "suffix_of"),
    "layout": ("PART_NAMES",),
    "patients": ("PatientKey", "name_patients", "propose_patient_keys"),
    "phantom": (
        "FAULT_KINDS",
        "AnswerKey",
        "PhantomImage",
        "PhantomSettings",
        "PlantedFault",
        "make_phantom",
        "read_answer_key",
    ),
    "scan": ("scan_folder",),
}


def __getattr__(name: str) -> object:
    """Load what is asked for (PEP 562)."""
    home = next((home for home, names in _NAMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"vitrail.datasets.{home}"), name)
