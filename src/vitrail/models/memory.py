"""How much memory a training step takes, roughly, found without any weights: on torch's meta device."""

from __future__ import annotations

from typing import Any

from vitrail.models.catalogue import FAMILIES, family_module
from vitrail.preprocess import make_recipe
from vitrail.study import FinetuneSettings, ModelSettings, PreprocessSettings

FLOAT = 4
COPIES = 5
"""Of every weight: itself, its gradient, two moments of the optimiser, the best one so far."""


def training_bytes(settings: ModelSettings, preprocess: PreprocessSettings, *, size: int) -> tuple[int, int] | None:
    """Estimate the memory of a training step from pixels.

    Counted are the weights with what training keeps of each, and the output of every layer with its gradient. Libraries need
    more for a moment, and share some of it: take it for the order of magnitude.

    Args:
        settings: The model.
        preprocess: Resolved.
        size: Side of the input where preprocess leaves it open and the family has none.

    Returns:
        Bytes whatever the batch, and bytes per image of a batch; ``None`` where the family is not trained from pixels, where the
        backbone stays frozen, or where it cannot be told.
    """
    frozen = isinstance(settings, FinetuneSettings) and settings.strategy == "frozen"
    if FAMILIES[settings.model].training != "network" or frozen:
        return None
    try:
        return _estimate(settings, preprocess, size=size)
    except Exception:  # some layers cannot be built without weights: an estimate is no reason to end a run
        return None


def _estimate(settings: ModelSettings, preprocess: PreprocessSettings, *, size: int) -> tuple[int, int]:
    import torch

    family = family_module(settings.model)
    values = 0

    def count(module: torch.nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001 - the signature of a hook
        nonlocal values
        values += output.numel() if isinstance(output, torch.Tensor) else 0

    if isinstance(settings, FinetuneSettings):
        from vitrail.models import backbones

        channels = backbones.CHANNELS[preprocess.colour or "rgb"]
        trunk, side = backbones.outline(settings.backbone, preprocess.size, channels=channels)
    else:
        recipe = make_recipe(preprocess, size=size)
        with torch.device("meta"):
            trunk = family.build(settings, recipe, classes=2, seed=0).trunk
        channels, side = recipe.channels, recipe.size
    leaves = [module for module in trunk.modules() if not list(module.children())]
    hooks = [module.register_forward_hook(count) for module in leaves]
    with torch.no_grad(), torch.device("meta"):
        pixels = torch.zeros(2, channels, side, side)
        trunk.eval()(pixels)
    for hook in hooks:
        hook.remove()
    # The values of the two images stand for those of one and their gradients.
    weights = sum(parameter.numel() for parameter in trunk.parameters())
    return COPIES * FLOAT * weights, (values + channels * side * side) * FLOAT
