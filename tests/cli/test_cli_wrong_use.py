"""The command line when it is asked for what cannot be: told what, why and what next; nothing half-written; no traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_data import SMALL, ask, contents, kept, make_images, options, picture, process, spoil, write_study
from PIL import Image


def assert_told(result, *expected: str, code: int = 2) -> None:
    assert result.exit_code == code
    assert result.stdout == ""
    told = " ".join(result.stderr.replace("│", " ").split())
    for words in expected:
        assert words in told
    assert "Traceback" not in told


# ---------------------------------------------------------------------------------------------------- folders of images


def missing(folder: Path) -> None:
    """No such folder."""


def empty(folder: Path) -> None:
    folder.mkdir()


def a_file(folder: Path) -> None:
    folder.write_text("not a folder")


def one_class_only(folder: Path) -> None:
    make_images(folder, per_class=3)
    shutil.rmtree(folder / "round")
    shutil.rmtree(folder / "flat")


def no_classes(folder: Path) -> None:
    folder.mkdir()
    Image.fromarray(picture("flat", np.random.default_rng(0))).save(folder / "a.png")


def a_class_with_one_image(folder: Path) -> None:
    make_images(folder, per_class=3)
    for number in (1, 2):
        (folder / "round" / f"{number}.png").unlink()


def only_broken_images(folder: Path) -> None:
    make_images(folder, per_class=2)
    for path in folder.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])


def too_few_for_three_parts(folder: Path) -> None:
    make_images(folder, per_class=2)


@pytest.mark.parametrize("verb", ["run", "train"])
@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (missing, ["images: there is no such folder.", "Check the path"]),
        (empty, ["images: the folder is empty.", "Put the images there."]),
        (a_file, ["images: this is a file, not a folder."]),
        (no_classes, ["images: no class folders were found.", "1 images directly in it", "Move the images of each class"]),
        (one_class_only, ["images: only one class was found, 'stripes'", "Add the folder of another class."]),
        (a_class_with_one_image, ["every class needs at least two readable images", "class 'round' has 1", "Add images"]),
        (only_broken_images, ["no readable image was found.", "Found: 6 unreadable", "the first is flat/0.png: "]),
        (
            too_few_for_three_parts,
            ["at least 3 independent usable images of every class", "'flat' has 2", "Add images of the class"],
        ),
    ],
)
def test_folders_that_cannot_be_used(tmp_path, verb, make: Callable[[Path], None], expected):
    make(tmp_path / "images")
    before = contents(tmp_path / "images")
    words = (verb, tmp_path / "images", "--output", tmp_path / "out", "--models", "forest", *options(*SMALL[:3]), "--quiet")
    assert_told(ask(*words), *expected)
    assert contents(tmp_path / "images") == before
    assert not kept(tmp_path / "out")
    assert make is too_few_for_three_parts or not (tmp_path / "out").exists()


@pytest.mark.parametrize("make", [missing, empty, one_class_only])
def test_init_and_audit_refuse_them_too(tmp_path, make, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "images")
    before = contents(tmp_path)
    assert_told(ask("init", tmp_path / "images"), "images: ")
    assert_told(ask("audit", tmp_path / "images"), "images: ")
    assert contents(tmp_path) == before
    assert not (tmp_path / "runs").exists()


# ---------------------------------------------------------------------------------------------------- settings


def test_every_problem_of_a_study_is_told_at_once(images, tmp_path):
    study = write_study(tmp_path / "study.yaml", images, spilt={"validation": 0.1}, seed="many", models=["forest", "vit"])
    assert_told(
        ask("run", study),
        f"{study}: 3 problems",
        "seed: must be a valid integer",
        "Found: 'many'.",
        "spilt: unknown setting. Did you mean 'split'? Known here: name, seed,",
        "models[1].model: unknown model. Known: forest, boosted, svm, cnn, probe, finetune, transformer, ensemble. Found: 'vit'.",
    )
    assert list(tmp_path.iterdir()) == [study]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--models", "forest,vit"],
            ["models[1].model: unknown model. Known: forest, boosted, svm, cnn, probe, finetune,", "ensemble. Found: 'vit'."],
        ),
        (["--models", "forst"], ["Did you mean 'forest'?"]),
        (["--models", ","], ["models: must have at least 1 item, not 0."]),
        (["--models", "forest,forest"], ["models: must have different names, and 2 are called 'forest'"]),
        (["--models", "forest", "--backbone", "resnet18"], ["models.probe.backbone: no such setting: there is no 'probe' here"]),
        (["--models", "probe", "--backbone", "mobilnetv2_100"], ["models.probe.backbone: is no timm model", "mobilenetv2_100"]),
        (["--set", "nonsense"], ["--set: must be KEY=VALUE, for example split.validation=0.15. Found: 'nonsense'."]),
        (["--set", "spilt.validation=0.1"], ["spilt: unknown setting. Did you mean 'split'?"]),
        (
            ["--set", "split.validation=2", "--seed", "-1"],
            ["2 problems", "seed: must be", "split.validation: must be less than 0.5."],
        ),
        (
            ["--models", "cnn", "--set", "models.cnn.preprocess.size=16", "--set", "models.cnn.filters=[1,1,1,1,1]"],
            ["at most 4 blocks"],
        ),
        (
            ["--set", "audit.accept=[{code: DUP999, reason: known}]", "--models", "forest"],
            ["audit.accept[0].code: no check has this code"],
        ),
    ],
)
def test_options_that_cannot_be(images, tmp_path, words, expected):
    assert_told(ask("run", images, "--output", tmp_path / "out", *words, "--quiet"), *expected)
    assert not kept(tmp_path / "out")


def test_a_wrong_code_in_a_studys_audit_is_told_before_an_image_is_read(images, tmp_path):
    accepted = [{"code": "DUP999", "reason": "known"}]
    study = write_study(tmp_path / "study.yaml", images, audit={"accept": accepted}, output=str(tmp_path / "out"))
    assert_told(ask("audit", study, "--quiet"), "audit.accept[0].code: no check has this code")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run"], ["Missing argument 'FOLDER|STUDY.YAML|RUN'"]),
        (["predict", "package"], ["Missing argument 'images'"]),
        (["run", "images", "--sed", "3"], ["No such option: --sed", "--seed"]),
        (["run", "images", "--seed", "three"], ["Invalid value for '--seed'", "integer"]),
        (["run", "images", "--seed"], ["--seed", "requires an argument"]),
        (["rnu", "images"], ["No such command 'rnu'", "run"]),
        (["report", "a", "b"], ["unexpected extra argument"]),
    ],
)
def test_words_that_the_command_line_does_not_know(words, expected):
    assert_told(ask(*words), *expected)


def test_a_study_that_is_not_there(tmp_path):
    assert_told(ask("run", tmp_path / "study.yaml"), "study.yaml: 1 problem", "cannot be read. Found: No such file")


def test_a_study_that_is_no_yaml(tmp_path):
    (tmp_path / "study.yaml").write_text("data: [")
    assert_told(ask("run", tmp_path / "study.yaml"), "study.yaml: 1 problem", "is not valid YAML")


# ---------------------------------------------------------------------------------------------------- places to write


@pytest.mark.parametrize("verb", ["run", "train", "evaluate", "audit"])
@pytest.mark.parametrize("output", ["file", "file/deep/below"])
def test_a_file_in_the_way_of_the_output(images, tmp_path, verb, output):
    (tmp_path / "file").write_text("in the way")
    result = ask(verb, images, "--output", tmp_path / output)
    assert_told(result, f"{tmp_path / output}: cannot be an output folder", "is not a folder. Choose another --output.")
    assert contents(tmp_path).keys() == {"file"}


def test_demo_and_explain_and_init_look_for_a_file_in_the_way_too(finished, tmp_path):
    (tmp_path / "file").write_text("in the way")
    assert_told(ask("demo", "--output", tmp_path / "file", "--quiet"), "file")
    image = finished.images / "flat" / "0.png"
    assert_told(ask("explain", finished.package("cnn"), image, "--output", tmp_path / "file"), "is not a folder")
    assert_told(ask("init", finished.images, "--file", tmp_path / "file" / "study.yaml"), "cannot write here")
    (tmp_path / "folder").mkdir()
    assert_told(ask("init", finished.images, "--file", tmp_path / "folder", "--force"), "cannot write here")
    assert contents(tmp_path).keys() == {"file"}


@pytest.mark.parametrize("verb", ["run", "audit"])
def test_output_among_the_images(tmp_path, verb, monkeypatch):
    folder = make_images(tmp_path / "images", per_class=3)
    before = contents(folder)
    monkeypatch.chdir(folder)
    assert_told(ask(verb, "."), "lies inside the folder of the images", "taken for a class", "Choose an --output outside.")
    assert contents(folder) == before
    assert not (folder / "runs").exists()


# ---------------------------------------------------------------------------------------------------- packages and images


@pytest.fixture
def package(finished, tmp_path):
    return Path(shutil.copytree(finished.package("cnn"), tmp_path / "package"))


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_what_is_no_package(finished, tmp_path, verb, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = finished.images / "flat" / "0.png"
    assert_told(ask(verb, tmp_path, image), "not a model package (found a folder without package.json)", "models/NAME/package")
    assert_told(ask(verb, tmp_path / "absent", image), "absent: not a model package (found nothing)")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["predict", "explain"])
@pytest.mark.parametrize("name", ["package.json", "embedder.onnx", "head.safetensors", "golden/0.png"])
def test_an_altered_package(finished, package, tmp_path, verb, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = bytearray((package / name).read_bytes())
    content[len(content) // 2] ^= 1
    (package / name).write_bytes(content)
    result = ask(verb, package, finished.images / "flat" / "0.png")
    assert_told(result, f"{name} is not the file that was packed", "Do not use this package.")
    assert not (tmp_path / "explanations").exists()


@pytest.mark.parametrize("verb", ["predict", "explain"])
def test_a_missing_image(finished, tmp_path, verb, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = ask(verb, finished.package("cnn"), finished.images / "flat" / "0.png", "absent.png", tmp_path)
    assert_told(result, f"no such image file: absent.png, {tmp_path}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("model", "words", "expected"),
    [
        ("cnn", ["--method", "magic"], ["'magic'", "Choose one of: cam, grad-cam,", "occlusion,"]),
        ("cnn", ["--target", "glioma"], ["does not know 'glioma'", "Choose one of: flat, round, stripes."]),
        ("forest", ["--method", "grad-cam"], ["grad-cam: needs", "Use occlusion or "]),
    ],
)
def test_explanations_that_cannot_be(finished, tmp_path, model, words, expected):
    image = finished.images / "flat" / "0.png"
    assert_told(ask("explain", finished.package(model), image, *words, "--output", tmp_path / "maps", "--quiet"), *expected)
    assert not (tmp_path / "maps").exists()


# ---------------------------------------------------------------------------------------------------- runs


def test_what_is_no_run(tmp_path, finished):
    for place in (tmp_path, tmp_path / "absent", finished.package("cnn")):
        assert_told(ask("report", place), f"{place}: not the folder of a run. Give one that `vitrail run` printed.")


@pytest.mark.parametrize("name", ["manifest.json", "audit.json", "provenance.json", "models/cnn/training.json"])
@pytest.mark.parametrize("content", [None, "{", '{"a": 1}'])
def test_a_damaged_run(finished, tmp_path, name, content):
    run = shutil.copytree(finished.folder, tmp_path / "run", ignore=shutil.ignore_patterns("package"))
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    if name.endswith("training.json") and content is None:  # that is how a run looks before the model is trained
        assert ask("report", run).exit_code == 0
    else:
        assert_told(ask("report", run), f"{run}: the run is damaged", "--fresh")


# ---------------------------------------------------------------------------------------------------- strict


def test_strict_stops_on_errors_that_nobody_accepts(spoilt, tmp_path):
    result = ask("train", spoilt[0], "--strict", "--models", "forest", "--output", tmp_path / "out", "--quiet")
    assert_told(result, "that the study does not accept", "IO101", "Fix: ", "accept:", code=3)
    assert not kept(tmp_path / "out")


def test_strict_passes_when_the_study_says_why(spoilt, tmp_path):
    reasons = {"IO101": "lost with the old archive", "SHC501": "pictures of different things have different sizes"}
    accepted = [{"code": code, "reason": reason} for code, reason in reasons.items()]
    audit = {"strict": True, "accept": accepted}
    study = write_study(tmp_path / "study.yaml", spoilt[0], audit=audit, models=[{"model": "forest", "trees": 10}])
    result = ask("train", study, "--json", "--output", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    (finding,) = [found for found in json.loads(result.stdout)["audit"]["findings"] if found["code"] == "IO101"]
    assert finding["accepted"] == "lost with the old archive"


@pytest.mark.parametrize("by", ["option", "study"])
def test_a_strict_audit_tells_everything_and_then_fails(spoilt, tmp_path, by):
    study = write_study(tmp_path / "study.yaml", spoilt[0], audit={"strict": by == "study"})
    words = ["audit", study, "--output", tmp_path / "out", "--json", *(["--strict"] if by == "option" else [])]
    result = ask(*words)
    assert result.exit_code == 3
    assert "IO101" in [finding["code"] for finding in json.loads(result.stdout)["findings"]]
    assert "that the study does not accept" in result.stderr
    assert ask("audit", write_study(study, spoilt[0]), "--output", tmp_path / "out").exit_code == 0


# ---------------------------------------------------------------------------------------------------- processes


def test_exit_code_and_messages_hold_in_a_process(tmp_path):
    done = process("run", tmp_path / "absent", "--output", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"vitrail: {tmp_path}/absent: there is no such folder. Check the path of the images.\n"
    assert not list(tmp_path.iterdir())


def test_a_whole_folder_of_odd_files_is_no_reason_for_a_traceback(tmp_path):
    folder = make_images(tmp_path / "images", per_class=2)
    spoil(folder)
    (folder / "flat" / "new\nline.png").write_bytes((folder / "flat" / "0.png").read_bytes())
    (folder / "flat" / "link.png").symlink_to(folder / "flat" / "gone.png")
    assert ask("audit", folder, "--output", tmp_path / "out").exit_code == 0
