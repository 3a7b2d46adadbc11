"""One finished run, asked for by many tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_data import contents, make_images, process, spoil, write_study


@dataclass(frozen=True)
class Finished:
    """A run of the command line, in a process of its own, that came to its end."""

    images: Path
    study: Path
    output: Path
    stderr: str
    json: dict[str, Any]
    before: dict[str, str]

    @property
    def folder(self) -> Path:
        return Path(self.json["run"])

    def package(self, model: str) -> Path:
        return self.folder / "models" / model / "package"


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    return make_images(tmp_path_factory.mktemp("data") / "shapes")


@pytest.fixture(scope="session")
def finished(tmp_path_factory, images) -> Finished:
    folder = tmp_path_factory.mktemp("finished")
    study = write_study(folder / "study.yaml", images, output="runs")
    before = contents(images)
    done = process("run", study, "--json")
    assert done.returncode == 0, done.stderr
    return Finished(images, study, folder / "runs", done.stderr, json.loads(done.stdout), before)


@pytest.fixture(scope="session")
def spoilt(tmp_path_factory) -> tuple[Path, dict[str, list[str]]]:
    folder = make_images(tmp_path_factory.mktemp("spoilt") / "shapes", seed=2)
    return folder, spoil(folder)
