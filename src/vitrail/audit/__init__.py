"""AUDIT: what is wrong with a data set, before anything is trained on it.

A check is one class in the file of its family, named in :data:`CHECKS`.
"""

from vitrail.audit.check import AuditContext, Check, NotApplicable
from vitrail.audit.groups import exact_groups, unite
from vitrail.audit.run_audit import CHECKS, check_acceptances, enforce, run_audit, summary

__all__ = [
    "CHECKS",
    "AuditContext",
    "Check",
    "NotApplicable",
    "check_acceptances",
    "enforce",
    "exact_groups",
    "run_audit",
    "summary",
    "unite",
]
