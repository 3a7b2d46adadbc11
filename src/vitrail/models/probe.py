"""Frozen pretrained backbone with a trained head."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.errors import Problem, StudyError
from vitrail.models import backbones
from vitrail.models.backbones import CHANNELS, BackboneUnavailable
from vitrail.models.embedders import OnnxEmbedder, Pooling
from vitrail.models.heads import DenseHead
from vitrail.preprocess import make_recipe
from vitrail.progress import SILENT, Progress
from vitrail.records import FloatArray, IntArray
from vitrail.storage import fingerprint, read_record, write_bytes, write_record
from vitrail.study import PreprocessSettings, ProbeSettings


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
    name = backbones.short_name(settings.backbone) + ("" if settings.pretrained else " with random weights")
    head = f"trained dense layers of {'-'.join(map(str, settings.dense))}" if settings.dense else "a trained linear head"
    return f"{name}, frozen, with {head}"


def check(settings: ProbeSettings, preprocess: PreprocessSettings) -> None:
    """Find out early whether the backbone exists and takes the images, before hours of work.

    Args:
        settings: Names the backbone.
        preprocess: Resolved.

    Raises:
        StudyError: The folder lacks the weights, timm knows no such model, or the backbone takes other colours or
            sizes.
    """
    key = f"models.{settings.name or settings.model}"
    channels = backbones.input_channels(settings.backbone, key=f"{key}.backbone", pretrained=settings.pretrained)
    if channels not in CHANNELS.values():
        message = f"takes images of {channels} channels; vitrail gives 1 (grey) or 3 (rgb). Choose another backbone."
        raise StudyError("study", (Problem(f"{key}.backbone", message, repr(settings.backbone)),))
    if preprocess.colour is not None and CHANNELS[preprocess.colour] != channels:
        colour = next(name for name, count in CHANNELS.items() if count == channels)
        message = f"{settings.backbone} takes {colour} images. Write `preprocess: {{colour: {colour}}}` inside this model."
        raise StudyError("study", (Problem(f"{key}.preprocess.colour", message, preprocess.colour),))
    if preprocess.size is not None:
        backbones.check_size(settings.backbone, preprocess.size, channels=channels, key=f"{key}.preprocess.size")
    backbones.check_pooling(settings.backbone, settings.pooling, channels=channels, key=f"{key}.pooling")


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
        BackboneUnavailable: The weights cannot be downloaded or read, or the backbone does not take images of this size.
    """
    versions = [importlib.metadata.version(package) for package in ("timm", "torch")]
    key = fingerprint("backbone-3", identity(settings), settings.pretrained, settings.pooling, preprocess.size, versions)
    path = cache / "backbones" / f"{key}.onnx"
    description = path.with_suffix(".json")
    if not (path.exists() and description.exists()):
        progress.say(f"Exporting {describe(settings)} to ONNX (once)")
        graph, backbone = _export(settings, preprocess.size)
        write_bytes(path, graph)
        write_record(description, backbone)
    backbone = read_record(description, Backbone)
    recipe = make_recipe(preprocess, size=backbone.size, mean=backbone.mean, deviation=backbone.deviation)
    return OnnxEmbedder(path, recipe, backbone.pooling)


def fit_linear(settings: ProbeSettings, embedding: FloatArray, labels: IntArray, *, class_weights: bool) -> tuple[DenseHead, int]:
    """Fit a linear probe: multinomial logistic regression with an L2 penalty, a convex problem solved to its one optimum.

    Args:
        settings: Strength of the penalty.
        embedding: float32, shape (n, dimension).
        labels: Class indices 0..classes-1, every class present, shape (n,).
        class_weights: Weight images so that every class counts the same.

    Returns:
        The head, and the number of its parameters.
    """
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(
        C=settings.inverse_regularisation, max_iter=2000, class_weight="balanced" if class_weights else None
    )
    regression.fit(embedding, labels)
    weights, biases = regression.coef_, regression.intercept_
    if len(weights) == 1:  # two classes: scikit-learn keeps one logit; half of it, with both signs, gives the same scores
        weights, biases = np.concatenate([-weights, weights]) / 2, np.concatenate([-biases, biases]) / 2
    head = DenseHead((weights.astype(np.float32),), (biases.astype(np.float32),), settings.activation)
    return head, weights.size + biases.size


def identity(settings: ProbeSettings) -> Any:
    """Return what the backbone is, without loading it: the hashes of weights on disk, else its name."""
    return backbones.identity(settings.backbone)


def _export(settings: ProbeSettings, size: int | None) -> tuple[bytes, Backbone]:
    import torch

    from vitrail.models.network import export_onnx

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # random weights are the same ones for every study: they are kept in the cache, too
        model, size = backbones.load(settings.backbone, size, pretrained=settings.pretrained, pooling=settings.pooling)
    config = model.pretrained_cfg
    channels = config["input_size"][0]
    try:
        noise = torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))
        pooling, _ = backbones.pooling_and_dimension(model, noise)
    except Exception as error:  # whatever a layer raises when the image is too small for it, or not a multiple of its patches
        raise BackboneUnavailable(
            f"backbone {settings.backbone!r} does not take images of {size} px ({backbones.reason(error)}). "
            "Leave preprocess.size open for this model."
        ) from error
    features = backbones.Features(model, pooling).eval()
    graph = export_onnx(features, channels=channels, size=size, outputs=features.outputs)
    return graph, Backbone(size, tuple(config["mean"]), tuple(config["std"]), pooling)
