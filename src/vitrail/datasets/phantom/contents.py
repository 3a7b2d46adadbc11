"""Planted pictures that do not show what they should: a wrong label, nothing at all, a blur, a name, a page of text.

All are compressed once, like every other image, so that nothing but the content sets them apart.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from vitrail.datasets.phantom.bench import Bench, PlantedFault, encode_jpeg
from vitrail.records import ByteArray

_NAMES = ("DOE^JANE", "MUSTERMANN^ERIKA", "ROSSI^MARIO", "DUPONT^CLAIRE", "KOWALSKI^JAN", "SVENSSON^EVA")
_WORDS = (
    *("the", "of", "and", "to", "invoice", "total", "for", "please", "return", "this", "page", "with", "your", "signature"),
    *("department", "number", "see", "above", "copy", "date", "received", "in", "order", "regards"),
)


def plant_swapped_labels(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images filed under a wrong class."""
    planted = []
    for image in bench.pick(count, part="train", kind="swapped_label"):
        moved = bench.move(image, bench.read(image), part="train", label=bench.another_class(image.label))
        planted.append(PlantedFault("swapped_label", (moved.path,), true_label=image.true_label))
    return planted


def plant_blank_images(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images that show nothing: one grey value, or faint noise."""
    levels = bench.rng.permutation(64)  # different ones, or two blank images would be copies of one another
    planted = []
    for place, image in enumerate(bench.pick(count, part="train", kind="blank_image")):
        pixels = np.full_like(bench.render(image), levels[place % len(levels)])
        noisy = bool(bench.rng.random() < 0.5)
        if noisy:
            pixels += bench.rng.integers(0, 4, size=pixels.shape, dtype=np.uint8)
        bench.write_pixels(image, pixels)
        bench.drop_mask(image)
        planted.append(PlantedFault("blank_image", (image.path,), note="faint noise" if noisy else "one grey value"))
    return planted


def plant_blurred_images(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images far out of focus: a Gaussian blur with a deviation of 1 to 2.5 % of the side."""
    planted = []
    for image in bench.pick(count, part="train", kind="blurred_image"):
        pixels = bench.render(image)
        radius = max(1.5, float(bench.rng.uniform(0.01, 0.025)) * min(pixels.shape))
        bench.write_pixels(image, np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius))))
        planted.append(PlantedFault("blurred_image", (image.path,), note=f"deviation {radius:.1f} pixels"))
    return planted


def plant_burned_in_texts(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images with an invented name and date of birth in the upper border."""
    planted = []
    for image in bench.pick(count, part="train", kind="burned_in_text"):
        picture = Image.fromarray(bench.render(image))
        draw, height = ImageDraw.Draw(picture), max(7, round(0.05 * picture.height))
        font, margin = ImageFont.load_default(height), round(0.015 * picture.width)
        name = str(bench.rng.choice(_NAMES))
        born = f"{bench.rng.integers(1925, 2005)}-{bench.rng.integers(1, 13):02d}-{bench.rng.integers(1, 29):02d}"
        draw.text((margin, margin // 2), name, fill=235, font=font)
        draw.text((picture.width - margin, margin // 2), born, fill=235, font=font, anchor="ra")
        bench.write_pixels(image, np.asarray(picture))
        planted.append(PlantedFault("burned_in_text", (image.path,), note=f"{height} pixels high"))
    return planted


def plant_off_topic_images(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images that are none of the kind: a page of text, or something in colour."""
    planted = []
    for image in bench.pick(count, part="train", kind="off_topic"):
        rows, columns = bench.render(image).shape
        page = bool(bench.rng.random() < 0.5)
        pixels = _page_of_text(bench.rng, rows, columns) if page else _coloured_scene(bench.rng, rows, columns)
        bench.write(image, encode_jpeg(pixels, quality=bench.quality))
        bench.drop_mask(image)
        planted.append(PlantedFault("off_topic", (image.path,), note="page of text" if page else "colours"))
    return planted


def _page_of_text(rng: np.random.Generator, rows: int, columns: int) -> ByteArray:
    """Return a scanned page, uint8 of shape (rows, columns)."""
    picture = Image.new("L", (columns, rows), int(rng.integers(225, 250)))
    height = max(7, round(0.045 * rows))
    font, draw, margin = ImageFont.load_default(height), ImageDraw.Draw(picture), round(0.08 * columns)
    for top in range(margin, rows - margin - height, round(1.5 * height)):
        line = " ".join(rng.choice(_WORDS, size=12).tolist())
        while draw.textlength(line, font=font) > columns - 2 * margin:
            line = line.rpartition(" ")[0]
        draw.text((margin, top), line, fill=int(rng.integers(20, 60)), font=font)
    return np.asarray(picture)


def _coloured_scene(rng: np.random.Generator, rows: int, columns: int) -> ByteArray:
    """Return something like a photograph of a landscape, out of focus, uint8 of shape (rows, columns, 3)."""
    coarse = rng.integers(0, 90, size=(5, 7, 3)).astype(np.float32)
    sky, ground = np.array([60, 130, 230], dtype=np.float32), np.array([90, 120, 30], dtype=np.float32)
    share = np.linspace(0.0, 1.0, 5, dtype=np.float32)[:, None, None]
    colours = np.clip(coarse + (1.0 - share) * sky + share * ground, 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(colours).resize((columns, rows), Image.Resampling.BICUBIC))
