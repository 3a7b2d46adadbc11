"""The first half of every model: prepared pixels in, one vector per image out.

Two kinds serve every family: hand-made descriptors (for forests) and a network's trunk in ONNX Runtime. Both are frozen once
made, so their vectors are computed once and cached by (image, recipe, weights).
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from vitrail.engine import give_back_memory
from vitrail.errors import PackageError
from vitrail.models.texture import texture
from vitrail.preprocess import normalise
from vitrail.records import ByteArray, FloatArray, Recipe
from vitrail.storage import file_sha256, fingerprint, versions, write_bytes

BATCH = 32
"""Images per call of ONNX Runtime: larger batches are no faster on a CPU and cost memory."""

LARGE = 200_000_000
"""Bytes of a network of which one copy of the weights is enough at a time."""

DESCRIPTORS = ("pixels", "hog", "texture")
"""The hand-made features that there are."""

Pooling = Literal["average", "max", "flatten", "none"]
"""How feature maps (channels, height, width) become the vector: mean per map, maximum per map, all values in that order; ``none``
where the vector is not made from maps."""


class Embedder(Protocol):
    """Prepared pixels in, one vector per image out."""

    kind: str
    recipe: Recipe

    @property
    def fingerprint(self) -> str:
        """Changes with anything that changes a vector: the key of the feature cache."""
        ...

    def embed(self, pixels: ByteArray) -> FloatArray:
        """Return float32 vectors, shape (n, dimension), for uint8 pixels of shape (n, size, size, channels)."""
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Write what is needed into a package folder and return what :func:`load_embedder` needs to know."""
        ...


