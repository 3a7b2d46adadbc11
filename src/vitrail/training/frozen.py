"""What frozen layers make of an image is the same in every epoch: it is computed once, and the epochs run on the rest."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from vitrail.progress import Progress
from vitrail.records import IntArray
from vitrail.row_file import RowFile
from vitrail.settings import TrainingSettings
from vitrail.storage import whole_file
from vitrail.training.device import choose_device
from vitrail.training.examples import PixelExamples

BATCH = 32
"""Images that pass the frozen layers at a time; fewer where a step has fewer."""
LARGEST = 4 * 2**30
"""Most bytes on disk that are kept at a time."""


@runtime_checkable
class PartlyFrozen(Protocol):
    """A network of which layers may be frozen, in some of its epochs or in all."""

    freezes: bool
    """Whether any layer is frozen in any epoch."""

    @property
    def frozen_up_to(self) -> str:
        """Up to where it is frozen in the epoch that is under way; empty: nowhere."""
        ...

    def find_frozen(self, pixels: torch.Tensor) -> None:
        """Find that out, from some different images."""
        ...

    def frozen_part(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return what it gives up to there: the network takes this in place of the pixels."""
        ...


@contextlib.contextmanager
def frozen_once(
    network: torch.nn.Module,
    examples: PixelExamples,
    training: TrainingSettings,
    *,
    folder: Path,
    name: str,
    progress: Progress,
    images: int | None = None,
) -> Iterator[PixelExamples | FrozenExamples]:
    """Give examples that hold what a network's frozen layers made of an image, where they have to do so only once.

    In full precision they do where images are not augmented. The same seed gives the same weights bit for bit on the CPU, also
    after a kill. Against layers that are computed in every epoch the last digits may differ, as those of a sum do when its batch
    has another size.

    Augmented images are others in every epoch: their frozen layers are computed every time, and a fixed set of variants would be
    another training. In mixed precision, too, they are computed every time: validation is in full precision, and would need what
    is kept a second time.

    What is kept goes when the context ends, and after a kill with whatever else was unfinished.

    Args:
        network: Before its first epoch, on the CPU.
        examples: Its images.
        training: Resolved settings: device and precision.
        folder: Of the model, for what is kept while it trains.
        name: Of the model, for messages.
        progress: Told what is done.
        images: For how many there must be room; ``None``: as many as there are. More where a training is only timed on some.
    """
    if not isinstance(network, PartlyFrozen) or not network.freezes:
        yield examples
    elif examples.augmentation is not None:
        progress.say(f"{name}: augmented images are others in every epoch, so that frozen layers are computed in each of them")
        yield examples
    elif (training.devices or 1) > 1:
        progress.say(f"{name}: frozen layers are computed in every epoch: what one device keeps does not reach the others")
        yield examples
    elif choose_device(training).products is not None:
        progress.say(f"{name}: frozen layers are computed in every epoch: training is in mixed precision, validation is not")
        yield examples
    else:
        some = np.arange(min(2, len(examples.training_labels)))
        network.find_frozen(examples.training_batch(some, np.random.default_rng(0)))
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".frozen-", suffix=".partial", ignore_cleanup_errors=True) as place:
            yield FrozenExamples(network, examples, folder=Path(place), name=name, progress=progress, images=images)


