"""Attention and its rollouts, held against slow products of whole matrices of timm's own attention."""

from functools import cache

import numpy as np
import pytest
import timm
import torch
from explanation_models import whole_image
from explanation_networks import SIZE, SMALL_VIT, family, packed, pixels_for, random_head, recipe_of, settle

from vitrail.errors import UsageError
from vitrail.explanation import EXPLAINERS, AttentionMap, AttentionRollout, attention_sheet, channel_sheet, explain_batch
from vitrail.explanation import passes as passes_module
from vitrail.explanation.attention import long_tokens, reading
from vitrail.explanation.class_activation import resize_bilinear
from vitrail.explanation.graph import INPUT, LOGITS, explained
from vitrail.models.backbones import Features
from vitrail.preprocess import normalise

NETWORKS = {
    "class": ("vit_tiny_patch16_224", {}),
    "class and registers": ("vit_small_patch14_reg4_dinov2", {}),
    "pooled, registers": ("vit_medium_patch16_reg4_gap_256", {}),
    "distilled": ("deit_tiny_distilled_patch16_224", {}),
    "oblong": ("vit_tiny_patch16_224", {"patch_size": (4, 8)}),
}
GRID = {"oblong": (8, 4)}


@cache
def network(name):
    """Return a timm model whose attention is far from even, and the package of it."""
    torch.manual_seed(7)
    architecture, wishes = NETWORKS[name]
    model = settle(
        timm.create_model(architecture, pretrained=False, num_classes=0, **{**SMALL_VIT, "depth": 3, **wishes}), seed=2
    )
    with torch.no_grad():
        for block in model.blocks:
            block.attn.fused_attn = False
            block.attn.qkv.weight *= 12
            block.attn.proj.weight *= 5
    return model, packed(Features(model, "none"), random_head(24), recipe_of("rgb", "channel"), "none")


@cache
def seen(name):
    """Return pixels, and timm's own attention and gradients of the logits of classes 0, 1, 2: per block (n, heads, N, N)."""
    model, package = network(name)
    pixels, caught = pixels_for(package, 3), []

    def catch(module, inputs, output):
        output.retain_grad()
        caught.append(output)

    hooks = [block.attn.attn_drop.register_forward_hook(catch) for block in model.blocks]
    with torch.enable_grad():
        embedding = model(torch.from_numpy(normalise(pixels, package.recipe)).requires_grad_())
        logits = embedding @ torch.from_numpy(package.network.weights[0]).T
        logits[range(3), range(3)].sum().backward()
    for hook in hooks:
        hook.remove()
    return pixels, [one.detach().double() for one in caught], [one.grad.double() for one in caught]


def maps_of(package, pixels, method, **wishes):
    methods = {"asked": method} if not isinstance(method, str) else (method,)
    places, names = (whole_image(SIZE),) * len(pixels), tuple(f"{n}.png" for n in range(len(pixels)))
    (found,) = explain_batch(
        package, pixels, places, images=names, methods=methods, targets=package.classes[: len(pixels)], **wishes
    ).values()
    return found


def same(found, rows, name):
    """Whether maps are those of rows (n, N), enlarged."""
    prefix = getattr(network(name)[0], "num_prefix_tokens", 0)
    cells = rows[:, prefix:].reshape(-1, *GRID.get(name, (4, 4))).numpy()
    for one, expected in zip(found, cells, strict=True):
        assert (one.parameters["rows"], one.parameters["columns"]) == expected.shape
        enlarged = resize_bilinear(expected, height=SIZE, width=SIZE)
        np.testing.assert_allclose(one.map, enlarged, rtol=1e-4, atol=1e-5 * np.abs(enlarged).max())


def read_rows(matrix, name):
    """Return the rows that the head reads of matrices (n, N, N), averaged."""
    model = network(name)[0]
    if name == "distilled":
        return matrix[:, :2].mean(dim=1)
    return matrix[:, model.num_prefix_tokens :].mean(dim=1) if model.global_pool == "avg" else matrix[:, 0]


