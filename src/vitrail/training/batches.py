"""Whether the batches of a training fit the images and the machine: told before the work begins."""

from __future__ import annotations

from vitrail.engine import machine_memory
from vitrail.models import stops_early, training_bytes
from vitrail.study import ModelSettings
from vitrail.training.train import OPEN_SIZE, Job

GIB = 2**30


def batch_remarks(settings: ModelSettings, job: Job) -> tuple[str, ...]:
    """Return sentences about batches that can be trained but are not what was meant; empty when there are none.

    Args:
        settings: The model.
        job: The study and who trains.
    """
    if not stops_early(settings):
        return ()
    size, count = job.study.training_for(settings).batch_size or 1, len(job.training_rows)
    key, remarks = f"models.{settings.name}.training.batch_size", []
    if size > count:
        remarks.append(f"{key} ({size:,}) is more than the {count:,} training images: every epoch is a single step. Lower it.")
    memory = machine_memory()
    needs = training_bytes(settings, job.study.preprocess_for(settings), size=OPEN_SIZE)
    if memory and needs is not None:
        fixed, each = needs
        step = fixed + each * min(size, count)
        if step > memory:
            fits = max(1, (memory - fixed) // (2 * each))
            remarks.append(
                f"{key} ({size:,}): a training step needs about {step / GIB:.1f} GiB, and this machine has {memory / GIB:.1f}. "
                f"Batches that do not fit are halved, if the system does not end the run before; {fits:,} or fewer would fit."
            )
    return tuple(remarks)
