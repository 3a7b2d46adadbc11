"""Support vector machine on hand-made features (Cortes & Vapnik 1995): the widest margin between the classes."""

from __future__ import annotations

import numpy as np

from vitrail.errors import VitrailError
from vitrail.models.embedders import DescriptorEmbedder
from vitrail.models.estimators import feature_names, standardised
from vitrail.models.heads import EstimatorHead
from vitrail.models.svm_graph import svm_to_onnx
from vitrail.records import FloatArray, IntArray, Recipe
from vitrail.study import SvmSettings

FOLDS = 5
"""Parts of the training images for the calibration of the scores; fewer where a class has fewer images."""


def embedder(settings: SvmSettings, recipe: Recipe) -> DescriptorEmbedder:
    """Return the descriptors that the support vector machine is fitted on."""
    return DescriptorEmbedder(recipe, settings.features)


def describe(settings: SvmSettings) -> str:
    """Return one line for tables."""
    kernel = {"rbf": "RBF", "linear": "linear"}[settings.kernel]
    return f"support vector machine, {kernel} kernel on {feature_names(settings.features, settings.components)}"


def fit(
    settings: SvmSettings, embedding: FloatArray, labels: IntArray, *, groups: IntArray, class_weights: bool, seed: int
) -> tuple[EstimatorHead, int]:
    """Fit the support vector machine and calibrate its scores.

    It gives distances, not probabilities. A sigmoid per class turns them into scores (Platt 1999), which are then scaled
    to sum to 1. Sigmoids are fitted on distances of training images, each from a fit that saw neither the image nor its group:
    cross-validation on the training images alone, stratified by class. Else scores would be surer than they should be.

    Args:
        settings: Kernel, C and so on.
        embedding: float32, shape (n, dimension).
        labels: Class indices 0..classes-1, at least two groups of every class, shape (n,).
        groups: Group number per image, shape (n,): copies of an image, turned ones too, and images of a patient share it.
        class_weights: Weight images so that every class counts the same, in the fit and in its calibration.
        seed: Same seed, same fit.

    Returns:
        The head, and the number of values that were fitted: support vectors, their coefficients, offsets and sigmoids.

    Raises:
        VitrailError: A class has a single group.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.svm import SVC
    from sklearn.utils.class_weight import compute_sample_weight

    fewest = int(np.bincount(np.unique(np.stack([labels, groups]), axis=1)[0]).min())
    if fewest < 2:
        raise VitrailError(
            f"models.{settings.name or 'svm'}: a support vector machine needs at least 2 independent training images of every "
            f"class to calibrate its scores. Found: {fewest}. Add images of the smallest class, or use the family forest."
        )
    svm = SVC(C=settings.C, kernel=settings.kernel, gamma=settings.gamma)
    folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=seed)
    parts = list(folds.split(embedding, labels, groups))
    before = standardised(embedding, components=settings.components, seed=seed)
    calibrated = CalibratedClassifierCV(svm, method="sigmoid", cv=parts, ensemble=False)
    weights = compute_sample_weight("balanced" if class_weights else None, labels)
    calibrated.fit(before.apply(embedding), labels, sample_weight=weights)

    fitted = calibrated.calibrated_classifiers_[0]
    values = sum(
        part.size for part in (fitted.estimator.support_vectors_, fitted.estimator.dual_coef_, fitted.estimator.intercept_)
    )
    return EstimatorHead(svm_to_onnx(calibrated, before), step=0.0), values + 2 * len(fitted.calibrators)
