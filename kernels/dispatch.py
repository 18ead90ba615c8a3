"""Chooses the implementation of an operation: the first that can run, or the fastest of those that can.

An implementation is a record with reasons. `why_not(*args)` returns the reasons against it; none means that it can run.
The reasons serve as the dispatch, as the error message and as the documentation.

All implementations of an operation give the same bits, so a measured choice never changes an answer.

Rejected: choosing by the name of the processor (a list that is wrong on the next machine) and choosing at every call
(the question costs more than a small product).
"""

import functools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

VARIABLE = "LIFELONG_KERNELS"
FAMILIES = ("reference", "library", "native")

Run = TypeVar("Run", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Impl(Generic[Run]):
    """An implementation of an operation. `name` starts with its family: `library/int_mm` belongs to `library`."""

    name: str
    why_not: Callable[..., list[str]]
    run: Run

    def belongs_to(self, force: str | None) -> bool:
        return force is None or force in (self.name, self.name.split("/")[0])


def choose(op: str, impls: Sequence[Impl[Run]], *args: object, force: str | None = None) -> Impl[Run]:
    """The first implementation, in preference order, with no reason against it.

    `force` admits one name or one family only. Raises NotImplementedError with every reason when nothing is left.
    """
    tried: list[str] = []
    for impl in impls:
        if not impl.belongs_to(force):
            continue
        reasons = impl.why_not(*args)
        if not reasons:
            return impl
        tried.append(f"{impl.name}: {'; '.join(reasons)}")
    why = " | ".join(tried) if tried else f"no impl named {force!r}"
    raise NotImplementedError(f"{op}: nothing can run this ({why})")


@functools.cache
def forced() -> str | None:
    """The family that LIFELONG_KERNELS asks for, read once per process; None leaves the choice open."""
    family = os.environ.get(VARIABLE)
    if family is not None and family not in FAMILIES:
        raise ValueError(f"{VARIABLE} is {family!r}; expected one of {', '.join(FAMILIES)}, or unset")
    return family


def best_seconds(call: Callable[[], object], *, budget_s: float, max_calls: int = 7) -> float:
    """The shortest time of one call, in seconds, over at most `max_calls` calls in about `budget_s`.

    One call before them warms up and is not timed.
    """
    call()
    best = float("inf")
    end = time.monotonic() + budget_s
    for _ in range(max_calls):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        if time.monotonic() > end:
            break
    return best
