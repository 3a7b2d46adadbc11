"""Class names that look like one another, or like no class at all."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations

from vitrail.audit.check import AuditContext, NotApplicable, finding, number_of
from vitrail.records import Evidence, Finding

LONG_ENOUGH = 5
"""Names with fewer letters are not compared letter by letter."""
LISTED = 50
"""So many pairs and names are listed at most."""

_COPY = re.compile(r"(?i)^(?:copy[\s_-]+of[\s_-]+|kopie[\s_-]+von[\s_-]+)|(?:[\s_-]*\(copy\)|[\s_-]+copy(?:[\s_-]*\d+)?)$")
_NUMBERED = re.compile(r"[\s_-]*\(\d+\)$")  # how a second download of a folder is called
_WORD = re.compile(r"[^\W\d_]+|\d+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NO_CLASS = frozenset(
    (
        *("tmp", "temp", "newfolder", "untitled", "untitledfolder", "backup", "old", "trash", "deleted", "output", "results"),
        *("mask", "segmentation", "annotation", "groundtruth", "overlay", "heatmap", "thumbnail", "preview"),
        *("augmented", "augmentation", "aug", "resized", "cropped", "preprocessed", "duplicate"),
        *("image", "img", "picture", "data", "dataset", "file", "label"),
    )
)
_UNSORTED = frozenset(("unlabeled", "unlabelled", "unknown", "unk", "unsorted", "unclassified", "misc", "miscellaneous", "todo"))


class ClassNames:
    """LBL403: class names that may mean the same class, or none."""

    code = "LBL403"
    title = "Class names that look alike or name no class"
    why = "Two spellings of one class make two classes: the model is punished for mixing up what is the same."
    explanation = (
        "A class is what its folder (or the label in the table) is called, letter by letter: `no_tumor` and `notumor`, `Normal` "
        "and `normal `, `COVID-19` and `covid19` are different classes for every program. This check compares all names "
        "without case, blanks, hyphens and plural, and finds names that are then the same, or differ in one letter inside the "
        "word, as `meningioma` and `menigioma` do. Names that differ in a number or in a single last letter (`grade1` and "
        "`grade2`, `type_A` and `type_B`) are different on purpose and not reported. It also finds classes that stand in the "
        "test or validation part and not in training, often because the parts spell them differently, and folders whose names "
        "tell of no class, such as `masks`, `augmented`, `New folder` or `unknown`.\n\n"
        "Some names that differ in one letter are different (`ileum` and `ilium`): then accept the finding with this reason. "
        "Otherwise move the images of one folder to the other, and take folders that are no class out of the data set."
    )

    def run(self, context: AuditContext) -> Finding | None:
        """Compare the class names. ``count``: pairs and names that are reported."""
        classes = context.manifest.classes
        if not classes:
            raise NotApplicable("the data set has no classes")
        first = {file.label: file.path for file in reversed(context.manifest.files)}
        alike = similar_names(classes)
        across, missing = _across_parts(context)
        across = [pair for pair in across if pair not in alike]
        explained = {name for pair in (*alike, *across) for name in pair}
        missing = [name for name in missing if name not in explained]
        odd = [name for name in classes if _key(name) in _NO_CLASS or _COPY.search(name)]
        unsorted = [name for name in classes if _key(name) in _UNSORTED]
        notes = [
            *((pair, f"{pair[0]!r} and {pair[1]!r} may be the same class") for pair in alike),
            *(
                (pair, f"{pair[0]!r} in training only, {pair[1]!r} in another part only: may be the same class")
                for pair in across
            ),
            *(((name,), f"{name!r} has no images in training") for name in missing),
            *(((name,), f"{name!r} does not sound like a class") for name in odd),
            *(((name,), f"{name!r}: images that nobody has sorted, not a class that can be learnt") for name in unsorted),
        ]
        if not notes:
            return None
        counts = (
            (len(alike) + len(across), "pair of names that may mean one class", "pairs of names that may mean one class"),
            (len(missing), "class without training images", "classes without training images"),
            (len(odd), "name that does not sound like a class", "names that do not sound like a class"),
            (len(unsorted), "class of unsorted images", "classes of unsorted images"),
        )
        told = ", ".join(f"{number:,} {one if number == 1 else several}" for number, one, several in counts if number)
        limited = f"; the first {LISTED} are listed" if len(notes) > LISTED else ""
        return finding(
            self,
            severity="info" if len(unsorted) == len(notes) else "warning",
            count=len(notes),
            message=f"{number_of(len(classes), 'class')} with {told}: {'; '.join(note for _, note in notes[:3])}{limited}.",
            fix="Give one class one name in all parts: move the images of one spelling into the folder of the other. Take "
            "folders that are no class out of the data set.",
            consequence="Every name is treated as a class of its own.",
            evidence=[Evidence(tuple(first[name] for name in names if name in first), note) for names, note in notes[:LISTED]],
        )


def similar_names(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs of names that differ by spelling alone, or by one letter inside long words, sorted."""
    spellings: defaultdict[str, list[str]] = defaultdict(list)
    for name in sorted(set(names)):
        spellings[_key(name)].append(name)
    pairs = {pair for group in spellings.values() for pair in combinations(group, 2)}
    for name in (name for group in tuple(spellings.values()) for name in group if _NUMBERED.search(name)):
        pairs |= {(min(name, other), max(name, other)) for other in spellings.get(_key(_NUMBERED.sub("", name)), ())}
    # Names one edit apart share what is left when one letter is taken out of either: no need to compare all with all.
    shared: defaultdict[str, list[str]] = defaultdict(list)
    for key in spellings:
        if len(key) >= LONG_ENOUGH:
            for variant in {key, *(key[:place] + key[place + 1 :] for place in range(len(key)))}:
                shared[variant].append(key)
    for keys in shared.values():
        for one, other in combinations(keys, 2):
            for left in spellings[one]:
                pairs |= {
                    (min(left, right), max(left, right))
                    for right in spellings[other]
                    if _one_letter_apart(one, other, left, right)
                }
    return sorted(pairs)


