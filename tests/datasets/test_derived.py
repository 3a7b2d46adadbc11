"""Masks and other files made from an image, told from images by their neighbours."""

from __future__ import annotations

import pytest

from vitrail.datasets.derived import derived_files


def test_the_masks_of_the_breast_ultrasound_set():
    paths = ["benign/benign (1).png", "benign/benign (1)_mask.png", "benign/benign (1)_mask_1.png", "benign/benign (10).png"]
    assert derived_files(paths) == {
        "benign/benign (1)_mask.png": "benign/benign (1).png",
        "benign/benign (1)_mask_1.png": "benign/benign (1).png",
    }


@pytest.mark.parametrize(
    "name",
    [
        "ISIC_0001_segmentation.png",
        "ISIC_0001_Segmentation.PNG",
        "ISIC_0001-gt.tif",
        "ISIC_0001 overlay.jpg",
        "ISIC_0001_mask2.png",
        "ISIC_0001_roi-12.png",
        "ISIC_0001_superpixels.png",
        "ISIC_0001_ground_truth.bmp",
    ],
)
def test_usual_words_behind_the_name_of_the_image(name):
    assert derived_files([f"a/{name}", "a/ISIC_0001.jpg"]) == {f"a/{name}": "a/ISIC_0001.jpg"}


@pytest.mark.parametrize(
    "paths",
    [
        ["a/seg_001.png", "a/seg_002.png"],  # the word comes first
        ["a/x_label.png", "a/y.png"],  # no image of that name
        ["a/x_mask.png", "b/x.png"],  # not beside it
        ["a/mask.png", "a/mask_1.png", "a/mask_2.png"],  # a name of the data set, not a word behind one
        ["a/x.png", "a/x_1.png", "a/x_2.png"],  # numbered images
        ["a/unmask.png", "a/un.png"],  # no word of its own
        ["a/x_masked.png", "a/x.png", "a/xmask.png"],
        ["a/x_mask_left.png", "a/x.png"],
        ["a_mask/x.png", "a/x.png"],  # the folder's name
        [],
    ],
)
def test_a_name_alone_is_no_proof(paths):
    assert derived_files(paths) == {}


def test_names_with_dots_and_without_extension():
    assert derived_files(["a/x.1.png", "a/x.1_mask.png", "b/slice", "b/slice_mask"]) == {
        "a/x.1_mask.png": "a/x.1.png",
        "b/slice_mask": "b/slice",
    }
    assert derived_files(["a/scan.nii.gz", "a/scan_seg.nii.gz"]) == {"a/scan_seg.nii.gz": "a/scan.nii.gz"}


def test_of_several_images_of_one_name_the_first_is_named():
    assert derived_files(["a/x.jpg", "a/x.png", "a/x_mask.png"]) == {"a/x_mask.png": "a/x.jpg"}
