"""Backbones from timm: finding them, loading them, and how their feature maps become a vector. This file and the families that
use it are the only door to timm.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vitrail.errors import Problem, StudyError, VitrailError
from vitrail.model_settings import HUB_WEIGHTS, LOCAL_WEIGHTS
from vitrail.models.embedders import Pooling
from vitrail.storage import file_sha256

CHANNELS = {"grey": 1, "rgb": 3}
WEIGHTS = frozenset({".safetensors", ".pth", ".bin"})
"""What timm loads weights from; never with code in them."""
STEP = 16
"""Sizes that are proposed instead of one that is too small are multiples of this."""
LARGEST_PROPOSAL = 512


class BackboneUnavailable(VitrailError):
    """The weights could not be had: the model is left out of the run, and says so."""


class Features(nn.Module):
    """A backbone up to its vector: the first half of a network in the form that ONNX takes.

    Args:
        model: A timm model.
        pooling: How its feature maps become its vector: :func:`pooling_and_dimension`.
    """

    def __init__(self, model: Any, pooling: Pooling) -> None:
        super().__init__()
        self.model = model
        self.pooling: Pooling = pooling
        self.outputs = ("embedding",) if pooling == "none" else ("activations", "embedding")

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return activations (n, maps, height, width) where there are feature maps, then the embedding (n, dimension)."""
        activations = self.model.forward_features(pixels)
        embedding = self.model.forward_head(activations, pre_logits=True)
        return (embedding,) if self.pooling == "none" else (activations, embedding)


def short_name(backbone: str) -> str:
    """Return what tables call a backbone: its name, or that of its folder or repository."""
    return Path(backbone.removeprefix(LOCAL_WEIGHTS).removeprefix(HUB_WEIGHTS)).name


def identity(backbone: str) -> Any:
    """Return what a backbone is, without loading it: the hashes of weights on disk, else its name."""
    if backbone.startswith(LOCAL_WEIGHTS):
        return sorted((path.name, file_sha256(path)) for path in _folder(backbone).iterdir() if path.is_file())
    return backbone


def reason(error: Exception) -> str:
    """Return an error of another library on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


# ---------------------------------------------------------------------------------------------------- before any work


def input_channels(backbone: str, *, key: str, pretrained: bool = True) -> int:
    """Return how many channels a backbone's input has, without loading its weights.

    Args:
        backbone: A timm name, ``local-dir:FOLDER`` or ``hf-hub:OWNER/NAME``, whose description alone is fetched.
        key: Of the setting, for messages.
        pretrained: Whether it must have pretrained weights.

    Raises:
        StudyError: The folder lacks the weights, the hub gives no description, or timm knows no such model.
    """
    import timm

    if backbone.startswith(HUB_WEIGHTS):
        return _hub_input_channels(backbone, key=key)
    if backbone.startswith(LOCAL_WEIGHTS):
        return _local_input_channels(_folder(backbone), key=key)
    if not (timm.is_model_pretrained(backbone) or (not pretrained and timm.is_model(backbone) and "." not in backbone)):
        import difflib

        close = difflib.get_close_matches(backbone, timm.list_models(pretrained=pretrained), n=3) or ["mobilenetv2_100.ra_in1k"]
        kind = "timm model with pretrained weights" if pretrained else "timm model"
        message = f"is no {kind}. Close: {', '.join(close)}; or hf-hub:OWNER/NAME, or local-dir:FOLDER."
        raise StudyError("study", (Problem(key, message, repr(backbone)),))
    config: Any = timm.get_pretrained_cfg(backbone)
    return int(config.input_size[0]) if config else 3


def _hub_input_channels(backbone: str, *, key: str) -> int:
    import timm
    import timm.models

    models: Any = timm.models
    try:
        config, architecture, _ = models.load_model_config_from_hf(backbone.removeprefix(HUB_WEIGHTS))
        channels = int(config.get("input_size", (3, 224, 224))[0])
    except Exception as error:  # the hub raises many kinds: no network, no such repository, a login is needed, no such file
        message = (
            f"must name a repository of the hub with a model of timm; its config.json could not be had ({reason(error)}). "
            "Check the name, connect to the network once, or give weights on disk as local-dir:FOLDER."
        )
        raise StudyError("study", (Problem(key, message, repr(backbone)),)) from error
    if not timm.is_model(architecture):
        message = f"is {architecture!r}, an architecture that this version of timm does not know. Choose another."
        raise StudyError("study", (Problem(key, message, repr(backbone)),))
    return channels


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
        raise wrong(message, f"{folder}, {reason(error)}") from error
    if not timm.is_model(architecture):
        raise wrong("config.json names an architecture that this version of timm does not know.", repr(architecture))
    return channels


def _folder(backbone: str) -> Path:
    return Path(backbone.removeprefix(LOCAL_WEIGHTS)).expanduser()


def check_pooling(backbone: str, pooling: Pooling | None, *, channels: int, key: str) -> None:
    """Find out early whether a backbone's feature maps can be pooled as wished.

    Args:
        backbone: A timm name or ``local-dir:FOLDER``, known to exist.
        pooling: ``None``: its own way, which always works.
        channels: Of the images.
        key: Of the setting, for messages.

    Raises:
        StudyError: They cannot.
    """
    error = _refusal(backbone, None, channels=channels, device="cpu", pooling=pooling) if pooling else None
    if error is not None:
        message = f"must be left out: {short_name(backbone)} cannot be pooled so ({reason(error)})."
        raise StudyError("study", (Problem(key, message, repr(pooling)),))


def outline(backbone: str, size: int | None, *, channels: int) -> tuple[Any, int]:
    """Return a backbone without weights and the side of its input: on torch's meta device, which costs no memory and no time.

    Args:
        backbone: A timm name or ``local-dir:FOLDER``, known to exist.
        size: Side of its input in pixels; ``None``: its own.
        channels: Of its input.
    """
    with torch.device("meta"):
        return _created(backbone, size, pretrained=False, channels=channels, classifier=False)


def check_size(backbone: str, size: int, *, channels: int, key: str) -> None:
    """Find out early, by sending zeros through it without weights, whether a backbone takes images of a size.

    Args:
        backbone: A timm name or ``local-dir:FOLDER``, known to exist.
        size: Side of the images in pixels.
        channels: Of the images.
        key: Of the setting, for messages.

    Raises:
        StudyError: It does not; the message names a size that it takes, where one is near.
    """
    error = _refusal(backbone, size, channels=channels, device="meta")
    if error is None:
        return
    # Some architectures cannot be built on the meta device: they are built on the processor, with random weights.
    device = "cpu" if _refusal(backbone, None, channels=channels, device="meta") else "meta"
    error = _refusal(backbone, size, channels=channels, device=device)
    if error is None:
        return
    candidates = range(size // STEP * STEP + STEP, LARGEST_PROPOSAL + 1, STEP)
    works = next((one for one in candidates if _refusal(backbone, one, channels=channels, device=device) is None), None)
    advice = f"{works} px works" if works else "leave it out"
    message = f"{short_name(backbone)} does not take images of this size ({reason(error)}). {advice}; null: the network's own."
    raise StudyError("study", (Problem(key, message, f"{size} px"),))


def _refusal(backbone: str, size: int | None, *, channels: int, device: str, pooling: Pooling | None = None) -> Exception | None:
    """Return what goes wrong with images of a size, or ``None``."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device), torch.no_grad():
            model, side = _created(backbone, size, pretrained=False, channels=channels, classifier=False, pooling=pooling)
            model.eval().forward_head(model.forward_features(torch.zeros(2, channels, side, side)), pre_logits=True)
    except Exception as error:  # whatever a layer raises when the image is too small for it, or not a multiple of its patches
        return error
    return None


