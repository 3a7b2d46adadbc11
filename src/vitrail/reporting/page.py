"""From a template to an HTML page that needs nothing from outside and believes no name."""

from __future__ import annotations

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
    environment = Environment(
        loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["counted"] = counted
    environment.globals["severity_words"] = SEVERITY_WORDS
    css = Markup((_FOLDER / "report.css").read_text(encoding="utf-8"))  # noqa: S704 - our own file
    return printable(environment.get_template(template).render({**content, "css": css}))
