import dataclasses

import numpy as np
import onnx
import pytest
from explanation_models import BrightnessNetwork, Keyhole, grey_recipe, whole_image
from sklearn.preprocessing import StandardScaler

from vitrail.errors import UsageError
from vitrail.explanation import Question, TreeShap, defined_methods, explain_batch, explain_pixels
from vitrail.explanation import trees as module
from vitrail.explanation.trees import read_trees, spread
from vitrail.models.embedders import DescriptorEmbedder
from vitrail.models.estimators import standardised, to_onnx
from vitrail.models.heads import EstimatorHead
from vitrail.models.package import open_model, save_package
from vitrail.records import Placement

SIZE = 16
SPOT = (slice(9, 13), slice(3, 7))
NAMES = ("no", "yes", "perhaps")


def pictures(count=160, classes=2, seed=0):
    """Noise; in ``yes`` a spot is bright, in ``perhaps`` it is dark."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(60, 160, (count, SIZE, SIZE, 1), dtype=np.uint8)
    labels = generator.integers(0, classes, count)
    for label, grey in ((1, 230), (2, 10)):
        pixels[(labels == label).nonzero()[0][:, np.newaxis, np.newaxis], np.mgrid[9:13, 3:7][0], np.mgrid[9:13, 3:7][1]] = grey
    return pixels, labels


def forest(seed=0, **changes):
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(**{"n_estimators": 25, "class_weight": "balanced", "random_state": seed, **changes})


def boosting():
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=15, max_leaf_nodes=5, min_samples_leaf=5, early_stopping=False)


def with_a_scaler(graph, scaler):
    """Return a graph with a scaler of scikit-learn before it."""
    model = onnx.load_model_from_string(graph)
    for node in model.graph.node:
        node.input[:] = ["scaled" if name == "X" else name for name in node.input]
    before = {"offset": scaler.mean_.astype(np.float32), "scale": (1 / scaler.scale_).astype(np.float32)}
    model.graph.node.insert(0, onnx.helper.make_node("Scaler", ["X"], ["scaled"], domain="ai.onnx.ml", **before))
    return model.SerializeToString()


def packed(folder, estimator, features=("pixels",), classes=2, components=None, plain=True):
    """Return a package of an estimator fitted on pictures, as it is read back, and the fitted estimator.

    ``plain``: the trees see the features as they are; else after a scaler, as those of packages before vitrail 0.2 do.
    """
    pixels, labels = pictures(classes=classes)
    embedder = DescriptorEmbedder(grey_recipe(SIZE), features)
    vectors = embedder.embed(pixels)
    after = standardised(vectors, components=components, seed=0) if components else None
    scaler = None if plain else StandardScaler().fit(vectors)
    seen = vectors if after is None else after.apply(vectors)
    fitted = estimator.fit(seen if scaler is None else scaler.transform(seen), labels)
    graph = to_onnx(fitted, seen.shape[1], after=after)
    save_package(
        folder,
        name="woods",
        family="forest",
        description="trees",
        classes=NAMES[:classes],
        embedder=embedder,
        head=EstimatorHead(graph if scaler is None else with_a_scaler(graph, scaler), 0.1),
        data_fingerprint="0",
        study_fingerprint="0",
    )
    return open_model(folder), fitted


def question(model, pixels, target=1, quantity="logit", placement=None):
    return Question(
        pixels,
        (placement or whole_image(SIZE),) * len(pixels),
        np.full(len(pixels), target),
        model.scores(pixels),
        quantity=quantity,
    )


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("target", [0, 1])
def test_values_of_a_forest_are_shaps_of_the_forest_it_was(tmp_path, classes, target):
    import shap

    model, fitted = packed(tmp_path / "p", forest(), classes=classes)
    pixels, _ = pictures(6, classes=classes, seed=1)
    found = TreeShap().relevance(model, question(model, pixels, target))
    reference = shap.TreeExplainer(fitted)
    expected = reference.shap_values(pixels.reshape(6, -1) / np.float32(255))[:, :, target]
    np.testing.assert_allclose(found.maps.reshape(6, -1), expected, rtol=0, atol=1e-6)
    assert found.quantity == "probability" and found.forward_passes == 1
    for number in range(6):
        assert found.details_of[number]["expected"] == pytest.approx(reference.expected_value[target], abs=1e-6)
        difference = model.scores(pixels)[number, target] - found.details_of[number]["expected"]
        assert found.maps[number].sum() == pytest.approx(difference, abs=1e-5)
    assert found.warnings == ((),) * 6


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("plain", [True, False])
def test_values_of_boosted_trees_sum_to_logits(tmp_path, classes, plain):
    model, _ = packed(tmp_path / "p", boosting(), classes=classes, plain=plain)
    pixels, _ = pictures(5, classes=classes, seed=1)
    scores = model.scores(pixels)
    sums = []
    for target in range(classes):
        found = TreeShap().relevance(model, question(model, pixels, target))
        assert found.quantity == "logit"
        sums.append(found.maps.sum(axis=(1, 2)) + [each["expected"] for each in found.details_of])
    answers = np.stack(sums, axis=1) if classes > 2 else np.stack([np.zeros(5), sums[1]], axis=1)
    raised = np.exp(answers - answers.max(axis=1, keepdims=True))
    np.testing.assert_allclose(raised / raised.sum(axis=1, keepdims=True), scores, atol=1e-5)
    if classes == 2:
        np.testing.assert_allclose(sums[0], -sums[1], atol=1e-6)

    contrast = TreeShap().relevance(model, question(model, pixels, 1, quantity="contrast"))
    others = np.delete(scores, 1, axis=1).max(axis=1)
    total = contrast.maps.sum(axis=(1, 2)) + [each["expected"] for each in contrast.details_of]
    np.testing.assert_allclose(total, np.log(scores[:, 1] / others), atol=1e-4)
    assert contrast.quantity == "contrast"


@pytest.mark.parametrize("features", [("hog", "pixels"), ("texture",), ("pixels", "texture", "hog")])
def test_the_map_and_what_has_no_place_sum_to_the_difference(tmp_path, features):
    model, _ = packed(tmp_path / "p", forest(), features=features)
    pixels, _ = pictures(4, seed=1)
    found = TreeShap().relevance(model, question(model, pixels))
    for number in range(4):
        bars = found.details_of[number]["values"]
        unplaced = sum(value for name, value in bars.items() if "whole image" in name or "pairs" in name)
        difference = model.scores(pixels)[number, 1] - found.details_of[number]["expected"]
        assert sum(bars.values()) == pytest.approx(difference, abs=1e-5)
        assert found.maps[number].sum() == pytest.approx(difference - unplaced, abs=1e-5)
        assert any("have no place" in text for text in found.warnings[number]) == ("texture" in features)


def test_cells_get_their_values_spread_over_their_pixels(tmp_path):
    model, _ = packed(tmp_path / "p", forest(), features=("hog",))
    parts = model.trees
    values = np.random.default_rng(0).normal(size=len(parts.places.boxes))
    drawn = spread(values, parts, SIZE)
    for row in range(8):
        for column in range(8):
            box = [2 * row, 2 * column, 2 * row + 2, 2 * column + 2]
            of_cell = values[(parts.places.boxes == box).all(axis=1)]
            assert len(of_cell) in (9, 18, 36)  # a corner is in one block, an edge in two, all else in four
            np.testing.assert_allclose(drawn[box[0] : box[2], box[1] : box[3]], of_cell.sum() / 4, atol=1e-12)


@pytest.mark.parametrize("features", [("pixels",), ("hog",)])
def test_the_spot_that_decides_is_found_in_the_original(tmp_path, features):
    model, _ = packed(tmp_path / "p", forest(n_estimators=60, max_features=0.3), features=features)
    pixels, labels = pictures(20, seed=2)
    pixels = pixels[labels == 1]
    placement = Placement(100, 120, 10, 20, 90, 100, 0, 0, SIZE, SIZE)
    found = explain_batch(
        model,
        pixels,
        (placement,) * len(pixels),
        images=["x"] * len(pixels),
        methods=("tree-shap",),
        targets=["yes"] * len(pixels),
    )["tree-shap"]
    mean = np.mean([one.map for one in found], axis=0)
    assert mean.shape == (100, 120)
    positive = np.clip(mean, 0, None)
    scale = 80 / SIZE
    margin = 2 if features == ("hog",) else 0
    top, left = int(10 + (9 - margin) * scale), int(20 + (3 - margin) * scale)
    bottom, right = int(10 + (13 + margin) * scale), int(20 + (7 + margin) * scale)
    assert positive[top:bottom, left:right].sum() > 0.8 * positive.sum()


def test_evidence_on_the_padding_is_told(tmp_path):
    model, _ = packed(tmp_path / "p", forest())
    pixels, _ = pictures(1, seed=3)
    half = Placement(80, 40, 0, 0, 80, 40, 0, 8, SIZE, SIZE)  # the spot lies on what is said to be padding
    found = TreeShap().relevance(model, question(model, pixels, placement=half))
    assert any("lies on the padding" in text for text in found.warnings[0])


def test_a_batch_of_one_equals_a_batch_of_many(tmp_path):
    model, _ = packed(tmp_path / "p", forest())
    pixels, _ = pictures(4, seed=3)
    together = TreeShap().relevance(model, question(model, pixels))
    for number in range(4):
        alone = TreeShap().relevance(model, question(model, pixels[number : number + 1]))
        np.testing.assert_array_equal(alone.maps[0], together.maps[number])


# ---------------------------------------------------------------------------------------------------- refusals


def refused(model, words):
    assert defined_methods(model)["tree-shap"]
    with pytest.raises(UsageError, match=words):
        explain_pixels(model, pictures(1)[0][0], whole_image(SIZE), image="x.png", method="tree-shap")


def test_models_without_trees_are_refused(tmp_path):
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    refused(Keyhole(size=SIZE), "tree-shap: needs trees on features of the image. keyhole has no trees. Use occlusion or rise")
    refused(BrightnessNetwork(size=SIZE), "brightness has no trees. Use grad-cam or .*occlusion or rise or lime or kernel-shap")
    model, _ = packed(tmp_path / "p", CalibratedClassifierCV(SVC(), cv=2, ensemble=False))
    refused(model, "woods: its head has no trees. Use occlusion")


def test_trees_on_principal_components_are_refused(tmp_path):
    model, _ = packed(tmp_path / "p", boosting(), components=5)
    refused(model, "mixtures of features .*principal components, which have no place in an image")


def test_trees_without_counts_of_training_images_are_refused(tmp_path):
    import onnx

    model, _ = packed(tmp_path / "p", forest())
    graph = onnx.load_from_string(model.head.graph)
    for attribute in graph.graph.node[0].attribute:
        if attribute.name == "nodes_hitrates":
            attribute.floats[:] = [1.0] * len(attribute.floats)
    old = type(model)(model.description, model.embedder, EstimatorHead(graph.SerializeToString(), 0.1))
    np.testing.assert_array_equal(old.scores(pictures(9)[0]), model.scores(pictures(9)[0]))
    refused(old, "do not say how many training images went through their nodes")


def test_the_missing_package_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    model, _ = packed(tmp_path / "p", forest())
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    refused(model, r'not both installed: pip install "vitrail\[trees\]"')


def test_views_of_a_package_are_not_mixed_up(tmp_path):
    model, _ = packed(tmp_path / "p", forest())
    turned = type(model)(dataclasses.replace(model.description, test_time_augmentation="mirror"), model.embedder, model.head)
    pixels, _ = pictures(1, seed=3)
    found = TreeShap().relevance(turned, question(turned, pixels))
    plain = TreeShap().relevance(model, question(model, pixels))
    np.testing.assert_array_equal(found.maps, plain.maps)


def test_the_trees_are_read_as_they_were_grown(tmp_path):
    model, fitted = packed(tmp_path / "p", forest(n_estimators=3), classes=3)
    arrays = read_trees(model.head.graph)
    for found, grown in zip(arrays.trees, fitted.estimators_, strict=True):
        np.testing.assert_array_equal(found["children_left"], grown.tree_.children_left)
        np.testing.assert_allclose(found["node_sample_weight"], grown.tree_.weighted_n_node_samples, rtol=1e-6)
        leaves = grown.tree_.children_left < 0
        np.testing.assert_allclose(found["values"][leaves] * 3, grown.tree_.value[leaves][:, 0], atol=1e-6)
