"""MODELS: what can be trained, and what a trained one is."""

from vitrail.models.catalogue import FAMILIES, check_model, describe, family_module, identity, stops_early
from vitrail.models.continued import check_continued_data, load_weights, save_weights
from vitrail.models.embedders import DescriptorEmbedder, Embedder, OnnxEmbedder
from vitrail.models.heads import DenseHead, EstimatorHead, Head
from vitrail.models.memory import training_bytes
from vitrail.models.package import ImagePrediction, ModelPackage, load_package, save_package

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
    "check_continued_data",
    "check_model",
    "describe",
    "family_module",
    "identity",
    "load_package",
    "load_weights",
    "save_package",
    "save_weights",
    "stops_early",
    "training_bytes",
]
