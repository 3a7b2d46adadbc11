"""What can be set of a model: one documented settings model per family. A new family adds its own here, a line in ``FAMILIES``
below, and a line in :mod:`vitrail.models.catalogue`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from vitrail.settings import Name, PreprocessSettings, Settings, TrainingSettings, placed

LOCAL_WEIGHTS = "local-dir:"
"""Begins the name of a backbone whose weights are a folder on disk; timm's own word for it."""
HUB_WEIGHTS = "hf-hub:"
"""Begins the name of a backbone that stands in a repository of the Hugging Face hub; timm's own word for it."""


def _placed_backbone(backbone: str, info: ValidationInfo) -> str:
    """Put a relative folder of weights where it is meant, once and for all: a run is continued from any folder."""
    if not backbone.startswith(LOCAL_WEIGHTS):
        return backbone
    return f"{LOCAL_WEIGHTS}{placed(Path(backbone.removeprefix(LOCAL_WEIGHTS)), info).absolute()}"


def _placed_model(folder: Path | None, info: ValidationInfo) -> Path | None:
    """Put a relative folder of a model where it is meant, once and for all."""
    return None if folder is None else placed(folder, info).absolute()


FAMILY = "Family of the model."

Descriptor = Literal["pixels", "hog", "texture"]
"""Hand-made features of an image."""
DESCRIPTORS = (
    "pixels: the grey image, flattened; hog: histograms of oriented gradients (Dalal & Triggs 2005); texture: local binary "
    "patterns (Ojala et al. 2002) and grey-level co-occurrence (Haralick et al. 1973)."
)
COMPONENTS = "Principal components the standardised features are reduced to (at most as many as images); null: all features."

POOLING = "How feature maps become one vector: mean or maximum per map; null: the backbone's own way."


USUAL_PREPROCESS = PreprocessSettings(
    crop_margins=False, keep_aspect=False, bias_correction="none", window="none", contrast="none", clip_limit=0.01, tiles=8
)
"""What no family wishes otherwise."""
USUAL_TRAINING = TrainingSettings(
    loss="cross_entropy",
    focusing=2.0,
    label_smoothing=0.0,
    schedule="plateau",
    plateau=3,
    warmup=0,
    average=0.0,
    clip=0.0,
    device="auto",
    devices=1,
    precision="auto",
)
"""What most networks wish."""


class ModelSettings(Settings):
    """What every model of a study has."""

    preprocess_defaults: ClassVar[PreprocessSettings]
    training_defaults: ClassVar[TrainingSettings] = TrainingSettings()

    model: str = Field(description=FAMILY)
    name: Name = Field(default="", description="Name in tables and folders; empty: the family's name.")
    preprocess: PreprocessSettings = Field(default=PreprocessSettings(), description="Overrides the study's preprocess.")
    training: TrainingSettings = Field(default=TrainingSettings(), description="Overrides the study's training.")
    test_time_augmentation: Literal["none", "mirror", "shifts", "auto"] = Field(
        default="none",
        description="Answer with the mean of the scores over views of the image. mirror: itself and mirrored (twice the work), "
        "only where the side tells nothing; shifts: itself and shifted four ways by 4 % (five times the work); auto: the views "
        "that make validation scores better by more than noise, if any (mirror is tried where augment.flip_horizontal is true; "
        "a search counts auto as none); none.",
    )


class NetworkSettings(ModelSettings):
    """What every network trained from pixels has."""

    continues: Annotated[Path | None, AfterValidator(_placed_model)] = Field(
        default=None,
        description="Folder of a trained model (RUN/models/NAME) from whose weights training goes on, on the same data and "
        "split, for training.epochs more epochs; null: from the beginning. See vitrail train --continue.",
    )


class ForestSettings(ModelSettings):
    """Random forest on hand-made features (Breiman 2001)."""

    preprocess_defaults = USUAL_PREPROCESS.model_copy(update={"size": 64, "colour": "grey", "scaling": "unit"})
    training_defaults = TrainingSettings(imbalance="weights")

    model: Literal["forest"] = Field(default="forest", description=FAMILY)
    features: tuple[Descriptor, ...] = Field(default=("pixels", "hog"), min_length=1, description=DESCRIPTORS)
    trees: int = Field(default=300, ge=1, le=5000, description="Number of trees.")
    max_depth: int | None = Field(default=None, ge=1, description="Deepest level of a tree; null: until leaves are pure.")
    min_samples_split: int = Field(default=2, ge=2, description="Fewest images in a node that is split further.")
    max_features: Literal["sqrt", "log2"] | Annotated[float, Field(gt=0, le=1)] = Field(
        default="sqrt", description="Features tried per split: sqrt or log2 of their number, or a share of them, such as 0.1."
    )


