"""Fine-tuning: what learns when and how fast, what stays fixed, heads of several layers, and what is found before training."""

import copy

import numpy as np
import pytest
import torch
from models_recipes import pixels_of

from vitrail.errors import StudyError
from vitrail.models import DenseHead, OnnxEmbedder, check_model, finetune
from vitrail.models.heads import load_head
from vitrail.models.network import HeadLayers, export_onnx
from vitrail.preprocess import normalise
from vitrail.study import FinetuneSettings, HeadLayer, PreprocessSettings, Study, TrainingSettings

RGB = PreprocessSettings(size=64, colour="rgb", scaling="channel")
RICH_HEAD = (
    HeadLayer(layer="batch_normalisation"),
    HeadLayer(layer="dense", units=9, activation="gelu"),
    HeadLayer(layer="batch_normalisation"),
    HeadLayer(layer="dropout", share=0.4),
    HeadLayer(layer="batch_normalisation"),
    HeadLayer(layer="dense", units=7, activation="tanh"),
    HeadLayer(layer="dropout", share=0.4),
)


def asked(**settings):
    return FinetuneSettings.model_validate({"backbone": "test_resnet", "pretrained": False, **settings})


def built(settings, preprocess=RGB, *, seed=0):
    recipe = finetune.recipe(settings, preprocess)
    return finetune.build(settings, recipe, classes=3, seed=seed), recipe


