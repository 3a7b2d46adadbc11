import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vitrail.evaluation import pick_cases, predictions_of
from vitrail.records import ImageFile, Manifest, Predictions, Split


def predictions(truth, scores, groups=None):
    probabilities = np.asarray(scores, dtype=np.float64)
    n = len(truth)
    return Predictions(
        model="m",
        part="test",
        classes=tuple("abc"[: probabilities.shape[1]]),
        rows=np.arange(n),
        paths=tuple(f"{number}.png" for number in range(n)),
        truth=np.asarray(truth),
        probabilities=probabilities,
        groups=np.arange(n) if groups is None else np.asarray(groups),
        clean=np.ones(n, dtype=bool),
    )


def test_wrong_cases_come_last_and_most_confident_first():
    made = predictions([0, 0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.95, 0.05], [0.2, 0.8]])
    assert pick_cases(made, each=2) == (0, 3, 2, 1)


def test_right_cases_take_the_classes_by_turns():
    made = predictions([0, 0, 0, 0, 1], [[0.9, 0.1]] * 4 + [[0.1, 0.9]])
    right = pick_cases(made, each=2)
    assert {int(made.truth[case]) for case in right} == {0, 1}


def test_a_typical_right_case_is_shown_not_the_easiest():
    made = predictions([0] * 5, [[score, 1 - score] for score in (0.99, 0.6, 0.8, 0.7, 0.9)])
    assert pick_cases(made, each=1) == (2,)


def test_copies_of_one_image_are_shown_once():
    made = predictions([0, 0, 0], [[0.1, 0.9]] * 3, groups=[4, 4, 5])
    assert pick_cases(made, each=3) == (0, 2)


@given(st.integers(1, 30), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_no_case_twice_and_never_more_than_asked(n, each, seed):
    generator = np.random.default_rng(seed)
    scores = generator.dirichlet([1, 1, 1], size=n)
    made = predictions(generator.integers(0, 3, n), scores, groups=generator.integers(0, n, n))
    cases = pick_cases(made, each=each)
    right = [case for case in cases if made.predicted[case] == made.truth[case]]
    assert len(set(cases)) == len(cases)
    assert len(right) <= each
    assert len(cases) - len(right) <= each
    assert list(cases) == right + [case for case in cases if case not in right]


def test_leaked_and_quarantined_images_do_not_count_as_clean(tmp_path):
    files = tuple(ImageFile(f"{number}.png", label, "test", 1, str(number), "readable") for number, label in enumerate("abab"))
    manifest = Manifest(tmp_path, ("a", "b"), files, tmp_path / "thumbnails.npy", tmp_path / "facts.npy")
    split = Split(("test", "train", "test", "test"), ("leaked", "", "", "quarantined"), (0, 0, 1, 2), 0, "made up")
    made = predictions_of("m", manifest, split, part="test", probabilities=np.full((3, 2), 0.5))
    assert made.rows.tolist() == [0, 2, 3]
    assert made.truth.tolist() == [0, 0, 1]
    assert made.groups.tolist() == [0, 1, 2]
    assert made.clean.tolist() == [False, True, False]
