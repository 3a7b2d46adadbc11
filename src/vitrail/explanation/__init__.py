"""EXPLAIN: why an image got its score, as a signed map at the image's own geometry, with what makes it doubtful.

A method of explanation is one class in a file of this folder and one line in ``EXPLAINERS`` (``run_explain.py``).
"""

from vitrail.explanation.activation_maps import ActivationMaps
from vitrail.explanation.attention import AttentionMap, AttentionRollout, GradientRollout
from vitrail.explanation.class_activation import GradCam, HiResCam
from vitrail.explanation.explain_image import explain_file, explain_image, methods_of
from vitrail.explanation.explainer import Cost, ExplainableModel, Explainer, Passes, Question, Relevance, Want
from vitrail.explanation.occlusion import Occlusion
from vitrail.explanation.picture import draw_channels, draw_map, write_picture
from vitrail.explanation.rise import Rise
from vitrail.explanation.run_explain import (
    ALL,
    AUTO,
    EXPLAINERS,
    PlannedMethod,
    choose_methods,
    defined_methods,
    explain_batch,
    explain_pixels,
    plan_methods,
    total_cost,
)
from vitrail.explanation.sheets import Sheet, attention_sheet, channel_sheet
from vitrail.explanation.shown import ShownExplanation
from vitrail.explanation.store import load_explanations, save_explanations, write_map
from vitrail.explanation.superpixels import KernelShap, Lime
from vitrail.explanation.trees import TreeShap

__all__ = [
    "ALL",
    "AUTO",
    "EXPLAINERS",
    "ActivationMaps",
    "AttentionMap",
    "AttentionRollout",
    "Cost",
    "ExplainableModel",
    "Explainer",
    "GradCam",
    "GradientRollout",
    "HiResCam",
    "KernelShap",
    "Lime",
    "Occlusion",
    "Passes",
    "PlannedMethod",
    "Question",
    "Relevance",
    "Rise",
    "Sheet",
    "ShownExplanation",
    "TreeShap",
    "Want",
    "attention_sheet",
    "channel_sheet",
    "choose_methods",
    "defined_methods",
    "draw_channels",
    "draw_map",
    "explain_batch",
    "explain_file",
    "explain_image",
    "explain_pixels",
    "load_explanations",
    "methods_of",
    "plan_methods",
    "save_explanations",
    "total_cost",
    "write_map",
    "write_picture",
]
