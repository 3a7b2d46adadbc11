"""Energy: what was measured is told with its method, what was not is never zero, and nothing of it can end a run."""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import ClassVar

import pytest

from vitrail.energy import NOT_INSTALLED, Meter, check_energy, total, total_use
from vitrail.errors import StudyError
from vitrail.progress import SilentProgress
from vitrail.records import Energy
from vitrail.reporting.wording import electricity
from vitrail.settings import EnergySettings

FRANCE = EnergySettings(country="FRA")
TABLE = {
    "FRA": {"country_name": "France", "carbon_intensity": 56.0, "year": 2023},
    "DEU": {"country_name": "Germany", "carbon_intensity": 380.0, "year": 2023},
}


class Listener(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


class CPU:
    _mode, _tdp, _is_generic_tdp = "cpu_load", 8, False


class GPU:
    """As codecarbon calls its own."""


class Tracker:
    """Stands in for the library's own: 0.5 kWh for whatever was done."""

    asked: ClassVar[dict[str, object]] = {}
    used = 0.5
    fails_at = ""

    def __init__(self, **wishes: object) -> None:
        type(self).asked = wishes
        self._hardware = [CPU(), GPU()]

    def start(self) -> None:
        if self.fails_at == "start":
            raise RuntimeError("no counters here")

    def stop(self) -> None:
        if self.fails_at == "stop":
            raise OSError("the counter is gone")
        self.final_emissions_data = types.SimpleNamespace(energy_consumed=self.used)


@pytest.fixture
def library(monkeypatch):
    """A codecarbon that measures half a kilowatt-hour."""
    tracker = type("Tracker", (Tracker,), {})
    parts = {"codecarbon": {"OfflineEmissionsTracker": tracker}, "codecarbon.input": {}}
    parts["codecarbon.input"]["DataSource"] = lambda: types.SimpleNamespace(get_global_energy_mix_data=lambda: TABLE)
    for name, content in parts.items():
        module = types.ModuleType(name)
        module.__spec__ = importlib.util.spec_from_loader(name, loader=None)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return tracker


@pytest.fixture
def no_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)


def test_a_lap_has_energy_carbon_time_and_method(library, tmp_path):
    with Meter(FRANCE, tmp_path / "energy.json").lap("cnn: training") as lap:
        pass
    assert lap.energy.kwh == 0.5
    assert lap.energy.co2_kg == pytest.approx(0.5 * 56 / 1000)
    assert "processor estimated from the load of this process and its thermal design power (8 W)" in lap.energy.method
    assert "GPU measured (NVML" in lap.energy.method
    assert lap.energy.method.endswith("56 g CO2eq per kWh (France, 2023)")
    assert lap.energy.note == ""
    assert total_use(tmp_path / "energy.json") == lap.energy


def test_the_library_is_told_to_send_and_to_write_nothing(library, tmp_path):
    with Meter(FRANCE, tmp_path / "energy.json").lap("a"):
        pass
    asked = library.asked
    assert asked["output_methods"] == [] and asked["output_handlers"] == []
    assert asked["emissions_endpoint"] is None and asked["electricitymaps_api_token"] is None
    assert asked["force_carbon_intensity_g_co2e_kwh"] is not None  # with a number given it asks nobody


def test_the_study_s_own_intensity_goes_before_the_country_s(library, tmp_path):
    with Meter(EnergySettings(country="FRA", intensity=10), tmp_path / "energy.json").lap("a") as lap:
        pass
    assert lap.energy.co2_kg == pytest.approx(0.005)
    assert "10 g CO2eq per kWh (as the study says)" in lap.energy.method


def test_without_a_country_no_carbon_is_made_up(library, tmp_path):
    with Meter(EnergySettings(), tmp_path / "energy.json").lap("a") as lap:
        pass
    assert lap.energy.kwh == 0.5 and lap.energy.co2_kg is None
    assert "energy.country" in lap.energy.note


def test_without_the_library_it_is_said_and_never_zero(no_library, tmp_path):
    listener = Listener()
    with Meter(FRANCE, tmp_path / "energy.json", listener).lap("a") as lap:
        pass
    assert lap.energy == Energy(note=NOT_INSTALLED)
    assert lap.energy.kwh is None and lap.energy.co2_kg is None
    assert electricity(total_use(tmp_path / "energy.json")) == "not measured: install vitrail[energy]"
    assert listener.said == []


