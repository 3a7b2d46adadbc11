import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.errors import StudyError
from vitrail.study import TrainingSettings
from vitrail.training.schedules import check_schedule, halvings, rate_factor


def factors(settings, *, epochs, steps, losses=None):
    """The factor of every step of a training."""
    losses = losses or [1.0] * epochs
    return [rate_factor(settings, losses[:epoch], step=step, steps=steps) for epoch in range(epochs) for step in range(steps)]


def test_cosine_falls_along_half_a_cosine():
    found = factors(TrainingSettings(schedule="cosine", epochs=5), epochs=5, steps=4)
    assert found == pytest.approx([0.5 + 0.5 * math.cos(math.pi * step / 20) for step in range(20)])


def test_warm_up_grows_by_the_same_amount_and_the_schedule_follows():
    found = factors(TrainingSettings(schedule="cosine", warmup=2, epochs=6), epochs=6, steps=5)
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[10:] == pytest.approx([0.5 + 0.5 * math.cos(math.pi * step / 20) for step in range(20)])
    constant = factors(TrainingSettings(schedule="constant", warmup=1), epochs=3, steps=2)
    assert constant == [0.5, 1, 1, 1, 1, 1]


def test_plateaus_halve_it_and_what_is_open_is_plateaus_of_three():
    losses = [0.9, 1, 1, 1, 1, 1, 0.5, 1, 1, 1, 1, 1, 1, 1]
    for settings in (TrainingSettings(), TrainingSettings(schedule="plateau", plateau=3)):
        found = factors(settings, epochs=len(losses), steps=1, losses=losses)
        assert found == [1] * 4 + [0.5] * 6 + [0.25] * 3 + [0.125]
    assert set(factors(TrainingSettings(schedule="constant", plateau=1), epochs=9, steps=2)) == {1.0}
    assert factors(TrainingSettings(plateau=1), epochs=4, steps=1) == [1, 1, 0.5, 0.25]
    warming = factors(TrainingSettings(plateau=1, warmup=3), epochs=6, steps=1)
    assert warming == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 0.5]), "plateaus count after the warm-up only"


@given(st.lists(st.floats(0, 10)), st.integers(1, 5))
def test_halvings_are_those_of_a_loop_that_remembers(losses, plateau):
    rate, best_epoch = 1.0, 0
    for number in range(1, len(losses) + 1):
        if best_epoch == 0 or losses[number - 1] < losses[best_epoch - 1]:
            best_epoch = number
        elif (number - best_epoch) % plateau == 0:
            rate /= 2
    assert 0.5 ** halvings(losses, plateau=plateau) == rate


@given(st.sampled_from([None, "constant", "plateau", "cosine"]), st.integers(0, 5), st.integers(6, 12), st.integers(1, 4))
def test_factors_lie_between_zero_and_one(schedule, warmup, epochs, steps):
    found = factors(TrainingSettings(schedule=schedule, warmup=warmup, epochs=epochs), epochs=epochs, steps=steps)
    assert all(0 < factor <= 1 for factor in found)
    assert max(found) == 1.0


def test_a_warm_up_that_never_ends_is_refused():
    check_schedule(TrainingSettings(), source="study")
    check_schedule(TrainingSettings(warmup=3, epochs=4), source="study")
    with pytest.raises(StudyError) as caught:
        check_schedule(TrainingSettings(warmup=4, epochs=4), source="study", key="models.cnn.training")
    (problem,) = caught.value.problems
    assert problem.key == "models.cnn.training.warmup" and problem.value == "4"
    assert problem.message == "must be fewer than models.cnn.training.epochs (4): lower the warm-up or train longer."