def _key(name: str) -> str:
    """Return a name without what spelling varies: case, accents, separators, a note that it is a copy, the plural's s."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", _COPY.sub("", name)) if not unicodedata.combining(letter))
    key = "".join(letter for letter in plain.casefold() if letter.isalnum())
    return key[:-1] if len(key) >= LONG_ENOUGH and key.endswith("s") and not key.endswith(("ss", "is", "us")) else key


def _words(name: str) -> list[str]:
    return [word.casefold() for word in _WORD.findall(_HUMP.sub(" ", name))]


def _one_letter_apart(one: str, other: str, left: str, right: str) -> bool:
    """Whether two keys differ by one letter that looks like a slip: inside a word, no digit, no designation."""
    short, long = sorted((one, other), key=len)
    if len(long) - len(short) > 1 or short == long:
        return False
    place = next((at for at in range(len(short)) if short[at] != long[at]), len(short))
    same_length = len(short) == len(long)
    if short[place + same_length :] != long[place + 1 :]:
        return False
    involved = long[place] + (short[place] if same_length else "")
    if not involved.isalpha() or place == 0:  # typical and atypical are no slip, nor are papillary and capillary
        return False
    if same_length and place == len(long) - 1:  # typea and typeb
        return False
    before, after = _words(left), _words(right)
    if len(before) == len(after):  # type_I and type_II: a short word of its own names a kind
        return all(min(len(a), len(b)) >= LONG_ENOUGH - 1 for a, b in zip(before, after, strict=True) if a != b)
    return True


def _across_parts(context: AuditContext) -> tuple[list[tuple[str, str]], list[str]]:
    """Return pairs of similar names of which training has one and another part the other, and classes that training lacks."""
    standing: defaultdict[str | None, set[str]] = defaultdict(set)
    for file in context.manifest.files:
        if file.readable:
            standing[file.part].add(file.label)
    train, others = standing["train"], standing["test"] | standing["validation"]
    if not train or not others:
        return [], []
    here, there = sorted(train - others), sorted(others - train)
    pairs = [(one, other) for one in here for other in there if _contains(one, other) or similar_names((one, other))]
    return pairs, there


def _contains(one: str, other: str) -> bool:
    """Whether the words of one name are among those of the other: ``glioma`` and ``glioma_tumor``."""
    left, right = ({word for word in _words(name) if len(word) >= 3} for name in (one, other))
    return bool(left and right) and (left <= right or right <= left)
