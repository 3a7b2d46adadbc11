"""How fast are explanations, beside the physical limit and beside other libraries: same run, model, images and cores.

    python benchmarks/explanation.py --weights TIMM_LOCAL_DIR --data FOLDER
    python benchmarks/explanation.py --weights TIMM_LOCAL_DIR --only occlusion --only lime

Models: ``--weights`` is packed with a random linear head; beside it a ViT-small/16 and vitrail's own network, both with random
weights; or ``--package FOLDER`` alone. The others are asked about the torch module that was packed; of a package, about its graph
as a torch module.

Parts (``--only``): ``cam``, the class activation maps; ``quick``, all methods of one or two passes, alone and together;
``occlusion`` and ``lime``, of the first model alone; ``vit-memory``, the most memory of a process that makes all attention maps
of one image by a ViT-base/16 at 384 pixels (random weights); ``path``, integrated gradients and SmoothGrad, only where asked for.

Limits: one forward pass is the faster of bare torch and ONNX Runtime, in a part of many images also in batches; one forward and
backward pass to the input is bare torch's. ``passes`` is what a method costs in them, ``/ limit`` its time over that of so many.

What is timed: a call, from prepared uint8 pixels (vitrail) or scaled tensors (others) to a map at the model's input. Loading and
checking a package and decoding are not part of it. vitrail's calls hold the pass for the scores, which decides the class; the
others are told the class, and LIME and KernelSHAP the superpixels. Images go one at a time, changed copies of an image in batches
of ``--batch`` on every side. The first round warms up and does not count; rows take turns in every round, so that a busy machine
troubles all alike; the median counts. The process is bound to ``--threads`` cores (Linux).
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import vitrail  # isort: skip # noqa: F401 - first: it says how NumPy's threads shall wait, which NumPy reads when it is loaded
import numpy as np

from explained_models import bare, pack
from fresh_process import run_fresh
from vitrail.explanation import run_explain
from vitrail.models import load_package
from vitrail.records import Placement
from vitrail.storage import write_record

PARTS = ("cam", "quick", "occlusion", "lime", "vit-memory")
MANY = ("occlusion", "lime", "path")
"""Parts of many passes: fewer images, fewer rounds, limits in batches."""
CAMS = ("cam", "grad-cam", "grad-cam-plus-plus", "layer-cam", "hires-cam")
QUICK = (*CAMS, "activations", "gradient", "gradient-times-input", "guided-backpropagation",
         "attention", "attention-rollout", "gradient-rollout")  # fmt: skip
ATTENTION = QUICK[-3:]
STEPS, SUPERPIXELS = 32, 50
FORWARD, BACK = "forward", "forward and backward"
CAM_MOST, QUICK_MOST, FASTER, MEMORY_MOST = 1.1, 1.5, 3.0, 2e9
"""The project's promises."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What is measured.
        call: Does it for one image, by number.
        limit: Kind of pass that it is held against.
        passes: How many of them it makes per image.
        rival: Row of vitrail that answers the same question; empty for limits and vitrail itself.
        images: Images that one call answers for.
    """

    name: str
    call: Callable[[int], object]
    limit: str = FORWARD
    passes: float = 1.0
    rival: str = ""
    images: int = 1

    @property
    def is_limit(self) -> bool:
        """Whether it is a limit itself."""
        return self.name.startswith("limit: ")


class Bench:
    """A model and all that is asked about it."""

    def __init__(self, name: str, folder: Path, options: argparse.Namespace) -> None:
        self.options = options
        self.package = load_package(folder)
        self.pixels = read_pixels(self.package, options)
        self.bare = bare(name, options.weights, self.package)
        self.scores = self.package.scores(self.pixels)
        self.classes = self.scores.argmax(axis=1).tolist()

    def rows(self, part: str) -> list[Row]:
        """Return the rows of a part, the limits first."""
        known = run_explain.EXPLAINERS
        lime = {"superpixels": SUPERPIXELS, "samples": self.options.samples}
        own = {
            "cam": {name: known[name] for name in CAMS},
            "quick": {name: known[name] for name in QUICK},
            "occlusion": {"occlusion": replace(known["occlusion"], batch=self.options.batch)},
            "lime": {name: replace(known[name], **lime) for name in ("lime", "kernel-shap")},
            "path": {
                "integrated-gradients": replace(known["integrated-gradients"], steps=STEPS, most_steps=STEPS),
                "smooth-grad": replace(known["smooth-grad"], samples=STEPS),
            },
        }[part]
        own = {name: one for name, one in own.items() if not one.refusal(self.package)}
        rows = [self._own({name: one}, name) for name, one in own.items()]
        together = {"cam": "the CAM family together", "quick": "all of these together"}.get(part)
        if together and len(own) > 1:
            rows.append(self._own(own, together))
        return [*self._limits(part), *rows, *self._others(part)]

    def _own(self, methods: dict[str, Any], name: str) -> Row:
        size = self.package.recipe.size
        place = Placement(size, size, 0, 0, size, size, 0, 0, size, size)

        def call(number: int) -> object:
            one = self.pixels[number : number + 1]
            return run_explain.explain_batch(self.package, one, (place,), images=("x",), methods=methods)

        costs = [method.cost(self.package) for method in methods.values()]
        forward, backward = (max(getattr(one, way) for one in costs) for way in ("forward", "backward"))
        return Row(name, call, BACK if backward else FORWARD, backward or forward)

    def _limits(self, part: str) -> list[Row]:
        import onnxruntime
        import torch

        from vitrail.preprocess import normalise

        module, settings = self.bare.module, onnxruntime.SessionOptions()
        settings.intra_op_num_threads = self.options.threads
        session = onnxruntime.InferenceSession(str(self.package.network.trunk), settings, providers=["CPUExecutionProvider"])
        arrays = normalise(self.pixels, self.package.recipe)
        inputs = torch.from_numpy(arrays)
        with torch.no_grad():  # the others must explain the same answers
            assert np.abs(module(inputs).softmax(dim=1).numpy() - self.scores).max() < 1e-3  # noqa: S101

        def forward(images: int) -> Callable[[int], object]:
            def call(number: int) -> object:
                with torch.inference_mode():
                    return module(inputs[[number] * images])

            return call

        def in_onnx(images: int) -> Callable[[int], object]:
            return lambda number: session.run(["embedding"], {"pixels": arrays[[number] * images]})

        def back(number: int) -> object:
            leaf = inputs[number : number + 1].clone().requires_grad_()
            return torch.autograd.grad(module(leaf)[0, self.classes[number]], leaf)

        rows = [Row("limit: forward, torch", forward(1)), Row("limit: forward, onnxruntime", in_onnx(1))]
        if part in ("occlusion", "lime"):
            batch = self.options.batch
            rows.append(Row(f"limit: forward, torch, batches of {batch}", forward(batch), images=batch))
            rows.append(Row(f"limit: forward, onnxruntime, batches of {batch}", in_onnx(batch), images=batch))
        if part in ("quick", "path"):
            rows.append(Row("limit: forward and backward, torch", back, BACK))
        return rows

    def _others(self, part: str) -> list[Row]:
        """Return the other libraries' rows."""
        import captum.attr
        import torch

        from vitrail.preprocess import normalise

        inputs, classes, module = torch.from_numpy(normalise(self.pixels, self.package.recipe)), self.classes, self.bare.module

        def one(number: int) -> torch.Tensor:
            return inputs[number : number + 1].clone()

        if part == "cam":
            return self._grad_cam(one)
        if part == "quick":
            saliency = captum.attr.Saliency(module)
            return [
                Row("captum Saliency", lambda n: saliency.attribute(one(n), target=classes[n], abs=False), BACK, 1, "gradient")
            ]
        if part == "path":
            integrated, noisy = captum.attr.IntegratedGradients(module), captum.attr.NoiseTunnel(captum.attr.Saliency(module))
            steps = {"n_steps": STEPS, "internal_batch_size": 4}
            draws = {"nt_samples": STEPS, "nt_samples_batch_size": 4, "stdevs": 0.5}
            calls = {
                "integrated-gradients": lambda n: integrated.attribute(one(n), target=classes[n], **steps),
                "smooth-grad": lambda n: noisy.attribute(one(n), target=classes[n], **draws),
            }
            return [Row(f"captum's {name}, batches of 4", call, BACK, STEPS, name) for name, call in calls.items()]
        return self._covering(part, one)

    def _grad_cam(self, one: Callable[[int], Any]) -> list[Row]:
        from copy import deepcopy

        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        if self.bare.layer is None:
            return []
        copied = deepcopy((self.bare.module, self.bare.layer))  # its hooks stay: they must not slow down the other rows
        method = GradCAM(model=copied[0], target_layers=[copied[1]], reshape_transform=self.bare.grid)

        def call(number: int) -> object:
            return method(input_tensor=one(number), targets=[ClassifierOutputTarget(self.classes[number])])

        return [Row("pytorch_grad_cam GradCAM", call, rival="grad-cam")]

    def _covering(self, part: str, one: Callable[[int], Any]) -> list[Row]:
        import captum.attr
        import torch

        from vitrail.explanation.perturbing import median_fill
        from vitrail.explanation.superpixels import segment
        from vitrail.preprocess import normalise

        covered = np.stack([np.broadcast_to(median_fill(image), image.shape) for image in self.pixels])
        fills, batch = torch.from_numpy(normalise(covered, self.package.recipe)), self.options.batch

        def asked(number: int) -> dict[str, Any]:
            return {
                "target": self.classes[number],
                "baselines": fills[number : number + 1],
                "perturbations_per_eval": batch,
            }

        if part == "occlusion":
            side, step = run_explain.EXPLAINERS["occlusion"]._patch(self.package.recipe.size)
            windows = {"sliding_window_shapes": (fills.shape[1], side, side), "strides": (fills.shape[1], step, step)}
            method = captum.attr.Occlusion(self.bare.module)
            passes = run_explain.EXPLAINERS["occlusion"].cost(self.package).forward
            return [
                Row("captum Occlusion", lambda n: method.attribute(one(n), **asked(n), **windows), FORWARD, passes, "occlusion")
            ]
        segments = [torch.from_numpy(segment(image, SUPERPIXELS)) for image in self.pixels]

        def fitted(kind: Any) -> Callable[[int], object]:
            method = kind(self.bare.module)

            def call(number: int) -> object:
                samples = max(self.options.samples, 4 * (int(segments[number].max()) + 1))
                return method.attribute(
                    one(number), feature_mask=segments[number][None, None], n_samples=samples, **asked(number)
                )

            return call

        samples = float(self.options.samples)
        return [
            Row("captum Lime", fitted(captum.attr.Lime), FORWARD, samples, "lime"),
            Row("captum KernelShap", fitted(captum.attr.KernelShap), FORWARD, samples, "kernel-shap"),
        ]


