"""What can be set of a model: one documented settings model per family. A new family adds its own here, a line in ``FAMILIES``
below, and a line in :mod:`vitrail.models.catalogue`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from vitrail.settings import Name, PreprocessSettings, Settings, TrainingSettings, placed

LOCAL_WEIGHTS = "local-dir:"
"""Begins the name of a backbone whose weights are a folder on disk; timm's own word for it."""


def _placed_backbone(backbone: str, info: ValidationInfo) -> str:
    """Put a relative folder of weights where it is meant, once and for all: a run is continued from any folder."""
    if not backbone.startswith(LOCAL_WEIGHTS):
        return backbone
    return f"{LOCAL_WEIGHTS}{placed(Path(backbone.removeprefix(LOCAL_WEIGHTS)), info).absolute()}"


FAMILY = "Family of the model."


class ModelSettings(Settings):
    """What every model of a study has."""

    preprocess_defaults: ClassVar[PreprocessSettings]
    training_defaults: ClassVar[TrainingSettings] = TrainingSettings()

    model: str = Field(description=FAMILY)
    name: Name = Field(default="", description="Name in tables and folders; empty: the family's name.")
    preprocess: PreprocessSettings = Field(default=PreprocessSettings(), description="Overrides the study's preprocess.")
    training: TrainingSettings = Field(default=TrainingSettings(), description="Overrides the study's training.")


class ForestSettings(ModelSettings):
    """Random forest on hand-made features (Breiman 2001)."""

    preprocess_defaults = PreprocessSettings(size=64, colour="grey", crop_margins=False, keep_aspect=False, scaling="unit")
    training_defaults = TrainingSettings(imbalance="weights")

    model: Literal["forest"] = Field(default="forest", description=FAMILY)
    features: tuple[Literal["pixels", "hog"], ...] = Field(
        default=("pixels", "hog"),
        min_length=1,
        description="pixels: the grey image, flattened; hog: histograms of oriented gradients (Dalal & Triggs 2005).",
    )
    trees: int = Field(default=300, ge=1, le=5000, description="Number of trees.")
    max_depth: int | None = Field(default=None, ge=1, description="Deepest level of a tree; null: until leaves are pure.")
    min_samples_split: int = Field(default=2, ge=2, description="Fewest images in a node that is split further.")
    max_features: Literal["sqrt", "log2"] = Field(default="sqrt", description="Features tried per split.")


class CnnSettings(ModelSettings):
    """Convolutional network trained from scratch."""

    preprocess_defaults = PreprocessSettings(size=96, colour="grey", crop_margins=False, keep_aspect=False, scaling="standardise")
    training_defaults = TrainingSettings(
        epochs=24,
        patience=6,  # batch normalisation makes the first validation losses of a small data set jump
        batch_size=16,
        optimiser="adamw",
        learning_rate=1e-3,
        weight_decay=1e-4,
        imbalance="weights",
    )

    model: Literal["cnn"] = Field(default="cnn", description=FAMILY)
    filters: tuple[Annotated[int, Field(ge=1, le=2048)], ...] = Field(
        default=(16, 32, 64, 128),
        min_length=1,
        max_length=8,
        description="Filters of each block (convolution, normalisation, activation, 2x2 max pooling); one number per block.",
    )
    kernel: Literal[3, 5, 7] = Field(default=3, description="Side of the convolutions in pixels.")
    convolutions: int = Field(default=1, ge=1, le=4, description="Convolutions per block.")
    batch_normalisation: bool = Field(default=True, description="Normalise activations over the batch.")
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = Field(default="relu", description="Non-linearity.")
    pooling: Literal["average", "max", "flatten"] = Field(
        default="max",
        description="From the last feature maps to one vector: mean per map, maximum per map, or all values.",
    )
    dense: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        default=(), description="Units of the dense layers before the output; empty: none."
    )
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Share of units dropped before each dense layer in training.")
    augment: bool = Field(default=True, description="Apply the study's augmentation to the training images.")


class ProbeSettings(ModelSettings):
    """Frozen pretrained backbone with a trained head."""

    preprocess_defaults = PreprocessSettings(crop_margins=False, keep_aspect=False, colour="rgb", scaling="channel")
    training_defaults = TrainingSettings(
        epochs=200,
        patience=20,
        batch_size=256,
        optimiser="adamw",
        learning_rate=1e-3,
        weight_decay=1e-2,
        imbalance="none",  # weighted classes would bend the scores away from the prevalence that a linear probe keeps
    )

    model: Literal["probe"] = Field(default="probe", description=FAMILY)
    backbone: Annotated[str, AfterValidator(_placed_backbone)] = Field(
        default="mobilenetv2_100.ra_in1k",
        min_length=1,
        description="A timm model name (downloaded once), or local-dir:FOLDER for weights on disk.",
    )
    dense: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        default=(), description="Units of the dense layers between features and output; empty: a linear probe."
    )
    inverse_regularisation: float = Field(
        default=1.0, gt=0, le=1e6, description="Linear probe: C of its logistic regression; smaller pulls the weights to zero."
    )
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = Field(default="relu", description="Non-linearity of dense layers.")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Share of features dropped before each dense layer in training.")


FAMILIES: dict[str, type[ModelSettings]] = {"forest": ForestSettings, "probe": ProbeSettings, "cnn": CnnSettings}
"""Family name -> its settings, cheap ones first. A new family adds a line here and in ``models/catalogue.py``."""

AnyModel = Annotated[ForestSettings | CnnSettings | ProbeSettings, Field(discriminator="model")]
