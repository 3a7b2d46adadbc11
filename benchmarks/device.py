"""What accelerators give: a small network on the CPU and on the device, in full and in mixed precision, and on several at once.

    python benchmarks/device.py
    python benchmarks/device.py --device cuda --devices 4 --images 2000 --size 224 --batch 128

For a person whose machine has an accelerator: the tests of vitrail run without one. The images are noise with stripes, lying,
upright or none. Every way begins with the same weights and takes the same batches; printed are the losses, how far the scores of
the validation images are from those of the CPU, and training images per second (the first epoch, which warms up, left out).
Exit code 1 where a training on the device did not learn, or in full precision came to another loss in its first epoch.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vitrail.models import cnn
from vitrail.preprocess import normalise
from vitrail.records import FloatArray, Recipe
from vitrail.settings import TrainingSettings
from vitrail.study import CnnSettings
from vitrail.training.device import devices, mixed_type
from vitrail.training.examples import PixelExamples
from vitrail.training.fit import Fit, fit

CLASSES = 3
CLOSE = 0.02
"""Furthest that the loss of the first epoch may be from that of the CPU: sums are in another order, and convolutions may be in
TF32."""


@dataclass(frozen=True)
class Way:
    """One training.

    Attributes:
        device: As in ``training.device``.
        precision: As in ``training.precision``.
        devices: As in ``training.devices``.
        outcome: How it went.
        logits: Of the validation images, computed on the CPU, shape (n, classes).
        rate: Training images per second.
    """

    device: str
    precision: str
    devices: int
    outcome: Fit
    logits: FloatArray
    rate: float


def drawn(count: int, recipe: Recipe) -> PixelExamples:
    """Return examples of noise with stripes, four in five of them for training."""
    pixels = np.random.default_rng(0).integers(0, 120, (count, recipe.size, recipe.size, 1), dtype=np.uint8)
    labels = np.arange(count) % CLASSES
    stripes = (np.arange(recipe.size) // 4 % 2 * 60).astype(np.uint8)
    pixels[labels == 1] += stripes[:, None, None]
    pixels[labels == 2] += stripes[None, :, None]
    rows = np.random.default_rng(1).permutation(count)
    return PixelExamples(pixels, rows[: count * 4 // 5], rows[count * 4 // 5 :], labels, recipe=recipe, augmentation=None)


def trained(device: str, precision: str, count: int, examples: PixelExamples, *, epochs: int, batch: int) -> Way:
    """Train the network once, in one way."""
    recipe = examples.recipe
    # Without dropout: generators of devices differ.
    network = cnn.build(CnnSettings(filters=(16, 32, 64), dropout=0.0), recipe, classes=CLASSES, seed=0)
    network.to(memory_format=torch.channels_last)
    settings = TrainingSettings(
        epochs=epochs,
        patience=epochs,
        batch_size=batch,
        optimiser="adamw",
        learning_rate=1e-3,
        device=device,
        precision=precision,
        devices=count,
    )
    with tempfile.TemporaryDirectory() as folder:
        outcome = fit(network, examples, classes=CLASSES, settings=settings, seed=0, checkpoint=Path(folder) / "checkpoint.pt")
    with torch.no_grad():
        logits = network(torch.from_numpy(normalise(examples.pixels[examples.validation_rows], recipe))).numpy()
    seconds = sum(epoch.seconds for epoch in outcome.epochs[1:])
    return Way(device, precision, count, outcome, logits, (epochs - 1) * len(examples.training_rows) / seconds)


def faults(way: Way, reference: Way) -> list[str]:
    """Return what is wrong with a training on the device, in sentences."""
    first, last = way.outcome.epochs[0].training_loss, way.outcome.epochs[-1].training_loss
    expected = reference.outcome.epochs[0].training_loss
    found = []
    if not last < first:
        found.append(f"{way.device}, {way.precision}: the loss did not fall ({first:.4f} to {last:.4f})")
    # Batch normalisation sees a share of the batch where devices share it: another training.
    if way.precision == "full" and way.devices == 1 and abs(first - expected) > CLOSE:
        found.append(f"{way.device}, full: the loss of the first epoch is {first:.4f}, and {expected:.4f} on the CPU")
    return found


def main() -> None:
    """Train in every way there is and print how they compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", help="as in training.device; the first accelerator where left out")
    parser.add_argument("--devices", type=int, default=1, help="as in training.devices: how many share every step")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5, help="at least 2")
    asked = parser.parse_args()
    device = asked.device or str(devices()[0])
    examples = drawn(asked.images, Recipe(asked.size, "grey", False, False, "standardise"))
    ways = [("cpu", "full", 1)]
    if device != "cpu":
        ways.append((device, "full", 1))
    if mixed_type(torch.device(device)) is not None:
        ways.append((device, "mixed", 1))
    else:
        print(f"{device} has no units for products in 16 bits: mixed precision is left out")
    if asked.devices > 1:
        ways.append((device, "auto", asked.devices))
    done = [trained(*way, examples, epochs=max(2, asked.epochs), batch=asked.batch) for way in ways]
    wrong: list[str] = []
    for way in done:
        apart = float(np.abs(way.logits - done[0].logits).max())
        epochs, computed = way.outcome.epochs, way.outcome.computed
        print(
            f"{computed.processes} x {computed.device}, {computed.precision}: loss {epochs[0].training_loss:.4f} to "
            f"{epochs[-1].training_loss:.4f}, validation {epochs[-1].validation_loss:.4f}, "
            f"logits at most {apart:.3f} from the CPU's, "
            f"{way.rate:,.0f} images per second ({way.rate / done[0].rate:.1f} times the CPU)"
        )
        wrong += faults(way, done[0])
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
