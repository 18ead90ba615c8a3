import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from learner.slow.training import token_dropout


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.floats(0, 1), st.integers(0, 99))
def test_the_first_and_the_last_token_stay_and_the_others_keep_their_order(
    ids: list[int], share: float, seed: int
) -> None:
    left = token_dropout(ids, share, np.random.default_rng(seed))
    rest = iter(ids)
    assert all(token in rest for token in left)
    assert (left[0], left[-1]) == (ids[0], ids[-1])


def test_about_the_share_goes_and_others_go_the_next_time() -> None:
    ids = list(range(1_002))
    rng = np.random.default_rng(0)
    first = token_dropout(ids, 0.2, rng)
    second = token_dropout(ids, 0.2, rng)
    for left in (first, second):
        assert abs(len(left) - 800) < 50
    assert first != second
    assert token_dropout(ids, 0.0, rng) == ids
