"""The command line: one subcommand per room, and ``run`` for all of them.

Rooms are imported inside the commands: ``vitrail --help`` answers at once and loads none of the heavy libraries.
Results go to standard output (one JSON object with ``--json``), progress and messages to standard error.
Exit codes: 0 done, 1 something failed, 2 the request was wrong, 3 ``--strict`` stopped on findings, 130 interrupted.
"""

from __future__ import annotations

import inspect
import io
import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from vitrail.asked import asked_study, plan_aloud, planned, refuse_budget, says_what_to_do

if TYPE_CHECKING:
    from vitrail.pipeline import Step
    from vitrail.progress import Progress
    from vitrail.records import RunResult
    from vitrail.study import Study


class _Commands(TyperGroup):
    """The subcommands, and how each of them ends."""

    def invoke(self, ctx: Any) -> Any:
        """Run one; errors that vitrail raises on purpose, and interruptions, are told without a traceback."""
        from vitrail.errors import VitrailError

        try:
            try:
                return super().invoke(ctx)
            finally:
                sys.stdout.flush()  # here, so that a reader who went away is met here
        except VitrailError as error:
            typer.echo(f"vitrail: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except ModuleNotFoundError as error:
            if str(error.name).startswith("vitrail"):
                raise
            typer.echo(
                f"vitrail: {error.name} is not installed. Install what training needs: pip install 'vitrail[train]'.", err=True
            )
            raise typer.Exit(2) from error
        except KeyboardInterrupt:
            typer.echo("vitrail: interrupted; what is finished is kept, and the same command goes on from there.", err=True)
            raise typer.Exit(130) from None
        except BrokenPipeError:  # the reader of our output went away (`| head`): nothing is wrong
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None


app = typer.Typer(
    name="vitrail",
    cls=_Commands,
    help="From a folder of medical images to a classifier that a careful person can question.\n\n"
    "Research and teaching. Not a medical device.",
    epilog="Start with: vitrail demo   |   vitrail run FOLDER   |   vitrail COMMAND --help",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)

StudyArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FOLDER|STUDY.YAML|RUN", help="Images (folder, table, archive), a study file, or the folder of a run."
    ),
]
ModelsOption = Annotated[
    str | None,
    typer.Option("--models", help="Families to train, with commas: forest, boosted, svm, probe, cnn, finetune, transformer."),
]
BackboneOption = Annotated[str | None, typer.Option("--backbone", help="Backbone of the probe: a timm name or local-dir:FOLDER.")]
SeedOption = Annotated[int | None, typer.Option("--seed", help="Same seed, same machine, same numbers.")]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Folder for runs, caches and MLflow [runs].")]
BudgetOption = Annotated[
    str | None,
    typer.Option("--budget", metavar="TIME", help="Plan a folder within this time, all included: 90s, 20m, 1h30m [20m]."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Any setting of the study, e.g. split.validation=0.15 (repeatable); 'models.*.KEY=VALUE': of all that have it.",
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop on error-level findings that the study does not accept.")]
FreshOption = Annotated[bool, typer.Option("--fresh", help="Begin again; without it an earlier start is continued.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")]


# ---------------------------------------------------------------------------------------------------- commands


def _print_version(wished: bool) -> None:
    if wished:
        typer.echo(f"vitrail {version_of('vitrail')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """What stands before the subcommand."""


@app.command(epilog="Example: vitrail demo --output /tmp/demo")
def demo(
    output: OutputOption = None,
    seed: SeedOption = None,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw a phantom data set with planted faults, run the whole path on it, hold the audit against the answer key."""
    from vitrail.demo import compare, marked_classes, run_demo
    from vitrail.output import demo_summary, print_demo, print_run

    result, key = run_demo(output or Path("runs"), seed=seed or 0, fresh=fresh, progress=_progress(quiet))
    verdicts = compare(result.audit, key)
    if as_json:
        _print_json(demo_summary(result, verdicts))
    else:
        print_run(result)
        print_demo(result, verdicts, marked_classes(key))


@app.command(epilog="Example: vitrail init brain-mri, then edit study.yaml, then vitrail run study.yaml")
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of images: one folder per class.")],
    file: Annotated[Path, typer.Option("--file", help="Where to write the study.")] = Path("study.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented study.yaml for a folder of images."""
    from vitrail.auditing import find_images
    from vitrail.errors import UsageError
    from vitrail.storage import write_text
    from vitrail.study import Study, commented_yaml

    if file.exists() and not force:
        raise UsageError(f"{file}: exists already. Choose another --file, or --force to replace it.")
    study = Study.from_mapping({"data": {"path": folder.absolute()}}, str(folder))
    find_images(study)
    write_text(file, commented_yaml(study))
    typer.echo(f"{file} written. Next: edit it, then `vitrail run {file}`.")


@app.command(epilog="Example: vitrail fetch chest-xray   |   vitrail fetch kaggle:owner/set --to data")
def fetch(
    name: Annotated[str, typer.Argument(help="kaggle:owner/set, an address on kaggle.com, or a short name (see --list).")] = "",
    to: Annotated[Path, typer.Option("--to", help="Folder for data sets.")] = Path("data"),
    again: Annotated[bool, typer.Option("--again", help="Fetch anew what is there already.")] = False,
    listing: Annotated[bool, typer.Option("--list", help="List the short names and stop.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Download a public data set, whole or not at all, with a note of where it came from."""
    from vitrail.datasets import FRIENDLY_NAMES
    from vitrail.datasets import fetch as fetch_data
    from vitrail.errors import UsageError

    if listing:
        if as_json:
            _print_json(FRIENDLY_NAMES)
        else:
            for short, address in FRIENDLY_NAMES.items():
                typer.echo(f"{short:20} {address}")
        return
    if not name:
        raise UsageError("Name a data set: vitrail fetch kaggle:owner/set. Short names: vitrail fetch --list.")
    folder = fetch_data(name, to, progress=_progress(quiet), again=again)
    if as_json:
        _print_json({"folder": str(folder)})
    else:
        typer.echo(f"{folder} is there. Next: vitrail audit {folder}")


def _on_a_study(name: str, example: str, work: Callable[[Study, bool, bool, bool], None], *, plans: bool = True) -> None:
    """Register a command that takes a study and every way to change it; its help is the documentation of ``work``.

    Where it ``plans``, a folder for which no models are named is planned within a budget.
    """

    def command(
        path: StudyArgument,
        models: ModelsOption = None,
        backbone: BackboneOption = None,
        seed: SeedOption = None,
        output: OutputOption = None,
        budget: BudgetOption = None,
        changes: SetOption = None,
        strict: StrictOption = False,
        fresh: FreshOption = False,
        as_json: JsonOption = False,
        quiet: QuietOption = False,
    ) -> None:
        if plans and not says_what_to_do(path, models, changes):
            wishes = asked_study(path, None, None, seed, output, changes, strict=strict)
            study = plan_aloud(wishes, budget, backbone, fresh=fresh, progress=_progress(quiet)).study
        else:
            refuse_budget(budget, path)
            study = asked_study(path, models, backbone, seed, output, changes, strict=strict)
        work(study, fresh, as_json, quiet)

    if not plans:  # an option that can only be refused is not offered
        signature = inspect.signature(command, eval_str=True)
        offered = [parameter for parameter in signature.parameters.values() if parameter.name != "budget"]
        command.__signature__ = signature.replace(parameters=offered)  # type: ignore[attr-defined]
    app.command(name, help=work.__doc__, epilog=f"Example: {example}")(command)


def _run(study: Study, fresh: bool, as_json: bool, quiet: bool) -> None:
    """Audit, split, train, evaluate, explain, report: the whole path. A killed run goes on when started again."""
    _run_until("report", study, fresh, as_json, quiet)


def _evaluate(study: Study, fresh: bool, as_json: bool, quiet: bool) -> None:
    """Go as far as evaluated models (trains first what is not trained yet)."""
    _run_until("evaluate", study, fresh, as_json, quiet)


def _search(study: Study, fresh: bool, as_json: bool, quiet: bool) -> None:
    """Compare settings by cross-validation (the study's search.space); the test images stay closed. A killed search goes on."""
    from vitrail.output import print_search, search_summary
    from vitrail.pipeline import search as search_study

    result = search_study(study, fresh=fresh, progress=_progress(quiet))
    if as_json:
        _print_json(search_summary(result))
    else:
        print_search(result)
    if not any(one.best for one in result.models):
        raise typer.Exit(1)


_on_a_study("run", "vitrail run brain-mri --models forest,cnn   |   vitrail run study.yaml --strict --json", _run)
_on_a_study("evaluate", "vitrail evaluate study.yaml --json", _evaluate)
_on_a_study("search", "vitrail search study.yaml, then vitrail run with the best.yaml that it names", _search, plans=False)


@app.command(epilog="Example: vitrail plan brain-mri --budget 20m --backbone local-dir:weights, then vitrail run study.yaml")
def plan(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="Images (folder, table, archive).")],
    budget: BudgetOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the study.")] = Path("study.yaml"),
    backbone: BackboneOption = None,
    seed: SeedOption = None,
    changes: SetOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure anew; without it kept timings are used.")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a commented study for a folder and a length of time: what is fixed, what follows from a rule, what was measured."""
    from vitrail.errors import UsageError
    from vitrail.output import plan_summary, print_plan
    from vitrail.storage import check_writable, write_text

    if says_what_to_do(path, None, changes):
        raise UsageError(f"{path}: plan takes images and chooses the models itself. Give a folder, and no study, run or models.")
    if output.exists() and not force:
        raise UsageError(f"{output}: exists already. Choose another --output, or --force to replace it.")
    check_writable(output.parent)
    wishes = asked_study(path, None, None, seed, None, changes, strict=False)
    made = planned(wishes, budget, backbone, fresh=fresh, progress=_progress(quiet))
    write_text(output, made.to_yaml())
    if as_json:
        _print_json(plan_summary(made, output))
    else:
        print_plan(made, output)


@app.command(epilog="Example: vitrail train study.yaml   |   vitrail train --continue RUN --models cnn --epochs 10")
def train(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FOLDER|STUDY.YAML|RUN]", help="Images (folder, table, archive), a study file, or the folder of a run."
        ),
    ] = None,
    continued: Annotated[
        Path | None,
        typer.Option("--continue", metavar="RUN|PACKAGE", help="Instead: go on with a network of a run, on the same images."),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="With --continue: how many more epochs.")] = None,
    models: ModelsOption = None,
    backbone: BackboneOption = None,
    seed: SeedOption = None,
    output: OutputOption = None,
    changes: SetOption = None,
    strict: StrictOption = False,
    fresh: FreshOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Go as far as trained and packed models, or train a network of a run further; the test images stay closed."""
    from vitrail.errors import UsageError
    from vitrail.study import changed

    if continued is None:
        if path is None or epochs is not None:
            raise UsageError(
                "--epochs: belongs to --continue; else use --set training.epochs=N."
                if epochs is not None
                else "Give a folder of images or a study to train on, or a run to go on with: vitrail train --continue RUN."
            )
        _run_until("train", asked_study(path, models, backbone, seed, output, changes, strict=strict), fresh, as_json, quiet)
        return
    if path is not None or backbone is not None or seed is not None or epochs is None:
        raise UsageError(
            "--continue: takes the run's own study, and needs --epochs. Leave out the images, --backbone and --seed; other "
            "settings of the training can be changed with --set models.NAME.training.KEY=VALUE."
        )
    from vitrail.continuing import continued_study

    study = continued_study(continued, model=models, epochs=epochs)
    updates: dict[str, Any] = {"output": output} if output is not None else {}
    if strict:
        updates["audit.strict"] = True
    _run_until("train", changed(study, updates, texts=tuple(changes or ())), fresh, as_json, quiet)


@app.command(epilog="Example: vitrail audit brain-mri --strict   |   vitrail audit --explain LEAK301")
def audit(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER|STUDY.YAML|RUN", help="Images (folder, table, archive), a study file, or the folder of a run."
        ),
    ] = None,
    output: OutputOption = None,
    changes: SetOption = None,
    strict: StrictOption = False,
    code: Annotated[
        str | None, typer.Option("--explain", metavar="CODE", help="Say what a check means (all: list the checks), and stop.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Say what is wrong with a folder of images before anyone trains on it."""
    if path is not None:
        _start_early(path, output)
    from vitrail.errors import UsageError

    if code is not None:
        from vitrail.audit import explain_check

        typer.echo(explain_check(code, width=min(100, shutil.get_terminal_size().columns)))
        return
    if path is None:
        raise UsageError("Give a folder of images or a study to audit, or a check to explain: vitrail audit --explain CODE.")
    from vitrail.auditing import audit as audit_study
    from vitrail.auditing import keep_audit

    study = asked_study(path, None, None, None, output, changes, strict=False)
    manifest, found = audit_study(study, progress=_progress(quiet))
    saved = keep_audit(study, manifest, found)
    from vitrail.audit import enforce, summary  # loaded by now

    if as_json:
        _print_json(summary(found))
    else:
        from vitrail.output import print_audit

        print_audit(manifest, found, saved)
    if strict or study.audit.strict:
        enforce(found)


@app.command(epilog="Example: vitrail predict runs/brain-1a2b3c4d/models/probe/package scan1.jpg scan2.png")
def predict(
    package: Annotated[Path, typer.Argument(help="Folder of a model package.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Score images with a model package; nothing else of the run is needed."""
    from vitrail.models import load_package
    from vitrail.output import print_predictions

    _require_files(images)
    loaded = load_package(package)
    answers = loaded.predict(images, progress=_progress(quiet))
    if as_json:
        _print_json(
            [
                {"image": answer.image, "predicted": answer.predicted, "probabilities": answer.probabilities}
                if not answer.error
                else {"image": answer.image, "predicted": None, "probabilities": {}, "error": answer.error}
                for answer in answers
            ]
        )
    else:
        print_predictions(answers, decision=loaded.decision)
    if any(answer.error for answer in answers):
        raise typer.Exit(1)


@app.command(
    epilog="Example: vitrail explain runs/brain-1a2b3c4d/models/cnn/package scan1.jpg --method occlusion   |   ... --method all"
)
def explain(
    package: Annotated[Path, typer.Argument(help="Folder of a model package.")],
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="How: grad-cam, integrated-gradients, occlusion...; auto: the most faithful by the grades that a run leaves "
            "beside the package, else the first that suits; all: every method that is defined, what it costs told before.",
            show_default="auto",
        ),
    ] = None,
    target: Annotated[str | None, typer.Option("--target", help="Class to explain; default: the predicted one.")] = None,
    layer: Annotated[
        str,
        typer.Option(
            "--layer",
            help="For methods by feature maps: a layer or module, such as blocks.5. For attention: a block, with :max, :min or "
            ":HEAD for its heads, or all for a sheet of every head. Any other word lists the names.",
            show_default="last",
        ),
    ] = "",
    quantity: Annotated[
        str, typer.Option("--quantity", help="What is explained: the class's logit, probability, or contrast to the next class.")
    ] = "logit",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of methods that draw at random.")] = 0,
    grade: Annotated[
        bool,
        typer.Option(
            "--grade/--no-grade",
            help="Hold each map against random maps of its image, where grades lie beside the package: some 200 passes an image.",
        ),
    ] = True,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the maps.")] = Path("explanations"),
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Draw why images got their scores: a map (.npy, the image's own height and width) and a picture for each."""
    from vitrail.answers import explain_files
    from vitrail.errors import UsageError
    from vitrail.output_explanations import print_explanations, tell_explanation_plan
    from vitrail.records import QUANTITIES

    _require_files(images)
    explained = next((known for known in QUANTITIES if known == quantity), None)
    if explained is None:
        raise UsageError(f"--quantity: must be one of {', '.join(QUANTITIES)}. Found: {quantity!r}.")
    answers = explain_files(
        package,
        images,
        method=method,
        target=target,
        layer=layer,
        quantity=explained,
        seed=seed,
        grade=grade,
        output=output,
        progress=_progress(quiet),
        tell=None if as_json or quiet else tell_explanation_plan,
    )
    if as_json:
        _print_json(answers)
    else:
        print_explanations(answers)
    if any("error" in answer for answer in answers):
        raise typer.Exit(1)


@app.command(epilog="Example: vitrail report runs/brain-1a2b3c4d")
def report(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    as_json: JsonOption = False,
) -> None:
    """Write the report of a run again."""
    from vitrail.pipeline import report as write

    _show_run(write(path), as_json=as_json)


@app.command(epilog="Example: vitrail compare runs/brain-1a2b3c4d runs/brain-5e6f7a8b   |   vitrail compare study.yaml --json")
def compare(
    paths: Annotated[list[Path], typer.Argument(metavar="RUN|STUDY.YAML...", help="Folders of runs, or study files.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the page [comparisons/ by the runs].")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare models on the same images: the champion by validation score, every challenger against it, pair by pair."""
    from vitrail.comparing import comparison_summary
    from vitrail.output import print_comparison
    from vitrail.pipeline import compare as compare_runs

    result = compare_runs(paths, output=output)
    if as_json:
        _print_json({**comparison_summary(result.comparison), "page": str(result.page), "summary": str(result.summary)})
    else:
        print_comparison(result)


@app.command(epilog="Example: vitrail promote runs/brain-1a2b3c4d --model cnn   |   vitrail promote RUN --as challenger")
def promote(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")],
    model: Annotated[str | None, typer.Option("--model", help="One of its models [its champion].")] = None,
    role: Annotated[str, typer.Option("--as", metavar="ROLE", help="champion or challenger.")] = "champion",
    force: Annotated[
        str, typer.Option("--force", metavar="REASON", help="Why a model that is clearly worse shall replace the champion.")
    ] = "",
    uri: Annotated[str | None, typer.Option("--uri", help="Registry [tracking.uri, MLFLOW_TRACKING_URI, SQLite].")] = None,
    as_json: JsonOption = False,
) -> None:
    """Register a model in MLflow's model registry as champion or challenger; a clearly worse one needs a reason."""
    from vitrail.errors import UsageError
    from vitrail.output import print_promotion, promotion_summary
    from vitrail.pipeline import promote as promote_model

    if role not in ("champion", "challenger"):
        raise UsageError(f"--as: must be champion or challenger. Found: {role}.")
    result = promote_model(path, model=model, role="champion" if role == "champion" else "challenger", force=force, uri=uri)
    if as_json:
        _print_json(promotion_summary(result))
    else:
        print_promotion(result)


@app.command(epilog="Example: vitrail schema > study.schema.json")
def schema() -> None:
    """Print the JSON schema of study.yaml, for editors that complete and check it."""
    from vitrail.study import Study

    _print_json(Study.model_json_schema())


# ---------------------------------------------------------------------------------------------------- helpers


def _start_early(folder: Path, output: Path | None) -> None:
    """Start the processes that read a large folder for the first time: loading their libraries takes as long as loading ours."""
    from vitrail.engine import WORTH_PROCESSES, start_processes

    files = itertools.islice((name for _, _, names in os.walk(folder) for name in names), WORTH_PROCESSES)
    if sum(1 for _ in files) == WORTH_PROCESSES and not ((output or Path("runs")) / "cache").exists():
        start_processes("vitrail.datasets.examine")


def _run_until(until: Step, study: Study, fresh: bool, as_json: bool, quiet: bool) -> None:
    from vitrail.pipeline import run as run_study

    _show_run(run_study(study, until=until, fresh=fresh, progress=_progress(quiet)), as_json=as_json)


def _progress(quiet: bool) -> Progress:
    from vitrail.progress import SILENT, BarProgress, StoppableProgress

    return StoppableProgress(SILENT if quiet else BarProgress())


def _require_files(images: list[Path]) -> None:
    from vitrail.errors import UsageError

    missing = [str(image) for image in images if not image.is_file()]
    if missing:
        raise UsageError(f"no such image file: {', '.join(missing)}. Give paths of image files.")


def _print_json(content: Any) -> None:
    # ASCII only: the same bytes whatever the terminal's encoding, and names of files that are no valid Unicode survive.
    typer.echo(json.dumps(content, indent=2, allow_nan=False))


def _show_run(result: RunResult, *, as_json: bool) -> None:
    from vitrail.output import print_run, run_summary

    if as_json:
        _print_json(run_summary(result))
    else:
        print_run(result)
    if result.models and all(model.failure for model in result.models):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show must not end the work
    app()
