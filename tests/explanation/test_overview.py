"""The sheet of all maps of an image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

from vitrail.errors import UsageError
from vitrail.explanation import ShownExplanation, ShownExplanations, colour_bar, draw_overview, write_overview
from vitrail.explanation.overview import MOST_COLUMNS, PANEL, grade_words
from vitrail.records import Estimate, Explanation, MapGrade

COLOUR = (90, 60, 200)
GREY = MapGrade(
    0.0, (0.0,) * 20, 0.45, False, "This map is no better than chance: it beats 9 of 20 random maps of the same image."
)


@pytest.fixture
def image(tmp_path):
    def write(height: int, width: int):
        path = tmp_path / f"{height}x{width}.png"
        Image.new("RGB", (width, height), COLOUR).save(path)
        return path

    return write


def explanations(shape: tuple[int, int], count: int, **more) -> list[Explanation]:
    generator = np.random.default_rng(0)
    return [
        Explanation(
            "x.png", "cnn", f"method-{number}", "yes", 0.9, generator.normal(size=shape).astype(np.float32) + 3, (), **more
        )
        for number in range(count)
    ]


def clear(sheet: Image.Image) -> np.ndarray:
    """Where the image shows through untouched."""
    return (np.asarray(sheet) == COLOUR).all(axis=2)


@pytest.mark.parametrize(
    ("shape", "panel"), [((28, 28), (252, 252)), ((1024, 1024), (256, 256)), ((300, 90), (256, 77)), ((40, 1), (240, 6))]
)
@pytest.mark.parametrize("count", [1, 15])
def test_the_image_stands_whole_in_a_panel_whatever_its_size(image, shape, panel, count):
    sheet = draw_overview(explanations(shape, count), image(*shape))
    rows, columns = np.nonzero(clear(sheet))
    height, width = panel
    shown = clear(sheet)[rows.min() : rows.min() + height, columns.min() : columns.min() + width]
    assert shown.shape == panel and shown.all()
    assert sheet.width < (MOST_COLUMNS + 1) * (PANEL + 20) and sheet.width >= 440


def test_panels_stand_in_a_grid_with_one_for_the_agreement(image):
    made = explanations((64, 64), 15)
    for number, one in enumerate(made):
        one.map[:] = 0
        one.map[:8, :8] = 1  # all agree on a corner: everything else of every panel shows the image
        one.map[40, number] = -0.5
    covered = clear(draw_overview(made, image(64, 64)))
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    bands = [np.split(found, np.flatnonzero(np.diff(found) > 1) + 1) for found in (rows, columns)]
    assert [len(band) for band in bands] == [3, 6]
    assert {len(band) for part in bands for band in part} == {PANEL}
    left, top = bands[1][0][0], bands[0][0][0]
    assert covered[top : top + PANEL, left : left + PANEL].all()  # the image alone
    last = covered[bands[0][2][0] : bands[0][2][0] + PANEL, bands[1][4][0] : bands[1][4][0] + PANEL]
    assert not last[:16, :16].any() and last[64:].all()  # the agreement: 17 panels in rows of six
    assert not covered[bands[0][2][0] :, bands[1][5][0] :].any()


def test_a_grey_map_has_no_hue_and_the_others_keep_theirs(image):
    one, other = explanations((64, 64), 2)
    path = image(64, 64)

    def warm(sheet: Image.Image) -> int:
        pixels = np.asarray(sheet).astype(int)[:330, 300:]  # beside the image, above the colour bar
        return int(np.count_nonzero(pixels[..., 0] - pixels[..., 2] > 20))

    grey = dataclasses.replace(one, grade=GREY)
    assert warm(draw_overview([one], path)) > 10_000 > 2_000 > warm(draw_overview([grey], path))
    assert warm(draw_overview([grey, other], path)) > 10_000


def test_words_that_are_too_long_are_wrapped_and_never_widen_the_sheet(image):
    (one,) = explanations((64, 64), 1)
    path = image(64, 64)
    short = draw_overview([one], path)
    long = draw_overview([dataclasses.replace(one, target="pneumonia " * 30 + "x" * 300)], path)
    assert long.width == short.width and long.height > short.height + 60
    assert (np.asarray(long)[:, -12:] == 255).all()


def test_the_grade_is_that_of_the_method_and_of_this_map():
    gain = Estimate(0.123, 0.07, 0.17, 32, 30, "bootstrap")
    assert grade_words(dataclasses.replace(GREY, method_gain=gain, method_beats_baselines="no")) == (
        "method: gain 0.12 [0.07, 0.17], n = 32",
        "method: does not beat its baselines",
        "this map: beats 9 of 20 random maps",
    )
    assert grade_words(GREY)[0] == "method: not graded"
    assert grade_words(dataclasses.replace(GREY, method_gain=Estimate(None, None, None, 1, 1, "none")))[0] == (
        "method: gain not estimable"
    )


def test_a_colour_bar_goes_from_what_lowers_to_what_raises():
    bar = np.asarray(colour_bar(101, 5)).astype(int)
    assert bar.shape == (5, 101, 3) and (bar[:, 50] == 128).all()
    assert (bar[:, :40, 2] > bar[:, :40, 0]).all() and (bar[:, 61:, 0] > bar[:, 61:, 2]).all()
    shares = np.asarray(colour_bar(101, 5, shares=True)).astype(int)
    assert (shares[:, 0] == 128).all() and (shares[:, 1:, 1] > shares[:, 1:, 0]).all()


def test_in_python_the_explanations_of_an_image_are_looked_at_together(image, tmp_path):
    path = image(64, 64)
    made = [dataclasses.replace(one, image=str(path)) for one in explanations((64, 64), 3)]
    found = ShownExplanations(made, {"gradient": "It has none."})
    assert list(found) == ["method-0", "method-1", "method-2"] and found.refused == {"gradient": "It has none."}
    assert isinstance(found["method-1"], ShownExplanation) and found.agreement.n == 3
    np.testing.assert_array_equal(np.asarray(found.plot()), np.asarray(draw_overview(made, path)))
    with (
        Image.open(found.save(tmp_path / "all.png")) as saved,
        Image.open(write_overview(made, path, tmp_path / "b.png")) as other,
    ):
        assert saved.tobytes() == other.tobytes() == found.plot().tobytes()
    assert found._repr_png_().startswith(b"\x89PNG") and "method-2" in repr(found)
    assert found["method-0"].overview().size == draw_overview(made[:1], path).size
    with pytest.raises(UsageError, match=r"must end in .png. Found: all.npy"):
        found.save(tmp_path / "all.npy")
