"""The past of a series as features of its next event: a replica remembers the last events and labels of each key.

    Event --joined--> Event with the features of those of its key before it --> tokens, queue, engine --> Answer
    Feedback --add_label--> the event of that id, where it is remembered

    past:2:price        the price of the event two before it             (`serving.series.lags`)
    past:mean48:price   the mean of the last 48 prices before it         (`serving.series.means`)
    past:label:1        the newest label of its key that has come        (`serving.series.labels`)

They are computed once, where an event comes in, and the answer carries them as all features. So every version that
answers, and the learner, read the same numbers. What an event has under such a name already stays as it is, and what is
not known is left out. An event that comes again is remembered once; the last one of its key gets what it got before.

The events of a key come to one replica in their order over Kafka, where they share a partition. Over HTTP each replica
knows those alone that came to itself. What is remembered is in memory: after a restart, or where a partition has moved
to another replica, a key begins anew.

Rejected: the past as a state of the learner (an event would wait for it), and as a topic of its own (one more record
for each event, for what its key fills again within a few).
"""

import math
import threading
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from serving.series_config import SeriesConfig
from wire.events import EventKey, key_of
from wire.features import MAX_FEATURES, PAST, Features, own_features, problem_of
from wire.records import Event, Feedback

LABEL_WAIT: Final = 64
"""The last events of a key whose labels may still come."""


@dataclass(slots=True)
class _Past:
    """An event that has come. `features` is empty once they matter to no later event."""

    event: EventKey
    features: Features
    label: str | None = None


class Series:
    """Remembers the last events of each key. Any thread may call it."""

    def __init__(self, config: SeriesConfig) -> None:
        self._config = config
        self._num_kept = max(config.depth, config.labels, LABEL_WAIT if config.labels else 0) + 1
        self._lock = threading.Lock()
        self._keys: OrderedDict[str, deque[_Past]] = OrderedDict()  # oldest first, the key of the last event last
        self._key_of: dict[str, str] = {}  # by the id of an event that is remembered
        self._num_values = 0

    @property
    def needs_labels(self) -> bool:
        """Whether labels are features of later events."""
        return self._config.labels > 0

    def joined(self, events: Sequence[Event]) -> list[Event]:
        """Returns the events with what they take over, and remembers them. One without a key is as it was."""
        if not self._config.is_used:
            return list(events)
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
        pasts.append(_Past(key_of(event), own_features(event.features) if depth else {}))
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
    fitting = [name for name, value in added.items() if name not in own and not problem_of({name: value})]
    return {name: added[name] for name in fitting[: MAX_FEATURES - len(own)]}
