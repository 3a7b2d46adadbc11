"""Explanations in a notebook: look at one or at all of an image, save them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.errors import UsageError
from vitrail.explanation.agreement import Agreement, agreement_of
from vitrail.explanation.overview import draw_overview, write_overview
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

    def overview(self) -> Image.Image:
        """Return the image and the map beside each other, with class, score, grade and a colour bar, for people.

        Raises:
            DataError: The image file cannot be read any more.
        """
        return draw_overview((self,), Path(self.image))

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
        return _png(self.plot())


class ShownExplanations(Mapping[str, ShownExplanation]):
    """Several methods' explanations of one image, by method: what :func:`vitrail.explain` returns for ``all``.

    Args:
        explanations: Of one image and one class, one per method; at least one.
        refused: Method -> why it is not defined for the model.
    """

    def __init__(self, explanations: Sequence[Explanation], refused: Mapping[str, str] | None = None) -> None:
        self._found = {one.method: ShownExplanation.of(one) for one in explanations}
        self.refused = dict(refused or {})

    def __getitem__(self, method: str) -> ShownExplanation:
        return self._found[method]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._found)})"

    @cached_property
    def agreement(self) -> Agreement:
        """Where the methods agree, and how far; that they do is no proof that they are right."""
        return agreement_of(tuple(self.values()))

    def plot(self) -> Image.Image:
        """Return the image and every map side by side, titled, with where the methods agree and colour bars. A notebook shows it.

        Raises:
            DataError: The image file cannot be read any more.
        """
        return draw_overview(tuple(self.values()), self._image, agreement=self.agreement)

    def save(self, path: str | Path) -> Path:
        """Write what :meth:`plot` returns, whole or not at all; single maps have a ``save`` of their own.

        Args:
            path: A ``.png`` file.

        Returns:
            The same path.

        Raises:
            UsageError: The path ends otherwise.
        """
        target = Path(path)
        if target.suffix != ".png":
            raise UsageError(f"file of several explanations: must end in .png. Found: {target.name}.")
        return write_overview(tuple(self.values()), self._image, target, agreement=self.agreement)

    @property
    def _image(self) -> Path:
        return Path(next(iter(self._found.values())).image)

    def _repr_png_(self) -> bytes:
        return _png(self.plot())


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
