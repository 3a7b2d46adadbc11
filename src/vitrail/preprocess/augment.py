"""Augmentation: random, label-preserving changes of training images, drawn anew every epoch from a seeded generator."""

from __future__ import annotations

import math

import numpy as np
import torch

from vitrail.records import ByteArray, FloatArray
from vitrail.study import AugmentSettings


def augment(pixels: ByteArray, settings: AugmentSettings, *, generator: np.random.Generator) -> FloatArray:
    """Change every image of a batch at random: rotation, zoom, translation, mirror in one bilinear resampling, then contrast
    and brightness.

    Args:
        pixels: uint8, shape (n, size, size, channels).
        settings: The ranges.
        generator: Source of all randomness.

    Returns:
        float32 in 0..255, same shape; where the image was turned or shifted away there is black, brightened like the rest.
    """
    count = len(pixels)
    images = torch.from_numpy(pixels.astype(np.float32).transpose(0, 3, 1, 2))
    grid = torch.nn.functional.affine_grid(_affine(count, settings, generator), list(images.shape), align_corners=False)
    images = torch.nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    contrast = torch.from_numpy(1 + generator.uniform(-settings.contrast, settings.contrast, (count, 1, 1, 1))).float()
    brightness = torch.from_numpy(255 * generator.uniform(-settings.brightness, settings.brightness, (count, 1, 1, 1))).float()
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = ((images - middle) * contrast + middle + brightness).clamp_(0, 255)
    return np.asarray(images.numpy().transpose(0, 2, 3, 1))


def _affine(count: int, settings: AugmentSettings, generator: np.random.Generator) -> torch.Tensor:
    """Return one 2x3 matrix per image, from output to input coordinates in -1..1."""
    angle = np.deg2rad(generator.uniform(-settings.rotation, settings.rotation, count))
    zoom = np.exp(generator.uniform(-1, 1, count) * math.log1p(settings.zoom))
    shift = 2 * generator.uniform(-settings.translation, settings.translation, (count, 2))
    mirror = np.where(generator.random(count) < 0.5, -1.0, 1.0) if settings.flip_horizontal else np.ones(count)
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    matrices = np.stack(
        [np.stack([mirror * cosine, -mirror * sine, shift[:, 0]], axis=1), np.stack([sine, cosine, shift[:, 1]], axis=1)],
        axis=1,
    )
    return torch.from_numpy(matrices).float()
