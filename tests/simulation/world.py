"""A world: the product's programs, the servers, the disk and the clients, faults for a while, and then none.

    seed --> World.run: 15 s of faults, some seconds of traffic, then at most SETTLE_S until everything has its end
         --> Outcome

What is found is the same at every run of a seed.
"""

import gc
import math
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from kafka import TopicPartition  # type: ignore[import-untyped]

from learner import process
from learner.learner import Learner
from rollout.decider import Decider
from tests.simulation.broker import Broker, Stored
from tests.simulation.checks import Checks
from tests.simulation.clients import Clients
from tests.simulation.disk import Disk, SimOs
from tests.simulation.faults import Faults
from tests.simulation.install import Outside, installed
from tests.simulation.kafka_clients import SimClients
from tests.simulation.ledger import Ledger, Violation
from tests.simulation.network import Network
from tests.simulation.programs import (
    BUS,
    FORGETS_ANSWERS,
    FORGETS_EVENTS,
    SimReplica,
    run_controller,
    run_learner,
    warm_up,
)
from tests.simulation.scheduler import Process, Scheduler
from tests.simulation.server import RedisServer, SimServer
from tests.simulation.threads import Running, SimEvent
from wire.records import TOPIC_RECORDS

FAULTS_S: Final = 15.0
TRAFFIC_S: Final = 3.0
"""How long events are sent after the last fault."""
SETTLE_S: Final = 60.0
"""Longest time from the last event until everything has its end."""
RESTART_S: Final = 0.5


