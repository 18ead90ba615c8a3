"""The versions that are kept from collection."""

import pytest

from rollout.controller import versions_to_keep
from wire.store import VersionContents

HEAD = 500_000
ENCODER = 23_000_000


def stored(*numbers: int, erased: int = 0) -> dict[int, VersionContents]:
    """Returns versions with a head each and one encoder."""
    return {number: VersionContents(erased, {f"head{number}": HEAD, "encoder": ENCODER}) for number in numbers}


def retained_numbers(
    versions: dict[int, VersionContents], *, budget_bytes: int = 10**12, num_newest: int = 4
) -> list[int]:
    chosen = versions_to_keep(
        versions,
        needed={1, 2, 99_999},
        current=max(versions),
        num_newest=num_newest,
        budget_bytes=budget_bytes,
    )
    return sorted(chosen)


def test_what_is_needed_and_the_newest_few_are_kept() -> None:
    assert retained_numbers(stored(*range(1, 21))) == [1, 2, 17, 18, 19, 20]


def test_what_the_learner_was_taken_back_from_is_not_kept() -> None:
    versions = stored(*range(1, 21))
    assert sorted(versions_to_keep(versions, needed={5}, current=5, num_newest=3, budget_bytes=10**9)) == [3, 4, 5]


def test_what_knows_somebody_erased_is_kept_by_the_plan_alone() -> None:
    versions = stored(*range(1, 11)) | stored(*range(11, 13), erased=1)
    assert retained_numbers(versions) == [1, 2, 11, 12]


@pytest.mark.parametrize("num_versions", [40, 12, 4])
def test_fewer_are_kept_where_they_do_not_fit(num_versions: int) -> None:
    """B11: the bound is in bytes, with the encoder counted once; versions of the plan stay in any case."""
    budget_bytes = ENCODER + num_versions * HEAD
    chosen = retained_numbers(stored(*range(1, 1_001)), budget_bytes=budget_bytes, num_newest=16)
    assert {1, 2} <= set(chosen)
    assert len(chosen) <= num_versions
