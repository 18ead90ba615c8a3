"""Checks when labels come back."""

from itertools import pairwise

from evals.load.labeller import delays

SECONDS = [delays(number, seed=0, between_s=(1.0, 4.0)) for number in range(5_000)]


def test_labels_are_late_and_overtake_each_other() -> None:
    first = [each[0] for each in SECONDS]
    assert min(first) >= 1.0
    assert max(first) <= 4.0
    assert sum(later < earlier for earlier, later in pairwise(first)) > 2_000


def test_one_label_in_a_hundred_comes_twice() -> None:
    twice = [each for each in SECONDS if len(each) == 2]
    assert len(twice) in range(25, 76)
    gaps = [second - first for first, second in twice]
    assert min(gaps) >= 1.0
    assert max(gaps) <= 4.0


def test_the_seed_and_the_number_decide() -> None:
    assert delays(7, seed=1, between_s=(1.0, 4.0)) == delays(7, seed=1, between_s=(1.0, 4.0))
    assert delays(7, seed=1, between_s=(1.0, 4.0)) != delays(7, seed=2, between_s=(1.0, 4.0))
    assert delays(7, seed=1, between_s=(2.0, 2.0))[0] == 2.0
