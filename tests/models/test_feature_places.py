import numpy as np
import pytest
from models_recipes import GREY

from vitrail.models import DescriptorEmbedder
from vitrail.models.feature_places import feature_places

SIZE = GREY.size


def empty(boxes):
    return (boxes == 0).all(axis=1)


@pytest.mark.parametrize("features", [("pixels",), ("hog",), ("texture",), ("texture", "pixels", "hog")])
def test_every_feature_has_a_place_or_says_that_it_has_none(features):
    image = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 1), dtype=np.uint8)
    vector = DescriptorEmbedder(GREY, features).embed(image)[0]
    places = feature_places(features, SIZE)
    assert places.boxes.shape == (len(vector), 4) and places.group.shape == (len(vector),)
    assert places.group.max() == len(places.groups) - 1
    placed = places.boxes[~empty(places.boxes)]
    assert (placed[:, :2] < placed[:, 2:]).all() and placed.min() >= 0 and placed.max() <= SIZE
    named = {places.groups[number] for number in places.group[empty(places.boxes)]}
    assert all("whole image" in name or "pairs" in name for name in named)
    assert bool(named) == ("texture" in features)


def test_a_pixel_stands_where_it_is():
    image = np.zeros((1, SIZE, SIZE, 1), np.uint8)
    image[0, 5, 9] = 255
    changed = DescriptorEmbedder(GREY, ("pixels",)).embed(image)[0].argmax()
    assert feature_places(("pixels",), SIZE).boxes[changed].tolist() == [5, 9, 6, 10]


@pytest.mark.parametrize("cell", [(0, 0), (2, 5), (7, 7), (4, 0)])
def test_a_cell_of_hog_stands_where_its_gradients_are(cell):
    side = SIZE // 8
    image = np.zeros((1, SIZE, SIZE, 1), np.uint8)
    row, column = cell[0] * side + side // 2, cell[1] * side + side // 2
    image[0, row, column] = 255  # its gradients lie one pixel around it, within the cell
    places = feature_places(("hog",), SIZE)
    answered = np.flatnonzero(DescriptorEmbedder(GREY, ("hog",)).embed(image)[0])
    assert len(answered) > 0
    found = np.unique(places.boxes[answered], axis=0)
    if side >= 4:
        expected = [cell[0] * side, cell[1] * side, (cell[0] + 1) * side, (cell[1] + 1) * side]
        assert found.tolist() == [expected]


@pytest.mark.parametrize("region", [(0, 0), (1, 3), (3, 2)])
def test_a_region_of_texture_stands_where_its_patterns_are(region):
    before = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 1), dtype=np.uint8)
    after = before.copy()
    edges = np.cumsum([0, *(len(part) for part in np.array_split(np.arange(SIZE), 4))])
    top, left = edges[region[0]] + 3, edges[region[1]] + 3  # patterns reach 2 pixels
    bottom, right = edges[region[0] + 1] - 3, edges[region[1] + 1] - 3
    after[0, top:bottom, left:right] = 0
    embedder = DescriptorEmbedder(GREY, ("texture",))
    changed = np.flatnonzero((embedder.embed(before) != embedder.embed(after))[0])
    boxes = feature_places(("texture",), SIZE).boxes[changed]
    own = [edges[region[0]], edges[region[1]], edges[region[0] + 1], edges[region[1] + 1]]
    assert {tuple(box) for box in boxes.tolist()} == {tuple(int(edge) for edge in own), (0, 0, 0, 0)}
