"""Class activation maps through the rebuilt network: against libraries, at any layer, of transformers."""

import numpy as np
import pytest
from explanation_models import whole_image
from explanation_networks import FAMILIES, family, pixels_for
from test_gradients import torch_twin

from vitrail.errors import UsageError
from vitrail.explanation import EXPLAINERS, explain_batch
from vitrail.explanation import passes as passes_module
from vitrail.explanation.class_activation import resize_bilinear
from vitrail.explanation.graph import network_graph
from vitrail.explanation.layers import network_layers
from vitrail.explanation.passes import SharedPasses

CAMS = ("grad-cam", "grad-cam-plus-plus", "layer-cam", "hires-cam")


def asked(model, methods, pixels, targets=None, **wishes):
    names = tuple(f"{number}.png" for number in range(len(pixels)))
    places = (whole_image(model.recipe.size),) * len(pixels)
    found = explain_batch(model, pixels, places, images=names, methods=methods, targets=targets, **wishes)
    return {name: np.stack([one.map for one in explanations]) for name, explanations in found.items()}


def shown(cells):
    """As the libraries give them: no negative values, scaled to 0..1."""
    above = np.maximum(cells, 0)
    above = above - above.min()
    return above / (1e-7 + above.max())


def cells_of(model, method, pixels, target, layer):
    """The maps of a method before they are enlarged."""
    passes = SharedPasses(
        model, pixels, np.full(len(pixels), target), model.scores(pixels), wants=EXPLAINERS[method].wants, layer=layer
    )
    return EXPLAINERS[method].cells(passes.feature_maps(layer).astype(float), passes.feature_map_gradient(layer).astype(float))


def test_cam_is_grad_cam_times_the_cells_and_its_mean_is_the_logit():
    model = family("cnn")
    pixels = pixels_for(model, 3)
    found = asked(model, ("cam", "grad-cam", "hires-cam"), pixels, ("a", "b", "c"))
    np.testing.assert_allclose(found["cam"], 64 * found["grad-cam"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["hires-cam"], found["grad-cam"], rtol=1e-4, atol=1e-6)
    logits = np.log(model.scores(pixels))
    cells = [model.embed_with_maps(pixels[place : place + 1])[0] for place in range(3)]
    weight, bias = model.network.weights[0], model.network.biases[0]
    sums = [(cells[place] * weight[place][:, None, None]).sum(axis=0).mean() + bias[place] for place in range(3)]
    contrasts = [logits[place, place] - logits[place, (place + 1) % 3] for place in range(3)]
    others = [(cells[p] * weight[(p + 1) % 3][:, None, None]).sum(axis=0).mean() + bias[(p + 1) % 3] for p in range(3)]
    np.testing.assert_allclose(np.subtract(sums, others), contrasts, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cnn-hidden", "flatten pooling"),
        ("cnn-gelu", "max pooling"),
        ("vit-class", "no feature maps that are pooled alone"),
    ],
)
def test_cam_is_refused_where_it_is_not_defined(name, reason):
    with pytest.raises(UsageError, match=f"cam: needs feature maps that are averaged.*{reason}.*Use grad-cam"):
        asked(family(name), ("cam",), pixels_for(family(name)))


@pytest.mark.parametrize("name", ["cnn", "cnn-hidden", "mobilenet"])
@pytest.mark.parametrize("quantity", ["logit", "probability", "contrast"])
def test_the_closed_form_is_what_the_network_says(name, quantity):
    """The same maps, from the head's own gradient and from the graph."""
    model = family(name)
    pixels = pixels_for(model, 2)
    alone = asked(model, CAMS, pixels, ("a", "c"), quantity=quantity)
    together = asked(model, (*CAMS, "gradient"), pixels, ("a", "c"), quantity=quantity)
    for method in CAMS:
        scale = np.abs(alone[method]).max()
        np.testing.assert_allclose(together[method], alone[method], atol=2e-4 * scale, rtol=0, err_msg=method)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", CAMS)
