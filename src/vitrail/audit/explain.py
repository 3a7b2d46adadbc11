"""What the codes of the audit mean, for people who meet one for the first time."""

from __future__ import annotations

import re
import textwrap

from vitrail.audit.check import Check
from vitrail.audit.run_audit import CHECKS
from vitrail.errors import UsageError


def explain_check(code: str, *, width: int = 88) -> str:
    """Return what a check looks for and why, as text for a terminal; ``all``: the list of all checks.

    Args:
        code: Code of a check, in any case, or ``all``.
        width: Longest line in characters.

    Raises:
        UsageError: No check has this code; the message lists all.
    """
    wished = code.strip().upper()
    if wished == "ALL":
        return list_checks()
    check = _checks().get(wished)
    if check is None:
        raise UsageError(f"{code!r}: no check has this code. Known:\n\n{list_checks()}")
    lines = [f"{check.code}  {check.title}", "", "Why it matters", _filled(check.why, width), "", "What it means"]
    lines.append("\n\n".join(_filled(paragraph, width) for paragraph in paragraphs(check.explanation)))
    return "\n".join(lines)


def list_checks() -> str:
    """Return the codes of all checks with their titles, a line each."""
    checks = _checks().values()
    longest = max(len(check.code) for check in checks)
    return "\n".join(f"{check.code:<{longest}}  {check.title}" for check in sorted(checks, key=lambda check: check.code))


def explanation_of(code: str) -> tuple[str, ...]:
    """Return the paragraphs that explain a check to a beginner; none when no check has the code."""
    check = _checks().get(code)
    return paragraphs(check.explanation) if check is not None else ()


def paragraphs(text: str) -> tuple[str, ...]:
    """Return the paragraphs of a text, which blank lines part; other line breaks and indentation mean nothing."""
    pieces = (" ".join(piece.split()) for piece in re.split(r"\n\s*\n", text))
    return tuple(piece for piece in pieces if piece)


def _checks() -> dict[str, Check]:
    return {check.code: check for check in CHECKS}


def _filled(text: str, width: int) -> str:
    return textwrap.fill(text, width, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
