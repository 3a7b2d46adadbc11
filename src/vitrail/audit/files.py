"""Files that are broken, misnamed or no images."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from vitrail.audit.check import AuditContext, NotApplicable, finding, number_of, per_class, share_of
from vitrail.datasets import DERIVED, SUFFIXES, suffix_of
from vitrail.records import Evidence, Finding, ImageFile

OTHER_IMAGE_SUFFIXES = frozenset({".heic", ".avif", ".mha", ".mhd", ".nrrd", ".npy", ".svs", ".ndpi", ".mrxs"})
"""Images of formats that are not read: whoever left them in a class folder meant them to be used, and must hear of it."""
SYSTEM_FILES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
"""Left behind by file managers, in lower case; nobody took them for images, so nobody is told."""
_MOST_VOLUMES = 200

UNREADABLE_SHARE = 0.01
"""Above this share of a class, unreadable files are an error: what is lost is no longer negligible, nor surely random."""


def is_image(file: ImageFile) -> bool:
    """Return whether a file is an image by its name or by its content, readable or not; one that is left out is none."""
    return file.status in ("readable", "unreadable") or (file.status != "excluded" and suffix_of(file.path) in SUFFIXES)


class UnreadableImages:
    """IO101: images that cannot be decoded to their end."""

    code = "IO101"
    title = "Unreadable or truncated images"
    why = "An image that cannot be decoded is missing from every count; if one class loses more than others, results are biased."
    explanation = (
        "An image file is unreadable when a part of it is missing or damaged: a download that broke off, a full disk, a "
        "faulty archive. Many programmes show such a file half grey, and some training libraries quietly fill the rest with "
        "black.\n\n"
        "This check decodes every image to its last pixel, not only its header. Up to 1 % of a class it warns; above that it "
        "is an error, because what is missing is then no longer negligible, and if one class loses more than others the "
        "results are biased. The usual way out is to fetch the files again from their source; where that is impossible, leave "
        "them out and say how many there were."
    )

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
    explanation = (
        "The letters after the last dot of a file name (.jpg, .png) promise a format; the first bytes of the content say "
        "which format it really is. They disagree when somebody renamed files instead of converting them.\n\n"
        "This check compares the two for every image that can be read. vitrail goes by the content, so nothing is lost here, "
        "but other software may refuse such files. It can also be a trace: where the images of one class were saved by "
        "another programme, a model may learn the programme instead of the disease. Rename the files, and look whether they "
        "belong to one class or one source."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find readable images whose format is not the one that their extension stands for."""
        wrong = [
            file
            for file in context.manifest.files
            if file.readable and file.format and SUFFIXES.get(suffix_of(file.path), file.format) != file.format
        ]
        if not wrong:
            return None
        kinds = Counter(f"{file.format} named {suffix_of(file.path)}" for file in wrong)
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
                Evidence((file.path,), f"{file.format} named {suffix_of(file.path)}")
                for file in sorted(wrong, key=lambda file: (kinds[f"{file.format} named {suffix_of(file.path)}"], file.path))
            ],
        )


class NoImages:
    """IO103: empty files, and files that hold no image."""

    code = "IO103"
    title = "Empty files and files that are no images"
    why = "Where an image was expected there is none: a download broke off, or something else was saved under its name."
    explanation = (
        "Some files in the folder are empty, or hold something that is no image of a format that vitrail reads: an error page "
        "saved under the name of an image, a text, a spreadsheet.\n\n"
        "This check looks at the content of every file. Where such a file is named like an image it warns, because somebody "
        "expected an image there; other files, such as notes, are only mentioned. Files that systems leave behind by "
        "themselves (Thumbs.db, .DS_Store) are passed over. Fetch the missing images again, and move what is no image out of "
        "the folder."
    )

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


