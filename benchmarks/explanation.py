"""How fast are explanations, beside the physical limit and beside other libraries: same run, model, images and cores.

    python benchmarks/explanation.py --weights TIMM_LOCAL_DIR --data FOLDER --threads 2

Models: ``--weights`` is packed with a random linear head; beside it a ViT-small/16 and vitrail's own network, both with random
weights; or ``--package FOLDER`` alone. The others are asked about the torch module that was packed; of a package, about its graph
as a torch module.

Limits: one forward pass (bare torch, and ONNX Runtime) and one forward and backward pass to the input (torch).

What is timed: a call, from prepared uint8 pixels (vitrail) or scaled tensors (others) to a map at the model's input. Loading and
checking a package, decoding, and the first call are not part of it. vitrail's calls hold the pass for the scores, which decides
the class; rows "scores given" leave it out. The others are told the class, and LIME and KernelSHAP the superpixels.
Images go one at a time. Rows take turns in every repeat, so that a busy machine troubles all alike. ``--threads`` binds the
process to so many cores (Linux). ``--memory`` adds the most memory of a fresh process per row.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fresh_process import run_fresh
from vitrail.explanation import run_explain
from vitrail.explanation.explainer import Question
from vitrail.models import load_package
from vitrail.records import Placement, Recipe
from vitrail.storage import write_record

CLASSES = ("a", "b", "c", "d")
CAMS = ("cam", "grad-cam", "grad-cam-plus-plus", "layer-cam", "hires-cam")
QUICK = (*CAMS, "gradient", "gradient-times-input", "guided-backpropagation")
STEPS, SUPERPIXELS = 32, 50
FORWARD, ORT, BACK = "limit: forward, torch", "limit: forward, onnxruntime", "limit: forward + backward, torch"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: What is measured.
        call: Does it for one image, by number.
        limit: Row that it is held against.
        rival: Row of vitrail that answers the same question; empty for limits and vitrail itself.
        slow: Whether it is asked about few images only.
    """

    name: str
    call: Callable[[int], object]
    limit: str
    rival: str = ""
    slow: bool = False


def pack(name: str, weights: Path | None, size: int, folder: Path) -> None:
    """Write the package of a model."""
    from vitrail.models.embedders import OnnxEmbedder
    from vitrail.models.heads import DenseHead
    from vitrail.models.network import export_onnx
    from vitrail.models.package import save_package

    trunk, matrix, bias, recipe = torch_parts(name, weights, size)
    graph = folder.with_suffix(".onnx")
    graph.write_bytes(export_onnx(trunk, channels=recipe.channels, size=size, outputs=trunk.outputs))
    save_package(
        folder, name=name, family="probe", description="For timing.", classes=CLASSES,
        embedder=OnnxEmbedder(graph, recipe, trunk.pooling), head=DenseHead((matrix,), (bias,), "relu"),
        data_fingerprint="", study_fingerprint="",
    )  # fmt: skip


def torch_parts(name: str, weights: Path | None, size: int) -> tuple[Any, Any, Any, Recipe]:
    """Return the trunk, a random linear head and the recipe of a model; the same at every call."""
    import torch

    from vitrail.models import backbones, cnn
    from vitrail.study import CnnSettings

    torch.manual_seed(0)
    channel = {"mean": (0.485, 0.456, 0.406), "deviation": (0.229, 0.224, 0.225)}
    recipe = Recipe(size=size, colour="rgb", crop_margins=False, keep_aspect=False, scaling="channel", **channel)
    if name == "cnn":
        trunk = cnn.build(CnnSettings(pooling="average", activation="relu"), recipe, classes=len(CLASSES), seed=0).eval().trunk
    else:
        source = f"local-dir:{weights}" if name == "backbone" else "vit_small_patch16_224"
        model, _ = backbones.load(source, size, pretrained=name == "backbone", classifier=False)
        pooling, _ = backbones.pooling_and_dimension(model, torch.rand(2, 3, size, size))
        trunk = backbones.Features(model, pooling).eval()
    with torch.no_grad():
        dimension = trunk(torch.rand(1, 3, size, size))[-1].shape[1]
    random = np.random.default_rng(0)
    matrix = random.normal(0, dimension**-0.5, (len(CLASSES), dimension)).astype(np.float32)
    return trunk, matrix, np.zeros(len(CLASSES), np.float32), recipe


