"""The past of a series as features of its next event: a replica remembers the last events and labels of each key.

    Event --join--> Event with the features of those of its key before it --> tokens, queue, engine --> Answer
    feedback.v1, all partitions --SeriesLabels: trusted? in the set?--> add_label --> the event, if it is remembered

    past:2:price        the price of the event two before it             (`serving.series.lags`)
    past:mean48:price   the mean of the last 48 prices before it         (`serving.series.means`)
    past:label:1        the newest label of its key that has come        (`serving.series.labels`)

They are computed once, where an event comes in, and the answer carries them as all features. So every version that
answers, and the learner, read the same numbers. What an event has under such a name already stays as it is, and what is
not known is left out. An event that comes again is remembered once; the last one of its key gets what it got before.

The events of a key come to one replica in their order over Kafka, as they share a partition. Over HTTP each replica
knows those alone that came to itself. What is remembered is in memory: after a restart, or if a partition has moved to
another replica, a key begins anew.

Every replica reads all labels from its start on, since a label of an event may lie in any partition. A label counts as
soon as it lies in the topic, under the name that it has now, before the learner has judged it. Receipts, rates and
shares are checked as in the learner, under the same settings (`learner.trust`); the flip alarm, which needs what the
model has answered, is the learner's alone.
"""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
import structlog

from lifelong.plugins.inputs.features import FEATURES, PAST
from wire.backoff import Backoff
from wire.bus import Bus, Received
from wire.config import TrustConfig
from wire.errors import WireError
from wire.events import EventKey, key_of
from wire.inputs import MAX_FEATURES, Features
from wire.kinds import render
from wire.label_set import LabelSet
from wire.rate_limits import Rates, Shares
from wire.receipts import Receipts, time_of
from wire.records import Event, Feedback
from wire.threads import BackgroundThread

LABEL_WAIT: Final = 64
"""The last events of a key whose labels may still come."""


@dataclass(slots=True)
class _Past:
    """An event that has come. `features` is empty once they matter to no later event."""

    event: EventKey
    features: Features
    label: str | None = None


class SeriesSettings(Protocol):
    """[serving.series]."""

    @property
    def lags(self) -> tuple[int, ...]: ...
    @property
    def means(self) -> tuple[int, ...]: ...
    @property
    def labels(self) -> int: ...
    @property
    def max_values(self) -> int: ...
    @property
    def depth(self) -> int: ...


class Series:
    """Remembers the last events of each key, if `config` uses any of them. Any thread may call it.

    `reader` is what reads labels for it, if they are features of later events.
    """

    def __init__(self, config: SeriesSettings) -> None:
        self.reader: SeriesLabels | None = None
        self._config = config
        self._num_kept = max(config.depth, config.labels, LABEL_WAIT if config.labels else 0) + 1
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, deque[_Past]] = OrderedDict()  # oldest first, the key of the last event last
        self._key_of: dict[str, str] = {}  # by the id of an event that is remembered
        self._num_values = 0

    def start(self) -> None:
        if self.reader is not None:
            self.reader.start()

    def check(self, error: type[Exception]) -> None:
        """Raises `error` if the thread that reads labels has ended by itself."""
        if self.reader is not None:
            self.reader.check(error)

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()

    def join(self, events: Sequence[Event]) -> list[Event]:
        """Returns the events with what they take over, and remembers them. One without a key is as it was."""
        with self._lock:
            return [self._joined(event) if event.key else event for event in events]

    def add_label(self, feedback: Feedback, label: str) -> None:
        """Takes note of the label of an event, if that is remembered. A later one takes the place of the first."""
        with self._lock:
            for past in self._keys.get(self._key_of.get(feedback.event_id, ""), ()):
                source, event_id = past.event
                if event_id == feedback.event_id and feedback.event_source in (None, source):
                    past.label = label

    def _joined(self, event: Event) -> Event:
        before = list(self._keys.get(event.key, ()))
        names = [past.event for past in before]
        is_known = key_of(event) in names
        taken_over = self._taken_over(before[: names.index(key_of(event))] if is_known else before)
        if not is_known:
            self._remember(event)
        added = _bounded(taken_over, event.features)
        return msgspec.structs.replace(event, features=added | event.features) if added else event

    def _taken_over(self, before: Sequence[_Past]) -> Features:
        features: Features = {}
        for lag in self._config.lags:
            if lag <= len(before):
                features |= {f"{PAST}{lag}:{name}": value for name, value in before[-lag].features.items()}
        for num in self._config.means:
            features |= {f"{PAST}mean{num}:{name}": mean for name, mean in _means(before[-num:]).items()}
        labels = [past.label for past in reversed(before) if past.label is not None][: self._config.labels]
        return features | {f"{PAST}label:{place}": label for place, label in enumerate(labels, start=1)}

    def _remember(self, event: Event) -> None:
        depth = self._config.depth
        pasts = self._keys.setdefault(event.key, deque())
        self._keys.move_to_end(event.key)
        pasts.append(_Past(key_of(event), FEATURES.sent(event.features) if depth else {}))
        self._key_of[event.id] = event.key
        self._num_values += 1 + len(pasts[-1].features)
        if len(pasts) > depth + 1 > 1:
            outdated = pasts[-2 - depth]
            self._num_values -= len(outdated.features)
            outdated.features = {}
        if len(pasts) > self._num_kept:
            self._forget(pasts.popleft(), event.key)
        while self._num_values > self._config.max_values and len(self._keys) > 1:
            oldest, forgotten = self._keys.popitem(last=False)
            for past in forgotten:
                self._forget(past, oldest)

    def _forget(self, past: _Past, key: str) -> None:
        self._num_values -= 1 + len(past.features)
        if self._key_of.get(past.event[1]) == key:
            del self._key_of[past.event[1]]


