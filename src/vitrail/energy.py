"""The only door to codecarbon: how much electricity a piece of work took, and what that meant in carbon dioxide.

Measuring never decides the fate of a run: where codecarbon is not installed, or fails, the answer says so and the work goes on.
Nothing is sent or looked up: countries' electricity comes from a table within codecarbon.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import logging
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrail.errors import Problem, StudyError, VitrailError
from vitrail.progress import SILENT, Progress
from vitrail.records import Energy
from vitrail.settings import EnergySettings
from vitrail.storage import read_record, write_record

NOT_INSTALLED = "not measured: install vitrail[energy]"
SWITCHED_OFF = "not measured: energy.measure is false"
NOTHING_DONE = "not measured"
NO_COUNTRY = "carbon not estimated: name energy.country or energy.intensity"
SAMPLE_SECONDS = 15.0
"""How often counters are read."""

PROCESSORS = {
    "intel_rapl": "processor measured (RAPL, the whole chip)",
    "windows_emi": "processor measured (Windows energy meter, the whole chip)",
    "intel_power_gadget": "processor measured (Intel Power Gadget, the whole chip)",
    "cpu_load": "processor estimated from the load of this process and its thermal design power{power}",
    "constant": "processor estimated as half its thermal design power{power}, whatever its load",
}
"""codecarbon's way of knowing a processor's power -> in words."""
DEVICES = {
    "RAM": "memory estimated from its size",
    "GPU": "GPU measured (NVML or AMD SMI, all there are)",
    "AppleSiliconChip": "chip measured (powermetrics)",
    "Raspberry": "board measured",
}


@dataclass
class Lap:
    """One piece of work; ``energy`` is known when it is over."""

    energy: Energy = field(default_factory=lambda: Energy(note=NOTHING_DONE))


@dataclass(frozen=True)
class Use:
    """What one step of a run took: a line of its ``energy.json``.

    Attributes:
        step: For example ``cnn: training``.
        energy: What it took.
    """

    step: str
    energy: Energy


@dataclass(frozen=True)
class Intensity:
    """Carbon dioxide per electricity.

    Attributes:
        grams: g CO2eq per kWh.
        origin: Where the number comes from, in words.
    """

    grams: float
    origin: str


def check_energy(settings: EnergySettings) -> None:
    """Find out before any work whether codecarbon knows the country.

    Raises:
        StudyError: It does not; the message names countries with a similar code.
    """
    if settings.country is None or settings.intensity is not None or not (settings.measure and installed()):
        return
    try:
        known = _countries()
    except Exception:  # the measuring itself says what is wrong with the library
        return
    if settings.country not in known:
        close = difflib.get_close_matches(settings.country, known, n=3, cutoff=0.5)
        near = f" Close: {', '.join(f'{code} ({known[code].origin})' for code in close)}." if close else ""
        message = f"codecarbon does not know the electricity of this country.{near} Or give energy.intensity (g per kWh)."
        raise StudyError("study", (Problem("energy.country", message, repr(settings.country)),))


def installed() -> bool:
    """Return whether codecarbon is there, without loading it."""
    try:
        return importlib.util.find_spec("codecarbon") is not None
    except (ImportError, ValueError):
        return False


class Meter:
    """Measures pieces of work, one after the other. The first start takes about two seconds, all others next to nothing.

    Args:
        settings: Whether to measure, and what the electricity is made from.
        account: File to which every lap is added; see :func:`total_use`.
        progress: Told once of everything that goes wrong.
    """

    def __init__(self, settings: EnergySettings, account: Path, progress: Progress = SILENT) -> None:
        self._settings = settings
        self._account = account
        self._progress = progress
        self._told: set[str] = set()

    @contextlib.contextmanager
    def lap(self, step: str, *, note: str = "") -> Iterator[Lap]:
        """Measure what is done within; whatever goes wrong with the measuring stays here.

        Work that fails costs too: it stands in the account like any other.

        Args:
            step: What it is, for the account.
            note: A caveat that goes with the number.
        """
        lap = Lap()
        missing = SWITCHED_OFF if not self._settings.measure else "" if installed() else NOT_INSTALLED
        tracker = None if missing else self._started()
        began = time.monotonic()
        try:
            yield lap
        finally:
            seconds = time.monotonic() - began
            lap.energy = Energy(note=missing) if missing else self._stopped(tracker, seconds=seconds, note=note)
            try:
                write_record(self._account, [*_uses(self._account), Use(step, lap.energy)])
            except (OSError, VitrailError) as error:
                self._say(error, f"{self._account.name} cannot be written")

    def _started(self) -> Any:
        try:
            return _tracker()
        except Exception as error:  # a library that reads counters of all makes of machines: anything
            self._say(error)
            return None

    def _stopped(self, tracker: Any, *, seconds: float, note: str) -> Energy:
        if tracker is None:
            return Energy(note="not measured: codecarbon could not begin")
        try:
            with _silence():
                tracker.stop()
            kwh = float(tracker.final_emissions_data.energy_consumed)
            if not (math.isfinite(kwh) and kwh > 0):
                raise ValueError(f"it found {kwh} kWh")
            method = _method(tracker)
        except Exception as error:
            self._say(error)
            return Energy(note="not measured: codecarbon failed")
        intensity = self._intensity()
        if intensity is None:
            return Energy(kwh, None, seconds, method, "; ".join(part for part in (note, NO_COUNTRY) if part))
        method = f"{method}; {intensity.grams:g} g CO2eq per kWh ({intensity.origin})"
        return Energy(kwh, kwh * intensity.grams / 1000, seconds, method, note)

    def _intensity(self) -> Intensity | None:
        if self._settings.intensity is not None:
            return Intensity(self._settings.intensity, "as the study says")
        if self._settings.country is None:
            return None
        try:
            return _countries()[self._settings.country]
        except Exception as error:
            self._say(error)
            return None

    def _say(self, error: Exception, what: str = "codecarbon failed") -> None:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if reason not in self._told:
            self._told.add(reason)
            self._progress.say(f"Energy is not measured in full, {what} ({reason}). The run goes on.")


# ---------------------------------------------------------------------------------------------------- a run's account


def total_use(path: Path) -> Energy:
    """Return what all steps in a run's account took together; a step that was done again counts again.

    Where not all were measured the sum is of those that were, and its note says how many that are.
    """
    uses = _uses(path)
    if not uses:
        return Energy(note=NOTHING_DONE)
    return total([use.energy for use in uses])


def total(energies: Sequence[Energy]) -> Energy:
    """Return the sum of some energies; carbon is summed where it is known of all that were measured."""
    measured = [energy for energy in energies if energy.kwh is not None]
    notes = list(dict.fromkeys(energy.note for energy in energies if energy.note))
    if not measured:
        return Energy(note="; ".join(notes) or NOTHING_DONE)
    if len(measured) < len(energies):
        notes.insert(0, f"{len(measured)} of {len(energies)} steps measured")
    carbon = [energy.co2_kg for energy in measured if energy.co2_kg is not None]
    methods = dict.fromkeys(energy.method for energy in measured)
    return Energy(
        kwh=math.fsum(energy.kwh for energy in measured if energy.kwh is not None),
        co2_kg=math.fsum(carbon) if len(carbon) == len(measured) else None,
        seconds=math.fsum(energy.seconds for energy in measured),
        method=" / ".join(methods),
        note="; ".join(notes),
    )


def _uses(path: Path) -> list[Use]:
    try:
        return read_record(path, list[Use])
    except (OSError, ValueError):  # the first step, or a damaged account: no reason to end a run
        return []


# ---------------------------------------------------------------------------------------------------- codecarbon


def _tracker() -> Any:
    """Return a tracker at work. Everything that a file or the environment could set otherwise is said here: nothing is sent."""
    with _silence():
        from codecarbon import OfflineEmissionsTracker

        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)  # its import sets the level, its beginning talks
        tracker = OfflineEmissionsTracker(
            project_name="vitrail",
            country_iso_code=None,
            cloud_provider=None,
            cloud_region=None,
            force_carbon_intensity_g_co2e_kwh=0.0,  # carbon is computed here, from the same table: it looks nothing up
            electricitymaps_api_token=None,
            emissions_endpoint=None,
            output_methods=[],
            output_handlers=[],
            tracking_mode="process",
            measure_power_secs=SAMPLE_SECONDS,
            allow_multiple_runs=True,
            log_level="critical",
        )
        tracker.start()
    return tracker


def _countries() -> dict[str, Intensity]:
    """Return how clean the electricity of every country is that codecarbon knows."""
    with _silence():
        from codecarbon.input import DataSource

        table = DataSource().get_global_energy_mix_data()
    return {
        code: Intensity(float(country["carbon_intensity"]), f"{country['country_name']}, {country.get('year', 'year unknown')}")
        for code, country in table.items()
        if country.get("carbon_intensity") is not None
    }


def _method(tracker: Any) -> str:
    """Say what was measured and what was estimated; codecarbon tells it only by what it has set up."""
    parts = []
    for device in getattr(tracker, "_hardware", ()):
        kind = type(device).__name__
        if kind == "CPU":
            power = getattr(device, "_tdp", None)
            watts = f" ({power:g} W)" if isinstance(power, int | float) else ""
            guess = ", a usual one as this processor is not known" if getattr(device, "_is_generic_tdp", False) else ""
            mode = str(getattr(device, "_mode", "unknown"))
            parts.append(PROCESSORS.get(mode, f"processor: {mode}").format(power=f"{watts}{guess}"))
        else:
            parts.append(DEVICES.get(kind, kind))
    return ", ".join(sorted(set(parts), reverse=True)) or "by codecarbon, in a way it does not tell"


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
