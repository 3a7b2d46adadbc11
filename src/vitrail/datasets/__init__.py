"""Images in: one file per reader, one for the layout of a data set, one for the pass over its bytes, and the phantom."""

from vitrail.datasets.folder import find_layout
from vitrail.datasets.phantom import (
    FAULT_KINDS,
    AnswerKey,
    PhantomImage,
    PhantomSettings,
    PlantedFault,
    make_phantom,
    read_answer_key,
)
from vitrail.datasets.raster import FORMATS, THUMBNAIL_SIZE, Decoded, read_image
from vitrail.datasets.scan import scan_folder

__all__ = [
    "FAULT_KINDS",
    "FORMATS",
    "THUMBNAIL_SIZE",
    "AnswerKey",
    "Decoded",
    "PhantomImage",
    "PhantomSettings",
    "PlantedFault",
    "find_layout",
    "make_phantom",
    "read_answer_key",
    "read_image",
    "scan_folder",
]
