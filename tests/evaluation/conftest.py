"""A model's made-up predictions."""

from collections.abc import Callable

import numpy as np
import pytest

from vitrail.records import Predictions

MakePredictions = Callable[..., Predictions]


@pytest.fixture
def make_predictions() -> MakePredictions:
    """Predictions of ``n`` images; ``skill`` 0 is a guess, large is perfect; ``group_size`` images share a group."""

    def make(
        *,
        n: int = 60,
        classes: tuple[str, ...] = ("glioma", "none", "pituitary"),
        skill: float = 1.0,
        group_size: int = 1,
        seed: int = 0,
        model: str = "cnn",
        part: str = "test",
    ) -> Predictions:
        generator = np.random.default_rng(seed)
        truth = np.arange(n) // group_size % len(classes)
        logits = generator.normal(size=(n, len(classes)))
        logits[np.arange(n), truth] += skill
        raw = np.exp(logits)
        return Predictions(
            model=model,
            part=part,  # type: ignore[arg-type]
            classes=classes,
            rows=np.arange(n) + 100,
            paths=tuple(f"{classes[label]}/{number}.png" for number, label in enumerate(truth)),
            truth=truth,
            probabilities=raw / raw.sum(axis=1, keepdims=True),
            groups=np.arange(n) // group_size + 7,
            clean=np.arange(n) % 5 != 0,
        )

    return make
