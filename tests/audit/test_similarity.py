"""Near copies are found whatever people do to a picture, and named rightly; different pictures are left alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from audit_data import data_set, entry
from copy_data import anatomy, brightened, cropped, encoded, field, picture, search
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.audit import similarity
from vitrail.audit.alignment import ORIENTATIONS, turn
from vitrail.audit.similarity import (
    HIGHEST_THRESHOLD,
    LOWEST_THRESHOLD,
    Similarity,
    find_near_copies,
)

TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda pixels: pixels,
    "mirrored left-right": np.fliplr,
    "mirrored top-bottom": np.flipud,
    "rotated by 180°": lambda pixels: np.rot90(pixels, 2),
    "mirrored along the diagonal": np.transpose,
    "rotated by 90° clockwise": lambda pixels: np.rot90(pixels, -1),
    "rotated by 90° counter-clockwise": lambda pixels: np.rot90(pixels, 1),
    "mirrored along the other diagonal": lambda pixels: np.rot90(pixels, 2).T,
}
"""What the words mean, by another library's hand."""

OTHERS = [picture(number) for number in range(12)]


def found(result: Similarity) -> list[tuple[int, int, str]]:
    return sorted((pair.first, pair.second, ORIENTATIONS[pair.orientation]) for pair in result.pairs)


# ---------------------------------------------------------------------------------------------------- what is found


@pytest.mark.parametrize("name", TURNS)
def test_every_orientation_is_found_and_named_as_what_turns_the_first_into_the_second(name):
    original = picture(100)
    assert found(search([original, *OTHERS, TURNS[name](original)])) == [(0, 13, name)]


def test_the_words_are_those_of_all_orientations():
    assert tuple(TURNS) == ORIENTATIONS


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "compressed at quality 40": lambda pixels: encoded(pixels, 40),
    "brighter": lambda pixels: brightened(pixels, brightness=25),
    "darker": lambda pixels: brightened(pixels, brightness=-25),
    "less contrast": lambda pixels: brightened(pixels, contrast=0.6),
    "more contrast": lambda pixels: brightened(pixels, contrast=1.3),
    "gamma 0.7": lambda pixels: brightened(pixels, gamma=0.7),
    "gamma 1.4": lambda pixels: brightened(pixels, gamma=1.4),
    "inside cut out": lambda pixels: cropped(pixels, 0.02, 0.05, 0.04, 0.03),
    "one side cut off": lambda pixels: cropped(pixels, 0, 0.05, 0, 0),
    "half the size": lambda pixels: pixels[::2, ::2] // 2 + pixels[1::2, 1::2] // 2,
    "cut out, brightened, compressed": lambda pixels: encoded(brightened(cropped(pixels, 0.05, 0.02, 0.03, 0.04), gamma=1.2), 60),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_picture_saved_again_is_found(name):
    original = picture(200)
    assert found(search([*OTHERS, original, CHANGES[name](original)])) == [(12, 13, "")]


