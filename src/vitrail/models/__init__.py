"""MODELS: what can be trained, and what a trained one is."""

from vitrail.models.catalogue import FAMILIES, check_model, describe, family_module, identity
from vitrail.models.embedders import DescriptorEmbedder, Embedder, OnnxEmbedder
from vitrail.models.heads import DenseHead, Head, TreesHead
from vitrail.models.package import ImagePrediction, ModelPackage, load_package, save_package

__all__ = [
    "FAMILIES",
    "DenseHead",
    "DescriptorEmbedder",
    "Embedder",
    "Head",
    "ImagePrediction",
    "ModelPackage",
    "OnnxEmbedder",
    "TreesHead",
    "check_model",
    "describe",
    "family_module",
    "identity",
    "load_package",
    "save_package",
]
