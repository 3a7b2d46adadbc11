"""The feature cache: every image passes a frozen embedder once.

Vectors are kept in shards by (image bytes, turn, recipe, weights): a killed run goes on where it stopped, a changed
folder computes only its new images, and copies of one image are computed once.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from vitrail.models import Embedder
from vitrail.preprocess import PLAIN, View, pixel_batches, seen
from vitrail.progress import SILENT, Progress
from vitrail.records import FloatArray, IntArray, Manifest
from vitrail.storage import FOR_EVER, locked, write_bytes
from vitrail.training.imbalance import turned

SHARD = 512
"""Images per shard: some seconds of work that a killed run loses at most. A multiple of the embedder's batch, so that a resumed
run forms the same batches."""
BATCH = 32
"""Images per call of the embedder."""


def features(
    embedder: Embedder,
    manifest: Manifest,
    rows: IntArray,
    *,
    cache: Path,
    turns: IntArray | None = None,
    view: View = PLAIN,
    progress: Progress = SILENT,
    title: str = "Computing features",
) -> FloatArray:
    """Return the vectors of some images, from the cache where they are there.

    Args:
        embedder: Frozen.
        manifest: The data set.
        rows: Positions of readable files; an image may come several times.
        cache: Folder of the caches.
        turns: Quarter turns counterclockwise of each prepared image, 0 to 3, shape (len(rows),); ``None``: none is turned.
        view: How the prepared (and turned) images are looked at.
        progress: Told of every batch computed.
        title: Of the progress bar.

    Returns:
        float32, shape (len(rows), dimension).
    """
    folder = cache / "features" / embedder.fingerprint
    quarters = np.zeros(len(rows), dtype=np.int64) if turns is None else turns
    wanted = [_key(manifest.files[row].sha256, int(quarter), view) for row, quarter in zip(rows, quarters, strict=True)]
    known = _load_shards(folder, set(wanted))
    if not known.keys() >= set(wanted):
        with locked(folder, wait=FOR_EVER):  # another process may be computing the same ones: wait for it and take its
            known.update(_load_shards(folder, set(wanted) - known.keys()))
            missing: dict[str, tuple[int, int]] = {}
            for key, row, quarter in zip(wanted, rows, quarters, strict=True):
                if key not in known:
                    missing.setdefault(key, (int(row), int(quarter)))
            if missing:
                known.update(_computed(embedder, manifest, missing, view=view, folder=folder, progress=progress, title=title))
    return np.stack([known[key] for key in wanted])


def _computed(
    embedder: Embedder,
    manifest: Manifest,
    missing: dict[str, tuple[int, int]],
    *,
    view: View,
    folder: Path,
    progress: Progress,
    title: str,
) -> dict[str, FloatArray]:
    """Compute vectors (key -> row and quarter turns) and keep them, shard by shard."""
    known: dict[str, FloatArray] = {}
    keys, new = list(missing), np.array(list(missing.values()), dtype=np.int64)
    with progress.task(title, len(keys)) as advance:
        for start in range(0, len(keys), SHARD):
            parts: list[FloatArray] = []
            shard, part = keys[start : start + SHARD], new[start : start + SHARD]
            for number, batch in enumerate(pixel_batches(manifest, part[:, 0], embedder.recipe, batch_size=BATCH)):
                parts.append(embedder.embed(seen(turned(batch, part[number * BATCH :][: len(batch), 1]), view)))
                advance(len(batch))
            vectors = np.concatenate(parts)
            _write_shard(folder, shard, vectors)
            known.update(zip(shard, vectors, strict=True))
    return known


def _key(digest: str, quarter: int, view: View) -> str:
    """Return what a vector is filed under: the image's own digest, how it was turned if it was, and the view."""
    return "-".join([digest, *([str(90 * quarter)] if quarter else []), *([view.name] if view != PLAIN else [])])


def _load_shards(folder: Path, wanted: set[str]) -> dict[str, FloatArray]:
    """Return the vectors of some keys; shards without any of them are left on disk."""
    known: dict[str, FloatArray] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as shard:
            keys = shard["sha256"].tolist()
            if not wanted.isdisjoint(keys):
                pairs = zip(keys, shard["vectors"], strict=True)
                known.update((key, vector) for key, vector in pairs if key in wanted)
    return known


def _write_shard(folder: Path, keys: list[str], vectors: FloatArray) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, sha256=np.array(keys), vectors=vectors)
    digest, dash, turn = keys[0].partition("-")
    write_bytes(folder / f"{digest[:16]}{dash}{turn}-{len(keys)}.npz", buffer.getvalue())
