"""The study that goes on with a network of a run: which epochs of its head alone are left, and names of any kind."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vitrail import continuing
from vitrail.study import Study


def folder_of(tmp_path, **settings):
    model = {"model": "finetune", "backbone": "test_resnet", "pretrained": False, **settings}
    study = Study.model_validate({"data": {"path": str(tmp_path)}, "models": [model]})
    (tmp_path / "run").mkdir()
    (tmp_path / "run/study.yaml").write_text(study.to_yaml())
    (tmp_path / "run/split.csv").write_text("path,part\n")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("left", "best", "before", "expected"),
    [
        (5, 3, None, 2),  # the first link of a chain: three of the five are behind its best weights
        (2, 4, 3, 1),  # the second one went on from epoch 3 and kept one more
        (2, 3, 3, 2),  # none of its epochs was better than where it began
        (1, 9, 3, 0),
    ],
)
def test_epochs_of_the_head_alone_that_are_left_are_counted_from_link_to_link(
    tmp_path, monkeypatch, left, best, before, expected
):
    continues = None if before is None else SimpleNamespace(epochs=before)
    start = SimpleNamespace(training=SimpleNamespace(best_epoch=best, continues=continues))
    monkeypatch.setattr(continuing, "read_start", lambda folder, key: start)
    study = continuing.continued_study(folder_of(tmp_path, head_epochs=left), epochs=9)
    assert (study.models[0].head_epochs, study.models[0].training.epochs) == (expected, 9)


def test_a_network_whose_name_has_a_dot_can_go_on(tmp_path, monkeypatch):
    start = SimpleNamespace(training=SimpleNamespace(best_epoch=1, continues=None))
    monkeypatch.setattr(continuing, "read_start", lambda folder, key: start)
    run = folder_of(tmp_path, name="net.v2")
    study = continuing.continued_study(run, epochs=2)
    assert study.models[0].name == "net.v2" and study.models[0].continues == run / "models/net.v2"
