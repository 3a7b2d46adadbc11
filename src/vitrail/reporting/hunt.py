"""What the report shows of the shortcut hunt: the finding in words, what survives, and where the maps point."""

from __future__ import annotations

from dataclasses import dataclass

from vitrail.records import Estimate, RegionShare, ShortcutHunt
from vitrail.reporting.wording import Shown, caveats, counted, methods, show

CHANGES = ("AUC (mean of classes)", "Balanced accuracy", "Share that survives")
PLACES = ("Share of what speaks for the class", "Share of the area", "Share before the network learnt", "Above chance")
_OF_ALL = "all classes"


@dataclass(frozen=True)
class HuntTable:
    """Numbers in a table, as :class:`~vitrail.reporting.model_section.ScoreTable` has them."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Shown, ...]], ...]
    methods: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class HuntView:
    """The hunt of one model, in words.

    Attributes:
        verdict: ``found``, ``not found`` or ``not estimable``.
        message: The finding.
        lead: On what it stands.
        changes: What survives when parts are replaced.
        places: Where the maps point; ``None`` where no maps were asked.
        notes: What a reader must know.
    """

    verdict: str
    message: str
    lead: str
    changes: HuntTable
    places: HuntTable | None
    notes: tuple[str, ...]


def hunt_view(hunt: ShortcutHunt | None) -> HuntView | None:
    """Put a hunt into words; ``None`` where there is none."""
    if hunt is None:
        return None
    changes = tuple(
        (one.name, (show("auc_macro", one.auc), show("balanced_accuracy", one.balanced_accuracy), _share(one.survives)))
        for one in hunt.interventions
    )
    used = [estimate for one in hunt.interventions for estimate in (one.auc, one.balanced_accuracy, one.survives)]
    groups = "" if hunt.groups == hunt.n else f" in {counted(hunt.groups, 'group', 'groups')}"
    maps = f" {hunt.method} maps of the true classes;" if hunt.method else ""
    return HuntView(
        verdict=hunt.verdict,
        message=hunt.message,
        lead=(
            f"On {counted(hunt.n, 'validation image', 'validation images')}{groups}, of which {hunt.with_anatomy:,} have an "
            f"anatomy that can be told from the ground;{maps} {hunt.passes:,.0f} passes of the model per image."
        ),
        changes=HuntTable(CHANGES, changes, methods(used), caveats(numbers for _, numbers in changes)),
        places=_places(hunt.regions),
        notes=hunt.notes,
    )


def _places(regions: tuple[RegionShare, ...]) -> HuntTable | None:
    if not regions:
        return None
    rows = tuple(
        (
            f"{one.region}, {one.target or _OF_ALL}",
            (_share(one.share), _share(one.area), _share(one.untrained), Shown(one.above_chance, "", "", "", "", "", True)),
        )
        for one in regions
    )
    used = [estimate for one in regions for estimate in (one.share, one.area, one.untrained)]
    return HuntTable(PLACES, rows, methods(used), caveats(numbers for _, numbers in rows))


def _share(estimate: Estimate | None) -> Shown:
    return Shown("", "", "", "", "", "", True) if estimate is None else show("share", estimate)
