"""Predictions on disk: a table people can open, the same numbers bit for bit."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vitrail.errors import DataError
from vitrail.evaluation import load_predictions, save_predictions
from vitrail.records import Predictions

MakePredictions = Callable[..., Predictions]


def assert_same(first: Predictions, second: Predictions) -> None:
    for field in dataclasses.fields(Predictions):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
            assert one.shape == other.shape
            assert one.tobytes() == other.tobytes()
        else:
            assert one == other


def test_saved_predictions_come_back_bit_for_bit(make_predictions: MakePredictions, tmp_path: Path) -> None:
    for part in ("test", "validation"):
        predictions = make_predictions(part=part, n=37)
        predictions = dataclasses.replace(predictions, decided=(predictions.predicted + 1) % 3)  # not what the highest score says
        save_predictions(tmp_path / "predictions.csv", predictions)
        assert_same(load_predictions(tmp_path / "predictions.csv"), predictions)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scores=st.lists(st.floats(0, 1), min_size=2, max_size=2),
    path=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
)
def test_any_score_and_any_file_name_survive(
    make_predictions: MakePredictions, tmp_path: Path, scores: list[float], path: str
) -> None:
    predictions = dataclasses.replace(
        make_predictions(n=1, classes=("a, b", 'quoted "class"')), paths=(path,), probabilities=np.array([scores])
    )
    predictions = dataclasses.replace(predictions, decided=predictions.predicted)
    save_predictions(tmp_path / "predictions.csv", predictions)
    assert_same(load_predictions(tmp_path / "predictions.csv"), predictions)


def test_the_table_reads_like_a_sentence(make_predictions: MakePredictions, tmp_path: Path) -> None:
    predictions = make_predictions(n=2)
    save_predictions(tmp_path / "predictions.csv", predictions)
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        first, second = csv.DictReader(stream)
    assert list(first) == [
        *("path", "row", "group", "clean", "truth", "predicted"),
        *("score:glioma", "score:none", "score:pituitary", "part", "model"),
    ]
    assert (first["path"], first["row"], first["group"], first["clean"]) == ("glioma/0.png", "100", "7", "false")
    assert (second["truth"], second["clean"]) == ("none", "true")
    assert second["predicted"] == predictions.classes[predictions.predicted[1]]
    assert float(second["score:none"]) == predictions.probabilities[1, 1]


def test_predictions_of_no_image_are_not_saved(make_predictions: MakePredictions, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one image"):
        save_predictions(tmp_path / "predictions.csv", make_predictions(n=0))
    assert not (tmp_path / "predictions.csv").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "must have the columns"),
        (lambda text: text.replace("group,", "grp,", 1), "must have the columns"),
        (lambda text: text.splitlines()[0] + "\r\n", "lines: 0"),
        (lambda text: text.replace(",cnn", "", 1), "record 2: must have 11 fields"),
        (lambda text: text.replace(",cnn", ",forest", 1), "one model"),
        (lambda text: text.replace(",test,", ",train,"), "validation or test"),
        (lambda text: text.replace(",100,", ",first,"), "does not belong"),
        (lambda text: text.replace(",false,glioma,", ",false,unheard,"), "unheard"),
        (lambda text: text.replace(",false,", ",perhaps,"), "perhaps"),
    ],
)
def test_an_altered_table_is_refused_with_the_reason(
    make_predictions: MakePredictions, tmp_path: Path, change: Callable[[str], str], message: str
) -> None:
    path = tmp_path / "predictions.csv"
    save_predictions(path, make_predictions(n=4))
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_predictions(path)


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.csv"):
        load_predictions(tmp_path / "nothing.csv")
