"""Checks which faults are drawn."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from bench.chaos.draw import draw_faults
from bench.chaos.faults import Fault, FaultKind


@dataclass(frozen=True)
class NoFault:
    """A fault that does nothing."""

    name: str
    number: float
    num_kills: int = 0
    lasts_s: float = 0.0

    def inject(self) -> str:
        return ""

    def heal(self) -> None:
        pass

    def is_over(self) -> bool:
        return True


def kind(name: str, *, is_kill: bool) -> FaultKind:
    def make(rng: random.Random) -> Fault:
        return NoFault(name, rng.random())

    return FaultKind(name, make, is_kill=is_kill)


KINDS = [kind(f"kill {number}", is_kill=True) for number in range(5)] + [
    kind(f"other {number}", is_kill=False) for number in range(3)
]


def names(faults: list[Fault]) -> list[str]:
    return " and ".join(fault.name for fault in faults).split(" and ") if faults else []


@pytest.mark.parametrize("seed", range(20))
def test_as_many_are_drawn_as_were_asked_for(seed: int) -> None:
    faults = draw_faults(KINDS, kills=17, others=4, seed=seed)
    assert sum(name.startswith("kill") for name in names(faults)) == 17
    assert sum(name.startswith("other") for name in names(faults)) == 4


def test_every_kind_comes_before_one_comes_again() -> None:
    assert sorted(names(draw_faults(KINDS, kills=5, others=3, seed=1))) == sorted(each.name for each in KINDS)


def test_the_seed_decides() -> None:
    assert draw_faults(KINDS, kills=9, others=5, seed=3) == draw_faults(KINDS, kills=9, others=5, seed=3)
    assert draw_faults(KINDS, kills=9, others=5, seed=3) != draw_faults(KINDS, kills=9, others=5, seed=4)


def test_some_come_two_at_a_time() -> None:
    faults: list[Fault] = []
    for seed in range(5):
        faults += draw_faults(KINDS, kills=17, others=0, seed=seed)
    assert any(" and " in fault.name for fault in faults)


@pytest.mark.parametrize("is_left", [lambda each: each.is_kill, lambda each: not each.is_kill, lambda each: False])
def test_what_there_is_nothing_of_is_not_drawn(is_left: Callable[[FaultKind], bool]) -> None:
    kinds = [each for each in KINDS if is_left(each)]
    assert bool(draw_faults(kinds, kills=2, others=2, seed=0)) == bool(kinds)
