"""Where a transformer attends: one block, the rollout over all blocks, and the rollout weighted by gradients.

Attention says where values are fetched from, not what they do to the score. All rollouts are a row vector times one matrix per
block, from the last block to the first; no product of two matrices is formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from vitrail.errors import UsageError
from vitrail.explanation.class_activation import answer_of_cells, shared_passes
from vitrail.explanation.explainer import Cost, ExplainableModel, Passes, Question, Relevance, Want
from vitrail.explanation.passes import gradient_refusal, network_of
from vitrail.records import FloatArray

if TYPE_CHECKING:
    from vitrail.explanation.layers import AttentionPlace, Layers

Fusion = Literal["mean", "max", "min"]
FUSIONS: tuple[Fusion, ...] = ("mean", "max", "min")
LAST, EVERY = "last", "all"
"""Names of a block beside its own: the last one; and all of them, which make a sheet and not a map."""

CLASS_AGNOSTIC = (
    "Attention does not depend on the class: the map is the same for every class, shows where the network fetches values from, "
    "and has no sign."
)
OUTLYING = 5.0
"""A token's vector is an outlier where it is longer than the median by so many standard deviations (from the median absolute
deviation), and at least twice as long as the median.
"""

Precise = npt.NDArray[np.float64]


def fuse_heads(attention: FloatArray, heads: Fusion | int) -> FloatArray:
    """Return one matrix per image, (n, queries, keys), from those of all heads, (n, heads, queries, keys).

    Args:
        attention: Of one block.
        heads: Mean, largest or smallest of the heads, or the number of one, from 0.
    """
    if isinstance(heads, int):
        return attention[:, heads]
    if heads == "mean":
        return np.asarray(attention.mean(axis=1))
    return np.asarray(attention.max(axis=1) if heads == "max" else attention.min(axis=1))


@dataclass(frozen=True)
class Reading:
    """Which tokens the head reads after the last attention, and where the tokens lie on the image.

    Attributes:
        rows: Rows of cells.
        columns: Columns of cells.
        prefix: Tokens before those of the image: class, distillation, registers.
        weights: How much each token counts, shape (tokens,), sum 1: the class token alone, or the mean of those that are pooled.
    """

    rows: int
    columns: int
    prefix: int
    weights: Precise

    @property
    def words(self) -> str:
        """What is read, for people."""
        read = np.flatnonzero(self.weights)
        of_image = (read >= self.prefix) & (read < self.prefix + self.rows * self.columns)
        if len(read) == 1 and not of_image.any():
            return "the class token" if read[0] == 0 else f"token {read[0]}"
        if of_image.all():
            return f"the mean of {len(read)} image tokens"
        return f"the mean of {len(read)} tokens, {int(of_image.sum())} of them of the image"

    def cells(self, row: Precise) -> Precise:
        """Return the image's part of rows (n, tokens) as maps of cells (n, rows, columns)."""
        return row[:, self.prefix : self.prefix + self.rows * self.columns].reshape(-1, self.rows, self.columns)

    def start(self, images: int) -> Precise:
        """Return the weights once per image, (n, tokens)."""
        return np.repeat(self.weights[np.newaxis], images, axis=0)


def reading(model: ExplainableModel) -> Reading:
    """Return what the head of a model reads; the model was not refused."""
    layers = _layers(model)
    place = layers.attentions[-1]
    if place.layout is None:
        raise UsageError(f"{model.name}: {place.name} attends to tokens whose places are not known. Use occlusion.")
    weights = np.zeros(place.queries)
    weights[list(layers.read_queries(place))] = 1.0
    return Reading(place.layout.rows, place.layout.columns, place.layout.prefix, weights / weights.sum())


def attention_refusal(model: ExplainableModel) -> str:
    """Return why a model has no attention over the whole image in every block, in a sentence; empty: it has."""
    reason = gradient_refusal(model)
    if reason or model.network is None:
        return reason
    from vitrail.explanation.graph import network_graph

    graph = network_graph(model.network)
    if not any(node.operator == "Softmax" for node in graph.nodes):  # found without sending anything through the network
        return f"{model.name} has no attention."
    layers = _layers(model)
    places = layers.attentions
    if not places:
        return f"{model.name} has no attention that is softmax(queries x keys) x values over tokens."
    windowed = [place for place in places if place.windows > 1]
    if windowed:
        return (
            f"{model.name} attends within windows of {windowed[0].keys} tokens ({windowed[0].name}): no token looks at the whole "
            "image, and a chain of blocks has no common tokens."
        )
    for place in places:
        if place.queries == 1 < place.keys:
            return (
                f"{model.name} pools {place.keys} tokens by attention ({place.name}): a learned query, which is no place of the "
                "image, ends the chain of blocks. Gradients pass through it."
            )
        if place.layout is None or place.queries != place.keys:
            return f"{model.name}: at {place.name}, {place.queries} tokens look at {place.keys} whose places are not known."
        if place.layout != places[-1].layout:
            return f"{model.name} attends over different tokens in different blocks ({place.name}, {places[-1].name})."
    return "" if layers.read_queries(places[-1]) else f"{model.name}: its logits do not depend on its last attention."


