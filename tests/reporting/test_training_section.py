"""What the page says of a training: how large its steps were, what it saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from html_page import Page, assert_can_be_read_aloud, assert_loads_nothing, assert_well_formed

from vitrail.preprocess.examples import save_examples
from vitrail.records import Computation, RunResult
from vitrail.reporting import write_report
from vitrail.reporting.model_section import ModelView, model_views
from vitrail.reporting.thumbnails import Thumbnails


def view_of(result: RunResult, **changes: object) -> ModelView:
    """The part of the page about a network, whose training is changed."""
    network = next(model for model in result.models if model.training and model.training.epochs)
    assert network.training is not None
    changed = replace(network, training=replace(network.training, **changes), evaluation=None, explanations=())
    (view,) = model_views(replace(result, models=(changed,)), Thumbnails(result.manifest))
    return view


@pytest.mark.parametrize(
    ("used", "said"), [(16, "16"), (4, "4 at the end: the 16 asked for did not fit into memory"), (None, None)]
)
def test_the_page_says_how_many_images_a_step_had(result: RunResult, used: int | None, said: str | None) -> None:
    facts = dict(view_of(result, batch_size=used, settings={"training": {"batch_size": 16}}).facts)
    assert facts.get("Images per step") == said


def test_the_page_says_what_computed(result: RunResult) -> None:
    assert "Computed on" not in dict(view_of(result).facts)
    facts = dict(view_of(result, computed=Computation("NVIDIA T4 (cuda:0)", "mixed (float16)")).facts)
    assert facts["Computed on"] == "NVIDIA T4 (cuda:0), mixed (float16) precision"
    shared = dict(view_of(result, computed=Computation("NVIDIA T4 (cuda:0)", "full", processes=4)).facts)
    assert shared["Computed on"] == "NVIDIA T4 (cuda:0), steps shared by 4 such devices, full precision"


def with_augmented(result: RunResult, path: Path) -> RunResult:
    (network,) = (model for model in result.models if model.training and model.training.epochs)
    return replace(result, models=(replace(network, augmented=path, explanations=()),))


def test_the_page_shows_what_the_augmentation_does(result: RunResult, tmp_path: Path) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (2, 5, 24, 24, 3), dtype=np.uint8)
    save_examples(tmp_path / "augmented.npz", pictures, ["<b>one</b>", "two"])
    write_report(with_augmented(result, tmp_path / "augmented.npz"), tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert_loads_nothing(html, page)
    assert_well_formed(page)
    assert_can_be_read_aloud(page)
    assert html.count("Preview of variant") == 8 and html.count("Preview of as prepared") == 2
    assert "&lt;b&gt;one&lt;/b&gt;" in html and "<b>one" not in html


@pytest.mark.parametrize("content", [None, b"", b"no archive", b"PK\x03\x04 cut"])
def test_examples_that_are_gone_or_damaged_are_left_out(result: RunResult, tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "augmented.npz"
    if content is not None:
        path.write_bytes(content)
    (view,) = model_views(with_augmented(result, path), Thumbnails(result.manifest))
    assert view.augmented == ()
