"""Backbone from timm that is trained further, as a whole or in part, together with its head."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from vitrail.errors import Problem, StudyError
from vitrail.models import backbones
from vitrail.models.backbones import CHANNELS, Features
from vitrail.models.border import find_border, output_at, run_from
from vitrail.models.network import HeadLayers, Network
from vitrail.preprocess import make_recipe
from vitrail.records import Recipe
from vitrail.study import FinetuneSettings, PreprocessSettings


def describe(settings: FinetuneSettings) -> str:
    """Return one line for tables."""
    how = {
        "full": "all layers trained",
        "partial": f"its first {settings.frozen_layers} layers frozen",
        "frozen": "frozen, with a head trained from pixels",
    }[settings.strategy]
    start = "" if settings.pretrained else " from random weights"
    return f"{backbones.short_name(settings.backbone)[:60]}{start}, {how}"


def identity(settings: FinetuneSettings) -> Any:
    """Return what the weights at the start are, without loading them."""
    return backbones.identity(settings.backbone)


def check(settings: FinetuneSettings, preprocess: PreprocessSettings) -> None:
    """Find out early whether the backbone exists, takes the images and can be trained as wished, before hours of work.

    Args:
        settings: Names the backbone and what of it is trained; its training resolved.
        preprocess: Resolved.

    Raises:
        StudyError: It cannot, and why.
    """
    key = f"models.{settings.name or settings.model}"
    backbones.input_channels(settings.backbone, key=f"{key}.backbone", pretrained=settings.pretrained)
    channels = CHANNELS[preprocess.colour or "rgb"]
    if preprocess.size is not None:
        backbones.check_size(settings.backbone, preprocess.size, channels=channels, key=f"{key}.preprocess.size")
    backbones.check_pooling(settings.backbone, settings.pooling, channels=channels, key=f"{key}.pooling")
    _check_frozen_layers(settings, key=key)
    epochs = settings.training.epochs
    if epochs is not None and settings.head_epochs >= epochs:
        message = f"must be less than its training.epochs ({epochs}): the rest of the network learns in what is left."
        raise StudyError("study", (Problem(f"{key}.head_epochs", message, str(settings.head_epochs)),))
    if settings.training.batch_size == 1 and any(layer.layer == "batch_normalisation" for layer in settings.head):
        message = "must be at least 2 where the head has batch normalisation: one image has no deviation."
        raise StudyError("study", (Problem(f"{key}.training.batch_size", message, "1"),))


def _check_frozen_layers(settings: FinetuneSettings, *, key: str) -> None:
    if settings.strategy != "partial":
        if settings.frozen_layers:
            message = "is for strategy partial. Write `strategy: partial`, or leave frozen_layers out."
            found = f"{settings.frozen_layers} with strategy {settings.strategy}"
            raise StudyError("study", (Problem(f"{key}.frozen_layers", message, found),))
        return
    model, _ = backbones.outline(settings.backbone, None, channels=3)
    count = len(layers(model))
    if not 1 <= settings.frozen_layers <= count:
        message = f"must be 1 to {count} with strategy partial: {backbones.short_name(settings.backbone)} has {count} layers."
        raise StudyError("study", (Problem(f"{key}.frozen_layers", message, str(settings.frozen_layers)),))


def layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of a backbone, as ``frozen_layers`` counts them.

    A layer is a module that holds parameters of its own: a convolution, a normalisation, a dense layer. They come in the order of
    ``model.modules()``, which in timm is that from the image upwards. What is held by a larger part itself comes before what is
    within it: the positions of a vision transformer are its first layer, the scale of a ConvNeXt block comes before its
    convolution. Activations and pooling do not count; neither does the classifier, which is not loaded.
    """
    return [module for module in model.modules() if next(module.parameters(recurse=False), None) is not None]


def recipe(settings: FinetuneSettings, preprocess: PreprocessSettings) -> Recipe:
    """Return how images are prepared: what is left open is the backbone's own (size; mean and deviation per channel)."""
    model, size = backbones.outline(settings.backbone, preprocess.size, channels=CHANNELS[preprocess.colour or "rgb"])
    config = model.pretrained_cfg
    return make_recipe(preprocess, size=size, mean=tuple(config["mean"]), deviation=tuple(config["std"]))