# ---------------------------------------------------------------------------------------------------- measuring


def measure(rows: list[Row], images: int, rounds: int, label: str) -> dict[str, list[float]]:
    """Return seconds per image of every row in every round but the first; tell each as it is measured."""
    found: dict[str, list[float]] = {row.name: [] for row in rows}
    for number in range(rounds + 1):
        turn = number * len(rows) // (rounds + 1)
        for row in rows[turn:] + rows[:turn]:
            started = time.perf_counter()
            for image in range(images):
                row.call(image)
            seconds = (time.perf_counter() - started) / images / row.images
            counted = f"round {number} of {rounds}" if number else "warm-up"
            print(f"  {label}, {counted:<13} {row.name:<48}{1e3 * seconds:>11.2f} ms", flush=True)
            if number:
                found[row.name].append(seconds)
    return found


def table(rows: list[Row], seconds: dict[str, list[float]]) -> tuple[list[dict[str, object]], list[str]]:
    """Return one record per row, and the project's promises with the figures. A ratio to a peer above 1: vitrail is faster."""
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    limits = {
        kind: min((row for row in rows if row.is_limit and row.limit == kind), key=lambda row: middle[row.name], default=None)
        for kind in (FORWARD, BACK)
    }
    records: list[dict[str, object]] = []
    promises = []
    for row in rows:
        own, limit = middle[row.name], limits[row.limit]
        share = own / (row.passes * middle[limit.name]) if limit else None
        rivals = {one.name: middle[one.name] / own for one in rows if one.rival == row.name}
        records.append({
            "row": row.name, "milliseconds": round(1e3 * own, 2), "lowest": round(1e3 * min(seconds[row.name]), 2),
            "highest": round(1e3 * max(seconds[row.name]), 2), "passes": f"{row.passes:g} x {row.limit}",
            "over_limit": share and round(share, 2), "faster_than": [f"{ratio:.1f} x {name}" for name, ratio in rivals.items()],
        })  # fmt: skip
        if limit and not limits[BACK] and row.name in (*CAMS, "the CAM family together"):
            promises.append(promise(f"{row.name} at most {CAM_MOST} x {limit.name}", own / middle[limit.name], most=CAM_MOST))
        if limit and row.name == "all of these together":
            promises.append(promise(f"{row.name} at most {QUICK_MOST} x {limit.name}", own / middle[limit.name], most=QUICK_MOST))
        if row.name in ("grad-cam", "occlusion", "lime"):
            promises += [promise(f"{row.name} at least {FASTER:g} x as fast as {name}", ratio, least=FASTER)
                         for name, ratio in rivals.items()]  # fmt: skip
    return records, promises


