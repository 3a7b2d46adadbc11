"""MODELS: what can be trained, and what a trained one is."""

from vitrail.models.answering import ImagePrediction, Package, WeightedModel, weighted_mean
from vitrail.models.catalogue import FAMILIES, check_model, describe, family_module, identity, stops_early
from vitrail.models.continued import check_continued_data, load_weights, save_weights
from vitrail.models.embedders import DescriptorEmbedder, Embedder, OnnxEmbedder
from vitrail.models.ensemble import describe_weights, members_of
from vitrail.models.ensemble_package import EnsemblePackage, save_ensemble
from vitrail.models.heads import DenseHead, EstimatorHead, Head
from vitrail.models.loading import load_package
from vitrail.models.memory import training_bytes
from vitrail.models.package import ModelPackage, save_package

__all__ = [
    "FAMILIES",
    "DenseHead",
    "DescriptorEmbedder",
    "Embedder",
    "EnsemblePackage",
    "EstimatorHead",
    "Head",
    "ImagePrediction",
    "ModelPackage",
    "OnnxEmbedder",
    "Package",
    "WeightedModel",
    "check_continued_data",
    "check_model",
    "describe",
    "describe_weights",
    "family_module",
    "identity",
    "load_package",
    "load_weights",
    "members_of",
    "save_ensemble",
    "save_package",
    "save_weights",
    "stops_early",
    "training_bytes",
    "weighted_mean",
]
