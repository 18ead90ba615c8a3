"""Defines a case, which measures rows, and a run, which is one call of a case.

    Case.measure(Run) --> Row, Row, ...
    a case of the ledger is a technique with bars:  Run.row("loss", 0.4) --> the row of that bar, compared with its goal

This module does not import the service, because programs that measure in a process of their own import it.
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
"""The number of calls of a case of the ledger. Each call has a seed of its own."""

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Bar:
    """One number of a technique: its unit, goal and baseline. Goals are texts that `Goal.parse` reads."""

    name: str
    unit: str
    goal: str | None = None
    """None for a number without a goal, which the ledger only shows."""
    _: KW_ONLY
    quick: str | None = None
    """The goal of a quick run, which is too short for `goal`: the direction, or a property that always holds."""
    baseline: str
    """The measurement that the number is compared with, and how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Technique:
    """A section of the ledger."""

    title: str
    claim: str
    """The claim of the article, in a sentence."""
    how: str
    """The measurement, its data and its duration, in sentences."""
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A benchmark: its name for `--only`, and the function that measures it.

    The function raises Skip if the case cannot run on this machine, and NoResult if it measures no value.
    """

    name: str
    measure: Callable[["Run"], Iterator[Row]]
    _: KW_ONLY
    uses: tuple[str, ...] = ()
    """The libraries and servers whose versions are recorded, besides the packages that every case records."""
    has_own_servers: bool = False
    """Whether the case starts servers of its own even if the settings give the address of another."""
    is_on_service: bool = False
    """Whether the case uses the service that cases share. Before any other case the shared service is stopped."""
    is_long: bool = False
    """Whether the case runs only if `--only` names it: it takes long, or matters only to authors of kernels."""
    has_quick: bool = False
    """Whether the case has a smaller, quick run."""
    technique: Technique | None = None
    """The section of the ledger. Each call of such a case has a seed, and the rows of a seed are kept for a commit."""

    @classmethod
    def for_ledger(cls, name: str, measure: Callable[["Run"], Iterator[Row]], technique: Technique) -> "Case":
        """Makes a case of the ledger. Every such case is long and has a quick run."""
        return cls(name, measure, is_long=True, has_quick=True, technique=technique)

    @property
    def num_calls(self) -> int:
        """The number of calls without `--calls`."""
        return SEEDS if self.technique else 1

    @property
    def bars(self) -> tuple[Bar, ...]:
        return self.technique.bars if self.technique else ()

    def row_name(self, bar: Bar) -> str:
        """Returns the name of the row of a bar, for example `E1.mqar`."""
        return f"{self.name}.{bar.name}"


class Fixtures:
    """Owns the service that several cases share. The first use starts it; `close` stops it."""

    def __init__(self) -> None:
        self._running = ExitStack()
        self._service: Service | None = None

    def service(self, say: Callable[[str], None]) -> "Service":
        if self._service is None:
            from bench.harness.service import running_service

            say("starting a service, which learns its classes ...")
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
    """Prints the progress."""
    seed: int = 0
    """The number of the call, counted from 0. It seeds the random numbers of a case of the ledger."""
    is_quick: bool = False
    """Whether the run may take only seconds, and so checks only mechanism and direction on a smaller case."""
    is_bounded: bool = False
    """Whether the run belongs to a run of all cases, which takes half an hour."""
    options: Mapping[str, str] = field(default_factory=dict)
    """The options that `--set` sets."""
    fixtures: Fixtures = field(default_factory=Fixtures)

    def sized(self, full: S, quick: S | None = None) -> S:
        """Returns the size of the run, a frozen dataclass, with the options of the command line. Raises BadOption."""
        size = full
        if self.is_quick and quick is not None:
            size = quick
        return with_options(size, self.options)

    def amount(self, quick: int, full: int) -> int:
        """Returns the number of steps, samples or tokens of this run: `quick` for a quick run, else `full`."""
        return quick if self.is_quick else full

    def row(self, bar: str, value: float | None, *, peers: Sequence[Peer] = (), note: str = "") -> Row:
        """Returns the row of the bar with that name. Raises StopIteration if the case has no such bar."""
        definition = next(each for each in self.case.bars if each.name == bar)
        goal = definition.quick if self.is_quick else definition.goal
        name = self.case.row_name(definition)
        return Row.of(name, value, definition.unit, goal=goal, peers=tuple(peers), note=note)

    def deadline_s(self, seconds: float) -> float:
        """Returns the monotonic time `seconds` from now, or infinity if `--only` named the cases to run."""
        return time.monotonic() + seconds if self.is_bounded else math.inf

    def service(self) -> "Service":
        """Returns a service that answers and has nothing left to learn.

        Raises Skip without data, and NoResult if the service does not become idle.
        """
        return self.fixtures.service(self.say)

    def stop_service(self) -> None:
        """Stops the shared service, so that the next measurement has the machine to itself."""
        self.fixtures.close()


class BadOption(ValueError):
    """An option does not exist, or its value does not fit its type."""


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
        raise BadOption(f"unknown option {unknown[0]!r}; the options are {', '.join(sorted(known))}")
    try:
        values = {name: msgspec.convert(value, known[name], strict=False) for name, value in options.items()}
    except msgspec.ValidationError as error:
        raise BadOption(str(error)) from error
    return replace(size, **values)  # type: ignore[type-var]
