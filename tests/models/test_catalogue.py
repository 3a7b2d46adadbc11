import pytest

from vitrail import study
from vitrail.models import FAMILIES, check_model, describe, family_module
from vitrail.models.catalogue import Family

OFFERS = {
    "grown": {"embedder", "fit", "describe"},
    "probe": {"embedder", "fit_linear", "describe"},
    "network": {"build", "describe"},
    "ensemble": {"describe"},
}


def test_the_catalogue_and_the_study_know_the_same_families():
    assert list(FAMILIES) == list(study.FAMILIES)
    assert {name: settings.model_fields["model"].default for name, settings in study.FAMILIES.items()} == {
        name: name for name in FAMILIES
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_offers_what_its_way_of_training_needs(name):
    assert isinstance(FAMILIES[name], Family)
    module = family_module(name)
    assert {offer for offer in OFFERS[FAMILIES[name].training] if callable(getattr(module, offer, None))} == OFFERS[
        FAMILIES[name].training
    ]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_defaults_of_a_family_can_be_built_and_described_in_one_line(name):
    settings = study.FAMILIES[name]()
    check_model(settings, settings.preprocess_defaults)
    line = describe(settings)
    assert 10 < len(line) < 120 and "\n" not in line
