"""Augmentation: random, label-preserving changes of training images, drawn anew every epoch from a seeded generator."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from vitrail.records import ByteArray, FloatArray
from vitrail.study import AugmentSettings


def augment(pixels: ByteArray, settings: AugmentSettings, *, generator: np.random.Generator) -> FloatArray:
    """Change every image of a batch at random: stretch, rotation, zoom, translation, mirror in one bilinear resampling, then
    contrast and brightness, blur, noise, erased rectangles, in this order.

    What is off draws nothing from the generator: the same seed gives the same images, whatever steps have been added since.

    Args:
        pixels: uint8, shape (n, size, size, channels).
        settings: The ranges.
        generator: Source of all randomness.

    Returns:
        float32 in 0..255, same shape; where the image was turned or shifted away there is black, changed like the rest. Blur,
        noise and rectangles are the same in all channels, so that grey stays grey.
    """
    count = len(pixels)
    images = torch.from_numpy(pixels.astype(np.float32).transpose(0, 3, 1, 2))
    grid = torch.nn.functional.affine_grid(_affine(count, settings, generator), list(images.shape), align_corners=False)
    images = torch.nn.functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    contrast = torch.from_numpy(1 + generator.uniform(-settings.contrast, settings.contrast, (count, 1, 1, 1))).float()
    brightness = torch.from_numpy(255 * generator.uniform(-settings.brightness, settings.brightness, (count, 1, 1, 1))).float()
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    images = ((images - middle) * contrast + middle + brightness).clamp_(0, 255)
    changed = np.asarray(images.numpy().transpose(0, 2, 3, 1))
    if settings.blur > 0:
        changed = _blurred(changed, settings.blur, generator)
    if settings.noise > 0:
        drawn = generator.standard_normal((*changed.shape[:3], 1), dtype=np.float32)
        changed = np.clip(changed + np.float32(255 * settings.noise) * drawn, 0, 255)
    if settings.erase > 0:
        changed = _erased(changed, settings.erase, generator)
    return changed


def _blurred(images: FloatArray, largest: float, generator: np.random.Generator) -> FloatArray:
    """Blur each image by a Gaussian of its own, sigma from 0 to ``largest`` pixels; beyond the border its last pixels go on."""
    sigmas = generator.uniform(0, largest, len(images))
    return np.stack(
        [gaussian_filter(image, sigma, mode="nearest", axes=(0, 1)) for image, sigma in zip(images, sigmas, strict=True)]
    )


def _erased(images: FloatArray, largest: float, generator: np.random.Generator) -> FloatArray:
    """Put uniform noise in place of one rectangle in about half of the images (Zhong et al. 2020, RE-R).

    Its area is up to the share ``largest`` of the image, height to width between 0.3 and 1 / 0.3, and it lies within the image.
    """
    erased = images.copy()
    side = images.shape[1]
    for image in erased:
        if generator.random() >= 0.5:
            continue
        area = generator.uniform(0, largest)
        proportion = math.exp(generator.uniform(math.log(0.3), -math.log(0.3)))
        # Sides are rounded down, so that the rectangle never exceeds its share.
        height = min(side, math.floor(side * math.sqrt(area * proportion)))
        width = min(side, math.floor(side * math.sqrt(area / proportion)))
        top, left = generator.integers(0, side - height + 1), generator.integers(0, side - width + 1)
        noise = generator.uniform(0, 255, (height, width, 1))
        image[top : top + height, left : left + width] = noise
    return erased


def _affine(count: int, settings: AugmentSettings, generator: np.random.Generator) -> torch.Tensor:
    """Return one 2x3 matrix per image, from output to input coordinates in -1..1."""
    angle = np.deg2rad(generator.uniform(-settings.rotation, settings.rotation, count))
    zoom = np.exp(generator.uniform(-1, 1, count) * math.log1p(settings.zoom))
    shift = 2 * generator.uniform(-settings.translation, settings.translation, (count, 2))
    mirror = np.where(generator.random(count) < 0.5, -1.0, 1.0) if settings.flip_horizontal else np.ones(count)
    upright = np.where(generator.random(count) < 0.5, -1.0, 1.0) if settings.flip_vertical else np.ones(count)
    cosine, sine = np.cos(angle) / zoom, np.sin(angle) / zoom
    across, down = mirror, upright
    if settings.stretch > 0:  # the area stays: as much wider as it gets lower
        wider = np.exp(generator.uniform(-0.5, 0.5, count) * math.log1p(settings.stretch))
        across, down = mirror / wider, upright * wider
    matrices = np.stack(
        [
            np.stack([across * cosine, -across * sine, shift[:, 0]], axis=1),
            np.stack([down * sine, down * cosine, shift[:, 1]], axis=1),
        ],
        axis=1,
    )
    return torch.from_numpy(matrices).float()