class FrozenExamples:
    """Examples of a network whose first layers stay fixed: what these gave, read from disk; pixels where nothing is fixed.

    What is kept is float32, as it was computed: no bit is lost. Of a network that is frozen up to another place later, what was
    kept before is removed then.

    Args:
        network: Says up to where it is frozen, in the epoch that is under way.
        examples: The images, not augmented.
        folder: Where to keep it.
        name: Of the model, for messages.
        progress: Told of every image.
        images: For how many there must be room; ``None``: as many as there are.
    """

    def __init__(
        self,
        network: PartlyFrozen,
        examples: PixelExamples,
        *,
        folder: Path,
        name: str,
        progress: Progress,
        images: int | None = None,
    ) -> None:
        self.training_labels = examples.training_labels
        self.validation_labels = examples.validation_labels
        self._network, self._examples = network, examples
        self._folder, self._name, self._progress = folder, name, progress
        self._images = images or len(examples.training_labels) + len(examples.validation_labels)
        self._part = ""
        self._kept: _Kept | None = None

    @property
    def keeps(self) -> bool:
        """Whether what frozen layers gave is kept, as of the last batch."""
        return self._kept is not None

    def training_batch(self, positions: IntArray, generator: np.random.Generator) -> torch.Tensor:
        """See :class:`vitrail.training.fit.Examples`."""
        kept = self._of_this_epoch(len(positions))
        return self._examples.training_batch(positions, generator) if kept is None else kept[positions]

    def validation_batch(self, positions: IntArray) -> torch.Tensor:
        """See :class:`vitrail.training.fit.Examples`."""
        kept = self._of_this_epoch(len(positions))
        return self._examples.validation_batch(positions) if kept is None else kept[len(self.training_labels) + positions]

    def _of_this_epoch(self, wanted: int) -> _Kept | None:
        """Return what is kept of the part that is frozen now: of the training images, then of the validation images.

        Args:
            wanted: Images that are asked for: so many at a time fit into memory, as far as anybody knows.
        """
        part = self._network.frozen_up_to
        if part != self._part:
            self._part, self._kept = "", None
            for earlier in self._folder.iterdir():
                earlier.unlink()
            self._kept = self._compute(part, min(BATCH, wanted)) if part else None
            self._part = part
        return self._kept

    def _compute(self, part: str, size: int) -> _Kept | None:
        """Compute what a part gives for all images, so many at a time; ``None``: it is too much to keep."""
        count = len(self.training_labels) + len(self.validation_labels)
        batches = self._batches(size)
        first = next(batches)
        by_channel = first.ndim == 4 and not first.is_contiguous()  # channels_last: rows of the file are as they lie in memory
        if not self._fits(self._images * first[0].nbytes):
            return None
        path = self._folder / f"{part}.npy"
        shape = (count, *(first.permute(0, 2, 3, 1) if by_channel else first).shape[1:])
        task = self._progress.task(f"{self._name}: frozen layers", count)
        with whole_file(path) as temporary, task as advance, temporary.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for batch in itertools.chain([first], batches):
                stream.write((batch.permute(0, 2, 3, 1) if by_channel else batch).numpy().astype("<f4").tobytes())
                advance(len(batch))
        return _Kept(path, by_channel=by_channel)

    def _fits(self, needed: int) -> bool:
        """Return whether so many bytes may be kept, and say so where they may not."""
        free = shutil.disk_usage(self._folder).free
        if needed <= min(LARGEST, free // 2):
            return True
        why = (
            "too much to keep" if needed > LARGEST else f"more than half of the {free / 2**30:.1f} GiB that are free on its disk"
        )
        self._progress.say(
            f"{self._name}: what its frozen layers give for all images takes {needed / 2**30:.1f} GiB, {why}: it is computed in "
            "every epoch"
        )
        return False

    def _batches(self, size: int) -> Iterator[torch.Tensor]:
        """Give what the frozen part makes of all images, in order."""
        nothing_drawn = np.random.default_rng(0)
        for rows in _in_batches(len(self.training_labels), size):
            yield self._network.frozen_part(self._examples.training_batch(rows, nothing_drawn))
        for rows in _in_batches(len(self.validation_labels), size):
            yield self._network.frozen_part(self._examples.validation_batch(rows))


class _Kept:
    """Rows of tensors on disk, given back with the order in memory that they had."""

    def __init__(self, path: Path, *, by_channel: bool) -> None:
        self._rows = RowFile(path)
        self._by_channel = by_channel

    def __getitem__(self, positions: IntArray) -> torch.Tensor:
        rows = torch.from_numpy(self._rows[positions])
        return rows.permute(0, 3, 1, 2) if self._by_channel else rows


def _in_batches(count: int, size: int) -> Iterator[IntArray]:
    for start in range(0, count, size):
        yield np.arange(start, min(start + size, count))
