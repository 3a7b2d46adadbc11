"""From a folder of images to an evaluated probe, against what bare ONNX Runtime needs for the backbone alone.

Both are measured in one call, one after the other, with the same threads, images and graph:

* bare: ``session.run`` over all images in batches of 32, decoding and scaling not counted;
* cold: ``vitrail evaluate`` as a new process with an empty output folder (start-up, scan, audit, split, export, decoding,
  features, head, evaluation);
* again: the same with ``--fresh``: trained and evaluated anew, features from the cache.

    python benchmarks/probe.py --data FOLDER --weights TIMM_LOCAL_DIR

Without ``--data`` a phantom is drawn. Targets: cold at most 3 x bare, again at most a quarter of cold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime

from vitrail.datasets import PhantomSettings, make_phantom, scan_folder
from vitrail.engine import available_cores
from vitrail.preprocess import normalise, pixel_batches
from vitrail.storage import write_record
from vitrail.study import DataSettings, ProbeSettings, Study

BATCH = 32


def bare(data: Path, weights: Path, scratch: Path) -> tuple[float, int]:
    """Return the seconds that ``session.run`` takes for all readable images, and their number."""
    from vitrail.models import probe

    settings = ProbeSettings(backbone=f"local-dir:{weights}")
    study = Study(data=DataSettings(path=data), models=(settings,))
    embedder = probe.embedder(settings, study.preprocess_for(settings), cache=scratch)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cores()
    session = onnxruntime.InferenceSession(str(embedder.path), options, providers=["CPUExecutionProvider"])
    manifest = scan_folder(data, cache=scratch)
    rows = np.array([row for row, file in enumerate(manifest.files) if file.readable])
    seconds = 0.0
    for batch in pixel_batches(manifest, rows, embedder.recipe, batch_size=BATCH):
        inputs = {"pixels": normalise(batch, embedder.recipe)}
        started = time.perf_counter()
        session.run(["embedding"], inputs)
        seconds += time.perf_counter() - started
    return seconds, len(rows)


def whole(data: Path, weights: Path, output: Path, *, fresh: bool) -> tuple[float, dict[str, object]]:
    """Return the wall-clock seconds of one ``vitrail evaluate`` process, and what it printed."""
    command = [sys.executable, "-c", "from vitrail.cli import main; main()", "evaluate", str(data), "--models", "probe"]
    command += ["--backbone", f"local-dir:{weights}", "--output", str(output), "--quiet", "--json"]
    if fresh:
        command.append("--fresh")
    started = time.perf_counter()
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if finished.returncode:
        sys.exit(finished.stderr)
    return seconds, json.loads(finished.stdout)


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of images; default: a phantom")
    parser.add_argument("--weights", type=Path, required=True, help="folder of a backbone in timm's local-dir format")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/probe.json"), help="where to write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        data = options.data
        if data is None:
            make_phantom(scratch / "phantom", PhantomSettings(patients_per_class=60))
            data = scratch / "phantom" / "images"
        bare_seconds, images = bare(data, options.weights, scratch / "bare")
        cold, printed = whole(data, options.weights, scratch / "runs", fresh=False)
        again, _ = whole(data, options.weights, scratch / "runs", fresh=True)
    accuracy = printed["leaderboard"][0]["test"]["accuracy"]["value"]  # type: ignore[index]
    figures = {
        "images": images,
        "cores": available_cores(),
        "bare_seconds": round(bare_seconds, 2),
        "bare_images_per_second": round(images / bare_seconds, 1),
        "cold_seconds": round(cold, 2),
        "cold_over_bare": round(cold / bare_seconds, 2),
        "again_seconds": round(again, 2),
        "again_over_cold": round(again / cold, 3),
        "test_accuracy": accuracy,
    }
    for key, value in figures.items():
        print(f"{key:<24} {value}")
    write_record(options.json, figures)


if __name__ == "__main__":
    main()
