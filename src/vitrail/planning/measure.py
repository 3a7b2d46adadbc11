"""Short timings of every candidate on this machine, with the code that the run will use, within a few seconds each.

Times are rounded up to a grid and kept: the next plan of the same data set reads them, and where it is told to measure anew, what
has not clearly moved stays as it was. So no decision hangs on noise.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitrail.engine import memory_kept
from vitrail.errors import VitrailError
from vitrail.models import FAMILIES, family_module
from vitrail.planning.budget import on_grid, settled
from vitrail.planning.plan import Timing
from vitrail.preprocess import make_recipe, normalise, pixel_batches
from vitrail.progress import SILENT, Progress
from vitrail.records import ByteArray, IntArray, Manifest, Recipe, Split
from vitrail.storage import read_record, write_record
from vitrail.study import ModelSettings, Study, TrainingSettings
from vitrail.training.train import OPEN_SIZE, augmentation_of

if TYPE_CHECKING:
    from vitrail.training.examples import PixelExamples
    from vitrail.training.frozen import FrozenExamples

SAMPLE = 48
"""Training images that are tried, spread over the classes; more where there are many classes."""
STEP_SECONDS = 2.0
"""Steps of a network are repeated for so long, at least once after a first that does not count."""
REFERENCE_PACE = 0.030
"""Seconds that :func:`pace` takes on one undisturbed core of an ordinary server."""
FLOAT = 4
"""Bytes of a number."""

_TIMES = ("prepare", "embed", "start", "fit", "once")


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is kept of a plan's measurements.

    Attributes:
        timings: Model -> what was measured.
        failures: Model -> why it cannot be measured, and so not planned.
        pace: How many times slower than an ordinary server this machine was.
        audit: Seconds that reading and auditing the images took.
        planning: Seconds that measuring took.
    """

    timings: dict[str, Timing]
    failures: dict[str, str]
    pace: float
    audit: float
    planning: float