def slow_rollout(attentions, fuse, discard=0.0, prefix=0):
    product = torch.eye(attentions[0].shape[-1], dtype=torch.float64).expand(len(attentions[0]), -1, -1)
    for attention in attentions:
        fused = fuse(attention).clone()
        for one in fused:
            entries = sorted(float(value) for value in one[:, prefix:].flatten())
            fewest = int(discard * len(entries))
            one[:, prefix:][one[:, prefix:] < entries[fewest]] = 0
        step = 0.5 * fused + 0.5 * torch.eye(fused.shape[-1], dtype=torch.float64)
        product = (step / step.sum(dim=-1, keepdim=True)) @ product
    return product


def slow_gradient_rollout(attentions, gradients):
    product = torch.eye(attentions[0].shape[-1], dtype=torch.float64).expand(len(attentions[0]), -1, -1)
    for attention, gradient in zip(attentions, gradients, strict=True):
        product = product + (attention * gradient).clamp(min=0).mean(dim=1) @ product
    return product


FUSE = {"mean": lambda a: a.mean(dim=1), "max": lambda a: a.amax(dim=1), "min": lambda a: a.amin(dim=1)}


def second_head(attention):
    return attention[:, 1]


@pytest.mark.parametrize("name", NETWORKS)
def test_attention_is_the_row_that_is_read(name):
    pixels, attentions, _ = seen(name)
    found = maps_of(network(name)[1], pixels, "attention")
    same(found, read_rows(attentions[-1].mean(dim=1), name), name)
    assert found[0].layer == "blocks.2.attn" and "does not depend on the class" in " ".join(found[0].warnings)
    assert (found[0].forward_passes, found[0].backward_passes) == (1, 0)


@pytest.mark.parametrize(
    ("layer", "block", "fuse"),
    [
        ("blocks.0", 0, FUSE["mean"]),
        ("blocks.1.attn:max", 1, FUSE["max"]),
        ("last:min", 2, FUSE["min"]),
        (":1", 2, lambda a: a[:, 1]),
    ],
)
def test_block_and_head_are_chosen_by_name(layer, block, fuse):
    pixels, attentions, _ = seen("class")
    same(maps_of(network("class")[1], pixels, "attention", layer=layer), read_rows(fuse(attentions[block]), "class"), "class")


