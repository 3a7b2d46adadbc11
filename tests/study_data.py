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
    bias_correction=st.sampled_from([None, "none", "n4"]),
    window=st.sampled_from([None, "none"]) | st.tuples(st.floats(0, 49), st.floats(50, 100)).map(list),
    contrast=st.sampled_from([None, "none", "clahe", "equalise"]),
    clip_limit=st.none() | st.floats(1e-6, 1),
    tiles=st.none() | st.integers(1, 32),
)
AUGMENT = _some(
    rotation=st.floats(0, 180),
    zoom=st.floats(0, 0.5),
    flip_horizontal=st.booleans(),
    flip_vertical=st.booleans(),
    blur=st.floats(0, 10),
    noise=st.floats(0, 0.5),
    erase=st.floats(0, 0.5),
    stretch=st.floats(0, 1),
)
TRAINING = _some(
    epochs=st.none() | st.integers(1, 10_000),
    batch_size=st.none() | st.integers(1, 4096),
    optimiser=st.sampled_from([None, "adam", "adamw", "sgd", "rmsprop"]),
    learning_rate=st.none() | st.floats(1e-9, 1),
    weight_decay=st.none() | st.floats(0, 1),
    imbalance=st.sampled_from([None, "none", "weights", "sampling", "rotations"]),
    loss=st.sampled_from([None, "cross_entropy", "focal"]),
    focusing=st.none() | st.floats(0, 10),
    label_smoothing=st.none() | st.floats(0, 0.99),
    schedule=st.sampled_from([None, "constant", "plateau", "cosine"]),
    plateau=st.none() | st.integers(1, 100),
    warmup=st.none() | st.integers(0, 10_000),
    average=st.none() | st.floats(0, 0.9999),
    clip=st.none() | st.floats(0, 1e6),
    minutes=st.none() | st.floats(0.01, 1e6),
)
OWN = {
    "preprocess": PREPROCESS,
    "training": TRAINING,
    "test_time_augmentation": st.sampled_from(["none", "mirror", "shifts", "auto"]),
}
DESCRIPTORS = st.sampled_from([["pixels"], ["hog"], ["texture"], ["hog", "pixels"], ["hog", "texture"]])
FOREST = _some(
    **OWN,
    features=DESCRIPTORS,
    trees=st.integers(1, 5000),
    max_depth=st.none() | st.integers(1, 99),
    max_features=st.sampled_from(["sqrt", "log2"]) | st.floats(0.01, 1),
)
BOOSTED = _some(
    **OWN,
    features=DESCRIPTORS,
    components=st.none() | st.integers(1, 2048),
    rounds=st.integers(1, 5000),
    learning_rate=st.floats(1e-6, 1),
    leaves=st.integers(2, 1024),
    min_samples_leaf=st.integers(1, 999),
    l2=st.floats(0, 1e6),
)
SVM = _some(
    **OWN,
    features=DESCRIPTORS,
    components=st.none() | st.integers(1, 2048),
    kernel=st.sampled_from(["rbf", "linear"]),
    C=st.floats(1e-6, 1e6),
    gamma=st.just("scale") | st.floats(1e-6, 1e6),
)
CNN = _some(
    **OWN,
    filters=st.lists(st.integers(1, 2048), max_size=8),
    blocks_per_pooling=st.integers(1, 8),
    kernel=st.sampled_from([3, 5, 7]),
    dense=st.lists(st.integers(1, 8192), max_size=3),
    dropout=st.floats(0, 0.99),
    augment=st.booleans(),
)
PROBE = _some(
    **OWN,
    backbone=TEXTS.map(lambda text: f"local-dir:/{text}") | NAMES,
    pretrained=st.booleans(),
    inverse_regularisation=st.floats(1e-6, 1e6),
)

HEAD_LAYER = st.one_of(
    st.fixed_dictionaries(
        {"layer": st.just("dense"), "units": st.integers(1, 8192)},
        optional={"activation": st.sampled_from([None, "relu", "tanh", "sigmoid", "gelu"])},
    ),
    st.fixed_dictionaries({"layer": st.just("dropout"), "share": st.floats(0, 0.99)}),
    st.just({"layer": "batch_normalisation"}),
)
FINETUNE = _some(
    **OWN,
    backbone=TEXTS.map(lambda text: f"local-dir:/{text}") | NAMES,
    pretrained=st.booleans(),
    strategy=st.sampled_from(["full", "partial", "frozen"]),
    frozen_layers=st.integers(0, 500),
    head_epochs=st.integers(0, 10_000),
    backbone_rate=st.floats(1e-6, 1),
    layer_decay=st.floats(0.01, 1),
    head=st.lists(HEAD_LAYER, max_size=4),
    augment=st.booleans(),
)
TRANSFORMER = _some(
    **OWN,
    stem=st.sampled_from(["convolution", "patch"]),
    patch=st.sampled_from([4, 8, 16, 32]),
    dimension=st.integers(8, 1024),
    depth=st.integers(1, 24),
    heads=st.integers(1, 16),
    expansion=st.floats(1, 8),
    dropout=st.floats(0, 0.99),
    stochastic_depth=st.floats(0, 0.99),
    augment=st.booleans(),
)
ENSEMBLE = _some(members=st.none() | st.lists(NAMES, max_size=4))


@st.composite
def models(draw: st.DrawFn) -> list[dict[str, object]]:
    """One to four models with names that differ."""
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique_by=str.casefold))
    families = {
        "forest": FOREST,
        "boosted": BOOSTED,
        "svm": SVM,
        "cnn": CNN,
        "probe": PROBE,
        "finetune": FINETUNE,
        "transformer": TRANSFORMER,
        "ensemble": ENSEMBLE,
    }
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
        "augment": AUGMENT,
        "models": models(),
        "training": TRAINING,
        "evaluation": _some(
            resamples=st.integers(200, 100_000),
            threshold=st.sampled_from(["auto", "half", "balanced"]),
            reach=st.floats(0.01, 1),
            positive=st.none() | NAMES,
        ),
        "explanation": _some(
            gallery=st.integers(0, 50),
            methods=st.just("auto") | st.lists(st.sampled_from(["grad-cam", "occlusion"]), min_size=1, unique=True),
            grade_images=st.integers(0, 10_000),
            grade_minutes=st.floats(0.01, 100),
            shortcut_hunt=st.booleans(),
            hunt_images=st.integers(2, 10_000),
        ),
        "tracking": _some(enabled=st.booleans(), uri=st.none() | TEXTS, experiment=st.none() | TEXTS),
    },
)
"""Settings as a YAML file would give them; every one is a valid study."""


def study(**settings_: object) -> Study:
    """A study of the folder ``images`` with some settings."""
    return Study.model_validate({"data": {"path": "/images"}, **settings_})
