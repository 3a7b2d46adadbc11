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
from vitrail.preprocess import normalise
from vitrail.progress import SilentProgress
from vitrail.records import Recipe
from vitrail.study import AugmentSettings, CnnSettings, TrainingSettings
from vitrail.training import fit as fit_module
from vitrail.training import one_device
from vitrail.training.examples import FeatureExamples, PixelExamples
from vitrail.training.fit import fit
from vitrail.training.imbalance import balanced_set

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


def uneven_pixels(*, rotations=False):
    """The same with 8, 5 and 3 training images of the classes."""
    examples = pixel_examples()
    labels = np.arange(30) % 3
    rows = np.concatenate([np.flatnonzero(labels == label)[:count] for label, count in enumerate((8, 5, 3))])
    rest = np.setdiff1d(np.arange(30), rows)
    chosen = balanced_set(labels[rows], "rotations" if rotations else "none", seed=0)
    return PixelExamples(
        examples.pixels,
        rows[chosen.positions],
        rest,
        labels,
        recipe=RECIPE,
        augmentation=examples.augmentation,
        turns=chosen.turns,
    )


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


@pytest.mark.parametrize(
    "update",
    [
        {"imbalance": "sampling"},
        {"imbalance": "rotations"},
        {"average": 0.9, "label_smoothing": 0.1},
        {"schedule": "cosine", "warmup": 3, "clip": 0.5},
        {"loss": "focal", "plateau": 1, "learning_rate": 0.2},
    ],
    ids=lambda update: "-".join(map(str, update.values())),
)
def test_whatever_is_set_resumed_equals_uninterrupted(update, tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0)
    whole, module = network(), network()
    rotations = update.get("imbalance") == "rotations"
    expected = run(whole, uneven_pixels(rotations=rotations), tmp_path, update=update, name="whole.pt")
    for kill_after in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            run(network(), uneven_pixels(rotations=rotations), tmp_path, update=update, progress=Killer(kill_after))
    progress = Killer(math.inf)
    outcome = run(module, uneven_pixels(rotations=rotations), tmp_path, update=update, progress=progress)
    assert progress.said == ["Training: resumed after epoch 3"]
    assert without_time(outcome) == without_time(expected)
    assert_same_weights(module, whole)
    plain = run(network(), uneven_pixels(rotations=rotations), tmp_path, update={"imbalance": "none"}, name="plain.pt")
    assert rotations or without_time(plain) != without_time(expected), "the setting changes something"


@pytest.mark.parametrize(("update", "seed", "split"), [({"average": 0.9}, 0, "a"), ({}, 1, "a"), ({}, 0, "b")])
def test_a_checkpoint_of_another_training_is_not_gone_on_from(update, seed, split, tmp_path, monkeypatch):
    """Its weights may have learnt from what are test images now."""
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0)
    with pytest.raises(KeyboardInterrupt):
        run(dense(), feature_examples(), tmp_path, split="a", progress=Killer(3))
    module, alone, progress = dense(), dense(), Killer(math.inf)
    run(module, feature_examples(), tmp_path, update=update, seed=seed, split=split, progress=progress)
    assert len(progress.said) == 1 and "begun anew" in progress.said[0]
    run(alone, feature_examples(), tmp_path, update=update, seed=seed, split=split, name="alone.pt")
    assert_same_weights(module, alone)


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

    def __call__(self, state, computing, *, number):
        with torch.no_grad():
            for parameter in state.module.parameters():
                parameter.fill_(number)
        settings = computing.plan.settings
        rate = settings.learning_rate * fit_module.rate_factor(settings, state.losses, step=0, steps=1)
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


# ---------------------------------------------------------------------------------------------------- steps by formula

GRADIENT = {"optimiser": "sgd", "learning_rate": 0.1, "weight_decay": 0.0, "batch_size": 60, "epochs": 1}
"""One step on the whole batch; the first step of SGD has no momentum yet."""


def flat(module):
    return np.concatenate([parameter.detach().numpy().ravel() for parameter in module.parameters()])