class BoostedSettings(ModelSettings):
    """Gradient-boosted trees on hand-made features (Friedman 2001)."""

    preprocess_defaults = USUAL_PREPROCESS.model_copy(update={"size": 64, "colour": "grey", "scaling": "unit"})
    training_defaults = TrainingSettings(imbalance="weights")

    model: Literal["boosted"] = Field(default="boosted", description=FAMILY)
    features: tuple[Descriptor, ...] = Field(default=("hog", "texture"), min_length=1, description=DESCRIPTORS)
    components: int | None = Field(default=64, ge=1, le=2048, description=COMPONENTS)
    rounds: int = Field(default=200, ge=1, le=5000, description="Rounds; each adds one tree per class (two classes: one).")
    learning_rate: float = Field(
        default=0.1, gt=0, le=1, description="Share of its correction that a tree makes; smaller needs more rounds."
    )
    leaves: int = Field(default=15, ge=2, le=1024, description="Most leaves of a tree.")
    min_samples_leaf: int = Field(default=10, ge=1, description="Fewest training images in a leaf.")
    l2: float = Field(default=1.0, ge=0, le=1e6, description="Penalty on large corrections; 0: none.")


class SvmSettings(ModelSettings):
    """Support vector machine on hand-made features (Cortes & Vapnik 1995)."""

    preprocess_defaults = USUAL_PREPROCESS.model_copy(update={"size": 64, "colour": "grey", "scaling": "unit"})
    training_defaults = TrainingSettings(imbalance="weights")

    model: Literal["svm"] = Field(default="svm", description=FAMILY)
    features: tuple[Descriptor, ...] = Field(default=("hog", "texture"), min_length=1, description=DESCRIPTORS)
    components: int | None = Field(default=128, ge=1, le=2048, description=COMPONENTS)
    kernel: Literal["rbf", "linear"] = Field(
        default="rbf", description="Likeness of two images: rbf falls with their distance, linear makes flat borders."
    )
    C: float = Field(
        default=10.0, gt=0, le=1e6, description="Price of a training image on the wrong side; smaller gives smoother borders."
    )
    gamma: Literal["scale"] | Annotated[float, Field(gt=0, le=1e6)] = Field(
        default="scale",
        description="Of the rbf kernel: how fast likeness falls with distance; scale: 1 / (features x their variance).",
    )


class CnnSettings(NetworkSettings):
    """Convolutional network trained from scratch."""

    preprocess_defaults = USUAL_PREPROCESS.model_copy(update={"size": 96, "colour": "grey", "scaling": "standardise"})
    training_defaults = USUAL_TRAINING.model_copy(
        update={
            "epochs": 24,
            "patience": 6,  # batch normalisation makes the first validation losses of a small data set jump
            "batch_size": 16,
            "optimiser": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 1e-4,
            "imbalance": "weights",
        }
    )

    model: Literal["cnn"] = Field(default="cnn", description=FAMILY)
    filters: tuple[Annotated[int, Field(ge=1, le=2048)], ...] = Field(
        default=(16, 32, 64, 128),
        max_length=8,
        description="Filters of each block (convolution, normalisation, activation, 2x2 max pooling); one number per block; "
        "empty: no convolution and no pooling, dense layers on the pixels (a fully connected network).",
    )
    blocks_per_pooling: int = Field(
        default=1, ge=1, le=8, description="1: every block ends with a max pooling; 2: every second one does; and so on."
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

    preprocess_defaults = USUAL_PREPROCESS.model_copy(update={"colour": "rgb", "scaling": "channel"})
    training_defaults = USUAL_TRAINING.model_copy(
        update={
            "epochs": 200,
            "patience": 20,
            "batch_size": 256,
            "optimiser": "adamw",
            "learning_rate": 1e-3,
            "weight_decay": 1e-2,
            "imbalance": "none",  # weighted classes would bend the scores away from the prevalence that a linear probe keeps
        }
    )

    model: Literal["probe"] = Field(default="probe", description=FAMILY)
    backbone: Annotated[str, AfterValidator(_placed_backbone)] = Field(
        default="mobilenetv2_100.ra_in1k",
        min_length=1,
        description="A timm model name or hf-hub:OWNER/NAME (downloaded once), or local-dir:FOLDER for weights on disk.",
    )
    pretrained: bool = Field(
        default=True, description="Take pretrained weights; false: random ones, which shows what the weights are worth."
    )
    pooling: Literal["average", "max"] | None = Field(default=None, description=POOLING)
    dense: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        default=(), description="Units of the dense layers between features and output; empty: a linear probe."
    )
    inverse_regularisation: float = Field(
        default=1.0, gt=0, le=1e6, description="Linear probe: C of its logistic regression; smaller pulls the weights to zero."
    )
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] = Field(default="relu", description="Non-linearity of dense layers.")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Share of features dropped before each dense layer in training.")