def one_epoch(network, recipe, *, number=1, rate=0.01, steps=2):
    """What the fit loop does in an epoch, on noise."""
    optimiser = torch.optim.AdamW(network.parameter_groups(rate, 0.1), lr=rate)
    network.set_epoch(number)
    network.train()
    for step in range(steps):
        pixels = torch.from_numpy(normalise(pixels_of(recipe, count=6, seed=step), recipe))
        loss = torch.nn.functional.cross_entropy(network(pixels), torch.tensor([0, 1, 2, 0, 1, 2]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()


def changed(network, before):
    """Names of the weights and statistics that are no longer what they were."""
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


# ---------------------------------------------------------------------------------------------------- what learns


def test_in_full_everything_learns():
    network, recipe = built(asked())
    before = copy.deepcopy(network.state_dict())
    one_epoch(network, recipe)
    assert changed(network, before) == set(before)


def test_the_first_layers_stay_fixed_with_their_statistics_while_the_rest_learns():
    network, recipe = built(asked(strategy="partial", frozen_layers=5))
    before = copy.deepcopy(network.state_dict())
    fixed = finetune.layers(network.trunk.model)[:5]
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in fixed), "or the test would not see statistics move"
    one_epoch(network, recipe)
    named = {id(layer): name for name, layer in network.named_modules()}
    held = {f"{named[id(layer)]}.{key}" for layer in fixed for key in layer.state_dict()}
    assert any("running_mean" in name for name in held)
    assert changed(network, before) == set(before) - held


def test_a_frozen_backbone_stays_what_it_was_down_to_its_statistics():
    network, recipe = built(asked(strategy="frozen"))
    before = copy.deepcopy(network.state_dict())
    one_epoch(network, recipe)
    assert changed(network, before) == {"head.layers.1.weight", "head.layers.1.bias"}


def test_first_the_head_learns_alone_then_all_of_it():
    network, recipe = built(asked(head_epochs=2))
    before = copy.deepcopy(network.state_dict())
    for number in (1, 2):
        one_epoch(network, recipe, number=number)
    assert changed(network, before) == {"head.layers.1.weight", "head.layers.1.bias"}
    one_epoch(network, recipe, number=3)
    assert changed(network, before) == set(before)


def test_in_the_second_phase_all_of_it_learns_more_slowly():
    network, _ = built(asked(head_epochs=2, tuning_rate=0.1))
    shares = []
    for number in (1, 2, 3, 4):
        network.set_epoch(number)
        shares.append(network.rate_share)
    assert shares == [1.0, 1.0, 0.1, 0.1]


@pytest.mark.parametrize("backbone", ["test_resnet", "convnext_atto", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("pooling", ["average", "max"])
def test_feature_maps_are_pooled_as_wished(backbone, pooling):
    settings = asked(backbone=backbone, pooling=pooling)
    check_model(settings, RGB)
    network, recipe = built(settings)
    pixels = torch.from_numpy(normalise(pixels_of(recipe, count=2), recipe))
    with torch.no_grad():
        network.eval()
        maps = network.trunk.model.forward_features(pixels)
        patches = maps.flatten(2).transpose(1, 2) if maps.ndim == 4 else maps[:, network.trunk.model.num_prefix_tokens :]
        pooled = patches.amax(dim=1) if pooling == "max" else patches.mean(dim=1)
        if backbone == "convnext_atto":  # normalises what was pooled
            pooled = network.trunk.model.head.norm(pooled[:, :, None, None]).flatten(1)
        elif maps.ndim == 3:
            pooled = network.trunk.model.fc_norm(pooled)
        torch.testing.assert_close(network.trunk(pixels)[-1], pooled)
    assert network.trunk.pooling == (pooling if backbone == "test_resnet" else "none")


def test_a_backbone_that_cannot_be_pooled_as_wished_is_found_early():
    with pytest.raises(StudyError, match=r"models\.finetune\.pooling: must be left out: .* cannot be pooled so"):
        check_model(asked(name="finetune", backbone="levit_128s", pooling="max"), PreprocessSettings(colour="rgb"))


def test_the_groups_hold_everything_that_ever_learns_once_and_the_head_comes_first():
    network, _ = built(asked(strategy="partial", frozen_layers=5, head_epochs=1, backbone_rate=0.5))
    state = [parameter.requires_grad for parameter in network.parameters()]
    groups = network.parameter_groups(0.02, 0.1)
    assert [parameter.requires_grad for parameter in network.parameters()] == state, "asking changes nothing"
    fixed = {id(one) for layer in finetune.layers(network.trunk.model)[:5] for one in layer.parameters(recurse=False)}
    listed = [id(one) for group in groups for one in group["params"]]
    assert sorted(listed) == sorted({id(one) for one in network.parameters()} - fixed)
    head = {id(one) for one in network.head.parameters()}
    for group in groups:
        of_head = {id(one) for one in group["params"]} <= head
        assert group["lr"] == pytest.approx(0.02 if of_head else 0.01) == pytest.approx(0.02 * group["lr_scale"])
        assert group["weight_decay"] == (0.0 if group["params"][0].ndim == 1 else 0.1)
    assert {id(one) for one in groups[0]["params"]} <= head


def test_each_block_below_learns_more_slowly():
    network, _ = built(asked(backbone="test_vit", layer_decay=0.5, backbone_rate=0.8))
    rate_of = {id(one): group["lr"] for group in network.parameter_groups(1.0, 0.1) for one in group["params"]}
    model = network.trunk.model
    rates = [rate_of[id(block.attn.qkv.weight)] for block in model.blocks]
    assert rates == pytest.approx([0.8 * 0.5 ** (len(rates) - 1 - number) for number in range(len(rates))])
    assert rate_of[id(model.norm.weight)] == pytest.approx(0.8)
    assert rate_of[id(model.patch_embed.proj.weight)] == pytest.approx(rates[0] / 2)


def test_layers_are_counted_from_the_image_upwards():
    import timm

    resnet = timm.create_model("resnet18", num_classes=0)
    names = {id(module): name for name, module in resnet.named_modules()}
    found = [names[id(layer)] for layer in finetune.layers(resnet)]
    assert found[:4] == ["conv1", "bn1", "layer1.0.conv1", "layer1.0.bn1"] and found[-1] == "layer4.1.bn2"
    assert len(found) == 40  # 20 convolutions (3 of them beside the blocks) with a normalisation each


def test_random_weights_come_from_the_seed_and_torchs_own_generator_is_left_alone():
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first, again, other = (built(asked(), seed=seed)[0].state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["trunk.model.conv1.0.weight"], other["trunk.model.conv1.0.weight"])
    assert not torch.equal(first["head.layers.1.weight"], other["head.layers.1.weight"])


def test_pretrained_weights_are_those_on_disk_and_random_ones_are_not(save_timm_model):
    import timm

    folder = save_timm_model("test_resnet")
    expected = timm.create_model(folder, pretrained=True).conv1[0].weight
    kernels = [
        built(asked(backbone=folder, pretrained=pretrained))[0].trunk.model.conv1[0].weight for pretrained in (True, False)
    ]
    assert torch.equal(kernels[0], expected) and not torch.equal(kernels[1], expected)


def test_grey_images_are_taken_with_the_kernels_of_the_colours_added_up(save_timm_model):
    folder = save_timm_model("test_resnet")
    colour, _ = built(asked(backbone=folder, pretrained=True))
    grey, recipe = built(asked(backbone=folder, pretrained=True), RGB.model_copy(update={"colour": "grey"}))
    assert recipe.channels == 1 and len(recipe.mean) == 1
    torch.testing.assert_close(grey.trunk.model.conv1[0].weight, colour.trunk.model.conv1[0].weight.sum(dim=1, keepdim=True))


# ---------------------------------------------------------------------------------------------------- out of torch


@pytest.mark.parametrize(
    ("backbone", "pooling", "size"),
    [("test_resnet", "average", 64), ("test_vit", "none", 64), ("test_convnext", "none", 64), ("mobilenetv2_035", "average", 32)],
)
def test_a_trained_network_leaves_torch_as_the_same_function(backbone, pooling, size, tmp_path):
    network, recipe = built(asked(backbone=backbone, head=RICH_HEAD), RGB.model_copy(update={"size": size}))
    one_epoch(network, recipe, rate=1e-3)
    network.eval()
    assert network.trunk.pooling == pooling
    path = tmp_path / "trunk.onnx"
    path.write_bytes(export_onnx(network.trunk, channels=3, size=size, outputs=network.trunk.outputs))
    pixels = pixels_of(recipe, count=3, seed=5)
    with torch.no_grad():
        expected = network(torch.from_numpy(normalise(pixels, recipe))).softmax(dim=1).numpy()
    embedder = OnnxEmbedder(path, recipe, network.trunk.pooling)
    np.testing.assert_allclose(network.head.to_head().scores(embedder.embed(pixels)), expected, atol=1e-4)
    assert (embedder.embed_with_maps(pixels[:1]) is None) == (pooling == "none")


@pytest.mark.parametrize("layers", [(), RICH_HEAD, RICH_HEAD[:1], RICH_HEAD[:2], RICH_HEAD[2:4], RICH_HEAD[2:]])
def test_a_head_of_layers_leaves_torch_as_the_same_function(layers, tmp_path):
    torch.manual_seed(3)
    head = HeadLayers(6, layers, 3)
    with torch.no_grad():  # statistics, scales and shifts that are not those of an untrained network
        for _ in range(20):
            head(torch.randn(40, 6) * torch.arange(1, 7) + 3)
        for part in head.layers:
            if isinstance(part, torch.nn.BatchNorm1d):
                part.weight.uniform_(-2, 2)
                part.bias.normal_()
    head.eval()
    vectors = (torch.randn(11, 6) * torch.arange(1, 7) + 3).requires_grad_()
    logits = head(vectors)
    found = head.to_head()
    assert len(found.weights) == 1 + sum(layer.layer == "dense" for layer in layers)
    description = found.save(tmp_path)
    loaded = load_head(tmp_path, description)
    assert isinstance(loaded, DenseHead)
    given = vectors.detach().numpy()
    for one in (found, loaded):
        np.testing.assert_allclose(one.logits(given), logits.detach().numpy(), rtol=1e-5, atol=1e-5)
    logits[0, 2].backward()
    np.testing.assert_allclose(loaded.gradient(given[0], 2), vectors.grad[0].numpy(), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- what cannot be


def problem_of(settings, preprocess=RGB):
    with pytest.raises(StudyError) as caught:
        check_model(settings, preprocess)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    ("wish", "key", "words", "found"),
    [
        ({"backbone": "resnett18"}, "backbone", "resnet18", "'resnett18'"),
        ({"backbone": "test_resnet.of_nobody"}, "backbone", "is no timm model. Close: test_resnet", "'test_resnet.of_nobody'"),
        ({"backbone": "test_mambaout", "pretrained": True}, "backbone", "pretrained weights", "'test_mambaout'"),
        ({"backbone": "local-dir:/missing"}, "backbone", "model.safetensors", "/missing"),
        ({"strategy": "partial"}, "frozen_layers", "1 to 30 with strategy partial: test_resnet has 30 layers", "0"),
        ({"strategy": "partial", "frozen_layers": 31}, "frozen_layers", "has 30 layers", "31"),
        ({"strategy": "frozen", "frozen_layers": 3}, "frozen_layers", "is for strategy partial", "3 with strategy frozen"),
        ({"head_epochs": 4, "training": {"epochs": 4}}, "head_epochs", "less than its training.epochs (4)", "4"),
        ({"head": RICH_HEAD, "training": {"batch_size": 1}}, "training.batch_size", "at least 2", "1"),
    ],
)
def test_what_cannot_be_trained_is_found_early(wish, key, words, found):
    problem = problem_of(asked(name="tuned", **wish))
    assert problem.key == f"models.tuned.{key}" and words in problem.message and problem.value == found


@pytest.mark.parametrize(
    ("backbone", "size", "works"), [("test_convnext", 16, 32), pytest.param("inception_v3", 64, 80, marks=pytest.mark.slow)]
)
def test_images_too_small_for_the_network_are_found_early_with_a_size_that_works(backbone, size, works):
    problem = problem_of(asked(backbone=backbone), RGB.model_copy(update={"size": size}))
    assert problem.key == "models.finetune.preprocess.size" and problem.value == f"{size} px"
    assert f"{works} px works" in problem.message
    check_model(asked(backbone=backbone), RGB.model_copy(update={"size": works}))


@pytest.mark.parametrize("count", [1, 30])
def test_as_many_frozen_layers_as_there_are_can_be_asked_for(count):
    check_model(asked(strategy="partial", frozen_layers=count), RGB)


@pytest.mark.parametrize(
    ("layer", "key", "words"),
    [
        ({"layer": "dense"}, "head[0]", "must say units, for example {layer: dense, units: 128}"),
        ({"layer": "dropout"}, "head[0]", "must say share"),
        ({"layer": "dropout", "share": 0.1, "units": 3}, "head[0]", "must not say units: a layer dropout takes share"),
        ({"layer": "batch_normalisation", "share": 0.1}, "head[0]", "takes no setting of its own"),
        (
            {"layer": "dense", "units": 3, "activation": "softmax"},
            "head[0].activation",
            "output layer (one unit per class, softmax)",
        ),
        ({"layer": "output", "units": 3}, "head[0].layer", "must be one of 'dense', 'dropout' or 'batch_normalisation'"),
    ],
)
def test_wrong_heads_are_explained(layer, key, words):
    with pytest.raises(StudyError) as caught:
        Study.from_mapping({"data": {"path": "/images"}, "models": [{"model": "finetune", "head": [layer]}]})
    (problem,) = caught.value.problems
    assert problem.key == f"models[0].{key}" and words in problem.message


# ---------------------------------------------------------------------------------------------------- settings


def test_an_open_size_and_the_statistics_are_the_backbones_own():
    recipe = finetune.recipe(asked(backbone="resnet18"), PreprocessSettings(colour="rgb", scaling="channel"))
    assert recipe.size == 224 and recipe.mean == (0.485, 0.456, 0.406) and recipe.deviation == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"backbone": "local-dir:/weights/mine", "pretrained": True}, "mine, all layers trained"),
        ({"strategy": "partial", "frozen_layers": 7}, "test_resnet from random weights, its first 7 layers frozen"),
        ({"strategy": "frozen"}, "test_resnet from random weights, frozen, with a head trained from pixels"),
    ],
)
def test_descriptions_are_words_for_a_table(wish, words):
    assert finetune.describe(asked(**wish)) == words


def test_weights_on_disk_are_part_of_the_identity(save_timm_model):
    folder = save_timm_model("test_resnet")
    names = [name for name, _ in finetune.identity(FinetuneSettings(backbone=folder))]
    assert names == ["config.json", "model.safetensors"]
    assert finetune.identity(asked()) == "test_resnet"


def test_small_medical_data_has_defaults_of_its_own():
    defaults = FinetuneSettings.training_defaults
    assert isinstance(defaults, TrainingSettings)
    assert (defaults.optimiser, defaults.learning_rate, defaults.epochs, defaults.imbalance) == ("adamw", 3e-4, 12, "weights")
