"""Runs all parts of the load against a scene. Waiting also checks the scene and the load, and restarts ended programs.

    Pacer --events--> Sender --> events.v1 ... answers.v1 --> Reader --due--> Labeller --> Sender
          --numbers--> Askers (HTTP) -----------------reply--------------------^
    running(scene) -> Running: ledger, sender, labeller, pacer, watch, attribution --wait--> a condition holds

The load is an open loop: the next event does not wait for an answer. The watch polls the store for heartbeats of the
learner and of the rollout.

Rejected: a closed loop. Its load falls as soon as the service is slow, which is when faults do the most harm.
"""

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

from bench.chaos.ledger import IDS, LEARNER, ROLLOUT, ChaosLedger
from bench.chaos.recomputed import Attribution
from bench.chaos.scene import SOURCE, Scene
from bench.chaos.size import SceneSize
from bench.harness.texts import any_stream
from evals.load.asker import Asker
from evals.load.labeller import Labeller, Reply, delays
from evals.load.reader import Reader
from evals.load.sender import Sender
from evals.load.session import Loops
from evals.streams.stream import StreamItem
from services.programs import open_store
from services.settings import Settings
from wire.bus import Received
from wire.errors import WireError
from wire.records import Answer, Event, LearnerReport
from wire.store import Store
from wire.timestamps import now_ms

WATCH_INTERVAL_S = 0.3
NUM_ENTITIES = 997
NUM_ASKERS = 16


@dataclass(frozen=True, slots=True)
class Texts:
    """Maps the number of an event to its text, its label and its entity."""

    items: Sequence[StreamItem]

    def event(self, number: int) -> Event:
        key = self.key(number)
        return Event(id=IDS.of(number), text=self.item(number).text, key=key, source=SOURCE, time_ms=now_ms())

    def body(self, number: int) -> dict[str, str]:
        """Returns the event in the form of an HTTP request."""
        return {"id": IDS.of(number), "text": self.item(number).text, "key": self.key(number)}

    def item(self, number: int) -> StreamItem:
        return self.items[number % len(self.items)]

    def key(self, number: int) -> str:
        return f"customer-{number % NUM_ENTITIES}"


class Pacer:
    """Sends each event when it is due."""

    def __init__(
        self, ledger: ChaosLedger, texts: Texts, sender: Sender, numbers: "queue.Queue[int]", *, rate: float
    ) -> None:
        self._ledger = ledger
        self._texts = texts
        self._sender = sender
        self._numbers = numbers
        self._rate = rate
        self._stopped = threading.Event()
        self._closed = threading.Event()

    def run(self) -> None:
        """Sends events.

        consumes: the clock; produces: events; waits for: the time of the next; unblocked by: it, `stop`, `close`
        """
        start_s = time.monotonic()
        while not self._stopped.wait(max(0.0, start_s + self._ledger.num_sent / self._rate - time.monotonic())):
            number = self._ledger.record_sent()
            if self._ledger.is_http(number):
                self._numbers.put(number)
            else:
                self._sender.send(self._texts.event(number))
        self._closed.wait()

    def stop(self) -> None:
        """Sends no more events."""
        self._stopped.set()

    def close(self) -> None:
        self._stopped.set()
        self._closed.set()


