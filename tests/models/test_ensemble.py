import pytest

from vitrail.errors import StudyError
from vitrail.models import describe_weights, members_of
from vitrail.study import Study


def asked(*members, extra=()):
    models = ["forest", "boosted", "svm", {"model": "ensemble", **({"members": list(members)} if members else {})}, *extra]
    study = Study.from_mapping({"data": {"path": "images"}, "models": models})
    return study.models[3], study.models


def test_members_are_all_trained_models_or_those_named_whatever_their_order():
    assert members_of(*asked()) == ("boosted", "forest", "svm")
    assert members_of(*asked("svm", "forest")) == members_of(*asked("forest", "svm")) == ("forest", "svm")
    assert members_of(*asked(extra=({"model": "ensemble", "name": "second"},))) == ("boosted", "forest", "svm")


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (("forest", "boostd"), "unknown model. Did you mean 'boosted'? Models of this study: forest, boosted, svm"),
        (("forest", "ensemble"), "must name trained models, not ensembles"),
        (("forest", "forest"), "must name every model once"),
        (("forest",), "at least two models"),
    ],
)
def test_wrong_members_are_told_with_the_key_and_what_there_is(members, words):
    with pytest.raises(StudyError) as told:
        members_of(*asked(*members))
    (problem,) = told.value.problems
    assert problem.key == "models.ensemble.members"
    assert words in problem.message


def test_an_ensemble_prepares_and_trains_nothing_itself():
    wishes = {"preprocess": {"size": 64}, "training": {"epochs": 3}, "test_time_augmentation": "mirror"}
    with pytest.raises(StudyError) as told:
        Study.from_mapping({"data": {"path": "images"}, "models": ["forest", "svm", {"model": "ensemble", **wishes}]})
    assert {problem.key for problem in told.value.problems} == {f"models[2].{key}" for key in wishes}
    assert all("must be left out: an ensemble" in problem.message for problem in told.value.problems)


def test_weights_are_told_heaviest_first():
    weights = {"a": 0.25, "b": 0.0, "c": 0.75}
    assert describe_weights(weights) == "weighted mean of the scores of c (75%), a (25%)"
