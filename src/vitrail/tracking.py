"""The only door to MLflow: one parent run per study, one nested run per model, written once and whole; and the model registry.

Tracking never decides the fate of a run: whatever goes wrong here is a :class:`TrackingError` with one clear message, soon,
for the pipeline to say before it goes on. Nothing is printed; MLflow's own messages and its usage reports to its makers are
kept silent. Only numbers, settings, figures, the given files and the model packages are written; never a list of images.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import math
import os
import re
import socket
import sqlite3
import tempfile
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
PACKAGE_TAG = "vitrail.package"
ADVICE = "The run itself is complete; correct tracking.uri and run again, or set tracking.enabled: false."
REGISTRY_ADVICE = "Correct tracking.uri (or --uri) and promote again; nothing else is lost."
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


@dataclass(frozen=True)
class Registration:
    """A model that the registry shall hold in a role.

    Attributes:
        name: Of the registered model: the study's.
        experiment: MLflow experiment of the run that keeps the files.
        role: Alias, for example ``champion``.
        package: Folder of the model package.
        key: Hash of the package: a version that has it already is not made again.
        tags: Of the version.
        description: Of the version.
    """

    name: str
    experiment: str
    role: str
    package: Path
    key: str
    tags: Mapping[str, str]
    description: str


@dataclass(frozen=True)
class Version:
    """A version of a registered model: the model's name, the version's number as text, its tags."""

    name: str
    number: str
    tags: dict[str, str]


@dataclass(frozen=True)
class Registered:
    """What :func:`register` did: the version, whether it is new, and the registry without user name and password."""

    version: Version
    new: bool
    uri: str


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
    with _errors_in_words(address, what="not written", advice=ADVICE):
        with _quiet_environment(seconds=CONTACT_SECONDS, retries=1), _silence():
            client = _connect(address)
            experiment_id = _experiment(client, run.experiment, artifacts=_artifact_root(address, output=output))
        with _quiet_environment(seconds=TRANSFER_SECONDS, retries=2), _silence():
            finished = _remove_unfinished(client, experiment_id, _tag_value(run.key))
            run_id = finished or _write(client, experiment_id, run)
    return Tracked(uri=shown, experiment=run.experiment, run_id=run_id, already_there=finished is not None)


def in_role(name: str, role: str, *, output: Path, uri: str | None = None) -> Version | None:
    """Return the version of a registered model that has a role now; ``None``: none has.

    Raises:
        TrackingError: The registry cannot be reached or refuses.
    """
    address = tracking_uri(output=output, uri=uri)
    with (
        _errors_in_words(address, what="the registry was not read", advice=REGISTRY_ADVICE),
        _quiet_environment(seconds=CONTACT_SECONDS, retries=1),
        _silence(),
    ):
        return _in_role(_connect(address), name, role)


def register(wished: Registration, *, output: Path, uri: str | None = None) -> Registered:
    """Register a model package and give it its role; a role has one version, so whoever had it loses it.

    The files are kept in a run of their own. MLflow loads them with :mod:`vitrail.models.served`; nothing is pickled.

    Args:
        wished: What and as what.
        output: The output folder: it holds the SQLite file and the artifacts when no server is named.
        uri: See :func:`tracking_uri`.

    Raises:
        TrackingError: MLflow is missing, the server cannot be reached or refuses; the roles are then as they were.
    """
    address = tracking_uri(output=output, uri=uri)
    with _errors_in_words(address, what="not registered", advice=REGISTRY_ADVICE):
        with _quiet_environment(seconds=CONTACT_SECONDS, retries=1), _silence():
            client = _connect(address)
            experiment_id = _experiment(client, wished.experiment, artifacts=_artifact_root(address, output=output))
        with _quiet_environment(seconds=TRANSFER_SECONDS, retries=2), _silence():
            known = _known_version(client, wished)
            version = known or _new_version(client, experiment_id, wished)
            for key, value in wished.tags.items():
                client.set_model_version_tag(wished.name, version, key, _shortened(value))
            client.set_registered_model_alias(wished.name, wished.role, version)
    return Registered(Version(wished.name, version, dict(wished.tags)), new=known is None, uri=without_credentials(address))


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


def _in_role(client: MlflowClient, name: str, role: str) -> Version | None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode

    try:
        found = client.get_model_version_by_alias(name, role)
    except MlflowException as error:
        absent = (ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), ErrorCode.Name(INVALID_PARAMETER_VALUE))
        if error.error_code in absent:  # no such model, or no such alias of it
            return None
        raise
    return Version(name, str(found.version), {key: str(value) for key, value in found.tags.items()})


def _known_version(client: MlflowClient, wished: Registration) -> str | None:
    """Return the version that holds this package already; the latest, if several do."""
    found = client.search_model_versions(f"name = '{_tag_value(wished.name)}'")
    same = [int(one.version) for one in found if one.tags.get(PACKAGE_TAG) == wished.key and one.status == "READY"]
    return str(max(same)) if same else None


def _new_version(client: MlflowClient, experiment_id: str, wished: Registration) -> str:
    """Upload the package as an MLflow model and make a version of it; the caller tags it when it is whole."""
    import mlflow.pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.models import ModelSignature
    from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
    from mlflow.types import ColSpec, DataType, Schema

    from vitrail.models.loading import extras_needed

    extras = extras_needed(wished.package)
    needed = f"vitrail[{','.join(extras)}]" if extras else "vitrail"
    tags = {**_safe(wished.tags), "mlflow.source.name": "vitrail"}
    run = client.create_run(experiment_id, run_name=f"promote-{wished.package.parent.name}", tags=tags)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "model"
        mlflow.pyfunc.save_model(
            str(place),
            loader_module="vitrail.models.served",
            data_path=str(wished.package),
            signature=ModelSignature(inputs=Schema([ColSpec(DataType.binary, "image")])),
            pip_requirements=[f"{needed}=={importlib.metadata.version('vitrail')}", f"mlflow=={mlflow.__version__}"],
        )
        client.log_artifacts(run.info.run_id, str(place), "model")
    client.set_terminated(run.info.run_id, "FINISHED")
    try:
        client.create_registered_model(wished.name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    source = f"{run.info.artifact_uri}/model"
    made = client.create_model_version(wished.name, source, run_id=run.info.run_id, description=wished.description)
    return str(made.version)


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


@contextlib.contextmanager
def _errors_in_words(address: str, *, what: str, advice: str) -> Iterator[None]:
    """Turn whatever MLflow raises into a :class:`TrackingError` with one clear message."""
    shown = without_credentials(address)
    try:
        yield
    except ImportError as error:
        raise TrackingError(
            f"MLflow cannot be loaded ({error}). Install vitrail[train], or set tracking.enabled: false."
        ) from error
    except TrackingError:
        raise
    except Exception as error:
        reason = " ".join(_reason(error).replace(address, shown).split())[:300]
        raise TrackingError(f"MLflow at {shown}: {what} ({reason}). {advice}") from error


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
