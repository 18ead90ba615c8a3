"""The test of the routing: whether each arm gets its share."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from rollout.statistics import log_e_value_mismatch

SHARES = (0.05, 0.25, 0.7)


def test_over_all_sequences_of_six_keys_the_mean_e_value_is_1() -> None:
    total = 0.0
    for sequence in itertools.product(range(3), repeat=6):
        counts = Counter(sequence)
        chance = math.prod(SHARES[arm] for arm in sequence)
        total += chance * math.exp(log_e_value_mismatch([counts[arm] for arm in range(3)], SHARES))
    assert total == pytest.approx(1.0, abs=1e-12)


def test_the_planned_shares_are_no_evidence() -> None:
    assert log_e_value_mismatch([0, 0, 0], SHARES) == 0.0
    assert log_e_value_mismatch([500, 2_500, 7_000], SHARES) < 0.0
    assert log_e_value_mismatch([10], [1.0]) == pytest.approx(0.0)


def test_an_arm_with_twice_its_share_is_noticed() -> None:
    """It got 100 of 1,000 keys instead of 50: E is above 1,000."""
    assert log_e_value_mismatch([100, 240, 660], SHARES) >= math.log(1_000)


def test_right_routing_is_called_wrong_in_few_runs() -> None:
    """Looked at after each of 1,000 keys, 200 runs: at most 1 % reach E >= 100."""
    rng = np.random.default_rng(1)
    num_wrong = 0
    for _ in range(200):
        arms = rng.random(1_000) < 0.2
        counts = arms.cumsum()
        evidence = [log_e_value_mismatch([int(x), n - int(x)], (0.2, 0.8)) for n, x in enumerate(counts, 1)]
        num_wrong += max(evidence) >= math.log(100)
    assert num_wrong <= 2


@pytest.mark.parametrize("shares", [(0.0, 1.0), (0.2, 0.7), (-0.1, 1.1)])
def test_shares_that_are_none_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"must be positive and add up to 1, .*: leave out arms without traffic"):
        log_e_value_mismatch([1, 1], shares)
