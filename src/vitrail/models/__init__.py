"""MODELS: what can be trained, and what a trained one is."""

from vitrail.models.answering import ImagePrediction, Package, Part, weighted_mean
from vitrail.models.catalogue import FAMILIES, check_model, describe, family_module, identity, stops_early
from vitrail.models.embedders import DescriptorEmbedder, Embedder, OnnxEmbedder
from vitrail.models.heads import DenseHead, EstimatorHead, Head
from vitrail.models.loading import load_package
from vitrail.models.package import ModelPackage, save_package

__all__ = [
    "FAMILIES",
    "DenseHead",
    "DescriptorEmbedder",
    "Embedder",
    "EstimatorHead",
    "Head",
    "ImagePrediction",
    "ModelPackage",
    "OnnxEmbedder",
    "Package",
    "Part",
    "check_model",
    "describe",
    "family_module",
    "identity",
    "load_package",
    "save_package",
    "stops_early",
    "weighted_mean",
]
