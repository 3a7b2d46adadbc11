"""Frozen pretrained backbone with a trained head. This file is the only door to timm."""

from __future__ import annotations

import importlib.metadata
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.errors import Problem, StudyError, VitrailError
from vitrail.models.embedders import OnnxEmbedder, Pooling
from vitrail.models.heads import DenseHead
from vitrail.preprocess import make_recipe
from vitrail.progress import SILENT, Progress
from vitrail.records import FloatArray, IntArray
from vitrail.storage import file_sha256, fingerprint, read_record, write_bytes, write_record
from vitrail.study import PreprocessSettings, ProbeSettings

LOCAL = "local-dir:"


class BackboneUnavailable(VitrailError):
    """The weights could not be had: the model is left out of the run, and says so."""


@dataclass(frozen=True)
class Backbone:
    """What is known of an exported backbone.

    Attributes:
        size: Side of the input it was exported for.
        mean: Per channel, of its pretraining.
        deviation: Per channel, of its pretraining.
        pooling: How its feature maps become its vector.
    """

    size: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    pooling: Pooling


def describe(settings: ProbeSettings) -> str:
    """Return one line for tables."""
    name = Path(settings.backbone.removeprefix(LOCAL)).name
    head = f"dense layers of {'-'.join(map(str, settings.dense))}" if settings.dense else "linear head"
    return f"{name}, frozen, with a trained {head}"


def check(settings: ProbeSettings) -> None:
    """Find out early whether the backbone exists, before hours of work.

    Raises:
        StudyError: The folder lacks the weights, or timm knows no such model.
    """
    key = f"{settings.name or settings.model}.backbone"
    if settings.backbone.startswith(LOCAL):
        folder = Path(settings.backbone.removeprefix(LOCAL)).expanduser()
        if not (folder / "config.json").is_file() or not list(folder.glob("model.*")):
            message = "must be a folder with config.json and model.safetensors (timm's local-dir format)."
            raise StudyError("study", (Problem(key, message, str(folder)),))
        return
    import timm

    known = timm.list_models(pretrained=True)
    if settings.backbone not in known and settings.backbone not in timm.list_models():
        import difflib

        close = difflib.get_close_matches(settings.backbone, known, n=3) or ["mobilenetv2_100.ra_in1k"]
        message = f"is no timm model with pretrained weights. Close: {', '.join(close)}; or local-dir:FOLDER."
        raise StudyError("study", (Problem(key, message, repr(settings.backbone)),))


def embedder(
    settings: ProbeSettings, preprocess: PreprocessSettings, *, cache: Path, progress: Progress = SILENT
) -> OnnxEmbedder:
    """Return the backbone as an ONNX embedder, exported once and kept in the cache.

    Args:
        settings: Names the backbone.
        preprocess: Resolved; its open size is the backbone's own.
        cache: Folder of the caches.
        progress: Told of the export.

    Raises:
        BackboneUnavailable: The weights cannot be downloaded or read.
    """
    key = fingerprint("backbone-1", _identity(settings.backbone), preprocess.size)
    path = cache / "backbones" / f"{key}.onnx"
    description = path.with_suffix(".json")
    if not (path.exists() and description.exists()):
        progress.say(f"Exporting {describe(settings)} to ONNX (once)")
        graph, backbone = _export(settings.backbone, preprocess.size)
        write_bytes(path, graph)
        write_record(description, backbone)
    backbone = read_record(description, Backbone)
    recipe = make_recipe(preprocess, size=backbone.size, mean=backbone.mean, deviation=backbone.deviation)
    return OnnxEmbedder(path, recipe, backbone.pooling)


def fit_linear(
    settings: ProbeSettings, embedding: FloatArray, labels: IntArray, *, balance_classes: bool
) -> tuple[DenseHead, int]:
    """Fit a linear probe: multinomial logistic regression with an L2 penalty, a convex problem solved to its one optimum.

    Args:
        settings: Strength of the penalty.
        embedding: float32, shape (n, dimension).
        labels: Class indices 0..classes-1, every class present, shape (n,).
        balance_classes: Weight images so that every class counts the same.

    Returns:
        The head, and the number of its parameters.
    """
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(
        C=settings.inverse_regularisation, max_iter=2000, class_weight="balanced" if balance_classes else None
    )
    regression.fit(embedding, labels)
    weights, biases = regression.coef_, regression.intercept_
    if len(weights) == 1:  # two classes: scikit-learn keeps one logit; half of it, with both signs, gives the same scores
        weights, biases = np.concatenate([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
    head = DenseHead((weights.astype(np.float32),), (biases.astype(np.float32),), settings.activation)
    return head, weights.size + biases.size


def _identity(backbone: str) -> Any:
    """Return what the weights are, without loading them: hashes of files on disk, or the name and timm's version."""
    if backbone.startswith(LOCAL):
        folder = Path(backbone.removeprefix(LOCAL)).expanduser()
        return sorted((path.name, file_sha256(path)) for path in folder.iterdir() if path.is_file())
    return backbone, importlib.metadata.version("timm")


def _export(name: str, size: int | None) -> tuple[bytes, Backbone]:
    import timm
    import torch

    from vitrail.models.network import export_onnx

    logging.getLogger("timm").setLevel(logging.ERROR)
    try:
        model: Any = timm.create_model(name, pretrained=True).eval()
    except Exception as error:  # timm and the hub raise many kinds: no network, no such file, damaged weights
        reason = " ".join(str(error).split())[:200]
        raise BackboneUnavailable(
            f"backbone {name!r} could not be loaded ({type(error).__name__}: {reason}). "
            "Connect to the network once, or give weights on disk as local-dir:FOLDER."
        ) from error
    config = model.pretrained_cfg
    channels, native, _ = config["input_size"]
    size = size or native
    outputs: tuple[str, ...] = ("activations", "embedding")
    pooling = _pooling(model, torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0)))

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor) -> Any:
            activations = self.model.forward_features(pixels)
            embedding = self.model.forward_head(activations, pre_logits=True)
            return embedding if pooling == "none" else (activations, embedding)

    if pooling == "none":
        outputs = ("embedding",)
    graph = export_onnx(Features().eval(), channels=channels, size=size, outputs=outputs)
    return graph, Backbone(size, tuple(config["mean"]), tuple(config["std"]), pooling)


def _pooling(model: Any, pixels: Any) -> Pooling:
    """Find out by trying how a backbone's feature maps become its vector: names of layers cannot be trusted for that."""
    import torch

    with torch.no_grad():
        activations = model.forward_features(pixels)
        embedding = model.forward_head(activations, pre_logits=True).numpy()
    if activations.ndim == 4:
        maps = activations.numpy()
        candidates: dict[Pooling, Any] = {"average": maps.mean(axis=(2, 3)), "max": maps.max(axis=(2, 3))}
        for pooling, pooled in candidates.items():
            if pooled.shape == embedding.shape and np.allclose(pooled, embedding, rtol=1e-3, atol=1e-4):
                return pooling
    return "none"
