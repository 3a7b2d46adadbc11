"""The phantom: brain-like MR slices with known lesions and planted faults, drawn from nothing but a seed.

``make`` writes a data set; ``patient`` draws who is scanned; ``anatomy``, ``lesions`` and ``fields`` draw what is seen and
``scanner`` how; ``faults`` lists what is spoilt on purpose, on the ``bench``: ``copies``, ``files``, ``contents``, ``classes``.
"""

from vitrail.datasets.phantom.bench import PhantomImage, PlantedFault
from vitrail.datasets.phantom.faults import FAULT_KINDS, FaultKind
from vitrail.datasets.phantom.make import AnswerKey, PhantomSettings, make_phantom, read_answer_key

__all__ = [
    "FAULT_KINDS",
    "AnswerKey",
    "FaultKind",
    "PhantomImage",
    "PhantomSettings",
    "PlantedFault",
    "make_phantom",
    "read_answer_key",
]
