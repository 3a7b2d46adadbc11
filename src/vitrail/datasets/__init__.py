"""Images in: one file per reader, one for the layout of a data set, one for the pass over its bytes, and the phantom."""

from vitrail.datasets.decoded import Decoded
from vitrail.datasets.derived import DERIVED
from vitrail.datasets.facts import FACTS, THUMBNAIL_SIZE
from vitrail.datasets.fetch import FRIENDLY_NAMES, fetch
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
    "name_patients",
    "propose_patient_keys",
    "read_answer_key",
    "read_image",
    "scan_folder",
    "suffix_of",
]