# ---------------------------------------------------------------------------------------------------- loading


def load(
    backbone: str,
    size: int | None,
    *,
    pretrained: bool = True,
    channels: int | None = None,
    classifier: bool = True,
    pooling: Pooling | None = None,
) -> tuple[Any, int]:
    """Load a backbone; return it and the side of its input in pixels.

    Args:
        backbone: A timm name or ``local-dir:FOLDER``.
        size: Side of its input; ``None``: its own.
        pretrained: With its weights; else with random ones from torch's generator.
        channels: Of its input; ``None``: its own. Where they differ, timm adds up or repeats the first kernels.
        classifier: Keep its last layer, which vitrail does not use.
        pooling: Of its feature maps; ``None``: its own way.

    Raises:
        BackboneUnavailable: The weights cannot be downloaded or read.
    """
    logging.getLogger("timm").setLevel(logging.ERROR)
    try:
        model, side = _created(backbone, size, pretrained=pretrained, channels=channels, classifier=classifier, pooling=pooling)
    except Exception as error:  # timm and the hub raise many kinds: no network, no such file, damaged weights
        raise BackboneUnavailable(
            f"backbone {backbone!r} could not be loaded ({reason(error)}). "
            "Connect to the network once, or give weights on disk as local-dir:FOLDER."
        ) from error
    return model.eval(), side


def _created(
    backbone: str,
    size: int | None,
    *,
    pretrained: bool,
    channels: int | None,
    classifier: bool,
    pooling: Pooling | None = None,
) -> tuple[Any, int]:
    import timm

    source = f"{LOCAL_WEIGHTS}{_folder(backbone)}" if backbone.startswith(LOCAL_WEIGHTS) else backbone
    wishes: dict[str, Any] = {} if classifier else {"num_classes": 0}
    if channels is not None:
        wishes["in_chans"] = channels
    model: Any = timm.create_model(source, pretrained=pretrained, **wishes)
    native = int(model.pretrained_cfg["input_size"][1])
    if size not in (None, native) and model.pretrained_cfg.get("fixed_input_size"):
        # Transformers hold one position per patch: timm interpolates them when it is told the size on loading.
        model = timm.create_model(source, pretrained=pretrained, img_size=size, **wishes)
    if pooling is not None:
        model.reset_classifier(0, {"average": "avg"}.get(pooling, pooling))
    return model, size or native


def pooling_and_dimension(model: Any, pixels: torch.Tensor) -> tuple[Pooling, int]:
    """Find out by trying how a backbone's feature maps become its vector: names of layers cannot be trusted for that.

    Args:
        model: A timm model in evaluation mode.
        pixels: At least two different inputs, shape (n, channels, size, size).

    Returns:
        The pooling, and the length of the vector.
    """
    with torch.no_grad():
        activations = model.forward_features(pixels)
        embedding = model.forward_head(activations, pre_logits=True).numpy()
    if activations.ndim == 4:
        maps = activations.numpy()
        candidates: dict[Pooling, Any] = {"average": maps.mean(axis=(2, 3)), "max": maps.max(axis=(2, 3))}
        # Random weights can give tiny values, all of which would pass for equal to a fixed tolerance.
        tolerance = 1e-4 * min(1.0, float(np.abs(embedding).max()))
        for pooling, pooled in candidates.items():
            if pooled.shape == embedding.shape and np.allclose(pooled, embedding, rtol=1e-3, atol=tolerance):
                return pooling, embedding.shape[1]
    return "none", embedding.shape[1]
