import numpy as np
import pytest

from vitrail.preprocess import PLAIN, VIEWS, seen, view_remarks
from vitrail.study import CnnSettings, ForestSettings

IMAGES = np.random.default_rng(0).integers(0, 256, (2, 50, 50, 3), dtype=np.uint8)


def view(name):
    return next(one for views in VIEWS.values() for one in views if one.name.startswith(name) and one != PLAIN)


def test_the_plain_view_comes_first_and_changes_nothing():
    assert all(views[0] == PLAIN for views in VIEWS.values())
    assert seen(IMAGES, PLAIN) is IMAGES


def test_a_mirror_image_has_left_and_right_exchanged():
    np.testing.assert_array_equal(seen(IMAGES, view("mirror")), np.flip(IMAGES, axis=2))


@pytest.mark.parametrize(("name", "axis", "step"), [("up", 1, -2), ("down", 1, 2), ("left", 2, -2), ("right", 2, 2)])
def test_a_shift_moves_the_image_by_a_twentyfifth_and_repeats_its_border(name, axis, step):
    shifted = np.moveaxis(seen(IMAGES, view(name)), axis, 0)
    image = np.moveaxis(IMAGES, axis, 0)
    if step > 0:
        np.testing.assert_array_equal(shifted[step:], image[:-step])
        np.testing.assert_array_equal(shifted[:step], np.repeat(image[:1], step, axis=0))
    else:
        np.testing.assert_array_equal(shifted[:step], image[-step:])
        np.testing.assert_array_equal(shifted[step:], np.repeat(image[-1:], -step, axis=0))


def test_views_have_names_of_their_own_and_small_images_move_by_a_pixel():
    names = [one.name for one in {one for views in VIEWS.values() for one in views}]
    assert len(set(names)) == len(names) == 6
    small = IMAGES[:, :16, :16]
    np.testing.assert_array_equal(seen(small, view("down"))[:, 1:], small[:, :-1])


def test_a_mirror_is_remarked_upon_as_an_augmented_flip_is():
    assert view_remarks((ForestSettings(name="forest"), CnnSettings(name="cnn", test_time_augmentation="shifts"))) == ()
    (remark,) = view_remarks((CnnSettings(name="small", test_time_augmentation="mirror"),))
    assert "models.small.test_time_augmentation" in remark and "side matters" in remark and "shifts" in remark
