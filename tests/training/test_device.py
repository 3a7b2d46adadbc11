"""Where networks are trained. No accelerator is needed: torch is told that there is one, or steps are done with fake tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from test_fit import Killer, dense, feature_examples, network, pixel_examples, run, without_time
from torch._subclasses.fake_tensor import FakeTensorMode

from vitrail.errors import StudyError
from vitrail.models import finetune
from vitrail.models.transformer import build as transformer
from vitrail.records import Computation, Recipe
from vitrail.settings import TrainingSettings
from vitrail.study import FinetuneSettings, TransformerSettings
from vitrail.training import device as device_module
from vitrail.training import fit as fit_module
from vitrail.training.device import ComputeDevice, choose_device, devices
from vitrail.training.fit import _optimiser
from vitrail.training.one_device import OneDevice, Plan
from vitrail.training.state import TrainingState

CPU = torch.device("cpu")


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (torch.cuda, torch.xpu, torch.backends.mps):
        monkeypatch.setattr(module, "is_available", lambda: False)


@pytest.fixture
def two_gpus(no_accelerator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Imagined")
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)


def units_of_the_cpu(monkeypatch: pytest.MonkeyPatch, **found: bool) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)


# ---------------------------------------------------------------------------------------------------- which


def test_without_an_accelerator_it_is_the_cpu_in_full_precision(no_accelerator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    units_of_the_cpu(monkeypatch, avx512_bf16=True, amx_bf16=True)
    for wish in (None, "auto", "cpu"):
        assert choose_device(TrainingSettings(device=wish)) == ComputeDevice(CPU, None)
        assert choose_device(TrainingSettings(device=wish, precision="auto")) == ComputeDevice(CPU, None)


@pytest.mark.usefixtures("two_gpus")
def test_an_accelerator_is_taken_and_mixes_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = torch.device("cuda", 0), torch.device("cuda", 1)
    assert devices() == (first, second, CPU)
    assert choose_device(TrainingSettings()) == ComputeDevice(first, torch.bfloat16)
    assert choose_device(TrainingSettings(device="cuda")) == ComputeDevice(first, torch.bfloat16)
    assert choose_device(TrainingSettings(device="cuda:1", precision="full")) == ComputeDevice(second)
    assert choose_device(TrainingSettings(device="cpu")) == ComputeDevice(CPU)
    chosen = choose_device(TrainingSettings(device="cuda:1"))
    assert (chosen.name, chosen.precision) == ("Imagined (cuda:1)", "mixed (bfloat16)")

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    for capability, products in (((7, 5), torch.float16), ((6, 1), None)):  # T4, P100
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert choose_device(TrainingSettings()).products is products
        with contextlib.nullcontext() if products else pytest.raises(StudyError, match="has no units for products in 16 bits"):
            assert choose_device(TrainingSettings(precision="mixed")).scaler().is_enabled()


@pytest.mark.usefixtures("two_gpus")
def test_a_device_that_is_not_there_is_refused_with_those_that_are() -> None:
    for wish in ("cuda:2", "mps", "xpu"):
        with pytest.raises(StudyError) as refused:
            choose_device(TrainingSettings(device=wish), key="models.cnn.training")
        (problem,) = refused.value.problems
        assert (problem.key, problem.value) == ("models.cnn.training.device", wish)
        assert "cuda:0, cuda:1, cpu" in problem.message


def test_mixed_on_the_cpu_only_where_it_has_units_for_it(no_accelerator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    units_of_the_cpu(monkeypatch, avx512_bf16=False, avx512_vnni=True)
    with pytest.raises(StudyError, match=r"training\.precision: must be full or auto here: CPU has no units"):
        choose_device(TrainingSettings(precision="mixed"))
    units_of_the_cpu(monkeypatch, avx512_bf16=True)
    assert choose_device(TrainingSettings(precision="mixed")) == ComputeDevice(CPU, torch.bfloat16)


# ---------------------------------------------------------------------------------------------------- mixed


@pytest.mark.parametrize("products", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [dense, network])
def test_mixed_precision_learns_and_keeps_weights_in_single(products, make, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(device_module, "mixed_type", lambda device: products)
    seen = set()

    def watch(layer, inputs, output):
        if layer.training:
            seen.add(output.dtype)

    module = make()
    for layer in module.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.register_forward_hook(watch)
    examples = feature_examples if make is dense else pixel_examples
    changes = {"device": "cpu", "precision": "mixed", "average": 0.5, "clip": 1.0}
    outcome = run(module, examples(), tmp_path, update=changes)
    assert seen == {products}
    assert {value.dtype for value in module.state_dict().values()} <= {torch.float32, torch.int64}
    assert outcome.epochs[-1].training_loss < outcome.epochs[0].training_loss
    assert outcome.computed == Computation("CPU", f"mixed ({str(products)[6:]})")
    full = run(make(), examples(), tmp_path, update={**changes, "precision": "full"}, name="full.pt")
    assert without_time(full) != without_time(outcome)
    # Learning rates, and roughly the losses, are those of full precision.
    for one, other in zip(outcome.epochs, full.epochs, strict=True):
        assert one.learning_rate == other.learning_rate
        assert one.validation_loss == pytest.approx(other.validation_loss, abs=0.3)


def test_a_killed_float16_training_goes_on_with_its_scale(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(device_module, "mixed_type", lambda device: torch.float16)
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0)
    changes = {"device": "cpu", "precision": "mixed"}
    whole, resumed = dense(), dense()
    run(whole, feature_examples(), tmp_path, update=changes, name="whole.pt")
    with pytest.raises(KeyboardInterrupt):
        run(dense(), feature_examples(), tmp_path, update=changes, name="killed.pt", progress=Killer(2))
    assert torch.load(tmp_path / "killed.pt")["scaler"]["scale"] > 0
    run(resumed, feature_examples(), tmp_path, update=changes, name="killed.pt")
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_training_goes_on_on_another_device_and_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(device_module, "mixed_type", lambda device: torch.float16)
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        run(dense(), feature_examples(), tmp_path, update={"device": "cpu", "precision": "mixed"}, progress=Killer(2))
    monkeypatch.setattr(ComputeDevice, "name", property(lambda self: "Another"))
    outcome = run(dense(), feature_examples(), tmp_path)
    assert len(outcome.epochs) == 6
    assert outcome.computed == Computation("CPU, then Another", "mixed (float16), then full")


# ---------------------------------------------------------------------------------------------------- on an accelerator


def finetuned() -> torch.nn.Module:
    settings = FinetuneSettings(backbone="test_resnet.r160_in1k", pretrained=False, head_epochs=1)
    return finetune.build(settings, Recipe(32, "grey", False, False, "unit"), classes=3, seed=0)


def attentive() -> torch.nn.Module:
    return transformer(TransformerSettings(depth=1), Recipe(32, "grey", False, False, "unit"), classes=3, seed=0)


@contextlib.contextmanager
def as_if_on_cuda(module: torch.nn.Module) -> Iterator[None]:
    """Tensors without content that know their device, and refuse to be mixed with those of another."""
    with FakeTensorMode():
        for part in module.modules():
            for name, value in part._parameters.items():
                if value is not None:
                    part._parameters[name] = torch.nn.Parameter(torch.empty(value.shape, device="cuda:0"))
            for name, value in part._buffers.items():
                if value is not None:
                    part._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device="cuda:0")
        yield


@pytest.mark.parametrize(("make", "side"), [(dense, 0), (network, 16), (finetuned, 32), (attentive, 32)])
def test_no_part_of_a_loss_stays_in_main_memory_and_what_is_kept_goes_there(make, side) -> None:
    # Without a driver torch cannot go backwards on such tensors: gradients and steps on a device are for benchmarks/device.py.
    module = make()
    settings = TrainingSettings(epochs=2, patience=2, optimiser="adamw", loss="focal", label_smoothing=0.1)
    with as_if_on_cuda(module):
        device = ComputeDevice(torch.device("cuda", 0))
        plan = Plan(settings, 3, 0, device, torch.ones(3), None)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        optimiser = _optimiser(module, settings)
        state = TrainingState(module, optimiser, scaler, computed=Computation(), average=0.0, batch_size=4, identity="")
        inputs = torch.empty((4, 1, side, side) if side else (4, 5))
        loss = OneDevice(module, feature_examples(), plan).loss(inputs, np.arange(4))
        kept = (*state.moving_parts()["module"].values(), *state.best_weights.values())
    assert loss.device == device.device
    assert {parameter.device for group in optimiser.param_groups for parameter in group["params"]} == {device.device}
    assert {value.device for value in kept} == {CPU}


@pytest.mark.parametrize("device", [CPU, torch.device("cuda", 0)])
def test_batches_are_the_same_whether_or_not_they_are_prepared_ahead(device) -> None:
    examples, positions = pixel_examples(), np.arange(20)
    plan = Plan(TrainingSettings(), 3, 0, ComputeDevice(device), None, None)
    batches = [positions[start : start + 3] for start in range(0, 20, 3)]
    prepared = list(OneDevice(network(), examples, plan).inputs(batches, np.random.default_rng(5)))
    generator = np.random.default_rng(5)
    for batch, inputs in zip(batches, prepared, strict=True):
        torch.testing.assert_close(inputs, examples.training_batch(batch, generator), rtol=0, atol=0)