class HeadLayer(Settings):
    """One layer of a head."""

    layer: Literal["dense", "dropout", "batch_normalisation"] = Field(
        description="dense: weights and an activation; dropout: drops values in training; batch_normalisation: brings values to "
        "mean 0 and deviation 1 over the batch."
    )
    units: int | None = Field(default=None, ge=1, le=8192, description="Of a dense layer: how many values it gives.")
    activation: Literal["relu", "tanh", "sigmoid", "gelu"] | None = Field(
        default=None, description="Of a dense layer: its non-linearity; null: relu."
    )
    share: float | None = Field(default=None, ge=0, lt=1, description="Of dropout: share of the values dropped in training.")

    @field_validator("activation", mode="before")
    @classmethod
    def _no_output_layer(cls, activation: object) -> object:
        if activation == "softmax":
            raise ValueError(
                "must be one of relu, tanh, sigmoid, gelu: the output layer (one unit per class, softmax) is added by itself, "
                "so leave it out of the list"
            )
        return activation

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> HeadLayer:
        needs = {"dense": ("units", "units: 128"), "dropout": ("share", "share: 0.3")}.get(self.layer)
        if needs and getattr(self, needs[0]) is None:
            raise ValueError(f"must say {needs[0]}, for example {{layer: {self.layer}, {needs[1]}}}")
        takes = {"dense": {"units", "activation"}, "dropout": {"share"}}.get(self.layer, set())
        foreign = [name for name in ("units", "activation", "share") if name not in takes and getattr(self, name) is not None]
        if foreign:
            known = " and ".join(sorted(takes, reverse=True)) or "no setting of its own"
            raise ValueError(f"must not say {foreign[0]}: a layer {self.layer} takes {known}")
        return self


class FinetuneSettings(NetworkSettings):
    """Backbone from timm, trained further (or from random weights) together with its head."""

    preprocess_defaults = USUAL_PREPROCESS.model_copy(update={"colour": "rgb", "scaling": "channel"})
    training_defaults = USUAL_TRAINING.model_copy(
        update={
            "epochs": 12,
            "patience": 5,
            "batch_size": 16,
            "optimiser": "adamw",
            "learning_rate": 3e-4,
            "weight_decay": 1e-2,
            "imbalance": "weights",
        }
    )

    model: Literal["finetune"] = Field(default="finetune", description=FAMILY)
    backbone: Annotated[str, AfterValidator(_placed_backbone)] = Field(
        default="mobilenetv2_100.ra_in1k",
        min_length=1,
        description="A timm model name or hf-hub:OWNER/NAME (downloaded once), or local-dir:FOLDER for weights on disk.",
    )
    pretrained: bool = Field(
        default=True, description="Start from pretrained weights; false: from random ones, drawn from the study's seed."
    )
    pooling: Literal["average", "max"] | None = Field(default=None, description=POOLING)
    strategy: Literal["full", "partial", "frozen"] = Field(
        default="full",
        description="full: every layer of the backbone learns; partial: its first frozen_layers layers stay fixed; frozen: all "
        "of them do, and only the head learns.",
    )
    frozen_layers: int = Field(
        default=0,
        ge=0,
        description="With strategy partial: how many layers stay fixed, from the image upwards. A layer is a part with weights "
        "of its own (a convolution, a normalisation, a dense layer), in timm's order.",
    )
    head_epochs: int = Field(
        default=0,
        ge=0,
        le=10_000,
        description="Epochs at the start in which only the head learns, out of training.epochs; 0: none.",
    )
    tuning_rate: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="Learning rate of everything, the head too, in the epochs after head_epochs, as a share of "
        "training.learning_rate.",
    )
    backbone_rate: float = Field(
        default=1.0, gt=0, le=1, description="Learning rate of the backbone, as a share of the head's (training.learning_rate)."
    )
    layer_decay: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="The backbone's learning rate is multiplied by this per block, from its last block down to the image; "
        "1: the same for all.",
    )
    head: tuple[HeadLayer, ...] = Field(
        default=(HeadLayer(layer="dropout", share=0.2),),
        max_length=20,
        description="Layers between backbone and output, such as {layer: dense, units: 128, activation: relu}, "
        "{layer: dropout, share: 0.3} or {layer: batch_normalisation}; the output layer is added by itself.",
    )
    augment: bool = Field(default=True, description="Apply the study's augmentation to the training images.")


