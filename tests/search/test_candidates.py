"""What may be searched, and what is refused before hours of work."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from vitrail.errors import StudyError
from vitrail.search import candidate, check_space, grid_of
from vitrail.settings import RangeSettings
from vitrail.study import Study


def study(space, **settings):
    models = [{"model": "forest"}, {"model": "forest", "name": "deep", "max_depth": 9}, {"model": "cnn"}]
    return Study.model_validate({"data": {"path": "/x"}, "models": models, "search": {"space": space, **settings}})


def problems(space, **settings):
    with pytest.raises(StudyError) as caught:
        check_space(study(space, **settings))
    return {problem.key: str(problem) for problem in caught.value.problems}


def test_every_model_has_its_own_space():
    spaces = check_space(
        study({"models.forest.trees": [5, 9], "models.deep.trees": [7], "models.cnn.training.learning_rate": [0.1]})
    )
    assert spaces == {
        "forest": {"trees": (5, 9)},
        "deep": {"trees": (7,)},
        "cnn": {"training.learning_rate": (0.1,)},
    }


def test_a_candidate_has_the_settings_put_in_and_all_others_left():
    before = study({})
    after, settings = candidate(before, "cnn", {"training.learning_rate": 0.5, "filters": [4, 8]})
    assert settings.training.learning_rate == 0.5 and settings.filters == (4, 8)
    assert after.models[:2] == before.models[:2]


def test_all_wrong_keys_and_values_are_told_at_once():
    found = problems({"models.forst.trees": [1], "models.forest.trees": [10, -1], "models.cnn.training.rate": [0.1]})
    wrong = ("models.forst.trees", "models.forest.trees", "models.cnn.training.rate")
    assert set(found) == {f"search.space.{key}" for key in wrong}
    assert "models.forest, models.deep, models.cnn" in found["search.space.models.forst.trees"]
    assert "-1" in found["search.space.models.forest.trees"]


def test_both_ends_of_a_range_must_be_allowed():
    choice = {"low": 1, "high": 9999, "integer": True}
    assert "search.space.models.forest.trees" in problems({"models.forest.trees": choice}, method="tpe")


def test_a_grid_has_no_ranges_and_nothing_is_no_space():
    assert "list" in problems({"models.forest.trees": {"low": 1, "high": 5}})["search.space.models.forest.trees"]
    assert "search.space" in problems({})


@pytest.mark.parametrize(
    "ends", [{"low": 2, "high": 1}, {"low": 0, "high": 1, "log": True}, {"low": 0.5, "high": 3, "integer": True}]
)
def test_ranges_that_make_no_sense_are_refused(ends):
    with pytest.raises(ValidationError):
        RangeSettings(**ends)


def test_a_grid_is_the_product_of_its_lists():
    grid = grid_of({"a": (1, 2), "b": ("x", None, [3])})
    assert len(grid) == 6 and grid[1] == {"a": 1, "b": None}
