"""Studies for the tests of settings: a few by hand, and any by hypothesis."""

from __future__ import annotations

import datetime

from hypothesis import strategies as st

from vitrail import model_settings, settings
from vitrail.study import Study

EVERY_CLASS = [
    member
    for member in [*vars(settings).values(), *vars(model_settings).values(), Study]
    if isinstance(member, type) and issubclass(member, settings.Settings) and member is not settings.Settings
]

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=3, max_size=40)
NAMES = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", fullmatch=True)
SHARES = st.floats(0.01, 0.49)
MAYBE_BOOL = st.none() | st.booleans()


def _some(**fields: st.SearchStrategy) -> st.SearchStrategy:
    """Plain data in which any of the fields may be missing."""
    return st.fixed_dictionaries({}, optional=fields)


PREPROCESS = _some(
    size=st.none() | st.integers(16, 1024),
    colour=st.sampled_from([None, "grey", "rgb"]),
    crop_margins=MAYBE_BOOL,
    keep_aspect=MAYBE_BOOL,
    scaling=st.sampled_from([None, "unit", "minmax", "standardise", "channel"]),
)
TRAINING = _some(
    epochs=st.none() | st.integers(1, 10_000),
    batch_size=st.none() | st.integers(1, 4096),
    optimiser=st.sampled_from([None, "adam", "adamw", "sgd", "rmsprop"]),
    learning_rate=st.none() | st.floats(1e-9, 1),
    weight_decay=st.none() | st.floats(0, 1),
    imbalance=st.sampled_from([None, "none", "weights", "sampling", "rotations"]),
)
OWN = {"preprocess": PREPROCESS, "training": TRAINING}
FOREST = _some(
    **OWN,
    features=st.sampled_from([["pixels"], ["hog"], ["hog", "pixels"]]),
    trees=st.integers(1, 5000),
    max_depth=st.none() | st.integers(1, 99),
)
CNN = _some(
    **OWN,
    filters=st.lists(st.integers(1, 2048), min_size=1, max_size=8),
    kernel=st.sampled_from([3, 5, 7]),
    dense=st.lists(st.integers(1, 8192), max_size=3),
    dropout=st.floats(0, 0.99),
    augment=st.booleans(),
)
PROBE = _some(**OWN, backbone=TEXTS.map(lambda text: f"local-dir:/{text}") | NAMES, inverse_regularisation=st.floats(1e-6, 1e6))


@st.composite
def models(draw: st.DrawFn) -> list[dict[str, object]]:
    """One to four models with names that differ."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=str.casefold))
    families = {"forest": FOREST, "cnn": CNN, "probe": PROBE}
    chosen = []
    for name in names:
        family = draw(st.sampled_from(sorted(families)))
        chosen.append({"model": family, "name": name, **draw(families[family])})
    return chosen


ACCEPTANCE = st.fixed_dictionaries(
    {"code": TEXTS, "reason": TEXTS},
    optional={"until": st.none() | st.dates(datetime.date(1900, 1, 1))},
)
PLAIN_STUDIES = st.fixed_dictionaries(
    {"data": st.fixed_dictionaries({"path": TEXTS.map(lambda text: "/images/" + text.replace("\0", "-"))})},
    optional={
        "name": NAMES,
        "seed": st.integers(0, 2**31 - 1),
        "output": TEXTS.map(lambda text: "/runs/" + text.replace("\0", "-")),
        "audit": _some(strict=st.booleans(), accept=st.lists(ACCEPTANCE, max_size=3)),
        "split": _some(validation=SHARES, test=SHARES, use_shipped_test=st.booleans()),
        "preprocess": PREPROCESS,
        "augment": _some(rotation=st.floats(0, 180), zoom=st.floats(0, 0.5), flip_horizontal=st.booleans()),
        "models": models(),
        "training": TRAINING,
        "evaluation": _some(resamples=st.integers(200, 100_000)),
        "explanation": _some(gallery=st.integers(0, 50)),
        "tracking": _some(enabled=st.booleans(), uri=st.none() | TEXTS, experiment=st.none() | TEXTS),
    },
)
"""Settings as a YAML file would give them; every one is a valid study."""


def study(**settings_: object) -> Study:
    """A study of the folder ``images`` with some settings."""
    return Study.model_validate({"data": {"path": "/images"}, **settings_})
