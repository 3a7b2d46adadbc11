from dataclasses import dataclass, field

import numpy as np
import pytest
from explanation_models import BrightnessNetwork, grey_recipe, whole_image
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vitrail.errors import PackageError
from vitrail.explanation import explain_pixels
from vitrail.explanation.class_activation import resize_bilinear

SIZE, CELLS, CHANNELS = 24, 6, 5


@dataclass
class HiddenLayerNetwork:
    """A seeded torch network: convolution, pooling, one hidden dense layer. The head's gradient is written out by hand."""

    pooling: str
    seed: int = 5
    name: str = "tiny"
    classes: tuple[str, ...] = ("a", "b", "c")
    network = None
    fingerprint = ""
    recipe: object = field(default_factory=lambda: grey_recipe(SIZE))

    def __post_init__(self):
        torch = pytest.importorskip("torch")
        generator = torch.Generator().manual_seed(self.seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64) * 0.5

        width = CHANNELS * CELLS * CELLS if self.pooling == "flatten" else CHANNELS
        self.torch = torch
        self.filters, self.hidden, self.out = draw(CHANNELS, 1, 4, 4), draw(7, width), draw(3, 7)

    def activations(self, pixels):
        inputs = self.torch.from_numpy(pixels.astype(np.float64) / 255).permute(0, 3, 1, 2)
        return self.torch.relu(self.torch.nn.functional.conv2d(inputs, self.filters, stride=4))

    def pooled(self, activations):
        if self.pooling == "flatten":
            return activations.flatten(1)
        return activations.mean(dim=(2, 3)) if self.pooling == "average" else activations.amax(dim=(2, 3))

    def logits(self, activations):
        return self.torch.relu(self.pooled(activations) @ self.hidden.T) @ self.out.T

    def scores(self, pixels):
        return self.logits(self.activations(pixels)).softmax(dim=1).numpy()

    def embed_with_maps(self, pixels):
        activations = self.activations(pixels)
        return activations[0].float().numpy(), self.pooled(activations)[0].float().numpy()

    def embedding_gradient(self, embedding, target):
        hidden, out = self.hidden.numpy(), self.out.numpy()
        return ((out[target] * (hidden @ embedding > 0)) @ hidden).astype(np.float32)


def autograd_answer(network, pixels, target):
    """Activations, gradient by back-propagation, and torch's own enlargement."""
    torch = network.torch
    activations = network.activations(pixels[np.newaxis]).requires_grad_()
    (gradient,) = torch.autograd.grad(network.logits(activations)[0, target], activations)
    return activations.detach(), gradient


def enlarge(torch, cells):
    return torch.nn.functional.interpolate(cells, size=(SIZE, SIZE), mode="bilinear", align_corners=False)[0, 0].numpy()


@pytest.mark.parametrize("pooling", ["average", "max", "flatten"])
@pytest.mark.parametrize("target", [0, 2])
def test_both_maps_agree_with_backpropagation_through_a_hidden_layer(pooling, target):
    network = HiddenLayerNetwork(pooling)
    pixels = np.random.default_rng(3).integers(0, 256, (SIZE, SIZE, 1), dtype=np.uint8)
    activations, gradient = autograd_answer(network, pixels, target)
    grad_cam = (gradient.mean(dim=(2, 3), keepdim=True) * activations).sum(dim=1, keepdim=True)
    hires_cam = (gradient * activations).sum(dim=1, keepdim=True)
    assert gradient.abs().max() > 0
    for method, expected in (("grad-cam", grad_cam), ("hires-cam", hires_cam)):
        found = explain_pixels(network, pixels, whole_image(SIZE), image="x.png", method=method, target=network.classes[target])
        np.testing.assert_allclose(found.map, enlarge(network.torch, expected), rtol=1e-4, atol=1e-6)


def test_cells_that_share_the_maximum_share_its_gradient():
    network = HiddenLayerNetwork("max")
    pixels = np.full((SIZE, SIZE, 1), 180, dtype=np.uint8)  # every cell of a map is equal
    activations, gradient = autograd_answer(network, pixels, 1)
    found = explain_pixels(network, pixels, whole_image(SIZE), image="x.png", method="hires-cam", target="b")
    expected = enlarge(network.torch, (gradient * activations).sum(dim=1, keepdim=True))
    np.testing.assert_allclose(found.map, expected, rtol=1e-4, atol=1e-6)


def test_with_average_pooling_and_a_linear_head_it_is_the_class_activation_map():
    network = BrightnessNetwork()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 1), dtype=np.uint8)
    found = explain_pixels(network, pixels, whole_image(32), image="x.png", target="yes")
    cells = np.tensordot(network.head[1], network.maps(pixels[np.newaxis])[0], axes=1) / network.cells**2
    assert found.method == "grad-cam"
    np.testing.assert_allclose(found.map, resize_bilinear(cells, height=32, width=32), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        found.map, explain_pixels(network, pixels, whole_image(32), image="x.png", method="hires-cam", target="yes").map
    )


def test_evidence_against_the_class_keeps_its_sign():
    pixels = np.zeros((32, 32, 1), dtype=np.uint8)
    pixels[:, 16:] = 255
    found = explain_pixels(BrightnessNetwork(), pixels, whole_image(32), image="x.png", target="yes")
    assert (found.map[:, :12] < 0).all() and (found.map[:, 20:] > 0).all()


@pytest.mark.parametrize(("cells", "coarse"), [(8, True), (16, False)])
def test_coarse_maps_say_how_coarse_they_are(cells, coarse):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 1), dtype=np.uint8)
    found = explain_pixels(BrightnessNetwork(cells=cells), pixels, whole_image(32), image="x.png")
    assert any("8 x 8 cells, each covers 4 x 4 pixels" in warning for warning in found.warnings) is coarse
    assert found.parameters["rows"] == cells


def test_a_gradient_that_does_not_fit_the_maps_is_refused():
    network = BrightnessNetwork(pooling="flatten")  # its embedding is one value per map
    with pytest.raises(PackageError, match="brightness: activations of shape \\(2, 8, 8\\) with flatten pooling"):
        explain_pixels(network, np.zeros((32, 32, 1), np.uint8), whole_image(32), image="x.png")


@given(
    cells=arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-100, 100)),
    height=st.integers(9, 40),
    width=st.integers(9, 40),
)
def test_enlarging_agrees_with_torch_and_never_overshoots(cells, height, width):
    torch = pytest.importorskip("torch")
    found = resize_bilinear(cells, height=height, width=width)
    tensor = torch.from_numpy(cells)[None, None]
    expected = torch.nn.functional.interpolate(tensor, size=(height, width), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(found, expected[0, 0].numpy(), rtol=1e-5, atol=1e-4)
    assert found.min() >= np.float32(cells.min()) - 1e-4 and found.max() <= np.float32(cells.max()) + 1e-4
