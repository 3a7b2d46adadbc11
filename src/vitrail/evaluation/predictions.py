"""Predictions as a table that people can open: one CSV file per model and part.

Columns: ``path``, ``row``, ``group``, ``clean``, ``truth``, ``predicted``, one ``score:<class>`` per class in the model's order,
``part``, ``model``. Scores are written so that reading them back gives the same numbers, bit for bit.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from vitrail.errors import DataError
from vitrail.records import IntArray, Manifest, Predictions, Split
from vitrail.storage import write_text

_BEFORE = ("path", "row", "group", "clean", "truth", "predicted")
_AFTER = ("part", "model")
_SCORE = "score:"
_BOOLEANS = {"true": True, "false": False}


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions to a CSV file (UTF-8, RFC 4180), whole or not at all.

    Raises:
        DataError: There are no images: such a file could not say what it is about.
        OutputError: The folder cannot be written.
    """
    if len(predictions.paths) == 0:
        raise DataError(
            f"{path}: predictions need at least one image. Found none for the {predictions.part} part of {predictions.model}. "
            "Check the split."
        )
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow([*_BEFORE, *(f"{_SCORE}{name}" for name in predictions.classes), *_AFTER])
    for place, image in enumerate(predictions.paths):
        table.writerow(
            [
                image,
                int(predictions.rows[place]),
                int(predictions.groups[place]),
                "true" if predictions.clean[place] else "false",
                predictions.classes[predictions.truth[place]],
                predictions.classes[predictions.predicted[place]],
                *(repr(float(score)) for score in predictions.probabilities[place]),
                predictions.part,
                predictions.model,
            ]
        )
    write_text(path, text.getvalue())


def load_predictions(path: Path) -> Predictions:
    """Read what :func:`save_predictions` wrote.

    Raises:
        DataError: The file is missing, or is no such table.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            header, *lines = list(csv.reader(stream)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a table of predictions ({error}). Evaluate the model again.") from error
    classes = tuple(name.removeprefix(_SCORE) for name in header if name.startswith(_SCORE))
    if header != [*_BEFORE, *(f"{_SCORE}{name}" for name in classes), *_AFTER] or not classes or not lines:
        raise DataError(
            f"{path}: must have the columns {', '.join(_BEFORE)}, {_SCORE}<class>..., {', '.join(_AFTER)} and at least one line. "
            f"Found columns: {', '.join(header) or 'none'}; lines: {len(lines)}. Evaluate the model again."
        )
    index = {name: number for number, name in enumerate(classes)}
    wrong = next((number for number, line in enumerate(lines, start=2) if len(line) != len(header)), None)
    if wrong is not None:
        raise DataError(f"{path}, record {wrong}: must have {len(header)} fields. Evaluate the model again.")
    images, rows, groups, clean, truth, predicted, *rest = zip(*lines, strict=True)
    *scores, part, model = rest
    if len(set(model)) > 1 or len(set(part)) > 1 or part[0] not in ("validation", "test"):
        found = sorted({*part, *model})
        raise DataError(f"{path}: must hold one part (validation or test) of one model. Found: {', '.join(found)}.")
    try:
        return Predictions(
            model=model[0],
            part=cast(Literal["validation", "test"], part[0]),
            classes=classes,
            rows=np.array([int(row) for row in rows], dtype=np.int64),
            paths=images,
            truth=np.array([index[name] for name in truth], dtype=np.int64),
            probabilities=np.array([[float(score) for score in column] for column in scores], dtype=np.float64).T.copy(),
            groups=np.array([int(group) for group in groups], dtype=np.int64),
            clean=np.array([_BOOLEANS[word] for word in clean], dtype=np.bool_),
            decided=np.array([index[name] for name in predicted], dtype=np.int64),
        )
    except (ValueError, KeyError) as error:
        raise DataError(f"{path}: holds a value that does not belong there ({error}). Evaluate the model again.") from error


def predictions_of(
    model: str,
    manifest: Manifest,
    split: Split,
    *,
    part: Literal["validation", "test"],
    probabilities: npt.NDArray[np.float64],
    decided: IntArray | None = None,
) -> Predictions:
    """Put a model's scores for one part of the split together with the truth.

    Args:
        model: The model's name in the study.
        manifest: The data set.
        split: Who is in which part; images noted as leaked or quarantined do not count for the clean score.
        part: Which part.
        probabilities: Scores, shape (images of the part, classes), in the order of ``split.rows(part)``.
        decided: Index of the class that each image is given, shape (n,); ``None``: that with the highest score.
    """
    rows = split.rows(part)
    return Predictions(
        model=model,
        part=part,
        classes=manifest.classes,
        rows=rows,
        paths=tuple(manifest.files[row].path for row in rows),
        truth=manifest.labels[rows],
        probabilities=probabilities,
        groups=np.array([split.groups[row] for row in rows], dtype=np.int64),
        clean=np.array([split.clean(row) for row in rows], dtype=np.bool_),
        decided=decided,
    )
