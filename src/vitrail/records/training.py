"""How a model was trained, and what it took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images.

    Attributes:
        number: From 1.
        training_loss: Mean loss over the training images, as seen during the pass; weighted by class where the
            training settings balance the classes.
        validation_loss: The same over all validation images after the pass.
        validation_balanced_accuracy: Mean sensitivity over the classes, validation images.
        learning_rate: The largest during the pass.
        seconds: Wall-clock time.
    """

    number: int
    training_loss: float
    validation_loss: float
    validation_balanced_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Energy:
    """Electricity that some work took; ``None`` means not known, and ``note`` says why. It is never zero for want of a meter.

    Attributes:
        kwh: Kilowatt-hours.
        co2_kg: Kilograms of carbon dioxide equivalent.
        seconds: Wall-clock time that was measured.
        method: What was measured and what was estimated, and the carbon per kilowatt-hour, in words.
        note: Why a number is missing, or a caveat; else empty.
    """

    kwh: float | None = None
    co2_kg: float | None = None
    seconds: float = 0.0
    method: str = ""
    note: str = "not measured"


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a training went on from.

    Attributes:
        package: SHA-256 of the list of hashes of the model package that was continued.
        run: Name of the run it stands in.
        model: Its name there.
        epochs: Epochs behind the weights it began with: those up to its best one, over all trainings before.
    """

    package: str
    run: str
    model: str
    epochs: int


@dataclass(frozen=True)
class Choice:
    """Something that was chosen on the validation images after training.

    Attributes:
        what: ``test-time augmentation`` or ``weights``.
        chosen: The option taken.
        reason: Why, in one sentence.
        validation: Option -> metric -> value on the validation images; ``None``: not estimable.
    """

    what: str
    chosen: str
    reason: str
    validation: dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Member:
    """A model of the study that an ensemble was asked to average.

    Attributes:
        name: Its name in the study.
        weight: How much its scores count, 0 to 1; 0: not at all.
        package: SHA-256 of its package's ``hashes.json``; empty: it could not be trained and was left out.
    """

    name: str
    weight: float
    package: str


@dataclass(frozen=True)
class Computation:
    """What the epochs of a training were computed on; where a killed training went on elsewhere, both are named in order.

    Attributes:
        device: For example ``CPU`` or ``NVIDIA A100-SXM4-40GB (cuda:0)``; empty: not recorded.
        precision: ``full``, ``mixed (bfloat16)`` or ``mixed (float16)``.
        processes: That shared a step at the most, each on a device of its own or on its part of the CPU's cores.
    """

    device: str = ""
    precision: str = ""
    processes: int = 1


@dataclass(frozen=True)
class Training:
    """How one model was trained.

    Attributes:
        model: The model's name in the study.
        family: ``forest``, ``cnn``, ``probe``...
        description: One line a reader understands, for example "random forest, 300 trees, grey pixels + HOG".
        parameters: Number of trained parameters (nodes of the trees for a forest).
        images: Number of training images.
        epochs: Empty for models that are fitted in one go.
        best_epoch: The epoch whose weights were kept; 0 when there are no epochs.
        stopped: Why training ended, in words.
        seconds: Wall-clock time of the training itself, over all resumed parts.
        split: Fingerprint of the split it was trained on.
        settings: The settings it was trained with, resolved, as plain data.
        batch_size: Images per step at the end, smaller than ``settings`` say where batches did not fit into memory; ``None`` for
            what is fitted in one go.
        energy: Electricity that training took, the preparing of its images included.
        weights: SHA-256 of the file of weights beside the package, from which training can go on; empty: none is kept.
        continues: What it went on from; its epochs then begin with those behind the weights it began with.
        test_time_augmentation: The views over which its scores are averaged; ``none``: the image itself alone.
        choices: What was chosen on the validation images after training.
        members: Of an ensemble, in the order of their names.
        out_of_time: Whether ``training.minutes`` ended it: then the same seed gives other weights on another machine.
        computed: On what; its device is empty for what is fitted in one go, on the CPU.
    """

    model: str
    family: str
    description: str
    parameters: int
    images: int
    epochs: tuple[Epoch, ...]
    best_epoch: int
    stopped: str
    seconds: float
    split: str = ""
    settings: dict[str, object] = field(default_factory=dict)
    batch_size: int | None = None
    energy: Energy = Energy()
    weights: str = ""
    continues: Continuation | None = None
    test_time_augmentation: Literal["none", "mirror", "shifts"] = "none"
    choices: tuple[Choice, ...] = ()
    members: tuple[Member, ...] = ()
    out_of_time: bool = False
    computed: Computation = Computation()
