"""Frozen pretrained backbone with a trained head. This file is the only door to timm."""

from __future__ import annotations

import importlib.metadata
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitrail.errors import Problem, StudyError, VitrailError
from vitrail.model_settings import LOCAL_WEIGHTS
from vitrail.models.embedders import OnnxEmbedder, Pooling
from vitrail.models.heads import DenseHead
from vitrail.preprocess import make_recipe
from vitrail.progress import SILENT, Progress
from vitrail.records import FloatArray, IntArray
from vitrail.storage import file_sha256, fingerprint, read_record, write_bytes, write_record
from vitrail.study import PreprocessSettings, ProbeSettings

CHANNELS = {"grey": 1, "rgb": 3}
WEIGHTS = frozenset({".safetensors", ".pth", ".bin"})
"""What timm loads weights from; never with code in them."""


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
    name = Path(settings.backbone.removeprefix(LOCAL_WEIGHTS)).name
    head = f"trained dense layers of {'-'.join(map(str, settings.dense))}" if settings.dense else "a trained linear head"
    return f"{name}, frozen, with {head}"


def check(settings: ProbeSettings, preprocess: PreprocessSettings) -> None:
    """Find out early whether the backbone exists and takes the images, before hours of work.

    Args:
        settings: Names the backbone.
        preprocess: Resolved.

    Raises:
        StudyError: The folder lacks the weights, timm knows no such model, or the backbone takes other colours.
    """
    key = f"models.{settings.name or settings.model}"
    channels = _input_channels(settings.backbone, key=f"{key}.backbone")
    if channels not in CHANNELS.values():
        message = f"takes images of {channels} channels; vitrail gives 1 (grey) or 3 (rgb). Choose another backbone."
        raise StudyError("study", (Problem(f"{key}.backbone", message, repr(settings.backbone)),))
    if preprocess.colour is not None and CHANNELS[preprocess.colour] != channels:
        colour = next(name for name, count in CHANNELS.items() if count == channels)
        message = f"{settings.backbone} takes {colour} images. Write `preprocess: {{colour: {colour}}}` inside this model."
        raise StudyError("study", (Problem(f"{key}.preprocess.colour", message, preprocess.colour),))


def _input_channels(backbone: str, *, key: str) -> int:
    """Return how many channels a backbone's input has, without loading its weights."""
    import timm

    if backbone.startswith(LOCAL_WEIGHTS):
        return _local_input_channels(_folder(backbone), key=key)
    if not timm.is_model_pretrained(backbone):
        import difflib

        close = difflib.get_close_matches(backbone, timm.list_models(pretrained=True), n=3) or ["mobilenetv2_100.ra_in1k"]
        message = f"is no timm model with pretrained weights. Close: {', '.join(close)}; or local-dir:FOLDER."
        raise StudyError("study", (Problem(key, message, repr(backbone)),))
    config: Any = timm.get_pretrained_cfg(backbone)
    return int(config.input_size[0])


def _local_input_channels(folder: Path, *, key: str) -> int:
    import timm

    def wrong(message: str, found: object) -> StudyError:
        return StudyError("study", (Problem(key, message, str(found)),))

    if not (folder / "config.json").is_file() or not any(path.suffix in WEIGHTS for path in folder.iterdir()):
        raise wrong("must be a folder with config.json and model.safetensors (timm's local-dir format).", folder)
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        architecture = str(content["architecture"])
        channels = int(content.get("pretrained_cfg", content).get("input_size", (3, 224, 224))[0])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        message = "must hold a config.json with `architecture` and `pretrained_cfg` (timm's local-dir format)."
        raise wrong(message, f"{folder}, {_reason(error)}") from error
    if not timm.is_model(architecture):
        raise wrong("config.json names an architecture that this version of timm does not know.", repr(architecture))
    return channels


def _folder(backbone: str) -> Path:
    return Path(backbone.removeprefix(LOCAL_WEIGHTS)).expanduser()


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
    key = fingerprint("backbone-1", identity(settings), preprocess.size, versions)
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
    if settings.backbone.startswith(LOCAL_WEIGHTS):
        return sorted((path.name, file_sha256(path)) for path in _folder(settings.backbone).iterdir() if path.is_file())
    return settings.backbone


def _export(name: str, size: int | None) -> tuple[bytes, Backbone]:
    import torch

    from vitrail.models.network import export_onnx

    model, size = _loaded(name, size)
    config = model.pretrained_cfg
    channels = config["input_size"][0]
    try:
        pooling = _pooling(model, torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0)))
    except Exception as error:  # whatever a layer raises when the image is too small for it, or not a multiple of its patches
        raise BackboneUnavailable(
            f"backbone {name!r} does not take images of {size} px ({_reason(error)}). Leave preprocess.size open for this model."
        ) from error

    class Features(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixels: torch.Tensor) -> Any:
            activations = self.model.forward_features(pixels)
            embedding = self.model.forward_head(activations, pre_logits=True)
            return embedding if pooling == "none" else (activations, embedding)

    outputs = ("embedding",) if pooling == "none" else ("activations", "embedding")
    graph = export_onnx(Features().eval(), channels=channels, size=size, outputs=outputs)
    return graph, Backbone(size, tuple(config["mean"]), tuple(config["std"]), pooling)


def _loaded(name: str, size: int | None) -> tuple[Any, int]:
    """Load a backbone with its weights; return it and the side of its input (its own where ``size`` is open)."""
    import timm

    logging.getLogger("timm").setLevel(logging.ERROR)
    source = f"{LOCAL_WEIGHTS}{_folder(name)}" if name.startswith(LOCAL_WEIGHTS) else name
    try:
        model: Any = timm.create_model(source, pretrained=True)
        config = model.pretrained_cfg
        native = int(config["input_size"][1])
        if size not in (None, native) and config.get("fixed_input_size"):
            # Transformers hold one position per patch: timm interpolates them when it is told the size on loading.
            model = timm.create_model(source, pretrained=True, img_size=size)
    except Exception as error:  # timm and the hub raise many kinds: no network, no such file, damaged weights
        raise BackboneUnavailable(
            f"backbone {name!r} could not be loaded ({_reason(error)}). "
            "Connect to the network once, or give weights on disk as local-dir:FOLDER."
        ) from error
    return model.eval(), size or native


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


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
