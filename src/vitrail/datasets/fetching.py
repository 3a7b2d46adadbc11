"""Public data sets from Kaggle, fetched once into a folder of their own, with a record of where they come from."""

from __future__ import annotations

import contextlib
import datetime
import io
import logging
import re
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vitrail.errors import DataError, OutputError, UsageError
from vitrail.progress import SILENT, Advance, Progress
from vitrail.storage import locked, read_record, whole_folder, write_record

FRIENDLY_NAMES: dict[str, str] = {
    "brain-mri": "sartajbhuvaji/brain-tumor-classification-mri",
    "brain-mri-7023": "masoudnickparvar/brain-tumor-mri-dataset",
    "breast-ultrasound": "aryashah2k/breast-ultrasound-images-dataset",
    "chest-xray": "paultimothymooney/chest-xray-pneumonia",
}
"""Short name -> the data set on Kaggle. The four that teaching and papers use most; others by their own names."""

ORIGIN = "origin.json"
"""The file in a fetched folder that says where it comes from, see :class:`Origin`."""

_SLUG = r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}"
_HANDLE = re.compile(rf"(?P<owner>{_SLUG})/(?P<name>{_SLUG})(?:/versions/(?P<version>\d{{1,6}}))?")
_ADDRESS = re.compile(rf"https?://(?:www\.)?kaggle\.com/datasets/(?P<handle>{_SLUG}/{_SLUG}(?:/versions/\d+)?)(?:[/?#].*)?")
_LOGIN = (
    "Make a token at https://www.kaggle.com/settings (API, Generate New Token), then set KAGGLE_API_TOKEN to it, or put "
    "kaggle.json into ~/.kaggle."
)
_WAIT = 3600.0


@dataclass(frozen=True)
class Origin:
    """Where a fetched data set comes from.

    Attributes:
        source: ``kaggle:owner/name``.
        address: Its page.
        version: Version on Kaggle; ``None`` when unknown.
        title: What its author calls it; empty when unknown.
        licence: Name of its licence as Kaggle gives it; empty when unknown.
        fetched: Day on which it was fetched.
        files: Number of files.
        size_bytes: Their length, all together.
    """

    source: str
    address: str
    version: int | None
    title: str
    licence: str
    fetched: datetime.date
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Source:
    """A data set on Kaggle, and the folder that it shall come to."""

    handle: str
    version: int | None
    folder: str

    @property
    def name(self) -> str:
        return f"kaggle:{self.handle}"

    @property
    def address(self) -> str:
        return f"https://www.kaggle.com/datasets/{self.handle}"


@dataclass(frozen=True, slots=True)
class _Described:
    """What Kaggle says of a data set."""

    version: int | None
    title: str
    licence: str
    size_bytes: int


def fetch(name: str, destination: Path, progress: Progress = SILENT, *, again: bool = False) -> Path:
    """Fetch a public data set into a folder of its own, or find it there.

    Args:
        name: A name of ``FRIENDLY_NAMES``, ``kaggle:owner/name`` (also ``kaggle:owner/name/versions/3``), or the address of its
            page on Kaggle.
        destination: The folder comes to ``destination/<friendly name, or name on Kaggle>``, whole or not at all, with a file
            ``origin.json`` in it.
        progress: Told how far the download is, and the licence.
        again: Fetch it although it is there; the old folder is replaced when the new one is whole.

    Returns:
        The folder.

    Raises:
        UsageError: The name is none; kagglehub is not installed; Kaggle cannot be reached or asks for a login.
        DataError: There is no such data set, or it arrived damaged.
        OutputError: The folder is there and is something else, or cannot be written, or the disk is full.
    """
    source = _parse(name)
    folder = destination / source.folder
    try:
        destination.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{destination}: cannot write here ({error.strerror or error}). Choose another place.") from error
    with locked(folder, wait=_WAIT):
        if _is_fetched(folder, source) and not again:
            progress.say(f"{folder}: fetched before and used again.")
            return folder
        with _refusals_in_words(source):
            described = _describe(source)
            licence = described.licence or "unknown: see its page"
            progress.say(f"{described.title or source.handle}: {source.address}, licence {licence}.")
            _check_room(destination, described)
            with whole_folder(folder) as temporary:
                _download(source, described.version, temporary, progress)
                _write_origin(source, described, temporary)
        return folder


def _parse(name: str) -> _Source:
    friendly = FRIENDLY_NAMES.get(name)
    address = _ADDRESS.fullmatch(name.strip())
    handle = friendly or (address["handle"] if address else name.strip().removeprefix("kaggle:"))
    match = _HANDLE.fullmatch(handle)
    if match is None or not (friendly or address or name.strip().startswith("kaggle:")):
        raise UsageError(
            f"{name!r}: a data set is named kaggle:owner/name, by the address of its page on Kaggle, or by one of "
            f"{', '.join(FRIENDLY_NAMES)}. Choose one of these ways."
        )
    version = int(match["version"]) if match["version"] else None
    return _Source(f"{match['owner']}/{match['name']}", version, name if friendly else match["name"])