@pytest.mark.parametrize("depth", [1, 4])
def test_they_agree_with_pytorch_grad_cam(method, depth):
    library = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    names = {"grad-cam": "GradCAM", "grad-cam-plus-plus": "GradCAMPlusPlus", "layer-cam": "LayerCAM", "hires-cam": "HiResCAM"}
    model = family("cnn-hidden")
    twin, pixels = torch_twin(model), pixels_for(model, 3)
    with getattr(library, names[method])(model=twin, target_layers=[twin[depth]]) as asking:
        expected = asking(input_tensor=network_graph(model.network).scaled(pixels), targets=[ClassifierOutputTarget(1)] * 3)
    relu = [layer.name for layer in network_layers(model.network).layers if layer.name.endswith("Relu")][depth // 3]
    for cells, theirs in zip(cells_of(model, method, pixels, 1, relu), expected, strict=True):
        enlarged = shown(resize_bilinear(shown(cells), height=32, width=32))
        # The library adds 1e-6 below the fraction of Grad-CAM++, which counts where gradients are small.
        np.testing.assert_allclose(enlarged, theirs, atol=1e-2 if method == "grad-cam-plus-plus" else 1e-3)
        assert theirs.max() > 0 or cells.max() <= 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("method", "library_name"), [("grad-cam", "GradCAM"), ("layer-cam", "LayerCAM")])
def test_they_agree_with_torchcam(method, library_name):
    library = pytest.importorskip("torchcam.methods")
    model = family("cnn-hidden")
    twin, pixels = torch_twin(model), pixels_for(model)
    relu = [layer.name for layer in network_layers(model.network).layers if layer.name.endswith("Relu")][1]
    compared = 0
    for target in range(3):
        with getattr(library, library_name)(twin, target_layer=twin[4]) as asking:
            (theirs,) = asking(target, twin(network_graph(model.network).scaled(pixels).requires_grad_()))
        (cells,) = cells_of(model, method, pixels, target, relu)
        np.testing.assert_allclose(shown(cells), np.squeeze(theirs.detach().numpy()), atol=3e-3)
        compared += cells.max() > 0
    assert compared


@pytest.mark.parametrize("name", ["vit-class", "vit-registers", "swin", "convnext", "transformer"])
@pytest.mark.parametrize("method", CAMS)
def test_token_networks_have_maps_of_their_own_tokens(name, method):
    model = family(name)
    pixels = pixels_for(model, 2)
    found = asked(model, (method,), pixels)[method]
    assert np.isfinite(found).all() and (np.abs(found).max(axis=(1, 2)) > 0).all()
    assert (np.ptp(found, axis=(1, 2)) > 0).all()


def test_hires_cam_before_the_head_adds_up_to_the_logit():
    """Of tokens that are averaged before a linear head, activations times gradient add up to the logit without its bias."""
    model = family("transformer")
    pixels = pixels_for(model, 2)
    passes = SharedPasses(
        model, pixels, np.array([0, 2]), model.scores(pixels), wants={"feature maps", "feature map gradient", "input gradient"}
    )
    sums = (passes.feature_maps() * passes.feature_map_gradient()).sum(axis=(1, 2, 3))
    graph = network_graph(model.network)
    logits = graph.run({"pixels": graph.scaled(pixels)})["logits"].numpy()[[0, 1], [0, 2]]
    np.testing.assert_allclose(sums, logits - model.network.biases[0][[0, 2]], rtol=1e-3, atol=1e-4)


