"""The servers of the stack: a local Redis and a local broker, if the settings name none, and the topics.

    settings --start--> Redis | broker, supervised --> settings with every address --create_topics--> topics
    a broker that keeps records in memory, restarted --> its topics are created again
    warm_broker: separate topics, prefix WARM --> records, one request each --> read by a group --> topics removed

The first requests of a Java process take many times as long as later ones. So a local Kafka is warmed up while the
other programs start, which takes longer. After that the broker has compiled its code for a record, has created the
topic of consumer offsets, and has allocated its first producer id.
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
"""Pause before a request to a server that was killed is repeated."""

WARM: Final = "warm-up."
"""End of the prefix of the topics for the warm-up."""

NUM_REQUESTS: Final = 300
"""Number of records that are sent and read one by one: Java compiles a method after some hundred calls."""

MAX_WARM_UP_S: Final = 10.0

log = structlog.get_logger("warm_up")


class Servers:
    """The servers that are started if the settings name none. Verbs: start, create_topics, warm_up, request, stop.

    Start them from a thread that lives as long as the servers must run: they are tethered to it.
    """

    def __init__(self, supervisor: Supervisor, *, say: Callable[[str], None]) -> None:
        self._supervisor = supervisor
        self._say = say
        self._redis: LocalRedis | None = None
        self._broker: LocalBroker | None = None
        self._stopping = threading.Event()

    @property
    def owns_store(self) -> bool:
        """Whether these servers include a Redis."""
        return self._redis is not None

    def start(self, settings: Settings) -> Settings:
        """Starts the servers whose addresses are not set; returns the settings with every address.

        Redis answers when this returns; the broker may not answer yet. Raises NoRedis, NoBroker.
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
            restart = broker.start_again if broker.durable else partial(self._restart_empty, broker, settings.bus)
            self._supervisor.add(Program(name="broker", start=restart, log=broker.log), broker.process)
            self._say(f"Broker: {broker.kind} at {broker.bootstrap_servers}{_memory_note(broker)}")
        return settings

    def create_topics(self, config: BusConfig, *, deadline_s: float) -> None:
        """Waits for a local broker and creates the topics, even if the broker is killed and restarted meanwhile.

        Raises StackFailed, NoBroker, BusUnavailable.
        """
        while self._broker is not None and not self._broker.accepts():
            self._supervisor.check()
            if time.monotonic() > deadline_s:
                raise NoBroker(f"{self._broker.kind} did not come up{self._broker.log.ending()}")
        self.request(partial(_create_topics, config), is_ours=self._broker is not None, deadline_s=deadline_s)

    def warm_up(self, config: BusConfig, *, is_over: threading.Event) -> None:
        """Warms up a local Kafka in a thread, until `is_over` is set."""
        if self._broker is not None and self._broker.durable:
            warm = partial(warm_broker, config, is_over=lambda: is_over.is_set() or self._stopping.is_set())
            threading.Thread(target=warm, name="warm-up", daemon=True).start()

    def request(self, send: Callable[[], T], *, is_ours: bool, deadline_s: float) -> T:
        """Returns the result of `send`, a request to a server. A request to our own server is retried.

        - Raises StackFailed if a program has ended fatally.
        - Raises BusUnavailable or StoreUnavailable if the server does not answer: our own server after the deadline,
          another server at once.
        """
        while True:
            try:
                return send()
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

    def _restart_empty(self, broker: LocalBroker, config: BusConfig) -> "subprocess.Popen[bytes]":
        """Restarts a broker that keeps records in memory; a thread creates its topics again."""
        process = broker.start_again()
        threading.Thread(target=self._restore_topics, args=(process, config), name="topics", daemon=True).start()
        return process

    def _restore_topics(self, process: "subprocess.Popen[bytes]", config: BusConfig) -> None:
        """Creates the topics again.

        consumes: nothing
        produces: the topics, and a message
        waits for: the broker; PAUSE_S after each request without an answer
        unblocked by: an answer, the end of the broker, stop
        """
        while process.poll() is None and not self._stopping.is_set():
            try:
                _create_topics(config)
            except WireError:
                self._stopping.wait(PAUSE_S)
            else:
                self._say("The broker had its records in memory: they are gone, and its topics were created again")
                return


def _create_topics(config: BusConfig) -> None:
    with closing(Bus(config, client_id="stack")) as bus:
        bus.create_topics()


def _memory_note(broker: LocalBroker) -> str:
    if broker.durable:
        return ""
    return "; it keeps records only in memory, until it ends (durable: set KAFKA_HOME to Apache Kafka, with Java)"


def warm_broker(config: BusConfig, *, is_over: Callable[[], bool]) -> None:
    """Sends records through separate topics, for at most MAX_WARM_UP_S, or until `is_over`; then removes the topics.

    An error of the broker ends the warm-up, and is only logged.
    """
    warm_up_config = replace(config, prefix=f"{config.prefix}{WARM}", partitions=1)
    end_s = time.monotonic() + MAX_WARM_UP_S
    try:
        with closing(Bus(warm_up_config, client_id="warm-up")) as bus:
            bus.create_topics()
            try:
                _send_and_read(bus, is_over=lambda: is_over() or time.monotonic() > end_s)
            finally:
                bus.remove_topics(WARM)
    except WireError as error:
        log.warning("warm_up_failed", error=str(error))


def _send_and_read(bus: Bus, *, is_over: Callable[[], bool]) -> None:
    with closing(bus.publisher()) as publisher, closing(bus.subscribe(Event, WARM)) as subscription:
        for number in range(NUM_REQUESTS):
            if is_over():
                return
            publisher.send_all([Event(id=str(number), text="warm")], MAX_WARM_UP_S)
            _read_and_finish(subscription)


def _read_and_finish(subscription: Subscription[Event]) -> None:
    """Reads the records that have arrived, and marks them as finished, so that their offsets are committed."""
    for received in subscription.poll(5).received:
        subscription.finish(received.position)
