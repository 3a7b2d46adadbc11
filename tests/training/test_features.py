import contextlib
import dataclasses
import shutil
import sys

import numpy as np
import pytest
from training_data import scanned

from vitrail.datasets import scan_folder
from vitrail.preprocess import prepare_file
from vitrail.progress import SilentProgress
from vitrail.records import Recipe
from vitrail.training import features

RECIPE = Recipe(16, "grey", False, False, "unit")


class Counting:
    """An embedder that gives mean and deviation, and counts the images it is shown."""

    kind = "counting"
    recipe = RECIPE

    def __init__(self, fingerprint="counting-1"):
        self.fingerprint = fingerprint
        self.seen = 0

    def embed(self, pixels):
        self.seen += len(pixels)
        return np.stack([pixels.mean(axis=(1, 2, 3)), pixels.std(axis=(1, 2, 3))], axis=1).astype(np.float32)

    def save(self, folder):
        return {}


class Stopping(SilentProgress):
    """Ends the work after so many images."""

    def __init__(self, after):
        self.left = after

    @contextlib.contextmanager
    def task(self, title, total):
        def advance(steps=1, note=""):
            if self.left <= 0:
                raise KeyboardInterrupt
            self.left -= steps

        yield advance


@pytest.fixture
def manifest(tmp_path):
    return scanned(tmp_path, each=5)


def expected_of(manifest, rows):
    pixels = np.stack([prepare_file(manifest.root / manifest.files[row].path, RECIPE)[0] for row in rows])
    return Counting().embed(pixels)


@pytest.fixture
def small_shards(monkeypatch):
    # By name: the door's `features` is the function and hides the module of the same name.
    monkeypatch.setattr(sys.modules["vitrail.training.features"], "SHARD", 4)


def test_vectors_follow_the_rows_and_come_from_the_cache_the_second_time(manifest, tmp_path):
    rows = np.array([7, 2, 11, 0])
    embedder = Counting()
    first = features(embedder, manifest, rows, cache=tmp_path)
    assert first.dtype == np.float32 and embedder.seen == 4
    np.testing.assert_array_equal(first, expected_of(manifest, rows))
    np.testing.assert_array_equal(features(embedder, manifest, rows[::-1], cache=tmp_path), first[::-1])
    assert embedder.seen == 4
    more = np.arange(15)
    np.testing.assert_array_equal(features(embedder, manifest, more, cache=tmp_path), expected_of(manifest, more))
    assert embedder.seen == 15, "only the new images are computed"


def test_copies_are_computed_once(manifest, tmp_path):
    source = manifest.root / manifest.files[0].path
    for number in range(3):
        shutil.copy(source, source.with_name(f"copy{number}{source.suffix}"))
    manifest = scan_folder(manifest.root, cache=tmp_path / "scan")
    embedder = Counting()
    rows = np.arange(len(manifest))
    found = features(embedder, manifest, rows, cache=tmp_path)
    assert len(manifest) == 18 and embedder.seen == 15
    np.testing.assert_array_equal(found, expected_of(manifest, rows))


class Corner(Counting):
    """An embedder that sees how an image is turned."""

    def embed(self, pixels):
        self.seen += len(pixels)
        return pixels[:, :4, :4].reshape(len(pixels), -1).astype(np.float32)


def test_turned_images_are_filed_beside_the_upright_ones(manifest, tmp_path, small_shards):
    rows = np.array([3, 3, 0, 3, 0, 5, 3])
    turns = np.array([0, 1, 0, 3, 2, 0, 1])
    pixels = [prepare_file(manifest.root / manifest.files[row].path, RECIPE)[0] for row in rows]
    expected = np.stack([np.rot90(image, turn)[:4, :4].ravel() for image, turn in zip(pixels, turns, strict=True)])
    first, again, upright = Corner("corner"), Corner("corner"), Corner("corner")
    np.testing.assert_array_equal(features(first, manifest, rows, turns=turns, cache=tmp_path), expected)
    assert first.seen == 6, "a copy that comes twice is computed once"
    np.testing.assert_array_equal(features(again, manifest, rows[::-1], turns=turns[::-1], cache=tmp_path), expected[::-1])
    np.testing.assert_array_equal(features(upright, manifest, rows[[0, 2, 5]], cache=tmp_path), expected[[0, 2, 5]])
    assert again.seen == upright.seen == 0


def test_a_shard_of_turned_images_does_not_replace_that_of_the_same_images_upright(manifest, tmp_path):
    rows = np.arange(6)
    for turn in (0, 1, 2):
        features(Corner("corner"), manifest, rows, turns=np.full(6, turn), cache=tmp_path)
    embedder = Corner("corner")
    features(embedder, manifest, np.tile(rows, 3), turns=np.repeat([0, 1, 2], 6), cache=tmp_path)
    assert embedder.seen == 0


def test_another_embedder_has_another_cache(manifest, tmp_path):
    rows = np.arange(3)
    features(Counting(), manifest, rows, cache=tmp_path)
    other = Counting("counting-2")
    features(other, manifest, rows, cache=tmp_path)
    assert other.seen == 3


def test_a_changed_image_is_computed_anew(manifest, tmp_path):
    rows = np.arange(15)
    features(Counting(), manifest, rows, cache=tmp_path)
    changed = tuple(
        dataclasses.replace(file, sha256=file.sha256[::-1]) if row == 4 else file for row, file in enumerate(manifest.files)
    )
    embedder = Counting()
    features(embedder, dataclasses.replace(manifest, files=changed), rows, cache=tmp_path)
    assert embedder.seen == 1


def test_a_killed_run_goes_on_at_its_last_shard(manifest, tmp_path, small_shards):
    rows = np.array([14, 3, 8, 1, 0, 2, 9, 4, 6, 7])
    first = Counting()
    with pytest.raises(KeyboardInterrupt):
        features(first, manifest, rows, cache=tmp_path, progress=Stopping(8))
    assert first.seen == 10, "it was killed in the third shard"
    second = Counting()
    found = features(second, manifest, rows, cache=tmp_path)
    assert second.seen == 2
    np.testing.assert_array_equal(found, expected_of(manifest, rows))
    assert len(list((tmp_path / "features" / "counting-1").glob("*.npz"))) == 3


def test_nothing_half_written_is_read(manifest, tmp_path, small_shards):
    rows = np.arange(6)
    features(Counting(), manifest, rows, cache=tmp_path)
    folder = tmp_path / "features" / "counting-1"
    whole = next(folder.glob("*.npz")).read_bytes()
    (folder / ".abc.npz.partial").write_bytes(whole[:50])  # what a kill in the middle of writing leaves
    embedder = Counting()
    np.testing.assert_array_equal(features(embedder, manifest, rows, cache=tmp_path), expected_of(manifest, rows))
    assert embedder.seen == 0
