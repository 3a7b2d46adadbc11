"""What a person should be told about the augmentation that a study asks for."""

from __future__ import annotations

from collections.abc import Sequence

from vitrail.model_settings import ModelSettings
from vitrail.settings import AugmentSettings


def remarks(settings: AugmentSettings) -> tuple[str, ...]:
    """Return sentences about settings that are allowed but easily wrong, each with the next step; empty when there are none."""
    sentences = []
    if settings.flip_horizontal:
        sentences.append(
            "augment.flip_horizontal mirrors half of the training images: left and right then mean the same to the model. In "
            "many organs the side matters (heart, liver, situs inversus). Leave it on only where the side tells nothing about "
            "the classes; else set it to false."
        )
    if settings.flip_vertical:
        sentences.append(
            "augment.flip_vertical turns half of the training images upside down, as most images never are in practice. Leave "
            "it on only where images have no upper side (microscopy, for example); else set it to false."
        )
    return tuple(sentences)


def view_remarks(models: Sequence[ModelSettings]) -> tuple[str, ...]:
    """Return sentences about test-time augmentation that is allowed but easily wrong."""
    mirrored = [model.name for model in models if model.test_time_augmentation == "mirror"]
    if not mirrored:
        return ()
    return (
        f"models.{mirrored[0]}.test_time_augmentation: mirror lets the model answer for the mirrored image too: left and right "
        "then mean the same. In many organs the side matters (heart, liver, situs inversus). Leave it on only where the side "
        "tells nothing about the classes; else choose shifts or none.",
    )
