"""Files that are broken, misnamed or no images."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from vitrail.audit.check import AuditContext, finding, number_of, per_class, share_of
from vitrail.records import Evidence, Finding, ImageFile

FORMAT_OF_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
OTHER_IMAGE_SUFFIXES = frozenset({".gif", ".webp", ".heic", ".jp2", ".dcm", ".dicom", ".nii", ".mha", ".npy"})
"""Images of formats that are not read: whoever left them in a class folder meant them to be used, and must hear of it."""
SYSTEM_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
"""Left behind by file managers, in lower case; nobody took them for images, so nobody is told."""
UNREADABLE_SHARE = 0.01
"""Above this share of a class, unreadable files are an error: what is lost is no longer negligible, nor surely random."""


def suffix(file: ImageFile) -> str:
    """Return the extension of a file in lower case, with its dot; empty when it has none."""
    return PurePosixPath(file.path).suffix.lower()


def is_image(file: ImageFile) -> bool:
    """Return whether a file is an image by its name or by its content, readable or not."""
    return suffix(file) in FORMAT_OF_SUFFIX or file.status in ("readable", "unreadable")


class UnreadableImages:
    """IO101: images that cannot be decoded to their end."""

    code = "IO101"
    title = "Unreadable or truncated images"
    why = "An image that cannot be decoded is missing from every count; if one class loses more than others, results are biased."

    def run(self, context: AuditContext) -> Finding | None:
        """Find images that are broken. An error when more than 1 % of the images of a class are."""
        files = context.manifest.files
        broken = [file for file in files if file.status == "unreadable"]
        if not broken:
            return None
        labels = [file.label for file in broken]
        everyone = [file.label for file in files if is_image(file)]
        lost, whole = Counter(labels), Counter(everyone)
        share = {name: lost[name] / whole[name] for name in lost}
        return finding(
            self,
            severity="error" if max(share.values()) > UNREADABLE_SHARE else "warning",
            count=len(broken),
            message=f"{share_of(len(broken), len(everyone), 'images')} cannot be decoded to the end; "
            f"by class {per_class(labels, of=everyone)}.",
            fix="Fetch the listed files again from their source, or delete them.",
            consequence="They are skipped: vitrail neither trains nor tests on them.",
            evidence=[
                Evidence((file.path,), f"{_reason(file, 'cannot be decoded')} ({number_of(file.size_bytes, 'byte')})")
                for file in sorted(broken, key=lambda file: (-share[file.label], file.path))
            ],
        )


class MisnamedImages:
    """IO102: images whose extension names another format."""

    code = "IO102"
    title = "Content is not what the extension says"
    why = "Other software may refuse such files; and where one class was saved differently, a model can learn that instead."

    def run(self, context: AuditContext) -> Finding | None:
        """Find readable images whose format is not the one that their extension stands for."""
        wrong = [
            file
            for file in context.manifest.files
            if file.readable and file.format and FORMAT_OF_SUFFIX.get(suffix(file), file.format) != file.format
        ]
        if not wrong:
            return None
        kinds = Counter(f"{file.format} named {suffix(file)}" for file in wrong)
        table = ", ".join(f"{kind}: {number:,}" for kind, number in kinds.most_common())
        return finding(
            self,
            severity="warning",
            count=len(wrong),
            message=f"{number_of(len(wrong), 'image')} of another format than the extension says ({table}); "
            f"by class {per_class(file.label for file in wrong)}.",
            fix="Rename the listed files to the extension of their content.",
            consequence="They are used: vitrail reads the content and ignores the extension.",
            evidence=[
                Evidence((file.path,), f"{file.format} named {suffix(file)}")
                for file in sorted(wrong, key=lambda file: (kinds[f"{file.format} named {suffix(file)}"], file.path))
            ],
        )


class NoImages:
    """IO103: empty files, and files that hold no image."""

    code = "IO103"
    title = "Empty files and files that are no images"
    why = "Where an image was expected there is none: a download broke off, or something else was saved under its name."

    def run(self, context: AuditContext) -> Finding | None:
        """Find files without an image that can be read. A warning when one is named like an image, else for information."""
        without = [
            file
            for file in context.manifest.files
            if file.status in ("empty", "not_an_image") and PurePosixPath(file.path).name.lower() not in SYSTEM_FILES
        ]
        if not without:
            return None
        named = sum(_named_like_image(file) for file in without)
        empty = sum(file.status == "empty" for file in without)
        return finding(
            self,
            severity="warning" if named else "info",
            count=len(without),
            message=f"{number_of(len(without), 'file')} without an image of a known format ({empty:,} empty, "
            f"{len(without) - empty:,} with other content), {named:,} of them named like an image.",
            fix="Fetch the files that should be images again, or convert them to PNG; move the others out of the image folder.",
            consequence="They are skipped.",
            evidence=[
                Evidence((file.path,), "empty" if file.status == "empty" else _reason(file, "not an image"))
                for file in sorted(without, key=lambda file: (not _named_like_image(file), file.path))
            ],
        )


class UnusualImages:
    """IO105: images that are stored in an unusual form."""

    code = "IO105"
    title = "Images stored in an unusual form"
    why = "Such images are converted on reading; where one class was stored differently, a model can learn that instead."

    def run(self, context: AuditContext) -> Finding | None:
        """Find readable images that are neither plain grey nor plain RGB of 8 bits, or that EXIF asks to turn."""
        forms = {file.path: form for file in context.manifest.files if file.readable and (form := _unusual_form(file))}
        if not forms:
            return None
        kinds = Counter(forms.values())
        table = ", ".join(f"{kind}: {number:,}" for kind, number in kinds.most_common())
        labels = [file.label for file in context.manifest.files if file.path in forms]
        return finding(
            self,
            severity="info",
            count=len(forms),
            message=f"{number_of(len(forms), 'image')} of unusual form ({table}); by class {per_class(labels)}.",
            fix="Nothing needs to be done. Where one class holds most of them, save all classes in the same form.",
            consequence="They are used: turned upright and brought to 8 bits, grey or RGB, as all others are.",
            evidence=[
                Evidence((path,), form) for path, form in sorted(forms.items(), key=lambda item: (kinds[item[1]], item[0]))
            ],
        )


class PassedOver:
    """IO108: folders and files that do not belong to any class."""

    code = "IO108"
    title = "Folders and files passed over"
    why = "What stands beside the folders of the parts or classes is not part of the data set, perhaps by mistake."

    def run(self, context: AuditContext) -> Finding | None:
        """Tell what the search for class folders left aside. ``count``: such places."""
        notes = context.manifest.notes
        if not notes:
            return None
        return finding(
            self,
            severity="info",
            count=len(notes),
            message=f"{number_of(len(notes), 'place')} beside the class folders passed over: {notes[0]}",
            fix="Move what belongs to the data set into a class folder, and the rest out of the folder.",
            consequence="Nothing in them is used.",
            evidence=[Evidence((), note) for note in notes],
        )


def _unusual_form(file: ImageFile) -> str:
    """Return how a readable image is stored, in a word or two; empty when it is plain grey or RGB of 8 bits, upright."""
    form = {"1": "bilevel", "P": "palette", "PA": "palette", "L": "", "RGB": ""}.get(file.mode)
    if form is None:
        deep = file.mode.startswith(("I", "F"))
        form = "more than 8 bits" if deep else "transparency" if file.mode in ("LA", "RGBA", "La", "RGBa") else file.mode
    return ", ".join(word for word in (form, "turned by EXIF" if file.turned else "") if word)


def _named_like_image(file: ImageFile) -> bool:
    return suffix(file) in FORMAT_OF_SUFFIX or suffix(file) in OTHER_IMAGE_SUFFIXES


def _reason(file: ImageFile, otherwise: str) -> str:
    """Return why a file cannot be used, as a phrase without a full stop."""
    return file.problem.rstrip(". ") or otherwise