class TransformerSettings(NetworkSettings):
    """Compact vision transformer, trained from scratch."""

    preprocess_defaults = USUAL_PREPROCESS.model_copy(update={"size": 96, "colour": "grey", "scaling": "standardise"})
    training_defaults = USUAL_TRAINING.model_copy(
        update={
            "epochs": 60,
            "patience": 15,  # without convolutions' knowledge of images, the loss falls slowly
            "batch_size": 16,
            "optimiser": "adamw",
            "learning_rate": 5e-4,
            "weight_decay": 5e-2,
            "imbalance": "weights",
            "schedule": "cosine",
            "clip": 1.0,
        }
    )

    model: Literal["transformer"] = Field(default="transformer", description=FAMILY)
    stem: Literal["convolution", "patch"] = Field(
        default="convolution",
        description="From image to tokens. convolution: small convolutions and pooling, better on few images (Hassani et al. "
        "2021); patch: one dense layer per square of pixels (Dosovitskiy et al. 2021).",
    )
    patch: Literal[4, 8, 16, 32] = Field(default=8, description="Side of the square that becomes one token, in pixels.")
    dimension: int = Field(default=128, ge=8, le=1024, description="Values per token; a multiple of heads.")
    depth: int = Field(default=4, ge=1, le=24, description="Number of transformer blocks.")
    heads: int = Field(default=4, ge=1, le=16, description="Attention heads per block.")
    expansion: float = Field(
        default=2.0, ge=1, le=8, description="Width of the dense layers within a block, in multiples of dimension."
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Share of values dropped in blocks and before the output.")
    stochastic_depth: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Chance that the last block is skipped for an image in training; lower for the blocks before (Huang et al. "
        "2016).",
    )
    augment: bool = Field(default=True, description="Apply the study's augmentation to the training images.")


class EnsembleSettings(ModelSettings):
    """Weighted mean of the scores of other models of the study (Caruana et al. 2004)."""

    preprocess_defaults = USUAL_PREPROCESS

    model: Literal["ensemble"] = Field(default="ensemble", description=FAMILY)
    members: tuple[Name, ...] | None = Field(
        default=None,
        description="Names of the models that are averaged; null: all that could be trained. Weights are chosen on validation "
        "images, and are equal where these cannot tell.",
    )

    @field_validator("preprocess", "training", "test_time_augmentation")
    @classmethod
    def _left_to_the_members(cls, value: Settings | str) -> Settings | str:
        if value not in (PreprocessSettings(), TrainingSettings(), "none"):
            raise ValueError("must be left out: an ensemble trains and prepares nothing, its members keep their own")
        return value


FAMILIES: dict[str, type[ModelSettings]] = {
    "forest": ForestSettings,
    "boosted": BoostedSettings,
    "svm": SvmSettings,
    "probe": ProbeSettings,
    "cnn": CnnSettings,
    "finetune": FinetuneSettings,
    "transformer": TransformerSettings,
    "ensemble": EnsembleSettings,
}
"""Family name -> its settings, cheap ones first. A new family adds a line here and in ``models/catalogue.py``."""

AnyModel = Annotated[
    ForestSettings
    | BoostedSettings
    | SvmSettings
    | CnnSettings
    | ProbeSettings
    | FinetuneSettings
    | TransformerSettings
    | EnsembleSettings,
    Field(discriminator="model"),
]
