"""Chooses the implementation of an operation: the first that can run, or the fastest that can run.

`why_unavailable(*args)` of an implementation returns the reasons why it cannot run; an empty list means that it can.
The reasons decide the choice, and they are the error message if no implementation can run.

All implementations of an operation give the same bits, so a measured choice never changes an answer.

Rejected:

- a choice by the name of the processor: such a list is wrong on the next machine;
- a choice at every call: the check takes longer than a small product.
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
    """An implementation of an operation: its name, the function that runs it, and the reasons why it cannot run.

    The name starts with the family: `library/int_mm` belongs to the family `library`.
    """

    name: str
    why_unavailable: Callable[..., list[str]]
    run: Run

    def belongs_to(self, force: str | None) -> bool:
        """Returns whether `force` is the name or the family of this implementation, or None."""
        return force is None or force in (self.name, self.name.split("/")[0])


def choose(op: str, impls: Sequence[Impl[Run]], *args: object, force: str | None = None) -> Impl[Run]:
    """Returns the first implementation in `impls` that can run with `args`. The caller sorts `impls` by preference.

    `force` restricts the choice to one name or one family. Raises NotImplementedError, with all reasons, if no
    implementation can run.
    """
    tried: list[str] = []
    for impl in impls:
        if not impl.belongs_to(force):
            continue
        reasons = impl.why_unavailable(*args)
        if not reasons:
            return impl
        tried.append(f"{impl.name}: {'; '.join(reasons)}")
    why = " | ".join(tried) if tried else f"no impl named {force!r}"
    raise NotImplementedError(f"{op}: nothing can run this ({why})")


@functools.cache
def forced() -> str | None:
    """Returns the family of implementations that LIFELONG_KERNELS names; None if LIFELONG_KERNELS is unset.

    The variable is read once per process. Raises ValueError for an unknown family.
    """
    family = os.environ.get(VARIABLE)
    if family is not None and family not in FAMILIES:
        raise ValueError(f"{VARIABLE} is {family!r}; expected one of {', '.join(FAMILIES)}, or unset")
    return family


def best_seconds(call: Callable[[], object], *, budget_s: float, max_calls: int = 7) -> float:
    """Returns the time in seconds of the fastest of several calls.

    There are at most `max_calls` calls, within about `budget_s` seconds. One more call before them warms up and is not
    timed.
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
