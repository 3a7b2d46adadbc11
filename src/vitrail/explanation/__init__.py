"""EXPLAIN: why an image got its score, as a signed map at the image's own geometry, with what makes it doubtful.

A method of explanation is one class in a file of this folder and one line in ``EXPLAINERS`` (``run_explain.py``).
"""

from vitrail.explanation.activation_maps import ActivationMaps
from vitrail.explanation.agreement import Agreement, agreement_of
from vitrail.explanation.attention import AttentionMap, AttentionRollout, GradientRollout
from vitrail.explanation.class_activation import GradCam, HiResCam
from vitrail.explanation.cost import ExplanationPlan, PlannedMethod, plan_methods, total_cost
from vitrail.explanation.explain_image import asked_models, explain_file, explain_image
from vitrail.explanation.explainer import Cost, ExplainableModel, Explainer, Passes, Question, Relevance, Want
from vitrail.explanation.occlusion import Occlusion
from vitrail.explanation.overview import draw_overview, write_overview
from vitrail.explanation.picture import colour_bar, draw_channels, draw_map, write_picture
from vitrail.explanation.rise import Rise
from vitrail.explanation.run_explain import (
    ALL,
    AUTO,
    EXPLAINERS,
    choose_methods,
    defined_methods,
    explain_batch,
    explain_pixels,
)
from vitrail.explanation.sheets import Sheet, attention_sheet, channel_sheet
from vitrail.explanation.shown import ShownExplanation, ShownExplanations
from vitrail.explanation.store import load_explanations, save_explanations, write_map, write_shares
from vitrail.explanation.superpixels import KernelShap, Lime
from vitrail.explanation.trees import TreeShap

__all__ = [
    "ALL",
    "AUTO",
    "EXPLAINERS",
    "ActivationMaps",
    "Agreement",
    "AttentionMap",
    "AttentionRollout",
    "Cost",
    "ExplainableModel",
    "Explainer",
    "ExplanationPlan",
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
    "ShownExplanations",
    "TreeShap",
    "Want",
    "agreement_of",
    "asked_models",
    "attention_sheet",
    "channel_sheet",
    "choose_methods",
    "colour_bar",
    "defined_methods",
    "draw_channels",
    "draw_map",
    "draw_overview",
    "explain_batch",
    "explain_file",
    "explain_image",
    "explain_pixels",
    "load_explanations",
    "plan_methods",
    "save_explanations",
    "total_cost",
    "write_map",
    "write_overview",
    "write_picture",
    "write_shares",
]
