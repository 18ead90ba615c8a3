"""Checks the draw of faults."""

import random
from collections.abc import Callable

import pytest

from bench.chaos.faults import Family, Fault, FaultKind
from bench.chaos.injection import draw_faults


def kind(name: str, family: Family) -> FaultKind:
    def make(rng: random.Random) -> Fault:
        return Fault(name, lambda: "", lasts_s=rng.random())

    return FaultKind(name, make, family=family)


NUMBERS: dict[Family, int] = {"kill": 5, "cut": 2, "other": 3}
KINDS = [kind(f"{family} {number}", family) for family, num in NUMBERS.items() for number in range(num)]


def names(faults: list[Fault]) -> list[str]:
    return " and ".join(fault.name for fault in faults).split(" and ") if faults else []


@pytest.mark.parametrize("seed", range(20))
def test_the_given_numbers_of_faults_are_drawn(seed: int) -> None:
    faults = draw_faults(KINDS, kills=17, cuts=3, others=4, seed=seed)
    assert sum(name.startswith("kill") for name in names(faults)) == 17
    assert sum(name.startswith("cut") for name in names(faults)) == 3
    assert sum(name.startswith("other") for name in names(faults)) == 4


def test_every_kind_comes_before_one_comes_again() -> None:
    assert sorted(names(draw_faults(KINDS, kills=5, cuts=2, others=3, seed=1))) == sorted(each.name for each in KINDS)


def test_the_seed_decides() -> None:
    assert draw_faults(KINDS, kills=9, cuts=3, others=5, seed=3) == draw_faults(
        KINDS, kills=9, cuts=3, others=5, seed=3
    )
    assert draw_faults(KINDS, kills=9, cuts=3, others=5, seed=3) != draw_faults(
        KINDS, kills=9, cuts=3, others=5, seed=4
    )


def test_some_come_two_at_a_time() -> None:
    faults: list[Fault] = []
    for seed in range(5):
        faults += draw_faults(KINDS, kills=17, cuts=0, others=0, seed=seed)
    assert any(" and " in fault.name for fault in faults)


@pytest.mark.parametrize(
    "is_left", [lambda each: each.family == "kill", lambda each: each.family != "kill", lambda each: False]
)
def test_families_without_kinds_are_not_drawn(is_left: Callable[[FaultKind], bool]) -> None:
    kinds = [each for each in KINDS if is_left(each)]
    assert bool(draw_faults(kinds, kills=2, cuts=2, others=2, seed=0)) == bool(kinds)
