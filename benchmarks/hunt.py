"""Does the shortcut hunt find a planted mark that a model has learnt, and does it cry at models of clean data?

Per seed two phantoms: one of which a class carries a bright letter in the corner, and the same without. On each the models are
trained through the public door and hunted on validation images by the step of a run. Evaluation, grades and report are left out:
the hunt needs none of them.

    python benchmarks/hunt.py --seeds 20 --models forest,cnn

Found: verdict "found" where the mark is planted, and the message names the marked class and its corner. False alarms: the same
verdict on the clean phantom.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from vitrail import load_package
from vitrail.datasets import PhantomSettings, make_phantom
from vitrail.explanation.hunting.wording import in_numbers
from vitrail.pipeline import run
from vitrail.steps import hunt_model
from vitrail.study import Study

MODELS = {
    "forest": {"model": "forest", "features": ["pixels"], "trees": 200},
    "cnn": {"model": "cnn", "filters": [8, 16, 32], "augment": False, "training": {"epochs": 25, "batch_size": 16}},
}


def main() -> None:
    """Print a line per model and phantom, and the totals."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--models", default="forest,cnn")
    asked = parser.parse_args()
    verdicts: Counter[tuple[str, str, str]] = Counter()
    begun = time.perf_counter()
    for seed in range(asked.first, asked.first + asked.seeds):
        for kind in ("marked", "clean"):
            for name, line, verdict in hunts(seed, asked.models.split(","), marked=kind == "marked"):
                verdicts[name, kind, verdict] += 1
                print(f"seed {seed} {kind:6} {name:6} {line}", flush=True)
    for (name, kind, verdict), number in sorted(verdicts.items()):
        print(f"{name} on {kind} phantoms: {verdict} {number} of {asked.seeds}")
    print(f"{(time.perf_counter() - begun) / asked.seeds:.1f} s per seed")


def hunts(seed: int, models: list[str], *, marked: bool) -> list[tuple[str, str, str]]:
    """Train and hunt on one phantom: name, line to print and verdict of every model."""
    with tempfile.TemporaryDirectory() as folder:
        faults = {"corner_mark": 1} if marked else {}
        settings = PhantomSettings(patients_per_class=30, slices_per_patient=2, size=64, seed=seed, test_share=0.1, faults=faults)
        started = time.perf_counter()
        make_phantom(Path(folder) / "phantom", settings)
        study = Study.model_validate(
            {
                "data": {"path": str(Path(folder) / "phantom" / "images")},
                "output": str(Path(folder) / "runs"),
                "seed": seed,
                "split": {"validation": 0.45},
                "preprocess": {"size": 64, "crop_margins": False},
                "models": [{"name": name, **MODELS[name]} for name in models],
                "evaluation": {"baselines": False, "resamples": 1000},
                "tracking": {"enabled": False},
                "energy": {"measure": False},
            }
        )
        drawn = time.perf_counter() - started
        result = run(study, until="train")
        trained = time.perf_counter() - started
        answer = []
        for model in result.models:
            if model.package is None:
                answer.append((model.name, model.failure, "not trained"))
                continue
            started = time.perf_counter()
            package = load_package(model.package)
            hunt = hunt_model(model.name, package, study, result.manifest, result.split)
            if hunt is None:
                answer.append((model.name, model.failure, "no hunt"))
                continue
            numbers = ", ".join(f"{one.name}: AUC {in_numbers(one.auc)}" for one in hunt.interventions)
            words = f"{hunt.verdict} (maps {hunt.points_outside}, survives {hunt.survives}); {numbers}; "
            beyond = in_numbers(hunt.beyond_outline) if hunt.beyond_outline is not None else "none"
            told = f"n {hunt.n}, beyond the outline {beyond}, smallest {hunt.smallest_found}; {hunt.message}"
            took = f"{time.perf_counter() - started:.1f} s (phantom {drawn:.1f}, training of all {trained - drawn:.1f}); "
            answer.append((model.name, took + words + told, hunt.verdict))
        return answer


if __name__ == "__main__":
    main()
