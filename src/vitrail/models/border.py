"""Where the frozen first layers of a trunk end, and how to go on from there with what they gave before.

A backbone of timm is no list of layers, so the border is not read from its structure: candidates are tried, and one is taken only
where the rest of the trunk, given what was kept there, answers bit for bit as the whole trunk does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def _hooked(hooks: list[Any]) -> Iterator[None]:
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _EnoughError(Exception):
    """What was wanted is there: the rest of the trunk need not run."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__()
        self.output = output


@torch.no_grad()
def output_at(trunk: nn.Module, name: str, pixels: torch.Tensor) -> torch.Tensor:
    """Return what a module of a trunk gives for some pixels; what comes after it does not run."""

    def stop(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:  # noqa: ARG001 - a hook's signature
        raise _EnoughError(output)

    with _hooked([trunk.get_submodule(name).register_forward_hook(stop)]):
        try:
            trunk(pixels)
        except _EnoughError as found:
            return found.output
    raise ValueError(f"the trunk does not call its module {name!r}")


def run_from(trunk: nn.Module, name: str, kept: torch.Tensor, *, pixels: tuple[int, ...]) -> tuple[torch.Tensor, ...]:
    """Return what a trunk gives where a module of it gives ``kept``.

    What comes before the module sees a single black image: a batch of them costs as much as one.

    Args:
        trunk: Its answers must depend on the module's output alone: :func:`find_border`.
        name: Of the module.
        kept: What it gave before, for any number of images.
        pixels: Shape of one image, (channels, height, width).
    """

    def give(module: nn.Module, inputs: Any, output: Any) -> torch.Tensor:  # noqa: ARG001 - a hook's signature
        return kept

    with _hooked([trunk.get_submodule(name).register_forward_hook(give)]):
        outputs: tuple[torch.Tensor, ...] = trunk(kept.new_zeros((1, *pixels)))
    return outputs


def find_border(trunk: nn.Module, fixed: list[nn.Module], pixels: torch.Tensor, *, train: Callable[[], object]) -> str:
    """Return the name of the last module up to which a trunk is frozen; empty where there is none.

    Up to it, no layer may learn and nothing may be drawn at random in training; after it, all must follow from its output alone.

    Args:
        trunk: In evaluation mode. A copy, for it is run in training mode, too.
        fixed: Its layers that stay as they are.
        pixels: At least two different images, (n, channels, height, width).
        train: Puts the trunk into the mode in which it trains.
    """
    held = {id(layer) for layer in fixed}
    learns = {id(module) for module in trunk.modules() if next(module.parameters(recurse=False), None) is not None} - held
    ended: list[str] = []
    begun = False

    def begin(module: nn.Module, inputs: Any) -> None:  # noqa: ARG001 - a hook's signature
        nonlocal begun
        begun = begun or id(module) in learns

    def end_of(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def end(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001 - a hook's signature
            if not begun and isinstance(output, torch.Tensor):
                ended.append(name)

        return end

    hooks = [module.register_forward_pre_hook(begin) for module in trunk.modules()]
    hooks += [module.register_forward_hook(end_of(name)) for name, module in trunk.named_modules() if name]
    with torch.no_grad(), _hooked(hooks):
        whole = trunk(pixels)[-1]
    for name in reversed([name for name in ended if ended.count(name) == 1]):
        trunk.eval()
        if _goes_on(trunk, name, pixels, whole):
            kept = output_at(trunk, name, pixels)
            train()
            if _is_fixed(trunk, name, pixels, kept):
                return name
    return ""


@torch.no_grad()
def _goes_on(trunk: nn.Module, name: str, pixels: torch.Tensor, whole: torch.Tensor) -> bool:
    """Return whether the rest of a trunk, given what a module gave, answers as the whole trunk does."""
    try:
        rest = run_from(trunk, name, output_at(trunk, name, pixels), pixels=tuple(pixels.shape[1:]))[-1]
    except Exception:  # whatever a layer raises when another part of the network still sees the single black image
        return False
    return torch.equal(rest, whole)


def _is_fixed(trunk: nn.Module, name: str, pixels: torch.Tensor, kept: torch.Tensor) -> bool:
    """Return whether a module gives the same in training as in evaluation, whatever is drawn at random."""
    for seed in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if not torch.equal(output_at(trunk, name, pixels), kept):
                return False
    return True