class LearnerWatch:
    """Polls the store. `report` is the learner's last report, and `current` the number of the current version."""

    def __init__(self, settings: Callable[[], Settings], ledger: ChaosLedger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._closed = threading.Event()
        self.report: LearnerReport | None = None
        self.current = 0
        self._seen: dict[str, object] = {}
        self._polled_s = time.monotonic()

    def run(self) -> None:
        """Polls until it is closed.

        consumes: report, plan; produces: heartbeats; waits for: a third of a second; unblocked by: it, `close`
        """
        while not self._closed.is_set():
            settings = self._settings()
            with closing(open_store(settings)) as store:
                while self._settings().store == settings.store and not self._closed.wait(WATCH_INTERVAL_S):
                    begun_s = time.monotonic()
                    try:
                        self._poll(store)
                    except WireError:
                        continue
                    finally:
                        self._polled_s = begun_s

    @property
    def counts(self) -> dict[str, int]:
        """The counters in the learner's last report; empty before the first report."""
        return self.report.counts if self.report else {}

    def close(self) -> None:
        self._closed.set()

    def _poll(self, store: Store) -> None:
        report = store.reports.learner()
        plan = store.plans.read()
        self.current = store.versions.current()
        if report is not None:
            self.report = report
            self._record(LEARNER, report.counts.get("labels", 0))
        if plan is not None:
            self._record(ROLLOUT, plan.revision)

    def _record(self, track: str, seen: object) -> None:
        """Records a heartbeat if `seen` has changed since the last poll."""
        if self._seen.get(track) not in (None, seen):
            self._ledger.record_heartbeat(track, self._polled_s)
        self._seen[track] = seen


POLL_INTERVAL_S = 0.25
"""The time between two checks for recovery. Each check also restarts programs of the scene that have ended."""


@dataclass(frozen=True, slots=True)
class Running:
    """A scene, and the parts of the load that runs against it."""

    scene: Scene
    ledger: ChaosLedger
    sender: Sender
    labeller: Labeller
    pacer: Pacer
    watch: LearnerWatch
    attribution: Attribution
    size: SceneSize
    loops: Loops

    def wait(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Waits until the condition holds, and checks scene and load meanwhile.

        Returns False if the condition does not hold within `limit_s` seconds.
        """
        deadline_s = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline_s:
                return False
            self.scene.check()
            self.loops.check()
            # Heartbeats come from several threads: polling is simpler than notifications.
            time.sleep(POLL_INTERVAL_S)
        return True

    def wait_until(self, moment_s: float) -> None:
        """Waits until the monotonic time `moment_s`."""
        self.wait(lambda: time.monotonic() >= moment_s, math.inf)


@contextmanager
def running(scene: Scene, items: list[StreamItem], size: SceneSize) -> Iterator[Running]:
    """Runs all parts of the load, and stops them on exit."""
    texts = Texts(items)
    numbers = queue.Queue[int]()
    ledger = ChaosLedger(http_every=size.http_every, clock_s=time.monotonic)
    sender = Sender(lambda: scene.settings().bus, client_id="chaos")
    labeller = Labeller(
        sender,
        source=SOURCE,
        delays=partial(delays, seed=size.seed, between_s=size.label_delay_s),
        label_of=lambda number: texts.item(number).label,
        labelled=ledger.record_label,
    )
    attribution = Attribution(scene.settings)
    replies = ChaosReplies(ledger, labeller, attribution)
    reader = Reader(lambda: scene.settings().bus, (Answer,), replies.read)
    watch = LearnerWatch(scene.settings, ledger)
    asker = partial(
        Asker, numbers, texts.body, replies, address=lambda: http_address(scene), api_key=scene.api_keys.load
    )
    askers = [asker() for _ in range(NUM_ASKERS)]
    pacer = Pacer(ledger, texts, sender, numbers, rate=size.rate)
    with Loops(sender, labeller, reader, watch, attribution, *askers, pacer) as loops:
        yield Running(scene, ledger, sender, labeller, pacer, watch, attribution, size, loops)


def http_address(scene: Scene) -> str:
    serving = scene.settings().serving
    return f"{serving.http_host}:{serving.http_port}"


SOURCES = (SOURCE, f"http/{SOURCE}")
"""The sources of the load's events: over Kafka, and over HTTP by its key."""


@dataclass(frozen=True, slots=True)
class ChaosReplies:
    """Records answers from the topic and HTTP replies, and schedules their labels."""

    ledger: ChaosLedger
    labeller: Labeller
    attribution: Attribution

    def read(self, received: Received[Answer]) -> None:
        """Records an answer from the topic."""
        answer = received.record
        number = IDS.number_of(answer.event_id)
        # The attacker sends events under the ids of others.
        if number is None or answer.source not in SOURCES:
            return
        self.attribution.offer(number, answer)
        if self.ledger.record_answer(number):
            self.labeller.schedule(number, Reply.of(answer))

    def replied(self, number: int, begun_s: float, reply: Reply) -> None:
        can_be_labelled = reply.can_be_labelled
        self.ledger.record_reply(number, begun_s, revision=reply.revision, can_be_labelled=can_be_labelled)
        if can_be_labelled:
            self.labeller.schedule(number, reply)

    def failed(self, why: str) -> None:
        self.ledger.record_http_failure(why)


def labelled_items() -> list[StreamItem]:
    """Returns labelled texts of CLINC150, or of the stream in the package. Neighbours have different classes."""
    items = any_stream().train_items
    # A large prime step: neighbours have different classes, and every item comes once.
    step = 7919
    return [items[place * step % len(items)] for place in range(len(items))]
