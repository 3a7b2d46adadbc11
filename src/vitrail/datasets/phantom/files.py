"""Planted files that are broken, mislabelled as files, or should not be there; what the pictures show is left alone."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Literal

import numpy as np
from PIL import Image
from PIL.ExifTags import GPS, IFD
from PIL.ExifTags import Base as ExifTag

from vitrail.datasets.phantom.bench import Bench, PhantomImage, PlantedFault, encode_picture


def plant_truncated_files(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images of which only the first half of the bytes is left: a transfer that broke off."""
    return [_overwrite(bench, image, "truncated_file") for image in bench.pick(count, part="train", kind="truncated_file")]


def plant_empty_files(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images of zero bytes."""
    return [_overwrite(bench, image, "empty_file") for image in bench.pick(count, part="train", kind="empty_file")]


def plant_texts_named_as_images(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images that are a text under an image's name: a download that was refused."""
    return [_overwrite(bench, image, "not_an_image") for image in bench.pick(count, part="train", kind="not_an_image")]


def plant_misnamed_images(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images that are PNG inside and named ``.jpg``."""
    planted = []
    for image in bench.pick(count, part="train", kind="misnamed_image"):
        bench.write(image, encode_picture(Image.fromarray(bench.render(image)), quality=0))
        planted.append(PlantedFault("misnamed_image", (image.path,)))
    return planted


def plant_derived_masks(bench: Bench, count: int) -> list[PlantedFault]:
    """Masks of training images that stand beside them as ``..._mask.png``, where a model would take them for images."""
    planted = []
    for image in bench.pick(count, part="train", kind="derived_mask", with_lesion=True):
        path = f"{image.path.removesuffix('.jpg')}_mask.png"
        mask = replace(image, path=path, mask=None)
        bench.write(mask, (bench.folder / str(image.mask)).read_bytes())
        bench.images.append(mask)
        bench.touched.add(path)
        planted.append(PlantedFault("derived_mask", (path,)))
    return planted


def plant_personal_exif(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images whose EXIF block names a person or a place; the pixels' bytes are the same."""
    planted = []
    for image in bench.pick(count, part="train", kind="personal_exif"):
        exif = Image.Exif()
        place = bool(bench.rng.random() < 0.5)
        if place:
            seconds = float(bench.rng.integers(0, 60))
            position = exif.get_ifd(IFD.GPSInfo)
            position[GPS.GPSLatitudeRef], position[GPS.GPSLatitude] = "N", (52.0, 31.0, seconds)
            position[GPS.GPSLongitudeRef], position[GPS.GPSLongitude] = "E", (13.0, 24.0, seconds)
        else:
            exif[ExifTag.Artist] = "Jane Doe"
        content, block = bench.read(image), exif.tobytes()
        end = 4 + int.from_bytes(content[4:6], "big")  # of the JFIF header, which must come first
        segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
        bench.write(image, content[:end] + segment + content[end:])
        planted.append(PlantedFault("personal_exif", (image.path,), note="GPS position" if place else "Artist"))
    return planted


def plant_odd_forms(bench: Bench, count: int) -> list[PlantedFault]:
    """Training images in an unusual form: CMYK, 16 bits, or lying on their side with an EXIF note how to turn them."""
    planted = []
    for image in bench.pick(count, part="train", kind="odd_form"):
        form = str(bench.rng.choice(["CMYK", "16 bits", "turned by EXIF"]))
        picture, stream = Image.fromarray(bench.render(image)), io.BytesIO()
        if form == "16 bits":
            Image.fromarray(np.asarray(picture).astype(np.uint16) * 16).save(stream, "PNG")
        elif form == "CMYK":
            picture.convert("CMYK").save(stream, "JPEG", quality=bench.quality)
        else:
            exif = Image.Exif()
            exif[ExifTag.Orientation] = 6  # to be turned by 90 degrees clockwise
            picture.transpose(Image.Transpose.ROTATE_90).save(stream, "JPEG", quality=bench.quality, exif=exif)
        suffix = ".png" if form == "16 bits" else ".jpg"
        filed = bench.move(image, stream.getvalue(), part=image.part, label=image.label, suffix=suffix)
        planted.append(PlantedFault("odd_form", (filed.path,), note=form))
    return planted


def _overwrite(bench: Bench, image: PhantomImage, kind: Literal["truncated_file", "empty_file", "not_an_image"]) -> PlantedFault:
    content = bench.read(image)
    broken = {
        "truncated_file": content[: len(content) // 2],
        "empty_file": b"",
        "not_an_image": b"403 Forbidden: the session has expired.\n",
    }
    bench.write(image, broken[kind])
    return PlantedFault(kind, (image.path,))
