"""A large network is in memory once at a time, and its explanations are those of any other."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from explanation_models import whole_image
from explanation_networks import SIZE, family, pixels_for, random_head, recipe_of
from PIL import Image

from vitrail.explanation import explain_batch
from vitrail.explanation import graph as graph_module
from vitrail.models import embedders
from vitrail.models.backbones import Features
from vitrail.models.network import export_onnx
from vitrail.models.package import ModelPackage, save_package

METHODS = ("attention-rollout", "gradient-rollout", "gradient", "grad-cam", "occlusion")


def packed_anew(name):
    """Return a family's package of which nothing was computed yet."""
    model = family(name)
    return ModelPackage(model.description, model.embedder, model.head)


def in_runtime(model):
    return "_session" in vars(model.embedder)


def maps_of(model, pixels):
    places, images = (whole_image(SIZE),) * len(pixels), ("x.png",) * len(pixels)
    return {name: [one.map for one in found] for name, found in
            explain_batch(model, pixels, places, images=images, methods=METHODS).items()}  # fmt: skip


def test_maps_are_the_same_whether_or_not_the_runtime_lets_go(monkeypatch):
    model = family("vit-class")
    pixels = pixels_for(model, 3)
    kept = maps_of(model, pixels)
    assert in_runtime(model)
    monkeypatch.setattr(embedders, "LARGE", 0)
    let_go = maps_of(model, pixels)
    for name in METHODS:
        np.testing.assert_array_equal(let_go[name], kept[name])


def test_a_large_network_leaves_the_runtime_while_torch_computes(monkeypatch):
    model = family("vit-registers")
    before = model.scores(pixels_for(model))
    monkeypatch.setattr(embedders, "LARGE", 0)
    explain_batch(model, pixels_for(model), (whole_image(SIZE),), images=("x.png",), methods=("gradient",))
    assert not in_runtime(model)
    np.testing.assert_array_equal(model.scores(pixels_for(model)), before)


def test_a_small_network_stays_in_the_runtime():
    model = family("vit-registers")
    explain_batch(model, pixels_for(model), (whole_image(SIZE),), images=("x.png",), methods=("gradient",))
    assert in_runtime(model)


def test_a_network_whose_file_is_gone_is_not_let_go(monkeypatch, tmp_path):
    model = family("cnn")
    path = tmp_path / "embedder.onnx"
    path.write_bytes(model.embedder.path.read_bytes())
    embedder = embedders.OnnxEmbedder(path, model.recipe, model.pooling)
    before = embedder.embed(pixels_for(model))
    monkeypatch.setattr(embedders, "LARGE", 0)
    path.unlink()
    embedder.make_room()
    np.testing.assert_array_equal(embedder.embed(pixels_for(model)), before)


@pytest.mark.parametrize("method", ["integrated-gradients", "expected-gradients", "smooth-grad"])
def test_images_go_one_by_one_through_a_network_that_records_much(method, monkeypatch):
    model = packed_anew("cnn")
    monkeypatch.setattr(graph_module, "RECORDED_BYTES", 1)
    sizes, run = [], graph_module.NetworkGraph.run

    def watched(self, feeds, *rest, **options):
        sizes.append(len(feeds[graph_module.INPUT]))
        return run(self, feeds, *rest, **options)

    monkeypatch.setattr(graph_module.NetworkGraph, "run", watched)
    explain_batch(model, pixels_for(model), (whole_image(SIZE),), images=("x.png",), methods=(method,))
    assert len(sizes) > 10
    assert set(sizes) == {1}


# ---------------------------------------------------------------------------------------------------- how much memory


SIDE = 384
EXPLAIN = """
import sys
from pathlib import Path
from vitrail.cli import main
try:
    main()
finally:
    most = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(most.split()[1]) * 1024, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def vit_base(tmp_path_factory):
    """Return the folder of a package: a ViT-base/16 at 384 pixels, with random weights."""
    timm = pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("vit")
    trunk = Features(timm.create_model("vit_base_patch16_384", pretrained=False, num_classes=0), "none").eval()
    path = folder / "trunk.onnx"
    path.write_bytes(export_onnx(trunk, channels=3, size=SIDE, outputs=trunk.outputs))
    save_package(
        folder / "package", name="vit", family="probe", description="For its size.", classes=("a", "b", "c"),
        embedder=embedders.OnnxEmbedder(path, recipe_of("rgb", size=SIDE), "none"), head=random_head(768),
        data_fingerprint="", study_fingerprint="",
    )  # fmt: skip
    return folder / "package"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux how much memory a process held")
@pytest.mark.parametrize("way", [["gradient-rollout"], ["attention", "--layer", "all"], ["gradient"]])
def test_a_large_transformer_is_explained_within_two_gigabytes(way, vit_base, tmp_path):
    image = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 420), dtype=np.uint8)).save(image)
    asked = ["explain", str(vit_base), str(image), "--method", *way, "--output", str(tmp_path / "out")]
    ended = subprocess.run([sys.executable, "-c", EXPLAIN, *asked], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert list((tmp_path / "out").glob("*.npy"))
    assert int(ended.stderr.split()[-1]) < 2e9
