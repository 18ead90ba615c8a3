"""The places that each group of samples has in a memory."""

from hypothesis import given
from hypothesis import strategies as st

from learner.memory import Quotas

GROUPS = st.lists(st.text(max_size=3), min_size=1, max_size=9, unique=True)


def group_places(capacity: int, groups: list[str]) -> list[int]:
    quotas = Quotas(capacity, groups)
    return [quotas.of(group) for group in groups]


@given(st.integers(0, 100), GROUPS)
def test_all_places_are_given_and_no_group_has_two_more_than_another(capacity: int, groups: list[str]) -> None:
    places = group_places(capacity, groups)
    assert sum(places) == capacity
    assert max(places) - min(places) <= 1


@given(st.integers(0, 100), GROUPS, st.text(min_size=1, max_size=5))
def test_a_new_group_gives_no_other_a_place_and_those_that_lose_one_are_known(
    capacity: int, groups: list[str], new: str
) -> None:
    others = [group for group in groups if group != new]
    before = group_places(capacity, others)
    quotas = Quotas(capacity, others)
    shrunk = quotas.add(new)
    after = [quotas.of(group) for group in others]
    assert after == group_places(capacity, [*others, new])[:-1]
    assert all(now <= then for now, then in zip(after, before, strict=True))
    lost = {group for group, now, then in zip(others, after, before, strict=True) if now < then}
    assert lost <= set(shrunk)


def test_a_group_that_is_not_known_has_no_places() -> None:
    assert Quotas(8).of("a") == Quotas(8, ["b"]).of("a") == 0
