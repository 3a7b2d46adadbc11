"""The only door to MLflow: one parent run per study, one nested run per model, written once and whole.

Tracking never decides the fate of a run: whatever goes wrong here is a :class:`TrackingError` with one clear message, soon,
for the pipeline to say before it goes on. Nothing is printed; MLflow's own messages and its usage reports to its makers are
kept silent. Only numbers, settings, figures, the given files and the model packages are written; never a list of images.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import re
import socket
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from vitrail.errors import VitrailError
from vitrail.storage import without_credentials
from vitrail.tracked import Measurement, TrackedRun

if TYPE_CHECKING:
    from mlflow import MlflowClient

Value = TypeVar("Value")

RUN_TAG = "vitrail.run"
ADVICE = "The run itself is complete; correct tracking.uri and run again, or set tracking.enabled: false."
METRICS_PER_BATCH, PARAMETERS_PER_BATCH = 1000, 100  # MLflow's own limits
LONGEST_NAME, LONGEST_VALUE = 200, 6000  # characters; MLflow allows 250 and 6000
DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
CONTACT_SECONDS, TRANSFER_SECONDS = 10, 60


class TrackingError(VitrailError):
    """The run could not be written to MLflow."""


@dataclass(frozen=True)
class Tracked:
    """Where a study was written.

    Attributes:
        uri: The tracking server, without user name and password.
        experiment: Name of the experiment.
        run_id: MLflow's name of the parent run.
        already_there: True when an earlier call had written it and nothing was done.
    """

    uri: str
    experiment: str
    run_id: str
    already_there: bool


def track_study(run: TrackedRun, *, output: Path, uri: str | None = None) -> Tracked:
    """Write a finished study to MLflow, once.

    A call that was killed half-way leaves an unfinished parent run; the next call deletes it with its nested runs (MLflow
    keeps deleted runs in its trash) and writes anew. While it writes, MLflow's environment variables for patience are set,
    where the user has not set them, and restored.

    Args:
        run: What to write.
        output: The output folder: it holds the SQLite file and the artifacts when no server is named.
        uri: The study's ``tracking.uri``; ``None``: ``MLFLOW_TRACKING_URI``, else ``sqlite:///<output>/mlflow.db``.

    Raises:
        TrackingError: MLflow is missing, the server cannot be reached or refuses. Reached within about half a minute.
    """
    address = tracking_uri(output=output, uri=uri)
    shown = without_credentials(address)
    try:
        with _quiet_environment(seconds=CONTACT_SECONDS, retries=1), _silence():
            client = _connect(address)
            experiment_id = _experiment(client, run.experiment, artifacts=_artifact_root(address, output=output))
        with _quiet_environment(seconds=TRANSFER_SECONDS, retries=2), _silence():
            finished = _remove_unfinished(client, experiment_id, _tag_value(run.key))
            run_id = finished or _write(client, experiment_id, run)
    except ImportError as error:
        raise TrackingError(
            f"MLflow cannot be loaded ({error}). Install vitrail[train], or set tracking.enabled: false."
        ) from error
    except TrackingError:
        raise
    except Exception as error:
        reason = " ".join(_reason(error).replace(address, shown).split())[:300]
        raise TrackingError(f"MLflow at {shown}: not written ({reason}). {ADVICE}") from error
    return Tracked(uri=shown, experiment=run.experiment, run_id=run_id, already_there=finished is not None)


def tracking_uri(*, output: Path, uri: str | None = None) -> str:
    """Return the tracking server: the study's own, else ``MLFLOW_TRACKING_URI``, else an SQLite file in the output folder."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(output.resolve() / 'mlflow.db').as_posix()}"


def _connect(uri: str) -> MlflowClient:
    """Return a client, after a quick look whether a database answers: MLflow would try again for minutes."""
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme == "sqlite" and (database := _sqlite_file(uri)):
        if "?" in uri:
            raise TrackingError(f"{database.parent}: MLflow cannot keep a database in a folder with a question mark. {ADVICE}")
        database.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(database)) as connection:
            connection.execute("BEGIN IMMEDIATE")  # fails at once where the file or its folder cannot be written
            connection.rollback()
    elif scheme in DATABASE_PORTS and (host := urlsplit(uri).hostname):
        socket.create_connection((host, urlsplit(uri).port or DATABASE_PORTS[scheme]), timeout=CONTACT_SECONDS).close()
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def _sqlite_file(uri: str) -> Path | None:
    """Return the file of an SQLite address; ``None`` for a database in memory."""
    _, _, database = uri.partition(":///")
    return Path(database).resolve() if database else None


def _artifact_root(uri: str, *, output: Path) -> str | None:
    """Return where a new experiment keeps its files: beside an SQLite file, in the output for other databases.

    ``None`` leaves it to the server. Without this, MLflow would write to whatever folder the command was started in.
    """
    scheme = urlsplit(uri).scheme.split("+")[0]
    if scheme == "sqlite" and (database := _sqlite_file(uri)):
        return (database.parent / "mlartifacts").as_uri()
    return (output.resolve() / "mlartifacts").as_uri() if scheme in DATABASE_PORTS else None


