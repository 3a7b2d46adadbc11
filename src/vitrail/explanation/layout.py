"""How the places of a network's values lie on the image: maps, tokens, and what becomes of them when they are reshaped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """How the places of a value (n, ...) lie on the image.

    Attributes:
        kind: ``maps`` (n, C, h, w), ``maps last`` (n, h, w, C), ``tokens`` (n, prefix + h w + suffix, C) or ``tokens last``
            (n, C, the same); tokens run row by row.
        rows: h.
        columns: w.
        prefix: Tokens before those of the image: class, distillation, registers.
        suffix: Tokens after them.
    """

    kind: Literal["maps", "maps last", "tokens", "tokens last"]
    rows: int
    columns: int
    prefix: int = 0
    suffix: int = 0

    @property
    def tokens(self) -> int:
        """How many tokens there are, those that are no part of the image included."""
        return self.prefix + self.rows * self.columns + self.suffix

    def reached(self, places: tuple[Tensor, ...]) -> bool:
        """Return whether anything reaches a place on the image, of whether it does per axis of a value after the first."""
        if self.kind in ("maps", "maps last"):
            return bool(places[0].any())
        tokens = places[0] if self.kind == "tokens" else places[1]
        return bool(tokens[self.prefix : self.prefix + self.rows * self.columns].any())

    def maps(self, value: Tensor) -> Tensor:
        """Return the value as maps (n, C, h, w); tokens that are no part of the image are left out."""
        if self.kind == "maps":
            return value
        if self.kind == "maps last":
            return value.permute(0, 3, 1, 2)
        of_image = slice(self.prefix, self.prefix + self.rows * self.columns)
        tokens = value[:, of_image].mT if self.kind == "tokens" else value[:, :, of_image]
        return tokens.reshape(*tokens.shape[:2], self.rows, self.columns)

    def fits(self, shape: tuple[int, ...], images: int) -> bool:
        """Return whether a value of this shape, of so many images, can lie so."""
        if shape[:1] != (images,):
            return False
        if self.kind in ("maps", "maps last"):
            return len(shape) == 4 and (shape[2:] if self.kind == "maps" else shape[1:3]) == (self.rows, self.columns)
        return len(shape) == 3 and shape[1 if self.kind == "tokens" else 2] == self.tokens

    @property
    def channel_axis(self) -> int:
        """The axis of the channels."""
        return {"maps": 1, "maps last": 3, "tokens": 2, "tokens last": 1}[self.kind]


_TURNS: dict[tuple[str, tuple[int, ...]], Literal["maps", "maps last", "tokens", "tokens last"]] = {
    ("maps", (0, 2, 3, 1)): "maps last",
    ("maps last", (0, 3, 1, 2)): "maps",
    ("tokens", (0, 2, 1)): "tokens last",
    ("tokens last", (0, 2, 1)): "tokens",
}


def turned(layout: Layout, order: tuple[int, ...]) -> Layout | None:
    """Return the layout after the axes were put in another order; ``None`` where it is none that is known."""
    kind = _TURNS.get((layout.kind, order))
    return None if kind is None else replace(layout, kind=kind)


def reshaped(layout: Layout, before: tuple[int, ...], after: tuple[int, ...], *, cut: tuple[int, int] | None) -> Layout | None:
    """Return the layout after maps were flattened to tokens, tokens were unflattened, or tokens were cut off.

    Args:
        layout: Before.
        before: Shape of the value before.
        after: Shape of the value after.
        cut: Axis and first place of what was cut out along one axis; ``None``: nothing was cut.

    Returns:
        ``None`` where it cannot be followed.
    """
    if before == after:
        return layout
    cells = layout.rows * layout.columns
    if len(before) == 4 and len(after) == 3:
        if layout.kind == "maps" and after[1:] == (before[1], cells):
            return replace(layout, kind="tokens last")
        if layout.kind == "maps last" and after[1:] == (cells, before[3]):
            return replace(layout, kind="tokens")
    if len(before) == 3 and len(after) == 4 and layout.tokens == cells:
        if layout.kind == "tokens last" and after[1:] == (before[1], layout.rows, layout.columns):
            return replace(layout, kind="maps")
        if layout.kind == "tokens" and after[1:] == (layout.rows, layout.columns, before[2]):
            return replace(layout, kind="maps last")
    if layout.kind == "tokens" and cut is not None and cut[0] in (1, -2) and len(after) == 3 and cut[1] >= 0:
        lost = before[1] - after[1] - cut[1]  # tokens cut off at the end
        if cut[1] <= layout.prefix and 0 <= lost <= layout.suffix:
            return replace(layout, prefix=layout.prefix - cut[1], suffix=layout.suffix - lost)
    return None
