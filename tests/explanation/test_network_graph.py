"""The rebuilt network gives what ONNX Runtime gives, and its parts can be run, captured and replaced."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from explanation_networks import FAMILIES, SIZE, family, pixels_for, random_head, recipe_of, settle
from onnx import TensorProto, helper

from vitrail.explanation.graph import INPUT, LOGITS, NetworkGraph, UnknownOperator, explained
from vitrail.models.backbones import Features, pooling_and_dimension
from vitrail.models.network import export_onnx
from vitrail.records import NetworkParts

VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}


def graph_of(name):
    return NetworkGraph(family(name).network)


def answers(path, inputs):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, {INPUT: inputs}), strict=True))


def assert_same(graph, path, inputs):
    expected = answers(path, inputs)
    found = graph.run({INPUT: torch.from_numpy(inputs)}, tuple(expected))
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].numpy(), values, atol=1e-4 * np.abs(values).max(), rtol=0, err_msg=name)


@pytest.mark.parametrize("name", FAMILIES)
def test_trunk_and_head_are_the_package(name):
    model = family(name)
    pixels = pixels_for(model, 3)
    graph = graph_of(name)
    inputs = graph.scaled(pixels)
    assert_same(graph, model.network.trunk, inputs.numpy())
    found = graph.run({INPUT: inputs})[LOGITS]
    np.testing.assert_allclose(found.double().softmax(dim=1).numpy(), model.scores(pixels), atol=1e-5)
    assert not found.requires_grad


ARCHITECTURES = {
    "resnet18": (64, {}),
    "efficientnet_b0": (64, {}),
    "mobilenetv3_small_050": (64, {}),
    "regnety_002": (64, {}),
    "convnextv2_atto": (64, {"depths": (1, 1, 1, 1)}),
    "swinv2_tiny_window8_256": (
        64,
        {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (2, 2), "num_heads": (2, 4)},
    ),
    "deit_tiny_distilled_patch16_224": (64, {**VIT, "img_size": 64}),
    "vit_small_patch14_reg4_dinov2": (56, {**VIT, "img_size": 56}),
    "vit_small_patch16_dinov3": (64, {**VIT, "img_size": 64}),
    "vit_base_patch16_siglip_224": (64, {**VIT, "img_size": 64}),
    "poolformer_s12": (64, {}),
    "xcit_nano_12_p16_224": (64, {"img_size": 64, "depth": 2}),
}
LARGE = {
    "inception_v3": (96, {}),
    "densenet121": (64, {}),
    "maxvit_rmlp_pico_rw_256": (64, {"img_size": 64}),
    "nfnet_l0": (64, {}),
}


def check_architecture(name, size, wishes, folder):
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model = settle(timm.create_model(name, pretrained=False, num_classes=0, **wishes), seed=1)
    pooling, dimension = pooling_and_dimension(model, torch.rand(2, 3, size, size))
    trunk = Features(model, pooling)
    path = folder / "embedder.onnx"
    path.write_bytes(export_onnx(trunk, channels=3, size=size, outputs=trunk.outputs))
    head = random_head(dimension)
    graph = NetworkGraph(NetworkParts(path, recipe_of("rgb", size=size), pooling, head.weights, head.biases, head.activations))
    inputs = np.random.default_rng(0).normal(size=(3, 3, size, size)).astype(np.float32)
    assert_same(graph, path, inputs)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_of_timm_leave_onnx_as_they_are(name, tmp_path):
    check_architecture(name, *ARCHITECTURES[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_architectures_of_timm_leave_onnx_as_they_are(name, tmp_path):
    check_architecture(name, *LARGE[name], tmp_path)


# ---------------------------------------------------------------------------------------------------- parts of a run


@pytest.mark.parametrize("name", ["cnn", "mobilenet", "vit-class", "swin"])
def test_a_run_can_begin_at_any_value(name):
    graph = graph_of(name)
    inputs = graph.scaled(pixels_for(family(name), 2))
    middle = [node.outputs[0] for node in graph.nodes if node.operator in ("Conv", "Add", "Softmax", "LayerNormalization")]
    for value in middle[:: max(1, len(middle) // 6)]:
        beside = graph.cut(value)
        captured = graph.run({INPUT: inputs}, (LOGITS, value, *beside))
        tail = graph.run({name: captured[name] for name in (value, *beside)})
        np.testing.assert_array_equal(tail[LOGITS].numpy(), captured[LOGITS].numpy())


def test_what_is_not_fed_is_named():
    with pytest.raises(KeyError, match="pixels"):
        graph_of("cnn").run({}, (LOGITS,))


@pytest.mark.parametrize("name", ["cnn-hidden", "convnext", "vit-registers"])
def test_a_gradient_at_a_leaf_is_the_one_of_the_whole_network(name):
    graph = graph_of(name)
    inputs = graph.scaled(pixels_for(family(name), 2))
    value = next(node.outputs[0] for node in graph.nodes if node.operator == "Conv")
    targets = np.array([0, 2])

    def gradient(leaf_input):
        run = graph.run({INPUT: inputs.clone().requires_grad_(leaf_input)}, leaves=(value,))
        return torch.autograd.grad(explained(run[LOGITS], targets, "logit").sum(), run[value])[0].numpy()

    np.testing.assert_allclose(gradient(False), gradient(True), rtol=1e-5, atol=1e-7)


def test_weights_are_replaced_for_one_run_only():
    graph = graph_of("cnn")
    inputs = graph.scaled(pixels_for(family("cnn")))
    before = graph.run({INPUT: inputs})[LOGITS].numpy()
    names = list(graph.weights)
    assert names[-2:] == ["head.0.weight", "head.0.bias"] and len(names) >= 6
    zero = {"head.0.weight": torch.zeros_like(graph.weights["head.0.weight"])}
    np.testing.assert_array_equal(
        graph.run({INPUT: inputs}, weights=zero)[LOGITS][0].numpy(), graph.weights["head.0.bias"].numpy()
    )
    np.testing.assert_array_equal(graph.run({INPUT: inputs})[LOGITS].numpy(), before)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_weight_counts(name):
    """Replacing a weight changes the logits (but where a softmax or a normalisation takes the change away)."""
    graph = graph_of(name)
    inputs = graph.scaled(pixels_for(family(name)))
    before = graph.run({INPUT: inputs})[LOGITS]
    changed = []
    for weight, value in graph.weights.items():
        other = torch.randn(value.shape, generator=torch.Generator().manual_seed(1))
        changed.append(not torch.equal(graph.run({INPUT: inputs}, weights={weight: other})[LOGITS], before))
    assert np.mean(changed) > 0.9


def test_a_rule_is_replaced_for_one_run_only():
    graph = graph_of("cnn-hidden")
    inputs = graph.scaled(pixels_for(family("cnn-hidden")))
    before = graph.run({INPUT: inputs})[LOGITS].numpy()
    last = [node.name for node in graph.nodes if node.operator == "Relu"][-1]
    silent = {last: lambda node, values: torch.zeros_like(values[0])}
    np.testing.assert_array_equal(
        graph.run({INPUT: inputs}, rules=silent)[LOGITS][0].numpy(), graph.weights["head.1.bias"].numpy()
    )
    np.testing.assert_array_equal(graph.run({INPUT: inputs})[LOGITS].numpy(), before)


# ---------------------------------------------------------------------------------------------------- what is explained


def test_what_is_explained_has_the_gradient_that_calculus_gives():
    logits = torch.tensor([[1.0, 2.0, 4.0], [0.5, 0.1, -1.0]], requires_grad=True)
    targets = np.array([2, 1])
    scores = logits.detach().softmax(dim=1)
    assert explained(logits, targets, "logit").tolist() == pytest.approx([4.0, 0.1])
    assert explained(logits, targets, "contrast").tolist() == pytest.approx([2.0, -0.4])
    assert explained(logits, targets, "probability").tolist() == pytest.approx([float(scores[0, 2]), float(scores[1, 1])])


# ---------------------------------------------------------------------------------------------------- strangers


def written(folder, nodes, outputs=("embedding",), initial=()):
    """Write a graph that takes pixels (n, 1, 32, 32)."""
    taken = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["n", 1, SIZE, SIZE])
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "toy", [taken], given, list(initial))
    path = folder / "embedder.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    head = random_head(SIZE * SIZE)
    return NetworkParts(path, recipe_of(), "none", head.weights, head.biases, ())


def test_an_operator_that_is_not_known_is_named(tmp_path):
    nodes = [helper.make_node("Flatten", [INPUT], ["flat"]), helper.make_node("Hardmax", ["flat"], ["embedding"], name="odd")]
    with pytest.raises(UnknownOperator, match=r"operator Hardmax \(at odd\).*occlusion"):
        NetworkGraph(written(tmp_path, nodes))


OLDER = {
    "Slice backwards": (
        [helper.make_node("Slice", [INPUT, "starts", "ends", "axes", "steps"], ["embedding"])],
        {"starts": [-1, 3], "ends": [-1000, 30], "axes": [3, 2], "steps": [-1, 4]},
    ),
    "Gather from the end": ([helper.make_node("Gather", [INPUT, "rows"], ["embedding"], axis=2)], {"rows": [-1, 0, 5]}),
    "Pad unevenly": ([helper.make_node("Pad", [INPUT, "pads"], ["embedding"])], {"pads": [0, 0, 1, 2, 0, 0, 3, 0]}),
    "Reflect": (
        [helper.make_node("Pad", [INPUT, "pads"], ["embedding"], mode="reflect")],
        {"pads": [0, 0, 1, 2, 0, 0, 3, 0]},
    ),
    "ReduceMean by attribute": ([helper.make_node("ReduceMean", [INPUT], ["embedding"], axes=[2, 3], keepdims=0)], {}),
    "MaxPool unevenly padded": (
        [helper.make_node("MaxPool", [INPUT], ["embedding"], kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1])],
        {},
    ),
    "AveragePool rounded up": (
        [helper.make_node("AveragePool", [INPUT], ["embedding"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)],
        {},
    ),
    "Split by number": (
        [
            helper.make_node("Split", [INPUT], ["first", "second"], axis=3),
            helper.make_node("Sub", ["second", "first"], ["embedding"]),
        ],
        {},
    ),
    "Reshape with copies": ([helper.make_node("Reshape", [INPUT, "shape"], ["embedding"])], {"shape": [0, -1, 64]}),
    "Expand": ([helper.make_node("Expand", [INPUT, "shape"], ["embedding"])], {"shape": [1, 3, 1, 1]}),
    "Gelu of older opsets": (
        [helper.make_node("Erf", [INPUT], ["erf"]), helper.make_node("Mul", [INPUT, "erf"], ["embedding"])],
        {},
    ),
    "HardSigmoid": ([helper.make_node("HardSigmoid", [INPUT], ["embedding"], alpha=0.3, beta=0.4)], {}),
}


@pytest.mark.parametrize("name", OLDER)
def test_rarer_forms_of_operators_agree_with_onnx_runtime(name, tmp_path):
    nodes, numbers = OLDER[name]
    initial = [helper.make_tensor(key, TensorProto.INT64, [len(value)], value) for key, value in numbers.items()]
    parts = written(tmp_path, nodes, initial=initial)
    inputs = np.random.default_rng(0).normal(size=(2, 1, SIZE, SIZE)).astype(np.float32)
    assert_same(NetworkGraph(parts), parts.trunk, inputs)
