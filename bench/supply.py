"""What several benchmarks share: a service that runs, and a whole run of the demo. Each is made once, when first asked.

    service(): a fresh stack, learned a little, idle        demo(): `lifelong demo --data clinc150`, with its figures

Never both at a time: there are two cores.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import cached_property
from types import MappingProxyType
from typing import TypeVar

from bench.demo_run import DemoRun, run_demo
from bench.options import changed
from bench.service import Service, started

S = TypeVar("S")


class Supply:
    """Owner of what runs. `close` ends it."""

    def __init__(self, options: Mapping[str, str] = MappingProxyType({})) -> None:
        self._options = options
        self._running = ExitStack()
        self._service: Service | None = None

    def sized(self, size: S) -> S:
        """The size of a benchmark with what was asked for on the command line. Raises BadOption."""
        return changed(size, self._options)

    def service(self) -> Service:
        """A service that answers and has nothing to learn. Raises Skip where there is no data."""
        if self._service is None:
            self._service = self._running.enter_context(started())
        return self._service

    @cached_property
    def demo(self) -> DemoRun:
        """What a run of the demo on CLINC150 came to. Raises Skip where there is no data."""
        self.stop_service()
        return run_demo()

    def stop_service(self) -> None:
        """Leaves the machine to somebody else."""
        self._service = None
        self._running.close()
        self._running = ExitStack()

    def close(self) -> None:
        self.stop_service()
