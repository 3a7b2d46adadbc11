"""The phantom: brain-like MR slices with known lesions and planted faults, drawn from nothing but a seed.

``make`` writes a data set; ``patient`` draws who is scanned; ``anatomy``, ``lesions`` and ``fields`` draw what is seen and
``scanner`` how; ``faults`` spoils some of it on purpose.
"""

from vitrail.datasets.phantom.faults import FAULT_KINDS, PhantomImage, PlantedFault
from vitrail.datasets.phantom.make import AnswerKey, PhantomSettings, make_phantom, read_answer_key

__all__ = [
    "FAULT_KINDS",
    "AnswerKey",
    "PhantomImage",
    "PhantomSettings",
    "PlantedFault",
    "make_phantom",
    "read_answer_key",
]
