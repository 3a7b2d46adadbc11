"""What the page says of a training: how large its steps were, what it saw."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vitrail.records import RunResult
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
