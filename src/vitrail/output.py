"""What the command line prints: one JSON object (a contract that later versions only add to), or tables for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from vitrail.audit import summary
from vitrail.decision import Decision
from vitrail.evaluation import MEANING, held_against_baselines, leaderboard_row
from vitrail.models import ImagePrediction
from vitrail.records import AuditReport, Estimate, Evaluation, Finding, Manifest, RunResult
from vitrail.storage import record_to_plain

if TYPE_CHECKING:  # the demonstration needs the training install, predictions do not
    from vitrail.audit_folder import AuditPaths
    from vitrail.comparing import ComparisonResult
    from vitrail.demo import Verdict
    from vitrail.planning import Plan
    from vitrail.promotion import Promotion
    from vitrail.search import Nested
    from vitrail.search_folder import SearchResult

COLOURS = {"error": "bold red", "warning": "yellow", "info": "cyan"}
WIDE = 72
"""Columns from which on findings are printed as a table."""
MOST_CLASSES = 30


class _Console(Console):
    """Standard output. Names of files may hold anything: no guessing of numbers, paths or emoji in them."""

    def __init__(self) -> None:
        super().__init__(highlight=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Leave it to the command line, which ends quietly; rich would end the programme by itself."""
        raise BrokenPipeError


def result_console() -> Console:
    """Return standard output as results are printed to it: names of files as they are, at the width of the terminal."""
    return _Console()


def run_summary(result: RunResult) -> dict[str, Any]:
    """Return what ``vitrail run --json`` prints."""
    leaderboard: list[dict[str, Any]] = []
    for model in result.models:
        row: dict[str, Any] = {"model": model.name, "test": None, "test_clean": None, "validation": None}
        if model.evaluation is not None:
            row = dict(leaderboard_row(model.evaluation))
        if model.failure:
            row["failure"] = model.failure
        row["package"] = str(model.package) if model.package else None
        leaderboard.append(row)
    report = result.folder / "report.html"
    return {
        "run": str(result.folder),
        "report": str(report) if report.exists() else None,
        "package": str(result.champion_package) if result.champion_package else None,
        "champion": result.champion or None,
        "champion_reason": result.champion_reason,
        "audit": summary(result.audit),
        "leaderboard": leaderboard,
        "baselines": [
            {
                **leaderboard_row(baseline.evaluation),
                "description": baseline.training.description,
                "seconds": baseline.training.seconds,
            }
            for baseline in result.baselines
            if baseline.evaluation and baseline.training
        ],
        "differences": [{**record_to_plain(one), "beaten": one.beaten} for one in result.differences],
        "computed": {
            model.name: record_to_plain(model.training.computed)
            for model in result.models
            if model.training and model.training.computed.device
        },
        "against_baselines": list(held_against_baselines(result)),
        "shortcut_hunts": {model.name: record_to_plain(model.hunt) for model in result.models if model.hunt},
        "energy": {
            "run": record_to_plain(result.energy),
            "training": {model.name: record_to_plain(model.training.energy) for model in result.models if model.training},
        },
    }


