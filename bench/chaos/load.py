"""Generates the load: events at a steady rate by Kafka and HTTP, and their labels some seconds after their answers.

    Pacer --events--> publisher --> events.v1 ... answers.v1 --> Reader --due--> ChaosLabeller --> publisher
          --numbers--> Askers (HTTP) -----------------reply-------------------------^                  |
                                                                                       feedback.v1 <---'

It is an open loop: the next event does not wait for an answer. Whatever fails is repeated until it succeeds. Over HTTP
a request is repeated once at once if the connection was refused or lost: a prediction is idempotent, since its event
has an id, and `wget` and every load balancer do so.

Rejected: a closed loop, whose load falls as soon as the service is slow, which is when faults do most.
"""

import heapq
import http.client
import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

from bench.chaos.ledger import ChaosLedger, id_of, number_of
from bench.chaos.retrying import RetryingPublisher
from bench.chaos.size import SceneSize
from evals.load.labeller import delays
from evals.streams.stream import StreamItem
from services.settings import Settings
from wire.bus import Bus
from wire.errors import WireError
from wire.records import Answer, Event, Feedback, LogMark
from wire.timestamps import now_ms

TIMEOUT_S = 10.0


class Failed(Exception):
    """The request got no answer, although it was repeated where that is allowed. The message says why."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The fields of an answer that feedback must repeat."""

    event_id: str
    key: str
    receipt: str
    source: str | None
    revision: int = 0
    """That of the plan which the answer was given under."""
    can_be_labelled: bool = True
    """False where the answer could not be published, so that a label would not find it."""


def predict(host: str, port: int, body: dict[str, str], api_key: str = "") -> Reply:
    """Sends a request, and once more where the connection was refused or lost. Raises Failed."""
    content = json.dumps(body).encode()
    try:
        return _ask(host, port, content, api_key)
    except (ConnectionError, http.client.BadStatusLine):  # BadStatusLine: closed without a reply
        pass
    try:
        return _ask(host, port, content, api_key)
    except (ConnectionError, http.client.BadStatusLine) as error:
        raise Failed(type(error).__name__) from error


def _ask(host: str, port: int, body: bytes, api_key: str) -> Reply:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", "/v1/predict", body, {"content-type": "application/json", "x-api-key": api_key})
        response = connection.getresponse()
        content = response.read()
    except TimeoutError as error:
        raise Failed(f"no reply within {TIMEOUT_S:g} s") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise Failed(f"{response.status} {content[:200].decode(errors='replace')}")
    answer = json.loads(content)["answers"][0]
    can_be_labelled = answer.get("can_be_labelled", True)
    return Reply(
        answer["event_id"],
        answer["key"],
        answer["receipt"],
        answer.get("source"),
        answer["rollout_revision"],
        can_be_labelled,
    )


Numbers: TypeAlias = "queue.Queue[int]"
"""The numbers of the events that are asked for over HTTP."""

SOURCE = "chaos"
NUM_ENTITIES = 997
POLL_MS = 100
PAUSE_S = 0.2
"""The pause before something that is away is tried again: nothing tells when it is back."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Maps the number of an event to its text, its label and its entity."""

    items: Sequence[StreamItem]

    def event(self, number: int) -> Event:
        key = self.key(number)
        return Event(id=id_of(number), text=self.item(number).text, key=key, source=SOURCE, time_ms=now_ms())

    def item(self, number: int) -> StreamItem:
        return self.items[number % len(self.items)]

    def key(self, number: int) -> str:
        return f"customer-{number % NUM_ENTITIES}"


@dataclass(order=True, slots=True)
class Due:
    """A label that is to be sent at `due_s`."""

    due_s: float
    number: int
    reply: Reply = field(compare=False)


class ChaosLabeller:
    """Owns the labels that were not sent yet."""

    def __init__(self, texts: Texts, ledger: ChaosLedger, publisher: RetryingPublisher, size: SceneSize) -> None:
        self._texts = texts
        self._ledger = ledger
        self._publisher = publisher
        self._size = size
        self._changed = threading.Condition()
        self._due: list[Due] = []
        self._is_held = False
        self._closed = False

    def schedule(self, number: int, reply: Reply) -> None:
        """Schedules the label of an answered event, or its two copies, after their delays."""
        now_s = time.monotonic()
        delays_s = delays(number, seed=self._size.seed, between_s=self._size.label_delay_s)
        with self._changed:
            for delay_s in delays_s:
                heapq.heappush(self._due, Due(now_s + delay_s, number, reply))
            self._changed.notify()

    def hold(self) -> str:
        """Keeps labels back until `release`, whenever they fall due."""
        with self._changed:
            self._is_held = True
        return ""

    def release(self) -> None:
        with self._changed:
            self._is_held = False
            self._changed.notify()

    @property
    def num_due(self) -> int:
        with self._changed:
            return len(self._due)

    def run(self) -> None:
        """Sends labels as they fall due.

        consumes: answered events; produces: Feedback; waits for: the time; unblocked by: `schedule`, `close`
        """
        while True:
            with self._changed:
                if self._closed:
                    return
                if self._is_held or not self._due:
                    self._changed.wait()
                    continue
                wait_s = self._due[0].due_s - time.monotonic()
                if wait_s > 0:
                    self._changed.wait(wait_s)
                    continue
                due = heapq.heappop(self._due)
            self._publisher.send(self._label(due), partial(self._ledger.record_label, due.number))

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _label(self, due: Due) -> Feedback:
        return Feedback(
            event_id=due.reply.event_id,
            event_source=due.reply.source,
            key=due.reply.key,
            receipt=due.reply.receipt,
            label=self._texts.item(due.number).label,
            source=SOURCE,
            time_ms=now_ms(),
        )


