"""vitrail: from a folder of medical images to a classifier that a careful person can question.

The public names are loaded when they are first used: ``import vitrail`` takes milliseconds, and serving a model package
never loads what only training needs.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vitrail.answers import explain
    from vitrail.datasets import PhantomSettings, make_phantom
    from vitrail.models import load_package
    from vitrail.pipeline import run
    from vitrail.study import Study

    __version__: str

__all__ = ["PhantomSettings", "Study", "__version__", "explain", "load_package", "make_phantom", "run"]

# Threads of numerical libraries wait for their next work without burning their core, unless the user has said how they shall
# wait. By default those of GNU OpenMP (torch) and of OpenBLAS (NumPy) turn for a long time, on cores that another library or
# another process wants: training steps of a small network took 4 to 8 times as long beside other work on two cores, a network in
# ONNX Runtime half as long again after a product in NumPy. Each library reads this once, when it is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

_HOMES = {
    "PhantomSettings": "vitrail.datasets",
    "Study": "vitrail.study",
    "explain": "vitrail.answers",
    "load_package": "vitrail.models",
    "make_phantom": "vitrail.datasets",
    "run": "vitrail.pipeline",
}
"""Public name -> the module that it comes from."""


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("vitrail")
    elif name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'vitrail' has no attribute {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