def test_switched_off_it_does_not_even_look(library, tmp_path):
    with Meter(EnergySettings(measure=False), tmp_path / "energy.json").lap("a") as lap:
        pass
    assert lap.energy.kwh is None and "energy.measure" in lap.energy.note
    assert library.asked == {}


@pytest.mark.parametrize("where", ["start", "stop"])
def test_errors_of_the_library_become_one_remark(library, tmp_path, where):
    library.fails_at = where
    listener = Listener()
    meter = Meter(FRANCE, tmp_path / "energy.json", listener)
    done = []
    for step in "ab":
        with meter.lap(step) as lap:
            done.append(step)
        assert lap.energy.kwh is None and "codecarbon" in lap.energy.note
    assert done == ["a", "b"]
    (said,) = listener.said
    assert "counter" in said and "The run goes on." in said


@pytest.mark.parametrize("used", [0.0, float("nan"), -1.0])
def test_a_number_that_cannot_be_is_none(library, tmp_path, used):
    library.used = used
    with Meter(FRANCE, tmp_path / "energy.json").lap("a") as lap:
        pass
    assert lap.energy.kwh is None and lap.energy.co2_kg is None


def test_work_that_fails_costs_too_and_its_error_passes(library, tmp_path):
    meter = Meter(FRANCE, tmp_path / "energy.json")
    with pytest.raises(KeyboardInterrupt), meter.lap("a"):
        raise KeyboardInterrupt
    with meter.lap("b"):
        pass
    assert total_use(tmp_path / "energy.json").kwh == 1.0


def test_an_account_that_cannot_be_written_ends_nothing(library, tmp_path):
    (tmp_path / "energy.json").mkdir()
    listener = Listener()
    with Meter(FRANCE, tmp_path / "energy.json", listener).lap("a") as lap:
        pass
    assert lap.energy.kwh == 0.5
    assert len(listener.said) == 1


def test_a_sum_says_how_much_of_it_was_measured():
    known = Energy(0.25, 0.1, 10, "metered", "")
    assert total([known, known]) == Energy(0.5, 0.2, 20, "metered", "")
    partly = total([known, Energy(note=NOT_INSTALLED)])
    assert partly.kwh == 0.25 and partly.note == f"1 of 2 steps measured; {NOT_INSTALLED}"
    assert total([known, Energy(0.25, None, 10, "metered", "no country")]).co2_kg is None
    assert total([Energy(note=NOT_INSTALLED)] * 2) == Energy(note=NOT_INSTALLED)


def test_an_unknown_country_is_told_before_any_work(library):
    with pytest.raises(StudyError, match=r"energy\.country.*does not know.*FRA \(France, 2023\).*energy\.intensity"):
        check_energy(EnergySettings(country="FRB"))
    check_energy(FRANCE)
    check_energy(EnergySettings(country="FRB", intensity=50))


@pytest.mark.parametrize("code", ["fra", "FR", "France", ""])
def test_a_country_is_a_code_of_three_letters(code):
    with pytest.raises(ValueError, match="three capital letters"):
        EnergySettings(country=code)


def test_small_and_large_amounts_are_readable():
    assert electricity(Energy(0.0124, 0.000697, 200, "metered", "")) == "12.4 Wh, 0.697 g CO2eq, in 3 min 20 s (metered)"
    assert electricity(Energy(12.4, 3.2, 7200, "metered", "so")) == "12.4 kWh, 3.20 kg CO2eq, in 2 h 0 min (metered). So"
    assert electricity(Energy(3.5e-6, None, 1, "metered", "")) == "0.00350 Wh, in 1.0 s (metered)"


def test_the_library_itself_measures_something(tmp_path, capfd):
    pytest.importorskip("codecarbon")
    check_energy(FRANCE)
    listener = Listener()
    with Meter(FRANCE, tmp_path / "energy.json", listener).lap("a") as lap:
        sum(number**2 for number in range(2_000_000))
    assert listener.said == []
    assert lap.energy.kwh is not None and 0 < lap.energy.kwh < 0.01
    assert lap.energy.co2_kg is not None and 0.02 < lap.energy.co2_kg / lap.energy.kwh < 0.2  # France: little coal
    assert "processor" in lap.energy.method and "France" in lap.energy.method
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["energy.json"]
    with pytest.raises(StudyError, match="does not know"):
        check_energy(EnergySettings(country="FRB"))
