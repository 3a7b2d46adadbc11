"""Classes of unequal size: weights of the classes, and training sets in which every class is as large as the largest.

Only training images are ever repeated, turned or drawn; whoever is validated or tested stands as he came.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitrail.records import ByteArray, FloatArray, IntArray

TURNS = 4
"""Quarter turns that an image can have: 0, 90, 180 and 270 degrees."""


@dataclass(frozen=True)
class BalancedSet:
    """Who trains, how often and how turned.

    Attributes:
        positions: Into the training images, shape (m,).
        turns: Quarter turns counterclockwise of each, 0 to 3, shape (m,).
    """

    positions: IntArray
    turns: IntArray


def class_weights(labels: IntArray, classes: int) -> FloatArray:
    """Return weights under which every class counts the same, float32: n / (classes x images of the class)."""
    counts = np.bincount(labels, minlength=classes)
    return (len(labels) / (classes * np.maximum(counts, 1))).astype(np.float32)


def balanced_set(labels: IntArray, imbalance: str | None, *, seed: int) -> BalancedSet:
    """Return the training set that an answer to unequal classes makes of the training images.

    Every image is in it once as it is, first and in order. Then small classes are filled up to the size of the largest:

    * ``sampling``: with repetitions, every image of a class (almost) equally often;
    * ``rotations``: with turned copies, each image by 90, 180 and 270 degrees in an order of its own before anything is repeated;
    * ``none``, ``weights`` and ``None``: not at all.

    Args:
        labels: Class indices of the training images, shape (n,).
        imbalance: As in the settings.
        seed: Same seed, same set.
    """
    everybody = np.arange(len(labels))
    parts = [BalancedSet(everybody, np.zeros_like(everybody))]
    if imbalance in ("sampling", "rotations"):
        generator = np.random.default_rng(seed)
        largest = int(np.bincount(labels).max())
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            parts.append(_copies(members, largest - len(members), turned=imbalance == "rotations", generator=generator))
    return BalancedSet(np.concatenate([part.positions for part in parts]), np.concatenate([part.turns for part in parts]))


def _copies(members: IntArray, wanted: int, *, turned: bool, generator: np.random.Generator) -> BalancedSet:
    """Return copies of the members, layer by layer: each layer holds every member once, in an order of its own."""
    layers = -(-wanted // len(members))
    orders = [generator.permutation(len(members)) for _ in range(layers)]
    turns = np.zeros((layers + TURNS, len(members)), dtype=np.int64)
    if turned:
        # Every member goes through the turns that it has not had, then through all four again and again.
        rounds = [np.arange(1, TURNS), *([np.arange(TURNS)] * (1 + layers // TURNS))]
        turns = np.concatenate([generator.permuted(np.tile(some, (len(members), 1)), axis=1).T for some in rounds])
    positions = np.concatenate([members[order] for order in orders]) if orders else members[:0]
    quarter = np.concatenate([turns[layer][order] for layer, order in enumerate(orders)]) if orders else members[:0]
    return BalancedSet(positions[:wanted], quarter[:wanted])


def turned(pixels: ByteArray, turns: IntArray) -> ByteArray:
    """Return square images turned counterclockwise by so many quarters each.

    Args:
        pixels: Shape (n, size, size, channels).
        turns: 0 to 3, shape (n,).
    """
    result = np.array(pixels)
    for quarter in range(1, TURNS):
        chosen = turns == quarter
        result[chosen] = np.rot90(pixels[chosen], quarter, axes=(1, 2))
    return result


def epoch_order(labels: IntArray, imbalance: str | None, generator: np.random.Generator) -> IntArray:
    """Return the training positions of one epoch in the order in which they are shown.

    Args:
        labels: Class indices of the training images, shape (n,).
        imbalance: ``sampling``: n positions are drawn with replacement, every class equally often in expectation, unless the
            classes are equal already; else every position comes once.
        generator: Source of all randomness.
    """
    counts = np.bincount(labels)
    if imbalance == "sampling" and np.ptp(counts[counts > 0]) > 0:
        chances = 1 / counts[labels]
        return generator.choice(len(labels), size=len(labels), replace=True, p=chances / chances.sum())
    return generator.permutation(len(labels))