def demo_summary(result: RunResult, verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return what ``vitrail demo --json`` prints: a run, and the audit held against the answer key."""
    return {**run_summary(result), "answer_key": record_to_plain(list(verdicts))}


def search_summary(result: SearchResult) -> dict[str, Any]:
    """Return what ``vitrail search --json`` prints; what is not estimable is null."""
    from vitrail.search import nested_row  # a search needs the training install, what predicts does not

    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    models = [
        {
            "model": one.model,
            "best": one.best or None,
            "trials": [
                {
                    "trial": trial.number,
                    "settings": trial.parameters,
                    "state": trial.state,
                    "balanced_accuracy": number(trial.score),
                    "standard_error": number(trial.standard_error),
                    "folds": [{name: number(value) for name, value in fold.items()} for fold in trial.folds],
                    "seconds": trial.seconds,
                    "failure": trial.failure,
                }
                for trial in one.trials
            ],
        }
        for one in result.models
    ]
    nested = None if result.nested is None else nested_row(result.nested)
    return {"search": str(result.folder), "best_study": str(result.best), "models": models, "nested": nested}


def plan_summary(plan: Plan, file: Path) -> dict[str, Any]:
    """Return what ``vitrail plan --json`` prints. Times in seconds, memory in bytes; what was not measured is null."""
    return {
        "study_file": str(file),
        "budget": plan.budget,
        "seconds": plan.seconds,
        "models": [model.name for model in plan.study.models],
        "costs": record_to_plain(list(plan.costs)),
        "choices": record_to_plain(list(plan.choices)),
        "facts": record_to_plain(plan.facts),
        "timings": record_to_plain(plan.timings),
        "remarks": list(plan.remarks),
        "study": plan.study.model_dump(mode="json"),
    }


def plan_lines(plan: Plan) -> list[str]:
    """Return what a plan is expected to cost as lines of a table, then what must be said aloud."""
    from vitrail.planning.budget import spoken

    rows = [("part", "time", "memory", "why"), *plan.table()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = ["  ".join([*(row[column].ljust(widths[column]) for column in range(3)), row[3]]).rstrip() for row in rows]
    total = f"Expected {spoken(plan.seconds)} of {spoken(plan.budget)}. What stands in brackets is not planned."
    return [*lines, total, *plan.remarks]


def print_plan(plan: Plan, file: Path) -> None:
    """Print what is planned, what it is expected to cost, and where the study with the reasons is."""
    console = _Console()
    for line in plan_lines(plan):
        console.print(line, soft_wrap=True, markup=False)
    console.print(f"Reasons  {file}", soft_wrap=True, markup=False)
    console.print(f"Next     vitrail run {file}", soft_wrap=True, markup=False)


def print_search(result: SearchResult, *, most: int = 10) -> None:
    """Print the best trials of every model and what to do next."""
    console = _Console()
    for one in result.models:
        ranked = sorted(one.trials, key=lambda trial: (trial.state != "complete", -trial.score, trial.number))
        title = f"{one.model}: the best of {len(one.trials)} trials, cross-validated (standard error over folds)"
        table = Table(title=escape(title), title_justify="left", title_style="bold")
        for column in ("trial", "balanced accuracy", "settings", "state"):
            table.add_column(column, justify="right" if column == "balanced accuracy" else "left")
        for trial in ranked[:most]:
            score = f"{trial.score:.3f} ± {trial.standard_error:.3f}" if trial.folds else "-"
            settings = ", ".join(f"{key}: {value}" for key, value in trial.parameters.items())
            table.add_row(str(trial.number), score, escape(settings), escape(trial.failure or trial.state))
        console.print(table)
    if result.nested is not None:
        _print_nested(console, result.nested)
    console.print(f"All trials: {escape(str(result.folder / 'trials.csv'))}")
    console.print(f"Next: vitrail run {escape(str(result.best))}")


def _print_nested(console: Console, nested: Nested) -> None:
    """Print who was chosen without each outer fold, and what the whole search is worth beside what its winner's score says."""
    from vitrail.search import UNTESTED, meaning

    def named(model: str, settings: dict[str, Any]) -> str:
        return f"{model} ({', '.join(f'{key}: {value}' for key, value in settings.items())})" if settings else model

    count, estimate = len(nested.folds), nested.estimate
    title = f"Nested cross-validation: the same search without each of {count} outer folds (balanced accuracy)"
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("outer fold", "chosen", "inner score", "on the outer fold", "n"):
        table.add_column(column, justify="left" if column == "chosen" else "right", overflow="fold")
    for one in nested.folds:
        inner, outer = ("-" if score is None else f"{score:.3f}" for score in (one.inner_score, one.score))
        told = ": ".join(filter(None, [named(one.model, one.parameters) if one.model else "", one.failure]))
        table.add_row(str(one.fold), escape(told), inner, outer, str(one.n))
    console.print(table)
    score = f"{nested.inner_score:.3f} ± {nested.inner_standard_error:.3f}"
    choices = "; ".join(f"{named(model, settings)} in {times} of {count}" for model, settings, times in nested.choices)
    winner = "The winner"
    if not nested.counts_settings:
        winner = "Settings from a continuous range are never the same twice, so models are counted. The winner's model"
    lines = (
        f"Nested estimate: {in_words(estimate)}, n = {estimate.n} ({estimate.method})",
        f"Inner score of the winner, {named(nested.model, nested.parameters)}: {score} (standard error over folds)",
        f"Chosen in outer folds: {choices or 'nothing'}. {winner}: in {nested.chose_the_winner} of {count}.",
        meaning(nested),
        UNTESTED,
    )
    for line in lines:
        console.print(escape(line))


def print_comparison(result: ComparisonResult) -> None:
    """Print the candidates, and every challenger against the champion."""
    console, comparison = _Console(), result.comparison
    table = Table(title="Candidates: balanced accuracy (95 % intervals)", title_justify="left", title_style="bold")
    for column in ("model", "validation", "clean test", "n", "all test", "n"):
        table.add_column(column, justify="left" if column == "model" else "right", overflow="fold")
    for one in comparison.candidates:
        name = f"[bold]{escape(one.name)}[/] ★" if one.name == comparison.champion else escape(one.name)
        scores = one.evaluation.validation, one.evaluation.test_clean, one.evaluation.test
        validation, clean, test = (in_words(each.overall["balanced_accuracy"]) for each in scores)
        table.add_row(name, validation, clean, str(scores[1].n), test, str(scores[2].n))
    console.print(table)
    table = Table(title="Challenger minus champion, same images", title_justify="left", title_style="bold")
    for column in ("challenger", "images", "balanced accuracy", "AUC", "McNemar p (adjusted)"):
        table.add_column(column, justify="left" if column in ("challenger", "images") else "right", overflow="fold")
    for challenger, parts in comparison.challengers.items():
        for place, (part, row) in enumerate(parts.items()):
            told = row.accuracy_test
            p_value = "-" if told.p_value is None or told.adjusted is None else f"{told.p_value:.4f} ({told.adjusted:.4f})"
            differences = (_signed(row.differences[key]) for key in ("balanced_accuracy", "auc_weighted"))
            table.add_row("" if place else escape(challenger), part.replace("_", " "), *differences, p_value)
    console.print(table)
    if comparison.champion_reason:
        console.print(escape(f"Champion: {comparison.champion_reason}."))
    console.print(f"★ best balanced accuracy on the validation images. Compared on {escape(comparison.images)}.")
    console.print(f"Page  {result.page}", soft_wrap=True, markup=False)
    champion = comparison.candidates[0]
    console.print(f"Next: vitrail promote {champion.run} --model {champion.model}", soft_wrap=True, markup=False)


def _signed(difference: Estimate) -> str:
    if difference.value is None:
        return "not estimable"
    if difference.low is None or difference.high is None:
        return f"{difference.value + 0.0:+.3f} [no interval]"
    return f"{difference.value + 0.0:+.3f} [{difference.low + 0.0:+.3f}, {difference.high + 0.0:+.3f}]"


def promotion_summary(promotion: Promotion) -> dict[str, Any]:
    """Return what ``vitrail promote --json`` prints."""
    replaced = promotion.replaced
    return {
        "registered_model": promotion.version.name,
        "version": promotion.version.number,
        "new_version": promotion.new,
        "alias": promotion.role,
        "address": promotion.address,
        "registry": promotion.uri,
        "replaced": None if replaced is None else {"version": replaced.number, "tags": replaced.tags},
        "contest": promotion.contest.words if promotion.contest else None,
        "forced": promotion.forced or None,
        "tags": promotion.version.tags,
    }


def print_promotion(promotion: Promotion) -> None:
    """Print what is registered now, what it replaced, and how to load it."""
    console, tags = _Console(), promotion.version.tags
    known = "" if promotion.new else ", registered before"
    title = f"{promotion.version.name} version {promotion.version.number}{known}: {tags.get('vitrail.model', '')}"
    console.print(f"{title} is the {promotion.role} now.", soft_wrap=True, markup=False)
    if promotion.replaced is not None:
        before = promotion.replaced
        told = f"It replaces version {before.number}: {before.tags.get('vitrail.model', 'unknown')}"
        console.print(f"{told} of run {before.tags.get('vitrail.run', 'unknown')}.", soft_wrap=True, markup=False)
    if promotion.contest is not None:
        console.print(f"Against it: {promotion.contest.words}.", soft_wrap=True, markup=False)
    if promotion.forced:
        console.print(f"Forced, with the reason: {promotion.forced}", soft_wrap=True, markup=False)
    console.print(f"Registry  {promotion.uri}", soft_wrap=True, markup=False)
    console.print(f"Serve     mlflow models serve -m {promotion.address} --env-manager local", soft_wrap=True, markup=False)


def print_run(result: RunResult) -> None:
    """Print findings, leaderboard and where everything is."""
    console = _Console()
    print_audit(result.manifest, result.audit)
    if any(True for _ in result.trained()):
        table = Table(title="Leaderboard (95 % intervals)", title_justify="left", title_style="bold")
        for column in ("model", "clean test: balanced accuracy", "n", "all test: accuracy", "n", "AUC (clean)"):
            table.add_column(column, justify="left" if column == "model" else "right")
        for model in result.models:
            if model.evaluation is None:
                table.add_row(escape(model.name), escape(model.failure), "", "", "", "")
                continue
            name = f"[bold]{escape(model.name)}[/] ★" if model.name == result.champion else escape(model.name)
            table.add_row(name, *_standing(model.evaluation))
        table.add_section()
        for baseline in result.baselines:
            if baseline.evaluation is not None:
                table.add_row(escape(baseline.name), *_standing(baseline.evaluation), style="dim")
        console.print(table)
        if result.baselines:
            console.print(f"Below the line: baselines. {MEANING}")
            for number, sentence in enumerate(held_against_baselines(result)):
                console.print(f"[yellow]{escape(sentence)}[/]" if number else escape(sentence))
        best = next((model.evaluation for model in result.models if model.name == result.champion), None)
        decision = best.decision if best is not None else None
        if decision is not None and len(result.manifest.classes) == 2:
            console.print(escape(f"Predicted by {result.champion}: {decision.words} ({decision.reason})."))
        if result.champion_reason:
            console.print(escape(f"Champion: {result.champion_reason}."))
        for model in result.models:
            if model.hunt and model.hunt.verdict == "found":
                console.print(f"[yellow]{escape(model.name)}: {escape(model.hunt.message)}[/]")
        console.print("★ best balanced accuracy on the validation images. Not a medical device: research and teaching.")
    else:
        for model in result.models:
            state = model.failure or (model.training.stopped if model.training else "")
            console.print(f"{escape(model.name)}: {escape(state)}")
    if result.champion_package:
        console.print(f"Package  {result.champion_package}", soft_wrap=True, markup=False)
    report = result.folder / "report.html"
    place = f"Report   {report}" if report.exists() else f"Run      {result.folder}"
    console.print(place, soft_wrap=True, markup=False)


def _standing(evaluation: Evaluation) -> tuple[str, ...]:
    """Return the cells of a row of the leaderboard."""
    clean, test = evaluation.test_clean, evaluation.test
    return (
        in_words(clean.overall["balanced_accuracy"]),
        str(clean.n),
        in_words(test.overall["accuracy"]),
        str(test.n),
        in_words(clean.overall["auc_weighted"]),
    )


def print_audit(manifest: Manifest, report: AuditReport, saved: AuditPaths | None = None) -> None:
    """Print what is in the folder, what is wrong with it, and where to read on.

    Args:
        manifest: The data set.
        report: What is wrong with it.
        saved: Where the audit stands on disk; ``None``: it is not written.
    """
    console = _Console()
    counts = Counter(file.label for file in manifest.files)
    classes = ", ".join(f"{name} {counts[name]}" for name in manifest.classes[:MOST_CLASSES])
    classes += f" and {len(manifest.classes) - MOST_CLASSES} more" if len(manifest.classes) > MOST_CLASSES else ""
    left_out = sum(file.status == "excluded" for file in manifest.files)
    told = f", {left_out} of them left out by the list of fixes" if left_out else ""
    console.print(f"[bold]{escape(str(manifest.root))}[/]: {report.images} images ({escape(classes)}){told}", soft_wrap=True)
    if report.findings:
        console.print()
        console.print(_table_of_findings(report) if console.width >= WIDE else _list_of_findings(report))
    else:
        console.print("[green]No findings.[/]")
    if saved is not None:
        _print_places(console, saved)
    if report.findings:
        console.print(f"What a code means, and what to do: vitrail audit --explain {report.findings[0].code}")
    console.print()


def _table_of_findings(report: AuditReport) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("severity", no_wrap=True)
    table.add_column("code", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    table.add_column("finding", overflow="fold", ratio=1)
    for finding in report.findings:
        severity, message = _in_colours(finding)
        table.add_row(severity, f"[bold]{finding.code}[/]", f"{finding.count:,}", message)
    return table


def _list_of_findings(report: AuditReport) -> Group:
    """Return the findings one below the other, for a terminal too narrow for a table."""
    pieces: list[Padding | str] = []
    for finding in report.findings:
        severity, message = _in_colours(finding)
        pieces += [f"{severity} [bold]{finding.code}[/] ({finding.count:,})", Padding(message, (0, 0, 0, 2))]
    return Group(*pieces)


def _in_colours(finding: Finding) -> tuple[str, str]:
    """Return the severity and the message of a finding with their markup; accepted ones stand back."""
    word = "note" if finding.severity == "info" else finding.severity
    if finding.accepted:
        return f"[dim]{word}[/]", f"[dim]{escape(finding.message)}[/]\n[dim]accepted: {escape(finding.accepted)}[/]"
    return f"[{COLOURS[finding.severity]}]{word}[/]", escape(finding.message)


def _print_places(console: Console, saved: AuditPaths) -> None:
    """Print where the audit stands on disk, a line each that a terminal does not break."""
    lines = [("Page", str(saved.page)), ("JSON", str(saved.summary))]
    if saved.kept is not None:
        lines.append(("Fixes", f"{saved.kept} is in use or was changed by hand, and stays as it is"))
    if saved.fixes is not None:
        numbers = Counter(str(fix.action) for fix in saved.proposed)
        said = ", ".join(
            f"{numbers[action]:,} to {verb}" for action, verb in (("exclude", "exclude"), ("review", "review")) if numbers[action]
        )
        lines.append(("New" if saved.kept is not None else "Fixes", f"{saved.fixes} ({said or 'nothing proposed'})"))
    console.print()
    for name, text in lines:
        console.print(f"{name:<6} {text}", soft_wrap=True, markup=False)


def print_demo(result: RunResult, verdicts: Sequence[Verdict], marked: Sequence[str]) -> None:
    """Print the audit held against the answer key of the phantom, and whether the models take the mark that was planted."""
    table = Table(title="Planted faults, and what the audit found of them", title_justify="left", title_style="bold")
    for column in ("fault", "planted", "found", "by"):
        table.add_column(column, justify="right" if column in ("planted", "found") else "left")
    for verdict in verdicts:
        if not verdict.planted:
            table.add_row(f"[red]false alarm[/] {verdict.kind}", "0", str(verdict.found), verdict.code)
        elif not verdict.code:
            table.add_row(verdict.kind.replace("_", " "), str(verdict.planted), "-", "[dim]no check looks for it yet[/]")
        else:
            colour = "green" if verdict.found == verdict.planted else "red"
            found = f"[{colour}]{verdict.found}[/]"
            table.add_row(verdict.kind.replace("_", " "), str(verdict.planted), found, verdict.code)
    console = Console(highlight=False)
    console.print(table)
    if marked:
        console.print(f"\n[bold]Do the models take the mark planted in a corner of {escape(', '.join(marked))}?[/]")
    for model in result.models:
        if marked and model.hunt:
            console.print(f"{escape(model.name)}: {escape(model.hunt.message)}")


def print_predictions(answers: Sequence[ImagePrediction], *, decision: Decision | None = None) -> None:
    """Print one row per image with all its scores, and the threshold where there is one."""
    told = f"Predicted: {decision.words}. " if decision is not None and decision.threshold is not None else ""
    table = Table(caption=escape(f"{told}Scores, not diagnoses. Not a medical device."), caption_justify="left")
    table.add_column("image", overflow="fold")
    table.add_column("predicted")
    table.add_column("scores", overflow="fold")
    for answer in answers:
        if answer.error:
            table.add_row(escape(answer.image), "[red]not read[/]", escape(answer.error))
            continue
        ranked = sorted(answer.probabilities.items(), key=lambda item: -item[1])
        scores = ", ".join(f"{name} {score:.3f}" for name, score in ranked)
        table.add_row(escape(answer.image), escape(answer.predicted), escape(scores))
    _Console().print(table)


def in_words(estimate: Estimate) -> str:
    """Return an estimate as ``0.761 [0.71, 0.80]``, or "not estimable"."""
    if estimate.value is None:
        return "not estimable"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f} [no interval]"
    return f"{estimate.value:.3f} [{estimate.low:.2f}, {estimate.high:.2f}]"
