"""The page as a whole: it needs nothing from outside, believes no name, and says what the run says."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from html_page import Page, assert_can_be_read_aloud, assert_loads_nothing, assert_well_formed

from vitrail.errors import OutputError
from vitrail.records import Estimate, Evidence, Explanation, Finding, ModelResult, RunResult
from vitrail.reporting import write_report


def written(result: RunResult, folder: Path) -> tuple[str, Page]:
    path = folder / "report.html"
    write_report(result, path)
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


@pytest.fixture(scope="module")
def shared(result: RunResult, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    """The page of the ordinary run, written once: its text and its elements."""
    return written(result, tmp_path_factory.mktemp("report"))


def only(result: RunResult, name: str, change: Callable[[ModelResult], ModelResult] = lambda model: model) -> RunResult:
    """Return the run with one of its models, changed: fewer figures to draw."""
    return replace(result, models=tuple(change(model) for model in result.models if model.name == name))


def test_the_page_loads_nothing_from_outside(shared: tuple[str, Page]) -> None:
    assert_loads_nothing(*shared)


def test_the_page_is_well_formed_and_can_be_read_aloud(shared: tuple[str, Page]) -> None:
    _, page = shared
    assert_well_formed(page)
    assert_can_be_read_aloud(page)


def with_words(record: Any, words: tuple[str, ...], replacement: str) -> Any:
    """Return a record in which the words are replaced, however deep they stand."""
    if isinstance(record, str):
        return re.sub("|".join(words), lambda _: replacement, record)
    if isinstance(record, dict):
        return {with_words(key, words, replacement): with_words(value, words, replacement) for key, value in record.items()}
    if isinstance(record, tuple):
        return tuple(with_words(item, words, replacement) for item in record)
    if is_dataclass(record):
        return replace(
            record, **{part.name: with_words(getattr(record, part.name), words, replacement) for part in fields(record)}
        )
    return record


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "a\"'onload=x></style></svg><b>&amp;"])
def test_hostile_names_and_texts_stay_text(result: RunResult, tmp_path: Path, hostile: str) -> None:
    words = ("glioma", "brain-demo", "Out of memory", "grad-cam", "2 copies", "layer", "random forest", "torch", "hand")
    html, page = written(with_words(result, words, hostile), tmp_path)
    assert "<script" not in html
    assert html.count("</style>") == 1
    assert page.mismatched == []
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not page.all("b")
    assert page.text.count(hostile) > 50


def test_names_that_are_not_unicode_are_shown_with_marks(result: RunResult, tmp_path: Path) -> None:
    finding = replace(result.audit.findings[0], evidence=(Evidence(("train/glioma/caf\udce9\x00.png",), "odd"),))
    _, page = written(only(replace(result, audit=replace(result.audit, findings=(finding,))), "cnn"), tmp_path)
    assert "train/glioma/caf?\ufffd.png" in page.text


def test_the_headline_shows_both_scores_with_interval_and_n(result: RunResult, shared: tuple[str, Page]) -> None:
    _, page = shared
    champion = next(model.evaluation for model in result.models if model.name == "probe")
    assert champion is not None
    for scores in (champion.test_clean, champion.test):
        estimate = scores.overall["balanced_accuracy"]
        assert estimate.value is not None
        assert estimate.low is not None
        assert estimate.high is not None
        shown = f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}] n = {estimate.n}"
        assert shown in page.text
    clean, official = (scores.overall["balanced_accuracy"].value for scores in (champion.test_clean, champion.test))
    assert clean is not None
    assert official is not None
    assert f"Leakage premium +{100 * (official - clean):.1f} points 8 images of 26 set aside" in page.text
    assert "Not a medical device." in page.text
    assert "the champion probe reaches a balanced accuracy of" in page.text


def test_without_leaks_one_score_is_said_to_be_both(make_result: Callable[..., RunResult], tmp_path: Path) -> None:
    _, page = written(only(make_result(leaks=False), "probe"), tmp_path)
    assert "Leakage premiumnone found" in page.text
    assert "All test images (official), n =" not in page.text
    assert "Nothing was found." in page.text
    assert "set aside" not in page.text


def test_a_failed_model_stands_in_the_leaderboard_with_its_reason(shared: tuple[str, Page]) -> None:
    _, page = shared
    assert page.text.count("Not trained. Out of memory at batch size 512. Set training.batch_size to 64 or less.") == 2
    assert "1 model could not be trained." in page.text


def test_a_run_without_any_model_still_reports_the_images(result: RunResult, tmp_path: Path) -> None:
    failed = tuple(ModelResult(model.name, model.family, failure="no memory") for model in result.models)
    _, page = written(replace(result, models=failed, champion=""), tmp_path)
    assert "No model could be trained" in page.text
    assert "LEAK301" in page.text


def test_the_order_of_the_leaderboard_is_that_of_validation(shared: tuple[str, Page]) -> None:
    html, _ = shared
    board = html[html.index('id="leaderboard"') : html.index('id="models"')]
    assert re.findall(r'<a href="#model-\d+">([^<]+)</a>', board) == ["probe", "forest", "cnn"]


def test_what_is_not_estimable_says_so_and_why(result: RunResult, tmp_path: Path) -> None:
    nothing = Estimate(None, None, None, 0, 0, "no interval", "not estimable: no image of this class")

    def change(model: ModelResult) -> ModelResult:
        assert model.evaluation is not None
        clean = model.evaluation.test_clean
        clean = replace(
            clean,
            overall=clean.overall | {"balanced_accuracy": nothing},
            per_class=clean.per_class | {"glioma": dict.fromkeys(clean.per_class["glioma"], nothing)},
        )
        return replace(model, evaluation=replace(model.evaluation, test_clean=clean))

    _, page = written(only(result, "probe", change), tmp_path)
    assert "on clean test images is not estimable: no image of this class." in page.text
    assert "not estimable n = 0 no image of this class" in page.text
    assert "Leakage premium not estimable" in page.text
    assert "None" not in page.text
    assert not re.search(r"\bnan\b", page.text)


def test_caveats_stand_under_the_table_once(result: RunResult, tmp_path: Path) -> None:
    caveat = "all resamples agree: Wilson's interval instead"

    def change(model: ModelResult) -> ModelResult:
        assert model.evaluation is not None
        clean = model.evaluation.test_clean
        per_class = {
            name: {metric: replace(estimate, note=caveat) for metric, estimate in metrics.items()}
            for name, metrics in clean.per_class.items()
        }
        return replace(model, evaluation=replace(model.evaluation, test_clean=replace(clean, per_class=per_class)))

    html, page = written(only(result, "probe", change), tmp_path)
    assert page.text.count(caveat) == 1
    assert html.count('<sup aria-label="note a">a</sup>') == 15


def test_the_same_result_gives_the_same_bytes(result: RunResult, shared: tuple[str, Page], tmp_path: Path) -> None:
    write_report(result, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == shared[0].encode("utf-8")


def test_images_that_are_gone_are_replaced_by_their_preview(make_result: Callable[..., RunResult], tmp_path: Path) -> None:
    result = only(make_result(), "probe")
    explained = {explanation.image for model in result.models for explanation in model.explanations}
    for image in explained:
        (result.manifest.root / image).unlink()
    _, page = written(result, tmp_path)
    assert page.text.count("a coarse grey preview stands in for it") == sum(len(model.explanations) for model in result.models)


def test_missing_thumbnails_leave_a_mark(make_result: Callable[..., RunResult], tmp_path: Path) -> None:
    result = only(make_result(), "cnn")
    result.manifest.thumbnails_path.unlink()
    _, page = written(result, tmp_path)
    assert "no preview" in page.text
    assert "Preview of" not in " ".join(image["alt"] for image in page.all("img"))


def test_every_map_says_right_or_wrong_and_prints_its_warnings(result: RunResult, shared: tuple[str, Page]) -> None:
    _, page = shared
    probe = next(model for model in result.models if model.name == "probe")
    assert probe.predictions is not None
    for explanation in probe.explanations:
        position = probe.predictions.paths.index(explanation.image)
        truth = probe.predictions.classes[probe.predictions.truth[position]]
        predicted = probe.predictions.classes[probe.predictions.predicted[position]]
        word = "✓right" if truth == predicted else "✗wrong"
        assert f"{word} True class {truth} , predicted {predicted} (score" in page.text.replace(f"{truth},", f"{truth} ,")
    assert "The map barely changes when the model's weights are shuffled." in page.text


def test_a_map_of_a_foreign_image_is_neither_right_nor_wrong(result: RunResult, tmp_path: Path) -> None:
    foreign = Explanation("elsewhere/x.png", "probe", "occlusion", "glioma", 0.4, np.zeros((20, 30), np.float32), ())
    _, page = written(only(result, "probe", lambda model: replace(model, explanations=(foreign,))), tmp_path)
    assert "right or wrong is not assessed" in page.text
    assert "The map is zero everywhere" in page.text


def test_an_image_explained_under_its_full_path_is_recognised(result: RunResult, tmp_path: Path) -> None:
    def change(model: ModelResult) -> ModelResult:
        made = model.explanations[0]
        return replace(model, explanations=(replace(made, image=str(result.manifest.root / made.image)),))

    html, page = written(only(result, "probe", change), tmp_path)
    assert "not assessed" not in page.text
    assert str(result.manifest.root) not in html


def test_the_complete_list_of_evidence_is_there(result: RunResult, shared: tuple[str, Page]) -> None:
    _, page = shared
    for finding in result.audit.findings:
        for piece in finding.evidence:
            assert all(path in page.text for path in piece.paths)
    assert "18 more with pictures" in page.text
    assert "Both sizes stand in every class; checked by hand." in page.text
    assert "not applicable: no DICOM files" in page.text


def test_endless_evidence_is_cut_and_says_so(result: RunResult, tmp_path: Path) -> None:
    evidence = tuple(Evidence((f"train/glioma/{number}.png",), "") for number in range(3010))
    finding: Finding = replace(result.audit.findings[1], evidence=evidence)
    html, page = written(only(replace(result, audit=replace(result.audit, findings=(finding,))), "cnn"), tmp_path)
    assert "10 more stand in audit.json in the run folder" in page.text
    assert len(html) < 2_000_000


def test_classes_are_counted_per_part(shared: tuple[str, Page]) -> None:
    html, _ = shared
    table = html[html.index("<caption>Images per class and part") :]
    rows = [re.findall(r"<td>([\d,]+)</td>", row) for row in table[: table.index("</table>")].split("<tr")]
    assert [row for row in rows if row] == [
        ["24", "6", "9", "5", "1", "40"],
        ["30", "7", "10", "8", "0", "47"],
        ["18", "5", "7", "5", "0", "30"],
        ["72", "18", "26", "18", "1", "117"],
    ]


def test_a_report_is_written_whole_or_not_at_all(result: RunResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write here"):
        write_report(only(result, "cnn"), tmp_path / "file" / "report.html")


def test_every_gallery_has_one_colour_bar_and_says_what_maps_do_not_show(result: RunResult, shared: tuple[str, Page]) -> None:
    galleries = sum(bool(model.explanations) for model in result.models)
    bars = [image for image in shared[1].all("img") if image["alt"].startswith("Colour bar")]
    assert galleries and len(bars) == galleries
    assert shared[1].text.count("lowers the class") == shared[1].text.count("raises the class") == galleries
    assert shared[1].text.count("What it does not show: where disease is, whether the model is right") == galleries
