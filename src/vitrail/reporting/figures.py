"""The figures of the report, each as SVG text. Plotting happens in this room and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from vitrail.evaluation import roc_curve
from vitrail.records import Estimate, Predictions, Training
from vitrail.reporting.drawing import DASHES, GRID, INK, MUTED, ON_SERIES, SERIES, canvas, plain_axes, short_name, to_svg

MOST_BARS = 40
MOST_NUMBERED_CLASSES = 16


def class_bars(classes: Sequence[str], counts: Mapping[str, Sequence[int]], *, key: str) -> str:
    """Draw the number of images per class as horizontal bars, stacked by part.

    Args:
        classes: Class names, from top to bottom; only the 40 largest are drawn.
        counts: Part -> number of images per class, in the order of ``classes``.
        key: Prefix of the ids.
    """
    table = np.array([counts[part] for part in counts])
    order = np.sort(np.argsort(-table.sum(axis=0), kind="stable")[:MOST_BARS])
    table, names = table[:, order], [classes[position] for position in order]
    with canvas(7.0, 0.75 + 0.3 * len(names)) as figure:
        axes = figure.subplots()
        left = np.zeros(len(names))
        for (part, row), colour in zip(zip(counts, table, strict=True), (*SERIES[:3], MUTED), strict=False):
            if row.any():
                axes.barh(range(len(names)), row, left=left, height=0.62, color=colour, label=part)
            left += row
        for position, total in enumerate(left):
            axes.annotate(f"{total:,.0f}", (total, position), (4, 0), textcoords="offset points", va="center", color=INK)
        axes.set_yticks(range(len(names)), [short_name(name) for name in names], color=INK)
        axes.invert_yaxis()
        axes.margins(x=0.09, y=0.02)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_color(GRID)
        axes.set_xlabel("images")
        figure.legend(loc="outside upper left", ncols=4, handlelength=1.0, handleheight=1.0)
        label = "Images per class: " + ", ".join(f"{name} {total:,.0f}" for name, total in zip(names, left, strict=True))
        return to_svg(figure, key=key, label=short_name(label, 2000))


def learning_curves(training: Training, *, key: str) -> str:
    """Draw loss (training, validation) and balanced accuracy (validation) over the epochs, the kept epoch marked."""
    numbers = [epoch.number for epoch in training.epochs]
    with canvas(7.4, 2.7) as figure:
        loss, accuracy = figure.subplots(1, 2)
        marker = "o" if len(numbers) == 1 else ""
        for title, values, colour, dash in (
            ("training", [epoch.training_loss for epoch in training.epochs], SERIES[0], "solid"),
            ("validation", [epoch.validation_loss for epoch in training.epochs], SERIES[1], "dashed"),
        ):
            loss.plot(numbers, values, color=colour, linestyle=dash, label=title, marker=marker)
        loss.set_title("Loss (cross-entropy)")
        loss.set_ylim(bottom=0)
        loss.legend()
        scores = [epoch.validation_balanced_accuracy for epoch in training.epochs]
        accuracy.plot(numbers, scores, color=SERIES[1], linestyle="dashed", marker=marker)
        accuracy.set_title("Balanced accuracy (validation)")
        accuracy.set_ylim(max(0.0, min(scores) - 0.05), 1.005)
        for axes in (loss, accuracy):
            axes.set_xlabel("epoch")
            axes.xaxis.get_major_locator().set_params(integer=True)
            if training.best_epoch:
                axes.axvline(training.best_epoch, color=MUTED, linewidth=1, linestyle="dotted")
        if training.best_epoch:
            note = (training.best_epoch, accuracy.get_ylim()[0])
            right = training.best_epoch > (numbers[0] + numbers[-1]) / 2
            accuracy.annotate(
                f"kept: epoch {training.best_epoch}",
                note,
                (-5 if right else 5, 6),
                textcoords="offset points",
                ha="right" if right else "left",
                color=MUTED,
                fontsize=8.5,
            )
        last = training.epochs[-1]
        label = (
            f"Learning curves over {len(numbers)} epochs; the weights of epoch {training.best_epoch} were kept. "
            f"At the last epoch: training loss {last.training_loss:.3f}, validation loss {last.validation_loss:.3f}."
        )
        return to_svg(figure, key=key, label=label)


def confusion_matrix(classes: Sequence[str], confusion: Sequence[Sequence[int]], *, title: str, key: str) -> str:
    """Draw a confusion matrix: true class by row, predicted class by column, shaded by the share of the row.

    Args:
        classes: Class names.
        confusion: Counts, shape (classes, classes).
        title: Which images these are.
        key: Prefix of the ids.
    """
    counts = np.array(confusion, dtype=np.int64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    side = max(1.5, (0.62 if len(classes) <= MOST_NUMBERED_CLASSES else 0.22) * len(classes))
    with canvas(side + 1.9, side + 1.25) as figure:
        axes = figure.subplots()
        for row, column in np.ndindex(*counts.shape):
            _confusion_cell(axes, row, column, int(counts[row, column]), float(shares[row, column]), len(classes))
        axes.set_xlim(-0.5, len(classes) - 0.5)
        axes.set_ylim(len(classes) - 0.5, -0.5)
        axes.set_aspect("equal", anchor="W")
        names = [short_name(name, 16) for name in classes]
        axes.set_xticks(range(len(classes)), names, rotation=35, ha="right", rotation_mode="anchor", color=INK)
        axes.set_yticks(range(len(classes)), names, color=INK)
        axes.set_xlabel("predicted class")
        axes.set_ylabel("true class")
        axes.set_title(title)
        plain_axes(axes)
        right = int(np.trace(counts))
        label = f"Confusion matrix, {title}: {right:,} of {counts.sum():,} images on the diagonal."
        return to_svg(figure, key=key, label=label)


def _confusion_cell(axes: Axes, row: int, column: int, count: int, share: float, classes: int) -> None:
    """Draw one cell; the diagonal (right) and the rest (wrong) differ in hue, the share of the row is the strength."""
    from matplotlib.patches import Rectangle

    colour = SERIES[0] if row == column else SERIES[1]
    strength = 0.0 if count == 0 else 0.10 + 0.85 * share
    box = Rectangle((column - 0.47, row - 0.47), 0.94, 0.94, linewidth=0)
    box.set_facecolor((colour, strength) if count else (GRID, 0.45))
    axes.add_patch(box)
    if classes <= MOST_NUMBERED_CLASSES:
        ink = ON_SERIES if strength > 0.5 else (INK if count else MUTED)
        axes.text(column, row, f"{count:,}", ha="center", va="center", color=ink, fontsize=9.5 if count < 10_000 else 8)


def roc_curves(predictions: Predictions, areas: Mapping[str, Estimate], *, title: str, key: str) -> str:
    """Draw one ROC curve per class against the rest, on the clean test images; of two classes also the operating point.

    The point at which the model decides is filled; that of a threshold of 0.5, if it is another, hollow.

    Args:
        predictions: Scores of one model; a class that none or all of the clean images belong to is left out.
        areas: Class name -> area under its curve, for the legend.
        title: Which images these are.
        key: Prefix of the ids.
    """
    truth, scores = predictions.truth[predictions.clean], predictions.probabilities[predictions.clean]
    columns = 1 if len(predictions.classes) <= 4 else 2
    with canvas(3.9, 4.3 + 0.19 * -(-len(predictions.classes) // columns)) as figure:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (1, 3)))
        drawn = []
        for number, name in enumerate(predictions.classes):
            positive = truth == number
            if not positive.any() or positive.all():
                continue
            false_positive_rate, sensitivity, _ = roc_curve(positive, scores[:, number])
            area = areas.get(name)
            value = "" if area is None or area.value is None else f": {area.value:.3f}"
            drawn.append(f"{name}{value}")
            axes.plot(
                false_positive_rate,
                sensitivity,
                color=SERIES[number % len(SERIES)],
                linestyle=DASHES[(number // len(SERIES) + number) % len(DASHES)],
                label=f" {short_name(name, 18)}{value}",  # matplotlib hides labels that begin with an underscore
            )
            if len(predictions.classes) == 2:
                _operating_points(axes, positive, predictions, number)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_aspect("equal", anchor="SW")
        for spine in axes.spines.values():
            spine.set_color(GRID)
        axes.set_xlabel("1 \N{MINUS SIGN} specificity (false positive rate)")
        axes.set_ylabel("sensitivity")
        axes.set_title(title)
        if drawn:
            figure.legend(title="AUC by class", alignment="left", loc="outside lower left", ncols=columns, handlelength=2.6)
        label = f"ROC curves, {title}. Area under the curve: " + "; ".join(drawn)
        return to_svg(figure, key=key, label=short_name(label, 2000))


def _operating_points(axes: Axes, positive: npt.NDArray[np.bool_], predictions: Predictions, number: int) -> None:
    """Mark where on a class's curve the model decides and, if that is elsewhere, where a threshold of 0.5 would."""
    highest, decided = predictions.probabilities.argmax(axis=1), predictions.predicted
    for given, filling, size in ((highest, "none", 7.0), (decided, SERIES[number], 5.0)):
        if given is highest and np.array_equal(highest[predictions.clean], decided[predictions.clean]):
            continue
        called = given[predictions.clean] == number
        point = (called[~positive].mean(), called[positive].mean())
        axes.plot(*point, "o", color=SERIES[number], markerfacecolor=filling, markersize=size, zorder=3)