@given(
    seed=st.integers(1000, 2000),
    orientation=st.sampled_from(ORIENTATIONS),
    quality=st.integers(40, 95),
    gamma=st.floats(0.7, 1.4),
    copy_first=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_turned_brightened_and_compressed_copies_are_found_in_any_order(seed, orientation, quality, gamma, copy_first):
    original = picture(seed)
    copy = encoded(brightened(np.ascontiguousarray(TURNS[orientation](original)), gamma=gamma), quality)
    if copy_first:
        original, copy = copy, original
        orientation = {"rotated by 90° clockwise": "rotated by 90° counter-clockwise"}.get(
            orientation, orientation.replace("counter-clockwise", "clockwise")
        )
    assert found(search([original, *OTHERS, copy])) == [(0, 13, orientation)]


@given(
    seed=st.integers(2000, 3000),
    rims=st.tuples(*[st.floats(0.02, 0.05)] * 4),
    mirrored=st.booleans(),
    copy_first=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_unevenly_cropped_and_mirrored_copies_are_found(seed, rims, mirrored, copy_first):
    original = picture(seed)
    copy = cropped(original, *rims)
    pair = (original, np.fliplr(copy) if mirrored else copy)
    first, second = reversed(pair) if copy_first else pair
    assert found(search([first, *OTHERS, second])) == [(0, 13, "mirrored left-right" if mirrored else "")]


def test_copies_are_found_among_many_pictures_of_one_organ():
    organ = anatomy()
    pictures = [picture(number, organ) for number in range(150)]
    planted = {
        (3, 150, ""): encoded(pictures[3], 60),
        (20, 151, "mirrored left-right"): np.fliplr(pictures[20]),
        (77, 152, ""): cropped(pictures[77], 0.02, 0.03, 0.04, 0.02),
        (149, 153, "rotated by 180°"): np.rot90(pictures[149], 2),
    }
    assert found(search([*pictures, *planted.values()])) == sorted(planted)


def test_all_pairs_of_several_copies_are_found():
    original = picture(300)
    copies = [original, encoded(original, 70), np.fliplr(original)]
    assert found(search([*copies, *OTHERS])) == [
        (0, 1, ""),
        (0, 2, "mirrored left-right"),
        (1, 2, "mirrored left-right"),
    ]


# ---------------------------------------------------------------------------------------------------- what is left alone


def test_different_pictures_of_one_organ_are_no_copies():
    organ = 1.6 * anatomy()
    result = search([picture(number, organ) for number in range(300)])
    assert result.pairs == ()
    assert result.compared > 200  # they were looked at: in the coarse they are alike
    assert 100 < result.strangers <= similarity.STRANGERS
    assert LOWEST_THRESHOLD <= result.threshold <= HIGHEST_THRESHOLD


def test_blank_pictures_take_no_part():
    shades = [np.full((128, 128), grey, np.uint8) for grey in (0, 0, 90, 255)]
    noise = np.random.default_rng(0).integers(0, 3, (128, 128), dtype=np.uint8)
    assert found(search([*shades, noise, noise, picture(1), picture(1)])) == [(6, 7, "")]
    assert search([*shades, picture(1)]).pairs == ()


def test_data_sets_without_a_picture_have_no_copies():
    assert search([np.zeros((128, 128), np.uint8)] * 3).pairs == ()
    assert find_near_copies(data_set(entry("a/1.png")), np.empty(0, dtype=np.int64)).pairs == ()


def test_only_the_files_that_are_asked_for_take_part():
    original = picture(400)
    files = [entry(f"a/{number}.png") for number in range(4)]
    small = original[::2, ::2]
    manifest = data_set(*files, pictures={file.path: small for file in files})
    assert found(find_near_copies(manifest, np.array([1, 3]))) == [(1, 3, "")]


# ---------------------------------------------------------------------------------------------------- order and size


@given(st.permutations(range(30)))
@settings(max_examples=4, deadline=None)
def test_the_order_of_the_files_does_not_change_which_are_copies(order):
    organ = anatomy(7)
    pictures = [picture(number, organ) for number in range(25)]
    pictures += [encoded(pictures[0]), np.fliplr(pictures[1]), np.rot90(pictures[2]), cropped(pictures[3], 0.03, 0, 0, 0.04)]
    pictures += [brightened(pictures[4], gamma=1.3)]
    result = search([pictures[number] for number in order])
    pairs = {tuple(sorted((order[pair.first], order[pair.second]))) for pair in result.pairs}
    assert pairs == {(0, 25), (1, 26), (2, 27), (3, 28), (4, 29)}


def test_pairs_come_most_alike_first():
    original = picture(500)
    result = search([original, encoded(original, 30), *OTHERS, np.fliplr(original)])
    agreements = [pair.agreement for pair in result.pairs]
    assert agreements == sorted(agreements, reverse=True)
    assert all(result.threshold <= agreement <= 1.0001 for agreement in agreements)
    assert all(pair.first < pair.second for pair in result.pairs)


def test_copies_are_found_across_the_cells_of_a_large_data_set(monkeypatch):
    monkeypatch.setattr(similarity, "_CELL", 40)
    pictures = [picture(number) for number in range(240)]
    turned = [turn(pixels[None], number % 8)[0] for number, pixels in enumerate(pictures[:24])]
    expected = sorted((number, 240 + number, ORIENTATIONS[number % 8]) for number in range(24))
    assert found(search([*pictures, *turned])) == expected


@pytest.mark.slow
def test_planted_copies_are_found_where_not_all_are_compared_with_all():
    rng = np.random.default_rng(5)
    organs = [field(rng, 64)[::2, ::2] for _ in range(20)]
    coarse = [field(rng, 16)[::2, ::2] for _ in range(60)]
    fine = [field(rng, 4)[::2, ::2] for _ in range(60)]

    def mix(number: int) -> np.ndarray:
        detail = coarse[number % 60] + fine[number // 60 % 60] + 0.5 * np.roll(coarse[number // 3 % 60], number % 127, axis=0)
        noise = rng.normal(size=(128, 128)).astype(np.float32)
        return np.clip(120 + 30 * organs[number % 20] + 10 * detail + 8 * noise, 0, 255).astype(np.uint8)

    pictures = [mix(number) for number in range(2 * 4096 + 300)]
    chosen = rng.choice(len(pictures), 64, replace=False)
    copies = [brightened(turn(pictures[row][None], place % 8)[0], gamma=1.2) for place, row in enumerate(chosen)]
    planted = {(int(row), len(pictures) + place, ORIENTATIONS[place % 8]) for place, row in enumerate(chosen)}
    assert set(found(search([*pictures, *copies]))) == planted


# ---------------------------------------------------------------------------------------------------- turning


@given(st.integers(0, 7), st.integers(0, 2**32 - 1))
def test_turning_back_undoes_turning(orientation, seed):
    pixels = np.random.default_rng(seed).random((2, 6, 6), dtype=np.float32)
    turned = turn(pixels, orientation)
    assert np.array_equal(turn(turned, similarity._inverse(orientation)), pixels)
    assert [np.array_equal(turned[0], TURNS[name](pixels[0])) for name in ORIENTATIONS].index(True) == orientation


@given(st.integers(0, 7), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_turning_the_coefficients_is_turning_the_picture(orientation, seed):
    from scipy.fft import dctn

    pixels = np.random.default_rng(seed).random((1, 32, 32)).astype(np.float32)
    expected = dctn(turn(pixels, orientation)[0].astype(np.float64), norm="ortho")[:8, :8]
    cosines = similarity._cosines(32)
    turned = similarity._turned(cosines @ pixels @ cosines.T, orientation)[0]
    assert np.allclose(turned, expected, atol=1e-4)
