"""Exactly-once delivery: answers and the offsets of their events are committed in one Kafka transaction.

    put --> [results by event] --the results without a gap before them, every few milliseconds--> one transaction
        committed --> the events are finished, and remembered as answered
        aborted   --> tried again, with the results that have come meanwhile
        unknown   --> `poll` raises BusUnavailable, and another subscription begins at the committed offsets

A committed offset means that all events before it are done. So a result waits until all earlier events of its partition
have results. While one transaction commits, results accumulate for the next one, so transactions grow with the load.

If a partition goes to another replica, the broker refuses our offsets for it, and that replica answers its events. The
broker checks only the member and the generation of the group, not the owner of each partition. So at every rebalance,
all partitions count as lost, and a result is committed only after its event was delivered again.

If a producer sends an event twice, the event has two offsets, but is answered once as long as the dedupe window
remembers it. This is the same without transactions. HTTP answers have no offset, and go through the outbox. Consumers
must read only committed records (`isolation.level=read_committed`), as ours do.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from serving.kafka.dedupe import DedupeWindow
from serving.observers import Counts
from wire.bus import Position, Subscription
from wire.bus.transactions import RecordRefused, TransactionAborted, TransactionalPublisher
from wire.dead_letters import unsendable
from wire.errors import BusUnavailable, SendFailed, WireError
from wire.events import EventKey
from wire.message import Place
from wire.records import Answer, DeadLetter, Event
from wire.threads import BackgroundThread

IDLE_S = 0.25
"""Longest time in seconds between two searches for offsets without a result, which belong to repeated events."""

ABORTED_PAUSE_S = 0.1
UNCLAIMED_S = 10.0
"""If a result has no delivery in one of our partitions for this many seconds, it is dropped, because another replica
answers its event."""

CLOSE_S = 2.0

log = structlog.get_logger("intake")


@dataclass(slots=True, eq=False)
class _Result:
    record: Answer | DeadLetter
    place: Place
    key: EventKey | None
    since_s: float
    positions: set[Position] = field(default_factory=set)


class ExactlyOnce:
    """A Delivery that commits the results and the offsets of one subscription together.

    The subscription must not commit its offsets itself.
    """

    def __init__(
        self,
        subscription: Subscription[Event],
        *,
        open_publisher: Callable[[], TransactionalPublisher],
        window: DedupeWindow,
        counts: Counts,
        name: str,
    ) -> None:
        self._subscription = subscription
        self._open_publisher = open_publisher
        self._window = window
        self._counts = counts
        self._name = name
        self._changed = threading.Condition()
        self._deliveries: dict[EventKey, set[Position]] = {}
        self._by_key: dict[EventKey, _Result] = {}
        self._results: dict[Position, _Result] = {}
        self._failure: WireError | None = None
        self._look_s = time.monotonic() + UNCLAIMED_S
        self._thread = BackgroundThread(self._run, name="transactions")
        self._thread.start()

    def expect(self, position: Position, key: EventKey) -> None:
        with self._changed:
            self._deliveries.setdefault(key, set()).add(position)
            if result := self._by_key.get(key):
                self._attach(result, position)

    def put(self, record: Answer | DeadLetter, key: EventKey, position: Position) -> None:
        with self._changed:
            # Kafka delivers the event again, to the next subscription.
            if self._thread.closing.is_set():
                self._window.drop(key)
                return
            result = _Result(record, position.place, key, time.monotonic())
            self._by_key[key] = result
            # All deliveries of the event share the result, so their offsets can be committed together.
            for delivery in self._deliveries.get(key, ()):
                self._attach(result, delivery)

    def put_dead_letter(self, letter: DeadLetter, position: Position) -> None:
        with self._changed:
            self._attach(_Result(letter, position.place, None, time.monotonic()), position)

    def poll(self) -> None:
        """Drops the results of lost partitions from time to time. If their events come again, they count as new.

        Raises BusUnavailable if the outcome of a transaction is unknown.
        """
        if self._failure is not None:
            raise BusUnavailable(str(self._failure)) from self._failure
        now_s = time.monotonic()
        if now_s < self._look_s:
            return
        self._look_s = now_s + UNCLAIMED_S
        with self._changed:
            for result in [*self._by_key.values(), *self._results.values()]:
                is_old = result.since_s < now_s - UNCLAIMED_S
                if is_old and not any(map(self._subscription.is_ours, result.positions)):
                    self._remove(result)
                    if result.key is not None:
                        self._window.drop(result.key)

    def close(self) -> None:
        """Ends the thread. Events whose results are not committed count as new when they come again."""
        with self._changed:
            self._thread.closing.set()
            self._changed.notify()
        self._thread.close(CLOSE_S)
        with self._changed:
            for key in self._by_key:
                self._window.drop(key)

    def _attach(self, result: _Result, position: Position) -> None:
        result.positions.add(position)
        self._results[position] = result
        self._changed.notify()

    def _remove(self, result: _Result) -> None:
        for position in result.positions:
            self._results.pop(position, None)
        if result.key is not None:
            self._by_key.pop(result.key, None)
            self._deliveries.pop(result.key, None)

    def _run(self) -> None:
        """Commits until closed, or until the outcome of a transaction is unknown.

        consumes: the results of `put` and `put_dead_letter`
        produces: transactions
        waits for: a result, at most IDLE_S; the broker
        unblocked by: put, put_dead_letter, close
        """
        publisher: TransactionalPublisher | None = None
        try:
            publisher = self._open_publisher()
            while not self._thread.closing.is_set():
                with self._changed:
                    self._changed.wait_for(lambda: self._results or self._thread.closing.is_set(), IDLE_S)
                self._commit(publisher)
        except WireError as error:
            self._failure = error
        finally:
            if publisher is not None:
                publisher.close()

    def _commit(self, publisher: TransactionalPublisher) -> None:
        """Commits the results before which no event lacks a result. Raises BusUnavailable if the outcome is unknown."""
        with self._changed:
            transaction = self._subscription.transaction(self._results.__contains__)
            results = list(dict.fromkeys(self._results[position] for position in transaction.positions))
        # The first event of each partition still has no result.
        if not transaction.offsets:
            self._thread.closing.wait(0.002)
            return
        try:
            publisher.commit([result.record for result in results], transaction.offsets, transaction.member)
        except RecordRefused as error:
            self._replace(results, error)
        except TransactionAborted as error:
            self._counts.add("transactions_aborted")
            log.warning("transaction_aborted", error=str(error))
            self._thread.closing.wait(ABORTED_PAUSE_S)
        else:
            self._subscription.committed(transaction.offsets)
            self._finish(results)

    def _finish(self, results: list[_Result]) -> None:
        """Finishes every delivery of the committed results."""
        for result in results:
            with self._changed:
                self._remove(result)
            if result.key is None:
                for position in result.positions:
                    self._subscription.finish(position)
            else:
                self._window.acknowledge(result.key)
            if not isinstance(result.record, Answer):
                self._counts.add("dead_letters")

    def _replace(self, results: list[_Result], refused: RecordRefused) -> None:
        """Replaces a record that can never be sent by a small dead letter."""
        result = next(result for result in results if result.record is refused.record)
        self._counts.add("unsendable")
        log.error("unsendable", id=result.record.message_id, error=str(refused))
        result.record = unsendable(result.record, SendFailed(str(refused)), result.place, source=self._name)