class Reader:
    """Reads the answers topic from its beginning, and continues after the broker was away."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        ledger: ChaosLedger,
        labeller: ChaosLabeller,
        offer: Callable[[int, Answer], None],
    ) -> None:
        self._settings = settings
        self._offer = offer
        self._ledger = ledger
        self._labeller = labeller
        self._offsets: dict[str, int] = {}
        self._marks: dict[str, LogMark] = {}
        self._closed = threading.Event()

    def run(self) -> None:
        """Records answers.

        consumes: Answer; produces: labels that are due; waits for: the broker; unblocked by: answers, `close`
        """
        while not self._closed.is_set():
            config = self._settings().bus
            with closing(Bus(config, "chaos-reader")) as bus:
                try:
                    follower = bus.follow([Answer], self._offsets, marks=self._marks)
                    while not self._closed.is_set() and self._settings().bus == config:
                        followed = follower.poll(POLL_MS)
                        for received in followed.received:
                            self._record(received.record)
                        self._offsets = followed.offsets
                        self._marks = followed.marks
                except WireError:
                    self._closed.wait(PAUSE_S)

    def close(self) -> None:
        self._closed.set()

    def _record(self, answer: Answer) -> None:
        number = number_of(answer.event_id)
        if number is None:
            return
        self._offer(number, answer)
        if self._ledger.record_answer(number):
            self._labeller.schedule(number, Reply(answer.event_id, answer.key, answer.receipt, answer.source))


class Pacer:
    """Sends each event at its time."""

    def __init__(
        self, ledger: ChaosLedger, texts: Texts, publisher: RetryingPublisher, numbers: Numbers, *, rate: float
    ) -> None:
        self._ledger = ledger
        self._texts = texts
        self._publisher = publisher
        self._numbers = numbers
        self._rate = rate
        self._stopped = threading.Event()
        self._closed = threading.Event()

    def run(self) -> None:
        """Sends.

        consumes: the clock; produces: events; waits for: the time of the next; unblocked by: it, `stop`, `close`
        """
        start_s = time.monotonic()
        while not self._stopped.wait(max(0.0, start_s + self._ledger.num_sent / self._rate - time.monotonic())):
            number = self._ledger.record_sent()
            if self._ledger.is_http(number):
                self._numbers.put(number)
            else:
                self._publisher.send(self._texts.event(number), lambda: None)
        self._closed.wait()

    def stop(self) -> None:
        """Sends no more events."""
        self._stopped.set()

    def close(self) -> None:
        self._stopped.set()
        self._closed.set()


NUM_ASKERS = 16


class Asker:
    """Requests predictions over HTTP for the events of a queue, each until a reply comes. Several run side by side."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        ledger: ChaosLedger,
        labeller: ChaosLabeller,
        texts: Texts,
        numbers: Numbers,
        api_key: str,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._labeller = labeller
        self._texts = texts
        self._numbers = numbers
        self._api_key = api_key
        self._closed = threading.Event()

    def run(self) -> None:
        """Sends requests.

        consumes: numbers of events; produces: replies, labels that are due
        waits for: a number, a reply; unblocked by: either, its time limit, `close`
        """
        while not self._closed.is_set():
            try:
                number = self._numbers.get(timeout=PAUSE_S)
            except queue.Empty:
                continue
            self._ask(number)

    def close(self) -> None:
        self._closed.set()

    def _ask(self, number: int) -> None:
        body = {"id": id_of(number), "text": self._texts.item(number).text, "key": self._texts.key(number)}
        while not self._closed.is_set():
            serving = self._settings().serving
            begun_s = time.monotonic()
            try:
                reply = predict(serving.http_host, serving.http_port, body, self._api_key)
            except Failed as error:
                self._ledger.record_http_failure(str(error))
                self._closed.wait(PAUSE_S)
            else:
                can_be_labelled = reply.can_be_labelled
                self._ledger.record_reply(number, begun_s, revision=reply.revision, can_be_labelled=can_be_labelled)
                if reply.can_be_labelled:
                    self._labeller.schedule(number, reply)
                return
