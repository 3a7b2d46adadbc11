"""What the report says of a model that the validation images chose after training: views, members, weights."""

from __future__ import annotations

from collections.abc import Iterator

from vitrail.records import Choice, Training

VIEW_WORDS = {
    "mirror": "the score is the mean over the image and its mirror image",
    "shifts": "the score is the mean over the image and the image shifted four ways",
}


def chosen_facts(training: Training) -> Iterator[tuple[str, str]]:
    """Yield (name, text) for what is special about how a model answers; nothing for most models."""
    if training.test_time_augmentation != "none":
        yield "Test-time augmentation", VIEW_WORDS[training.test_time_augmentation]
    if training.members:
        counting = sorted(training.members, key=lambda member: (-member.weight, member.name))
        yield "Members and weights", ", ".join(f"{one.name} {one.weight:.2f}" for one in counting if one.package)
        missing = [one.name for one in counting if not one.package]
        if missing:
            yield "Members left out", f"{', '.join(missing)}: not trained"
    for choice in training.choices:
        yield f"Choice of {choice.what}", f"{choice.chosen}: {choice.reason}"
        yield f"Validation scores behind the choice of {choice.what}", _numbers(choice)


def _numbers(choice: Choice) -> str:
    """Return the numbers behind a choice, option by option; optimistic, as they chose."""

    def shown(value: float | None, *, percent: bool) -> str:
        return "not estimable" if value is None else f"{100 * value:.1f} %" if percent else f"{value:.4f}"

    return "; ".join(
        f"{option}: balanced accuracy {shown(values.get('balanced_accuracy'), percent=True)}, "
        f"log loss {shown(values.get('log_loss'), percent=False)}"
        for option, values in choice.validation.items()
    )
