"""Which versions are kept from collection."""

import pytest

from rollout.keep import kept
from wire.store import Contents

HEAD = 500_000
ENCODER = 23_000_000


def stored(*numbers: int, erased: int = 0) -> dict[int, Contents]:
    """Versions with a head of their own and one encoder."""
    return {number: Contents(erased, {f"head{number}": HEAD, "encoder": ENCODER}) for number in numbers}


def keep(
    versions: dict[int, Contents], *, first: int = 0, budget_bytes: int = 10**12, num_newest: int = 4
) -> list[int]:
    chosen = kept(
        versions,
        needed={1, 2, 99_999},
        first=first,
        newest=max(versions),
        num_newest=num_newest,
        budget_bytes=budget_bytes,
    )
    return sorted(chosen)


def test_what_is_needed_and_the_newest_few_are_kept() -> None:
    assert keep(stored(*range(1, 21))) == [1, 2, 17, 18, 19, 20]


def test_those_that_may_be_promoted_are_kept_the_thinner_the_older() -> None:
    """B1"""
    expected = [1, 2, 7, 11, 15, 16, 17, 19, 21, 23, *range(24, 33)]
    assert keep(stored(*range(1, 33)), first=5) == expected


def test_what_the_learner_was_taken_back_from_is_not_kept() -> None:
    versions = stored(*range(1, 21))
    assert sorted(kept(versions, needed={5}, first=0, newest=5, num_newest=3, budget_bytes=10**9)) == [3, 4, 5]


def test_what_knows_somebody_erased_is_kept_by_the_plan_alone() -> None:
    versions = stored(*range(1, 11)) | stored(*range(11, 13), erased=1)
    assert keep(versions, first=3) == [1, 2, 11, 12]


@pytest.mark.parametrize("num_versions", [40, 12, 4])
def test_fewer_are_kept_where_they_do_not_fit(num_versions: int) -> None:
    """B11: by bytes, the encoder counted once; what traffic needs stays in any case."""
    budget_bytes = ENCODER + num_versions * HEAD
    chosen = keep(stored(*range(1, 1_001)), first=3, budget_bytes=budget_bytes, num_newest=16)
    assert {1, 2} <= set(chosen)
    assert len(chosen) <= num_versions


@pytest.mark.parametrize("num_newest", [4, 16])
def test_of_every_age_a_version_hardly_older_is_left(num_newest: int) -> None:
    """B1: collected every 30 versions, for 8,000; whatever the delay of the labels is, something near is there."""
    left: dict[int, Contents] = {}
    for newest in range(1, 8_001):
        left[newest] = Contents(0, {f"head{newest}": HEAD})
        if newest % 30 == 0:
            chosen = kept(left, needed={newest}, first=1, newest=newest, num_newest=num_newest, budget_bytes=10**12)
            left = {number: left[number] for number in chosen}
    for age in (40, 90, 600, 3_600):
        assert any(0 <= (8_000 - age) - number <= age / num_newest + 30 for number in left), age
    assert len(left) <= num_newest * 14 + 30
