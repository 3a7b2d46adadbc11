"""A package behind MLflow's door, without MLflow."""

from __future__ import annotations

import base64
import io
import shutil

import numpy as np
import pytest
from PIL import Image

from vitrail.errors import PackageError, UsageError
from vitrail.models import load_package
from vitrail.models.embedders import DescriptorEmbedder
from vitrail.models.heads import DenseHead
from vitrail.models.package import save_package
from vitrail.models.served import _load_pyfunc
from vitrail.records import Recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("served") / "package"
    generator = np.random.default_rng(0)
    embedder = DescriptorEmbedder(Recipe(16, "grey", False, False, "unit"), ("pixels",))
    head = DenseHead((generator.normal(0, 0.1, (3, 256)).astype(np.float32),), (np.zeros(3, np.float32),), "relu")
    save_package(
        place,
        name="m",
        family="forest",
        description="made up",
        classes=("a", "b", "c"),
        embedder=embedder,
        head=head,
        data_fingerprint="d",
        study_fingerprint="s",
    )
    return place


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    place = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(1)
    for number, name in enumerate(("one.png", "two.jpg", "three.bmp")):
        Image.fromarray(generator.integers(0, 256, (40 + 60 * number, 50), dtype=np.uint8)).save(place / name)
    return sorted(place.iterdir())


def test_bytes_and_base64_get_the_package_s_own_answers(folder, images):
    served, package = _load_pyfunc(str(folder)), load_package(folder)
    wanted = [answer.probabilities for answer in package.predict(images)]
    contents = [path.read_bytes() for path in images]
    for given in (contents, {"image": contents}, [base64.b64encode(content).decode() for content in contents]):
        answers = served.predict(given)
        assert [answer["probabilities"] for answer in answers] == wanted
        assert [answer["predicted"] for answer in answers] == [answer.predicted for answer in package.predict(images)]


def test_what_is_no_image_gets_a_reason_and_the_others_their_scores(folder, images):
    torn = io.BytesIO(images[0].read_bytes()[:60]).getvalue()
    answers = _load_pyfunc(str(folder)).predict([torn, images[0].read_bytes(), "/etc/hostname", 7, b""])
    assert [bool(answer["error"]) for answer in answers] == [True, False, True, True, True]
    assert "base64" in answers[2]["error"] and "int" in answers[3]["error"] and answers[0]["probabilities"] == {}


def test_a_table_without_images_is_told(folder):
    with pytest.raises(UsageError, match="column 'image'"):
        _load_pyfunc(str(folder)).predict({"path": ["/etc/hostname"]})


def test_an_altered_package_is_not_served(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "package")
    (copied / "package.json").write_text((copied / "package.json").read_text().replace("made up", "made down"))
    with pytest.raises(PackageError, match="SHA-256"):
        _load_pyfunc(str(copied))
