"""The judged events: events that have a label, each with the label that counts. A label may be corrected.

    aliases of an event, JudgedLabel --add--> JudgedEvent --unsaved--> the store, together with the tallies
    alias --> was the event judged?  find --> the label that an approved label replaces  --correct--> ...

A correction removes the earlier label from the counts that contain it. Which counts these are follows from the label's
number and its receipt (`rollout/tallies.py`), so it is also known after a restart.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from wire.kinds import DEFAULT, KINDS, Fingerprint
from wire.receipts import Verdicts
from wire.recent import RecentHashes, name_hash64
from wire.records import Record

MAX_EVENTS: Final = 10_000
"""Number of latest events whose labels can be corrected. Of an older event, only its aliases are remembered, so that it
is not judged twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedLabel:
    """A label from `source`, with the versions' predictions for its event (`verdicts`).

    - `name`: the hash of the label.
    - `answer_ms`: the time at which the event was answered.
    - `number`: the number of the label among all judged labels.
    - `entity`: the hash of the event's entity.
    - `is_audited`: the event is in the random sample of events whose labels are always requested, whatever the answer
      was.
    - `corrected`: the label that this label replaces.
    - `draw`: the random number of the event (`wire.kinds`).
    - `share`: the share of its class's labels that count as evidence. This label counts if `draw` is below it.
    - `kind`: the kind of the label, which compares it with the predictions.
    - `labelled`: the fingerprint of the label, which is compared with the predictions; None if it is `name`.
    """

    verdicts: Verdicts
    name: int
    source: str
    answer_ms: int
    number: int = 0
    entity: int = 0
    is_audited: bool = False
    corrected: "JudgedLabel | None" = None
    draw: float = 0.0
    share: float = 1.0
    kind: str = DEFAULT
    labelled: Fingerprint | None = None

    def correctness(self) -> dict[int, bool]:
        """Returns, by version, whether its prediction counts as right: whether its agreement with the label exceeds
        `draw`.

        Returns an empty dict if the label does not count as evidence.
        """
        if self.draw >= self.share:
            return {}
        agreement = KINDS.get(self.kind).agreement
        labelled = self.name if self.labelled is None else self.labelled
        return {version: self.draw < agreement(predicted, labelled) for version, predicted in self.verdicts.names}


class JudgedEvent(Record, frozen=True, kw_only=True):
    """A judged event: the hashes of its aliases, and the label that counts.

    `number` is the number of its first label.
    """

    number: int
    aliases: tuple[int, ...]
    label: JudgedLabel


class JudgedEvents:
    """The last judged events. Verbs: next_number, add, correct, find, mark_saved.

    - `max_known`: the number of aliases that are remembered.
    - `seed`: keys the hashes of the aliases.
    - `events`: the saved events in their order.
    - `last_number`: the number of the last label in the tallies.
    """

    def __init__(self, max_known: int, *, seed: int, events: Iterable[JudgedEvent] = (), last_number: int = 0) -> None:
        self.seed = seed
        self._last_number = last_number
        # Events by their numbers.
        self._events: OrderedDict[int, JudgedEvent] = OrderedDict()
        # Events' numbers by alias.
        self._numbers: dict[int, int] = {}
        self._unsaved: deque[JudgedEvent] = deque(maxlen=MAX_EVENTS)
        for event in events:
            self._keep(event)
        self._known = RecentHashes(max_known, self._numbers, seed=seed)

    def next_number(self) -> int:
        """Returns the number of the next label."""
        self._last_number += 1
        return self._last_number

    def add(self, aliases: Iterable[bytes], label: JudgedLabel) -> None:
        """Remembers that an event was judged, and its label as long as the label can be corrected."""
        names = tuple(aliases)
        for name in names:
            self._known.add(name)
        hashes = tuple(name_hash64(name, self.seed) for name in names)
        self._record(JudgedEvent(number=label.number, aliases=hashes, label=label))

    def correct(self, event: JudgedEvent, label: JudgedLabel) -> None:
        """Replaces the label of the event by `label`. Its field `corrected` has the earlier label."""
        self._record(msgspec.structs.replace(event, label=replace(label, corrected=None)))

    def find(self, alias: bytes) -> JudgedEvent | None:
        """Returns the event with this alias if its label can be corrected."""
        number = self._numbers.get(name_hash64(alias, self.seed))
        return None if number is None else self._events[number]

    def __contains__(self, alias: bytes) -> bool:
        return alias in self._known

    @property
    def unsaved(self) -> Sequence[JudgedEvent]:
        """Events that were added or corrected since `mark_saved`."""
        return tuple(self._unsaved)

    def mark_saved(self) -> None:
        self._unsaved.clear()

    def _record(self, event: JudgedEvent) -> None:
        self._keep(event)
        self._unsaved.append(event)

    def _keep(self, event: JudgedEvent) -> None:
        """Keeps the event in the place of its earlier state, and drops the oldest event if there are too many."""
        self._events[event.number] = event
        self._numbers.update(dict.fromkeys(event.aliases, event.number))
        if len(self._events) > MAX_EVENTS:
            number, oldest = self._events.popitem(last=False)
            for alias in oldest.aliases:
                if self._numbers.get(alias) == number:
                    del self._numbers[alias]
