"""What the fit loop is fed with: frozen features, or pixels from the decode cache."""

from __future__ import annotations

import numpy as np
import torch

from vitrail.preprocess import normalise
from vitrail.preprocess.augment import augment
from vitrail.records import ByteArray, FloatArray, IntArray, Recipe
from vitrail.row_file import RowFile
from vitrail.settings import AugmentSettings
from vitrail.training.imbalance import turned


class FeatureExamples:
    """Vectors of a frozen embedder.

    Args:
        training: float32, shape (n, dimension).
        training_labels: Class indices, shape (n,).
        validation: float32, shape (m, dimension).
        validation_labels: Class indices, shape (m,).
    """

    def __init__(
        self, training: FloatArray, training_labels: IntArray, validation: FloatArray, validation_labels: IntArray
    ) -> None:
        self.training = torch.from_numpy(training)
        self.validation = torch.from_numpy(validation)
        self.training_labels = training_labels
        self.validation_labels = validation_labels

    def training_batch(self, positions: IntArray, generator: np.random.Generator) -> torch.Tensor:  # noqa: ARG002 - not augmented
        """See :class:`vitrail.training.fit.Examples`."""
        return self.training[positions]

    def validation_batch(self, positions: IntArray) -> torch.Tensor:
        """See :class:`vitrail.training.fit.Examples`."""
        return self.validation[positions]


class PixelExamples:
    """Prepared pixels, in memory or on disk.

    Args:
        pixels: uint8, shape (n, size, size, channels).
        training_rows: Positions of the training images in ``pixels``; an image may come several times.
        validation_rows: Positions of the validation images.
        labels: Class index of every image in ``pixels``, shape (n,).
        recipe: Scaling of the pixels.
        augmentation: For training images; ``None``: none.
        turns: Quarter turns counterclockwise of each training row, made before augmentation, shape (len(training_rows),);
            ``None``: none is turned.
    """

    def __init__(
        self,
        pixels: ByteArray | RowFile,
        training_rows: IntArray,
        validation_rows: IntArray,
        labels: IntArray,
        *,
        recipe: Recipe,
        augmentation: AugmentSettings | None,
        turns: IntArray | None = None,
    ) -> None:
        self.pixels = pixels
        self.training_rows = training_rows
        self.validation_rows = validation_rows
        self.training_labels = labels[training_rows]
        self.validation_labels = labels[validation_rows]
        self.recipe = recipe
        self.augmentation = augmentation
        self.turns = turns

    def training_batch(self, positions: IntArray, generator: np.random.Generator) -> torch.Tensor:
        """See :class:`vitrail.training.fit.Examples`."""
        pixels = self.pixels[self.training_rows[positions]]
        if self.turns is not None:
            pixels = turned(pixels, self.turns[positions])
        changed = augment(pixels, self.augmentation, generator=generator) if self.augmentation else pixels
        return torch.from_numpy(normalise(changed, self.recipe))

    def validation_batch(self, positions: IntArray) -> torch.Tensor:
        """See :class:`vitrail.training.fit.Examples`."""
        return torch.from_numpy(normalise(self.pixels[self.validation_rows[positions]], self.recipe))
