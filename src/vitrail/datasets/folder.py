"""The one door to the layout of a data set: class folders, or what a table, an archive or a MedMNIST file makes of them."""

from __future__ import annotations

import dataclasses
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vitrail.datasets.archive import ARCHIVE_SUFFIXES, unpack, unpacking_notes
from vitrail.datasets.layout import (
    PART_NAMES,
    FoundFile,
    Layout,
    Listing,
    ShippedPart,
    files_below,
    list_folder,
    printable,
    shown,
)
from vitrail.datasets.medmnist import unpack_medmnist
from vitrail.datasets.table import TABLE_SUFFIXES, ColumnNames, find_table_layout
from vitrail.errors import DataError
from vitrail.progress import SILENT, Progress
from vitrail.settings import DataSettings

__all__ = ["FoundFile", "Layout", "find_layout", "printable"]

_IMAGE_FOLDERS = frozenset({"images", "image", "imgs", "img", "data", "dataset"})
_SIDE_FOLDERS = frozenset(
    {"masks", "mask", "labels", "label", "annotations", "annotation", "segmentations", "segmentation"}
    | {"ground_truth", "groundtruth", "gt", "csv", "metadata", "docs", "code", "notebooks"}
)
"""What stands beside a folder of images and belongs to it, but is no image to learn from."""

_CONTAINER = re.compile(
    r"(?:^|[ _-])(?:images?|imgs?|masks?|labels?|annotations?|part|batch|chunk|fold|input|jpe?gs?|pngs?|dicoms?)[ _-]*\d*$",
    re.IGNORECASE,
)
"""Names of folders that hold images and name no class, such as ``images_001`` or ``train_images``."""

_EXPECTED = (
    "A data set is a folder with one sub-folder of images per class, named after the class, "
    "or with such class folders inside train, val and test."
)
_EXISTING_SAMPLE = 200


def find_layout(
    root: Path, *, cache: Path | None = None, settings: DataSettings | None = None, progress: Progress = SILENT
) -> Layout:
    """Find every file of a data set and its class, without opening an image.

    ``root`` is one of these:

    * A folder. Class folders stand in it or inside folders named train, training, val, valid, validation, test or testing
      (any case); the parts may also stand inside the class folders. Folders that hold nothing but one other folder are passed
      through. Everything inside a class folder, however deep, counts to the class. Names that begin with a dot, ``__MACOSX``
      and its like, links to folders, masks beside images, and a second copy of all folders in a folder beside them are passed
      over. A folder whose images stand in no class folders may hold one table that names their classes.
    * A table, see :func:`vitrail.datasets.table.find_table_layout`.
    * An archive (zip, tar), unpacked once into the cache and then a folder as above.
    * A MedMNIST file (npz), unpacked once into the cache.

    Args:
        root: Where the data set is. Never written to.
        cache: Folder to unpack to, ``unpacked/<fingerprint of path, size and time>`` in it; needed for archives and npz.
        settings: Names the table and its columns where that is wished; its ``path`` is not looked at.
        progress: Told how far the unpacking is.

    Raises:
        DataError: The data set is missing, empty, or holds no classes, or only one; or an archive or a table cannot be read.
        OutputError: The cache cannot be written.
    """
    columns = _column_names(settings)
    kind = _kind_of(root)
    if kind == "table":
        return find_table_layout(root, folder=None, columns=columns)
    folder = root
    notes: list[str] = []
    if kind != "folder":
        if cache is None:
            raise DataError(f"{root}: this is a file, not a folder, and no place to unpack it to was given. Give a cache folder.")
        folder = unpack_medmnist(root, cache, progress) if kind == "medmnist" else unpack(root, cache, progress)
        notes += unpacking_notes(folder)
    if settings is not None and settings.table is not None:
        layout = find_table_layout(settings.table, folder=folder, columns=columns)
        return dataclasses.replace(layout, notes=(*notes, *layout.notes))
    return _Search(folder, root, notes).find(columns)


def _column_names(settings: DataSettings | None) -> ColumnNames:
    if settings is None:
        return ColumnNames()
    wished = settings.columns
    return ColumnNames(path=wished.path, label=wished.label, part=wished.part, patient=wished.patient)


