"""Augmented examples in the report: strips of small pictures, each saying what it is."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from vitrail.reporting.augmentation import augmented_examples_figure


def opened(uri: str) -> Image.Image:
    kind, _, content = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize(("channels", "size", "drawn"), [(1, 64, 64), (3, 64, 64), (1, 224, 128), (3, 200, 128)])
def test_every_picture_shows_its_pixels(channels: int, size: int, drawn: int) -> None:
    levels = np.arange(20, 20 + 6 * 30, 30, dtype=np.uint8).reshape(2, 3, 1, 1, 1)
    pictures = np.broadcast_to(levels, (2, 3, size, size, channels)).copy()

    strips = augmented_examples_figure(pictures, ["cat", "dog"])

    assert [name for name, _ in strips] == ["cat", "dog"]
    for (name, strip), expected in zip(strips, levels.reshape(2, 3), strict=True):
        assert [picture.path for picture in strip] == ["as prepared", "variant 1", "variant 2"]
        for picture, level in zip(strip, expected, strict=True):
            image = opened(picture.uri)
            assert image.size == (picture.width, picture.height) == (drawn, drawn)
            assert picture.label == name
            assert np.abs(np.asarray(image.convert("L"), dtype=int) - level).max() <= 2


def test_names_and_images_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="zip"):
        augmented_examples_figure(np.zeros((2, 2, 16, 16, 1), np.uint8), ["cat"])
