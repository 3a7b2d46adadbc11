"""``import vitrail``: few names, light, and each of them what it says."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import os
import pkgutil
import subprocess
import sys

import pytest

import vitrail

NAMES = ["PhantomSettings", "Study", "__version__", "explain", "load_package", "make_phantom", "run"]


def fresh(programme: str) -> str:
    """What a programme prints in a Python of its own."""
    done = subprocess.run([sys.executable, "-c", programme], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_names_are_these_and_sorted():
    assert vitrail.__all__ == NAMES == sorted(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__version__"])
def test_every_name_is_there_explained_and_the_room_s_own(name):
    value = getattr(vitrail, name)
    assert len(inspect.getdoc(value) or "") > 20
    assert value.__module__.startswith("vitrail.")
    home = importlib.import_module(vitrail._HOMES[name])
    assert getattr(home, name) is value


def test_the_version_is_the_installed_one():
    assert vitrail.__version__ == importlib.metadata.version("vitrail")


def test_every_name_is_imported_for_type_checkers():
    """A name missing below TYPE_CHECKING would be ``object`` to a type checker."""
    source = inspect.getsource(vitrail)
    block = source.partition("if TYPE_CHECKING:")[2].partition("__all__")[0]
    for name in NAMES:
        assert name in block.replace(",", " ").replace(":", " ").split()


def test_dir_lists_them_before_they_are_loaded():
    listed = json.loads(fresh("import json, vitrail; print(json.dumps(dir(vitrail)))"))
    assert set(NAMES) <= set(listed)
    assert listed == sorted(listed)


def test_an_unknown_name_is_told():
    with pytest.raises(AttributeError, match="module 'vitrail' has no attribute 'Stduy'; it has PhantomSettings, Study"):
        _ = vitrail.Stduy
    assert not hasattr(vitrail, "nothing")


def test_import_loads_nothing_but_itself():
    loaded = fresh("import sys, vitrail; print(*[name for name in sys.modules if name.startswith('vitrail')])").split()
    assert loaded == ["vitrail"]
    heavy = "{'torch', 'numpy', 'pydantic', 'sklearn', 'mlflow', 'matplotlib', 'yaml', 'rich', 'typer'}"
    assert fresh(f"import sys, vitrail; print(sorted(set(sys.modules) & {heavy}))") == "[]"


@pytest.mark.parametrize("name", ["Study", "load_package", "explain", "make_phantom"])
def test_no_name_but_run_needs_what_training_needs(name):
    training = "{'torch', 'sklearn', 'mlflow', 'matplotlib', 'jinja2', 'timm', 'onnx', 'pandas'}"
    assert fresh(f"import sys, vitrail; vitrail.{name}; print(sorted(set(sys.modules) & {training}))") == "[]"


def test_no_name_hides_a_file_or_folder_of_the_package():
    modules = {module.name for module in pkgutil.iter_modules(vitrail.__path__)}
    assert not modules & set(NAMES)
    for name in NAMES:
        getattr(vitrail, name)
    for module in sorted(modules):
        assert inspect.ismodule(importlib.import_module(f"vitrail.{module}"))
        assert inspect.ismodule(getattr(vitrail, module))


def test_star_import_gives_the_names():
    assert fresh("from vitrail import *; print(Study.__name__, run.__name__, __version__ != '')") == "Study run True"


@pytest.mark.parametrize(
    ("said", "spins", "timeout"),
    [
        ({}, "3000", "4"),
        ({"GOMP_SPINCOUNT": "7", "OPENBLAS_THREAD_TIMEOUT": "20"}, "7", "20"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None", "4"),
    ],
)
def test_threads_wait_politely_unless_the_user_says_otherwise(said, spins, timeout):
    asked = "import vitrail, os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ['OPENBLAS_THREAD_TIMEOUT'])"
    ours = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OPENBLAS_THREAD_TIMEOUT")
    environment = {name: value for name, value in os.environ.items() if name not in ours} | said
    told = subprocess.run([sys.executable, "-c", asked], env=environment, check=True, capture_output=True, text=True).stdout
    assert told.split() == [spins, timeout]


def test_the_command_line_is_also_a_module():
    asked = [sys.executable, "-m", "vitrail"]
    version = subprocess.run([*asked, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout.strip() == f"vitrail {vitrail.__version__}"
    wrong = subprocess.run([*asked, "audit", "nowhere"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2 and "there is no such folder" in wrong.stderr