def find_place(places: Sequence[AttentionPlace], layer: str) -> tuple[int, Fusion | int | None]:
    """Return the number of a block, and what is said of its heads.

    Args:
        places: All blocks.
        layer: Empty or ``last``; the name of a block or of a module that holds it, such as ``blocks.3``; after a colon how the
            heads are joined, ``mean``, ``max`` or ``min``, or the number of one from 0: ``blocks.3:2``.

    Raises:
        UsageError: There is no such block or head.
    """
    name, colon, said = layer.partition(":")
    fitting = [n for n, one in enumerate(places) if name in ("", LAST, one.name) or one.name.startswith(f"{name}.")]
    if not fitting:
        names = ", ".join(place.name for place in places)
        raise UsageError(
            f"layer: attention is in {names}. Found: {layer!r}. Name one of them, add :max, :min or :HEAD for its heads, or say "
            f"{EVERY} for a sheet of all."
        )
    number = fitting[-1]
    if not colon:
        return number, None
    heads = places[number].heads
    for fusion in FUSIONS:
        if said == fusion:
            return number, fusion
    if not said.isdecimal() or int(said) >= heads:
        raise UsageError(
            f"layer: after the colon must be mean, max, min or the number of a head, 0 to {heads - 1}. Found: {layer!r}."
        )
    return number, int(said)


def check_attention_layer(model: ExplainableModel, layer: str) -> None:
    """Find out whether ``attention`` can be asked for a layer by that name.

    Raises:
        UsageError: It cannot.
    """
    if layer == EVERY:
        raise UsageError(
            f"layer: {EVERY} is a sheet of all blocks and heads, not a map: ask for it by the command vitrail explain --method "
            "attention alone, or in Python by vitrail.explanation.attention_sheet."
        )
    find_place(_layers(model).attentions, layer)


# ---------------------------------------------------------------------------------------------------- methods


@dataclass(frozen=True)
class AttentionMap:
    """What one block attends to: the row of the class token, or the mean of the rows that are pooled (Dosovitskiy et al., ICLR
    2021).

    ``A[read, image tokens]``: shares of attention, 0..1; with what is paid to the class token and registers a row sums to 1. It
    says where the block looks, not what that does to the score, and is the same for every class.

    Attributes:
        heads: How the heads are joined: ``mean``, ``max``, ``min``, or the number of one from 0. What a layer's name says after
            a colon comes first.
    """

    heads: Fusion | int = "mean"

    needs: ClassVar[str] = "attention of every token to all others, over the whole image"
    wants: ClassVar[frozenset[Want]] = frozenset({"attention"})

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return attention_refusal(model)

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - always the same
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return Cost(forward=1.0)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        shared, read = shared_passes(model, question, self.wants), reading(model)
        elsewhere: tuple[str, ...] = ()
        try:
            number, said = find_place(shared.places, question.layer)
        except UsageError:  # the layer is meant for another method of this question: checked before
            number, said = find_place(shared.places, "")
            elsewhere = (f"There is no attention at {question.layer!r}: this is the last block, {shared.places[number].name}.",)
        heads = self.heads if said is None else said
        fused = fuse_heads(shared.attentions()[number], heads)
        row = np.einsum("q,nqk->nk", read.weights, fused.astype(np.float64))
        notes = (CLASS_AGNOSTIC, *elsewhere)
        return _answer(row, read, shared, question, notes, {"heads": heads}, layer=shared.places[number].name)


