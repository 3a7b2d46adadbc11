import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
from models_recipes import pixels_of

from vitrail.errors import DataError, PackageError, UsageError
from vitrail.models import load_package, save_package
from vitrail.preprocess import prepare_file

CLASSES = ("cyst", "healthy", "tumour")
KINDS = ("forest", "cnn", "dense")


def save(folder, halves, **changes):
    embedder, head = halves
    save_package(
        folder,
        **{
            "name": "small",
            "family": "cnn",
            "description": "a small model",
            "classes": CLASSES,
            "embedder": embedder,
            "head": head,
            "data_fingerprint": "0123456789abcdef",
            "study_fingerprint": "fedcba9876543210",
            **changes,
        },
    )
    return folder


@pytest.fixture
def folder(halves, tmp_path):
    return save(tmp_path / "package", halves["cnn"])


def rewrite(folder, change):
    """Change package.json and make its hash fit again, as a foreign tool might."""
    content = json.loads((folder / "package.json").read_text())
    change(content)
    (folder / "package.json").write_text(json.dumps(content))
    hash_again(folder, "package.json")


def hash_again(folder, name):
    hashes = json.loads((folder / "hashes.json").read_text())
    hashes[name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "hashes.json").write_text(json.dumps(hashes))


# ---------------------------------------------------------------------------------------------------- whole and unaltered


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_comes_back_as_it_was_saved(halves, kind, tmp_path):
    embedder, head = halves[kind]
    package = load_package(save(tmp_path / "package", halves[kind], name=kind))
    assert (package.name, package.classes, package.recipe) == (kind, CLASSES, embedder.recipe)
    assert package.embedder.fingerprint == embedder.fingerprint
    assert package.pooling == embedder.pooling
    pixels = pixels_of(embedder.recipe, count=6)
    expected = head.scores(embedder.embed(pixels))
    np.testing.assert_array_equal(package.scores(pixels), expected)
    np.testing.assert_allclose(expected.sum(axis=1), 1, atol=1e-6)
    assert np.ptp(expected, axis=0).max() > 1e-3, "the model tells images apart"
    assert package.description.data_fingerprint == "0123456789abcdef"
    assert "Not a medical device" in package.description.limits


@pytest.mark.parametrize("kind", KINDS)
def test_explanations_get_what_they_ask_for(halves, kind, tmp_path):
    package = load_package(save(tmp_path / "package", halves[kind]))
    pixels = pixels_of(package.recipe, count=1)
    if kind == "forest":
        assert package.pooling == "none" and package.embed_with_maps(pixels) is None
        with pytest.raises(UsageError, match=r"'small'.*estimator.*occlusion"):
            package.embedding_gradient(np.zeros(3, np.float32), 0)
        return
    maps, vector = package.embed_with_maps(pixels)
    np.testing.assert_allclose(maps.mean(axis=(1, 2)), vector, atol=1e-5)
    step = 1e-2 * np.eye(len(vector), dtype=np.float32)
    slopes = (package.head.logits(vector + step) - package.head.logits(vector - step))[:, 1] / 2e-2
    np.testing.assert_allclose(package.embedding_gradient(vector, 1), slopes, rtol=1e-2, atol=1e-4)


def test_every_file_is_hashed_and_no_patients_image_is_inside(folder):
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    golden = {*(f"golden/{number}.png" for number in range(4)), "golden/4.jpg"}
    assert files == {"package.json", "hashes.json", "embedder.onnx", "head.safetensors"} | golden
    assert set(json.loads((folder / "hashes.json").read_text())) == files - {"hashes.json"}


@pytest.mark.parametrize("name", ["package.json", "embedder.onnx", "head.safetensors", "golden/2.png", "golden/4.jpg"])
def test_an_altered_or_missing_file_is_named(folder, name):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PackageError, match=rf"{name} is not the file that was packed"):
        load_package(folder)
    (folder / name).unlink()
    with pytest.raises(PackageError, match="package.json" if name == "package.json" else rf"{name} is missing"):
        load_package(folder)


@pytest.mark.parametrize("content", [None, "no json", "[1, 2]"])
def test_missing_or_damaged_hashes_are_refused(folder, content):
    (folder / "hashes.json").unlink()
    if content is not None:
        (folder / "hashes.json").write_text(content)
    with pytest.raises(PackageError, match=r"hashes\.json is missing or damaged"):
        load_package(folder)


