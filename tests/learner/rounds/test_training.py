import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from learner.rounds.training import MAX_TRAINED_TOKENS, excerpt, first_tokens, token_dropout


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


@given(st.integers(1, 4 * MAX_TRAINED_TOKENS), st.integers(0, 99))
def test_of_a_long_text_a_run_is_trained_on_with_its_first_and_its_last_token(length: int, seed: int) -> None:
    places = list(range(length))
    part = excerpt(places, np.random.default_rng(seed))
    assert len(part) == min(length, MAX_TRAINED_TOKENS)
    assert (part[0], part[-1]) == (0, length - 1)
    inside = part[1:-1]
    assert inside == list(range(inside[0], inside[0] + len(inside))) if inside else length <= 2
    assert first_tokens(places) == places[:MAX_TRAINED_TOKENS]


def test_the_parts_of_a_text_differ_and_a_short_text_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    starts = {excerpt(list(range(5_000)), rng)[1] for _ in range(20)}
    assert len(starts) > 15
    before = rng.bit_generator.state
    excerpt(list(range(MAX_TRAINED_TOKENS)), rng)
    assert rng.bit_generator.state == before
