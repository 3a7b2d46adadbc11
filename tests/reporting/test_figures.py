"""The figures: valid SVG in the page's colours, ids of their own, the same bytes for the same numbers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from vitrail.records import Estimate, Predictions, RunResult
from vitrail.reporting import figure_files
from vitrail.reporting.drawing import short_name
from vitrail.reporting.figures import can_draw_roc, class_bars, confusion_matrix, roc_curves, score_intervals


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - what the figures have just written


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in parsed(svg).iter() if element.tag.endswith("text")]


@pytest.fixture(scope="module")
def figures_of_probe(result: RunResult) -> dict[str, str]:
    return figure_files(result, result.models[2])


def test_a_model_has_the_figures_it_can_have(result: RunResult) -> None:
    forest, failed, _ = result.models
    assert sorted(figure_files(result, forest)) == ["confusion_matrix.svg", "roc_curves.svg"]
    assert figure_files(result, failed) == {}


def test_figures_are_valid_and_named(figures_of_probe: dict[str, str]) -> None:
    figures = figures_of_probe
    assert sorted(figures) == ["confusion_matrix.svg", "learning_curves.svg", "roc_curves.svg"]
    for svg in figures.values():
        root = parsed(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert root.get("aria-label")
        assert "<metadata" not in svg
        assert "<style" not in svg


def test_no_text_is_cut_at_the_top_or_the_bottom(figures_of_probe: dict[str, str]) -> None:
    for svg in figures_of_probe.values():
        root = parsed(svg)
        height = float(root.get("viewBox", "").split()[3])
        places = [re.search(r"translate\(\S+ (\S+)\)", element.get("transform", "")) for element in root.iter()]
        rows = [float(place[1]) for place in places if place] + [float(element.get("y", "10")) for element in root.iter()]
        assert min(rows) >= 7
        assert max(rows) <= height


def test_figures_follow_the_page_but_stand_alone_too(figures_of_probe: dict[str, str]) -> None:
    svg = figures_of_probe["learning_curves.svg"]
    assert "var(--series-1, #23508f)" in svg
    assert "currentColor" in svg
    assert "DejaVu" not in svg
    assert "#ffffff" not in svg
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", svg)) <= {"#000000"}


def test_figures_share_no_ids(result: RunResult, figures_of_probe: dict[str, str]) -> None:
    figures = [*figure_files(result, result.models[0]).values(), *figures_of_probe.values()]
    ids = [name for svg in figures for name in set(re.findall(r'\bid="([^"]+)"', svg))]
    assert ids
    assert len(ids) == len(set(ids))
    for svg in figures:
        own = set(re.findall(r'\bid="([^"]+)"', svg))
        assert set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', svg)) <= {(name, "") for name in own} | {
            ("", name) for name in own
        }


def test_the_persons_settings_have_no_say_and_are_left_alone(result: RunResult, figures_of_probe: dict[str, str]) -> None:
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        before = dict(mpl.rcParams)
        assert figure_files(result, result.models[2]) == figures_of_probe
        assert dict(mpl.rcParams) == before


def test_a_confusion_matrix_shows_every_count_and_its_classes() -> None:
    svg = confusion_matrix(("a", "b", "c"), ((1234, 5, 0), (17, 88, 9), (0, 2, 61)), title="Test, n = 1,416", key="k")
    shown = texts(svg)
    for count in ("1,234", "5", "17", "88", "9", "2", "61"):
        assert count in shown
    assert shown.count("a") == shown.count("b") == 2
    assert "Test, n = 1,416" in shown
    assert "1,383 of 1,416 images on the diagonal" in svg


def test_many_classes_make_a_picture_without_numbers() -> None:
    names = [f"class {number}" for number in range(30)]
    svg = confusion_matrix(names, np.eye(30, dtype=int).tolist(), title="Test", key="k")
    assert "1" not in texts(svg)
    assert len(svg) < 400_000


def test_class_bars_show_the_totals_and_only_the_largest_classes() -> None:
    names = [f"class {number}" for number in range(50)]
    counts = {"training": [number * 10 for number in range(50)], "test": list(range(50))}
    shown = texts(class_bars(names, counts, key="k"))
    assert "539" in shown
    assert "class 49" in shown
    assert "class 9" not in shown
    assert sum(text.startswith("class ") for text in shown) == 40


@pytest.mark.parametrize("name", ["<b>&", "$\\frac{", "_hidden", "脑膜瘤", "tab\tand\x00null", "‮evil", "\udce9", "x" * 500])
def test_odd_class_names_are_drawn_as_they_are(name: str) -> None:
    svg = confusion_matrix((name, "b"), ((1, 0), (0, 1)), title="Test", key="k")
    assert texts(svg).count(short_name(name, 16)) == 2
    bars = class_bars((name, "b"), {"training": (3, 4)}, key="k")
    assert short_name(name) in texts(bars)


def test_roc_curves_name_each_class_with_its_area(result: RunResult) -> None:
    predictions = result.models[2].predictions
    assert predictions is not None
    predictions = replace(predictions, classes=("_a", "b", "c"))
    areas = {"_a": Estimate(0.91234, 0.8, 1.0, 18, 18, "")}
    shown = texts(roc_curves(predictions, areas, title="Clean", key="k"))
    assert "_a: 0.912" in [text.strip() for text in shown]
    assert "b" in [text.strip() for text in shown]


def test_roc_curves_need_two_classes_among_the_clean_images(result: RunResult) -> None:
    predictions = result.models[2].predictions
    assert predictions is not None
    assert can_draw_roc(predictions)
    assert not can_draw_roc(replace(predictions, clean=np.zeros(len(predictions.clean), dtype=bool)))
    assert not can_draw_roc(replace(predictions, truth=np.zeros(len(predictions.truth), dtype=np.int64)))
    assert not can_draw_roc(None)


def test_intervals_are_drawn_without_what_is_not_estimable() -> None:
    known, unknown = Estimate(0.8, 0.7, 0.9, 50, 50, ""), Estimate(None, None, None, 0, 0, "", "no image")
    svg = score_intervals([("one", known, unknown), ("two", unknown, unknown)], chance=0.25, key="k")
    assert {"one", "two"} <= set(texts(svg))
    assert "one 80.0 %" in svg
    assert "two" not in svg.split('aria-label="')[1].split('"')[0]


def test_a_long_training_stays_small(result: RunResult) -> None:
    training = result.models[2].training
    assert training is not None
    epochs = tuple(replace(training.epochs[0], number=number + 1, training_loss=1 / (number + 1)) for number in range(2000))
    long = replace(result.models[2], training=replace(training, epochs=epochs, best_epoch=1999))
    assert len(figure_files(result, long)["learning_curves.svg"]) < 200_000


def test_the_point_at_which_two_classes_are_told_apart_is_marked_on_their_curves() -> None:
    truth, scores = np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.3, 0.6, 0.4, 0.8])
    two = Predictions(
        model="m",
        part="test",
        classes=("no", "yes"),
        rows=np.arange(5),
        paths=tuple("abcde"),
        truth=truth,
        probabilities=np.column_stack([1 - scores, scores]),
        groups=np.arange(5),
        clean=np.ones(5, dtype=bool),
    )

    def marks(predictions: Predictions) -> dict[tuple[bool, str], list[float]]:
        """Filled or hollow, series -> false positive rate and sensitivity, read off the ticks from 0 to 1 on either axis."""
        used = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="([^"]*)"', roc_curves(predictions, {}, title="", key="k"))
        ticks = [(float(x), float(y)) for x, y, style in used if "--muted" in style]
        (left, _), (right, _), (_, bottom), (_, top) = ticks[0], ticks[5], ticks[6], ticks[11]
        return {
            ("fill-opacity: 0" not in style, style.partition("stroke: ")[2]): [
                round((float(x) - left) / (right - left), 2),
                round((float(y) - bottom) / (top - bottom), 2),
            ]
            for x, y, style in used
            if "--series" in style
        }

    no, yes = [0.5, 0.67], [0.33, 0.5]  # at 0.5: one of two that are ill found, one of three others taken for it
    assert sorted(marks(two).values()) == [yes, no]
    assert all(filled for filled, _ in marks(two))
    moved = marks(replace(two, decided=(scores >= 0.35).astype(np.int64)))
    assert sorted(where for (filled, _), where in moved.items() if filled) == [[0.0, 0.67], [0.33, 1.0]]
    assert sorted(where for (filled, _), where in moved.items() if not filled) == [yes, no]