def test_a_long_gradient_is_shortened_to_the_norm_and_a_short_one_is_left(tmp_path):
    start = flat(dense(0.0))
    moves = {}
    for clip in (0.0, 0.05, 1e3):
        module = dense(0.0)
        run(module, feature_examples(), tmp_path, update={**GRADIENT, "clip": clip}, name=str(clip))
        moves[clip] = (flat(module) - start) / 0.1
    norm = np.linalg.norm(moves[0.0])
    assert norm > 0.1
    assert np.linalg.norm(moves[0.05]) == pytest.approx(0.05, rel=1e-3)
    np.testing.assert_allclose(moves[0.05] * norm / 0.05, moves[0.0], atol=1e-3 * norm)
    np.testing.assert_array_equal(moves[1e3], moves[0.0])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_labels_are_smoothed_in_training_and_not_in_validation(smoothing, tmp_path):
    module, plain, examples = dense(0.0), dense(0.0), feature_examples()
    still = {**GRADIENT, "learning_rate": 1e-12, "label_smoothing": smoothing}
    (epoch,) = run(module, examples, tmp_path, update=still).epochs
    with torch.no_grad():
        training = nn.functional.cross_entropy(
            plain(examples.training), torch.from_numpy(examples.training_labels), label_smoothing=smoothing
        )
        validation = nn.functional.cross_entropy(plain(examples.validation), torch.from_numpy(examples.validation_labels))
    assert epoch.training_loss == pytest.approx(float(training), rel=1e-5)
    assert epoch.validation_loss == pytest.approx(float(validation), rel=1e-5)


def test_a_focal_loss_is_what_the_epochs_tell(tmp_path):
    module, plain, examples = dense(0.0), dense(0.0), feature_examples()
    still = {**GRADIENT, "learning_rate": 1e-12, "loss": "focal", "focusing": 3.0}
    (epoch,) = run(module, examples, tmp_path, update=still).epochs
    for inputs, labels, found in (
        (examples.training, examples.training_labels, epoch.training_loss),
        (examples.validation, examples.validation_labels, epoch.validation_loss),
    ):
        with torch.no_grad():
            logits = plain(inputs).double().numpy()
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        right = scores[np.arange(len(labels)), labels]
        assert found == pytest.approx(np.mean(-((1 - right) ** 3) * np.log(right)), rel=1e-5)


class Watcher(FeatureExamples):
    """Keeps the weights as they are before every batch."""

    def __init__(self, module):
        super().__init__(*vectors(seed=0), *vectors(count=30, seed=1))
        self.module = module
        self.weights = []

    def training_batch(self, positions, generator):
        self.weights.append(copy.deepcopy(self.module.state_dict()))
        return super().training_batch(positions, generator)

    def validation_batch(self, positions):
        self.weights.append(copy.deepcopy(self.module.state_dict()))
        return super().validation_batch(positions)


def test_the_kept_weights_are_the_moving_average_and_they_are_what_is_validated(tmp_path):
    module = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Linear(6, 3))
    examples = Watcher(module)
    update = {"average": 0.6, "epochs": 1, "batch_size": 10}
    (epoch,) = run(module, examples, tmp_path, update=update).epochs

    steps = examples.weights[:7]  # before each of six steps, and before the one batch of validation
    expected = {name: value.double() for name, value in steps[0].items()}
    for number, weights in enumerate(steps[1:]):
        decay = min(0.6, (1 + number) / (10 + number))
        for name, value in weights.items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()
    for name, value in module.state_dict().items():
        if name != "1.num_batches_tracked":
            np.testing.assert_allclose(value.numpy(), expected[name].numpy(), rtol=1e-5, atol=1e-6)
    assert module.state_dict()["1.num_batches_tracked"] == 6
    with torch.no_grad():
        loss = nn.functional.cross_entropy(module(examples.validation), torch.from_numpy(examples.validation_labels))
    assert epoch.validation_loss == pytest.approx(float(loss), rel=1e-5)
    assert not torch.equal(module[0].weight, steps[-1]["0.weight"])


def test_every_step_has_the_rate_of_the_schedule(tmp_path, monkeypatch):
    """Gradient descent on a sum of the weights: each step moves them by the rate itself."""
    monkeypatch.setattr(one_device, "training_loss", lambda settings: lambda logits, labels, weight: -logits.sum() / len(logits))
    module = nn.Linear(1, 1, bias=False)
    examples = FeatureExamples(np.ones((8, 1), np.float32), np.zeros(8, int), np.ones((2, 1), np.float32), np.zeros(2, int))
    positions = []
    take = examples.training_batch

    def watched(rows, generator):
        positions.append(float(module.weight.detach()))
        return take(rows, generator)

    examples.training_batch = watched
    monkeypatch.setitem(fit_module.OPTIMISERS, "sgd", lambda given, lr, weight_decay, momentum: torch.optim.SGD(given, lr=lr))
    update = {**GRADIENT, "schedule": "cosine", "warmup": 1, "epochs": 3, "batch_size": 2, "learning_rate": 0.5}
    outcome = run(module, examples, tmp_path, update=update)
    warming = [0.125, 0.25, 0.375, 0.5]
    falling = [0.25 * (1 + math.cos(math.pi * step / 8)) for step in range(8)]
    np.testing.assert_allclose(np.diff(positions), [*warming, *falling][:-1], atol=1e-5)
    assert [epoch.learning_rate for epoch in outcome.epochs] == pytest.approx([0.5, 0.5, 0.25])