class Outcome(NamedTuple):
    """What came of a seed: `failure` is the first invariant that did not hold, or what a program has raised.

    `digest` is that of everything that happened, and `trace` what of it is worth reading.
    """

    failure: BaseException | None
    digest: str
    counts: dict[str, int]
    trace: list[str]


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.scheduler = Scheduler(seed)
        Running.scheduler = self.scheduler
        rng = self.scheduler.rng
        self.ledger = Ledger()
        self.network = Network(self.scheduler)
        self.redis = RedisServer(self.scheduler, self.network, syncs_always=rng.random() < 0.2)
        topics = tuple(record.TOPIC for record in TOPIC_RECORDS)
        self.broker = Broker(
            self.scheduler,
            self.network,
            partitions=BUS.partitions,
            topics=topics,
            flushes_always=rng.random() < 0.2,
        )
        self.disk = Disk(self.scheduler, folder)
        SimOs.disk = self.disk
        Outside.clients = SimClients
        Outside.server = partial(SimServer, server=self.redis)
        SimClients.broker = self.broker
        self.learner: Learner | None = None
        self.decider: Decider | None = None
        self.calm_since_s = math.inf
        self.replicas: dict[str, SimReplica] = {}
        self.restarts = 0
        self.own = Process("world")
        self._forgets = rng.choice((FORGETS_ANSWERS, FORGETS_EVENTS, {}))
        self.clients = Clients(self.scheduler, self.ledger, may_be_late=self._forgets is not FORGETS_EVENTS)
        self._processes: dict[str, Process] = {}
        self._skew_ms = 0
        self._checks = Checks(self)
        self.broker.on_cut = self._on_cut
        self.broker.on_commit = self._on_commit
        self.broker.on_commits_lost = self._on_commits_lost

    def run(self) -> Outcome:
        """Runs the world to its end."""
        random.seed(self.seed)
        failure = self.scheduler.run(self.own, self._main)
        counts = {**self.ledger.counts, "versions": len(self.ledger.versions), "turns": self.scheduler.num_turns}
        return Outcome(failure, self.scheduler.digest, counts, self.scheduler.trace)

    def kill(self, name: str) -> None:
        """Kills a program; it is started again."""
        if (killed := self._processes.get(name)) is not None and not killed.is_killed:
            self.ledger.counts["kills"] += 1
            self.scheduler.kill(killed)

    def cut_redis(self) -> None:
        """Cuts the power of Redis."""
        self._checks.look_at_store()
        num_unsynced = self.redis.model.num_unsynced
        self.redis.cut_power(self.scheduler.rng.randint(0, num_unsynced))

    def set_kafka_clock(self, skew_ms: int) -> None:
        """Sets the broker's clock."""
        self.broker.skew_ms = skew_ms

    def set_program_clocks(self, skew_ms: int) -> None:
        """Changes the wall clock of some programs, and of those that come after them."""
        self._skew_ms = skew_ms
        for each in self._processes.values():
            if self.scheduler.rng.random() < 0.5:
                each.skew_ms = skew_ms

    def _main(self) -> None:
        for name, run in self._background():
            self.scheduler.start(self.own, name, run)
        for name, program in self._programs().items():
            self.scheduler.start(self.own, f"keeper of {name}", partial(self._keep, name, program))
        self.scheduler.pause(2.0)
        Faults(self).play(FAULTS_S)
        self.scheduler.note("no more faults")
        self.calm_since_s = self.scheduler.now_s
        self.scheduler.pause(TRAFFIC_S)
        self.clients.stop.set()
        ends_s = self.scheduler.now_s + SETTLE_S
        while unsettled := self._checks.unsettled():
            if self.scheduler.now_s > ends_s:
                raise Violation(f"{SETTLE_S} s after the last fault: {unsettled}")
            self.scheduler.pause(0.5)
        self._checks.look_at_end()
        self.ledger.counts["settled_s"] = int(self.scheduler.now_s - ends_s + SETTLE_S)

    def _background(self) -> Iterator[tuple[str, Callable[[], None]]]:
        yield "redis disk", self._sync_redis
        yield "kafka disk", self._sync_kafka
        yield "checks", self._look
        yield "producer", self.clients.produce
        yield "labeller", self.clients.deliver_labels
        yield "mail", self.clients.mail.run
        yield "forgetter", self.clients.forget

    def _programs(self) -> dict[str, Callable[[SimEvent], object]]:
        return {
            "learner": partial(run_learner, {**self._forgets, "state_dir": str(self.disk.folder)}),
            "rollout": partial(run_controller, self._on_decider),
            "replica-1": partial(self._run_replica, "replica-1"),
            "replica-2": partial(self._run_replica, "replica-2"),
        }

    def _on_decider(self, decider: Decider) -> None:
        self.decider = decider

    def _run_replica(self, name: str, stop: SimEvent) -> None:
        replica = SimReplica(name, self.ledger, self.clients.on_answer)
        self.replicas[name] = replica
        replica.run(stop)

    def _keep(self, name: str, program: Callable[[SimEvent], object]) -> None:
        """Starts a program again whenever it has ended, as the supervisor does."""
        while True:
            self.restarts += 1
            process = Process(name, self.restarts, skew_ms=self._skew_ms)
            self._processes[name] = process
            ended = SimEvent()
            task = self.scheduler.start(process, "main", partial(self._run, process, program))
            task.on_end.append(ended.set)
            ended.wait()
            if not process.is_killed:
                self.scheduler.kill(process)
            self.scheduler.pause(RESTART_S + self.scheduler.rng.random())

    def _run(self, process: Process, program: Callable[[SimEvent], object]) -> None:
        result = program(SimEvent())
        self.scheduler.note(f"{process.name} ends with {result}")

    def _look(self) -> None:
        while True:
            self.scheduler.pause(0.5)
            self._checks.look()

    def _sync_redis(self) -> None:
        while True:
            self.scheduler.pause(1.0)
            self.redis.sync()

    def _sync_kafka(self) -> None:
        while True:
            self.scheduler.pause(self.scheduler.rng.uniform(0.2, 3.0))
            self.broker.sync()

    def _on_cut(self, partition: TopicPartition, lost: list[Stored]) -> None:
        self.ledger.counts["lost"] += len(lost)
        self.ledger.loses(partition, self.broker.logs[partition].end)

    def _on_commit(self, partition: TopicPartition, offset: int, epoch: int) -> None:
        self.ledger.commits(partition, self._known_end(partition, offset, epoch))

    def _known_end(self, partition: TopicPartition, offset: int, epoch: int) -> int:
        """Returns how far a commit is about records that the log still has: others may lie at their offsets now."""
        log = self.broker.logs[partition]
        return min(offset, log.find_end(epoch) if epoch >= 0 else log.end)

    def _on_commits_lost(self, left: Mapping[TopicPartition, tuple[int, int]]) -> None:
        for partition in self.broker.logs:
            self.ledger.loses(partition, self._known_end(partition, *left.get(partition, (0, 0))))


@contextmanager
def simulating() -> Iterator[None]:
    """Lets worlds run until the end of the block.

    What is loaded before them stays until the end, so the garbage collector need not look at it again and again.
    """
    warm_up()
    torch.set_num_threads(1)
    gc.freeze()
    with installed():
        yield


def run_seed(seed: int) -> Outcome:
    """Runs the world of a seed, within `simulating`."""
    with tempfile.TemporaryDirectory(prefix="simulation-", dir=_fast_folder()) as folder:
        world = World(seed, Path(folder))
        with _captured(world):
            return world.run()


@contextmanager
def _captured(world: World) -> Iterator[None]:
    """Lets the world know the learner that leads."""
    lead = process.lead

    def captured(config: Any, learner: Learner, *args: Any, **kwargs: Any) -> None:
        world.learner = learner
        lead(config, learner, *args, **kwargs)

    process.lead = captured
    try:
        yield
    finally:
        process.lead = lead


def _fast_folder() -> str | None:
    shared_memory = Path("/dev/shm")
    return str(shared_memory) if shared_memory.is_dir() else None
