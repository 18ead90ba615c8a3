"""Lag features of a time series: a replica remembers the last events and labels of each key.

    Event --join--> Event with features of earlier events of its key --> tokens, queue, engine --> Answer
    feedback.v1, all partitions --SeriesLabels: trusted? in the label set?--> add_label --> its event, if remembered

    past:2:price        the price of the event two before this one            (`serving.series.lags`)
    past:mean48:price   the mean of the last 48 prices before this one        (`serving.series.means`)
    past:label:1        the label of the newest labelled event of the key     (`serving.series.labels`)

These features are computed once, when an event arrives, and the answer carries them like all features. So all versions
and the learner read the same numbers. A feature that the client sent under such a name is kept, and an unknown value is
left out. A repeated event is remembered once. If it is the last event of its key, it gets the same features again.

The events of a key share a Kafka partition, so one replica gets them in order. Over HTTP a replica knows only the
events that it has answered itself. The series are kept in memory: after a restart of the replica, or if a partition
moves to another replica, the series of a key starts empty.

Every replica reads all labels from its start on, because the label of an event may be in any partition. A label counts
as soon as it is in the topic, under its current name, before the learner has judged it. Receipts, rates and shares are
checked as in the learner, with the same settings (`learner.trust`). Only the learner has the flip alarm, which compares
labels with the answers of the model.
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
from wire.receipts import Receipts, receipt_time_ms
from wire.records import Event, Feedback
from wire.threads import BackgroundThread

LABEL_WAIT: Final = 64
"""The number of events of a key that are remembered while their labels may still come."""


@dataclass(slots=True)
class _Past:
    """A remembered event. `features` becomes empty when no later event can use them any more."""

    event: EventKey
    features: Features
    label: str | None = None


class SeriesSettings(Protocol):
    """The settings of the section [serving.series]."""

    @property
    def lags(self) -> tuple[int, ...]: ...
    @property
    def means(self) -> tuple[int, ...]: ...
    @property
    def labels(self) -> int: ...
    @property
    def max_values(self) -> int: ...
    @property
    def lookback(self) -> int: ...


class Series:
    """Remembers the last events of each key and adds their features to later events. Thread-safe.

    `reader` reads labels from Kafka, if labels are features of later events.
    """

    def __init__(self, config: SeriesSettings) -> None:
        self.reader: SeriesLabels | None = None
        self._config = config
        self._num_kept = max(config.lookback, config.labels, LABEL_WAIT if config.labels else 0) + 1
        self._lock = threading.Lock()
        # The key that was silent for the longest comes first.
        self._keys: OrderedDict[str, deque[_Past]] = OrderedDict()
        # By the ids of the remembered events.
        self._keys_by_event_id: dict[str, str] = {}
        # The size of the memory: one for each event and one for each of its features.
        self._num_values = 0

    def start(self) -> None:
        if self.reader is not None:
            self.reader.start()

    def check(self, error: type[Exception]) -> None:
        """Raises `error` if the thread that reads labels has failed."""
        if self.reader is not None:
            self.reader.check(error)

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()

    def join(self, events: Sequence[Event]) -> list[Event]:
        """Returns the events with features of earlier events, and remembers them.

        Events without a key are returned as they are and are not remembered.
        """
        with self._lock:
            return [self._joined(event) if event.key else event for event in events]

    def add_label(self, feedback: Feedback, label: str) -> None:
        """Sets the label of an event, if the event is remembered. A later label replaces an earlier one."""
        with self._lock:
            for past in self._keys.get(self._keys_by_event_id.get(feedback.event_id, ""), ()):
                source, event_id = past.event
                if event_id == feedback.event_id and feedback.event_source in (None, source):
                    past.label = label

    def _joined(self, event: Event) -> Event:
        before = list(self._keys.get(event.key, ()))
        event_keys = [past.event for past in before]
        is_repeated = key_of(event) in event_keys
        if is_repeated:
            before = before[: event_keys.index(key_of(event))]
        past_features = self._past_features(before)
        if not is_repeated:
            self._remember(event)
        added = _fitting(past_features, event.features)
        return msgspec.structs.replace(event, features=added | event.features) if added else event

    def _past_features(self, before: Sequence[_Past]) -> Features:
        """Returns the features of an event that follows these events."""
        features: Features = {}
        for lag in self._config.lags:
            if lag <= len(before):
                features |= {f"{PAST}{lag}:{name}": value for name, value in before[-lag].features.items()}
        for num in self._config.means:
            features |= {f"{PAST}mean{num}:{name}": mean for name, mean in _means(before[-num:]).items()}
        labels = [past.label for past in reversed(before) if past.label is not None][: self._config.labels]
        return features | {f"{PAST}label:{place}": label for place, label in enumerate(labels, start=1)}

    def _remember(self, event: Event) -> None:
        lookback = self._config.lookback
        pasts = self._keys.setdefault(event.key, deque())
        self._keys.move_to_end(event.key)
        pasts.append(_Past(key_of(event), FEATURES.sent(event.features) if lookback else {}))
        self._keys_by_event_id[event.id] = event.key
        self._num_values += 1 + len(pasts[-1].features)
        # The oldest event whose features the next event could use is `lookback` events back. One more is kept, since
        # the last event may be repeated.
        if lookback > 0 and len(pasts) > lookback + 1:
            outdated = pasts[-2 - lookback]
            self._num_values -= len(outdated.features)
            outdated.features = {}
        # A longer history serves labels that come late.
        if len(pasts) > self._num_kept:
            self._forget(pasts.popleft(), event.key)
        while self._num_values > self._config.max_values and len(self._keys) > 1:
            oldest, forgotten = self._keys.popitem(last=False)
            for past in forgotten:
                self._forget(past, oldest)

    def _forget(self, past: _Past, key: str) -> None:
        self._num_values -= 1 + len(past.features)
        event_id = past.event[1]
        # A later event of another key may have the same id.
        if self._keys_by_event_id.get(event_id) == key:
            del self._keys_by_event_id[event_id]


def open_series(replica: Any) -> Series:
    """Returns the series of a replica, not started. See `wire.inputs.InputCodec.enricher` for `replica`."""
    series = Series(replica.settings.series)
    if replica.settings.series.labels:
        series.reader = SeriesLabels(
            replica.bus, series, replica.receipts, replica.labels, trust=replica.trust, backoff=replica.backoff
        )
    return series


def _means(pasts: Sequence[_Past]) -> dict[str, float]:
    """Returns the mean of each number over the events that have it."""
    columns: dict[str, list[float]] = {}
    for past in pasts:
        for name, value in past.features.items():
            if not isinstance(value, str):
                columns.setdefault(name, []).append(value)
    return {name: mean for name, values in columns.items() if math.isfinite(mean := sum(values) / len(values))}


def _fitting(added: Features, own: Features) -> Features:
    """Returns the features of `added` that are valid and not among `own`, at most MAX_FEATURES together with `own`."""
    valid = [name for name, value in added.items() if name not in own and not FEATURES.problem({name: value})]
    return {name: added[name] for name in valid[: MAX_FEATURES - len(own)]}


POLL_MS = 50
"""The longest wait of a poll, in milliseconds."""

log = structlog.get_logger("series")


class SeriesLabels:
    """Reads labels from Kafka in a thread and adds the trusted ones to `series`.

    `trust` has the limits for labels, and `labels` returns the current set of labels.
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
        """Raises `error` if the thread has failed."""
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
                # An outage is logged once.
                if num_failures == 1:
                    log.warning("labels_not_read", error=str(error))
                self._thread.closing.wait(self._backoff.pause_s(num_failures))

    def _add(self, received: Received[Any]) -> None:
        feedback: Feedback = received.record
        labels = self._labels()
        if labels.refusal(feedback.label_string, lambda _: True) or not self._is_trusted(feedback, received.log_ms):
            return
        self._series.add_label(feedback, render(labels.name_of(feedback.label_string)))

    def _is_trusted(self, feedback: Feedback, log_ms: int) -> bool:
        """Whether the label passes the checks of receipt, rate and share.

        The rate limit of a source runs on the times of the answers that it labels, as in the learner. A label without a
        receipt counts at the time when it was written to the topic.
        """
        refusal = self._receipts.refusal(
            feedback, is_required=self._trust.require_receipts, max_age_ms=1e3 * self._trust.receipt_max_age_s
        )
        answer_ms = receipt_time_ms(feedback.receipt) if feedback.receipt else log_ms
        return not refusal and self._rates.take(feedback.source, answer_ms) and self._shares.add(feedback.source)
