"""From a template to an HTML page that needs nothing from outside and believes no name."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vitrail.reporting.findings import SEVERITY_WORDS
from vitrail.reporting.wording import counted, printable

_FOLDER = Path(__file__).parent


def render(template: str, content: Mapping[str, object]) -> str:
    """Return a page: the template filled with ``content``, every value escaped, because names of files come from strangers.

    Args:
        template: Name of a template of this folder.
        content: What it names. ``Markup`` among it must be HTML of our own.
    """
    css = Markup((_FOLDER / "report.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    return printable(_environment().get_template(template).render({**content, "css": css}))


def compile_templates(*templates: str) -> None:
    """Compile templates before they are needed: it takes as long as to fill them, and can be done while others work."""
    for template in templates:
        _environment().get_template(template)


@functools.cache
def _environment() -> Environment:
    """Return what holds the compiled templates."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["counted"] = counted
    environment.globals["severity_words"] = SEVERITY_WORDS
    return environment
