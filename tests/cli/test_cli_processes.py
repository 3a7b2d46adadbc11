"""The command line as a process: killed, interrupted, piped, started quickly, installed without what training needs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_data import answer, ask, command, numbers

from vitrail import pipeline, steps

HEAVY = ["torch", "mlflow", "sklearn", "matplotlib", "pandas", "timm", "onnxruntime", "scipy", "skimage", "numpy", "PIL"]
TRAINING = ["torch", "torchvision", "sklearn", "matplotlib", "mlflow", "timm", "pandas", "onnx", "skl2onnx"]


# ---------------------------------------------------------------------------------------------------- killed, interrupted


STEPS = [(pipeline, "save_split"), (steps, "save_package"), (steps, "evaluation_of"), (steps, "save_explanations")]


@pytest.mark.parametrize(("module", "step"), STEPS)
def test_an_interrupted_run_goes_on_to_the_same_numbers(finished, tmp_path, monkeypatch, module, step):
    words = ("run", finished.study, "--output", tmp_path / "out", "--models", "forest", "--set", "explanation.gallery=1")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, interrupt)
        result = ask(*words, "--json")
    assert (result.exit_code, result.stdout) == (130, "")
    assert "vitrail: interrupted; what is finished is kept, and the same command goes on from there." in result.stderr
    assert not list((tmp_path / "out").rglob("*.partial"))
    assert numbers(answer(*words)) == numbers(finished.json)[:1]


def appears(folder: Path, pattern: str, killed: subprocess.Popen[str]) -> bool:
    """Wait until a file is there (true) or the process has ended (false)."""
    while killed.poll() is None:
        if next(folder.glob(pattern), None) is not None:
            return True
        time.sleep(0.01)
    return False


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_numbers(finished, tmp_path):
    output = tmp_path / "out"
    moments = [
        "cache/*/index.json",
        "*/split.csv",
        "*/models/forest/package",
        "*/models/cnn/training.json",
        "*/models/cnn/evaluation.json",
    ]
    kills = 0
    for moment in moments:
        with subprocess.Popen(command("run", finished.study, "-o", output), stderr=subprocess.PIPE, text=True) as started:
            if appears(output, moment, started):
                started.send_signal(signal.SIGKILL)
                kills += 1
    assert kills == len(moments)
    assert numbers(answer("run", finished.study, "-o", output)) == numbers(finished.json)


@pytest.mark.slow
def test_a_training_killed_at_any_moment_ends_with_the_same_numbers(finished, tmp_path):
    """Killed at random moments after the first checkpoint, mostly between two others, so that some epochs are done twice."""
    words = ("evaluate", finished.study, "--models", "cnn", "--set", "models.cnn.training.epochs=400")
    words += ("--set", "models.cnn.training.patience=400")
    began = time.perf_counter()
    whole = answer(*words, "-o", tmp_path / "whole")
    longest = (time.perf_counter() - began) / 10  # three times this is much less than the training takes
    generator = np.random.default_rng(0)
    for _ in range(3):
        with subprocess.Popen(command(*words, "-o", tmp_path / "killed"), stderr=subprocess.DEVNULL) as started:
            if appears(tmp_path / "killed", "*/models/cnn/checkpoint.pt", started):
                time.sleep(generator.uniform(0, longest))
                started.send_signal(signal.SIGKILL)
    resumed = ask(*words, "-o", tmp_path / "killed", "--json")
    assert "cnn: training: resumed after epoch " in resumed.stderr
    assert numbers(json.loads(resumed.stdout)) == numbers(whole)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_control_c_ends_with_130_and_no_traceback(finished, tmp_path):
    words = ("train", finished.study, "--models", "forest", "--set", "models.forest.trees=5000", "-o", tmp_path / "out")
    with subprocess.Popen(command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert appears(tmp_path / "out", "*/split.csv", started)
        started.send_signal(signal.SIGINT)
        out, err = started.communicate(timeout=120)
    assert (started.returncode, out) == (130, "")
    assert "vitrail: interrupted" in err
    assert "Traceback" not in err


# ---------------------------------------------------------------------------------------------------- pipes


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("words", ["audit", "audit --json", "evaluate", "schema"])
def test_a_reader_who_goes_away_is_no_failure(finished, tmp_path, words):
    places = {"audit": [finished.images, "-o", tmp_path], "evaluate": [finished.folder], "schema": []}
    reader, writer = os.pipe()
    os.close(reader)
    verb, *more = words.split()
    line = command(verb, *places[verb], *more)
    done = subprocess.run(line, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 0
    assert all(re.search(r": (\d+) of \1 in \d+ s", told) for told in done.stderr.splitlines())


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_work_is_done_though_nobody_listens_to_its_progress(finished, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    line = command("audit", finished.images, "-o", tmp_path, "--json")
    done = subprocess.run(line, stdout=subprocess.PIPE, stderr=writer, text=True, check=False)
    os.close(writer)
    assert done.returncode == 0
    assert json.loads(done.stdout) == finished.json["audit"]


# ---------------------------------------------------------------------------------------------------- quick, light


def test_help_loads_nothing_heavy():
    programme = f"""
import json, sys
from typer.testing import CliRunner
from vitrail.cli import app
names = [command.name or command.callback.__name__ for command in app.registered_commands]
for words in [["--help"], ["--version"], *([name, "--help"] for name in names)]:
    assert CliRunner().invoke(app, words).exit_code == 0, words
print(json.dumps(sorted(set(sys.modules) & set({HEAVY}))))
"""
    done = subprocess.run([sys.executable, "-c", programme], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_an_audit_waits_for_no_library_of_training():
    programme = (
        f"import json, sys, vitrail.pipeline; print(json.dumps(sorted(set(sys.modules) & set({[*TRAINING, 'scipy.stats']}))))"
    )
    done = subprocess.run([sys.executable, "-c", programme], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def base_install(*words: object) -> subprocess.CompletedProcess[str]:
    """Ask vitrail as it is when only the base is installed: what training needs cannot be imported."""
    programme = f"""
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {TRAINING} else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
from vitrail.cli import main
main()
"""
    return subprocess.run([sys.executable, "-c", programme, *map(str, words)], capture_output=True, text=True, check=False)


def test_the_base_install_audits_predicts_and_explains(finished, tmp_path):
    image = finished.images / "flat" / "0.png"
    audit = base_install("audit", finished.images, "--json", "-o", tmp_path / "out")
    assert json.loads(audit.stdout) == finished.json["audit"], audit.stderr
    predict = base_install("predict", finished.package("cnn"), image, "--json")
    assert json.loads(predict.stdout) == answer("predict", finished.package("cnn"), image), predict.stderr
    explain = base_install("explain", finished.package("forest"), image, "--json", "-o", tmp_path / "maps")
    assert explain.returncode == 0, explain.stderr
    graded = json.loads((finished.package("forest").parent / "grades.json").read_text())["chosen"]
    (explanation,) = json.loads(explain.stdout)
    missing = explanation["method"] != graded  # the most faithful method may need what the base install lacks
    assert missing == (graded == "tree-shap") == ("tree-shap cannot be used here" in explanation["parameters"]["chosen"])


@pytest.mark.parametrize("verb", ["run", "report"])
def test_the_base_install_says_what_training_needs(finished, tmp_path, verb):
    done = base_install(verb, finished.folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not installed. Install what training needs: pip install 'vitrail[train]'." in done.stderr
    assert "Traceback" not in done.stderr