class DescriptorEmbedder:
    """Grey pixels, flattened, histograms of oriented gradients (Dalal & Triggs, CVPR 2005) and texture.

    Args:
        recipe: Preparation of the images; colour images are averaged over their channels.
        features: Some of ``pixels``, ``hog`` and ``texture``, in the order of the vector.
    """

    kind = "descriptors"
    pooling: Pooling = "none"

    def __init__(self, recipe: Recipe, features: tuple[str, ...]) -> None:
        self.recipe = recipe
        self.features = features

    @property
    def fingerprint(self) -> str:
        """See :class:`Embedder`."""
        return fingerprint("descriptors-1", self.features, self.recipe.fingerprint, versions("pillow", "scikit-image"))

    def embed(self, pixels: ByteArray) -> FloatArray:
        """See :class:`Embedder`. Pixels are scaled by the recipe; HOG has 9 orientations, 8 x 8 cells, 2 x 2 blocks; texture
        (:func:`vitrail.models.texture.texture`) is read from the grey levels 0..255, before they are scaled.
        """
        return np.concatenate([self._part(feature, pixels) for feature in self.features], axis=1).astype(np.float32)

    def _part(self, feature: str, pixels: ByteArray) -> FloatArray:
        if feature == "texture":
            return np.stack([texture(image) for image in np.rint(pixels.mean(axis=3)).astype(np.uint8)])
        grey = normalise(pixels, self.recipe).mean(axis=1)
        if feature == "pixels":
            return np.asarray(grey.reshape(len(grey), -1), dtype=np.float32)
        return np.stack([self._hog(image) for image in grey])

    def _hog(self, image: FloatArray) -> FloatArray:
        from skimage.feature import hog

        cell = max(1, self.recipe.size // 8)
        histogram = hog(image, orientations=9, pixels_per_cell=(cell, cell), cells_per_block=(2, 2), block_norm="L2-Hys")
        return np.asarray(histogram, dtype=np.float32)

    def save(self, folder: Path) -> dict[str, Any]:  # noqa: ARG002 - nothing but the description is needed
        """See :class:`Embedder`."""
        return {"kind": self.kind, "features": list(self.features)}


class OnnxEmbedder:
    """A network's trunk, run by ONNX Runtime on the CPU.

    The graph has one input ``pixels`` (float32, n x channels x size x size) and the output ``embedding`` (n x dimension), and
    where there are feature maps also ``activations`` (n x maps x height x width).

    Args:
        path: The ``.onnx`` file.
        recipe: Preparation of the images.
        pooling: How the activations become the embedding.
    """

    kind = "onnx"

    def __init__(self, path: Path, recipe: Recipe, pooling: Pooling) -> None:
        self.path = path
        self.recipe = recipe
        self.pooling = pooling
        self._up_to: tuple[tuple[str, ...], Any] | None = None

    @cached_property
    def fingerprint(self) -> str:
        """See :class:`Embedder`."""
        return fingerprint("onnx-1", file_sha256(self.path), self.recipe.fingerprint, versions("pillow", "onnxruntime"))

    @cached_property
    def _session(self) -> Any:
        return self._opened(str(self.path), self._options())

    def _session_up_to(self, names: tuple[str, ...]) -> Any:
        """Return a session that ends with values inside the network; the last one is kept, with weights of its own."""
        kept = self._up_to
        if kept is None or kept[0] != names:
            import onnx

            model = onnx.load(str(self.path))
            del model.graph.output[:]
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
            options = self._options()
            # Torch goes on from there: threads that went on turning for a while after the run would take its cores. Of sessions
            # that are asked again and again it would cost a small network half of its time to stop them.
            options.add_session_config_entry("session.force_spinning_stop", "1")
            self._up_to = kept = names, self._opened(model.SerializeToString(), options)
        return kept[1]

    def _options(self) -> Any:
        import onnxruntime

        from vitrail.engine import available_cores

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = available_cores()
        options.log_severity_level = 3
        if self._is_large:
            # Planned as one block of memory, the weights as they were read would stay beside the copies that are computed with.
            options.enable_mem_pattern = False
        return options

    def _opened(self, graph: str | bytes, options: Any) -> Any:
        import onnxruntime

        if self._is_large:
            give_back_memory()
        try:
            return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises many kinds, all of them meaning: this file is no usable graph
            raise PackageError(f"{self.path}: ONNX Runtime cannot load it ({error}). Make the package again.") from error

    def make_room(self) -> None:
        """Let go of a large network in ONNX Runtime, and of all memory that is free; it is loaded again when it is next asked,
        which takes about a second.
        """
        if self._is_large:
            vars(self).pop("_session", None)
            give_back_memory()

    @property
    def _is_large(self) -> bool:
        return self.path.is_file() and self.path.stat().st_size > LARGE

    def embed(self, pixels: ByteArray) -> FloatArray:
        """See :class:`Embedder`."""
        parts = []
        for start in range(0, len(pixels), BATCH):
            inputs = {"pixels": normalise(pixels[start : start + BATCH], self.recipe)}
            parts.append(self._session.run(["embedding"], inputs)[0])
        return np.concatenate(parts)

    def embed_with_maps(self, pixels: ByteArray) -> tuple[FloatArray, FloatArray] | None:
        """Return the feature maps and the vector of one image.

        Args:
            pixels: uint8, shape (1, size, size, channels).

        Returns:
            Activations (maps, height, width) and embedding (dimension,), float32; ``None`` without feature maps.
        """
        if self.pooling == "none":
            return None
        activations, embedding = self._session.run(["activations", "embedding"], {"pixels": normalise(pixels, self.recipe)})
        return activations[0], embedding[0]

    def embed_all_with_maps(self, pixels: ByteArray) -> tuple[FloatArray, FloatArray] | None:
        """Return the feature maps and the vectors of several images, in the batches of :meth:`embed`: the same vectors.

        Args:
            pixels: uint8, shape (n, size, size, channels).

        Returns:
            Activations (n, maps, height, width) and embeddings (n, dimension), float32; ``None`` without feature maps.
        """
        if self.pooling == "none":
            return None
        parts = []
        for start in range(0, len(pixels), BATCH):
            inputs = {"pixels": normalise(pixels[start : start + BATCH], self.recipe)}
            parts.append(self._session.run(["activations", "embedding"], inputs))
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def values_inside(self, pixels: ByteArray, names: tuple[str, ...]) -> dict[str, FloatArray] | None:
        """Return values inside the network, computed as far as they need. Needs the package ``onnx``.

        Args:
            pixels: uint8, shape (n, size, size, channels).
            names: Names of values in the ONNX graph whose first axis is the images'.

        Returns:
            Values by name, float32; ``None`` of a large network, of which no second copy is made.
        """
        if self._is_large:
            return None
        session = self._session_up_to(names)
        batches = (pixels[start : start + BATCH] for start in range(0, len(pixels), BATCH))
        parts = [session.run(names, {"pixels": normalise(batch, self.recipe)}) for batch in batches]
        return {name: np.concatenate([part[place] for part in parts]) for place, name in enumerate(names)}

    def save(self, folder: Path) -> dict[str, Any]:
        """See :class:`Embedder`."""
        write_bytes(folder / "embedder.onnx", self.path.read_bytes())
        return {"kind": self.kind, "pooling": self.pooling}


def load_embedder(folder: Path, description: dict[str, Any], recipe: Recipe) -> DescriptorEmbedder | OnnxEmbedder:
    """Load the embedder of a package.

    Raises:
        PackageError: Its kind, or a descriptor, is unknown to this version of vitrail.
    """
    match description.get("kind"):
        case "descriptors":
            features = tuple(description["features"])
            foreign = sorted(set(features) - set(DESCRIPTORS))
            if foreign:
                known = ", ".join(DESCRIPTORS)
                raise PackageError(f"{folder}: unknown descriptor {foreign[0]!r}. Known: {known}. Update vitrail.")
            return DescriptorEmbedder(recipe, features)
        case "onnx":
            return OnnxEmbedder(folder / "embedder.onnx", recipe, description["pooling"])
        case unknown:
            known = "descriptors, onnx"
            raise PackageError(f"{folder}: unknown kind of embedder {unknown!r}. Known: {known}. Update vitrail.")