def torch_module(name: str, weights: Path | None, package: Any) -> tuple[Any, Any, Any]:
    """Return the module, the layer for Grad-CAM and how its output becomes maps (both ``None`` where it has no such layer)."""
    import torch
    from torch import nn

    if name == "package":
        from vitrail.explanation.graph import ACTIVATIONS, INPUT, LOGITS, network_graph

        graph = network_graph(package.network)

        class Graph(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.last = nn.Identity()

            def forward(self, pixels: torch.Tensor) -> torch.Tensor:
                if package.pooling == "none":
                    return graph.run({INPUT: pixels})[LOGITS]
                maps = self.last(graph.run({INPUT: pixels}, (ACTIVATIONS,))[ACTIVATIONS])
                return graph.run({ACTIVATIONS: maps})[LOGITS]

        module = Graph().eval()
        return module, None if package.pooling == "none" else module.last, None
    trunk, matrix, bias, _ = torch_parts(name, weights, package.recipe.size)
    head = nn.Linear(matrix.shape[1], len(CLASSES))
    head.weight.data, head.bias.data = torch.from_numpy(matrix), torch.from_numpy(bias)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.trunk, self.head, self.last = trunk, head, nn.Identity()

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.head(self.trunk(pixels)[-1])

    def grid(tokens: torch.Tensor) -> torch.Tensor:
        side = int((tokens.shape[1] - 1) ** 0.5)
        return tokens[:, 1:].reshape(len(tokens), side, side, -1).permute(0, 3, 1, 2)

    whole = Whole().eval()
    if name == "vit":
        return whole, trunk.model.blocks[-1].norm1, grid
    convolutions = [one for one in trunk.modules() if isinstance(one, nn.Conv2d)]
    layer = getattr(trunk.model, "bn2", convolutions[-1]) if name == "backbone" else convolutions[-1]
    return whole, layer, None


def own_rows(package: Any, pixels: Any, options: argparse.Namespace) -> list[Row]:
    """Return vitrail's rows."""
    known = run_explain.EXPLAINERS
    size = package.recipe.size
    place = Placement(size, size, 0, 0, size, size, 0, 0, size, size)
    many = {
        "integrated-gradients": type(known["integrated-gradients"])(steps=STEPS, most_steps=STEPS),
        "smooth-grad": type(known["smooth-grad"])(samples=STEPS),
        "occlusion": known["occlusion"],
        "lime": type(known["lime"])(superpixels=SUPERPIXELS, samples=options.samples),
        "kernel-shap": type(known["kernel-shap"])(superpixels=SUPERPIXELS, samples=options.samples),
    }

    def ask(methods: dict[str, Any]) -> Callable[[int], object]:
        def call(number: int) -> object:
            return run_explain.explain_batch(package, pixels[number : number + 1], (place,), images=("x",), methods=methods)

        return call

    scores = package.scores(pixels)

    def given(explainer: Any) -> Callable[[int], object]:
        def call(number: int) -> object:
            one = slice(number, number + 1)
            return explainer.relevance(package, Question(pixels[one], (place,), scores[one].argmax(axis=1), scores[one]))

        return call

    quick = {name: known[name] for name in QUICK if not known[name].refusal(package)}
    rows = [Row(name, ask({name: explainer}), FORWARD if name in CAMS else BACK) for name, explainer in quick.items()]
    rows += [
        Row(f"{name}, scores given", given(explainer), FORWARD if name in CAMS else BACK)
        for name, explainer in quick.items()
        if name in ("cam", "grad-cam", "gradient")
    ]
    if quick:
        rows.append(Row("all quick methods together", ask(quick), BACK))
        rows.append(Row("the same without guided", ask({k: v for k, v in quick.items() if not k.startswith("guided")}), BACK))
    for name, explainer in many.items():
        if not explainer.refusal(package):
            limit = BACK if name in ("integrated-gradients", "smooth-grad") else FORWARD
            rows.append(Row(name, ask({name: explainer}), limit, slow=True))
    return rows


def torch_rows(name: str, package: Any, pixels: Any, options: argparse.Namespace) -> list[Row]:
    """Return the limits in torch, and the other libraries' rows."""
    import captum.attr
    import torch
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    from vitrail.explanation.perturbing import median_fill
    from vitrail.explanation.superpixels import segment
    from vitrail.preprocess import normalise

    torch.set_num_threads(options.threads)
    model, layer, grid = torch_module(name, options.weights, package)
    inputs = torch.from_numpy(normalise(pixels, package.recipe))
    scores = package.scores(pixels)
    with torch.no_grad():  # the others must explain the same answers
        assert np.abs(model(inputs).softmax(dim=1).numpy() - scores).max() < 1e-3  # noqa: S101
    classes = scores.argmax(axis=1).tolist()
    fills = normalise(np.stack([np.broadcast_to(median_fill(one), one.shape) for one in pixels]), package.recipe)
    fills, segments = torch.from_numpy(fills), [torch.from_numpy(segment(one, SUPERPIXELS)) for one in pixels]
    occlusion = run_explain.EXPLAINERS["occlusion"]
    side, step = occlusion._patch(package.recipe.size)
    windows = {"sliding_window_shapes": (inputs.shape[1], side, side), "strides": (inputs.shape[1], step, step)}
    attribution = captum.attr

    def one(number: int) -> torch.Tensor:
        return inputs[number : number + 1].clone()

    def forward(number: int) -> object:
        with torch.inference_mode():
            return model(inputs[number : number + 1])

    def back(number: int) -> object:
        leaf = one(number).requires_grad_()
        return torch.autograd.grad(model(leaf)[0, classes[number]], leaf)

    def occlude(each: int) -> Callable[[int], object]:
        method = attribution.Occlusion(model)
        return lambda n: method.attribute(
            one(n), target=classes[n], baselines=fills[n : n + 1], perturbations_per_eval=each, **windows
        )

    def superpixels(kind: Any, each: int) -> Callable[[int], object]:
        method = kind(model)

        def call(n: int) -> object:
            return method.attribute(
                one(n), target=classes[n], baselines=fills[n : n + 1], feature_mask=segments[n][None, None],
                n_samples=max(options.samples, 4 * (int(segments[n].max()) + 1)), perturbations_per_eval=each,
            )  # fmt: skip

        return call

    saliency, integrated = attribution.Saliency(model), attribution.IntegratedGradients(model)
    noisy = attribution.NoiseTunnel(saliency)

    def smooth(n: int) -> object:
        return noisy.attribute(one(n), nt_samples=STEPS, nt_samples_batch_size=4, stdevs=0.5, target=classes[n])

    batch = options.batch
    rows = [
        Row(FORWARD, forward, FORWARD),
        Row(BACK, back, BACK),
        Row("captum Saliency", lambda n: saliency.attribute(one(n), target=classes[n], abs=False), BACK, "gradient"),
        Row("captum IntegratedGradients", lambda n: integrated.attribute(one(n), target=classes[n], n_steps=STEPS), BACK,
            "integrated-gradients", slow=True),
        Row("captum IntegratedGradients, batches of 4",
            lambda n: integrated.attribute(one(n), target=classes[n], n_steps=STEPS, internal_batch_size=4), BACK,
            "integrated-gradients", slow=True),
        Row("captum NoiseTunnel, batches of 4", smooth, BACK, "smooth-grad", slow=True),
        Row("captum Occlusion, default", occlude(1), FORWARD, "occlusion", slow=True),
        Row(f"captum Occlusion, batches of {batch}", occlude(batch), FORWARD, "occlusion", slow=True),
        Row("captum Lime, default", superpixels(attribution.Lime, 1), FORWARD, "lime", slow=True),
        Row(f"captum Lime, batches of {batch}", superpixels(attribution.Lime, batch), FORWARD, "lime", slow=True),
        Row(f"captum KernelShap, batches of {batch}", superpixels(attribution.KernelShap, batch), FORWARD, "kernel-shap",
            slow=True),
    ]  # fmt: skip
    if layer is not None:

        def grad_cam(n: int) -> object:
            # its hooks would slow down the other rows: they are taken off after each call
            with GradCAM(model=model, target_layers=[layer], reshape_transform=grid) as method:
                return method(input_tensor=one(n), targets=[ClassifierOutputTarget(classes[n])])

        rows.append(Row("pytorch_grad_cam GradCAM", grad_cam, FORWARD, "grad-cam"))
    return rows


def onnx_row(package: Any, pixels: Any, options: argparse.Namespace) -> Row:
    """Return the limit in ONNX Runtime."""
    import onnxruntime

    from vitrail.preprocess import normalise

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = options.threads
    trunk = str(package.network.trunk)
    session = onnxruntime.InferenceSession(trunk, settings, providers=["CPUExecutionProvider"])
    inputs = normalise(pixels, package.recipe)
    return Row(ORT, lambda n: session.run(["embedding"], {"pixels": inputs[n : n + 1]}), FORWARD)


def measure(rows: list[Row], images: int, slow_images: int, repeats: int) -> dict[str, list[float]]:
    """Return seconds per image of every row in every repeat; rows take turns."""
    for row in rows:
        row.call(0)
    found: dict[str, list[float]] = {row.name: [] for row in rows}
    for repeat in range(repeats):
        turn = repeat * len(rows) // max(1, repeats)
        for row in rows[turn:] + rows[:turn]:
            count = min(images, slow_images) if row.slow else images
            started = time.perf_counter()
            for number in range(count):
                row.call(number)
            found[row.name].append((time.perf_counter() - started) / count)
    return found


def table(rows: list[Row], seconds: dict[str, list[float]], peaks: dict[str, int]) -> list[dict[str, object]]:
    """Return one record per row. A ratio to a peer above 1: vitrail is faster."""
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    records = []
    for row in rows:
        own = middle[row.name]
        rivals = [f"{middle[one.name] / own:.2f} x {one.name}" for one in rows if one.rival == row.name]
        records.append({
            "row": row.name, "milliseconds": round(1e3 * own, 3), "lowest": round(1e3 * min(seconds[row.name]), 3),
            "highest": round(1e3 * max(seconds[row.name]), 3), "limit": row.limit,
            "over_limit": round(own / middle[row.limit], 3),
            "faster_than": rivals, "peak_mib": round(peaks[row.name] / 2**20) if row.name in peaks else None,
        })  # fmt: skip
    return records


def promises(rows: list[Row], seconds: dict[str, list[float]]) -> list[str]:
    """Return the project's promises, each with the figure, reached or missed."""
    middle = {name: statistics.median(values) for name, values in seconds.items()}

    def line(text: str, value: float, *, most: float | None = None, least: float | None = None) -> str:
        held = value <= most if most is not None else value >= (least or 0.0)
        return f"{'reached' if held else 'missed '}  {text}: {value:.2f}"

    lines = []
    cams = [name for name in CAMS if name in middle]
    for limit in (FORWARD, ORT):
        if cams:
            worst = max(cams, key=lambda name: middle[name])
            lines.append(line(f"CAM family ({worst}) at most 1.1 x {limit}", middle[worst] / middle[limit], most=1.1))
    together = [name for name in ("all quick methods together", "the same without guided") if name in middle]
    lines += [line(f"{name} at most 1.5 x {BACK}", middle[name] / middle[BACK], most=1.5) for name in together]
    rivals = [row for row in rows if row.rival in ("grad-cam", "occlusion", "lime") and row.rival in middle]
    lines += [
        line(f"{one.rival} at least 3 x as fast as {one.name}", middle[one.name] / middle[one.rival], least=3) for one in rivals
    ]
    return lines


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


def rows_of(name: str, folder: Path, options: argparse.Namespace) -> tuple[list[Row], int]:
    """Return all rows of a model, and the number of images."""
    package = load_package(folder)
    pixels = read_pixels(package, options)
    wanted = options.only or ""
    own = [] if wanted.startswith(("captum", "pytorch", FORWARD, BACK)) else own_rows(package, pixels, options)
    other = [] if wanted and any(row.name == wanted for row in own) else torch_rows(name, package, pixels, options)
    return [*other[:2], onnx_row(package, pixels, options), *own, *other[2:]], len(pixels)


def peaks_of(rows: list[Row], name: str, folder: Path) -> dict[str, int]:
    """Return the most memory that a fresh process holds which does one row for one image."""
    found = {}
    for row in rows:
        ended = run_fresh([sys.executable, *sys.argv, "--only", row.name, "--only-model", name, "--only-folder", str(folder)])
        if ended.exit_code:
            sys.exit(ended.errors)
        found[row.name] = ended.peak_bytes
    return found


def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, help="a model package with a network; then no other model")
    parser.add_argument("--weights", type=Path, help="folder of a backbone in timm's local-dir format")
    parser.add_argument("--data", type=Path, help="folder of images; default: drawn ones")
    parser.add_argument("--images", type=int, default=24, help="images")
    parser.add_argument("--slow-images", type=int, default=4, help="images for methods of many passes")
    parser.add_argument("--size", type=int, default=224, help="side of the input in pixels")
    parser.add_argument("--samples", type=int, default=256, help="combinations for LIME and KernelSHAP")
    parser.add_argument("--batch", type=int, default=32, help="perturbations_per_eval of captum's batched rows")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores")
    parser.add_argument("--memory", action="store_true", help="measure memory, one process per row")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/explanation.json"), help="where to write the figures")
    for hidden in ("--only", "--only-model", "--only-folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    if options.only:
        rows, _ = rows_of(options.only_model, Path(options.only_folder), options)
        next(row for row in rows if row.name == options.only).call(0)
        return
    figures: dict[str, object] = {"settings": {key: str(value) for key, value in vars(options).items()}}
    with tempfile.TemporaryDirectory() as scratch:
        names = ["package"] if options.package else [*(["backbone"] if options.weights else []), "vit", "cnn"]
        for name in names:
            folder = options.package or Path(scratch) / name
            if not options.package:
                pack(name, options.weights, options.size, folder)
            rows, images = rows_of(name, folder, options)
            seconds = measure(rows, images, options.slow_images, options.repeats)
            records = table(rows, seconds, peaks_of(rows, name, folder) if options.memory else {})
            lines = promises(rows, seconds)
            print(f"\n{name}: {images} images, {options.threads} threads, {options.repeats} repeats")
            print(f"{'':<42}{'ms/image':>10}{'lowest':>10}{'highest':>10}{'/ limit':>9}{'MiB':>7}  faster than")
            for one in records:
                numbers = f"{one['milliseconds']:>10}{one['lowest']:>10}{one['highest']:>10}{one['over_limit']:>9}"
                print(f"{one['row']:<42}{numbers}{one['peak_mib'] or '':>7}  {'; '.join(one['faster_than'])}")  # type: ignore[arg-type]
            print("\n".join(lines))
            figures[name] = {"rows": records, "promises": lines, "seconds": json.loads(json.dumps(seconds))}
    write_record(options.json, figures)


if __name__ == "__main__":
    main()
