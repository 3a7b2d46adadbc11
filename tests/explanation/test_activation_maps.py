"""Activations of a layer, their channels, and the sheet of them."""

import numpy as np
import pytest
from explanation_models import whole_image
from explanation_networks import family, pixels_for
from PIL import Image

from vitrail.decision import Decision
from vitrail.errors import UsageError
from vitrail.explanation import ActivationMaps, channel_sheet, draw_channels, explain_batch
from vitrail.explanation.class_activation import resize_bilinear


def asked(model, pixels, method, **wishes):
    return explain_batch(model, pixels, (whole_image(32),), images=("x",), methods={"it": method}, **wishes)["it"][0]


def test_the_map_is_the_mean_magnitude_or_one_channel():
    model = family("cnn")
    pixels = pixels_for(model)
    maps, _ = model.embed_with_maps(pixels)
    for method, cells in ((ActivationMaps(), np.abs(maps).mean(axis=0)), (ActivationMaps(4), np.abs(maps[4]))):
        found = asked(model, pixels, method)
        expected = resize_bilinear(cells.astype(np.float64), height=32, width=32)
        np.testing.assert_allclose(found.map, expected, rtol=1e-5, atol=1e-6)
        assert "do not depend on the class" in " ".join(found.warnings) and found.parameters["signed"] is False
    with pytest.raises(UsageError, match=r"channel: .* has 6 channels, from 0. Found: 6."):
        asked(model, pixels, ActivationMaps(6))


def test_another_layer_needs_no_way_back():
    found = asked(family("vit-class"), pixels_for(family("vit-class")), ActivationMaps(), layer="blocks.0")
    assert (found.layer, found.forward_passes, found.backward_passes) == ("blocks.0.Add_1", 1, 0)


def test_channels_come_in_the_order_of_their_weight_for_the_class():
    model = family("cnn")
    pixels = pixels_for(model)
    maps, _ = model.embed_with_maps(pixels)
    weights = model.network.weights[0][2]
    sheet = channel_sheet(model, pixels[0], target="c", count=3)
    np.testing.assert_allclose(sheet.maps, maps[np.argsort(-weights)[:3]], rtol=1e-5)
    assert sheet.titles[0].startswith(f"channel {weights.argmax()} weight") and sheet.target == "c"
    varied = channel_sheet(model, pixels[0], by="variance", count=99)
    assert varied.maps.shape == (6, 8, 8) and np.all(np.diff(varied.maps.var(axis=(1, 2))) <= 1e-9)
    for threshold, named in ((0.0, "a"), (1.1, "b")):
        rule = Decision("sensitivity", positive="a", negative="b", threshold=threshold)
        assert channel_sheet(model, pixels[0], decision=rule).target == named
    for wrong, expected in (
        ({"count": 0}, "at least 1"),
        ({"target": "z"}, "does not know 'z'"),
        ({"layer": "no"}, "must be one of"),
    ):
        with pytest.raises(UsageError, match=expected):
            channel_sheet(model, pixels[0], **wrong)


def test_a_sheet_draws_every_panel_from_black_to_white(tmp_path):
    maps = np.zeros((3, 2, 4), dtype=np.float32)
    maps[1, 0, 0], maps[2, 1, 3] = 5, -0.1
    drawn = draw_channels(np.full((8, 8, 1), 90, np.uint8), maps, ("a", "b", "c" * 90), columns=2, side=40)
    assert drawn.shape == (3 * 70 + 4, 2 * 44 + 4, 3)
    image, blank, first, last = (drawn[t : t + 40, x : x + 40] for t, x in ((30, 4), (100, 4), (100, 48), (170, 4)))
    assert (image == 90).all() and (blank == 0).all()
    assert (first[:20, :10] == 255).all() and first[25:].max() == 0
    assert (last[20:, 30:] == 255).all() and last[:20].max() == 0
    sheet = channel_sheet(family("cnn"), pixels_for(family("cnn"))[0])
    with Image.open(sheet.save(tmp_path / "sheet.png")) as picture:
        assert picture.size == sheet.plot().size
    with pytest.raises(UsageError, match=r"must end in .png or .npy. Found: sheet.txt"):
        sheet.save(tmp_path / "sheet.txt")