def _kind_of(root: Path) -> Literal["folder", "table", "archive", "medmnist"]:
    try:
        is_folder = stat.S_ISDIR(root.stat().st_mode)
    except OSError as error:
        reason = "there is no such folder" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error.strerror})"
        raise DataError(f"{root}: {reason}. Check the path of the images.") from error
    name = root.name.lower()
    if is_folder:
        return "folder"
    if name.endswith(TABLE_SUFFIXES):
        return "table"
    if name.endswith(ARCHIVE_SUFFIXES):
        return "archive"
    if name.endswith(".npz"):
        return "medmnist"
    raise DataError(
        f"{root}: this is a file, not a folder. {_EXPECTED} Give the path of such a folder, of a table "
        f"({', '.join(TABLE_SUFFIXES)}), of an archive ({', '.join(ARCHIVE_SUFFIXES)}) or of a MedMNIST file (.npz)."
    )


@dataclass
class _Search:
    """The search for class folders in one folder.

    Attributes:
        folder: Where to look; paths are relative to it.
        name: What the person knows it by: the folder itself, or the archive it was unpacked from.
        notes: What was passed over so far.
        levels: The folders passed through on the way to the class folders, which may hold a table.
    """

    folder: Path
    name: Path
    notes: list[str]
    levels: list[Path] = field(default_factory=list)
    _listings: dict[Path, Listing] = field(default_factory=dict)

    def find(self, columns: ColumnNames) -> Layout:
        """Find class folders, or else a table that names the classes."""
        base = self._through_wrappers(self.folder)
        listing = self._list(base)
        if not (listing.folders or listing.files or listing.linked_folders):
            raise DataError(f"{self.name}: the folder is empty. {_EXPECTED} Put the images there.{self._told_notes()}")
        before = list(self.notes)
        files = self._files(base)
        labels = sorted({file.label for file in files})
        told: list[str] = []
        if len(labels) < 2 or all(_CONTAINER.search(label) for label in labels):
            from_table, told = self._from_table(columns, before)
            if from_table is not None:
                return from_table
        self._check_classes(labels, base=base, tables=told)
        return Layout(tuple(sorted(files, key=lambda file: file.path)), tuple(self.notes), self.folder)

    def _through_wrappers(self, folder: Path) -> Path:
        """Go down while a folder holds nothing but one other folder, which in turn holds folders and no images."""
        while True:
            self.levels.append(folder)
            listing = self._list(folder)
            folders = self._without_side_folders(listing)
            if len(folders) != 1 or listing.images or folders[0].name.casefold() in PART_NAMES:
                return folder
            inner = self._list(folders[0])
            if inner.images or not inner.folders:
                return folder
            self._without_side_folders(listing, tell=True)
            folder = folders[0]

    def _files(self, base: Path) -> list[FoundFile]:
        folders = self._without_doubles(self._list(base))
        parts = [(folder, PART_NAMES.get(folder.name.casefold())) for folder in folders]
        named = [part for _, part in parts if part is not None]
        if "train" not in named and not (named and len(named) == len(parts)):
            return self._files_of_classes(base, part=None)
        files: list[FoundFile] = []
        for folder, part in parts:
            if part is None:
                self.notes.append(f"{self._shown(folder)}: passed over, because it stands beside the folders of the parts.")
            else:
                files += self._files_of_classes(self._into_images(folder), part=part)
        return files

    def _files_of_classes(self, folder: Path, *, part: ShippedPart | None) -> list[FoundFile]:
        """Return the files of every class folder in ``folder``."""
        listing = self._list(folder)
        if listing.images:
            self.notes.append(f"{self._shown(folder)}: {listing.images} images outside the class folders were passed over.")
        if listing.linked_folders:
            self.notes.append(f"{self._shown(folder)}: {listing.linked_folders} links to folders were not followed.")
        classes = self._without_doubles(listing, tell=part is not None)
        inside = part is None and len(classes) > 1 and all(_holds_parts_alone(self._list(name)) for name in classes)
        result: list[FoundFile] = []
        for class_folder in classes:
            label = printable(class_folder.name)
            files: list[FoundFile] = []
            for inner in self._list(class_folder).folders if inside else (class_folder,):
                inner_part = PART_NAMES[inner.name.casefold()] if inside else part
                files += [FoundFile(file, self._shown(file), label, inner_part) for file in self._images_below(inner)]
            if not files:
                self.notes.append(f"{self._shown(class_folder)}: passed over, because there is no file in it.")
            result += files
        return result

    def _images_below(self, folder: Path) -> list[Path]:
        """Return every file below a class folder, but for the masks of ``images`` and ``masks``."""
        listing = self._list(folder)
        folders = self._without_side_folders(listing, tell=True)
        return [*listing.files, *(file for inner in folders for file in files_below(inner))]

    def _without_side_folders(self, listing: Listing, *, tell: bool = False) -> tuple[Path, ...]:
        """Leave out masks, annotations and the like where they stand beside a folder of images."""
        if not any(folder.name.casefold() in _IMAGE_FOLDERS for folder in listing.folders):
            return listing.folders
        if tell:
            self.notes += [
                f"{self._shown(folder)}: passed over, because it stands beside the folder of the images."
                for folder in listing.folders
                if folder.name.casefold() in _SIDE_FOLDERS
            ]
        return tuple(folder for folder in listing.folders if folder.name.casefold() not in _SIDE_FOLDERS)

    def _without_doubles(self, listing: Listing, *, tell: bool = True) -> tuple[Path, ...]:
        """Leave out a folder that holds the folders beside it once more, as some archives do, and side folders."""
        result = []
        folders = self._without_side_folders(listing, tell=tell)
        names = {folder.name.casefold() for folder in folders}
        for folder in folders:
            inner = self._list(folder)
            inner_names = {name.name.casefold() for name in inner.folders}
            if len(inner_names) > 1 and not inner.images and inner_names <= names - {folder.name.casefold()}:
                if tell:
                    count = sum(1 for _ in files_below(folder))
                    self.notes.append(
                        f"{self._shown(folder)}: passed over with its {count:,} files, because it holds the folders beside it "
                        f"({', '.join(sorted(name.name for name in inner.folders))}) once more."
                    )
            else:
                result.append(folder)
        return tuple(result)

    def _into_images(self, folder: Path) -> Path:
        """Go from ``train`` into ``train/images`` where the class folders stand there."""
        folders = self._without_side_folders(self._list(folder))
        if len(folders) == 1 and folders[0].name.casefold() in _IMAGE_FOLDERS | {folder.name.casefold()}:
            inner = self._list(folders[0])
            if inner.folders and not inner.images:
                return folders[0]
        return folder

    def _from_table(self, columns: ColumnNames, notes: list[str]) -> tuple[Layout | None, list[str]]:
        """Return what the only recognisable table beside the images tells; else ``None``, and why each table does not serve."""
        tables = [file for level in self.levels for file in self._list(level).files if _is_table(file)]
        layouts: dict[Path, Layout] = {}
        told = []
        for table in tables:
            try:
                layout = find_table_layout(table, folder=self.folder, columns=columns)
            except DataError as error:
                told.append(str(error))
                continue
            sample = layout.files[:: 1 + len(layout.files) // _EXISTING_SAMPLE]
            if 2 * sum(file.source.exists() for file in sample) < len(sample):
                told.append(f"{table}: most of the files that it names are not there.")
            else:
                layouts[table] = layout
        if len(layouts) > 1:
            names = ", ".join(self._shown(table) for table in layouts)
            raise DataError(f"{self.name}: several tables could name the classes: {names}. Choose one with data.table.")
        for table, layout in layouts.items():
            note = f"{self._shown(table)}: classes are taken from this table, because the folders name none."
            return dataclasses.replace(layout, notes=(*notes, note, *layout.notes)), told
        return None, told

    def _check_classes(self, labels: list[str], *, base: Path, tables: list[str]) -> None:
        if len(labels) > 1:
            return
        told = "".join(f"(Not used as a table: {reason.rstrip('.')}.) " for reason in tables[:3])
        if len(labels) == 1:
            raise DataError(
                f"{self.name}: only one class was found, {labels[0]!r}; telling images apart needs at least two. {_EXPECTED} "
                f"{told}Add the folder of another class."
            )
        listing = self._list(base)
        counts = (
            (listing.images, "images directly in it"),
            (len(listing.files) - listing.images, "other files"),
            (len(listing.folders), "sub-folders, none of them with files of a class"),
            (listing.linked_folders, "links to folders, which are not followed"),
        )
        found = ", ".join(f"{number} {what}" for number, what in counts if number)
        raise DataError(
            f"{self.name}: no class folders were found. {_EXPECTED} Found in {base}: {found}.{self._told_notes()} {told}"
            "Move the images of each class into a folder with its name."
        )

    def _told_notes(self) -> str:
        return "".join(f" ({note.rstrip('.')}.)" for note in self.notes)

    def _list(self, folder: Path) -> Listing:
        if folder not in self._listings:
            self._listings[folder] = list_folder(folder)
        return self._listings[folder]

    def _shown(self, path: Path) -> str:
        return shown(path, self.folder)


def _holds_parts_alone(listing: Listing) -> bool:
    """Whether a class folder holds nothing but folders of parts, ``train`` among them or several."""
    names = [folder.name.casefold() for folder in listing.folders]
    return not listing.images and all(name in PART_NAMES for name in names) and (len(names) > 1 or "train" in names)


def _is_table(file: Path) -> bool:
    return file.name.lower().endswith(TABLE_SUFFIXES)