@dataclass(frozen=True)
class AttentionRollout:
    """Attention rollout (Abnar and Zuidema, ACL 2020): attention of all blocks, multiplied, half of each going past it.

    ``r A_L ... A_1`` with ``A = (F + I) / 2``, its rows brought to sum 1, ``F`` the attention of a block with its heads joined,
    and ``r`` the class token or the mean of the tokens that are pooled. Shares, 0..1; with those of the class token and registers
    they sum to 1. It leaves out values, MLPs and the sign, and is the same for every class.

    Attributes:
        heads: How the heads are joined: ``mean`` (the paper's), ``max`` or ``min``.
        discard: Share of the attention to image tokens that is set to zero in every block, the lowest first, 0 to below 1; what
            is paid to the class token and registers stays.
    """

    heads: Fusion = "mean"
    discard: float = 0.0

    needs: ClassVar[str] = AttentionMap.needs
    wants: ClassVar[frozenset[Want]] = AttentionMap.wants

    def __post_init__(self) -> None:
        if self.heads not in FUSIONS:
            raise UsageError(f"heads: must be one of {', '.join(FUSIONS)}. Found: {self.heads!r}.")
        if not 0 <= self.discard < 1:
            raise UsageError(f"discard: must be at least 0 and below 1. Found: {self.discard}.")

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return attention_refusal(model)

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - always the same
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return Cost(forward=1.0)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        shared, read = shared_passes(model, question, self.wants), reading(model)
        row = read.start(len(question))
        for attention in reversed(shared.attentions()):
            row = np.einsum("nq,nqk->nk", row, self.step(attention, read))
        details: dict[str, object] = {"heads": self.heads, "discard": self.discard}
        return _answer(row, read, shared, question, (CLASS_AGNOSTIC,), details)

    def step(self, attention: FloatArray, read: Reading) -> Precise:
        """Return the matrix of one block, (n, tokens, tokens), whose rows sum to 1.

        Args:
            attention: Of the block, (n, heads, tokens, tokens).
            read: Where the image's tokens are.
        """
        fused = fuse_heads(attention, self.heads).astype(np.float64)
        if self.discard:
            of_image = fused[:, :, read.prefix : read.prefix + read.rows * read.columns]
            values = of_image.reshape(len(fused), -1)
            fewest = int(self.discard * values.shape[1])
            if fewest:
                lowest_kept = np.partition(values, fewest, axis=1)[:, fewest]
                of_image[of_image < lowest_kept[:, np.newaxis, np.newaxis]] = 0.0
        fused += np.eye(fused.shape[1])
        return np.asarray(fused / fused.sum(axis=-1, keepdims=True))


@dataclass(frozen=True)
class GradientRollout:
    """Gradient-weighted rollout (Chefer et al., ICCV 2021, the rule for self-attention): attention that raises what is explained.

    ``R <- R + E_l R`` from the first block to the last, with ``E_l = mean over heads of max(0, A * dy/dA)`` and ``R = I`` at
    first; the map is the read row of ``R - I`` (the class token's, or the mean of those that are pooled), at the image's tokens.
    It depends on the class and is never negative: attention that lowers what is explained is left out by definition.
    """

    needs: ClassVar[str] = AttentionMap.needs
    wants: ClassVar[frozenset[Want]] = frozenset({"attention", "attention gradient"})

    def refusal(self, model: ExplainableModel) -> str:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return attention_refusal(model)

    def cost(self, model: ExplainableModel) -> Cost:  # noqa: ARG002 - always the same
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        return Cost(forward=1.0, backward=1.0)

    def relevance(self, model: ExplainableModel, question: Question) -> Relevance:
        """See :class:`~vitrail.explanation.explainer.Explainer`."""
        shared, read = shared_passes(model, question, self.wants), reading(model)
        row = read.start(len(question))
        for speaking in reversed(shared.speaking_attentions()):
            row = row + np.einsum("nq,nqk->nk", row, speaking)
        row = row - read.start(len(question))
        return _answer(row, read, shared, question, (), {}, backward=1.0)


# ---------------------------------------------------------------------------------------------------- answers


def _layers(model: ExplainableModel) -> Layers:
    from vitrail.explanation.layers import network_layers

    return network_layers(network_of(model))


def _answer(
    row: Precise,
    read: Reading,
    shared: Passes,
    question: Question,
    notes: tuple[str, ...],
    details: dict[str, object],
    *,
    layer: str = "",
    backward: float = 0.0,
) -> Relevance:
    """Return the image's part of the rows (n, tokens) as maps, with what makes them doubtful."""
    cells = read.cells(row)
    answer = answer_of_cells(cells, question, layer=layer, backward=backward)
    total = row.sum(axis=1)
    elsewhere = 1 - np.divide(cells.sum(axis=(1, 2)), total, out=np.ones_like(total), where=total > 0)
    outlying = long_tokens(shared.token_norms(), len(question))
    return Relevance(
        maps=answer.maps,
        warnings=tuple((*notes, *general, *_long(count)) for general, count in zip(answer.warnings, outlying, strict=True)),
        details={**answer.details, **details, "read": read.words, "signed": False},
        details_of=tuple({"share outside the image's tokens": round(float(share), 6)} for share in elsewhere),
        layer=layer,
        forward_passes=1.0,
        backward_passes=backward,
    )


def long_tokens(norms: FloatArray, images: int) -> tuple[int, ...]:
    """Return per image how many of its tokens have outlying vectors (see ``OUTLYING``).

    Args:
        norms: Length of the tokens' vectors, (n, tokens); (n, 0): not known.
        images: n.
    """
    if norms.shape[1] == 0:
        return (0,) * images
    median = np.median(norms, axis=1, keepdims=True)
    deviation = 1.4826 * np.median(np.abs(norms - median), axis=1, keepdims=True)
    outlying = (norms > median + OUTLYING * deviation) & (norms > 2 * median)
    return tuple(int(count) for count in outlying.sum(axis=1))


def _long(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    return (
        f"{count} image token{'s have' if count > 1 else ' has'} a vector far longer than the others: such tokens often store "
        "what concerns the whole image (Darcet et al., ICLR 2024), and attention to them says nothing about their place.",
    )