def test_a_layer_is_chosen_by_name_and_recorded():
    model = family("vit-class")
    pixels = pixels_for(model)
    (one,) = explain_batch(model, pixels, (whole_image(32),), images=("x",), methods=("layer-cam",), layer="blocks.0.mlp.act")[
        "layer-cam"
    ]
    assert one.layer == "blocks.0.mlp.act.Gelu" and one.backward_passes == 1
    with pytest.raises(UsageError, match="layer: must be one of"):
        asked(model, ("layer-cam",), pixels, layer="nowhere")
    with pytest.raises(UsageError, match=r"layer: gradient does not explain by a layer. Leave it out, or use grad-cam or"):
        asked(model, ("gradient",), pixels, layer="blocks.0")
    averaged = family("mobilenet")
    with pytest.raises(UsageError, match=r"layer: cam does not explain by a layer. Leave it out, or use grad-cam or"):
        asked(averaged, ("cam",), pixels_for(averaged), layer="blocks.0")


def test_a_layer_that_the_logits_do_not_see_is_said():
    """After the last attention, patch tokens do not reach the class token any more."""
    model = family("vit-class")
    pixels = pixels_for(model)
    (one,) = explain_batch(model, pixels, (whole_image(32),), images=("x",), methods=("grad-cam",), layer="blocks.1.mlp")[
        "grad-cam"
    ]
    assert any("zero everywhere" in warning for warning in one.warnings)
    (fine,) = explain_batch(model, pixels, (whole_image(32),), images=("x",), methods=("grad-cam",))["grad-cam"]
    assert not any("zero everywhere" in warning for warning in fine.warnings)


def test_what_comes_before_a_layer_is_not_differentiated(monkeypatch):
    """Torch goes on from a late layer; of an early one it begins at the input, and records from the layer on."""
    model = family("cnn-hidden")
    pixels = pixels_for(model)
    graph = network_graph(model.network)
    assert network_layers(model.network).default is not None  # found before
    asked(model, ("gradient",), pixels)  # held against the package before, too
    begun = []
    before = graph.run

    def run(feeds, wanted=("logits",), **wishes):
        begun.append({name: value.requires_grad for name, value in feeds.items()})
        return before(feeds, wanted, **wishes)

    monkeypatch.setattr(graph, "run", run)
    asked(model, ("layer-cam",), pixels, layer="activations")
    assert begun.pop() == {"activations": True}
    asked(model, ("layer-cam",), pixels, layer=network_layers(model.network).layers[0].name)
    assert begun.pop() == {"pixels": False}
    asked(model, ("gradient",), pixels)
    assert begun.pop() == {"pixels": True} and not begun


@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "dense"])
@pytest.mark.parametrize("quantity", ["logit", "probability"])
def test_going_on_from_a_late_layer_gives_what_beginning_anew_gives(name, quantity, monkeypatch):
    model = family(name)
    pixels = pixels_for(model, 3)
    late = [layer.name for layer in network_layers(model.network).layers[-12::4]]
    methods = ("grad-cam", "layer-cam")
    for layer in dict.fromkeys(("", *late)):
        gone_on = asked(model, methods, pixels, ("a", "b", "a"), layer=layer, quantity=quantity)
        with monkeypatch.context() as patch:
            patch.setattr(passes_module, "LATE", -1.0)
            anew = asked(model, methods, pixels, ("a", "b", "a"), layer=layer, quantity=quantity)
        for method in methods:
            scale = np.abs(anew[method]).max() + 1e-12
            np.testing.assert_allclose(gone_on[method], anew[method], atol=1e-3 * scale, rtol=0, err_msg=f"{layer} {method}")


@pytest.mark.parametrize("method", ["cam", "grad-cam", "layer-cam"])
def test_scores_and_a_class_activation_map_cost_one_run_of_the_network(method, monkeypatch):
    model, runs = family("cnn"), []
    session = model.embedder._session

    class Counted:
        def run(self, outputs, inputs):
            runs.append(len(inputs["pixels"]))
            return session.run(outputs, inputs)

    monkeypatch.setitem(vars(model.embedder), "_session", Counted())
    pixels = pixels_for(model, 3)
    found = explain_batch(model, pixels, (whole_image(32),) * 3, images=("a", "b", "c"), methods=(method,))[method]
    assert runs == [3]
    np.testing.assert_array_equal([one.score for one in found], model.scores(pixels).max(axis=1))
