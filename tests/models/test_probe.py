import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from models_recipes import pixels_of
from sklearn.linear_model import LogisticRegression

from vitrail.errors import StudyError
from vitrail.models import check_model, family_module
from vitrail.models.probe import BackboneUnavailable, embedder, fit_linear
from vitrail.preprocess import normalise
from vitrail.study import PreprocessSettings, ProbeSettings

RGB = PreprocessSettings(colour="rgb", scaling="channel")
SMALL = RGB.model_copy(update={"size": 64})


class Listener:
    """A progress that remembers what it was told."""

    def __init__(self):
        self.messages = []

    def say(self, message):
        self.messages.append(message)


@pytest.fixture(scope="module")
def resnet(save_timm_model):
    return save_timm_model("test_resnet")


@pytest.fixture(scope="module")
def vit(save_timm_model):
    return save_timm_model("test_vit")


def answer_of_timm(backbone, pixels, recipe, **extra):
    """Feature maps and vector as timm's own model gives them."""
    import timm

    model = timm.create_model(backbone, pretrained=True, **extra).eval()
    with torch.no_grad():
        activations = model.forward_features(torch.from_numpy(normalise(pixels, recipe)))
        return activations.numpy(), model.forward_head(activations, pre_logits=True).numpy()


# ---------------------------------------------------------------------------------------------------- backbones


def test_a_convolutional_backbone_answers_as_timm_does_and_has_feature_maps(resnet, tmp_path):
    found = embedder(ProbeSettings(backbone=resnet), SMALL, cache=tmp_path)
    assert found.pooling == "average" and found.recipe.size == 64
    pixels = pixels_of(found.recipe, count=3)
    activations, expected = answer_of_timm(resnet, pixels, found.recipe)
    np.testing.assert_allclose(found.embed(pixels), expected, atol=1e-4)
    maps, vector = found.embed_with_maps(pixels[1:2])
    np.testing.assert_allclose(maps, activations[1], atol=1e-4)
    np.testing.assert_allclose(vector, maps.mean(axis=(1, 2)), atol=1e-4)


def test_a_transformer_has_no_feature_maps_and_takes_other_sizes_than_its_own(vit, tmp_path):
    found = embedder(ProbeSettings(backbone=vit), SMALL, cache=tmp_path)  # its own side is 160 px
    assert found.pooling == "none"
    pixels = pixels_of(found.recipe, count=3)
    _, expected = answer_of_timm(vit, pixels, found.recipe, img_size=64)
    np.testing.assert_allclose(found.embed(pixels), expected, atol=1e-4)
    assert found.embed_with_maps(pixels[:1]) is None


def test_maps_whose_mean_is_not_the_vector_are_not_offered(save_timm_model, tmp_path):
    found = embedder(ProbeSettings(backbone=save_timm_model("test_convnext")), SMALL, cache=tmp_path)  # normalised after pooling
    assert found.pooling == "none"
    assert found.embed(pixels_of(found.recipe)).shape[0] == 5


def test_an_open_size_and_the_statistics_are_the_backbones_own(resnet, tmp_path):
    recipe = embedder(ProbeSettings(backbone=resnet), RGB, cache=tmp_path).recipe
    config = json.loads((Path(resnet.removeprefix("local-dir:")) / "config.json").read_text())["pretrained_cfg"]
    assert recipe.size == config["input_size"][1] == 160
    assert recipe.mean == tuple(config["mean"]) and recipe.deviation == tuple(config["std"])