def _is_fetched(folder: Path, source: _Source) -> bool:
    """Whether the folder holds this data set.

    Raises:
        OutputError: It holds something else, which is not ours to replace.
    """
    if not folder.exists():
        return False
    try:
        origin = read_record(folder / ORIGIN, Origin)
    except (OSError, ValueError):
        raise OutputError(
            f"{folder}: is there, and was not fetched by vitrail ({ORIGIN} is missing). Move it away, or choose another place."
        ) from None
    if origin.source != source.name:
        raise OutputError(f"{folder}: is there, and holds {origin.source}, not {source.name}. Choose another place.")
    return source.version in (None, origin.version)


def _check_room(destination: Path, described: _Described) -> None:
    free = shutil.disk_usage(destination).free
    if described.size_bytes > free:
        raise OutputError(
            f"{destination}: the data set takes more than {described.size_bytes / 1e9:,.1f} GB, {free / 1e9:,.1f} GB are free. "
            "Free some space or choose another place."
        )


def _write_origin(source: _Source, described: _Described, folder: Path) -> None:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    origin = Origin(
        source=source.name,
        address=source.address,
        version=described.version,
        title=described.title,
        licence=described.licence,
        fetched=datetime.datetime.now(tz=datetime.UTC).date(),
        files=len(sizes),
        size_bytes=sum(sizes),
    )
    write_record(folder / ORIGIN, origin)


# ---------------------------------------------------------------------------------------------------- Kaggle


def _describe(source: _Source) -> _Described:
    from kagglehub.clients import build_kaggle_client
    from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = source.handle.split("/")
    with build_kaggle_client() as client:
        dataset = client.datasets.dataset_api_client.get_dataset(request)
    version = source.version or dataset.current_version_number or None
    return _Described(version, dataset.title, dataset.license_name, dataset.total_bytes)


def _download(source: _Source, version: int | None, folder: Path, progress: Progress) -> None:
    """Download and unpack into an empty folder."""
    import kagglehub

    handle = f"{source.handle}/versions/{version}" if version else source.handle
    logger = logging.getLogger("kagglehub")  # it talks on standard output, which is kept for results
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with progress.task("Downloading (%)", 100) as advance:
            shown = _Percent(advance)
            with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(io.StringIO()):
                place = Path(kagglehub.dataset_download(handle, output_dir=str(folder), force_download=True))
            shown.reach(100)
    finally:
        logger.setLevel(level)
    if place.resolve() != folder.resolve():  # in notebooks of Kaggle and Colab it stays where it is mounted
        shutil.copytree(place, folder, dirs_exist_ok=True)
    shutil.rmtree(folder / ".complete", ignore_errors=True)
    for archive in folder.glob("*.archive"):
        archive.unlink()


class _Percent(io.TextIOBase):
    """Reads the bar that the library draws, and tells how far it is."""

    def __init__(self, advance: Advance) -> None:
        self._advance = advance
        self._done = 0

    def writable(self) -> bool:
        """It is written to."""
        return True

    def write(self, text: str) -> int:
        """Take what belongs on standard error."""
        percent = re.findall(r"(\d{1,3})%\|", text)
        if percent:
            self.reach(int(percent[-1]))
        return len(text)

    def reach(self, percent: int) -> None:
        """Tell that so much is done."""
        if percent > self._done:
            self._advance(percent - self._done)
            self._done = percent


@contextlib.contextmanager
def _refusals_in_words(source: _Source) -> Iterator[None]:
    """Say in words what Kaggle, the network and the library refuse."""
    try:
        import requests
        from kagglehub.exceptions import BackendError, CredentialError, DataCorruptionError, UnauthenticatedError
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{source.name}: data sets are fetched by kagglehub, which is not installed. Install it: "
            f"pip install 'vitrail[fetch]'. Or download it by hand from {source.address} and give the zip file as the folder."
        ) from error
    try:
        yield
    except requests.HTTPError as error:
        raise _http_refusal(source, error.response.status_code if error.response is not None else 0) from error
    except (CredentialError, UnauthenticatedError) as error:
        raise UsageError(f"{source.name}: Kaggle does not accept the login ({error}). {_LOGIN}") from error
    except (DataCorruptionError, zipfile.BadZipFile, tarfile.TarError) as error:
        raise DataError(f"{source.name}: arrived damaged. Fetch it again.") from error
    except requests.RequestException as error:
        raise UsageError(
            f"{source.name}: Kaggle cannot be reached ({type(error).__name__}). Check the network and its proxy; "
            f"or download the data set elsewhere from {source.address} and give the zip file in place of a folder."
        ) from error
    except (BackendError, ValueError) as error:
        if "Unsupported archive" in str(error):
            raise DataError(f"{source.name}: arrived damaged. Fetch it again.") from error
        raise UsageError(f"{source.name}: kagglehub could not fetch it ({error}). {_LOGIN}") from error


def _http_refusal(source: _Source, status: int) -> UsageError:
    if status == 404:
        return DataError(f"{source.name}: there is no such data set on Kaggle. Check the name at {source.address}.")
    if status in (401, 403):
        return UsageError(
            f"{source.name}: Kaggle refuses it (status {status}): it needs a login, or its terms must be accepted at "
            f"{source.address}, or there is no such data set. {_LOGIN}"
        )
    if status == 429:
        return UsageError(f"{source.name}: Kaggle says that there were too many requests (status 429). Try again in an hour.")
    return UsageError(f"{source.name}: Kaggle answers with an error (status {status}). Try again later.")
