"""Fingerprints and timings made by hand and by hypothesis: no image, no clock."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st

from vitrail.planning import Facts, Hardware, Measured, Plan, Timing, decide, outline, validation_choice
from vitrail.study import Study

BACKBONE = "local-dir:/weights/some_net"
FAMILIES = ("forest", "probe", "finetune", "cnn", "boosted", "transformer")
GIB = 2**30


def facts(**changes: Any) -> Facts:
    """Two classes of 300 grey images of 300 px on a small machine."""
    usual = Facts(
        images={"a": 300, "b": 300},
        groups={"a": 300, "b": 300},
        training={"a": 240, "b": 240},
        training_groups={"a": 240, "b": 240},
        validation=120,
        test=100,
        split="drawn",
        shipped={"test": 100, "train": 600},
        side=300,
        coloured=0.0,
        modality="",
        hint="",
        formats={"JPEG": 700},
        hardware=Hardware(2, 16 * GIB),
    )
    return dataclasses.replace(usual, **changes)


def timing(**changes: Any) -> Timing:
    """A millisecond for everything."""
    usual = Timing(size=96, prepare=1e-3, embed=1e-3, start=1.0, fit=1e-3, maps=True, memory=10**6, memory_image=10**6)
    return dataclasses.replace(usual, **changes)


def measured(timings: dict[str, Timing] | None = None, **changes: Any) -> Measured:
    """Every family measured."""
    return dataclasses.replace(Measured(timings or {name: timing() for name in FAMILIES}, {}, 1.0, 5.0, 10.0), **changes)


def wishes(**settings: Any) -> Study:
    return Study.model_validate({"data": {"path": "/images"}, "output": "/runs", **settings})


def planned(
    known: Facts | None = None,
    times: Measured | None = None,
    study: Study | None = None,
    *,
    budget: float = 1200.0,
    backbone: str = BACKBONE,
) -> Plan:
    """The plan of all that."""
    known, study = known or facts(), study or wishes()
    return decide(
        outline(known, study, backbone=backbone, first=(validation_choice(known.groups, study),)),
        known,
        times or measured(),
        budget=budget,
    )


SECONDS = st.floats(1e-5, 0.5)
TIMINGS = st.builds(
    Timing,
    size=st.sampled_from([64, 96, 128, 224]),
    prepare=SECONDS,
    embed=SECONDS,
    start=st.floats(0, 60),
    fit=SECONDS,
    maps=st.booleans(),
    memory=st.integers(0, 2 * GIB),
    memory_image=st.integers(0, 100 * 2**20),
)
MEASURED = st.builds(
    Measured,
    timings=st.fixed_dictionaries({"forest": TIMINGS}, optional=dict.fromkeys(FAMILIES[1:], TIMINGS)),
    failures=st.just({}),
    pace=st.floats(0.1, 10),
    audit=st.floats(0, 100),
    planning=st.floats(0, 100),
)


@st.composite
def any_facts(draw: st.DrawFn) -> Facts:
    training = {name: draw(st.integers(2, 5000)) for name in "abc"[: draw(st.integers(2, 3))]}
    groups = {name: draw(st.integers(1, count)) for name, count in training.items()}
    return facts(
        images=training,
        groups=groups,
        training=training,
        training_groups=groups,
        validation=draw(st.integers(1, 1000)),
        test=draw(st.integers(1, 1000)),
        side=draw(st.integers(16, 3000)),
        coloured=draw(st.floats(0, 1)),
        modality=draw(st.sampled_from(["", "MR", "X-ray", "microscopy", "dermoscopy"])),
    )
