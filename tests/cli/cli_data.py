"""Small folders of images, and ways to ask vitrail, for the tests of the command line."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from typer.testing import CliRunner, Result

from vitrail.cli import app

CLASSES = ("flat", "round", "stripes")
SMALL = (
    "evaluation.resamples=200",
    "tracking.enabled=false",
    "models.forest.trees=10",
    "models.cnn.filters=[4,8]",
    "models.cnn.training.epochs=2",
    "models.cnn.preprocess.size=32",
)
"""Settings under which a run takes seconds."""


def picture(label: str, generator: np.random.Generator, *, height: int = 40, width: int = 40) -> np.ndarray:
    """A grey picture of one class, uint8: the classes are told apart at a glance, and no two pictures are nearly the same."""
    rows, columns = np.mgrid[0:height, 0:width]
    if label == "round":
        centre = generator.uniform(0.35, 0.65, 2) * (height, width)
        bright = 40 + 160 * ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < generator.uniform(60, 120))
    elif label == "stripes":
        angle, period, phase = generator.uniform(-0.6, 0.6), generator.uniform(5, 11), generator.uniform(0, 1)
        bright = 40 + 160 * (((columns * np.cos(angle) + rows * np.sin(angle)) / period + phase) % 1 < 0.5)
    else:
        bright = np.full((height, width), generator.uniform(60, 180))
    return np.clip(bright + generator.normal(0, 12, (height, width)), 0, 255).astype(np.uint8)


def make_images(folder: Path, *, per_class: int = 14, seed: int = 0) -> Path:
    """Write a folder of images: three classes, one folder each."""
    generator = np.random.default_rng(seed)
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for number in range(per_class):
            Image.fromarray(picture(label, generator)).save(folder / label / f"{number}.png")
    return folder


def spoil(folder: Path) -> dict[str, list[str]]:
    """Add odd and broken files to a folder of :func:`make_images`; return the broken ones by the check that must find them."""
    generator = np.random.default_rng(1)
    tall = Image.fromarray(picture("round", generator, height=60))
    coarse = io.BytesIO()
    tall.save(coarse, "JPEG")
    (folder / "round" / "truncated.jpg").write_bytes(coarse.getvalue()[: len(coarse.getvalue()) // 2])
    (folder / "flat" / "empty.png").touch()
    (folder / "stripes" / "words.png").write_text("this is no image")
    tall.save(folder / "round" / "misnamed.jpg", "PNG")
    Image.fromarray(picture("flat", generator)).convert("CMYK").save(folder / "flat" / "cmyk.jpg")
    deep = picture("stripes", generator).astype(np.uint16) * 250
    Image.fromarray(deep).save(folder / "stripes" / "deep.png")
    turned = Image.Exif()
    turned[0x0112] = 6  # the camera lay on its side
    tall.save(folder / "round" / "turned.jpg", exif=turned)
    return {
        "IO101": ["round/truncated.jpg"],
        "IO102": ["round/misnamed.jpg"],
        "IO103": ["flat/empty.png", "stripes/words.png"],
    }


def write_study(path: Path, images: Path, **settings: object) -> Path:
    """Write a study.yaml of a small forest and a small network."""
    content = {
        "data": {"path": str(images)},
        "models": [
            {"model": "forest", "trees": 10},
            {"model": "cnn", "filters": [4, 8], "training": {"epochs": 2}, "preprocess": {"size": 32}},
        ],
        "evaluation": {"resamples": 200},
        "explanation": {"grade_images": 12, "hunt_images": 12},
        "tracking": {"enabled": False},
        **settings,
    }
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


def ask(*words: object) -> Result:
    """Ask vitrail in this process."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(*words: object) -> Any:
    """Ask vitrail for JSON and return it: standard output must hold exactly one object, and nothing may have failed."""
    result = ask(*words, "--json")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def command(*words: object) -> list[str]:
    """A command line for a process of its own."""
    return [sys.executable, "-c", "from vitrail.cli import main; main()", *map(str, words)]


def process(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Ask vitrail in a process of its own."""
    return subprocess.run(command(*words), capture_output=True, text=True, check=False, timeout=300, **options)


def contents(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def numbers(run: dict[str, Any]) -> list[dict[str, Any]]:
    """What a run measured, without places and without how often it took to get there."""
    leave_out = ("package", "test_openings", "test_openings_of_data")
    return [{key: value for key, value in row.items() if key not in leave_out} for row in run["leaderboard"]]


def kept(output: Path) -> list[str]:
    """What stands in an output folder, the cache (which anybody may delete) and locks aside."""
    return sorted(path.name for path in output.glob("*") if path.name != "cache" and not path.name.startswith("."))


def options(*settings: str) -> list[str]:
    """``--set`` for each setting."""
    return [word for setting in settings for word in ("--set", setting)]