def load_measured(path: Path) -> Measured | None:
    """Return kept measurements; ``None`` where there are none, or none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        return read_record(path, Measured)
    return None


def measure(
    study: Study,
    manifest: Manifest,
    split: Split,
    *,
    audit_seconds: float,
    limit: float,
    kept: Measured | None,
    path: Path,
    cache: Path,
    progress: Progress = SILENT,
) -> Measured:
    """Time every candidate.

    Args:
        study: With every candidate, at its planned image size and batch.
        manifest: The data set.
        split: Only its training images are opened.
        audit_seconds: What reading and auditing took.
        limit: Seconds after which no further candidate is begun; the first is always measured.
        kept: Earlier measurements of the same, for what has not clearly moved.
        path: Where the result is kept.
        cache: Folder of the caches; an exported backbone stays there for the run.
        progress: Told of every candidate.
    """
    started = time.monotonic()
    timings: dict[str, Timing] = {}
    failures: dict[str, str] = {}
    rows = sample_rows(manifest, split)
    images = len(split.rows("train")) + len(split.rows("validation"))
    with progress.task("Planning: measuring", len(study.models)) as advance:
        for settings in study.models:
            if not timings or time.monotonic() - started < limit:
                try:
                    timings[settings.name] = _timing(settings, study, manifest, rows, cache, images=images)
                except VitrailError as error:  # weights that cannot be had, an image size that does not go
                    failures[settings.name] = " ".join(str(error).split())
            advance(1, settings.name)
    own_pace = pace() / REFERENCE_PACE
    found = Measured(timings, failures, own_pace, audit_seconds, time.monotonic() - started)
    found = steady(found, kept)
    write_record(path, found)
    return found


def steady(found: Measured, kept: Measured | None) -> Measured:
    """Return measurements on the grid; what has not clearly moved since they were last kept stays as it was."""

    def time_of(new: float, old: float | None) -> float:
        return on_grid(new) if old is None else settled(on_grid(new), old)

    timings = {}
    for name, timing in found.timings.items():
        old = kept.timings.get(name) if kept else None
        comparable = old if old is not None and old.size == timing.size else None
        values = {key: time_of(getattr(timing, key), getattr(comparable, key) if comparable else None) for key in _TIMES}
        kept_check = comparable.check if comparable else None
        check = None if timing.check is None else time_of(timing.check, kept_check)
        timings[name] = dataclasses.replace(
            timing,
            prepare=values["prepare"],
            embed=values["embed"],
            start=values["start"],
            fit=values["fit"],
            once=values["once"],
            check=check,
        )
    others = {key: time_of(getattr(found, key), getattr(kept, key) if kept else None) for key in ("pace", "audit", "planning")}
    return Measured(timings, found.failures, **others)


def sample_rows(manifest: Manifest, split: Split) -> IntArray:
    """Return training images spread evenly over the classes, the same for the same split."""
    rows = split.rows("train")
    labels = manifest.labels[rows]
    each = max(2, SAMPLE // len(manifest.classes))
    parts = [
        members[:: max(1, len(members) // each)][:each] for label in np.unique(labels) if len(members := rows[labels == label])
    ]
    return np.concatenate(parts)


def pace() -> float:
    """Return the seconds of a small task that is always the same: sorting, products and plain Python in turns."""
    seconds = []
    for _ in range(5):
        started = time.monotonic()
        numbers = np.random.default_rng(0).normal(size=(300, 300))
        for _ in range(4):
            numbers = np.sort(numbers @ numbers.T / 300, axis=0)
        sum(number * number for number in range(100_000))
        seconds.append(time.monotonic() - started)
    return statistics.median(seconds)


# ---------------------------------------------------------------------------------------------------- one model


def _timing(settings: ModelSettings, study: Study, manifest: Manifest, rows: IntArray, cache: Path, *, images: int) -> Timing:
    match FAMILIES[settings.model].training:
        case "grown":
            embedder = family_module(settings.model).embedder(
                settings, make_recipe(study.preprocess_for(settings), size=OPEN_SIZE)
            )
            return _fitted(settings, study, manifest, rows, embedder)
        case "probe":
            embedder = family_module(settings.model).embedder(settings, study.preprocess_for(settings), cache=cache)
            return _fitted(settings, study, manifest, rows, embedder)
        case "network":
            return _network(settings, study, manifest, rows, cache, images=images)
        case "ensemble":
            raise ValueError(f"{settings.name}: an ensemble is made of models that are timed themselves")


def _prepared(manifest: Manifest, rows: IntArray, recipe: Recipe) -> tuple[ByteArray, float]:
    """Return some images prepared, and the seconds that one took."""
    started = time.monotonic()
    pixels = np.concatenate(list(pixel_batches(manifest, rows, recipe, batch_size=len(rows))))
    return pixels, (time.monotonic() - started) / len(rows)


def _fitted(settings: Any, study: Study, manifest: Manifest, rows: IntArray, embedder: Any) -> Timing:
    """Time a family that is fitted in one go: features of the sample, then the fit on two sizes of sets made from them."""
    family = family_module(settings.model)
    for library in ("sklearn.ensemble", "sklearn.decomposition", "sklearn.linear_model", "skl2onnx"):  # loading is no fitting
        importlib.import_module(library)
    pixels, prepare = _prepared(manifest, rows, embedder.recipe)
    embedder.embed(pixels[:2])  # the first call loads libraries
    started = time.monotonic()
    vectors = embedder.embed(pixels)
    embed = (time.monotonic() - started) / len(rows)
    labels = np.unique(manifest.labels[rows], return_inverse=True)[1].astype(np.int64)
    weighted = study.training_for(settings).imbalance == "weights"

    def fit(times: int) -> float:
        noise = np.random.default_rng(times).normal(size=(times * len(rows), vectors.shape[1]))
        many = (np.tile(vectors, (times, 1)) + noise * vectors.std(axis=0)).astype(np.float32)
        truth, groups = np.tile(labels, times), np.arange(len(many))
        started = time.monotonic()
        if settings.model == "probe":
            family.fit_linear(settings, many, truth, class_weights=weighted)
        else:
            family.fit(settings, many, truth, groups=groups, class_weights=weighted, seed=study.seed)
        return time.monotonic() - started

    with _quiet():
        small, large = fit(1), fit(4)
    of_image = max(0.0, large - small) / (3 * len(rows))
    return Timing(
        size=embedder.recipe.size,
        prepare=prepare,
        embed=embed,
        start=max(0.0, small - of_image * len(rows)),
        fit=of_image,
        maps=settings.model == "probe" and embedder.pooling != "none",
        memory=_size_of(getattr(embedder, "path", None)),
        memory_image=5 * FLOAT * vectors.shape[1],  # as found, and twice in double precision while it is standardised
    )


def _network(settings: Any, study: Study, manifest: Manifest, rows: IntArray, cache: Path, *, images: int) -> Timing:
    """Time steps of a network in the fit loop itself, on what frozen layers gave where training keeps that, and its forward pass.

    Epochs at the start in which only the head learns count as long as the others.
    """
    import torch

    from vitrail.training.examples import PixelExamples
    from vitrail.training.fit import fit
    from vitrail.training.frozen import frozen_once

    family = family_module(settings.model)
    preprocess, training = study.preprocess_for(settings), study.training_for(settings)
    recipe = family.recipe(settings, preprocess) if hasattr(family, "recipe") else make_recipe(preprocess, size=OPEN_SIZE)
    pixels, prepare = _prepared(manifest, rows, recipe)
    classes = len(manifest.classes)
    one_phase = settings.model_copy(update={"head_epochs": 0}) if hasattr(settings, "head_epochs") else settings
    network = family.build(one_phase, recipe, classes=classes, seed=study.seed).to(memory_format=torch.channels_last)
    batch = training.batch_size or 16
    examples = PixelExamples(
        pixels,
        np.resize(np.arange(len(rows)), batch),
        np.arange(2),
        manifest.labels[rows],
        recipe=recipe,
        augmentation=augmentation_of(settings, study),
    )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".timing-", suffix=".partial") as place:
        folder = Path(place)

        def epochs(number: int) -> list[float]:
            wishes = {"epochs": number, "patience": number, "minutes": STEP_SECONDS / 60, "imbalance": "none", "warmup": 0}
            wishes["devices"] = 1  # several would take longer to start than to do these steps
            timed: TrainingSettings = training.model_copy(update=wishes)
            path = folder / f"timing-{number}.pt"
            done = fit(network, shown, classes=classes, settings=timed, seed=study.seed, checkpoint=path)
            return [epoch.seconds for epoch in done.epochs]

        frozen = frozen_once(network, examples, training, folder=folder, name=settings.name, progress=SILENT, images=images)
        with memory_kept(), frozen as shown:  # between the two trainings, too: the first steps of each would be slow otherwise
            epochs(1)
            step = statistics.median(epochs(20)) / batch
            once, check = _kept_part(network, examples, shown)
    few = min(len(rows), 16)
    started = time.monotonic()
    with torch.no_grad():
        network.eval()(torch.from_numpy(normalise(pixels[:few], recipe)))
    embed = (time.monotonic() - started) / few
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Timing(
        size=recipe.size,
        prepare=prepare,
        embed=embed,
        start=0.0,
        fit=step,
        maps=network.trunk.pooling != "none",
        memory=6 * FLOAT * parameters,  # weights, gradients, two moments of the optimiser, the best weights, a copy to save
        memory_image=2 * FLOAT * _activations(network, pixels[:2], recipe),  # each with its gradient
        once=once,
        check=check,
    )


def _kept_part(network: Any, examples: PixelExamples, shown: PixelExamples | FrozenExamples) -> tuple[float, float | None]:
    """Return the seconds that frozen layers take per image, and what comes after them; 0 and ``None`` where nothing is kept."""
    import torch

    from vitrail.training.frozen import BATCH, FrozenExamples

    if not isinstance(shown, FrozenExamples) or not shown.keeps:
        return 0.0, None
    some, nothing_drawn = np.arange(min(len(examples.training_labels), BATCH)), np.random.default_rng(0)
    started = time.monotonic()
    network.frozen_part(examples.training_batch(some, nothing_drawn))
    between = time.monotonic()
    with torch.no_grad():
        network.eval()(shown.training_batch(some, nothing_drawn))
    return (between - started) / len(some), (time.monotonic() - between) / len(some)


def _activations(network: Any, pixels: ByteArray, recipe: Recipe) -> int:
    """Return how many numbers the layers of a network give for one image."""
    import torch

    counts: list[int] = []

    def count(module: Any, inputs: Any, output: Any) -> None:  # noqa: ARG001 - the signature of a hook
        counts.append(output.numel() if isinstance(output, torch.Tensor) else 0)

    hooks = [module.register_forward_hook(count) for module in network.modules() if not list(module.children())]
    with torch.no_grad():
        network.eval()(torch.from_numpy(normalise(pixels, recipe)))
    for hook in hooks:
        hook.remove()
    return sum(counts) // len(pixels)


def _size_of(path: Path | None) -> int:
    return path.stat().st_size if path is not None else 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Warnings on made-up vectors (no convergence) are no concern of the person who waits."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
