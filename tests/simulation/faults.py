"""The faults of a world: which, when and for how long the seed decides. After the last of them everything works.

quiet time --> a fault, for a while --> it is mended --> quiet time --> ...
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.simulation.broker import KAFKA
from tests.simulation.server import REDIS

if TYPE_CHECKING:
    from tests.simulation.world import World

SERVERS: Final = (KAFKA, REDIS)
PROGRAMS: Final = ("learner", "replica-1", "replica-2", "rollout")


class Faults:
    """Draws faults and carries them out, one after another, some of them two at a time."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._scheduler = world.scheduler
        self._rng = world.scheduler.rng
        kinds: tuple[tuple[Callable[[], None], int], ...] = (
            (self._kill, 5),
            (self._pause_leader, 2),
            (self._partition, 3),
            (self._lose_replies, 3),
            (self._slow_down, 1),
            (self._server_outage, 3),
            (self._disk_full, 1),
            (self._clock_jump, 2),
            (self._elect, 3),
            (self._cut_kafka, 3),
            (self._cut_redis, 3),
            (self._cut_learner, 3),
            (self._cut_all, 3),
        )
        self._kinds: list[Callable[[], None]] = []
        for kind, weight in kinds:
            self._kinds += [kind] * weight

    def play(self, until_s: float) -> None:
        """Plays faults until a time."""
        while self._scheduler.now_s < until_s:
            self._scheduler.pause(self._rng.expovariate(0.5))
            kind = self._rng.choice(self._kinds)
            self._scheduler.note(f"fault {kind.__name__.strip('_')}")
            kind()

    def _for_a_while(self, longest_s: float = 6.0) -> None:
        self._scheduler.pause(min(self._rng.expovariate(0.7), longest_s))

    def _kill(self) -> None:
        for name in self._rng.sample(PROGRAMS, self._rng.choice((1, 1, 1, 2, 4))):
            self._world.kill(name)

    def _pause_leader(self) -> None:
        """Starts a second learner, or controller, beside the one that leads and is cut off."""
        name = self._rng.choice(("learner", "rollout"))
        with self._cut(name, REDIS):
            self._for_a_while()

    def _partition(self) -> None:
        with self._cut(self._rng.choice(PROGRAMS), self._rng.choice(SERVERS)):
            self._for_a_while()

    def _lose_replies(self) -> None:
        self._world.network.loss = self._rng.choice((0.05, 0.2, 0.5))
        self._for_a_while()
        self._world.network.loss = 0.0

    def _slow_down(self) -> None:
        self._world.network.slowness = self._rng.choice((10.0, 100.0))
        self._for_a_while()
        self._world.network.slowness = 1.0

    def _server_outage(self) -> None:
        with self._down(self._rng.choice(SERVERS)):
            self._for_a_while()

    def _disk_full(self) -> None:
        self._world.disk.is_full = True
        self._for_a_while()
        self._world.disk.is_full = False

    def _clock_jump(self) -> None:
        """Sets a clock wrong, or right: those of programs and broker by less than a late label's search allows."""
        if self._rng.random() < 0.5:
            self._world.redis.skew_ms = self._rng.choice((-30_000, -2_000, 0, 2_000, 30_000))
        else:
            wrong_ms = self._rng.choice((-4_000, -500, 0, 500, 4_000))
            self._scheduler.note(f"clocks are wrong by {wrong_ms} ms")
            self._rng.choice((self._world.set_kafka_clock, self._world.set_program_clocks))(wrong_ms)

    def _elect(self) -> None:
        partition = self._rng.choice(sorted(self._world.broker.logs))
        self._world.broker.elect(partition, is_clean=self._rng.random() < 0.3)

    def _cut_kafka(self) -> None:
        with self._down(KAFKA):
            self._world.broker.cut_power()
            self._for_a_while(3.0)

    def _cut_redis(self) -> None:
        with self._down(REDIS):
            self._world.cut_redis()
            self._for_a_while(3.0)

    def _cut_learner(self) -> None:
        self._world.kill("learner")
        self._world.disk.cut_power()

    def _cut_all(self) -> None:
        """Cuts the power of machines that have several of these, perhaps again while they come back."""
        for _ in range(self._rng.choice((1, 1, 2, 3))):
            self._cut_all_once()
            self._for_a_while()

    def _cut_all_once(self) -> None:
        with self._down(REDIS):
            self._world.cut_redis()
            self._cut_learner()
            if self._rng.random() < 0.5:
                with self._down(KAFKA):
                    self._world.broker.cut_power()
                    self._for_a_while(3.0)
            for name in PROGRAMS:
                if self._rng.random() < 0.3:
                    self._world.kill(name)

    @contextmanager
    def _cut(self, name: str, server: str) -> Iterator[None]:
        self._world.network.cut.add((name, server))
        yield
        self._world.network.cut.discard((name, server))

    @contextmanager
    def _down(self, server: str) -> Iterator[None]:
        self._world.network.down.add(server)
        yield
        self._world.network.down.discard(server)
