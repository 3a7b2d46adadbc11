"""Backbones by name: downloaded from the model hub by the libraries that really do it, from a hub that stands on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from cli_data import process

from vitrail.models import load_package
from vitrail.preprocess import normalise

REPOSITORIES = {"timm/test_resnet.r160_in1k": ("test_resnet", 1000), "nobody/small-resnet": ("test_resnet", 7)}
"""Repository -> architecture of timm and number of classes. The first is where timm looks for a model of its own list."""


@dataclass
class Hub:
    """A hub on this machine.

    Attributes:
        folder: Of its repositories.
        address: Of its server.
        asked: Files that were asked for, with how.
    """

    folder: Path
    address: str = ""
    asked: list[str] = field(default_factory=list)

    def model(self, repository: str):
        """Return the model of a repository as it was saved."""
        import safetensors.torch
        import timm

        architecture, classes = REPOSITORIES[repository]
        model = timm.create_model(architecture, num_classes=classes)
        model.load_state_dict(safetensors.torch.load_file(self.folder / repository / "model.safetensors"))
        return model.eval()


def fill(folder: Path) -> None:
    """Save a small model with random weights per repository, as timm's own `push_to_hf_hub` does."""
    import safetensors.torch
    import timm
    import torch

    for seed, (repository, (architecture, classes)) in enumerate(REPOSITORIES.items()):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = timm.create_model(architecture, num_classes=classes)
        (folder / repository).mkdir(parents=True)
        config = {key: model.pretrained_cfg[key] for key in ("input_size", "mean", "std", "first_conv", "classifier")}
        content = {"architecture": architecture, "num_classes": classes, "pretrained_cfg": {**config, "num_classes": classes}}
        (folder / repository / "config.json").write_text(json.dumps(content))
        safetensors.torch.save_file(model.state_dict(), folder / repository / "model.safetensors")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    here = Hub(tmp_path_factory.mktemp("hub"))
    fill(here.folder)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, *, body: bool) -> None:
            repository, _, name = self.path.lstrip("/").partition("/resolve/main/")
            here.asked.append(f"{self.command} {repository} {name}")
            path = here.folder / repository / name
            known = repository in REPOSITORIES and path.is_file()
            content = path.read_bytes() if known else b""
            self.send_response(200 if known else 404)
            if known:
                self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", "0" * 40)
            else:
                self.send_header("X-Error-Code", "EntryNotFound" if repository in REPOSITORIES else "RepoNotFound")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield here
    server.shutdown()
    server.server_close()


def surroundings(address: str, home: Path) -> dict[str, str]:
    """The variables of a process for which the hub stands at ``address`` and nothing has been downloaded yet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    return {**kept, "HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}


@pytest.fixture(scope="module")
def trained(hub, images, tmp_path_factory):
    """A probe on a model of timm's list and a fine-tuned model (of which only the head learns) from somebody's repository."""
    folder = tmp_path_factory.mktemp("from-hub")
    study = folder / "study.yaml"
    content = {
        "data": {"path": str(images)},
        "preprocess": {"size": 64},
        "models": [
            {"model": "probe", "backbone": "test_resnet.r160_in1k"},
            {"model": "finetune", "backbone": "hf-hub:nobody/small-resnet", "strategy": "frozen", "training": {"epochs": 1}},
        ],
        "evaluation": {"resamples": 200},
        "explanation": {"gallery": 0},
        "tracking": {"enabled": False},
        "output": "runs",
    }
    study.write_text(json.dumps(content))
    done = process("evaluate", study, "--json", "--quiet", env=surroundings(hub.address, folder / "home"))
    assert done.returncode == 0, done.stderr
    return study, json.loads(done.stdout)


@pytest.mark.parametrize(("model", "repository"), [("probe", "timm/test_resnet.r160_in1k"), ("finetune", "nobody/small-resnet")])
def test_the_weights_of_the_hub_are_the_ones_that_answer(model, repository, hub, trained):
    import torch

    (row,) = [row for row in trained[1]["leaderboard"] if row["model"] == model]
    package = load_package(row["package"])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    original = hub.model(repository)
    with torch.no_grad():
        inputs = torch.from_numpy(normalise(pixels, package.embedder.recipe))
        expected = original.forward_head(original.forward_features(inputs), pre_logits=True).numpy()
    np.testing.assert_allclose(package.embedder.embed(pixels), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert f"GET {repository} model.safetensors" in hub.asked


@pytest.mark.slow
def test_weights_are_downloaded_once_and_then_found_without_the_hub(hub, trained):
    asked = len(hub.asked)
    study, _ = trained
    gone = surroundings("http://127.0.0.1:9", study.parent / "home")
    done = process("train", study, "--seed", "1", "--json", "--quiet", env=gone)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["leaderboard"]
    assert len(rows) == 2 and all(row["package"] and "failure" not in row for row in rows)
    assert len(hub.asked) == asked


def test_a_repository_that_is_not_there_is_told_before_an_image_is_read(hub, images, tmp_path):
    wish = ("--models", "probe", "--backbone", "hf-hub:nobody/nothing", "--output", tmp_path / "runs")
    done = process("run", images, *wish, env=surroundings(hub.address, tmp_path / "home"))
    assert done.returncode == 2
    assert "models.probe.backbone" in done.stderr and "hf-hub:nobody/nothing" in done.stderr
    assert "local-dir:FOLDER" in done.stderr
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("shapes-*"))


@pytest.mark.slow
def test_a_name_of_the_list_that_the_hub_does_not_give_leaves_the_model_out(hub, images, tmp_path):
    wish = ("--models", "forest,probe", "--backbone", "test_vit.r160_in1k", "--output", tmp_path / "runs", "--json")
    few = ("--set", "models.forest.trees=5", "--set", "tracking.enabled=false")
    done = process("train", images, *wish, *few, env=surroundings(hub.address, tmp_path / "home"))
    assert done.returncode == 0, done.stderr
    assert "test_vit.r160_in1k" in done.stderr and "left out" in done.stderr
