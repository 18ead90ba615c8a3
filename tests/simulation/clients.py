"""The outside of a world: who sends events, who labels the answers, and who asks to be forgotten.

    producer --Event--> broker --Answer--> labeller --Feedback, sooner or later, perhaps twice--> broker
    subjects --erasures.request--> store

Each text is digits that no other event has, and its label follows from it. So whatever is known of an event is found by
its text, wherever that lies. Everything is sent until the broker has it.
"""

from collections import deque
from typing import Any, Final

from tests.simulation.install import wall_ms
from tests.simulation.ledger import Happened, Ledger
from tests.simulation.programs import BUS, RING, STORE
from tests.simulation.scheduler import Scheduler
from tests.simulation.threads import SimEvent
from wire.bus import Bus
from wire.errors import WireError
from wire.keyring import subject_digest
from wire.records import Answer, Erase, Event, Feedback, TopicRecord
from wire.store import Store
from wire.tasks import TaskNames

LABELS: Final = ("a", "b", "c")
SOURCES: Final = ("shop", "archive")
"""Where events come from that are answered here, and those that are only told of."""

SUBJECTS: Final = tuple(f"subject {number}" for number in range(8))


class Mail:
    """Records that are sent until the broker has each of them."""

    def __init__(self, bus: Bus, scheduler: Scheduler, stop: SimEvent) -> None:
        self._bus = bus
        self._scheduler = scheduler
        self._stop = stop
        self._waiting: deque[TopicRecord] = deque()
        self.num_open = 0

    def add(self, record: TopicRecord) -> None:
        self.num_open += 1
        self._waiting.append(record)

    def run(self) -> None:
        publisher = self._bus.publisher()
        while True:
            for _ in range(len(self._waiting)):
                self._send(publisher, self._waiting.popleft())
            self._scheduler.pause(0.1)

    def _send(self, publisher: Any, record: TopicRecord) -> None:
        def on_ack(error: Exception | None) -> None:
            if error is None:
                self.num_open -= 1
            else:
                self._waiting.append(record)

        try:
            publisher.send(record, on_ack)
        except WireError:
            self._waiting.append(record)


class Clients:
    """All that is outside of the service. `has_stopped`: no more events are sent; labels of those before are."""

    def __init__(self, scheduler: Scheduler, ledger: Ledger, *, may_be_late: bool) -> None:
        self._scheduler = scheduler
        self._rng = scheduler.rng
        self._ledger = ledger
        self._digest = RING.subject
        self.stop = SimEvent()
        self._due: list[tuple[float, Feedback]] = []
        self.erased: dict[str, float] = {}
        """The subjects that asked to be forgotten, and when the store had the request on its disk."""
        self.mail = Mail(Bus(BUS, client_id="client", tasks=TaskNames()), scheduler, self.stop)
        self.mean_s = self._rng.choice((0.06, 0.12, 0.25))
        self.share_late = self._rng.choice((0.0, 0.02, 0.1)) if may_be_late else 0.0
        self.share_with_text = self._rng.choice((0.0, 0.1, 0.3))

    @property
    def num_open(self) -> int:
        """Records that the broker has not yet, and labels that are not due yet."""
        return self.mail.num_open + len(self._due)

    def produce(self) -> None:
        """Sends events until it is stopped."""
        while not self.stop.is_set():
            self._scheduler.pause(self._rng.expovariate(1 / self.mean_s))
            happened = self.new_event()
            self.mail.add(
                Event(id=happened.event_id, text=happened.text, key=happened.key, source="shop", time_ms=wall_ms())
            )
            if self._rng.random() < self.share_with_text:
                self._tell_history()

    def new_event(self) -> Happened:
        """Makes up an event, whose text is like that of no other."""
        number = len(self._ledger.events)
        label = self._rng.choice(LABELS)
        text = f"{LABELS.index(label)}" * 3 + f"{number:05d}" + f"{self._rng.randrange(10**6):06d}"
        key = self._rng.choice(SUBJECTS) if self._rng.random() < 0.5 else ""
        happened = Happened(event_id=f"e{number}", text=text, key=key, label=label)
        self._ledger.events[happened.event_id] = happened
        return happened

    def on_answer(self, answer: Answer) -> None:
        """Takes an answer that the broker has acknowledged: the first one of an event is labelled, mostly."""
        self._ledger.answered(answer)
        happened = self._ledger.events[answer.event_id]
        if len(happened.answers) > 1 or self._rng.random() < 0.1:
            return
        is_late = self._rng.random() < self.share_late
        delay_s = self._rng.uniform(8, 20) if is_late else self._rng.expovariate(2.0)
        label = Feedback(
            event_id=answer.event_id,
            label=happened.label,
            key=answer.key,
            source="desk",
            time_ms=wall_ms(),
            receipt=answer.receipt,
            event_source="shop",
        )
        for _ in range(2 if self._rng.random() < 0.1 else 1):
            happened.num_labels += 1
            self._due.append((self._scheduler.now_s + delay_s, label))

    def deliver_labels(self) -> None:
        """Sends each label when it is due."""
        while True:
            self._scheduler.pause(0.1)
            due = [label for due_s, label in self._due if due_s <= self._scheduler.now_s]
            self._due = [each for each in self._due if each[0] > self._scheduler.now_s]
            for label in due:
                self.mail.add(label)

    def _tell_history(self) -> None:
        """Sends a label of an event that was never answered here: it carries what the event said."""
        happened = self.new_event()
        happened.num_labels += 1
        is_features = self._rng.random() < 0.5
        self.mail.add(
            Feedback(
                event_id=happened.event_id,
                label=happened.label,
                key=happened.key,
                source="history",
                time_ms=wall_ms(),
                event_source="archive",
                text=happened.text,
                features={"amount": float(happened.text[3:8])} if is_features else {},
            )
        )

    def forget(self) -> None:
        """Asks now and then to forget a subject, until it is stopped."""
        store = Store(STORE, RING)
        while not self.stop.is_set():
            self._scheduler.pause(self._rng.uniform(3, 20))
            subject = self._rng.choice(SUBJECTS)
            while subject not in self.erased:
                try:
                    store.commands.append(Erase(digest=subject_digest(self._digest, subject)))
                    self.erased[subject] = self._scheduler.now_s
                    self._scheduler.note(f"forget {subject}")
                except WireError:
                    self._scheduler.pause(1.0)
