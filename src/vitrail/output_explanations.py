"""What ``vitrail explain`` prints for people: what the maps will cost, where they are and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vitrail.explanation import PlannedMethod, total_cost
from vitrail.output import result_console


def tell_explanation_plan(planned: Sequence[PlannedMethod], seconds: float) -> None:
    """Print what methods of explanation will cost per image, before they run; on standard error, as it is no result.

    Args:
        planned: The methods.
        seconds: One forward pass of one image; a backward pass counts as two.
    """
    console = Console(stderr=True)
    table = Table(title="Passes per image", title_justify="left", title_style="bold")
    for column in ("Method", "forward", "backward", "about"):
        table.add_column(column, justify="left" if column == "Method" else "right")
    for one in planned:
        if not one.refusal:
            about = f"{(one.forward + 2 * one.backward) * seconds:.1f} s"
            table.add_row(one.method, f"{one.forward:g}", f"{one.backward:g}", "shared" if one.shared else about)
    forward, backward = total_cost(planned)
    table.add_section()
    table.add_row("together", f"{forward:g}", f"{backward:g}", f"{(forward + 2 * backward) * seconds:.1f} s")
    console.print(table)
    for one in planned:
        if one.refusal:
            console.print(f"{one.method}: not defined. {escape(one.refusal)}", highlight=False)


def print_explanations(answers: Sequence[dict[str, Any]]) -> None:
    """Print where the maps are and what makes them doubtful; images that could not be read go to standard error."""
    console, errors = result_console(), Console(stderr=True, soft_wrap=True, highlight=False)
    for answer in answers:
        if "error" in answer:
            errors.print(escape(f"{answer['image']}: {answer['error']}"))
        elif "refused" not in answer:
            line = f"{answer['image']}: {answer['method']} for {answer['target']} -> {answer['picture']}"
            console.print(escape(line), soft_wrap=True)
            if "chosen" in answer["parameters"]:
                console.print(escape(f"  chosen {answer['parameters']['chosen']}"), soft_wrap=True)
            for warning in answer["warnings"]:
                console.print(escape(f"  note: {warning}"), soft_wrap=True)
            if answer.get("grade") and answer["grade"]["reason"]:
                console.print(escape(f"  drawn in grey: {answer['grade']['reason']}"), soft_wrap=True)