@pytest.mark.parametrize("name", ["package.json", "embedder.onnx", "head.safetensors"])
def test_a_file_that_decides_needs_a_hash(folder, name):
    hashes = json.loads((folder / "hashes.json").read_text())
    del hashes[name]
    (folder / "hashes.json").write_text(json.dumps(hashes))
    with pytest.raises(PackageError, match=rf"does not cover {name}"):
        load_package(folder)


def test_what_is_no_package_is_refused(tmp_path):
    with pytest.raises(PackageError, match=r"not a model package \(found nothing\)"):
        load_package(tmp_path / "nowhere")
    with pytest.raises(PackageError, match=r"found a folder without package\.json"):
        load_package(tmp_path)


# ---------------------------------------------------------------------------------------------------- of another kind


def test_a_changed_golden_answer_is_noticed(folder):
    def change(content):
        scores = content["golden"][1]["scores"]
        scores[0], scores[1] = scores[0] + 0.01, scores[1] - 0.01

    rewrite(folder, change)
    with pytest.raises(PackageError, match=r"golden/1\.png gets other scores.*0\.0100.*numpy"):
        load_package(folder)


def test_other_weights_with_hashes_that_fit_are_noticed_by_the_golden_answers(folder, halves, tmp_path):
    _, head = halves["cnn"]
    head.__class__((head.weights[0] * 2,), head.biases, head.activation).save(folder)
    hash_again(folder, "head.safetensors")
    with pytest.raises(PackageError, match="gets other scores than when the package was made"):
        load_package(folder)


def test_a_future_format_says_update(folder):
    rewrite(folder, lambda content: content.update(format=2))
    with pytest.raises(PackageError, match=r"not format 1.*format: .*found 2.*Update vitrail"):
        load_package(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content["embedder"].update(kind="quantum"), "unknown kind of embedder 'quantum'"),
        (lambda content: content["head"].update(kind="quantum"), "unknown kind of head 'quantum'"),
        (lambda content: content["head"].pop("layers"), "do not fit together.*'layers'"),
        (lambda content: content["embedder"].pop("pooling"), "do not fit together.*'pooling'"),
        (lambda content: content["recipe"].update(size=48, colour="grey"), "do not fit together"),
        (lambda content: content["classes"].append("extra"), r"one score per class \(4\), it gives 3 and gave 3"),
        (lambda content: content["golden"][0].update(scores=[0.3]), "it gives 3 and gave 1"),
        (lambda content: content["golden"][0].update(image="golden/9.png"), r"must ask exactly the images in golden"),
        (lambda content: content.pop("classes"), "package.json: not format 1.*classes"),
    ],
)
def test_parts_that_are_unknown_or_do_not_fit_are_refused_in_words(folder, change, words):
    rewrite(folder, change)
    with pytest.raises(PackageError, match=f"(?s){words}"):
        load_package(folder)


# ---------------------------------------------------------------------------------------------------- predictions


def test_one_broken_image_does_not_take_the_others_away(folder, pictures, tmp_path):
    package = load_package(folder)
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures[0].read_bytes()[:100])

    answers = package.predict([pictures[0], str(broken), tmp_path / "missing.png", *pictures[1:]])

    assert [bool(answer.error) for answer in answers] == [False, True, True, False, False]
    assert "broken.png" in answers[1].error and answers[1].probabilities == {} and answers[1].predicted == ""
    for answer, path in zip([answers[0], *answers[3:]], pictures, strict=True):
        prepared, placement = prepare_file(path, package.recipe)
        np.testing.assert_array_equal(package.prepare(path)[0], prepared)
        assert package.prepare(path)[1] == placement
        scores = package.scores(prepared[None])[0]
        assert answer.image == str(path)
        assert list(answer.probabilities) == list(CLASSES)
        np.testing.assert_allclose(list(answer.probabilities.values()), scores, atol=1e-12)
        assert answer.predicted == CLASSES[int(scores.argmax())]
    with pytest.raises(DataError):
        package.prepare(broken)


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_answers_without_what_trained_it(halves, kind, pictures, tmp_path):
    folder = save(tmp_path / "package", halves[kind])
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


def test_a_failed_save_leaves_the_older_package(folder, halves):
    embedder, head = halves["cnn"]

    class Broken(type(head)):
        def scores(self, embedding):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        save(folder, (embedder, Broken(head.weights, head.biases, head.activation)), name="newer")
    assert load_package(folder).name == "small"
    assert [path.name for path in folder.parent.iterdir()] == ["package"]
    save(folder, halves["cnn"], name="newer")
    assert load_package(folder).name == "newer"