def build(settings: FinetuneSettings, recipe: Recipe, *, classes: int, seed: int) -> FinetunedNetwork:
    """Return the network as it is before training: new weights are drawn from ``seed``.

    Raises:
        BackboneUnavailable: The pretrained weights cannot be downloaded or read.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, size = backbones.load(
            settings.backbone,
            recipe.size,
            pretrained=settings.pretrained,
            channels=recipe.channels,
            classifier=False,
            pooling=settings.pooling,
        )
        noise = torch.randn(2, recipe.channels, size, size, generator=torch.Generator().manual_seed(0))
        pooling, dimension = backbones.pooling_and_dimension(model, noise)
        head = HeadLayers(dimension, settings.head, classes)
    return FinetunedNetwork(Features(model, pooling), head, settings)


class FinetunedNetwork(Network):
    """A backbone and a head, of which some layers may stay fixed.

    What is fixed keeps its weights and, in batch normalisation, its statistics: it stays in evaluation mode while the rest
    trains. Otherwise every batch would move the running mean and variance of layers whose weights are meant to stay, and the
    features of the pretrained network would drift away from them unseen.

    The fit loop asks it for :meth:`parameter_groups` once and tells it :meth:`set_epoch` before every epoch.

    Args:
        trunk: The backbone.
        head: Its head, always trained.
        settings: What of the backbone is trained, when, and how fast.
    """

    trunk: Features

    def __init__(self, trunk: Features, head: HeadLayers, settings: FinetuneSettings) -> None:
        super().__init__(trunk, head)
        self.settings = settings
        found = layers(trunk.model)
        self.freezes = settings.strategy != "full" or settings.head_epochs > 0
        self._border, self._border_shape, self._pixels_shape = "", tuple[int, ...](), tuple[int, ...]()
        self._fixed = {"full": [], "partial": found[: settings.frozen_layers], "frozen": found}[settings.strategy]
        self.set_epoch(1)

    def find_frozen(self, pixels: torch.Tensor) -> None:
        """Find out up to where what stays fixed is the same in all epochs, so that it can be kept: :attr:`frozen_up_to`.

        Args:
            pixels: At least two different images as the network takes them, (n, channels, size, size).
        """
        if self.settings.strategy != "partial":
            return
        trial = copy.deepcopy(self).eval()
        trial.set_epoch(self.settings.head_epochs + 1)
        border = find_border(trial.trunk, trial._fixed, pixels, train=trial.train)
        if border:
            shape = tuple(output_at(self.trunk.eval(), border, pixels).shape[1:])
            self.train(self.training)
            # What cannot be told by its shape from pixels, or from the finished vector, is not kept.
            if shape != tuple(pixels.shape[1:]) and len(shape) > 1:
                self._border, self._border_shape, self._pixels_shape = border, shape, tuple(pixels.shape[1:])

    @property
    def frozen_up_to(self) -> str:
        """Up to where the network is the same in every epoch of the present phase: ``embedding`` where only the head learns,
        else the module of the trunk that :meth:`find_frozen` found; empty: nothing is."""
        return "embedding" if self._head_only else self._border

    @torch.no_grad()
    def frozen_part(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return what the part :attr:`frozen_up_to` gives, in main memory; :meth:`forward` goes on from there."""
        training, pixels = self.training, pixels.to(next(self.parameters()).device)
        self.eval()
        try:
            found: torch.Tensor = self.trunk(pixels)[-1] if self._head_only else output_at(self.trunk, self._border, pixels)
            return found.cpu()
        finally:
            self.train(training)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return logits, shape (n, classes), for pixels or for what :meth:`frozen_part` gave for them; shapes tell which."""
        if inputs.ndim == 2:
            vector = inputs
        elif self._border and tuple(inputs.shape[1:]) == self._border_shape:
            vector = run_from(self.trunk, self._border, inputs, pixels=self._pixels_shape)[-1]
        else:
            vector = self.trunk(inputs)[-1]
        logits: torch.Tensor = self.head(vector)
        return logits

    @property
    def rate_share(self) -> float:
        """What the learning rate of the present epoch is multiplied by."""
        return 1.0 if self._first_phase else self.settings.tuning_rate

    def set_epoch(self, number: int) -> None:
        """Decide what learns in an epoch.

        Args:
            number: Of the epoch, from 1: up to ``head_epochs`` only the head learns.
        """
        self._first_phase = number <= self.settings.head_epochs
        self._head_only = self._first_phase or self.settings.strategy == "frozen"
        self._mark(learning=not self._head_only)
        self.train(self.training)

    def _mark(self, *, learning: bool) -> None:
        """Say for every weight of the backbone whether it learns; what is fixed never does."""
        for parameter in self.trunk.parameters():
            parameter.requires_grad_(learning)
        for layer in self._fixed:
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(False)

    def train(self, mode: bool = True) -> FinetunedNetwork:
        """Switch between training and evaluation; fixed layers stay in evaluation."""
        super().train(mode)
        if self._head_only:
            self.trunk.eval()
        for layer in self._fixed:
            layer.training = False  # of this layer alone: layers within it may learn
        return self

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Return what learns at some time, in groups for an optimiser, the head's first.

        Biases, and scales and shifts of normalisations, are not pulled towards zero. Whoever changes the learning rate multiplies
        it by each group's ``lr_scale``.

        Args:
            learning_rate: Of the head. The backbone's last block has ``backbone_rate`` times it, each block below
                ``layer_decay`` times that of the one above (Clark et al. 2020, ELECTRA; Bao et al. 2022, BEiT).
            weight_decay: Of matrices and kernels.
        """
        import timm.optim

        optim: Any = timm.optim
        head_only = self._head_only
        self._mark(learning=self.settings.strategy != "frozen")
        model = self.trunk.model
        unpulled = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
        of_head: list[dict[str, Any]] = optim.param_groups_weight_decay(self.head, weight_decay)
        of_backbone: list[dict[str, Any]] = optim.param_groups_layer_decay(
            model, weight_decay, no_weight_decay_list=unpulled, layer_decay=self.settings.layer_decay
        )
        self._mark(learning=not head_only)
        groups = [{**group, "lr_scale": 1.0} for group in of_head]
        groups += [{**group, "lr_scale": self.settings.backbone_rate * group["lr_scale"]} for group in of_backbone]
        return [{**group, "lr": learning_rate * group["lr_scale"]} for group in groups if group["params"]]
