"""An explanation in a notebook: look at it, save it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.datasets import read_image
from vitrail.errors import UsageError
from vitrail.explanation.picture import draw_map, write_picture
from vitrail.explanation.store import write_map
from vitrail.records import ByteArray, Explanation
from vitrail.storage import whole_file, write_record


class ShownExplanation(Explanation):
    """An :class:`~vitrail.records.Explanation` whose image file is at hand: what :func:`vitrail.explain` returns."""

    @classmethod
    def of(cls, explanation: Explanation) -> ShownExplanation:
        """Return the same explanation with :meth:`plot` and :meth:`save`."""
        return cls(**vars(explanation))

    def plot(self) -> Image.Image:
        """Return the map over its image, at the image's own height and width: warm raises what is explained, blue lowers it. A
        notebook shows it.

        Raises:
            DataError: The image file cannot be read any more.
        """
        height, width = self.map.shape
        picture = Image.fromarray(read_image(Path(self.image)).pixels).convert("RGB").resize((width, height))
        overlay: ByteArray = draw_map(np.asarray(picture), self.map.astype(np.float64))
        return Image.fromarray(overlay)

    def save(self, path: str | Path) -> Path:
        """Write the explanation, whole or not at all.

        Args:
            path: ``.npy``: the map alone; ``.npz``: map and standard error; ``.png``: the picture; ``.json``: everything but the
                maps.

        Returns:
            The same path.

        Raises:
            UsageError: The path ends otherwise.
        """
        target = Path(path)
        if target.suffix == ".npy":
            return write_map(self, target)
        if target.suffix == ".png":
            return write_picture(self, Path(self.image), target)
        if target.suffix == ".json":
            write_record(target, {key: value for key, value in vars(self).items() if key not in ("map", "standard_error")})
            return target
        if target.suffix != ".npz":
            raise UsageError(f"file of an explanation: must end in .npy, .npz, .png or .json. Found: {target.name}.")
        maps = {"map": self.map} if self.standard_error is None else {"map": self.map, "standard_error": self.standard_error}
        with whole_file(target) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **maps)
        return target

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.plot().save(buffer, format="PNG")
        return buffer.getvalue()