@pytest.mark.parametrize("name", NETWORKS)
def test_rollout_is_the_product_of_all_matrices(name):
    pixels, attentions, _ = seen(name)
    prefix = network(name)[0].num_prefix_tokens
    for fusion, discard in (("mean", 0.0), ("max", 0.0), ("min", 0.6), ("max", 0.9)):
        expected = slow_rollout(attentions, FUSE[fusion], discard, prefix)
        np.testing.assert_allclose(expected.sum(dim=-1), 1, atol=1e-9)
        found = maps_of(network(name)[1], pixels, AttentionRollout(fusion, discard))
        same(found, read_rows(expected, name), name)
        outside = read_rows(expected, name)[:, :prefix].sum(dim=1)
        shares = [one.parameters["share outside the image's tokens"] for one in found]
        np.testing.assert_allclose(shares, outside, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradient_rollout_is_the_sum_of_products_of_all_matrices(name):
    pixels, attentions, gradients = seen(name)
    product = slow_gradient_rollout(attentions, gradients)
    product = product - torch.eye(product.shape[-1], dtype=torch.float64)
    found = maps_of(network(name)[1], pixels, "gradient-rollout")
    same(found, read_rows(product, name), name)
    assert (found[0].forward_passes, found[0].backward_passes) == (1, 1)


def test_the_widely_copied_code_gives_other_maps():
    """Gradients caught on the way back are in the order of the way back; row sums without keepdim divide columns."""
    _, attentions, gradients = seen("class")
    right = read_rows(slow_gradient_rollout(attentions, gradients), "class")[:, 1:]
    wrong = read_rows(slow_gradient_rollout(attentions, gradients[::-1]), "class")[:, 1:]
    assert min(float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(right, wrong, strict=True)) < 0.95
    steps = 0.5 * FUSE["max"](attentions[0]) + 0.5 * torch.eye(17, dtype=torch.float64)
    widely_copied = steps[:1] / steps[:1].sum(dim=-1)
    assert float((widely_copied.sum(dim=-1) - 1).abs().max()) > 0.05
    ours = AttentionRollout("max").step(attentions[0].float().numpy(), reading(network("class")[1]))
    np.testing.assert_allclose(ours.sum(axis=-1), 1, atol=1e-9)
    np.testing.assert_allclose(ours, steps / steps.sum(dim=-1, keepdim=True), atol=1e-6)


def test_the_own_transformer_is_read_by_the_mean_of_its_tokens():
    model = family("transformer")
    pixels = pixels_for(model, 3)
    wants = {"attention", "attention gradient"}
    passes = passes_module.SharedPasses(model, pixels, np.arange(3), model.scores(pixels), wants=wants)
    attentions = [torch.from_numpy(one).double() for one in passes.attentions()]
    run = passes.graph.run({INPUT: passes.graph.scaled(pixels)}, leaves=[place.softmax for place in passes.places])
    total = explained(run.pop(LOGITS), np.arange(3), "logit").sum()
    gradients = [gradient.double() for gradient in torch.autograd.grad(total, list(run.values()))]
    rollout = slow_rollout(attentions, FUSE["mean"]).mean(dim=1)
    weighted = slow_gradient_rollout(attentions, gradients).mean(dim=1) - 1 / 16
    for method, rows in (("attention-rollout", rollout), ("gradient-rollout", weighted)):
        for one, row in zip(maps_of(model, pixels, method), rows, strict=True):
            expected = resize_bilinear(row.reshape(4, 4).numpy(), height=SIZE, width=SIZE)
            np.testing.assert_allclose(one.map, expected, atol=1e-5 * np.abs(expected).max() + 1e-12, rtol=1e-3)
            assert one.parameters["read"] == "the mean of 16 image tokens"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("class", "the class token"),
        ("class and registers", "the class token"),
        ("pooled, registers", "the mean of 16 image tokens"),
        ("distilled", "the mean of 2 tokens, 0 of them of the image"),
    ],
)
def test_it_says_which_tokens_are_read(name, words):
    assert reading(network(name)[1]).words == words


@pytest.mark.parametrize("method", ["attention", "attention-rollout", "gradient-rollout"])
@pytest.mark.parametrize(
    ("name", "reason"),
    [("swin", r"attends within windows of 16 tokens \(layers.0"), ("cnn", "has no attention"), ("dense", "has no attention")],
)
def test_networks_without_attention_over_the_whole_image_are_refused(method, name, reason):
    model = family(name)
    with pytest.raises(UsageError, match=rf"^{method}: needs attention of every token.*{reason}.*Use .*occlusion"):
        maps_of(model, pixels_for(model), method)


def test_what_cannot_be_asked_is_answered_by_what_can():
    package, pixels = network("class")[1], seen("class")[0]
    for layer, expected in (
        ("help", r"attention is in blocks.0.attn, blocks.1.attn, blocks.2.attn. Found: 'help'"),
        ("blocks.1:9", r"number of a head, 0 to 2. Found: 'blocks.1:9'"),
        ("all", r"all is a sheet of all blocks and heads"),
    ):
        with pytest.raises(UsageError, match=expected):
            maps_of(package, pixels, "attention", layer=layer)
    with pytest.raises(UsageError, match=r"attention-rollout does not explain by a layer.*or attention or activations"):
        maps_of(package, pixels, "attention-rollout", layer="blocks.0")
    for wrong in ({"discard": 1.0}, {"heads": "median"}):
        with pytest.raises(UsageError, match=r"Found: (1.0|'median')"):
            AttentionRollout(**wrong)


