"""A network of three layers that learns in a moment to tell upright from lying stripes in one corner of the image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from explanation_models import grey_recipe, whole_image

from vitrail.records import NetworkParts

SIZE = 16
CLASSES = ("lying", "upright")


def striped(n: int, *, seed: int):
    """Noise, with a patch of stripes somewhere in it; returns pixels (n, 16, 16, 1), labels and the corner of each patch."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(60, 140, (n, SIZE, SIZE, 1), dtype=np.uint8)
    labels, corners = generator.integers(0, 2, n), generator.integers(0, SIZE - 7, (n, 2))
    stripes = np.where(np.arange(7) % 2, 250, 10).astype(np.uint8)
    for image, label, (row, column) in zip(pixels, labels, corners, strict=True):
        patch = np.broadcast_to(stripes[None, :] if label else stripes[:, None], (7, 7))
        image[row : row + 7, column : column + 7, 0] = patch
    return pixels, labels.astype(np.int64), corners


@dataclass
class ToyModel:
    """A trained network as a package shows it to the methods of explanation."""

    parts: NetworkParts
    name: str = "toy"
    fingerprint: str = "f" * 64
    classes: tuple[str, ...] = CLASSES
    pooling: str = "average"

    @property
    def recipe(self):
        return self.parts.recipe

    @property
    def network(self):
        return self.parts

    @cached_property
    def graph(self):
        from vitrail.explanation.graph import network_graph

        return network_graph(self.parts)

    def scores(self, pixels):
        from vitrail.explanation.graph import INPUT, LOGITS

        return self.graph.run({INPUT: self.graph.scaled(pixels)})[LOGITS].double().softmax(dim=1).numpy()

    def embed_with_maps(self, pixels):
        from vitrail.explanation.graph import INPUT

        found = self.graph.run({INPUT: self.graph.scaled(pixels)}, ("activations", "embedding"))
        return found["activations"][0].numpy(), found["embedding"][0].numpy()

    def embedding_gradient(self, embedding, target):
        return self.parts.weights[0][target]


def gradient_maps(model, pixels, targets):
    """The gradient of the class's logit at the input, (n, size, size), by autograd on the model's own graph."""
    import torch

    from vitrail.explanation.graph import INPUT, LOGITS, network_graph

    graph = network_graph(model.network)
    begin = graph.scaled(pixels).requires_grad_()
    logits = graph.run({INPUT: begin})[LOGITS]
    (gradient,) = torch.autograd.grad(logits[np.arange(len(pixels)), targets].sum(), begin)
    return gradient.sum(dim=1).numpy()


def trained_toy(folder: Path) -> ToyModel:
    """Train it (a second or two), write its trunk as ONNX and put the rest into words."""
    import torch
    from torch import nn

    from vitrail.models.network import export_onnx
    from vitrail.preprocess import normalise

    torch.manual_seed(0)

    class Trunk(nn.Module):
        def __init__(self):
            super().__init__()
            layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()]
            self.layers = nn.Sequential(*layers)

        def forward(self, pixels):
            maps = self.layers(pixels)
            return maps, maps.mean(dim=(2, 3))

    trunk, head = Trunk(), nn.Linear(16, 2)
    recipe = replace(grey_recipe(SIZE))
    pixels, labels, _ = striped(400, seed=0)
    inputs, truth = torch.from_numpy(normalise(pixels, recipe)), torch.from_numpy(labels)
    optimiser = torch.optim.Adam([*trunk.parameters(), *head.parameters()], lr=0.02)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(head(trunk(inputs)[1]), truth).backward()
        optimiser.step()
    path = folder / "toy.onnx"
    path.write_bytes(export_onnx(trunk, channels=1, size=SIZE, outputs=("activations", "embedding")))
    weight, bias = (value.detach().numpy() for value in (head.weight, head.bias))
    return ToyModel(NetworkParts(path, recipe, "average", (weight,), (bias,), ()))


def placements(n: int):
    return (whole_image(SIZE),) * n