def promise(text: str, value: float, *, most: float | None = None, least: float = 0.0) -> str:
    """Return a promise with its figure."""
    held = value <= most if most is not None else value >= least
    return f"{'reached' if held else 'MISSED '}  {text}: {value:.2f}"


def show(title: str, records: list[dict[str, object]], promises: list[str]) -> None:
    """Print a table."""
    print(f"\n{title}")
    print(f"{'':<48}{'ms/image':>10}{'lowest':>10}{'highest':>10}{'/ limit':>9}  {'passes':<28}faster than")
    for one in records:
        numbers = f"{one['milliseconds']:>10}{one['lowest']:>10}{one['highest']:>10}{one['over_limit'] or '':>9}"
        print(f"{one['row']:<48}{numbers}  {one['passes']:<28}{'; '.join(one['faster_than'])}")  # type: ignore[arg-type]
    print("\n".join(promises), flush=True)


def read_pixels(package: Any, options: argparse.Namespace) -> Any:
    """Return prepared images: files, spread over the folder, or drawn ones."""
    if options.data is None:
        from scipy.ndimage import gaussian_filter

        size, channels = package.recipe.size, package.recipe.channels
        noise = gaussian_filter(np.random.default_rng(0).normal(size=(options.images, size, size, channels)), (0, 4, 4, 0))
        return np.clip(128 + 400 * noise, 0, 255).astype(np.uint8)
    endings = {".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"}
    files = sorted(path for path in options.data.rglob("*") if path.suffix.lower() in endings)
    return np.stack([package.prepare(path)[0] for path in files[:: max(1, len(files) // options.images)][: options.images]])


# ---------------------------------------------------------------------------------------------------- memory


def measure_memory(folder: Path) -> list[str]:
    """Return the most memory of a fresh process that makes all attention maps of one image, step by step, and the promise."""
    ended = run_fresh([sys.executable, __file__, "--memory-of", str(folder)])
    if ended.exit_code:
        sys.exit(ended.errors)
    share = ended.peak_bytes / MEMORY_MOST
    return [
        *ended.output.splitlines(),
        promise(f"most memory at most {MEMORY_MOST / 1e9:g} GB, as a share of it", share, most=1.0),
    ]


def tell_memory(folder: Path) -> None:
    """Make all attention maps of one image and say after every step how much memory it took."""
    tell_step("python, numpy, vitrail")
    import onnx  # noqa: F401
    import onnxruntime  # noqa: F401
    import torch  # noqa: F401

    tell_step("torch, onnx and onnxruntime imported")
    package = load_package(folder)
    tell_step("package loaded and asked its golden questions")
    from vitrail.explanation.layers import network_layers

    layers = network_layers(package.network)
    tell_step("network rebuilt in torch")
    assert layers.attentions  # noqa: S101
    tell_step("its attention found")
    size = package.recipe.size
    place = Placement(size, size, 0, 0, size, size, 0, 0, size, size)
    pixels = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), dtype=np.uint8)
    started = time.perf_counter()
    run_explain.explain_batch(package, pixels, (place,), images=("x",), methods=ATTENTION)
    tell_step(f"{', '.join(ATTENTION)} of one image, {time.perf_counter() - started:.1f} s")


def tell_step(name: str) -> None:
    """Print the memory that the process holds, and the most that it held since the last step."""
    text = Path("/proc/self/status").read_text()
    held, most, mapped = (int(re.search(rf"{key}:\s+(\d+)", text)[1]) // 1024 for key in ("VmRSS", "VmHWM", "RssFile"))  # type: ignore[index]
    print(f"  {most:>6} MiB at most, {held:>6} MiB after ({mapped} of files): {name}", flush=True)


# ---------------------------------------------------------------------------------------------------- the command


def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", action="append", choices=(*PARTS, "path"), help=f"again for several; default: {', '.join(PARTS)}"
    )
    parser.add_argument("--package", type=Path, help="a model package with a network; then no other model")
    parser.add_argument("--weights", type=Path, help="folder of a backbone in timm's local-dir format")
    parser.add_argument("--models", nargs="+", choices=("backbone", "vit", "cnn"), help="default: all that can be had")
    parser.add_argument("--data", type=Path, help="folder of images; default: drawn ones")
    parser.add_argument("--images", type=int, default=6, help="images; of parts of many passes only the first is asked about")
    parser.add_argument("--size", type=int, default=224, help="side of the input in pixels")
    parser.add_argument("--samples", type=int, default=256, help="combinations for LIME and KernelSHAP")
    parser.add_argument("--batch", type=int, default=32, help="changed copies of an image that go through a model together")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count; 3 at most for parts of many passes")
    parser.add_argument("--threads", type=int, default=2, help="cores")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/explanation.json"), help="where to write the figures")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    if options.memory_of:
        tell_memory(options.memory_of)
        return
    import torch

    torch.set_num_threads(options.threads)
    figures: dict[str, object] = {"settings": {key: str(value) for key, value in vars(options).items()}}
    parts = options.only or PARTS
    names = ["package"] if options.package else options.models or [*(["backbone"] if options.weights else []), "vit", "cnn"]
    with tempfile.TemporaryDirectory() as scratch:
        for place, name in enumerate(names):
            asked = [part for part in parts if part != "vit-memory" and (place == 0 or part not in MANY)]
            if not asked:
                continue
            folder = options.package or Path(scratch) / name
            if not options.package:
                pack(name, options.weights, options.size, folder)
            bench = Bench(name, folder, options)
            for part in asked:
                rows = bench.rows(part)
                images, rounds = (1, min(3, options.rounds)) if part in MANY else (len(bench.pixels), options.rounds)
                seconds = measure(rows, images, rounds, f"{name} {part}")
                records, promises = table(rows, seconds)
                show(f"{name}, {part}: {images} images, {options.threads} cores, {rounds} rounds", records, promises)
                figures[f"{name} {part}"] = {"rows": records, "promises": promises, "seconds": seconds}
        if "vit-memory" in parts:
            print("\nvit-memory: a ViT-base/16 at 384 pixels is packed", flush=True)
            folder = Path(scratch) / "vit-base-384"
            pack("vit-base-384", None, 384, folder)
            lines = measure_memory(folder)
            print("\n".join(lines), flush=True)
            figures["vit-memory"] = lines
    write_record(options.json, figures)


if __name__ == "__main__":
    main()
