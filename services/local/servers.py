"""The servers of the stack: a local Redis and a local broker, where the settings name none, and the topics.

    settings --start--> Redis | broker, supervised --> settings with every address --create_topics--> topics
    a broker that loses its records, started again --> its topics are created again
    warm_broker: topics of their own, behind WARM --> records, one request each --> read by a group --> removed again

The first requests of a Java process take many times as long as later ones. So a broker of ours is warmed up beside the
start of the other programs, which takes longer. The broker has then compiled what it does for each record, and has made
the topic of the offsets and its first producer id.
"""

import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Final, TypeVar

import structlog

from services.local.kafka import LocalBroker, NoBroker, launch_broker
from services.local.redis import LocalRedis, start_redis
from services.local.supervisor import Program, Supervisor
from services.settings import Settings, replaced
from wire.bus import Bus, Subscription
from wire.config import BusConfig
from wire.errors import BusUnavailable, StoreUnavailable, WireError
from wire.records import Event

T = TypeVar("T")

PAUSE_S = 1.0
"""Pause before a server that was killed is asked again."""

WARM: Final = "warm-up."
"""What the prefix of these topics ends with."""

NUM_REQUESTS: Final = 300
"""Records that are sent and read one by one: a method is compiled by Java after some hundred calls."""

LONGEST_S: Final = 10.0

log = structlog.get_logger("warm_up")


class Servers:
    """The servers that are started where the settings name none. Verbs: start, create_topics, ask, stop.

    Start them from a thread that lives as long as they: they are tethered to it.
    """

    def __init__(self, supervisor: Supervisor, *, say: Callable[[str], None]) -> None:
        self._supervisor = supervisor
        self._say = say
        self._redis: LocalRedis | None = None
        self._broker: LocalBroker | None = None
        self._stopping = threading.Event()

    @property
    def owns_store(self) -> bool:
        """Whether Redis is ours."""
        return self._redis is not None

    def start(self, settings: Settings) -> Settings:
        """Starts the servers without an address; returns the settings with every address. Raises NoRedis, NoBroker.

        The broker may not answer yet.
        """
        if not settings.store.url:
            self._redis = start_redis(settings.state_dir / "redis")
            program = Program(name="redis", start=self._redis.start_again, log=self._redis.log)
            self._supervisor.add(program, self._redis.process)
            self._say(f"Redis: {self._redis.version} at {self._redis.url}")
            settings = replaced(settings, {"store.url": self._redis.url})
        if not settings.bus.bootstrap_servers:
            broker = self._broker = launch_broker(settings.state_dir / "kafka")
            settings = replaced(settings, {"bus.bootstrap_servers": broker.bootstrap_servers})
            again = broker.start_again if broker.durable else partial(self._start_forgetful, broker, settings.bus)
            self._supervisor.add(Program(name="broker", start=again, log=broker.log), broker.process)
            self._say(f"Broker: {broker.kind} at {broker.bootstrap_servers}{_memory_note(broker)}")
        return settings

    def create_topics(self, config: BusConfig, *, deadline_s: float) -> None:
        """Waits for a local broker and creates the topics, however often the broker is killed meanwhile.

        Raises StackFailed, NoBroker, BusUnavailable.
        """
        while self._broker is not None and not self._broker.accepts():
            self._supervisor.check()
            if time.monotonic() > deadline_s:
                raise NoBroker(f"{self._broker.kind} did not come up{self._broker.log.ending()}")
        self.ask(partial(_create_topics, config), is_ours=self._broker is not None, deadline_s=deadline_s)

    def warm_up(self, config: BusConfig, *, is_over: threading.Event) -> None:
        """Warms a Kafka of ours up, in a thread beside what else is started, until `is_over`."""
        if self._broker is not None and self._broker.durable:
            warm = partial(warm_broker, config, is_over=lambda: is_over.is_set() or self._stopping.is_set())
            threading.Thread(target=warm, name="warm-up", daemon=True).start()

    def ask(self, question: Callable[[], T], *, is_ours: bool, deadline_s: float) -> T:
        """Returns the answer of a server, which if it `is_ours` may be killed meanwhile, however often.

        Raises StackFailed; BusUnavailable or StoreUnavailable after the deadline, or where the server is not ours.
        """
        while True:
            try:
                return question()
            except (BusUnavailable, StoreUnavailable):
                if not is_ours or time.monotonic() > deadline_s:
                    raise
            self._supervisor.check()
            self._stopping.wait(PAUSE_S)

    def stop(self) -> None:
        """Ends the servers. Their data stays in the state folder."""
        self._stopping.set()
        for server in (self._broker, self._redis):
            if server is not None:
                server.stop()
        self._broker = self._redis = None

    def _start_forgetful(self, broker: LocalBroker, config: BusConfig) -> "subprocess.Popen[bytes]":
        """Starts a broker again that has lost its topics; a thread creates them anew."""
        process = broker.start_again()
        threading.Thread(target=self._restore_topics, args=(process, config), name="topics", daemon=True).start()
        return process

    def _restore_topics(self, process: "subprocess.Popen[bytes]", config: BusConfig) -> None:
        """Creates the topics anew.

        consumes: nothing
        produces: the topics, and a message
        waits for: the broker, PAUSE_S after it did not answer
        unblocked by: its answer, its end, stop
        """
        while process.poll() is None and not self._stopping.is_set():
            try:
                _create_topics(config)
            except WireError:
                self._stopping.wait(PAUSE_S)
            else:
                self._say("The broker had its records in memory: they are gone, and its topics were made anew")
                return


def _create_topics(config: BusConfig) -> None:
    with closing(Bus(config, client_id="stack")) as bus:
        bus.create_topics()


def _memory_note(broker: LocalBroker) -> str:
    if broker.durable:
        return ""
    return "; it keeps records in memory, so they end with it (durable: set KAFKA_HOME to Apache Kafka, with Java)"


def warm_broker(config: BusConfig, *, is_over: Callable[[], bool]) -> None:
    """Lets the broker carry records of nobody, for LONGEST_S at most, or until `is_over`. An error ends it early."""
    own = replace(config, prefix=f"{config.prefix}{WARM}", partitions=1)
    end_s = time.monotonic() + LONGEST_S
    try:
        with closing(Bus(own, client_id="warm-up")) as bus:
            bus.create_topics()
            try:
                _carry(bus, is_over=lambda: is_over() or time.monotonic() > end_s)
            finally:
                bus.remove_topics(WARM)
    except WireError as error:
        log.warning("not_warmed", error=str(error))


def _carry(bus: Bus, *, is_over: Callable[[], bool]) -> None:
    with closing(bus.publisher()) as publisher, closing(bus.subscribe(Event, WARM)) as subscription:
        for number in range(NUM_REQUESTS):
            if is_over():
                return
            publisher.send_all([Event(id=str(number), text="warm")], LONGEST_S)
            _finish(subscription)


def _finish(subscription: Subscription[Event]) -> None:
    """Reads what has come, and lets it be committed."""
    for received in subscription.poll(5).received:
        subscription.finish(received.position)
