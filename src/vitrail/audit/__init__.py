"""AUDIT: what is wrong with a data set, before anything is trained on it.

A check is one class in the file of its family, named in :data:`CHECKS`.
"""

from vitrail.audit.check import AuditContext, Check, NotApplicable
from vitrail.audit.explain import explain_check
from vitrail.audit.groups import exact_groups, unite
from vitrail.audit.run_audit import CHECKS, ask, check_acceptances, enforce, judge, load_libraries, run_audit, summary

__all__ = [
    "CHECKS",
    "AuditContext",
    "Check",
    "NotApplicable",
    "ask",
    "check_acceptances",
    "enforce",
    "exact_groups",
    "explain_check",
    "judge",
    "load_libraries",
    "run_audit",
    "summary",
    "unite",
]
