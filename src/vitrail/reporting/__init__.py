"""REPORT: a finished run, or an audit alone, as one HTML file for a student, a data scientist and a clinician.

Plotting happens in this room and nowhere else. What draws loads when it is first used: the page of an audit, which has no
figures, needs no plotting library.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from vitrail.reporting.audit_page import compile_audit_page, write_audit_page

if TYPE_CHECKING:
    from vitrail.reporting.comparison_page import write_comparison
    from vitrail.reporting.report import figure_files, write_report

__all__ = ["compile_audit_page", "figure_files", "write_audit_page", "write_comparison", "write_report"]

_HOMES = {"figure_files": "report", "write_report": "report", "write_comparison": "comparison_page"}


def __getattr__(name: str) -> object:
    """Load what needs the plotting library when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"vitrail.reporting.{_HOMES[name]}"), name)
