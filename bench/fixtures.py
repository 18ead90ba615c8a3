"""Provides what several benchmarks share: a running service, and a whole run of the demo. Each is made on first use.

    service(): a fresh stack that has learnt a little and is idle
    demo: a run of `lifelong demo --data clinc150`, with its figures

They never run at the same time: there are two cores.
"""

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar

from bench.demo_run import DemoRun, run_clinc150
from bench.options import with_options
from bench.service import Service, running_service
from evals.results.row import NoResult

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

    @property
    def demo(self) -> DemoRun:
        """The result of a run of the demo on CLINC150. Raises Skip where there is no data, and NoResult."""
        if isinstance(self._demo, NoResult):
            raise self._demo
        return self._demo

    @cached_property
    def _demo(self) -> DemoRun | NoResult:
        """The one run of the demo, which is not repeated where it failed."""
        self.stop_service()
        self.say("lifelong demo --data clinc150 runs, for this benchmark and the next ones ...")
        try:
            return run_clinc150()
        except NoResult as why:
            return why

    def stop_service(self) -> None:
        """Ends the service, so that the next benchmark has the machine to itself."""
        self._service = None
        self._running.close()
        self._running = ExitStack()

    def close(self) -> None:
        self.stop_service()
