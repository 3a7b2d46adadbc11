"""Small previews of the data set as data URIs, at the images' own proportions, and examples of each class."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitrail.records import ByteArray, Manifest
from vitrail.row_file import RowFile

THUMBNAIL_SIDE = 128
EXAMPLES_PER_CLASS = 8
MOST_EXAMPLES = 120


@dataclass(frozen=True)
class Picture:
    """A thumbnail and the file it stands for.

    Attributes:
        uri: Data URI; empty when there is none.
        path: The file.
        label: Its class; empty when the data set has no such file.
        part: Its shipped part; empty when it has none.
        width: Of the thumbnail in pixels; 0 when there is none.
        height: Of the thumbnail in pixels; 0 when there is none.
    """

    uri: str
    path: str
    label: str = ""
    part: str = ""
    width: int = 0
    height: int = 0


class Thumbnails:
    """The manifest's thumbnails as data URIs, at the images' own proportions. A missing one is an empty string.

    Args:
        manifest: The data set.
    """

    def __init__(self, manifest: Manifest) -> None:
        self._files = manifest.files
        self._rows = {file.path: row for row, file in enumerate(manifest.files)}
        try:
            self._pixels: RowFile | None = manifest.thumbnails
        except (OSError, ValueError):
            self._pixels = None
        self._made: dict[int, str] = {}

    def picture(self, path: str) -> Picture:
        """Return the preview of a file, with its class and part."""
        row = self._rows.get(path)
        if row is None:
            return Picture("", path)
        file, uri = self._files[row], self.uri(path)
        width, height = _drawn_size(file.width, file.height) if uri else (0, 0)
        return Picture(uri, path, file.label, file.part or "", width, height)

    def contents(self, paths: Iterable[str]) -> int:
        """Return how many different contents, byte for byte, files have."""
        return len({self._files[self._rows[path]].sha256 for path in paths if path in self._rows})

    def uri(self, path: str) -> str:
        """Return the thumbnail of a file (JPEG, at most 128 pixels a side), or an empty string when there is none."""
        row = self._rows.get(path)
        if row is None or self.grey(path) is None:
            return ""
        if row not in self._made:
            size = _drawn_size(self._files[row].width, self._files[row].height)
            picture = Image.fromarray(self._grey(row)).resize(size, Image.Resampling.LANCZOS)
            self._made[row] = jpeg_uri(picture, quality=72)
        return self._made[row]

    def grey(self, path: str) -> ByteArray | None:
        """Return the grey 128 x 128 thumbnail of a readable file, or nothing."""
        row = self._rows.get(path)
        if row is None or self._pixels is None or row >= len(self._pixels) or not self._files[row].readable:
            return None
        return self._grey(row)

    def _grey(self, row: int) -> ByteArray:
        pixels = np.zeros((1, 1), np.uint8) if self._pixels is None else self._pixels[row]
        return np.asarray(pixels, dtype=np.uint8)


def examples(
    manifest: Manifest, thumbnails: Thumbnails, *, preferred: Callable[[int], bool]
) -> tuple[tuple[str, tuple[Picture, ...]], ...]:
    """Pick readable images of each class evenly over the order of their paths: the same data set shows the same examples.

    Args:
        manifest: The data set.
        thumbnails: Its previews.
        preferred: Says of a position in the manifest whether it makes a good example; where none of a class does, all do.

    Returns:
        Class name -> pictures, for the first 120 classes; about 120 pictures in all, at most 8 for each class.
    """
    per_class = min(EXAMPLES_PER_CLASS, max(1, MOST_EXAMPLES // max(1, len(manifest.classes))))
    chosen = []
    for number, name in enumerate(manifest.classes[:MOST_EXAMPLES]):
        of_class = [int(row) for row in np.flatnonzero(manifest.labels == number) if manifest.files[row].readable]
        rows = [row for row in of_class if preferred(row)] or of_class
        picks = sorted({round(position) for position in np.linspace(0, len(rows) - 1, per_class)}) if rows else []
        chosen.append((name, tuple(thumbnails.picture(manifest.files[rows[pick]].path) for pick in picks)))
    return tuple(chosen)


def jpeg_uri(picture: Image.Image, *, quality: int) -> str:
    """Return a picture as a JPEG data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _drawn_size(width: int, height: int) -> tuple[int, int]:
    """Return the size of a thumbnail at the proportions of its image; square where these are unknown."""
    if not width or not height:
        return THUMBNAIL_SIDE, THUMBNAIL_SIDE
    longest = max(width, height)
    return max(8, round(THUMBNAIL_SIDE * width / longest)), max(8, round(THUMBNAIL_SIDE * height / longest))
