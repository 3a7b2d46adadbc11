"""What the command line prints: one JSON object (a contract that later versions only add to), or tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vitrail.audit import summary
from vitrail.evaluation import leaderboard_row
from vitrail.models import ImagePrediction
from vitrail.records import AuditReport, Estimate, Manifest, RunResult

COLOURS = {"error": "bold red", "warning": "yellow", "info": "cyan"}


def run_summary(result: RunResult) -> dict[str, Any]:
    """Return what ``vitrail run --json`` prints."""
    leaderboard: list[dict[str, Any]] = []
    for model in result.models:
        row: dict[str, Any] = {"model": model.name}
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
        "audit": summary(result.audit),
        "leaderboard": leaderboard,
    }


def print_run(result: RunResult) -> None:
    """Print findings, leaderboard and where everything is."""
    console = Console(highlight=False)
    print_audit(result.manifest, result.audit)
    if any(True for _ in result.trained()):
        table = Table(title="Leaderboard (95 % intervals)", title_justify="left", title_style="bold")
        for column in ("model", "clean test: balanced accuracy", "n", "all test: accuracy", "n", "AUC (clean)"):
            table.add_column(column, justify="left" if column == "model" else "right")
        for model in result.models:
            if model.evaluation is None:
                table.add_row(escape(model.name), escape(model.failure), "", "", "", "")
                continue
            clean, test = model.evaluation.test_clean, model.evaluation.test
            name = f"[bold]{escape(model.name)}[/] ★" if model.name == result.champion else escape(model.name)
            table.add_row(
                name,
                in_words(clean.overall["balanced_accuracy"]),
                str(clean.n),
                in_words(test.overall["accuracy"]),
                str(test.n),
                in_words(clean.overall["auc_weighted"]),
            )
        console.print(table)
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


def print_audit(manifest: Manifest, report: AuditReport) -> None:
    """Print what is in the folder and what is wrong with it."""
    console = Console(highlight=False)
    classes = ", ".join(f"{name} {sum(file.label == name for file in manifest.files)}" for name in manifest.classes)
    console.print(f"[bold]{escape(str(manifest.root))}[/]: {report.images} images ({escape(classes)})", soft_wrap=True)
    if not report.findings:
        console.print("[green]No findings.[/]")
        return
    table = Table(title="Findings", title_justify="left", title_style="bold", show_lines=True)
    for column in ("code", "severity", "what", "what vitrail does", "what you can do"):
        table.add_column(column, overflow="fold", no_wrap=column in ("code", "severity"))
    for finding in report.findings:
        severity = f"[{COLOURS[finding.severity]}]{finding.severity}[/]"
        if finding.accepted:
            severity += "\n[dim]accepted[/]"
        table.add_row(finding.code, severity, escape(finding.message), escape(finding.consequence), escape(finding.fix))
    console.print(table)


def print_predictions(answers: Sequence[ImagePrediction]) -> None:
    """Print one row per image with all its scores."""
    table = Table(caption="Scores, not diagnoses. Not a medical device.", caption_justify="left")
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
    Console(highlight=False).print(table)


def in_words(estimate: Estimate) -> str:
    """Return an estimate as ``0.761 [0.71, 0.80]``, or "not estimable"."""
    if estimate.value is None:
        return "not estimable"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f} [no interval]"
    return f"{estimate.value:.3f} [{estimate.low:.2f}, {estimate.high:.2f}]"
