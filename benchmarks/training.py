"""How fast are models trained: every family, and transfer learning against fastai with the same backbone, images and weights.

    python benchmarks/training.py --data FOLDER --weights TIMM_LOCAL_DIR --peer-python /path/to/other/bin/python

Families: every one is trained by ``vitrail train`` as a process of its own with an empty output folder, which gives the time from
the folder of images to a packed model (audit, split, decoding, training, packing) and the memory of all its processes. Then it is
trained again in a new process with empty caches on the split that is there: images per second are those of the training part,
times the epochs, over all that lies between files and model (decoding, features, fitting). Prediction reads files, too.

Against fastai (``pip install fastai timm``, in an environment of its own): both have the training and validation images of one
split, the same size, normalisation and weights, no augmentation, and start as new processes. fastai is used as its
``vision_learner`` builds it: body, concat pooling, its two-layer head, one-cycle schedule.

* frozen: the seconds until the validation score (balanced accuracy) of vitrail's linear probe is reached. fastai is asked with
  schedules of 1, 2, 4, ... epochs, and only the shortest that reaches it counts. Where none does, that is said.
* fine-tuned: seconds per epoch, validation included, with the same batch size; the decoding that vitrail does once is told apart.

``--per-class N`` takes N images of every class and part, for a quick look. Figures are of the machine as it is: leave it alone.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fresh_process import VITRAIL, Ended, run_fresh
from vitrail.engine import available_cores
from vitrail.models.catalogue import FAMILIES
from vitrail.storage import write_record, write_text
from vitrail.study import Study, changed

MIB = 2**20
BATCH = 16
RATE = 1e-3

OWN = """
import json, sys, tempfile, time
from pathlib import Path
import numpy as np
from sklearn.metrics import balanced_accuracy_score
from vitrail.auditing import audit
from vitrail.models import load_package
from vitrail.places import cache_of
from vitrail.split import make_split
from vitrail.study import Study
from vitrail.training import Job, features, train
study = Study.from_yaml(sys.argv[1])
manifest, report = audit(study)
split = make_split(manifest, report, settings=study.split, seed=study.seed)
(settings,) = study.models
with tempfile.TemporaryDirectory() as folder:
    job = Job(study, manifest, split, Path(folder) / "model", Path(folder) / "cache")
    job.folder.mkdir()
    started = time.perf_counter()
    trained = train(settings, job)
    seconds = time.perf_counter() - started
    rows = job.validation_rows
    scores = trained.head.scores(features(trained.embedder, manifest, rows, cache=job.cache))
    epochs = [one.seconds for one in trained.training.epochs]
package = load_package(sys.argv[2])
files = [manifest.root / file.path for file in manifest.files if file.readable]
package.predict(files[:8])
started = time.perf_counter()
package.predict(files)
predicting = time.perf_counter() - started
answer = {"images": len(job.training_rows), "validation_images": len(rows), "seconds": seconds, "epoch_seconds": epochs,
          "score": float(balanced_accuracy_score(manifest.labels[rows], scores.argmax(axis=1))),
          "predicted": len(files), "predict_seconds": predicting}
Path(sys.argv[3]).write_text(json.dumps(answer))
"""

PEER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from importlib.metadata import version
import pandas as pd
import timm
from fastai.vision.all import *
asked = json.load(open(sys.argv[1]))
frame = pd.DataFrame(asked["images"], columns=["path", "label", "valid"])
notes = []

class Note(Callback):
    order = 60
    def before_fit(self): self.started = time.perf_counter()
    def after_epoch(self):
        notes[-1]["epochs"].append([time.perf_counter() - self.started, float(self.learn.recorder.values[-1][-1])])

def learner():
    set_seed(0, reproducible=True)
    loaders = ImageDataLoaders.from_df(
        frame, path=asked["folder"], fn_col="path", label_col="label", valid_col="valid", bs=asked["batch"],
        item_tfms=Resize(asked["size"], method=ResizeMethod.Squish),
        batch_tfms=[Normalize.from_stats(asked["mean"], asked["deviation"])])
    body = timm.create_model(asked["backbone"], pretrained=True, num_classes=0, global_pool="")
    head = create_head(body.num_features, loaders.c)
    apply_init(head, nn.init.kaiming_normal_)
    return Learner(loaders, nn.Sequential(body, head), splitter=default_split, loss_func=CrossEntropyLossFlat(),
                   metrics=BalancedAccuracy(), cbs=Note())

for length in asked["lengths"]:
    notes.append({"length": length, "epochs": []})
    learn = learner()
    with learn.no_bar(), learn.no_logging():
        if asked["frozen"]:
            learn.freeze()
        learn.fit_one_cycle(length, asked["rate"])
    if notes[-1]["epochs"][-1][1] >= asked["target"]:
        break
json.dump({"version": version("fastai"), "timm": version("timm"), "runs": notes}, open(sys.argv[2], "w"))
"""


