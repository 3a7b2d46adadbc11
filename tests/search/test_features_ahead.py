"""Features of a search are computed once, before the folds that share them; scores stay what they are without."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vitrail.datasets import scan_folder
from vitrail.models.embedders import DescriptorEmbedder
from vitrail.preprocess import make_recipe
from vitrail.progress import SILENT, SilentProgress
from vitrail.records import Split
from vitrail.search import CandidateScorer, cross_validation, shared_cores
from vitrail.search.features_ahead import FeaturesAhead
from vitrail.search_folder import SearchFolder
from vitrail.study import Study, changed

EACH = 20


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("features"), np.random.default_rng(0)
    for label, bright in (("no", 60), ("yes", 110)):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(EACH):
            pixels = np.clip(generator.normal(bright, 40, (24, 24)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "images" / label / f"{number}.png")
    return scan_folder(folder / "images", cache=folder / "scan")


def split(manifest, fold):
    """Every fifth image is kept for the test, every third of the others is predicted, by its position and the fold."""
    parts = [
        "excluded" if row % 5 == 4 else "test" if row % 3 == fold else "validation" if row % 7 == 0 else "train"
        for row in range(len(manifest))
    ]
    return Split(tuple(parts), ("",) * len(manifest), tuple(range(len(manifest))), 0, "by position")


def study(manifest, **search):
    model = {
        "model": "forest",
        "trees": 5,
        "features": ["pixels"],
        "preprocess": {"size": 16},
        "test_time_augmentation": "mirror",
    }
    return Study.model_validate({"data": {"path": manifest.root}, "models": [model], "search": search})


def scorer(manifest, cache, *, threads=1):
    return CandidateScorer(study(manifest), "forest", manifest, tuple(split(manifest, fold) for fold in range(3)), cache, threads)


class Heard(SilentProgress):
    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)


@pytest.fixture
def embedded(monkeypatch):
    """The number of images of every batch that is embedded."""
    sizes, original = [], DescriptorEmbedder.embed

    def embed(self, pixels):
        sizes.append(len(pixels))
        return original(self, pixels)

    monkeypatch.setattr(DescriptorEmbedder, "embed", embed)
    return sizes


def test_folds_find_all_that_they_need(manifest, tmp_path, embedded):
    heard, score = Heard(), scorer(manifest, tmp_path / "cache")
    ahead = FeaturesAhead(score, tmp_path, heard)
    ahead({"trees": 5})
    images = 2 * EACH * 4 // 5
    assert heard.said == [f"forest: features of {images} images, once for all folds"] * 2
    assert sum(embedded) == 2 * images  # as they are, and mirrored
    ahead({"trees": 9})
    scores = [score({"trees": trees}, tmp_path / "place", fold) for trees in (5, 9) for fold in range(3)]
    assert sum(embedded) == 2 * images
    cold = scorer(manifest, tmp_path / "other")
    assert [cold({"trees": trees}, tmp_path / "place", fold) for trees in (5, 9) for fold in range(3)] == scores
    ahead({"features": ["hog"]})
    assert sum(embedded) == 6 * images


def test_folds_are_scored_by_the_rule_that_a_run_will_have(manifest, tmp_path, monkeypatch):
    def faint(settings, job):
        """A model that tells the classes apart, far below 0.5."""
        embedder = DescriptorEmbedder(make_recipe(job.study.preprocess_for(settings), size=16), ("pixels",))
        bright = lambda vectors: np.clip(vectors.mean(axis=1, dtype=np.float64) - 0.2, 0, 0.4)  # noqa: E731
        return SimpleNamespace(
            embedder=embedder,
            head=SimpleNamespace(scores=lambda vectors: np.stack([1 - bright(vectors), bright(vectors)], axis=1)),
        )

    monkeypatch.setattr(cross_validation, "train", faint)
    found = {}
    for threshold in ("half", "balanced"):
        asked = changed(study(manifest), {"evaluation.threshold": threshold, "models.forest.test_time_augmentation": "none"})
        score = CandidateScorer(asked, "forest", manifest, (split(manifest, 0),), tmp_path / "cache", 1)
        found[threshold] = score({}, tmp_path / "place", 0)
    assert found["half"]["balanced_accuracy"] == 0.5 and found["balanced"]["balanced_accuracy"] > 0.9
    assert found["half"]["log_loss"] == found["balanced"]["log_loss"]


def test_what_cannot_be_computed_is_left_for_the_folds_to_say(manifest, tmp_path, embedded):
    FeaturesAhead(scorer(manifest, tmp_path / "cache"), tmp_path, SILENT)({"trees": -1})
    assert embedded == []


@pytest.mark.parametrize(
    ("asked", "cores", "expected", "said"),
    [
        ({}, 4, (4, 1), False),
        ({}, 32, (8, 4), False),
        ({"workers": 3}, 4, (3, 1), False),
        ({"workers": 6}, 4, (4, 1), True),
        ({"workers": 2, "threads": 3}, 4, (1, 3), True),
        ({"threads": 8}, 4, (1, 8), False),
    ],
)
def test_no_more_folds_at_a_time_than_there_are_cores_for_and_it_is_said(asked, cores, expected, said, manifest, monkeypatch):
    monkeypatch.setattr(cross_validation, "available_cores", lambda: cores)
    heard = Heard()
    assert shared_cores(study(manifest, **asked), ["forest"], heard) == expected
    assert [text.startswith("search.workers: ") for text in heard.said] == [True] * said


def test_a_fold_whose_training_several_processes_share_has_a_core_for_each(manifest, monkeypatch):
    monkeypatch.setattr(cross_validation, "available_cores", lambda: 8)
    network = {"model": "cnn", "training": {"devices": 4, "device": "cpu"}}
    for search, expected in (({}, (2, 4)), ({"workers": 8, "threads": 1}, (2, 4)), ({"threads": 8}, (1, 8))):
        searched = Study.model_validate({"data": {"path": manifest.root}, "models": [network], "search": search})
        assert shared_cores(searched, ["cnn"]) == expected
    probe = {"model": "probe", "dense": [4], "training": {"devices": 4, "device": "cpu"}}  # learns from features, alone
    assert shared_cores(Study.model_validate({"data": {"path": manifest.root}, "models": [probe]}), ["probe"]) == (8, 1)


def test_a_search_belongs_to_its_cores_for_each_fold_and_not_to_its_workers(manifest):
    paths = [
        SearchFolder.of(study(manifest, **asked), manifest, split(manifest, 0), threads=threads).path
        for asked, threads in [({}, 1), ({"workers": 2}, 1), ({}, 2)]
    ]
    assert paths[0] == paths[1] != paths[2]


def test_a_search_belongs_to_its_split_and_to_what_belongs_together(manifest):
    """Trials that were scored on folds that cut through patients are no trials of a search whose folds do not."""
    drawn = split(manifest, 0)
    other_test = replace(drawn, parts=("excluded", *drawn.parts[1:]))
    patients = replace(drawn, groups=tuple(number // 2 for number in drawn.groups))
    paths = {SearchFolder.of(study(manifest), manifest, one, threads=1).path for one in (drawn, other_test, patients)}
    assert len(paths) == 3


def test_all_folds_of_a_network_read_the_same_decoded_pixels_and_none_of_the_test_images(manifest, tmp_path):
    network = {"model": "cnn", "filters": [2], "preprocess": {"size": 16}, "training": {"epochs": 1, "patience": 1}}
    searched = Study.model_validate({"data": {"path": manifest.root}, "models": [network]})
    splits = tuple(split(manifest, fold) for fold in range(3))
    score = CandidateScorer(searched, "cnn", manifest, splits, tmp_path / "cache", 1)
    for fold in range(3):
        score({}, tmp_path / f"fold{fold}", fold)
    (kept,) = (tmp_path / "cache/pixels").glob("*.npy")
    assert len(np.load(kept)) == sum(part != "excluded" for part in splits[0].parts) < len(manifest)
