"""The feature cache: every image passes a frozen embedder once.

Vectors are kept in shards by (image bytes, recipe, weights): a killed run goes on where it stopped, a changed folder computes
only its new images, and copies of one image are computed once.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from vitrail.models import Embedder
from vitrail.preprocess import pixel_batches
from vitrail.progress import SILENT, Progress
from vitrail.records import FloatArray, IntArray, Manifest
from vitrail.storage import write_bytes

SHARD = 512
"""Images per shard: some seconds of work that a killed run loses at most. A multiple of the embedder's batch, so that a resumed
run forms the same batches."""


def features(
    embedder: Embedder,
    manifest: Manifest,
    rows: IntArray,
    *,
    cache: Path,
    progress: Progress = SILENT,
    title: str = "Computing features",
) -> FloatArray:
    """Return the vectors of some images, from the cache where they are there.

    Args:
        embedder: Frozen.
        manifest: The data set.
        rows: Positions of readable files.
        cache: Folder of the caches.
        progress: Told of every batch computed.
        title: Of the progress bar.

    Returns:
        float32, shape (len(rows), dimension).
    """
    folder = cache / "features" / embedder.fingerprint
    wanted = [manifest.files[row].sha256 for row in rows]
    known = _load_shards(folder, set(wanted))
    missing: dict[str, int] = {}
    for digest, row in zip(wanted, rows, strict=True):
        if digest not in known:
            missing.setdefault(digest, int(row))
    if missing:
        digests, new_rows = list(missing), np.array(list(missing.values()), dtype=np.int64)
        with progress.task(title, len(digests)) as advance:
            for start in range(0, len(digests), SHARD):
                parts = []
                for batch in pixel_batches(manifest, new_rows[start : start + SHARD], embedder.recipe, batch_size=32):
                    parts.append(embedder.embed(batch))
                    advance(len(batch))
                shard = digests[start : start + SHARD]
                vectors = np.concatenate(parts)
                _write_shard(folder, shard, vectors)
                known.update(zip(shard, vectors, strict=True))
    return np.stack([known[digest] for digest in wanted])


def _load_shards(folder: Path, wanted: set[str]) -> dict[str, FloatArray]:
    """Return the vectors of some images; shards without any of them are left on disk."""
    known: dict[str, FloatArray] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as shard:
            digests = shard["sha256"].tolist()
            if not wanted.isdisjoint(digests):
                pairs = zip(digests, shard["vectors"], strict=True)
                known.update((digest, vector) for digest, vector in pairs if digest in wanted)
    return known


def _write_shard(folder: Path, digests: list[str], vectors: FloatArray) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, sha256=np.array(digests), vectors=vectors)
    write_bytes(folder / f"{digests[0][:16]}-{len(digests)}.npz", buffer.getvalue())
