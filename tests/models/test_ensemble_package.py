"""Packages of ensembles and of models that look at several views of an image."""

import hashlib
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from models_recipes import pixels_of

from vitrail.errors import PackageError
from vitrail.models import load_package, save_ensemble, save_package

CLASSES = ("cyst", "healthy", "tumour")
MADE = {"data_fingerprint": "0123456789abcdef", "study_fingerprint": "fedcba9876543210"}
WEIGHTS = {"dense": 0.55, "forest": 0.45, "unused": 0.0}


def save(folder, halves, **changes):
    embedder, head = halves
    description = {"name": "small", "family": "cnn", "description": "a small model", "classes": CLASSES}
    save_package(folder, **{**description, **MADE, "embedder": embedder, "head": head, **changes})
    return folder


@pytest.fixture(scope="module")
def members(halves, tmp_path_factory):
    """Packages of a forest on grey images and of a network on cropped colour images."""
    folder = tmp_path_factory.mktemp("members")
    wishes = {"dense": ("dense", "shifts"), "forest": ("forest", "none"), "unused": ("cnn", "none")}
    return {
        name: save(folder / name, halves[kind], name=name, test_time_augmentation=views) for name, (kind, views) in wishes.items()
    }


def pack(folder, members, weights=WEIGHTS, **changes):
    given = {name: (weight, members[name]) for name, weight in weights.items()}
    description = {"name": "both", "description": "two models", "classes": CLASSES, "members": given}
    save_ensemble(folder, **{**description, **MADE, **changes})
    return folder


@pytest.fixture
def folder(members, tmp_path):
    return pack(tmp_path / "package", members)


def scores(package, pictures):
    return np.array([list(answer.probabilities.values()) for answer in package.predict(pictures)])


def test_an_ensemble_says_the_weighted_mean_of_what_its_members_say(folder, members, pictures):
    package = load_package(folder)
    expected = 0.55 * scores(load_package(members["dense"]), pictures) + 0.45 * scores(load_package(members["forest"]), pictures)
    np.testing.assert_array_equal(scores(package, pictures), expected)
    np.testing.assert_allclose(package.scores_of(pictures[0]), expected[0], atol=1e-12)
    assert (package.name, package.classes) == ("both", CLASSES)
    assert [(part.weight, part.model.name) for part in package.parts] == [(0.55, "dense"), (0.45, "forest")]
    assert not (folder / "members" / "unused").exists(), "what does not count is not packed"


def test_one_broken_image_does_not_take_the_others_away(folder, pictures, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures[0].read_bytes()[:60])
    answers = load_package(folder).predict([broken, pictures[1]])
    assert [bool(answer.error) for answer in answers] == [True, False]


def test_the_same_members_in_another_order_make_the_same_package(folder, members, tmp_path):
    again = pack(tmp_path / "again", members, dict(reversed(WEIGHTS.items())))
    assert (again / "hashes.json").read_bytes() == (folder / "hashes.json").read_bytes()


@pytest.mark.parametrize("name", ["package.json", "members/forest/head.onnx", "members/dense/hashes.json", "golden/2.png"])
def test_an_altered_or_missing_file_of_any_member_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PackageError, match=rf"{name} is not the file that was packed|package.json"):
        load_package(folder)
    (folder / name).unlink()
    with pytest.raises(PackageError, match=f"{name} is missing|package.json"):
        load_package(folder)


def test_a_member_that_was_exchanged_is_noticed_though_all_hashes_fit(folder, members):
    shutil.rmtree(folder / "members" / "forest")
    shutil.copytree(members["unused"], folder / "members" / "forest")
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / "hashes.json"]
    hashes = {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    (folder / "hashes.json").write_text(json.dumps(hashes))
    with pytest.raises(PackageError, match="gets other scores than when the package was made"):
        load_package(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["members"][0].update(weight=0.9), "sum to 1"),
        (lambda content: content["members"].clear(), "sum to 1"),
        (lambda content: content["classes"].reverse(), "must know the classes"),
        (lambda content: content["members"][0].update(name="nobody"), "hashes.json is missing or damaged"),
        (lambda content: content.update(format=2), "not format 1"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_words(folder, change, words):
    content = json.loads((folder / "package.json").read_text())
    change(content)
    (folder / "package.json").write_text(json.dumps(content))
    hashes = json.loads((folder / "hashes.json").read_text())
    hashes["package.json"] = hashlib.sha256((folder / "package.json").read_bytes()).hexdigest()
    (folder / "hashes.json").write_text(json.dumps(hashes))
    with pytest.raises(PackageError, match=f"(?s){words}"):
        load_package(folder)


def test_an_ensemble_answers_without_what_trained_it(folder, pictures):
    expected = [answer.probabilities for answer in load_package(folder).predict(pictures)]
    code = (
        "import json, sys\n"
        "from vitrail.models import load_package\n"
        "answers = load_package(sys.argv[1]).predict(sys.argv[2:])\n"
        "trainers = sorted({'torch', 'timm', 'sklearn', 'matplotlib', 'mlflow', 'skl2onnx', 'onnx'} & set(sys.modules))\n"
        "print(json.dumps([trainers, [answer.probabilities for answer in answers]]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, folder, *pictures], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], expected]


# ---------------------------------------------------------------------------------------------------- several views


@pytest.mark.parametrize("kind", ["forest", "cnn"])
def test_scores_are_the_mean_over_the_views(halves, kind, tmp_path):
    package = load_package(save(tmp_path / "package", halves[kind], test_time_augmentation="mirror"))
    pixels = pixels_of(package.recipe, count=5)
    plain = load_package(save(tmp_path / "plain", halves[kind]))
    expected = (plain.scores(pixels) + plain.scores(pixels[:, :, ::-1])) / 2
    np.testing.assert_allclose(package.scores(pixels), expected, atol=1e-12)
    assert np.abs(expected - plain.scores(pixels)).max() > 1e-4
    np.testing.assert_array_equal(package.plain.scores(pixels), plain.scores(pixels))
    assert plain.plain is plain


def test_a_package_from_before_there_were_views_loads_as_it_was(halves, tmp_path):
    folder = save(tmp_path / "package", halves["cnn"])
    content = json.loads((folder / "package.json").read_text())
    del content["test_time_augmentation"]
    (folder / "package.json").write_text(json.dumps(content))
    hashes = json.loads((folder / "hashes.json").read_text())
    hashes["package.json"] = hashlib.sha256((folder / "package.json").read_bytes()).hexdigest()
    (folder / "hashes.json").write_text(json.dumps(hashes))
    assert len(load_package(folder).views) == 1