def test_a_backbone_is_exported_once_and_again_when_its_weights_change(resnet, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(resnet.removeprefix("local-dir:"), copy)
    listener = Listener()
    asked = ProbeSettings(backbone=f"local-dir:{copy}")
    first, again = (embedder(asked, SMALL, cache=tmp_path, progress=listener) for _ in range(2))
    assert len(listener.messages) == 1 and first.fingerprint == again.fingerprint

    import safetensors.torch

    weights = safetensors.torch.load_file(copy / "model.safetensors")
    safetensors.torch.save_file({name: value * 2 for name, value in weights.items()}, copy / "model.safetensors")
    other = embedder(asked, SMALL, cache=tmp_path, progress=listener)
    assert len(listener.messages) == 2 and other.fingerprint != first.fingerprint


def test_random_weights_are_the_same_for_all_and_not_those_on_disk(resnet, tmp_path):
    asked = ProbeSettings(backbone=resnet, pretrained=False)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, again = (embedder(asked, SMALL, cache=tmp_path / name) for name in ("a", "b"))
    assert torch.equal(torch.random.get_rng_state(), before)
    pixels = pixels_of(first.recipe, count=3)
    np.testing.assert_array_equal(first.embed(pixels), again.embed(pixels))
    trained = embedder(ProbeSettings(backbone=resnet), SMALL, cache=tmp_path / "a")
    assert not np.allclose(trained.embed(pixels), first.embed(pixels), rtol=0.1)
    assert "with random weights" in family_module("probe").describe(asked)


def test_a_folder_in_the_home_is_found(resnet, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(Path(resnet.removeprefix("local-dir:")).parent))
    asked = ProbeSettings(backbone=f"local-dir:~/{Path(resnet).name}")
    check_model(asked, SMALL)
    assert embedder(asked, SMALL, cache=tmp_path).recipe.size == 64


# ---------------------------------------------------------------------------------------------------- what cannot be


def problem_of(settings, preprocess=RGB):
    with pytest.raises(StudyError) as caught:
        check_model(settings, preprocess)
    (problem,) = caught.value.problems
    return problem


def test_a_folder_without_weights_is_found_early(tmp_path):
    for content in ((), ("config.json",), ("model.safetensors",)):
        folder = tmp_path / f"with-{len(content)}-{''.join(content)}"
        folder.mkdir()
        for name in content:
            (folder / name).write_text("{}")
        problem = problem_of(ProbeSettings(name="tl", backbone=f"local-dir:{folder}"))
        assert problem.key == "models.tl.backbone" and "model.safetensors" in problem.message and problem.value == str(folder)
    assert "missing" in problem_of(ProbeSettings(backbone=f"local-dir:{tmp_path}/missing")).value


@pytest.mark.parametrize(
    "content", ["no json", "[]", "{}", '{"architecture": "test_resnet", "pretrained_cfg": {"input_size": 3}}']
)
def test_a_damaged_config_is_found_early(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "config.json" in problem_of(ProbeSettings(backbone=f"local-dir:{tmp_path}")).message


def test_an_architecture_unknown_to_timm_is_found_early(tmp_path):
    (tmp_path / "config.json").write_text('{"architecture": "resnet_of_2035"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "resnet_of_2035" in problem_of(ProbeSettings(backbone=f"local-dir:{tmp_path}")).value


@pytest.mark.parametrize(
    ("backbone", "close"),
    [
        ("mobilenetv2_100.ra_in2k", "mobilenetv2_100.ra_in1k"),
        ("resnet1O1.a1_in1k", "resnet101.a1_in1k"),
        ("§", "mobilenetv2_100"),
    ],
)
def test_an_unknown_name_gets_suggestions(backbone, close):
    problem = problem_of(ProbeSettings(backbone=backbone))
    assert close in problem.message and "local-dir:" in problem.message and problem.value == repr(backbone)


def test_an_architecture_without_pretrained_weights_is_no_backbone():
    assert "pretrained" in problem_of(ProbeSettings(backbone="test_mambaout")).message
    check_model(ProbeSettings(backbone="test_mambaout", pretrained=False), RGB)


@pytest.mark.parametrize("backbone", ["mobilenetv2_100.ra_in1k", "resnet50"])
def test_known_names_pass_without_a_download(backbone):
    check_model(ProbeSettings(backbone=backbone), RGB)


def test_colours_that_the_backbone_does_not_take_are_found_early(resnet):
    check_model(ProbeSettings(backbone=resnet), RGB)
    for backbone in (resnet, "mobilenetv2_100.ra_in1k"):
        problem = problem_of(ProbeSettings(backbone=backbone), PreprocessSettings(colour="grey"))
        assert problem.key == "models.probe.preprocess.colour" and "rgb" in problem.message and problem.value == "grey"


def test_channels_that_no_image_has_are_found_early(tmp_path):
    (tmp_path / "config.json").write_text('{"architecture": "test_resnet", "pretrained_cfg": {"input_size": [5, 64, 64]}}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "5 channels" in problem_of(ProbeSettings(backbone=f"local-dir:{tmp_path}")).message


def test_without_network_the_backbone_is_unavailable_and_says_what_to_do(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(
        BackboneUnavailable, match=r"'test_resnet\.r160_in1k' could not be loaded.*network once.*local-dir:FOLDER"
    ):
        embedder(ProbeSettings(backbone="test_resnet.r160_in1k"), RGB, cache=tmp_path)
    assert not (tmp_path / "backbones").exists()


def test_damaged_weights_are_unavailable(resnet, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(resnet.removeprefix("local-dir:"), copy)
    (copy / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(BackboneUnavailable, match="could not be loaded"):
        embedder(ProbeSettings(backbone=f"local-dir:{copy}"), RGB, cache=tmp_path)


def test_images_too_small_for_the_backbone_are_refused_in_words(save_timm_model, tmp_path):
    with pytest.raises(BackboneUnavailable, match="does not take images of 16 px"):
        embedder(ProbeSettings(backbone=save_timm_model("test_convnext")), RGB.model_copy(update={"size": 16}), cache=tmp_path)


# ---------------------------------------------------------------------------------------------------- the linear head


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("balance", [False, True])
def test_a_linear_probe_scores_as_scikit_learn_does(classes, balance):
    generator = np.random.default_rng(0)
    labels = np.minimum(generator.geometric(0.4, 120) - 1, classes - 1)
    vectors = (generator.normal(size=(120, 6)) + 1.5 * np.eye(6)[labels]).astype(np.float32)
    asked = ProbeSettings(inverse_regularisation=0.3)

    head, parameters = fit_linear(asked, vectors, labels, class_weights=balance)

    oracle = LogisticRegression(C=0.3, max_iter=2000, class_weight="balanced" if balance else None).fit(vectors, labels)
    held_out = generator.normal(size=(50, 6)).astype(np.float32)
    np.testing.assert_allclose(head.scores(held_out), oracle.predict_proba(held_out), atol=1e-5)
    assert head.scores(held_out).shape == (50, classes)
    assert parameters == 7 * classes == head.weights[0].size + head.biases[0].size


def test_balancing_and_regularisation_do_something():
    generator = np.random.default_rng(0)
    labels = (np.arange(100) < 10).astype(np.int64)
    vectors = (generator.normal(size=(100, 3)) + labels[:, None]).astype(np.float32)
    plain, balanced, tight = (
        fit_linear(ProbeSettings(inverse_regularisation=strength), vectors, labels, class_weights=balance)[0]
        for strength, balance in ((1.0, False), (1.0, True), (1e-4, False))
    )
    assert balanced.scores(vectors)[:, 1].mean() > plain.scores(vectors)[:, 1].mean() + 0.1
    assert plain.scores(vectors)[:, 1].mean() == pytest.approx(0.1, abs=0.01)  # keeps the prevalence
    assert np.abs(tight.weights[0]).max() < 0.1 * np.abs(plain.weights[0]).max()


def test_descriptions_are_words_for_a_table():
    describe = family_module("probe").describe
    assert describe(ProbeSettings(backbone="local-dir:/weights/mine")) == "mine, frozen, with a trained linear head"
    assert describe(ProbeSettings(backbone="resnet50.a1_in1k", dense=(64, 32))) == (
        "resnet50.a1_in1k, frozen, with trained dense layers of 64-32"
    )
