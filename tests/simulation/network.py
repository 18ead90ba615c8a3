"""The network between the processes and the two servers: requests take time, and they or their replies may be lost.

request --travels--> the server carries it out --its reply--> the caller      lost: the caller waits in vain
"""

from collections.abc import Callable
from typing import TypeVar

from tests.simulation.scheduler import Scheduler

T = TypeVar("T")

TRAVEL_S = (0.0002, 0.002)
"""Shortest and longest time of a request, or of its reply: one of the two takes time, so it costs one turn."""


class Unreachable(Exception):
    """No reply came in time. `is_done`: the server has carried the request out all the same."""

    def __init__(self, what: str, *, is_done: bool) -> None:
        super().__init__(what)
        self.is_done = is_done


class Network:
    """`down` has the servers that do not run, `cut` the processes that reach none, `loss` the share that is lost."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._rng = scheduler.rng
        self.down: set[str] = set()
        self.cut: set[tuple[str, str]] = set()
        self.loss = 0.0
        self.slowness = 1.0

    def request(self, server: str, run: Callable[[], T], *, timeout_s: float) -> T:
        """Returns what the server replies to a request of the current task. Raises Unreachable and Killed."""
        own = self._scheduler
        lot = self._rng.random()
        if self.is_away(server):
            own.pause(min(timeout_s, 0.02 if server in self.down else timeout_s))
            raise Unreachable(f"{server} does not answer", is_done=False)
        if lot < self.loss / 2:
            own.pause(timeout_s)
            raise Unreachable(f"a request to {server} was lost", is_done=False)
        travel_s = self.slowness * self._rng.uniform(*TRAVEL_S)
        is_slow_to_come = self._rng.random() < 0.5
        if is_slow_to_come:
            own.pause(travel_s)
        if self.is_away(server):
            raise Unreachable(f"{server} hung up", is_done=False)
        reply = run()
        if lot < self.loss:
            own.pause(timeout_s)
            raise Unreachable(f"a reply of {server} was lost", is_done=True)
        if not is_slow_to_come:
            own.pause(travel_s)
        return reply

    def is_away(self, server: str) -> bool:
        """Whether the current task's process cannot reach a server."""
        task = self._scheduler.current
        assert task is not None
        return server in self.down or (task.process.name, server) in self.cut
