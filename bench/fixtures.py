"""Provides what several benchmarks share: a running service, which is made on first use.

service(): a fresh stack that has learnt a little and is idle
stop_service(): before a benchmark that starts a service or a demo of its own; there are two cores
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import MappingProxyType
from typing import TypeVar

from bench.options import with_options
from bench.service import Service, running_service

S = TypeVar("S")


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
