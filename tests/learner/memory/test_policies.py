"""The places that each group of samples has in a memory."""

from hypothesis import given
from hypothesis import strategies as st

from learner.memory.policies import quotas

GROUPS = st.lists(st.text(max_size=3), min_size=1, max_size=9, unique=True)


@given(st.integers(0, 100), GROUPS)
def test_all_places_are_given_and_no_group_has_two_more_than_another(capacity: int, groups: list[str]) -> None:
    given_ = quotas(capacity, groups)
    assert sum(given_.values()) == capacity
    assert max(given_.values()) - min(given_.values()) <= 1


@given(st.integers(0, 100), GROUPS, st.text(min_size=4, max_size=5))
def test_a_new_group_gives_no_other_a_place(capacity: int, groups: list[str], new: str) -> None:
    before = quotas(capacity, groups)
    after = quotas(capacity, [*groups, new])
    assert all(after[group] <= before[group] for group in groups)


def test_no_groups_have_no_places() -> None:
    assert quotas(8, []) == {}