def open_series(replica: Any) -> Series:
    """Returns the series of a replica, not started: see `InputCodec.enricher`."""
    series = Series(replica.settings.series)
    if replica.settings.series.labels:
        series.reader = SeriesLabels(
            replica.bus, series, replica.receipts, replica.labels, trust=replica.trust, backoff=replica.backoff
        )
    return series


def _means(pasts: Sequence[_Past]) -> dict[str, float]:
    """Returns the mean of each number, of as many of these events as have it."""
    columns: dict[str, list[float]] = {}
    for past in pasts:
        for name, value in past.features.items():
            if not isinstance(value, str):
                columns.setdefault(name, []).append(value)
    return {name: mean for name, values in columns.items() if math.isfinite(mean := sum(values) / len(values))}


def _bounded(added: Features, own: Features) -> Features:
    """Returns as many of the `added` features as an event may have beside its own, and none that nobody could read."""
    fitting = [name for name, value in added.items() if name not in own and not FEATURES.problem({name: value})]
    return {name: added[name] for name in fitting[: MAX_FEATURES - len(own)]}


POLL_MS = 50

log = structlog.get_logger("series")


class SeriesLabels:
    """Reads the labels that `series` needs.

    `trust` says which labels are believed, and `labels` returns the set of labels as it is now.
    """

    def __init__(
        self,
        bus: Bus,
        series: Series,
        receipts: Receipts,
        labels: Callable[[], LabelSet],
        *,
        trust: TrustConfig,
        backoff: Backoff,
    ) -> None:
        self._bus = bus
        self._series = series
        self._receipts = receipts
        self._labels = labels
        self._trust = trust
        self._rates = Rates(per_s=trust.source_labels_per_s, burst=trust.source_burst, max_sources=trust.max_sources)
        self._shares = Shares(share=trust.source_share, window=trust.source_window)
        self._backoff = backoff
        self._thread = BackgroundThread(self._run, name="series")

    def start(self) -> None:
        self._thread.start()

    def check(self, error: type[Exception]) -> None:
        """Raises `error` if the thread has ended by itself."""
        self._thread.check(error)

    def close(self) -> None:
        self._thread.close()

    def _run(self) -> None:
        """Reads until closed.

        consumes: Feedback, from the ends of all partitions on
        produces: labels of the series
        waits for: records, at most POLL_MS; the back-off, while the broker is unreachable
        unblocked by: records, the end of these times, close
        """
        num_failures = 0
        while not self._thread.closing.is_set():
            try:
                with closing(self._bus.follow([Feedback], self._bus.end_offsets(Feedback))) as follower:
                    while not self._thread.closing.is_set():
                        for received in follower.poll(POLL_MS).received:
                            self._add(received)
                        num_failures = 0
            except WireError as error:
                num_failures += 1
                if num_failures == 1:  # an outage is logged once
                    log.warning("labels_not_read", error=str(error))
                self._thread.closing.wait(self._backoff.pause_s(num_failures))

    def _add(self, received: Received[Any]) -> None:
        feedback: Feedback = received.record
        labels = self._labels()
        if labels.refusal(feedback.said, lambda _: True) or not self._is_trusted(feedback, received.log_ms):
            return
        self._series.add_label(feedback, render(labels.name_of(feedback.said)))

    def _is_trusted(self, feedback: Feedback, log_ms: int) -> bool:
        """Whether the label is believed. The clock of its source is the time of the answers that it labels; of a label
        without a receipt, the time at which the label came."""
        refusal = self._receipts.refusal(
            feedback, is_required=self._trust.require_receipts, max_age_ms=1e3 * self._trust.receipt_max_age_s
        )
        answer_ms = time_of(feedback.receipt) if feedback.receipt else log_ms
        return not refusal and self._rates.take(feedback.source, answer_ms) and self._shares.add(feedback.source)
