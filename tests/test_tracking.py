import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

mlflow = pytest.importorskip("mlflow")

from vitrail import tracking  # noqa: E402
from vitrail.tracked import Measurement, TrackedModel, TrackedRun  # noqa: E402
from vitrail.tracking import TrackingError, track_study, tracking_uri  # noqa: E402

SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory):
    """MLflow's tables take seconds to create: once for all tests."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    with tracking._silence():
        mlflow.MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def output(tmp_path, empty_database, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "résultats 100 %"  # a folder as people name it
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def study(tmp_path):
    package = tmp_path / "package"
    (package / "nested").mkdir(parents=True)
    (package / "package.json").write_text('{"format": 1}')
    (package / "nested" / "model.onnx").write_bytes(b"weights")
    report = tmp_path / "report.html"
    report.write_text("<html/>")
    history = tuple(Measurement("epoch.validation_loss", step, 1 / step) for step in (1, 2, 3))
    return TrackedRun(
        key="brain-run-1-0123456789abcdef",
        name="run-1",
        experiment="brain",
        tags={"champion": "cnn"},
        params={"seed": "7"},
        metrics={"images": 40},
        figures={"overview.svg": SVG},
        files=(report,),
        models=(
            TrackedModel(
                name="cnn",
                tags={"family": "cnn"},
                params={"training.epochs": "3", "long": "x" * 7000},
                metrics={
                    "test_clean.accuracy": 0.9,
                    "test_clean.accuracy.low": 0.8,
                    "test_clean.accuracy.high": 0.95,
                    "nan": float("nan"),
                },
                history=history,
                figures={"confusion.svg": SVG},
                package=package,
            ),
            TrackedModel(name="forest", failure="too few images: take more"),
        ),
    )


def client_of(output):
    return mlflow.MlflowClient(tracking_uri=tracking_uri(output=output))


def runs_of(output, experiment="brain"):
    """All runs that are not deleted, the parent first."""
    client = client_of(output)
    runs = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return sorted(runs, key=lambda run: ("mlflow.parentRunId" in run.data.tags, run.info.run_name))


def folder_of(run):
    return Path(unquote(urlsplit(run.info.artifact_uri).path))


# ---------------------------------------------------------------------------------------------------- what is written


def test_one_parent_per_study_and_one_nested_run_per_model(output, study):
    tracked = track_study(study, output=output)
    parent, cnn, forest = runs_of(output)
    assert tracked.run_id == parent.info.run_id and not tracked.already_there
    assert (parent.info.run_name, parent.info.status) == ("run-1", "FINISHED")
    assert parent.data.tags["vitrail.run"] == study.key and parent.data.tags["champion"] == "cnn"
    assert parent.data.params == {"seed": "7"} and parent.data.metrics == {"images": 40}
    assert (cnn.info.run_name, cnn.info.status) == ("cnn", "FINISHED")
    assert (forest.info.run_name, forest.info.status) == ("forest", "FAILED")
    assert forest.data.tags["failure"] == "too few images: take more"
    assert {run.data.tags["mlflow.parentRunId"] for run in (cnn, forest)} == {parent.info.run_id}


def test_numbers_settings_and_history_of_a_model(output, study):
    track_study(study, output=output)
    cnn = runs_of(output)[1]
    assert cnn.data.params["training.epochs"] == "3"
    assert len(cnn.data.params["long"]) == 6000 and cnn.data.params["long"].endswith("x…")
    assert {name: cnn.data.metrics[name] for name in study.models[0].metrics if name != "nan"} == {
        "test_clean.accuracy": 0.9,
        "test_clean.accuracy.low": 0.8,
        "test_clean.accuracy.high": 0.95,
    }
    assert "nan" not in cnn.data.metrics
    history = client_of(output).get_metric_history(cnn.info.run_id, "epoch.validation_loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]


def test_figures_report_and_package_are_kept(output, study):
    track_study(study, output=output)
    parent, cnn, _ = runs_of(output)
    assert folder_of(parent).is_relative_to(output / "mlartifacts")
    assert (folder_of(parent) / "report.html").read_text() == "<html/>"
    assert (folder_of(parent) / "figures" / "overview.svg").read_text() == SVG
    assert (folder_of(cnn) / "figures" / "confusion.svg").read_text() == SVG
    assert json.loads((folder_of(cnn) / "model" / "package.json").read_text()) == {"format": 1}
    assert (folder_of(cnn) / "model" / "nested" / "model.onnx").read_bytes() == b"weights"


def test_nothing_else_and_nobody_is_recorded(output, study, monkeypatch):
    monkeypatch.chdir(output)
    monkeypatch.setenv("LOGNAME", "dr-jane-doe")
    monkeypatch.setenv("USER", "dr-jane-doe")
    track_study(study, output=output)
    assert sorted(path.name for path in output.iterdir()) == ["mlartifacts", "mlflow.db"]
    files = {path.name for path in (output / "mlartifacts").rglob("*") if path.is_file()}
    assert files == {"report.html", "overview.svg", "confusion.svg", "package.json", "model.onnx"}
    with sqlite3.connect(output / "mlflow.db") as database:
        assert "dr-jane-doe" not in "\n".join(database.iterdump())


def test_names_that_mlflow_refuses_are_made_fit_and_stay_apart(output):
    metrics = {
        "auc.tumour (grade 3+)": 0.1,
        "auc.tumour (grade 3-)": 0.2,
        "../../etc": 0.3,
        "auc.métastase": 0.4,
        "": 0.5,
        "a/b:c": 0.6,
    }
    figures = {"../escape.svg": SVG}
    odd = TrackedRun(
        key="it's `odd`",
        name="odd",
        experiment="odd",
        models=(TrackedModel("m", metrics=metrics, params={"?" * 300: "1"}, figures=figures),),
    )
    track_study(odd, output=output)
    _, model = runs_of(output, "odd")
    assert sorted(model.data.metrics.values()) == sorted(metrics.values())
    assert model.data.metrics["auc.métastase"] == 0.4
    assert list(model.data.params.values()) == ["1"]
    assert [path.name for path in (folder_of(model) / "figures").iterdir()] == ["-escape.svg"]
    assert track_study(odd, output=output).already_there


def test_more_numbers_than_one_call_may_hold(output):
    many = TrackedModel(
        "m",
        params={f"p{number}": str(number) for number in range(230)},
        metrics={f"m{number}": number for number in range(900)},
        history=tuple(Measurement("loss", step, step) for step in range(1, 301)),
    )
    track_study(TrackedRun(key="many", name="many", experiment="many", models=(many,)), output=output)
    _, model = runs_of(output, "many")
    assert len(model.data.params) == 230 and len(model.data.metrics) == 901
    assert len(client_of(output).get_metric_history(model.info.run_id, "loss")) == 300


# ---------------------------------------------------------------------------------------------------- once, and whole


def test_a_second_call_does_nothing(output, study):
    first = track_study(study, output=output)
    second = track_study(study, output=output)
    assert second.already_there and second.run_id == first.run_id
    assert len(runs_of(output)) == 3


def test_another_run_of_the_same_study_stands_beside_it(output, study):
    track_study(study, output=output)
    assert not track_study(replace(study, key="another"), output=output).already_there
    assert len(runs_of(output)) == 6


@pytest.mark.parametrize("killed_in", ["log_text", "log_artifact", "log_artifacts", "set_terminated"])
def test_a_killed_call_is_done_again_without_doubles(output, study, monkeypatch, killed_in):
    def killed(*arguments, **named):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, killed_in, killed)
        with pytest.raises(KeyboardInterrupt):
            track_study(study, output=output)
    left_over = {run.info.run_id for run in runs_of(output)}
    assert left_over
    tracked = track_study(study, output=output)
    runs = runs_of(output)
    assert not tracked.already_there and tracked.run_id not in left_over
    assert [run.info.run_name for run in runs] == ["run-1", "cnn", "forest"]
    assert left_over.isdisjoint(run.info.run_id for run in runs)
    assert (folder_of(runs[1]) / "model" / "package.json").exists()


# ---------------------------------------------------------------------------------------------------- where it is written


def test_the_setting_goes_before_the_environment_and_the_environment_before_the_output_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from.environment")
    assert tracking_uri(output=tmp_path, uri="http://from.setting") == "http://from.setting"
    assert tracking_uri(output=tmp_path) == "http://from.environment"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking_uri(output=tmp_path) == f"sqlite:///{tmp_path.as_posix()}/mlflow.db"


def test_a_relative_output_folder_becomes_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tracking_uri(output=Path("runs")) == f"sqlite:///{(tmp_path / 'runs').as_posix()}/mlflow.db"


def test_the_environment_variable_is_respected_and_artifacts_stay_beside_its_database(tmp_path, output, study, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(output / "mlflow.db", elsewhere / "lab.db")
    before = (output / "mlflow.db").read_bytes()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{(elsewhere / 'lab.db').as_posix()}")
    assert track_study(study, output=output).uri == os.environ["MLFLOW_TRACKING_URI"]
    assert len(runs_of(output)) == 3  # read through the same variable
    assert (elsewhere / "mlartifacts").is_dir()
    assert (output / "mlflow.db").read_bytes() == before and not (output / "mlartifacts").exists()


# ---------------------------------------------------------------------------------------------------- when it cannot be


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize("scheme", ["http", "postgresql", "mysql+pymysql"])
def test_a_server_that_is_not_there_is_one_clear_error_soon(tmp_path, study, scheme, capfd):
    port = closed_port()
    started = time.monotonic()
    with pytest.raises(TrackingError) as caught:
        track_study(study, output=tmp_path, uri=f"{scheme}://nurse:s3cret@127.0.0.1:{port}/lab")
    assert time.monotonic() - started < 10
    message = str(caught.value)
    assert f"MLflow at {scheme}://127.0.0.1:{port}/lab: not written (Connection refused)" in message
    assert "tracking.enabled: false" in message and "s3cret" not in message and "nurse" not in message
    assert capfd.readouterr() == ("", "")


def test_a_server_that_never_answers_is_given_up(tmp_path, study, monkeypatch):
    monkeypatch.setattr(tracking, "CONTACT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started = time.monotonic()
        with pytest.raises(TrackingError, match="not written"):
            track_study(study, output=tmp_path, uri=f"http://127.0.0.1:{mute.getsockname()[1]}")
        assert time.monotonic() - started < 10


def test_a_folder_that_cannot_be_written_is_an_error_at_once(tmp_path, study):
    (tmp_path / "file").write_text("")
    started = time.monotonic()
    with pytest.raises(TrackingError, match="not written"):
        track_study(study, output=tmp_path / "file")
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(TrackingError, match="not written"):
        track_study(study, output=tmp_path)
    assert time.monotonic() - started < 5


def test_a_deleted_experiment_is_not_raised_from_the_dead(output, study):
    track_study(study, output=output)
    client = client_of(output)
    client.delete_experiment(client.get_experiment_by_name("brain").experiment_id)
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        track_study(study, output=output)


def test_without_mlflow_the_error_says_what_to_install(output, study, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrackingError, match=r"vitrail\[train\]"):
        track_study(study, output=output)


# ---------------------------------------------------------------------------------------------------- silence


def test_the_users_own_patience_is_kept_and_the_environment_restored(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "77")
    before = dict(os.environ)
    with tracking._quiet_environment(seconds=5, retries=1):
        assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
        assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "1"
        assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert dict(os.environ) == before


@pytest.mark.slow
def test_a_fresh_process_makes_its_database_in_silence_and_talks_to_nobody(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    code = """
import sys
talk = ("socket.getaddrinfo", "socket.connect")  # MLflow reports its use to its makers unless told not to
sys.addaudithook(lambda event, details: sys.stderr.write(f"{event} {details}") if event in talk else None)
from pathlib import Path
from vitrail.tracked import TrackedModel, TrackedRun
from vitrail.tracking import track_study
if "mlflow" in sys.modules: raise SystemExit("mlflow was loaded with the module")
run = TrackedRun(key="k", name="n", experiment="e", models=(TrackedModel("m", figures={"a.svg": "<svg/>"}),))
track_study(run, output=Path("new") / "folder")
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "PYTEST_", "CI"))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [run.info.run_name for run in runs_of(tmp_path / "new" / "folder", "e")] == ["n", "m"]
