"""Defines a case, which yields rows when it is measured, and what it is given: a run of it.

    Case.measure(Run) --> Row, Row, ...
    a case of the ledger is a technique with bars:  Run.row("loss", 0.4) --> the row of that bar, held against its goal

It loads no service: programs that measure in a process of their own import it.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from evals.results.row import Peer, Row

if TYPE_CHECKING:
    from bench.harness.service import Service

SEEDS: Final = 3
"""How many calls a case of the ledger has, each with a seed. A quick one has one."""

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Bar:
    """What one number of a technique is held against. Goals are in words (`Goal.parse`)."""

    name: str
    unit: str
    goal: str | None = None
    """None for a number that is shown beside the others."""
    _: KW_ONLY
    quick: str | None = None
    """What a quick run must reach, which is too short for the goal: the direction, or a property that always holds."""
    baseline: str
    """What the number is compared with, and how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Technique:
    """A section of the ledger."""

    title: str
    claim: str
    """What the article says, in a sentence."""
    how: str
    """What is measured, on what, and for how long; in sentences."""
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A name for `--only`, and the function that measures, which raises Skip if it cannot run, and NoResult."""

    name: str
    measure: Callable[["Run"], Iterator[Row]]
    _: KW_ONLY
    uses: tuple[str, ...] = ()
    """The libraries and servers, besides those of every case, whose versions its rows have."""
    has_own_servers: bool = False
    """Whether it starts servers of its own even if the settings give the address of another."""
    is_on_service: bool = False
    """Whether it is measured on the service that cases share; for any other case that service is ended first."""
    is_long: bool = False
    """Whether it runs only if `--only` names it: it takes long, or serves those who change a kernel."""
    has_quick: bool = False
    """Whether a quick run of it is a smaller one."""
    technique: Technique | None = None
    """What the ledger says of it. Its calls have a seed each, and what a seed measured is kept for its commit."""

    @classmethod
    def of_ledger(cls, name: str, measure: Callable[["Run"], Iterator[Row]], technique: Technique) -> "Case":
        """Makes a case of the ledger, all of which take long, and have a quick run."""
        return cls(name, measure, is_long=True, has_quick=True, technique=technique)

    @property
    def num_calls(self) -> int:
        """How often it is measured if nothing else is asked for."""
        return SEEDS if self.technique else 1

    @property
    def bars(self) -> tuple[Bar, ...]:
        return self.technique.bars if self.technique else ()

    def name_of(self, bar: Bar) -> str:
        """Returns the name of the row of a bar, for example `E1.mqar`."""
        return f"{self.name}.{bar.name}"


class Fixtures:
    """Owns the service that several cases share, from its first use on. `close` ends it."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self._service: Service | None = None

    def service(self, say: Callable[[str], None]) -> "Service":
        if self._service is None:
            from bench.harness.service import running_service

            say("a service is started and learns its classes ...")
            self._service = self._running.enter_context(running_service())
        return self._service

    def close(self) -> None:
        self._service = None
        self._running.close()
        self._running = ExitStack()


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One call of a case."""

    case: Case
    say: Callable[[str], None]
    """Shows the one who waits what is under way."""
    seed: int = 0
    """The number of the call, from 0 on. It seeds what a case of the ledger draws."""
    is_quick: bool = False
    """Whether it may take seconds only: the mechanism and the direction on a smaller case."""
    is_bounded: bool = False
    """Whether all cases run, in half an hour."""
    options: Mapping[str, str] = field(default_factory=dict)
    """What `--set` has asked for."""
    fixtures: Fixtures = field(default_factory=Fixtures)

    def sized(self, full: S, quick: S | None = None) -> S:
        """Returns the size of the run, a frozen dataclass, with the options of the command line. Raises BadOption."""
        size = full
        if self.is_quick and quick is not None:
            size = quick
        return with_options(size, self.options)

    def amount(self, quick: int, full: int) -> int:
        """Returns the number of steps, samples or tokens that this run is to have."""
        return quick if self.is_quick else full

    def row(self, bar: str, value: float | None, *, peers: Sequence[Peer] = (), note: str = "") -> Row:
        """Returns the row of the bar of that name. Raises StopIteration for a bar that the case does not have."""
        found = next(each for each in self.case.bars if each.name == bar)
        goal = found.quick if self.is_quick else found.goal
        return Row.of(self.case.name_of(found), value, found.unit, goal=goal, peers=tuple(peers), note=note)

    def deadline_s(self, seconds: float) -> float:
        """Returns the monotonic time in so many seconds; a case that was named alone has no deadline."""
        return time.monotonic() + seconds if self.is_bounded else math.inf

    def service(self) -> "Service":
        """Returns a service that answers and has nothing to learn. Raises Skip without data, and NoResult."""
        return self.fixtures.service(self.say)

    def stop_service(self) -> None:
        """Ends the service, so that what follows has the machine to itself."""
        self.fixtures.close()


class BadOption(ValueError):
    """An option that no size has, or whose value it cannot have."""


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """Splits assignments into names and values. Raises BadOption.

    >>> parse_assignments(["seed=7", "only=kill"])
    {'seed': '7', 'only': 'kill'}
    """
    values: dict[str, str] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadOption(f"{name!r}: write --set NAME=VALUE")
        values[name] = value
    return values


def with_options(size: S, options: Mapping[str, str]) -> S:
    """Returns `size` with the fields that `options` name replaced. Raises BadOption, which lists the fields."""
    known: dict[str, Any] = {each.name: each.type for each in fields(size)}  # type: ignore[arg-type]
    unknown = sorted(options.keys() - known.keys())
    if unknown:
        raise BadOption(f"{unknown[0]!r}: there is no such option; there are {', '.join(sorted(known))}")
    try:
        values = {name: msgspec.convert(value, known[name], strict=False) for name, value in options.items()}
    except msgspec.ValidationError as error:
        raise BadOption(str(error)) from error
    return replace(size, **values)  # type: ignore[type-var]
