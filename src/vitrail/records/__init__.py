"""What rooms hand to one another: frozen, plain, saved whole.

The data flows one way: ``Manifest`` (images in) -> ``AuditReport`` -> ``Split`` -> ``Recipe`` (preprocess) -> ``Training``
-> ``Predictions`` -> ``Evaluation`` -> ``Explanation`` -> the report. Nothing here computes; nothing here imports a room.
Per-image columns of one manifest always have the same length and order as ``Manifest.files``.
"""

from vitrail.records.auditing import AuditReport, CheckOutcome, Evidence, Finding
from vitrail.records.evaluation import Difference, Estimate, Evaluation, Predictions, Scores
from vitrail.records.explanation import (
    Explanation,
    FeaturePlaces,
    GradeTable,
    Intervention,
    LocalisationGrade,
    MapAgreement,
    MapGrade,
    MethodGrade,
    NetworkParts,
    RandomisationTest,
    RegionShare,
    ShortcutHunt,
    TreeParts,
)
from vitrail.records.images import ImageFile, Manifest
from vitrail.records.preparing import Placement, Recipe
from vitrail.records.run import ModelResult, Provenance, RunResult
from vitrail.records.splitting import Split
from vitrail.records.training import Choice, Computation, Continuation, Energy, Epoch, Member, Training
from vitrail.records.types import QUANTITIES, ByteArray, FileStatus, FloatArray, IntArray, Part, Quantity, Severity

__all__ = [
    "QUANTITIES",
    "AuditReport",
    "ByteArray",
    "CheckOutcome",
    "Choice",
    "Computation",
    "Continuation",
    "Difference",
    "Energy",
    "Epoch",
    "Estimate",
    "Evaluation",
    "Evidence",
    "Explanation",
    "FeaturePlaces",
    "FileStatus",
    "Finding",
    "FloatArray",
    "GradeTable",
    "ImageFile",
    "IntArray",
    "Intervention",
    "LocalisationGrade",
    "Manifest",
    "MapAgreement",
    "MapGrade",
    "Member",
    "MethodGrade",
    "ModelResult",
    "NetworkParts",
    "Part",
    "Placement",
    "Predictions",
    "Provenance",
    "Quantity",
    "RandomisationTest",
    "Recipe",
    "RegionShare",
    "RunResult",
    "Scores",
    "Severity",
    "ShortcutHunt",
    "Split",
    "Training",
    "TreeParts",
]
