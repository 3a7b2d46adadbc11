"""REPORT: a finished run as one HTML file for a student, a data scientist and a clinician; the figures for tracking.

Plotting happens in this room and nowhere else.
"""

from vitrail.reporting.report import figure_files, write_report

__all__ = ["figure_files", "write_report"]
