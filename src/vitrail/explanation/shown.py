"""An explanation in a notebook: look at it, save it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.errors import UsageError
from vitrail.explanation.picture import draw_explanation, write_picture
from vitrail.explanation.store import write_map
from vitrail.records import Explanation
from vitrail.storage import write_bytes, write_record


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
        return draw_explanation(self, Path(self.image))

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
        buffer = io.BytesIO()
        if self.standard_error is None:
            np.savez_compressed(buffer, map=self.map)
        else:
            np.savez_compressed(buffer, map=self.map, standard_error=self.standard_error)
        write_bytes(target, buffer.getvalue())
        return target

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.plot().save(buffer, format="PNG")
        return buffer.getvalue()
