"""Fetching from Kaggle, against a stand-in for Kaggle on this machine."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import sys
import threading
import zipfile
from typing import ClassVar

import pytest

from vitrail.datasets.fetching import FRIENDLY_NAMES, Origin, fetch
from vitrail.errors import DataError, OutputError, UsageError
from vitrail.storage import read_record

kaggle_env = pytest.importorskip("kagglesdk.kaggle_env", reason="kagglehub is not installed")


def bundle(**files: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as container:
        for name, content in files.items():
            container.writestr(name.replace("__", "/"), content)
    return stream.getvalue()


class Kaggle(http.server.BaseHTTPRequestHandler):
    """Answers what kagglehub asks: the description of a data set, and its files as a zip."""

    status = 200
    archive = bundle(a__1_png=b"one", b__2_png=b"two")
    announced: int | None = None
    description: ClassVar[dict] = {"title": "Scans", "currentVersionNumber": 4, "licenseName": "CC0-1.0", "totalBytes": 100}
    asked: ClassVar[list[tuple[str, dict]]] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        call = self.path.rpartition("/")[2]
        type(self).asked.append((call, body))
        if self.status != 200:
            self.reply(self.status, "application/json", json.dumps({"code": self.status, "message": "refused"}).encode())
        elif call == "GetDataset":
            self.reply(200, "application/json", json.dumps(self.description).encode())
        else:
            self.reply(200, "application/zip", self.archive)

    def reply(self, status, kind, content):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(self.announced if kind.endswith("zip") and self.announced else len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    class Answers(Kaggle):
        asked: ClassVar[list] = []

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, address)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_KERNEL_RUN_TYPE"):
        monkeypatch.delenv(name, raising=False)
    yield Answers
    server.shutdown()
    server.server_close()


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "name",
    [
        "kaggle:owner/scans",
        "https://www.kaggle.com/datasets/owner/scans",
        "https://kaggle.com/datasets/owner/scans/data?select=a",
    ],
)
def test_a_data_set_comes_to_a_folder_with_its_origin(kaggle, tmp_path, capsys, name):
    folder = fetch(name, tmp_path / "data")
    assert folder == tmp_path / "data" / "scans"
    assert names(folder) == ["a/1_png", "b/2_png", "origin.json"]
    assert (folder / "a" / "1_png").read_bytes() == b"one"
    origin = read_record(folder / "origin.json", Origin)
    assert (origin.source, origin.version, origin.licence, origin.title) == ("kaggle:owner/scans", 4, "CC0-1.0", "Scans")
    assert (origin.files, origin.size_bytes) == (2, 6)
    assert ("DownloadDataset", {"ownerSlug": "owner", "datasetSlug": "scans", "datasetVersionNumber": 4}) in [
        (call, {key: value for key, value in body.items() if key in ("ownerSlug", "datasetSlug", "datasetVersionNumber")})
        for call, body in kaggle.asked
    ]
    assert capsys.readouterr() == ("", "")
    assert [path.name for path in (tmp_path / "data").iterdir() if not path.name.endswith(".lock")] == ["scans"]


def test_a_friendly_name_is_the_folder(kaggle, tmp_path):
    assert fetch("chest-xray", tmp_path) == tmp_path / "chest-xray"
    assert kaggle.asked[0][1] == {"ownerSlug": "paultimothymooney", "datasetSlug": "chest-xray-pneumonia"}
    assert set(FRIENDLY_NAMES) == {"brain-mri", "brain-mri-7023", "breast-ultrasound", "chest-xray"}


def test_what_is_there_is_fetched_again_only_when_asked(kaggle, tmp_path):
    folder = fetch("kaggle:owner/scans", tmp_path)
    calls = len(kaggle.asked)
    assert fetch("kaggle:owner/scans", tmp_path) == folder
    assert len(kaggle.asked) == calls
    kaggle.archive = bundle(c__3_png=b"three")
    fetch("kaggle:owner/scans", tmp_path, again=True)
    assert names(folder) == ["c/3_png", "origin.json"]


def test_a_wished_version_is_fetched(kaggle, tmp_path):
    folder = fetch("kaggle:owner/scans", tmp_path)
    assert fetch("kaggle:owner/scans/versions/2", tmp_path) == folder
    assert read_record(folder / "origin.json", Origin).version == 2


def test_folders_of_others_are_never_replaced(kaggle, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"was not fetched by vitrail"):
        fetch("kaggle:owner/scans", tmp_path, again=True)
    assert names(tmp_path / "scans") == ["mine.txt"]
    fetch("kaggle:owner/others", tmp_path)
    with pytest.raises(OutputError, match=r"holds kaggle:owner/others, not kaggle:else/others"):
        fetch("kaggle:else/others", tmp_path)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (404, DataError, "there is no such data set on Kaggle"),
        (401, UsageError, "KAGGLE_API_TOKEN"),
        (403, UsageError, "its terms must be accepted at https://www.kaggle.com/datasets/owner/scans"),
        (429, UsageError, "too many requests"),
        (500, UsageError, "status 500"),
    ],
)
def test_refusals_are_told_in_words_and_leave_nothing(kaggle, tmp_path, status, kind, words):
    kaggle.status = status
    with pytest.raises(kind, match="kaggle:owner/scans: ") as caught:
        fetch("kaggle:owner/scans", tmp_path / "data")
    assert words in str(caught.value)
    assert not (tmp_path / "data" / "scans").exists()


def test_a_damaged_archive_leaves_nothing(kaggle, tmp_path):
    kaggle.archive = bundle(a=b"x" * 5000)[:300]
    with pytest.raises(DataError, match=r"kaggle:owner/scans: arrived damaged\. Fetch it again\."):
        fetch("kaggle:owner/scans", tmp_path)
    assert not (tmp_path / "scans").exists()
    assert not list(tmp_path.glob(".*partial"))


def test_a_download_that_breaks_off_leaves_nothing(kaggle, tmp_path):
    kaggle.announced = 100_000
    with pytest.raises(UsageError, match="Kaggle cannot be reached"):
        fetch("kaggle:owner/scans", tmp_path)
    assert not (tmp_path / "scans").exists()


def test_without_network_the_error_says_so(kaggle, tmp_path, monkeypatch):
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, "http://127.0.0.1:9")
    with pytest.raises(UsageError, match="Kaggle cannot be reached"):
        fetch("kaggle:owner/scans", tmp_path)


def test_a_data_set_larger_than_the_disk_is_not_begun(kaggle, tmp_path):
    kaggle.description = Kaggle.description | {"totalBytes": 10**18}
    with pytest.raises(OutputError, match=r"takes more than 1,000,000,000.0 GB"):
        fetch("kaggle:owner/scans", tmp_path)
    assert [call for call, _ in kaggle.asked] == ["GetDataset"]


def test_without_the_library_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    monkeypatch.setitem(sys.modules, "kagglehub.exceptions", None)
    with pytest.raises(UsageError, match=r"pip install 'vitrail\[fetch\]'"):
        fetch("brain-mri", tmp_path)


@pytest.mark.parametrize(
    "name", ["owner/scans", "kaggle:../scans", "kaggle:owner", "https://example.org/datasets/a/b", "scans", ""]
)
def test_other_names_are_refused(tmp_path, name):
    with pytest.raises(UsageError, match="kaggle:owner/name"):
        fetch(name, tmp_path)


def test_progress_hears_how_far_the_download_is(kaggle, tmp_path):
    steps, said = [], []

    class Listening:
        def task(self, title, total):
            assert (title, total) == ("Downloading (%)", 100)
            return contextlib.nullcontext(lambda steps_done=1, note="": steps.append(steps_done))

        def say(self, message):
            said.append(message)

    kaggle.archive = bundle(a=bytes(range(256)) * 40_000)
    fetch("kaggle:owner/scans", tmp_path, Listening())
    assert sum(steps) == 100
    assert said == ["Scans: https://www.kaggle.com/datasets/owner/scans, licence CC0-1.0."]