def can_draw_roc(predictions: Predictions | None) -> bool:
    """Return whether at least one class has clean test images inside and outside it."""
    return predictions is not None and len(np.unique(predictions.truth[predictions.clean])) > 1


def score_intervals(rows: Sequence[tuple[str, Estimate, Estimate]], *, chance: float, key: str, baselines: int = 0) -> str:
    """Draw one line per model: balanced accuracy with its 95 % interval, clean (filled) above official (hollow).

    Args:
        rows: Name, clean estimate, official estimate, from top to bottom.
        chance: Balanced accuracy of guessing, drawn when it falls into the picture.
        key: Prefix of the ids.
        baselines: So many of the last rows are baselines: below a rule, their names stand back.
    """
    ends = [end for _, *pair in rows for estimate in pair for end in (estimate.value, estimate.low) if end is not None]
    lowest = max(0.0, min(ends, default=0.0) - 0.06)
    with canvas(7.0, 1.05 + 0.46 * len(rows)) as figure:
        axes = figure.subplots()
        for position, (_, clean, official) in enumerate(rows):
            _interval(axes, position - 0.14, clean, SERIES[0], filled=True)
            _interval(axes, position + 0.18, official, MUTED, filled=False)
        if lowest <= chance:
            axes.axvline(100 * chance, color=MUTED, linewidth=1, linestyle="dotted")
        axes.plot([], [], "o-", color=SERIES[0], label="clean test images")
        axes.plot([], [], "o-", color=MUTED, markerfacecolor="none", label="all test images (official)")
        axes.set_yticks(range(len(rows)), [short_name(name) for name, *_ in rows], color=INK)
        if 0 < baselines < len(rows):
            axes.axhline(len(rows) - baselines - 0.48, color=GRID, linewidth=1)
            for name in axes.get_yticklabels()[-baselines:]:
                name.set_color(MUTED)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_xlim(100 * lowest, 100.8)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_color(GRID)
        axes.set_xlabel("balanced accuracy, %")
        figure.legend(loc="outside upper left", ncols=2, handlelength=2.2)
        told = (f"{name} {100 * clean.value:.1f} %" for name, clean, _ in rows if clean.value is not None)
        label = "Balanced accuracy on clean test images with 95 % intervals: " + ", ".join(told)
        return to_svg(figure, key=key, label=short_name(label, 2000))


def _interval(axes: Axes, height: float, estimate: Estimate, colour: str, *, filled: bool) -> None:
    """Draw one estimate; nothing where it is not estimable."""
    if estimate.low is not None and estimate.high is not None:
        axes.plot([100 * estimate.low, 100 * estimate.high], [height, height], color=colour, solid_capstyle="butt")
    if estimate.value is not None:
        axes.plot([100 * estimate.value], [height], "o", color=colour, markersize=6, markerfacecolor=colour if filled else "none")