def _experiment(client: MlflowClient, name: str, *, artifacts: str | None) -> str:
    """Return the id of the experiment, created where there is none."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, artifact_location=artifacts))
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"MLflow experiment {name!r}: it was deleted there. Restore it (mlflow experiments restore -x {found.experiment_id}) "
            "or name another one in tracking.experiment."
        )
    return str(found.experiment_id)


def _remove_unfinished(client: MlflowClient, experiment_id: str, key: str) -> str | None:
    """Delete what killed calls left of this run; return the id of its finished parent run where there is one."""
    finished = None
    for parent in client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{key}'"):
        if parent.info.status == "FINISHED":
            finished = finished or str(parent.info.run_id)
            continue
        for child in client.search_runs([experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"):
            client.delete_run(child.info.run_id)
        client.delete_run(parent.info.run_id)
    return finished


def _write(client: MlflowClient, experiment_id: str, run: TrackedRun) -> str:
    """Write the parent run and its models; the parent is finished last, which marks the whole as complete."""
    tags = {**_safe(run.tags), RUN_TAG: _tag_value(run.key), "mlflow.source.name": "vitrail"}
    parent = str(client.create_run(experiment_id, run_name=run.name, tags=tags).info.run_id)
    _log_numbers(client, parent, params=run.params, metrics=run.metrics)
    _log_figures(client, parent, run.figures)
    for file in run.files:
        client.log_artifact(parent, str(file))
    for model in run.models:
        tags = {**_safe(model.tags), "mlflow.parentRunId": parent, "mlflow.source.name": "vitrail"}
        if model.failure:
            tags["failure"] = model.failure[:LONGEST_VALUE]
        child = str(client.create_run(experiment_id, run_name=model.name, tags=tags).info.run_id)
        _log_numbers(client, child, params=model.params, metrics=model.metrics, history=model.history)
        _log_figures(client, child, model.figures)
        if model.package is not None:
            client.log_artifacts(child, str(model.package), "model")
        client.set_terminated(child, "FAILED" if model.failure else "FINISHED")
    client.set_terminated(parent, "FINISHED")
    return parent


def _log_numbers(
    client: MlflowClient,
    run_id: str,
    *,
    params: Mapping[str, str],
    metrics: Mapping[str, float],
    history: tuple[Measurement, ...] = (),
) -> None:
    """Write parameters and metrics in as few calls as MLflow allows."""
    from mlflow.entities import Metric, Param

    now = int(time.time() * 1000)
    names = {name: safe for safe, name in _safe({item.name: item.name for item in history}).items()}
    values = [Metric(name, float(value), now, 0) for name, value in _safe(metrics).items() if math.isfinite(value)]
    values += [Metric(names[item.name], item.value, now, item.step) for item in history if math.isfinite(item.value)]
    settings = [Param(name, _shortened(value)) for name, value in _safe(params).items()]
    for start in range(0, len(values), METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=values[start : start + METRICS_PER_BATCH])
    for start in range(0, len(settings), PARAMETERS_PER_BATCH):
        client.log_batch(run_id, params=settings[start : start + PARAMETERS_PER_BATCH])


def _log_figures(client: MlflowClient, run_id: str, figures: Mapping[str, str]) -> None:
    for name, text in _safe(figures).items():
        client.log_text(run_id, text, f"figures/{name}")


def _safe(named: Mapping[str, Value]) -> dict[str, Value]:
    """Return the mapping under names that MLflow allows on every system: letters, digits, ``_ - .`` and blanks, no path."""
    safe: dict[str, Value] = {}
    for name, value in named.items():
        wished = re.sub(r"[^\w.\- ]", "-", name).lstrip(".")[:LONGEST_NAME] or "-"
        unique, number = wished, 2
        while unique in safe:
            unique, number = f"{wished}-{number}", number + 1
        safe[unique] = value
    return safe


def _tag_value(key: str) -> str:
    """Return the key without what could end the quotation in MLflow's search language."""
    return re.sub(r"[^\w.\- ]", "-", key)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


# ---------------------------------------------------------------------------------------------------- words and silence


def _reason(error: BaseException) -> str:
    """Return what went wrong: the system's own words ("Connection refused") where they stand at the bottom of it."""
    root = error
    while deeper := root.__cause__ or root.__context__:
        root = deeper
    return root.strerror if isinstance(root, OSError) and root.strerror else f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _quiet_environment(*, seconds: int, retries: int) -> Iterator[None]:
    """Set what MLflow reads from the environment, where the user has not set it; restore it afterwards."""
    wished = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",  # MLflow 3 reports its use to its makers unless told not to
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    added = [name for name in wished if name not in os.environ]
    os.environ.update({name: wished[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep MLflow's messages off standard output, and all but errors off standard error."""
    before: Any = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