def test_a_layer_without_attention_is_told_where_other_methods_use_it():
    package, pixels = network("class")[1], seen("class")[0]
    places = (whole_image(SIZE),) * 3
    found = explain_batch(
        package,
        pixels,
        places,
        images=("a", "b", "c"),
        methods=("attention", "grad-cam"),
        layer="blocks.1.norm1.LayerNormalization",
    )
    assert "There is no attention at 'blocks.1.norm1" in " ".join(found["attention"][0].warnings)
    assert found["grad-cam"][0].layer == "blocks.1.norm1.LayerNormalization"


def test_where_memory_is_short_images_are_explained_one_after_the_other(monkeypatch):
    package, pixels = network("class")[1], seen("class")[0]
    methods = ("attention-rollout", "gradient-rollout", "occlusion")
    asked = {"images": ("a", "b", "c"), "methods": methods, "targets": package.classes}
    together = explain_batch(package, pixels, (whole_image(SIZE),) * 3, **asked)
    monkeypatch.setattr(passes_module, "ATTENTION_BYTES", 1)
    assert passes_module.images_together(package, {"attention"}) == 1
    apart = explain_batch(package, pixels, (whole_image(SIZE),) * 3, **asked)
    for method in methods:
        for one, other in zip(together[method], apart[method], strict=True):
            assert (one.image, one.target) == (other.image, other.target)
            np.testing.assert_allclose(one.map, other.map, rtol=1e-3, atol=1e-6 * np.abs(one.map).max())


def test_tokens_with_long_vectors_are_counted():
    norms = np.random.default_rng(0).normal(10, 1, (2, 64)).astype(np.float32)
    norms[1, [3, 40]] = 60
    assert long_tokens(norms, 2) == (0, 2)
    assert long_tokens(np.zeros((2, 0), np.float32), 2) == (0, 0)


def test_the_vectors_are_those_before_the_last_attention():
    model, package = network("pooled, registers")
    pixels, caught = seen("pooled, registers")[0], []
    hook = model.blocks[-2].register_forward_hook(lambda module, inputs, output: caught.append(output))
    model(torch.from_numpy(normalise(pixels, package.recipe)))
    hook.remove()
    passes = passes_module.SharedPasses(package, pixels, np.arange(3), package.scores(pixels), wants={"attention"})
    expected = caught[0][:, model.num_prefix_tokens :].norm(dim=-1).detach().numpy()
    np.testing.assert_allclose(passes.token_norms(), expected, rtol=1e-4)


def test_a_sheet_holds_every_head_of_every_block(tmp_path):
    package, (pixels, attentions, _) = network("class")[1], seen("class")
    sheet = attention_sheet(package, pixels[0])
    expected = torch.stack(attentions)[:, 0, :, 0, 1:].reshape(9, 4, 4)
    np.testing.assert_allclose(sheet.maps, expected, atol=1e-5)
    assert sheet.titles[4] == "blocks.1.attn head 1" and sheet.columns == 3
    assert sheet.plot().size[0] > 3 * 128 and np.load(sheet.save(tmp_path / "a.npy")).shape == (9, 4, 4)
    assert len(attention_sheet(package, pixels[0], layer="blocks.0").maps) == 3
    with pytest.raises(UsageError, match="attention: toy has no attention"):
        attention_sheet(family("cnn"), pixels_for(family("cnn"))[0])


def test_attention_joined_by_a_parameter_is_that_of_a_name():
    package, pixels = network("class")[1], seen("class")[0]
    by_parameter, by_name = (maps_of(package, pixels, AttentionMap(2)), maps_of(package, pixels, "attention", layer="last:2"))
    np.testing.assert_array_equal(by_parameter[0].map, by_name[0].map)
    assert by_name[0].parameters["heads"] == 2 and EXPLAINERS["attention"] == AttentionMap()
    assert channel_sheet(package, pixels[0]).layer == "blocks.2.norm1.LayerNormalization"