class Staged(nn.Sequential):
    """Its first layer learns from the second epoch on, ten times more slowly; all of it at half the rate then."""

    rate_share = 1.0

    def set_epoch(self, number):
        self[0].requires_grad_(number > 1)
        self.rate_share = 0.5 if number > 1 else 1.0

    def parameter_groups(self, learning_rate, weight_decay):
        slow = {"params": list(self[0].parameters()), "lr_scale": 0.1}
        return [{"params": list(self[1].parameters()), "lr_scale": 1.0, "weight_decay": weight_decay}, slow]


def staged():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Staged(nn.Linear(5, 4), nn.Linear(4, 3))


def test_a_staged_module_learns_in_its_stages_and_at_its_rates(tmp_path):
    module, start, examples = staged(), staged(), feature_examples()
    run(module, examples, tmp_path, update=GRADIENT)
    assert torch.equal(module[0].weight, start[0].weight) and not torch.equal(module[1].weight, start[1].weight)

    plain = staged()
    speeds = [torch.zeros_like(parameter) for parameter in plain.parameters()]
    for learns in (0, 1):  # two steps of gradient descent; the second has the momentum of the first
        loss = nn.functional.cross_entropy(plain(examples.training), torch.from_numpy(examples.training_labels))
        gradients = torch.autograd.grad(loss, list(plain.parameters()))
        with torch.no_grad():
            for parameter, speed, gradient, scale in zip(
                plain.parameters(), speeds, gradients, (0.1 * learns, 0.1 * learns, 1, 1), strict=True
            ):
                speed.mul_(0.9).add_(gradient if scale else 0.0)
                parameter -= 0.1 * scale * (0.5 if learns else 1.0) * speed
    both = staged()
    run(both, examples, tmp_path, update={**GRADIENT, "epochs": 2}, name="two.pt")
    np.testing.assert_allclose(flat(both), flat(plain), atol=1e-6)


def test_a_staged_module_resumed_equals_uninterrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0)
    whole, module = staged(), staged()
    update = {"average": 0.8, "warmup": 1}
    run(whole, feature_examples(), tmp_path, update=update, name="whole.pt")
    for kill_after in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            run(staged(), feature_examples(), tmp_path, update=update, progress=Killer(kill_after))
    run(module, feature_examples(), tmp_path, update=update)
    assert_same_weights(module, whole)


# ---------------------------------------------------------------------------------------------------- classes of unequal size


class Counted(FeatureExamples):
    """Keeps who was shown in every epoch."""

    shown = ()

    def training_batch(self, positions, generator):
        self.shown = (*self.shown, *positions.tolist())
        return super().training_batch(positions, generator)


def test_sampling_shows_every_class_about_equally_often_and_others_every_epoch(tmp_path):
    training, labels = vectors(count=300)
    keep = (labels == 0) | (np.arange(300) < 60)  # 100, 20 and 20 images
    examples = Counted(training[keep], labels[keep], *vectors(count=60, seed=1))
    run(dense(), examples, tmp_path, update={"imbalance": "sampling", "epochs": 20, "batch_size": 10})
    shown = np.array(examples.shown)
    assert len(shown) == 20 * 140
    shares = np.bincount(labels[keep][shown]) / len(shown)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.04)  # four standard deviations
    first, second = (np.sort(shown[start : start + 140]) for start in (0, 140))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("imbalance", ["sampling", "rotations", "weights"])
def test_where_classes_shall_count_the_same_they_do_in_validation(imbalance, tmp_path):
    validation, truth = vectors(count=90, seed=1)
    keep = (truth > 0) | (np.arange(90) < 15)
    labels = np.repeat([0, 1, 2], 20)
    examples = FeatureExamples(vectors()[0], labels, validation[keep], truth[keep])
    module = dense(0.0)
    (epoch,) = run(module, examples, tmp_path, update={"imbalance": imbalance, "epochs": 1}).epochs
    with torch.no_grad():
        losses = nn.functional.cross_entropy(module(examples.validation), torch.from_numpy(truth[keep]), reduction="none").numpy()
    by_class = np.mean([losses[truth[keep] == label].mean() for label in range(3)])
    # Under `weights` the training classes say what a class weighs, as they do in the training loss; here they are equal.
    assert epoch.validation_loss == pytest.approx(losses.mean() if imbalance == "weights" else by_class, rel=1e-5)


def test_rotations_without_the_copies_are_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(ValueError, match=r"balanced_set; found classes of \[8, 5, 3\]"):
        run(network(), uneven_pixels(), tmp_path, update={"imbalance": "rotations"})


