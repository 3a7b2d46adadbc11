"""The catalogue: which families of models there are. A new family is one file beside this one and one line in ``FAMILIES``.

A family says how it is trained by what it offers:

* ``grown``: hand-made features, fitted in one go (forest, boosted, svm): ``embedder``, ``fit``, ``describe``;
* ``probe``: frozen pretrained features and a trained head: ``embedder``, ``fit_linear``, ``describe``;
* ``network``: everything trained epoch by epoch from pixels: ``build``, ``describe``;
* ``ensemble``: not trained; averages the scores of other models: ``describe``.

Where some settings cannot be built, it also offers ``check``, which says so before any work is done.
"""

from __future__ import annotations

import importlib
from typing import Any, Literal, NamedTuple

from vitrail.errors import Problem, StudyError
from vitrail.models.continued import check_continued, continued_identity
from vitrail.preprocess import missing_for
from vitrail.study import ModelSettings, PreprocessSettings


class Family(NamedTuple):
    """One line of the catalogue.

    Attributes:
        module: Where it lives; imported only when used, because torch and scikit-learn take seconds to load.
        training: How it is trained.
    """

    module: str
    training: Literal["grown", "probe", "network", "ensemble"]


FAMILIES: dict[str, Family] = {
    "forest": Family("vitrail.models.forest", "grown"),
    "boosted": Family("vitrail.models.boosted", "grown"),
    "svm": Family("vitrail.models.svm", "grown"),
    "probe": Family("vitrail.models.probe", "probe"),
    "cnn": Family("vitrail.models.cnn", "network"),
    "finetune": Family("vitrail.models.finetune", "network"),
    "transformer": Family("vitrail.models.transformer", "network"),
    "ensemble": Family("vitrail.models.ensemble", "ensemble"),
}


def family_module(name: str) -> Any:
    """Import and return the module of a family."""
    return importlib.import_module(FAMILIES[name].module)


def stops_early(settings: ModelSettings) -> bool:
    """Return whether a model is trained epoch by epoch, with validation images that say when to stop."""
    layers = getattr(settings, "dense", ()) or getattr(settings, "head", ())
    return FAMILIES[settings.model].training == "network" or (FAMILIES[settings.model].training == "probe" and bool(layers))


def describe(settings: ModelSettings) -> str:
    """Return one line that a reader understands, for tables."""
    return str(family_module(settings.model).describe(settings))


def identity(settings: ModelSettings) -> object:
    """Return what a model is made of beside its settings and vitrail's code, as plain data: the hashes of its weights on disk."""
    module = family_module(settings.model)
    own, before = module.identity(settings) if hasattr(module, "identity") else None, continued_identity(settings)
    return own if before is None else [own, before]


def check_model(settings: ModelSettings, preprocess: PreprocessSettings) -> None:
    """Find out early whether a model can be built, before hours of work.

    Args:
        settings: The model; its training resolved, :meth:`vitrail.study.Study.training_for`.
        preprocess: Resolved for it: :meth:`vitrail.study.Study.preprocess_for`.

    Raises:
        StudyError: It cannot, and why.
    """
    if missing := missing_for(preprocess.bias_correction):
        key = f"models.{settings.name or settings.model}.preprocess.bias_correction"
        raise StudyError("study", (Problem(key, f"{missing}, or choose none.", "n4"),))
    module = family_module(settings.model)
    if hasattr(module, "check"):
        module.check(settings, preprocess)
    check_continued(settings, preprocess)
