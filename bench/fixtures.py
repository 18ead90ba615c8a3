"""Provides what several benchmarks share: a running service, made on first use, and the sizes that were asked for.

service(): a fresh stack that has learnt a little and is idle
stop_service(): before a benchmark that starts a service or a demo of its own; there are two cores
sized(size): the size with what `--set NAME=VALUE` changes, a frozen dataclass of numbers and texts
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec

from bench.service import Service, running_service

S = TypeVar("S")


class BadOption(ValueError):
    """An option that no size has, or whose value it cannot have."""


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """Splits assignments into names and values. Raises BadOption.

    >>> parse_assignments(["seed=7", "only=kill"])
    {'seed': '7', 'only': 'kill'}
    """
    pairs = [text.partition("=") for text in assignments]
    wrong = [name for name, equals, _ in pairs if not equals]
    if wrong:
        raise BadOption(f"{wrong[0]!r}: write --set NAME=VALUE")
    return {name: value for name, _, value in pairs}


def with_options(size: S, options: Mapping[str, str]) -> S:
    """Returns `size` with the fields that `options` name replaced. Raises BadOption, which lists the fields."""
    known: dict[str, Any] = {field.name: field.type for field in fields(size)}  # type: ignore[arg-type]
    unknown = sorted(options.keys() - known.keys())
    if unknown:
        raise BadOption(f"{unknown[0]!r}: there is no such option; there are {', '.join(sorted(known))}")
    try:
        values = {name: msgspec.convert(value, known[name], strict=False) for name, value in options.items()}
    except msgspec.ValidationError as error:
        raise BadOption(str(error)) from error
    return replace(size, **values)  # type: ignore[type-var]


class Fixtures:
    """Owns what runs. `close` ends it. `is_bounded` says that all benchmarks run, in half an hour."""

    def __init__(
        self,
        say: Callable[[str], None],
        options: Mapping[str, str] = MappingProxyType({}),
        *,
        is_bounded: bool = False,
    ) -> None:
        self.say = say
        """Takes a line for the one who waits."""
        self._options = options
        self._is_bounded = is_bounded
        self._running = ExitStack()
        self._service: Service | None = None

    def sized(self, size: S) -> S:
        """Returns the size of a benchmark with the options of the command line. Raises BadOption."""
        return with_options(size, self._options)

    def deadline_s(self, seconds: float) -> float:
        """Returns the monotonic time in so many seconds; where a single benchmark was named it has no deadline."""
        return time.monotonic() + seconds if self._is_bounded else math.inf

    def service(self) -> Service:
        """Returns a service that answers and has nothing to learn. Raises Skip where there is no data, and NoResult."""
        if self._service is None:
            self.say("a service is started and learns its classes ...")
            self._service = self._running.enter_context(running_service())
        return self._service

    def stop_service(self) -> None:
        """Ends the service, so that the next benchmark has the machine to itself."""
        self._service = None
        self._running.close()
        self._running = ExitStack()

    def close(self) -> None:
        self.stop_service()
