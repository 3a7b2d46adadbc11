"""Steps that several devices share. Processes of the CPU stand for them: the same code, over gloo in place of NCCL."""

from __future__ import annotations

import os
import signal
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
from vitrail.settings import TrainingSettings
from vitrail.training.device import choose_devices
from vitrail.training.several_devices import shares_of

TWO = {"devices": 2, "device": "cpu"}


class Fragile(torch.nn.Module):
    """A layer that fails in a process that is not the first: when it sees more than some images, or when a file says so."""

    def __init__(self, *, most: int = 1000, dies: Path | None = None, says: str = "") -> None:
        super().__init__()
        self.layer = torch.nn.Linear(5, 3)
        torch.nn.init.zeros_(self.layer.weight)
        self.most, self.dies, self.says, self.home = most, dies, says, os.getpid()

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        if os.getpid() != self.home and self.training:
            if self.dies is not None and not self.dies.exists():
                self.dies.write_text("")
                os.kill(os.getpid(), signal.SIGKILL)
            if self.says:
                raise ValueError(self.says)
            if len(vectors) > self.most:
                raise RuntimeError("CUDA out of memory. Tried to allocate more than there is")
        found: torch.Tensor = self.layer(vectors)
        return found


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
    module = network()
    outcome = run(module, uneven_pixels(rotations=True), tmp_path, update=update)
    assert len(outcome.epochs) == 4
    assert outcome.epochs[-1].training_loss < outcome.epochs[0].training_loss


def test_where_one_device_has_too_little_memory_batches_are_halved_on_all(tmp_path):
    progress = Killer(1000)
    outcome = run(Fragile(most=5), feature_examples(), tmp_path, update=TWO | {"batch_size": 16}, progress=progress)
    assert outcome.batch_size == 8
    assert any("16 images at a time do not fit into memory" in line for line in progress.said)
    assert outcome.epochs[-1].training_loss < outcome.epochs[0].training_loss


def test_an_error_on_one_device_is_told_in_its_words(tmp_path):
    with pytest.raises(RuntimeError, match="cpu: this layer does not like you"):
        run(Fragile(says="this layer does not like you"), feature_examples(), tmp_path, update=TWO)


def test_a_process_that_is_killed_ends_the_training_in_words_and_the_next_goes_on(tmp_path):
    module = Fragile(dies=tmp_path / "died")
    with pytest.raises(VitrailError, match=r"training\.devices \(2\): the process of CPU has ended.*Give the same command again"):
        run(module, feature_examples(), tmp_path, update=TWO)
    assert run(module, feature_examples(), tmp_path, update=TWO).epochs  # nothing of the broken one is in the way
    assert not torch.distributed.is_initialized()


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
