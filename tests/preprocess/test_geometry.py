import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vitrail.preprocess import restore_map
from vitrail.preprocess.geometry import inner_box, object_box
from vitrail.records import Placement

SIDES = st.integers(20, 120)


@st.composite
def boxes(draw, height, width, *, share=0.0):
    """A half-open box inside ``height`` x ``width``; each side at least ``share`` of the whole and one pixel."""
    tall, wide = (
        draw(st.integers(max(1, int(np.ceil(share * height))), height)),
        draw(st.integers(max(1, int(np.ceil(share * width))), width)),
    )
    top, left = draw(st.integers(0, height - tall)), draw(st.integers(0, width - wide))
    return top, left, top + tall, left + wide


# ---------------------------------------------------------------------------------------------------- the object


@settings(deadline=None, max_examples=60)
@given(data=st.data(), height=SIDES, width=SIDES)
def test_the_box_around_a_known_object_is_found(data, height, width):
    top, left, bottom, right = data.draw(boxes(height, width, share=0.15))
    grey = np.random.default_rng(0).integers(0, 15, (height, width), dtype=np.uint8)  # a margin of noise
    grey[top:bottom, left:right] = 180
    assert object_box(grey) == (top, left, bottom, right)


def test_single_specks_are_margin():
    grey = np.zeros((100, 100), np.uint8)
    grey[30:60, 40:80] = 200
    grey[3, 5] = grey[95, 97] = 255
    assert object_box(grey) == (30, 40, 60, 80)


@pytest.mark.parametrize("level", [0, 1, 255])
def test_a_constant_image_is_kept_whole(level):
    assert object_box(np.full((50, 30), level, np.uint8)) == (0, 0, 50, 30)


def test_an_object_of_less_than_a_tenth_of_a_side_is_not_cropped_to():
    grey = np.zeros((100, 100), np.uint8)
    grey[50:58, 20:80] = 200
    assert object_box(grey) == (0, 0, 100, 100)
    grey[50:60, 20:80] = 200
    assert object_box(grey) == (50, 20, 60, 80)


# ---------------------------------------------------------------------------------------------------- inside the input


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 3000), width=st.integers(1, 3000), size=st.integers(16, 300))
def test_keeping_the_aspect_fits_centres_and_fills(height, width, size):
    top, left, bottom, right = inner_box(height, width, size, keep_aspect=True)
    assert 0 <= top < bottom <= size and 0 <= left < right <= size
    assert max(bottom - top, right - left) == size
    assert abs(top - (size - bottom)) <= 1 and abs(left - (size - right)) <= 1
    scale = size / max(height, width)
    assert abs((bottom - top) - max(1, height * scale)) <= 0.5
    assert abs((right - left) - max(1, width * scale)) <= 0.5


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 3000), width=st.integers(1, 3000), size=st.integers(16, 300))
def test_stretching_fills_the_whole_input(height, width, size):
    assert inner_box(height, width, size, keep_aspect=False) == (0, 0, size, size)


# ---------------------------------------------------------------------------------------------------- back to the original


@st.composite
def placements(draw, size):
    """Any crop of any original, shown anywhere in an input of side ``size``."""
    height, width = draw(st.integers(5, 150)), draw(st.integers(5, 150))
    top, left, bottom, right = draw(boxes(height, width))
    return Placement(height, width, top, left, bottom, right, *draw(boxes(size, size, share=0.2)))


def interpolated(values, length):
    """Linear interpolation between pixel centres along the first axis; beyond the outermost centres the nearest value."""
    positions = (np.arange(length) + 0.5) * len(values) / length - 0.5
    columns = [np.interp(positions, np.arange(len(values)), column) for column in values.reshape(len(values), -1).T]
    return np.stack(columns, axis=1)


@settings(deadline=None, max_examples=60)
@given(placement=placements(24), seed=st.integers(0, 1000))
def test_a_map_enlarged_is_interpolated_between_pixel_centres(placement, seed):
    tall, wide = placement.bottom - placement.top, placement.right - placement.left
    inner = (slice(placement.inner_top, placement.inner_bottom), slice(placement.inner_left, placement.inner_right))
    relevance = np.random.default_rng(seed).normal(size=(24, 24)).astype(np.float32)
    assume(tall >= relevance[inner].shape[0] and wide >= relevance[inner].shape[1])

    restored = restore_map(relevance, placement)

    expected = interpolated(interpolated(relevance[inner], tall).T, wide).T
    shown = restored[placement.top : placement.bottom, placement.left : placement.right]
    np.testing.assert_allclose(shown, expected, atol=1e-5)


@settings(deadline=None, max_examples=60)
@given(placement=placements(40), data=st.data())
def test_a_blob_comes_back_to_its_place(placement, data):
    tall, wide = placement.inner_bottom - placement.inner_top, placement.inner_right - placement.inner_left
    row = data.draw(st.integers(placement.inner_top + tall // 3, placement.inner_bottom - 1 - tall // 3))
    column = data.draw(st.integers(placement.inner_left + wide // 3, placement.inner_right - 1 - wide // 3))
    rows, columns = np.mgrid[0:40, 0:40]
    relevance = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2).astype(np.float32)

    restored = restore_map(relevance, placement)

    down, across = (placement.bottom - placement.top) / tall, (placement.right - placement.left) / wide
    expected_row = placement.top + (row - placement.inner_top + 0.5) * down - 0.5
    expected_column = placement.left + (column - placement.inner_left + 0.5) * across - 0.5
    found_row, found_column = np.unravel_index(restored.argmax(), restored.shape)
    assert abs(found_row - expected_row) <= max(1.0, down)
    assert abs(found_column - expected_column) <= max(1.0, across)


@settings(deadline=None, max_examples=60)
@given(placement=placements(24))
def test_a_restored_map_has_the_originals_shape_and_is_zero_outside_what_the_model_saw(placement):
    restored = restore_map(np.full((24, 24), -3.0, np.float32), placement)
    assert restored.shape == (placement.height, placement.width) and restored.dtype == np.float32
    seen = np.zeros(restored.shape, bool)
    seen[placement.top : placement.bottom, placement.left : placement.right] = True
    np.testing.assert_allclose(restored[seen], -3.0, rtol=1e-6)
    assert (restored[~seen] == 0).all()
