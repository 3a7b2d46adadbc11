"""When `auto` takes views: better by more than noise, and never at the price of balanced accuracy."""

import pytest

from vitrail.evaluation import Gain
from vitrail.training.choose_views import is_better


def gain(value, low):
    return Gain(0.5, 0.5 + value, value, low, value + 0.1)


@pytest.mark.parametrize(
    ("accuracy", "loss", "better"),
    [
        (gain(0.1, 0.01), gain(-0.1, -0.2), True),
        (gain(0.1, -0.01), gain(0.1, 0.01), True),
        (gain(0.0, 0.0), gain(0.1, 0.01), True),
        (gain(-0.01, -0.05), gain(0.1, 0.01), False),
        (gain(0.1, -0.01), gain(0.1, -0.01), False),
        (Gain(None, None, None, None, None), gain(0.1, 0.01), False),
        (gain(0.1, None), gain(0.1, None), False),
    ],
)
def test_the_rule(accuracy, loss, better):
    assert is_better(accuracy, loss) is better
