"""The bounds of a share: they narrow, and the share is outside of them, ever, as rarely as is said."""

import numpy as np
import pytest

from rollout.statistics import INTERVAL_ERROR, log_e, share_interval


def test_a_bound_is_the_last_share_that_the_bets_reject() -> None:
    low, high = share_interval(90, 100)
    for bound, counts in ((low, (90, 10)), (1.0 - high, (10, 90))):
        for share, is_rejected in ((bound, True), (bound + 0.001, False)):
            assert (log_e(counts, [1.0 / share, 0.0]) >= np.log(2.0 / INTERVAL_ERROR)) == is_rejected


def test_more_labels_narrow_the_bounds() -> None:
    widths = []
    for num in (0, 20, 200, 2_000):
        low, high = share_interval(9 * num // 10, num)
        assert low <= 0.9 <= high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < 0.06


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_share_is_rarely_ever_outside(share: float) -> None:
    rng = np.random.default_rng(1)
    num_outside = 0
    for _ in range(200):
        rights = np.cumsum(rng.random(400) < share)
        intervals = [share_interval(int(rights[num - 1]), num) for num in range(20, 401, 20)]
        num_outside += any(not low <= share <= high for low, high in intervals)
    assert num_outside <= 2 * INTERVAL_ERROR * 200