# ---------------------------------------------------------------------------------------------------- what is trained


def some_images(data: Path, target: Path, per_class: int) -> Path:
    """Copy so many images of every class and part, evenly spread over the sorted names; return the copy."""
    for folder in sorted({path.parent for path in data.rglob("*") if path.is_file()}):
        files = sorted(path for path in folder.iterdir() if path.is_file())
        step = max(1, len(files) // per_class)
        (target / folder.relative_to(data)).mkdir(parents=True)
        for path in files[::step][:per_class]:
            shutil.copyfile(path, target / path.relative_to(data))
    return target


def study_of(data: Path, weights: Path, family: str, output: Path, wishes: dict[str, object]) -> Study:
    """Return the study of one family: its defaults, but for a size and the weights at hand."""
    study = Study.from_mapping({"data": {"path": str(data)}, "models": [family], "output": str(output)})
    study = changed(study, {"tracking.enabled": False, **wishes})
    return (
        changed(study, {f"models.{family}.backbone": f"local-dir:{weights}"}) if hasattr(study.models[0], "backbone") else study
    )


def trained(study: Study, scratch: Path) -> tuple[Ended, Ended, dict[str, object], Path]:
    """Train a study's one model twice.

    Returns:
        How ``vitrail train`` ended, how the second training ended, what that one measured, and the run's folder.
    """
    path = scratch / f"{study.models[0].model}.yaml"
    write_text(path, study.to_yaml())
    whole = run_fresh([*VITRAIL, "train", str(path), "--quiet", "--json"])
    if whole.exit_code:
        sys.exit(f"vitrail train {study.models[0].name}: {whole.errors}")
    printed = json.loads(whole.output)
    answer = path.with_suffix(".json")
    again = run_fresh([sys.executable, "-c", OWN, str(path), printed["leaderboard"][0]["package"], str(answer)])
    if again.exit_code:
        sys.exit(f"{study.models[0].name}: {again.errors}")
    return whole, again, json.loads(answer.read_text()), Path(printed["run"])


def family_row(family: str, whole: Ended, own: dict[str, object]) -> dict[str, object]:
    """Return the figures of one family."""
    images, seconds, epochs = int(str(own["images"])), float(str(own["seconds"])), own["epoch_seconds"]
    passes = len(epochs) or 1  # type: ignore[arg-type]
    return {
        "family": family,
        "images": images,
        "epochs": passes,
        "fit_images_per_second": round(images * passes / seconds, 1),
        "predict_images_per_second": round(int(str(own["predicted"])) / float(str(own["predict_seconds"])), 1),
        "fit_seconds": round(seconds, 2),
        "folder_to_model_seconds": round(whole.seconds, 2),
        "peak_mib": round(whole.tree_bytes / MIB),
        "validation_balanced_accuracy": round(float(str(own["score"])), 4),
    }


def print_families(rows: Sequence[dict[str, object]]) -> None:
    """Print one line per family."""
    heads = (("fit img/s", 11), ("predict img/s", 15), ("epochs", 8), ("fit s", 9), ("folder to model s", 19), ("peak MiB", 10))
    print(f"\n{'family':<12}" + "".join(f"{text:>{width}}" for text, width in heads))
    for row in rows:
        print(
            f"{row['family']:<12}{row['fit_images_per_second']:>11}{row['predict_images_per_second']:>15}{row['epochs']:>8}"
            f"{row['fit_seconds']:>9}{row['folder_to_model_seconds']:>19}{row['peak_mib']:>10}"
        )


# ---------------------------------------------------------------------------------------------------- against fastai


def peer_trained(python: Path, asked: dict[str, object], scratch: Path) -> tuple[Ended, dict[str, object]]:
    """Train with fastai; return how it ended and what it noted per epoch."""
    question, answer = scratch / "asked.json", scratch / "answer.json"
    question.write_text(json.dumps(asked))
    answer.unlink(missing_ok=True)
    ended = run_fresh([str(python), "-c", PEER, str(question), str(answer)], cwd=scratch)
    if ended.exit_code or not answer.exists():
        sys.exit(f"fastai: {ended.errors[-2000:]}")
    return ended, json.loads(answer.read_text())


def images_of(run: Path) -> list[tuple[str, str, bool]]:
    """Return path below the data, class and whether it validates, of the training and validation images of a run's split."""
    labels = {file["path"]: file["label"] for file in json.loads((run / "manifest.json").read_text())["files"]}
    with (run / "split.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["part"] in ("train", "validation")]
    return [(row["path"], labels[row["path"]], row["part"] == "validation") for row in rows]


def question_of(study: Study, run: Path, weights: Path, **wishes: object) -> dict[str, object]:
    """Return what fastai is asked: the images of a run's split, prepared as its model has them."""
    config = json.loads((weights / "config.json").read_text())
    config = config.get("pretrained_cfg", config)
    return {
        "folder": str(study.data.path),
        "images": images_of(run),
        "size": study.preprocess.size,
        "mean": config["mean"],
        "deviation": config["std"],
        "backbone": f"local-dir:{weights}",
        "batch": BATCH,
        "rate": RATE,
        "target": 2.0,
        **wishes,
    }


def frozen(
    study: Study, own: dict[str, object], whole: Ended, run: Path, options: argparse.Namespace, scratch: Path
) -> dict[str, object]:
    """Compare the time to the probe's validation score."""
    lengths = [2**power for power in range(12) if 2**power <= options.most_epochs]
    target = float(str(own["score"]))
    asked = question_of(study, run, options.weights, frozen=True, lengths=lengths, target=target, batch=64)
    ended, noted = peer_trained(options.peer_python, asked, scratch)
    runs: list[dict[str, list[list[float]]]] = noted["runs"]  # type: ignore[assignment]
    seconds, score = runs[-1]["epochs"][-1]
    reached = score >= target
    return {
        "target_balanced_accuracy": round(target, 4),
        "vitrail_seconds": round(float(str(own["seconds"])), 2),
        "vitrail_folder_to_model_seconds": round(whole.seconds, 2),
        "fastai": noted["version"],
        "fastai_reached": reached,
        "fastai_best": round(max(one["epochs"][-1][1] for one in runs), 4),
        "fastai_epochs": runs[-1]["length"],
        "fastai_seconds": round(seconds, 2),
        "fastai_peak_mib": round(ended.tree_bytes / MIB),
        "times_as_fast": round(seconds / float(str(own["seconds"])), 2),
        "times_as_fast_from_folder": round(seconds / whole.seconds, 2),
        "fastai_runs": runs,
    }


def print_frozen(one: dict[str, object]) -> None:
    """Print who was how fast."""
    least = "" if one["fastai_reached"] else "at least "
    how = f"{one['fastai_epochs']} epochs" if one["fastai_reached"] else f"not reached, best {one['fastai_best']}"
    print(f"\nFrozen backbone, to a validation balanced accuracy of {one['target_balanced_accuracy']}")
    print(f"  vitrail probe   {one['vitrail_seconds']:>8} s; from folder to model {one['vitrail_folder_to_model_seconds']} s")
    print(f"  fastai {one['fastai']:<9}{one['fastai_seconds']:>8} s ({how}), without start-up")
    print(
        f"  vitrail is {least}{one['times_as_fast']} times as fast; "
        f"with its audit and start-up {least}{one['times_as_fast_from_folder']} times"
    )


def tuned(study: Study, own: dict[str, object], run: Path, options: argparse.Namespace, scratch: Path) -> dict[str, object]:
    """Compare the seconds per epoch when everything learns."""
    asked = question_of(study, run, options.weights, frozen=False, lengths=[options.epochs])
    ended, noted = peer_trained(options.peer_python, asked, scratch)
    stamps: list[list[float]] = noted["runs"][0]["epochs"]  # type: ignore[index]
    theirs = [after[0] - before for after, before in zip(stamps, [0.0, *(stamp[0] for stamp in stamps)], strict=False)]
    ours: list[float] = own["epoch_seconds"]  # type: ignore[assignment]
    return {
        "epochs": options.epochs,
        "vitrail_epoch_seconds": [round(value, 2) for value in ours],
        "vitrail_once_seconds": round(float(str(own["seconds"])) - sum(ours), 2),
        "fastai_epoch_seconds": [round(value, 2) for value in theirs],
        "fastai_peak_mib": round(ended.tree_bytes / MIB),
        "times_as_fast_per_epoch": round(statistics.median(theirs) / statistics.median(ours), 2),
        "vitrail_balanced_accuracy": round(float(str(own["score"])), 4),
        "fastai_balanced_accuracy": round(stamps[-1][1], 4),
    }


def print_tuned(one: dict[str, object]) -> None:
    """Print who was how fast."""
    print(f"\nFine-tuned in full, batches of {BATCH}, seconds per epoch")
    print(f"  vitrail  {one['vitrail_epoch_seconds']}, and {one['vitrail_once_seconds']} s once (decoding, loading, export)")
    print(f"  fastai   {one['fastai_epoch_seconds']}")
    print(f"  vitrail is {one['times_as_fast_per_epoch']} times as fast per epoch (medians)")


# ---------------------------------------------------------------------------------------------------- all of it


def wishes_for(family: str, options: argparse.Namespace) -> dict[str, object]:
    """Return what is set for all, and what makes fine-tuning comparable."""
    wishes: dict[str, object] = {"preprocess.size": options.size} if family in ("probe", "finetune", "cnn", "transformer") else {}
    if options.network_epochs and family in ("cnn", "transformer"):
        wishes["training.epochs"] = options.network_epochs
    if family == "finetune":
        wishes |= {"training.epochs": options.epochs, "training.patience": options.epochs, "training.batch_size": BATCH}
        wishes |= {"training.imbalance": "none", "models.finetune.augment": False, "training.learning_rate": RATE}
    return wishes


def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of images")
    parser.add_argument("--weights", type=Path, required=True, help="folder of a backbone in timm's local-dir format")
    parser.add_argument("--peer-python", type=Path, help="Python of an environment with fastai; without it, vitrail alone")
    parser.add_argument(
        "--families",
        default=",".join(name for name, family in FAMILIES.items() if family.training != "ensemble"),
        help="with commas [all]; for the peer probe and finetune are needed",
    )
    parser.add_argument("--per-class", type=int, help="so many images of every class and part [all]")
    parser.add_argument("--size", type=int, default=128, help="side of the images for networks, in pixels")
    parser.add_argument("--epochs", type=int, default=3, help="of fine-tuning, for both")
    parser.add_argument("--network-epochs", type=int, help="at most, for networks from scratch [the family's]")
    parser.add_argument("--most-epochs", type=int, default=32, help="of fastai's longest schedule with a frozen body")
    parser.add_argument("--scratch", type=Path, help="folder for what is made on the way [the system's]")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/training.json"), help="where to write the figures")
    options = parser.parse_args()
    options.weights = options.weights.resolve()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    figures: dict[str, object] = {"cores": available_cores(), "per_class": options.per_class, "size": options.size}
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        scratch = Path(name)
        data = options.data.resolve()
        if options.per_class:
            data = some_images(data, scratch / data.name, options.per_class)
        for path in data.rglob("*"):  # so that nobody waits for the disk
            if path.is_file():
                path.read_bytes()
        for family in options.families.split(","):
            study = study_of(data, options.weights, family, scratch / f"runs-{family}", wishes_for(family, options))
            whole, _, own, run = trained(study, scratch)
            rows.append(family_row(family, whole, own))
            print(f"  {family}: {whole.seconds:.1f} s from folder to model", flush=True)
            figures["families"] = rows
            if options.peer_python and family == "probe":
                figures["frozen"] = frozen(study, own, whole, run, options, scratch)
                print_frozen(figures["frozen"])  # type: ignore[arg-type]
            if options.peer_python and family == "finetune":
                figures["finetuned"] = tuned(study, own, run, options, scratch)
                print_tuned(figures["finetuned"])  # type: ignore[arg-type]
            write_record(options.json, figures)  # what is measured is kept
            sys.stdout.flush()
    print_families(rows)


if __name__ == "__main__":
    main()
