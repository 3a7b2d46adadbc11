"""Do the maps of trained models point to the lesion? Every method and family on phantoms, of which it is known where it is.

Per seed a phantom is drawn, the models are trained through the public door, and every method that suits a model explains the
true class of the test images with a lesion that the model gets right. Beside the methods stand maps that know nothing of the
model; chance is the share of the image that the lesion takes.

    python benchmarks/localisation.py --seeds 2 --models forest,cnn,transformer

Pointing game: share of the maps whose strongest place lies in the lesion. Energy: share of the positive relevance in it. Means
over images with 95 % intervals that resample patients, over all seeds together.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vitrail import load_package
from vitrail.datasets import PhantomSettings, make_phantom
from vitrail.explanation import EXPLAINERS, defined_methods
from vitrail.explanation.grading.asking import method_of
from vitrail.explanation.grading.baselines import baseline_maps
from vitrail.explanation.grading.localisation import Localisation, localise, mask_at_input, read_mask
from vitrail.explanation.grading.means import mean_estimates
from vitrail.explanation.hunting.wording import in_numbers
from vitrail.models.package import ModelPackage
from vitrail.pipeline import run
from vitrail.records import Estimate, IntArray
from vitrail.study import Study

MODELS: dict[str, dict[str, Any]] = {
    "forest": {"model": "forest", "features": ["pixels"], "trees": 200},
    "cnn": {"model": "cnn", "filters": [16, 32, 64], "training": {"epochs": 20, "batch_size": 16}},
    "transformer": {
        "model": "transformer",
        "patch": 8,
        "dimension": 64,
        "depth": 3,
        "heads": 4,
        "training": {"epochs": 40, "batch_size": 16},
    },
}
DEAR = 700
"""Passes per map beyond which a method is left out unless ``--dear`` is given."""


@dataclass
class Rows:
    """What was measured of one method on one family, seed after seed."""

    pointing: list[npt.NDArray[np.float64]] = field(default_factory=list)
    energy: list[npt.NDArray[np.float64]] = field(default_factory=list)
    chance: list[npt.NDArray[np.float64]] = field(default_factory=list)
    groups: list[IntArray] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, found: Localisation, groups: IntArray, seconds: float) -> None:
        """Take the images of one seed."""
        self.pointing.append(found.pointing)
        self.energy.append(np.nan_to_num(found.energy))  # a map without anything positive points nowhere
        self.chance.append(found.chance)
        self.groups.append(groups)
        self.seconds += seconds

    def means(self, seed: int = 0) -> tuple[Estimate, ...]:
        """Return pointing game, energy and chance."""
        columns = [np.concatenate(values) for values in (self.pointing, self.energy, self.chance)]
        return mean_estimates(np.stack(columns, axis=1), np.concatenate(self.groups), seed=seed, resamples=1000)


@dataclass(frozen=True)
class Shown:
    """Test images with a lesion, as files, with their masks, classes and patients."""

    files: tuple[Path, ...]
    masks: tuple[Path, ...]
    labels: tuple[str, ...]
    patients: IntArray


def main() -> None:
    """Print a table per family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--models", default="forest,cnn,transformer")
    parser.add_argument("--patients", type=int, default=60, help="per class")
    parser.add_argument("--size", type=int, default=64, help="side of the models' input")
    parser.add_argument("--images", type=int, default=40, help="test images per seed and model that are explained, at most")
    parser.add_argument("--dear", action="store_true", help=f"also methods of more than {DEAR} passes per map (RISE)")
    asked = parser.parse_args()
    table: dict[tuple[str, str], Rows] = defaultdict(Rows)
    right: dict[str, list[str]] = defaultdict(list)
    for seed in range(asked.seeds):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            shown, packages = trained(Path(folder), asked, seed)
            print(f"seed {seed}: drawn and trained in {time.perf_counter() - begun:.0f} s", flush=True)
            for name, package in packages.items():
                right[name].append(measured(table, name, package, shown, asked, seed))
    for name, shares in right.items():
        print(f"\n{name}: right on lesions {', '.join(shares)}")
        print(f"{'':<24}{'pointing game':>22}{'energy in lesion':>24}{'chance':>9}{'n':>6}{'patients':>10}{'s/image':>9}")
        for (family, method), rows in table.items():
            if family == name:
                pointing, energy, chance = rows.means()
                each = rows.seconds / max(1, pointing.n)
                numbers = f"{in_numbers(pointing):>22}{in_numbers(energy):>24}{chance.value or 0:>9.3f}{pointing.n:>6}"
                print(f"{method:<24}{numbers}{pointing.groups:>10}{each:>9.3f}")


def trained(folder: Path, asked: argparse.Namespace, seed: int) -> tuple[Shown, dict[str, ModelPackage]]:
    """Draw a phantom and train the models on it; return its test images with a lesion, and the packages."""
    settings = PhantomSettings(
        patients_per_class=asked.patients, slices_per_patient=2, size=128, seed=seed, test_share=0.3, faults={}
    )
    key = make_phantom(folder / "phantom", settings)
    study = Study.model_validate(
        {
            "data": {"path": str(folder / "phantom" / "images")},
            "output": str(folder / "runs"),
            "seed": seed,
            "preprocess": {"size": asked.size},
            "models": [{"name": name, **MODELS[name]} for name in asked.models.split(",")],
            "tracking": {"enabled": False},
            "energy": {"measure": False},
        }
    )
    result = run(study, until="train")
    lesions = [image for image in key.images if image.part == "test" and image.mask is not None]
    shown = Shown(
        tuple(folder / "phantom" / "images" / image.path for image in lesions),
        tuple(folder / "phantom" / str(image.mask) for image in lesions),
        tuple(image.label for image in lesions),
        np.array([image.patient for image in lesions]) + 100_000 * seed,
    )
    packages = {}
    for model in result.models:
        package = load_package(model.package) if model.package is not None else None
        if isinstance(package, ModelPackage):
            packages[model.name] = package
    return shown, packages


def measured(
    table: dict[tuple[str, str], Rows], name: str, package: ModelPackage, shown: Shown, asked: argparse.Namespace, seed: int
) -> str:
    """Explain the images that a model gets right, one patient after the other, by every method; return how many those are."""
    ready = [package.prepare(file) for file in shown.files]
    pixels, placements = np.stack([one for one, _ in ready]), [placement for _, placement in ready]
    truth = np.array([package.classes.index(label) for label in shown.labels])
    masks = [mask_at_input(read_mask(path), at, size=asked.size) for path, at in zip(shown.masks, placements, strict=True)]
    rightly = package.scores(pixels).argmax(axis=1) == truth
    seen = np.flatnonzero(rightly & np.array([mask.any() for mask in masks]))
    rows = np.random.default_rng(seed).permutation(seen)[: asked.images]
    some, at, lesion = pixels[rows], [placements[row] for row in rows], np.stack([masks[row] for row in rows])
    for method, reason in defined_methods(package).items():
        cost = EXPLAINERS[method].cost(package)
        if reason or (cost.forward + cost.backward > DEAR and not asked.dear):
            continue
        started = time.perf_counter()
        maps = method_of(package, method, seed=seed)(some, at, truth[rows]).values
        took = time.perf_counter() - started
        table[name, method].add(localise(maps, lesion, at), shown.patients[rows], took)
    for baseline, maps in baseline_maps(some, at, seed=seed).items():
        table[name, f"({baseline})"].add(localise(maps, lesion, at), shown.patients[rows], 0.0)
    return f"{int(rightly.sum())} of {len(rightly)}"


if __name__ == "__main__":
    main()
