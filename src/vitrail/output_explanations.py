"""What ``vitrail explain`` prints for people: what the maps will cost, where they are and how far they can be trusted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vitrail.explanation import ExplanationPlan
from vitrail.explanation.cost import pass_units
from vitrail.explanation.grading.one_map import NEEDED
from vitrail.output import in_words, result_console
from vitrail.records import Estimate


def tell_explanation_plan(plan: ExplanationPlan, per_pass: float, images: int) -> None:
    """Print what explaining will cost, before it begins; on standard error, as it is no result.

    Args:
        plan: What one image takes.
        per_pass: Seconds of one forward pass of one image.
        images: How many will be explained.
    """
    from vitrail.planning.budget import spoken

    console = Console(stderr=True)
    total = f"{spoken(plan.seconds(per_pass) * images)} for {images:,} image{'s' if images != 1 else ''}"
    if len(plan.methods) == 1:
        (one,) = plan.methods
        grading = f" and up to {plan.grading_passes:,} to grade it (--no-grade leaves them out)" if plan.grading_passes else ""
        passes = round(pass_units(one.forward, one.backward))
        line = f"{one.method}: {passes:,} {'pass' if passes == 1 else 'passes'} for a map{grading}. About {total}."
        console.print(escape(line), highlight=False, soft_wrap=True)
        return
    table = Table(title="Passes per image", title_justify="left", title_style="bold")
    for column in ("Method", "forward", "backward", "about"):
        table.add_column(column, justify="left" if column == "Method" else "right")
    for one in plan.methods:
        if not one.refusal:
            about = f"{pass_units(one.forward, one.backward) * per_pass:.1f} s"
            table.add_row(one.method, f"{one.forward:g}", f"{one.backward:g}", "shared" if one.shared else about)
    if plan.grading_passes:
        table.add_row("grades of the maps", f"{plan.grading_passes}", "0", f"{plan.grading_passes * per_pass:.1f} s")
    forward, backward = plan.passes
    table.add_section()
    table.add_row("together", f"{forward:g}", f"{backward:g}", f"{plan.seconds(per_pass):.1f} s")
    console.print(table)
    if images > 1:
        console.print(f"About {total}.", highlight=False)
    for one in plan.methods:
        if one.refusal:
            console.print(f"{one.method}: not defined. {escape(one.refusal)}", highlight=False)


def print_explanations(answers: Sequence[dict[str, Any]]) -> None:
    """Print where the maps are and what makes them doubtful; images that could not be read go to standard error.

    Several maps of an image stand in one table with the grade of each.
    """
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    console = result_console()
    # A file that is given twice has two overviews, or two sheets: its maps are told twice.
    for (image, _), entries in itertools.groupby(
        answers, key=lambda answer: (str(answer["image"]), answer["overview"] or answer["picture"])
    ):
        made = []
        for answer in entries:
            if "error" in answer:
                errors.print(escape(f"{image}: {answer['error']}"))
            elif "refused" not in answer:
                made.append(answer)
        if len(made) == 1:
            _print_one(console, made[0])
        elif made:
            _print_several(console, image, made)


def _print_one(console: Console, answer: dict[str, Any]) -> None:
    """Print one map of an image, in lines."""
    line = f"{answer['image']}: {answer['method']} for {answer['target']} -> {answer['picture']}"
    console.print(escape(line), soft_wrap=True)
    if "chosen" in answer["parameters"]:
        console.print(escape(f"  chosen {answer['parameters']['chosen']}"), soft_wrap=True)
    for warning in answer["warnings"]:
        console.print(escape(f"  note: {warning}"), soft_wrap=True)
    if answer.get("grade") and answer["grade"]["reason"]:
        console.print(escape(f"  drawn in grey: {answer['grade']['reason']}"), soft_wrap=True)
    if answer.get("overview"):
        console.print(escape(f"  with titles and colour bar: {answer['overview']}"), soft_wrap=True)
    if answer.get("sheet"):
        console.print(escape(f"  single channels: {answer['sheet']}"), soft_wrap=True)


def _print_several(console: Console, image: str, answers: Sequence[dict[str, Any]]) -> None:
    """Print all maps of an image: a table of their grades, what is doubtful about them, and where they are."""
    first = answers[0]
    console.print(escape(f"{image}: {len(answers)} maps for {first['target']} (score {first['score']:.2f})"), soft_wrap=True)
    if any(answer["grade"] for answer in answers):
        console.print(_table_of_grades(answers))
    for note in _notes(answers):
        console.print(escape(f"  {note}"), soft_wrap=True)
    if first["agreement"]:
        console.print(escape(f"  {first['agreement']['words']}"), soft_wrap=True)
    console.print(escape(f"  all side by side: {first['overview']}"), soft_wrap=True)
    console.print(escape(f"  each alone: {Path(first['picture']).parent}/"), soft_wrap=True)


def _table_of_grades(answers: Sequence[dict[str, Any]]) -> Table:
    """Return the grade of each method on other images, and of each map on this one."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("Method", "Gain", "Baselines", "Random maps", "Drawn"):
        justify: Literal["left", "right"] = "right" if column in ("Gain", "Random maps") else "left"
        table.add_column(column, justify=justify, no_wrap=column in ("Method", "Gain", "Baselines"))
    for answer in answers:
        grade = answer["grade"]
        if grade is None:
            table.add_row(answer["method"], "not graded", "", "", "colour")
            continue
        gain = "not graded" if grade["method_gain"] is None else in_words(Estimate(**grade["method_gain"]))
        count = len(grade["random_gains"])
        drawn = "[yellow]grey[/]" if grade["reason"] else "colour"
        beaten = "not graded" if grade["share_beaten"] is None else f"{grade['share_beaten'] * count:g} of {count}"
        baselines = {"yes": "beaten", "no": "not beaten"}.get(grade["method_beats_baselines"], grade["method_beats_baselines"])
        table.add_row(answer["method"], gain, baselines, beaten, drawn)
    table.caption_justify = "left"
    known = [answer["grade"]["method_gain"]["n"] for answer in answers if answer["grade"] and answer["grade"]["method_gain"]]
    table.caption = (
        f"Gain: SRG, 95 % interval, on {max(known, default=0):,} other images of this model. Grey: the map does not hold what it "
        f"says, as the method does not beat its baselines there, or this map fewer than {NEEDED} random maps of the image."
    )
    return table


def _notes(answers: Sequence[dict[str, Any]]) -> list[str]:
    """Return what is doubtful about the maps, each once: of all of them, or under the names of the methods it concerns."""
    concerned: dict[str, list[str]] = {}
    for answer in answers:
        for warning in answer["warnings"]:
            concerned.setdefault(warning, []).append(answer["method"])
    return [
        f"note: {warning}" if len(methods) == len(answers) else f"note: {', '.join(methods)}: {warning}"
        for warning, methods in concerned.items()
    ]
