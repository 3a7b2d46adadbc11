import contextlib
import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from vitrail.errors import VitrailError
from vitrail.models import cnn
from vitrail.models.network import DenseLayers
from vitrail.progress import SilentProgress
from vitrail.records import Recipe
from vitrail.study import AugmentSettings, CnnSettings, TrainingSettings
from vitrail.training import fit as fit_module
from vitrail.training.examples import FeatureExamples, PixelExamples
from vitrail.training.fit import class_weights, fit

RECIPE = Recipe(16, "grey", False, False, "standardise")
SETTINGS = TrainingSettings(
    epochs=6, patience=20, batch_size=8, optimiser="adamw", learning_rate=0.01, weight_decay=0.01, imbalance="none"
)


class Killer(SilentProgress):
    """Ends the work, as a kill would, after so many epochs."""

    def __init__(self, after):
        self.left = after
        self.said = []

    @contextlib.contextmanager
    def task(self, title, total):
        def advance(steps=1, note=""):
            self.left -= steps
            if self.left <= 0:
                raise KeyboardInterrupt

        yield advance

    def say(self, message):
        self.said.append(message)


def vectors(count=60, classes=3, seed=0):
    """Vectors around one centre per class, and their labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return (generator.normal(size=(count, 5)) + 2 * np.eye(5)[labels]).astype(np.float32), labels


def feature_examples():
    return FeatureExamples(*vectors(seed=0), *vectors(count=30, seed=1))


def pixel_examples():
    """Noise, noise with lying stripes, noise with upright stripes."""
    pixels = np.random.default_rng(0).integers(0, 120, (30, 16, 16, 1), dtype=np.uint8)
    labels = np.arange(30) % 3
    stripes = (np.arange(16) // 2 % 2 * 120).astype(np.uint8)
    pixels[labels == 1] += stripes[:, None, None]
    pixels[labels == 2] += stripes[None, :, None]
    rows = np.random.default_rng(1).permutation(30)
    return PixelExamples(pixels, rows[:20], rows[20:], labels, recipe=RECIPE, augmentation=AugmentSettings())


def dense(dropout=0.4):
    return DenseLayers.seeded(5, (8,), 3, activation="relu", dropout=dropout, standardise_like=vectors()[0], seed=0)


def network():
    built = cnn.build(CnnSettings(filters=(4, 6), dropout=0.1), RECIPE, classes=3, seed=0)
    return built.to(memory_format=torch.channels_last)  # as train() does; the layout must survive a checkpoint


def run(module, examples, tmp_path, settings=SETTINGS, *, seed=0, name="checkpoint.pt", **changes):
    settings = settings.model_copy(update=changes.pop("update", {}))
    return fit(module, examples, classes=3, settings=settings, seed=seed, checkpoint=tmp_path / name, **changes)


def assert_same_weights(first, second):
    for (name, one), (_, other) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert torch.equal(one, other), name


def without_time(outcome):
    return [(epoch.number, epoch.training_loss, epoch.validation_loss, epoch.learning_rate) for epoch in outcome.epochs]


# ---------------------------------------------------------------------------------------------------- same again


@pytest.mark.parametrize(("make", "examples"), [(dense, feature_examples), (network, pixel_examples)])
def test_the_same_seed_takes_the_same_steps_and_another_seed_others(make, examples, tmp_path):
    modules = [make() for _ in range(3)]
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    outcomes = [
        run(module, examples(), tmp_path, seed=seed, name=str(number))
        for number, (module, seed) in enumerate(zip(modules, (1, 1, 2), strict=True))
    ]
    assert torch.equal(torch.random.get_rng_state(), before), "torch's own generator is left as it was"
    assert_same_weights(modules[0], modules[1])
    assert without_time(outcomes[0]) == without_time(outcomes[1])
    assert without_time(outcomes[0]) != without_time(outcomes[2])


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd", "rmsprop"])
def test_resumed_equals_uninterrupted_bit_for_bit(optimiser, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0)
    chosen = SETTINGS.model_copy(update={"optimiser": optimiser})
    make, examples = (network, pixel_examples) if optimiser == "adamw" else (dense, feature_examples)
    whole = make()
    expected = run(whole, examples(), tmp_path, chosen, name="whole.pt")

    for kill_after in (2, 3):  # killed twice, each time a new process starts from nothing
        with pytest.raises(KeyboardInterrupt):
            run(make(), examples(), tmp_path, chosen, name="killed.pt", progress=Killer(kill_after))
    module, progress = make(), Killer(math.inf)
    outcome = run(module, examples(), tmp_path, chosen, name="killed.pt", progress=progress)

    assert progress.said == ["Training: resumed after epoch 3"]
    assert without_time(outcome) == without_time(expected)
    assert (outcome.best_epoch, outcome.stopped) == (expected.best_epoch, expected.stopped)
    assert_same_weights(module, whole)
    assert outcome.seconds == pytest.approx(sum(epoch.seconds for epoch in outcome.epochs))


def test_a_run_killed_after_the_last_epoch_finds_its_weights_again(tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0)
    first, again = dense(), dense()
    run(first, feature_examples(), tmp_path)
    monkeypatch.setattr(fit_module, "_one_epoch", None)  # nothing is trained any more
    outcome = run(again, feature_examples(), tmp_path)
    assert len(outcome.epochs) == 6
    assert_same_weights(first, again)


def test_checkpoints_are_not_written_at_every_epoch(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(dense(), feature_examples(), tmp_path, progress=Killer(3))
    assert not (tmp_path / "checkpoint.pt").exists(), "three quick epochs are cheaper to repeat than to save"


# ---------------------------------------------------------------------------------------------------- stopping and steps


class Scripted:
    """Takes the place of an epoch: a script says the validation loss, and every epoch moves the weights by one."""

    def __init__(self, losses):
        self.losses = losses

    def __call__(self, module, optimiser, examples, weight, *, number, settings, seed):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.fill_(number)
        rate = optimiser.param_groups[0]["lr"]
        return fit_module.Epoch(number, 1.0, self.losses[number - 1], 0.5, rate, 0.1)


def test_training_stops_early_and_keeps_the_best_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "_one_epoch", Scripted([0.9, 0.5, 0.6, 0.5, 0.7, 0.4]))
    module = dense()
    outcome = run(module, feature_examples(), tmp_path, update={"patience": 3, "epochs": 10})
    assert outcome.best_epoch == 2 and len(outcome.epochs) == 5
    assert outcome.stopped == "no lower validation loss for 3 epochs"
    assert all((parameter == 2).all() for parameter in module.parameters())
    assert not module.training


def test_training_ends_with_its_epochs(tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "_one_epoch", Scripted([0.9, 0.5, 0.6, 0.4]))
    outcome = run(dense(), feature_examples(), tmp_path, update={"patience": 3, "epochs": 4})
    assert (outcome.best_epoch, len(outcome.epochs), outcome.stopped) == (4, 4, "all 4 epochs done")


def test_the_learning_rate_is_halved_after_every_three_epochs_without_gain(tmp_path, monkeypatch):
    losses = [0.9, 1, 1, 1, 1, 1, 0.5, 1, 1, 1, 1, 1, 1, 1]
    monkeypatch.setattr(fit_module, "_one_epoch", Scripted(losses))
    outcome = run(dense(), feature_examples(), tmp_path, update={"patience": 20, "epochs": len(losses), "learning_rate": 0.8})
    rates = [epoch.learning_rate for epoch in outcome.epochs]
    assert rates == [0.8] * 4 + [0.4] * 6 + [0.2] * 3 + [0.1]


@pytest.mark.parametrize("part", ["training", "validation"])
def test_a_loss_that_is_no_number_ends_the_training_in_words(part, tmp_path):
    examples = feature_examples()
    getattr(examples, part)[3, 1] = math.nan
    with pytest.raises(VitrailError, match=r"Training diverged.*epoch 1 has.*nan.*learning_rate \(it was 0\.01\)"):
        run(dense(), examples, tmp_path)


def test_open_settings_are_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match="resolved"):
        run(dense(), feature_examples(), tmp_path, update={"optimiser": None})


# ---------------------------------------------------------------------------------------------------- one epoch


def test_one_step_of_gradient_descent_is_what_torch_makes_of_the_whole_batch(tmp_path):
    module, plain = dense(dropout=0.0), dense(dropout=0.0)
    examples = feature_examples()
    chosen = {
        "optimiser": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 0.0,
        "batch_size": 60,
        "epochs": 1,
        "imbalance": "weights",
    }
    outcome = run(module, examples, tmp_path, update=chosen)

    counts = np.bincount(examples.training_labels)
    weight = torch.tensor(60 / (3 * counts), dtype=torch.float32)
    loss = nn.functional.cross_entropy(plain(examples.training), torch.from_numpy(examples.training_labels), weight)
    gradients = torch.autograd.grad(loss, list(plain.parameters()))
    with torch.no_grad():
        for parameter, gradient, moved in zip(plain.parameters(), gradients, module.parameters(), strict=True):
            np.testing.assert_allclose(moved.numpy(), (parameter - 0.1 * gradient).numpy(), atol=1e-6)
    assert outcome.epochs[0].training_loss == pytest.approx(float(loss.detach()), rel=1e-5)


@pytest.mark.parametrize("balance", [False, True])
def test_losses_are_means_over_all_images_however_they_are_batched(balance, tmp_path):
    training, labels = vectors(count=50, seed=0)
    keep = (labels > 0) | (np.arange(50) < 9)  # three images of class 0
    examples = FeatureExamples(training[keep], labels[keep], *vectors(count=300, seed=1))
    module = dense(dropout=0.0)
    frozen = copy.deepcopy(module)
    still = {
        "optimiser": "sgd",
        "learning_rate": 1e-12,
        "weight_decay": 0.0,
        "epochs": 1,
        "batch_size": 8,
        "imbalance": "weights" if balance else "none",
    }
    (epoch,) = run(module, examples, tmp_path, update=still).epochs

    counts = np.bincount(labels[keep])
    weight = torch.tensor(keep.sum() / (3 * counts), dtype=torch.float32) if balance else None
    with torch.no_grad():
        for inputs, truth, found in (
            (examples.training, examples.training_labels, epoch.training_loss),
            (examples.validation, examples.validation_labels, epoch.validation_loss),
        ):
            expected = nn.functional.cross_entropy(frozen(inputs), torch.from_numpy(truth), weight)
            assert found == pytest.approx(float(expected), rel=1e-5)
        predicted = frozen(examples.validation).argmax(dim=1).numpy()
    truth = examples.validation_labels
    sensitivities = [(predicted[truth == label] == label).mean() for label in range(3)]
    assert epoch.validation_balanced_accuracy == pytest.approx(np.mean(sensitivities))
    assert epoch.learning_rate == 1e-12 and epoch.number == 1


def test_class_weights_make_every_class_count_the_same():
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = class_weights(labels, 3)
    np.testing.assert_allclose(weights.numpy(), [6 / 9, 6 / 3, 6 / 6])
    totals = [float(weights[label] * (labels == label).sum()) for label in range(3)]
    assert totals == pytest.approx([2.0, 2.0, 2.0])


@pytest.mark.parametrize(
    ("images", "size", "expected"),
    [(9, 4, [4, 4]), (10, 4, [4, 4, 2]), (3, 8, [3]), (1, 8, [1]), (3, 1, [1, 1, 1]), (2, 2, [2])],
)
def test_batches_cover_all_images_but_a_remainder_of_one(images, size, expected):
    order = np.random.default_rng(0).permutation(images)
    batches = list(fit_module._batches(order, size))
    assert [len(batch) for batch in batches] == expected
    np.testing.assert_array_equal(np.concatenate(batches), order[: sum(expected)])


def test_batches_of_one_image_train(tmp_path):
    outcome = run(dense(), feature_examples(), tmp_path, update={"batch_size": 1, "epochs": 2})
    assert outcome.epochs[1].training_loss < outcome.epochs[0].training_loss


def test_a_network_learns_from_augmented_pixels(tmp_path):
    module = network()
    outcome = run(module, pixel_examples(), tmp_path, update={"epochs": 25})
    assert outcome.epochs[outcome.best_epoch - 1].validation_balanced_accuracy > 0.9


# ---------------------------------------------------------------------------------------------------- examples


def test_pixels_are_augmented_for_training_only_and_from_the_given_generator():
    examples = pixel_examples()
    positions = np.array([4, 0, 2])
    first, again, other = (examples.training_batch(positions, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (3, 1, 16, 16) and first.dtype == torch.float32
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(examples.validation_batch(positions), examples.validation_batch(positions))
    examples.augmentation = None
    plain = examples.training_batch(positions, np.random.default_rng(1))
    pixels = examples.pixels[examples.training_rows[positions]].astype(np.float64)[..., 0]
    expected = (pixels - pixels.mean(axis=(1, 2), keepdims=True)) / pixels.std(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(plain[:, 0].numpy(), expected, atol=1e-4)
    rows, labels = examples.training_rows, np.arange(30) % 3
    np.testing.assert_array_equal(examples.training_labels, labels[rows])