class DerivedFiles:
    """IO104: masks and other files that were made from an image and stand among the images."""

    code = "IO104"
    title = "Masks and drawings among the images"
    why = "A mask shows where an expert saw the lesion: a model that is trained or tested on it is shown the answer."
    explanation = (
        "Some collections keep a mask, a drawn outline or a heat map beside each image, under the image's name with a word such "
        "as _mask behind it. Programmes that read every picture of a folder take these for images of patients.\n\n"
        "This check looks at names only: a file counts as derived when an image of the same name without that word stands beside "
        "it. vitrail leaves derived files out; move them to a folder of their own, outside the class folders, to keep other "
        "software from using them."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Find files that are named after an image beside them. ``count``: such files."""
        derived = [file for file in context.manifest.files if file.status == "excluded" and file.problem.startswith(DERIVED)]
        if not derived:
            return None
        return finding(
            self,
            severity="warning",
            count=len(derived),
            message=f"{number_of(len(derived), 'file')} named as a mask or drawing of the image beside; "
            f"by class {per_class(file.label for file in derived)}.",
            fix="Move the listed files into a folder outside the class folders.",
            consequence="They are left out: neither trained nor tested on, nor counted as images.",
            evidence=[Evidence((file.path,), file.problem) for file in derived],
        )


class MixedPolarity:
    """IO106: DICOM images of both polarities."""

    code = "IO106"
    title = "Images stored in both polarities"
    why = (
        "Software that ignores the polarity sees some images as negatives, and can learn that instead where it differs by class."
    )
    explanation = (
        "DICOM stores grey images either with high values bright (MONOCHROME2) or with high values dark (MONOCHROME1), usually "
        "depending on the manufacturer of the detector. A viewer shows both the same way.\n\n"
        "This check counts both kinds where both occur. vitrail inverts MONOCHROME1 on reading, so that bone is bright in all "
        "images; other software may not. The polarity also tells where an image was made: compare the counts per class."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Count the DICOM images of either polarity. ``count``: those with high values dark."""
        grey = [file for file in context.manifest.files if file.readable and file.mode.startswith("MONOCHROME")]
        if not grey:
            raise NotApplicable("there are no grey DICOM images")
        dark = [file for file in grey if file.mode.startswith("MONOCHROME1")]
        if len(dark) in (0, len(grey)):
            return None
        return finding(
            self,
            severity="info",
            count=len(dark),
            message=f"{share_of(len(dark), len(grey), 'grey DICOM images')} store high values as dark (MONOCHROME1); by class "
            f"{per_class((file.label for file in dark), of=(file.label for file in grey))}.",
            fix="Nothing needs to be done for vitrail; tell whoever reads the files with other software.",
            consequence="They are inverted on reading.",
            evidence=[Evidence((file.path,), file.mode) for file in dark],
        )


class Volumes:
    """IO107: files that hold several slices or frames."""

    code = "IO107"
    title = "Volumes and clips"
    why = "An image classifier sees one slice at a time: which slices are taken decides what it can learn."
    explanation = (
        "A volume (NIfTI, some DICOM) holds an examination in many slices, a clip many frames. vitrail classifies single "
        "pictures: from every volume it takes the middle slice, or as many as `data.slices` says, spread over the middle four "
        "fifths, all with the label of the volume. A slice without the lesion then has a wrong label.\n\n"
        "All slices of one volume stay on one side of every split that vitrail draws, and intervals count them as one."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Count the files of which single slices or frames are used. ``count``: such files."""
        slices = [file for file in context.manifest.files if file.readable and "#" in file.path and file.volume]
        volumes = Counter(file.volume for file in slices if file.path.startswith(f"{file.volume}#"))
        if not volumes:
            return None
        return finding(
            self,
            severity="info",
            count=len(volumes),
            message=f"{number_of(len(volumes), 'file')} with several slices or frames each; "
            f"{sum(volumes.values()):,} of these are used.",
            fix="Set `data.slices` in the study to take more of each, or export the slices that show what the label says.",
            consequence="The middle slices are used, with the label of the whole; those of one file stay together.",
            evidence=[
                Evidence(tuple(file.path for file in slices if file.volume == volume), f"{number_of(number, 'slice')} used")
                for volume, number in list(volumes.items())[:_MOST_VOLUMES]
            ],
        )


class UnusualImages:
    """IO105: images that are stored in an unusual form."""

    code = "IO105"
    title = "Images stored in an unusual form"
    why = "Such images are converted on reading; where one class was stored differently, a model can learn that instead."
    explanation = (
        "Most images of a data set are stored alike: 8 bits for each pixel, grey or colour, upright. Others use a palette, "
        "transparency, inks of a printing press, more than 8 bits, or a mark in their header (EXIF) that says which side is "
        "up.\n\n"
        "vitrail brings all of them to one form, so they can be used together. But the conversion of a 16-bit image to 8 bits "
        "can change its contrast, and an unusual form often betrays another origin: where one class holds most of such "
        "images, a model can learn the origin instead of the disease. Nothing needs to be done when the forms are spread over "
        "all classes."
    )

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
    explanation = (
        "vitrail looks for one folder for each class, with or without folders for training, validation and test above them. "
        "Whatever stands beside these folders, or deeper than it looked, belongs to no class and is not used.\n\n"
        "That is often right: a folder of documents, a table, a licence. It is wrong when a class was put one level too high "
        "or too low, or when a folder is named in a way that was not recognised. Read the list; if something in it belongs to "
        "the data set, move it into a class folder."
    )

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
    if file.format in ("DICOM", "NIfTI"):
        return ""  # many grey levels and a window are what these formats are for
    form = {"1": "bilevel", "P": "palette", "PA": "palette", "L": "", "RGB": ""}.get(file.mode)
    if form is None:
        deep = file.mode.startswith(("I", "F"))
        form = "more than 8 bits" if deep else "transparency" if file.mode in ("LA", "RGBA", "La", "RGBa") else file.mode
    return ", ".join(word for word in (form, "turned by EXIF" if file.turned else "") if word)


def _named_like_image(file: ImageFile) -> bool:
    return suffix_of(file.path) in SUFFIXES or suffix_of(file.path) in OTHER_IMAGE_SUFFIXES


def _reason(file: ImageFile, otherwise: str) -> str:
    """Return why a file cannot be used, as a phrase without a full stop."""
    return file.problem.rstrip(". ") or otherwise