# ---------------------------------------------------------------------------------------------------- memory


class Tight(FeatureExamples):
    """A machine with room for so many images; in some batches only, if wished."""

    def __init__(self, room, *, error, batches=()):
        super().__init__(*vectors(seed=0), *vectors(count=30, seed=1))
        self.room, self.error, self.batches, self.number = room, error, batches, 0

    def training_batch(self, positions, generator):
        self.number += 1
        if len(positions) > self.room and (not self.batches or self.number in self.batches):
            raise self.error
        return super().training_batch(positions, generator)


ERRORS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
    ),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_batches_that_do_not_fit_are_halved_as_if_they_had_been_so_from_the_start(error, tmp_path):
    tight, small, progress = dense(), dense(), Killer(math.inf)
    update = {"batch_size": 32, "average": 0.9}
    outcome = run(tight, Tight(8, error=error), tmp_path, update=update, progress=progress)
    expected = run(small, feature_examples(), tmp_path, update={**update, "batch_size": 8}, name="small.pt")
    assert (outcome.batch_size, expected.batch_size) == (8, 8)
    assert without_time(outcome) == without_time(expected)
    assert_same_weights(tight, small)
    assert progress.said == [
        f"Training: {size} images at a time do not fit into memory; epoch 1 begins again with {size // 2}" for size in (32, 16)
    ]


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_an_epoch_cut_short_by_memory_begins_again_where_it_began(optimiser, tmp_path, monkeypatch):
    """Two epochs of four batches of 16; the third fails in its second batch, and again in its second batch of 8."""
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0)
    update = {"batch_size": 16, "average": 0.9, "optimiser": optimiser}
    tight = dense()
    outcome = run(tight, Tight(4, error=MemoryError(), batches=(10, 12)), tmp_path, update=update, name="tight.pt")

    with pytest.raises(KeyboardInterrupt):
        run(dense(), feature_examples(), tmp_path, update=update, progress=Killer(2))
    path = tmp_path / "checkpoint.pt"
    content = torch.load(path, weights_only=True)
    assert len(content["epochs"]) == 2
    torch.save({**content, "batch_size": 4}, path)
    by_hand = dense()
    expected = run(by_hand, feature_examples(), tmp_path, update=update)
    assert without_time(outcome) == without_time(expected)
    assert outcome.batch_size == expected.batch_size == 4
    assert_same_weights(tight, by_hand)


def test_the_smaller_size_outlives_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "CHECKPOINT_SECONDS", -1.0)
    update = {"batch_size": 16}
    with pytest.raises(KeyboardInterrupt):
        run(dense(), Tight(5, error=MemoryError()), tmp_path, update=update, progress=Killer(2))
    progress = Killer(math.inf)
    assert run(dense(), Tight(5, error=MemoryError()), tmp_path, update=update, progress=progress).batch_size == 4
    assert progress.said == ["Training: resumed after epoch 2"]


def test_a_batch_larger_than_the_data_is_halved_from_the_data_s_size(tmp_path):
    progress = Killer(math.inf)
    outcome = run(dense(), Tight(30, error=MemoryError()), tmp_path, update={"batch_size": 4096}, progress=progress)
    assert outcome.batch_size == 30 and len(progress.said) == 1


def test_where_not_even_one_image_fits_it_is_said(tmp_path):
    with pytest.raises(VitrailError, match=r"Training: a batch must fit.*not even one image.*MemoryError.*preprocess\.size"):
        run(dense(), Tight(0, error=MemoryError()), tmp_path)


def test_other_errors_of_torch_stay_what_they_are(tmp_path):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run(dense(), Tight(0, error=RuntimeError("shapes cannot be multiplied")), tmp_path)


# ---------------------------------------------------------------------------------------------------- examples


def test_copies_are_turned_before_augmentation_and_validation_is_not():
    examples = uneven_pixels(rotations=True)
    examples.augmentation = None
    positions = np.arange(len(examples.training_labels))
    shown = examples.training_batch(positions, np.random.default_rng(0)).numpy()[:, 0]
    assert np.bincount(examples.training_labels).tolist() == [8, 8, 8]
    plain = normalise(examples.pixels, RECIPE)[:, 0]
    for position in positions:
        expected = np.rot90(plain[examples.training_rows[position]], examples.turns[position])
        np.testing.assert_allclose(shown[position], expected, atol=1e-5)
    assert not np.isin(examples.validation_rows, examples.training_rows).any()
    validation = examples.validation_batch(np.arange(len(examples.validation_labels))).numpy()[:, 0]
    np.testing.assert_allclose(validation, plain[examples.validation_rows])


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
