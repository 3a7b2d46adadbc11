"""Steps that several devices share. Processes of the CPU stand for them: the same code, over gloo in place of NCCL."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_fit import Killer, dense, feature_examples, network, pixel_examples, run, uneven_pixels, without_time
from training_data import make_images
from typer.testing import CliRunner

from vitrail.cli import app
from vitrail.errors import StudyError, VitrailError
from vitrail.models import finetune
from vitrail.settings import TrainingSettings
from vitrail.study import FinetuneSettings, PreprocessSettings
from vitrail.training.device import choose_devices
from vitrail.training.examples import PixelExamples
from vitrail.training.several_devices import SeveralDevices, shares_of

TWO = {"devices": 2, "device": "cpu"}


class Fragile(torch.nn.Module):
    """A layer that fails when it learns, in the first process or in another: as a function says of the vectors that it sees.

    Pickled by reference: ``fails`` is a function of this file.
    """

    def __init__(self, fails, *, here: bool = False, file: Path | None = None) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(5, 3)
        torch.nn.init.zeros_(self.layer.weight)
        self.fails, self.here, self.file, self.home = fails, here, file, os.getpid()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        if (os.getpid() == self.home) == self.here and self.training:
            self.fails(self, vectors)
        found: torch.Tensor = self.layer(vectors)
        return found


def out_of_device_memory(module, vectors):
    if len(vectors) > 5:
        raise RuntimeError("CUDA out of memory. Tried to allocate more than there is")


def out_of_main_memory(module, vectors):
    if len(vectors) > 5:
        np.empty(1 << 50)


def unwell(module, vectors):
    raise ValueError("this layer does not like you")


def dies_in_its_fifth_step(module, vectors):
    steps = len(module.file.read_text()) if module.file.exists() else 0
    module.file.write_text("x" * (steps + 1))
    if steps == 4:
        os.kill(os.getpid(), signal.SIGKILL)


def cannot_be_opened():
    raise LookupError("no such layer in this process")


class Unopenable(Fragile):
    """Cannot be unpickled."""

    def __reduce__(self):
        return cannot_be_opened, ()


@given(st.integers(1, 300), st.integers(1, 9))
def test_shares_hold_every_image_once_and_none_holds_one_alone(images, count):
    positions = np.random.default_rng(0).permutation(images)
    shares = shares_of(positions, count)
    assert len(shares) == count
    np.testing.assert_array_equal(np.concatenate(shares), positions)
    sizes = [len(share) for share in shares if len(share)]
    assert max(sizes) - min(sizes) <= 1 and (min(sizes) > 1 or images == 1)
    assert len(shares[0]), "the leader always has something to do"


@pytest.mark.parametrize(
    "update",
    [
        {"optimiser": "sgd"},
        {"optimiser": "adamw", "imbalance": "weights", "clip": 0.1, "loss": "focal", "label_smoothing": 0.1},
        {"optimiser": "sgd", "average": 0.9, "batch_size": 7, "imbalance": "sampling"},
    ],
)
def test_shared_steps_are_those_of_one_device(update, tmp_path):
    # No dropout: nothing is drawn, so that only rounding may differ. 60 images: the last of the batches of 7 has 4.
    examples = feature_examples()
    examples.training_labels = np.where(np.arange(60) % 5 == 0, 0, examples.training_labels)  # classes of unequal size
    update = {"batch_size": 16, **update}
    alone, together = dense(dropout=0.0), dense(dropout=0.0)
    one = run(alone, examples, tmp_path, update=update, name="one.pt")
    two = run(together, examples, tmp_path, update=update | TWO, name="two.pt")
    assert (one.computed.processes, two.computed.processes) == (1, 2)
    assert len(one.epochs) == len(two.epochs) > 2
    for mine, theirs in zip(one.epochs, two.epochs, strict=True):
        assert mine.training_loss == pytest.approx(theirs.training_loss, rel=1e-4)
        assert mine.validation_loss == pytest.approx(theirs.validation_loss, rel=1e-4)
    assert one.epochs[0].training_loss != one.epochs[-1].training_loss
    for mine, theirs in zip(alone.state_dict().values(), together.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-3, atol=2e-4)


def test_the_same_seed_takes_the_same_shared_steps_also_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr("vitrail.training.fit.CHECKPOINT_SECONDS", 0.0)
    found = []
    for name in ("first.pt", "killed.pt"):
        module = network()  # dropout and augmentation: both are drawn anew on every device
        if name == "killed.pt":
            with pytest.raises(KeyboardInterrupt):
                run(module, pixel_examples(), tmp_path, update=TWO, name=name, progress=Killer(2))
            module = network()
        outcome = run(module, pixel_examples(), tmp_path, update=TWO, name=name)
        found.append((without_time(outcome), module.state_dict()))
    (first, weights), (resumed, same) = found
    assert first == resumed
    for mine, theirs in zip(weights.values(), same.values(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_three_devices_learn_from_turned_and_augmented_pixels_and_one_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("vitrail.training.fit.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("vitrail.training.device.available_cores", lambda: 3)
    module, update = network(), {"imbalance": "rotations", "batch_size": 8, "epochs": 4}
    killed = Killer(3)
    with pytest.raises(KeyboardInterrupt):
        run(module, uneven_pixels(rotations=True), tmp_path, update=update | {"devices": 3, "device": "cpu"}, progress=killed)
    assert any("3 devices share every step: CPU, CPU, CPU" in line for line in killed.said)
    later, module = Killer(100), network()
    outcome = run(module, uneven_pixels(rotations=True), tmp_path, update=update, progress=later)
    assert any("resumed after epoch 3" in line for line in later.said)
    assert (len(outcome.epochs), outcome.computed.processes) == (4, 3)
    assert outcome.epochs[-1].training_loss < outcome.epochs[0].training_loss


def test_phases_of_a_backbone_are_shared(tmp_path):
    # First the head alone, then all but the fixed layers. Statistics of normalisation are those of shares: nothing else differs.
    def finetuned():
        settings = FinetuneSettings(
            backbone="test_resnet", pretrained=False, strategy="partial", frozen_layers=2, head_epochs=1, tuning_rate=0.5, head=()
        )
        recipe = finetune.recipe(settings, PreprocessSettings(size=32, colour="rgb", scaling="channel"))
        made = finetune.build(settings, recipe, classes=3, seed=0)
        for part in made.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = 0.0
        return made, recipe

    module, recipe = finetuned()
    pixels = np.random.default_rng(0).integers(0, 255, (36, 32, 32, 3), dtype=np.uint8)
    rows, labels = np.arange(36), np.arange(36) % 3
    pixels[labels == 1, :16] //= 3
    pixels[labels == 2, :, :16] //= 3
    examples = PixelExamples(pixels, rows[:24], rows[24:], labels, recipe=recipe, augmentation=None)
    update = {"epochs": 3, "batch_size": 12, "optimiser": "adamw", "learning_rate": 0.003}
    start = {name: value.clone() for name, value in module.state_dict().items()}
    outcome = run(module, examples, tmp_path, update=update | TWO)
    assert [epoch.learning_rate for epoch in outcome.epochs] == [0.003, 0.0015, 0.0015]
    assert outcome.epochs[-1].training_loss < outcome.epochs[0].training_loss
    fixed = {id(parameter) for layer in finetune.layers(module.trunk.model)[:2] for parameter in layer.parameters()}
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, start[name]) == (id(parameter) in fixed), name
    # The first phase has no statistics of batches: it is that of one device.
    alone = run(finetuned()[0], examples, tmp_path, update=update, name="alone.pt")
    assert outcome.epochs[0].training_loss == pytest.approx(alone.epochs[0].training_loss, rel=1e-4)
    assert outcome.epochs[0].validation_loss == pytest.approx(alone.epochs[0].validation_loss, rel=1e-4)


@pytest.mark.parametrize(
    ("fails", "here"), [(out_of_device_memory, False), (out_of_main_memory, False), (out_of_device_memory, True)]
)
def test_where_one_device_has_too_little_memory_batches_are_halved_on_all(fails, here, tmp_path):
    progress = Killer(1000)
    module = Fragile(fails, here=here)
    outcome = run(module, feature_examples(), tmp_path, update=TWO | {"batch_size": 16}, progress=progress)
    assert outcome.batch_size == 8
    assert any("16 images at a time do not fit into memory" in line for line in progress.said)
    assert outcome.epochs[-1].training_loss < outcome.epochs[0].training_loss


@pytest.mark.parametrize("here", [False, True])
def test_an_error_on_one_device_is_told_in_its_words(here, tmp_path):
    with pytest.raises((RuntimeError, ValueError), match="this layer does not like you"):
        run(Fragile(unwell, here=here), feature_examples(), tmp_path, update=TWO)
    assert not torch.distributed.is_initialized()


def test_a_process_that_is_killed_ends_the_training_in_words_and_the_next_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr("vitrail.training.fit.CHECKPOINT_SECONDS", 0.0)
    module, update = Fragile(dies_in_its_fifth_step, file=tmp_path / "steps"), TWO | {"batch_size": 16}  # four steps an epoch
    with pytest.raises(
        VitrailError,
        match=r"training\.devices \(2\): .* have lost each other: one of them has ended. .* The same command goes on",
    ):
        run(module, feature_examples(), tmp_path, update=update)
    assert not torch.distributed.is_initialized()
    progress = Killer(1000)
    run(module, feature_examples(), tmp_path, update=update, progress=progress)
    assert any("resumed after epoch 1" in line for line in progress.said)


def test_a_process_that_cannot_begin_ends_the_training(tmp_path):
    with pytest.raises(VitrailError, match="lost each other"):
        run(Unopenable(unwell), feature_examples(), tmp_path, update=TWO)


def test_small_gradients_are_scaled_on_all_devices(tmp_path, monkeypatch):
    """float16 needs it. A scale that is a power of two changes no digit of what it is taken from again."""
    plain = run(dense(dropout=0.0), feature_examples(), tmp_path, update=TWO, name="plain.pt")
    scaler = torch.amp.GradScaler("cpu", enabled=True, init_scale=2.0**9)
    monkeypatch.setattr("vitrail.training.device.ComputeDevice.scaler", lambda self: scaler)
    scaled = run(dense(dropout=0.0), feature_examples(), tmp_path, update=TWO, name="scaled.pt")
    assert scaler.get_scale() == 2.0**9
    assert [epoch.training_loss for epoch in plain.epochs] == [epoch.training_loss for epoch in scaled.epochs]


def test_a_weight_that_no_step_needs_stays_what_it_is(tmp_path):
    class Idle(Fragile):
        def __init__(self) -> None:
            super().__init__(lambda module, vectors: None)
            self.idle = torch.nn.Parameter(torch.ones(3))

    module = Idle()
    run(module, feature_examples(), tmp_path, update=TWO | {"weight_decay": 0.1})
    assert torch.equal(module.idle, torch.ones(3))


def test_nothing_of_the_gradients_is_kept_from_step_to_step(tmp_path, monkeypatch):
    kept = []

    def noting(self, *args, **kwargs):
        for loss in gradients(self, *args, **kwargs):
            kept.append(loss.untyped_storage().nbytes())
            yield loss

    gradients = SeveralDevices.gradients
    monkeypatch.setattr(SeveralDevices, "gradients", noting)
    run(dense(), feature_examples(), tmp_path, update=TWO | {"epochs": 1})
    assert kept and max(kept) == 4  # one number


def test_within_a_group_of_processes_it_is_refused(tmp_path):
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        with pytest.raises(VitrailError, match="belongs to a group of torch's processes already"):
            run(dense(), feature_examples(), tmp_path, update=TWO)
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_nothing_listens_beyond_the_loopback_interface(tmp_path, monkeypatch):
    found = []

    def looking(self, *args, **kwargs):
        own = {os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}  # noqa: PTH115
        for name in ("tcp", "tcp6"):
            for line in Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:  # listening
                    found.append(fields[1].split(":")[0])
        return logits(self, *args, **kwargs)

    logits = SeveralDevices.logits
    monkeypatch.setattr(SeveralDevices, "logits", looking)
    run(dense(), feature_examples(), tmp_path, update=TWO | {"epochs": 1})
    assert found and set(found) <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def test_too_many_devices_are_refused_with_what_is_there(monkeypatch):
    monkeypatch.setattr("vitrail.training.device.available_cores", lambda: 2)
    with pytest.raises(StudyError, match=r"training\.devices: must be at most 2 on this machine, .* processor cores"):
        choose_devices(TrainingSettings(device="cpu", devices=3))
    assert len(choose_devices(TrainingSettings(device="cpu", devices=2))) == 2


def test_devices_of_one_kind_are_taken_from_the_first_on(monkeypatch):
    kinds = tuple(torch.device(kind, index) for kind, index in (("cuda", 0), ("cuda", 1), ("xpu", 0)))
    monkeypatch.setattr("vitrail.training.device.devices", lambda: (*kinds, torch.device("cpu")))
    monkeypatch.setattr("vitrail.training.device.mixed_type", lambda device: torch.bfloat16)
    chosen = choose_devices(TrainingSettings(devices=2))
    assert [(one.device, one.products) for one in chosen] == [(kinds[0], torch.bfloat16), (kinds[1], torch.bfloat16)]
    with pytest.raises(StudyError, match=r"must be at most 2 .*\(cuda:0, cuda:1\)"):
        choose_devices(TrainingSettings(devices=3))
    with pytest.raises(StudyError, match=r"must be 1 where device names one of several\. Write `device: cuda`"):
        choose_devices(TrainingSettings(devices=2, device="cuda:1"))


def test_a_study_with_two_devices_is_trained_and_says_so(tmp_path):
    make_images(tmp_path / "images", each=12)
    command = ["train", str(tmp_path / "images"), "--models", "cnn", "--output", str(tmp_path / "runs"), "--json"]
    wishes = {"training.epochs": 2, "training.device": "cpu", "preprocess.size": 32, "split.validation": 0.3}
    sets = [part for key, value in wishes.items() for part in ("--set", f"{key}={value}")]
    refused = CliRunner().invoke(app, [*command, *sets, "--set", "training.devices=65"])
    assert refused.exit_code == 2 and "training.devices" in refused.stderr
    done = CliRunner().invoke(app, [*command, *sets, "--set", "training.devices=2"])
    assert done.exit_code == 0, done.stderr
    assert '"processes": 2' in done.stdout
