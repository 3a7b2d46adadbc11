"""Many small maps side by side: every head of every block, or the channels of a layer. To browse, not to read off values."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vitrail.decision import Decision, decide
from vitrail.errors import UsageError
from vitrail.explanation.activation_maps import Order, strongest_channels
from vitrail.explanation.attention import EVERY, attention_refusal, find_place, reading
from vitrail.explanation.explainer import ExplainableModel, Want
from vitrail.explanation.passes import SharedPasses, layer_refusal, named_layer
from vitrail.explanation.picture import draw_channels
from vitrail.records import ByteArray, FloatArray, Quantity
from vitrail.storage import write_bytes


@dataclass(frozen=True)
class Sheet:
    """Maps of one image, of one kind.

    Attributes:
        pixels: What the model was given, uint8 of shape (size, size, channels).
        maps: In cells, float32, shape (panels, h, w), not enlarged.
        titles: One per panel.
        columns: Panels a row.
        target: The class that an order of channels is about, or the predicted one.
        score: The model's score for it.
        layer: What was asked for, by name.
    """

    pixels: ByteArray
    maps: FloatArray
    titles: tuple[str, ...]
    columns: int
    target: str
    score: float
    layer: str

    def plot(self) -> Image.Image:
        """Return the sheet as a picture: black is zero, white each panel's own largest magnitude, which its title says."""
        return Image.fromarray(draw_channels(self.pixels, self.maps, self.titles, columns=self.columns))

    def save(self, path: str | Path) -> Path:
        """Write the picture (``.png``) or the maps (``.npy``), whole or not at all.

        Raises:
            UsageError: The path ends otherwise.
        """
        target, buffer = Path(path), io.BytesIO()
        if target.suffix == ".png":
            self.plot().save(buffer, format="PNG")
        elif target.suffix == ".npy":
            np.save(buffer, self.maps)
        else:
            raise UsageError(f"file of a sheet: must end in .png or .npy. Found: {target.name}.")
        write_bytes(target, buffer.getvalue())
        return target

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.plot().save(buffer, format="PNG")
        return buffer.getvalue()


def attention_sheet(model: ExplainableModel, pixels: ByteArray, *, layer: str = EVERY, decision: Decision | None = None) -> Sheet:
    """Return where every head of every block looks, a row of the sheet per block, from the input to the logits.

    The maps are those of ``attention``: the class token's row, or the mean of the rows that are pooled.

    Args:
        model: A loaded model; see :class:`~vitrail.explanation.attention.AttentionMap` for which it must be.
        pixels: The prepared image before scaling, uint8 of shape (size, size, channels).
        layer: ``all``, or the name of one block.
        decision: How the model's scores become a class; ``None``: the highest score.

    Raises:
        UsageError: The model has no attention over the whole image, or none of that name.
    """
    reason = attention_refusal(model)
    if reason:
        raise UsageError(f"attention: {reason}")
    read, (passes, target, score) = reading(model), _asked(model, pixels, frozenset({"attention"}), decision=decision)
    chosen = range(len(passes.places)) if layer == EVERY else [find_place(passes.places, layer)[0]]
    maps, titles = [], []
    for number in chosen:
        rows = np.einsum("q,hqk->hk", read.weights, passes.attentions()[number][0].astype(np.float64))
        maps += list(read.cells(rows))
        titles += [f"{passes.places[number].name} head {head}" for head in range(len(rows))]
    columns = max(passes.places[number].heads for number in chosen)
    return Sheet(pixels, np.stack(maps).astype(np.float32), tuple(titles), columns, target, score, layer)


def channel_sheet(
    model: ExplainableModel,
    pixels: ByteArray,
    *,
    layer: str = "",
    target: str | None = None,
    count: int = 16,
    by: Order = "weight",
    quantity: Quantity = "logit",
    decision: Decision | None = None,
) -> Sheet:
    """Return the channels of a layer that weigh most for a class.

    Args:
        model: A loaded model with a layer that lies on the image.
        pixels: The prepared image before scaling, uint8 of shape (size, size, channels).
        layer: By name; empty: the one that class activation maps use.
        target: The class; ``None``: the predicted one.
        count: How many channels, at least 1.
        by: ``weight``: by the mean gradient (Grad-CAM's weight), the largest first. ``variance``: over the places of the layer.
        quantity: What is differentiated.
        decision: How the model's scores become a class; ``None``: the highest score.

    Raises:
        UsageError: The model has no such layer, the class is unknown, or ``count`` is below 1.
    """
    reason = layer_refusal(model)
    if reason:
        raise UsageError(f"activations: {reason}")
    if count < 1:
        raise UsageError(f"channels of a sheet: must be at least 1. Found: {count}.")
    if layer:
        named_layer(model, layer)
    wants: frozenset[Want] = frozenset({"feature maps", "feature map gradient"})
    passes, name, score = _asked(model, pixels, wants, layer=layer, target=target, quantity=quantity, decision=decision)
    maps, gradient = (part[0].astype(np.float64) for part in (passes.feature_maps(layer), passes.feature_map_gradient(layer)))
    channels, values = strongest_channels(maps, gradient, count=count, by=by)
    titles = tuple(f"channel {channel} {by} {values[channel]:.2g}" for channel in channels)
    columns = int(np.ceil(np.sqrt(len(channels))))
    return Sheet(pixels, maps[list(channels)].astype(np.float32), titles, columns, name, score, passes.layer_name)


def _asked(
    model: ExplainableModel,
    pixels: ByteArray,
    wants: frozenset[Want],
    *,
    layer: str = "",
    target: str | None = None,
    quantity: Quantity = "logit",
    decision: Decision | None,
) -> tuple[SharedPasses, str, float]:
    """Return the passes of one image, the class that they are about, and its score."""
    if target is not None and target not in model.classes:
        raise UsageError(f"class to explain: {model.name} does not know {target!r}. Choose one of: {', '.join(model.classes)}.")
    passes = SharedPasses(model, pixels[np.newaxis], quantity=quantity, wants=wants, layer=layer)
    predicted = int(decide(passes.scores, model.classes, decision)[0])
    index = predicted if target is None else model.classes.index(target)
    passes.aim(np.array([index]))
    return passes, model.classes[index], float(passes.scores[0, index])
