"""The events that were judged, with the label that counted for each: it counts once, and may be corrected.

    aliases of an event, JudgedLabel --add--> JudgedEvent --unsaved--> the store, beside the tallies
    alias --> was the event judged?  find --> what an approved label replaces  --correct--> ...

A label that is corrected is taken out of the counts that it is in. Which these are follows from its number and from
what its receipt said (`rollout/tallies.py`), so that a controller that starts again knows it as well.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from wire.kinds import DEFAULT, KINDS, Fingerprint
from wire.receipts import Verdicts
from wire.recent import RecentHashes, hash_of
from wire.records import Record

MAX_EVENTS: Final = 10_000
"""Most events whose labels may be corrected. Of those before them it is only known that they were judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedLabel:
    """A label of `source`, and what the versions named when the event was answered at `answer_ms`.

    `name` is the hash of the label, and `labelled` its fingerprint, as verdicts have theirs, by its `kind`; without
    one, it is the hash. `draw` is what is drawn for the event (`wire.kinds`). `share` is that of the labels of its
    class which count as evidence: this one does where the draw is below it. `number` counts all labels that were
    judged, in their order. `entity` is that of the event, by its
    hash. `is_audited` says that the label was asked for, whatever the answer. `corrected` is the label whose place this
    one takes.
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

    def rights(self) -> dict[int, bool]:
        """Returns for each version that was at hand whether it named the label, as far as the draw asks.

        There is nothing where the label does not count as evidence.
        """
        if self.draw >= self.share:
            return {}
        agreement = KINDS.get(self.kind).agreement
        labelled = self.name if self.labelled is None else self.labelled
        return {version: self.draw < agreement(named, labelled) for version, named in self.verdicts.names}


class JudgedEvent(Record, frozen=True, kw_only=True):
    """An event whose label was judged: its aliases by their hashes, and the label that counts.

    `number` is that of its first label.
    """

    number: int
    aliases: tuple[int, ...]
    label: JudgedLabel


class JudgedEvents:
    """The last events, at most `max_known` of their aliases. Verbs: number, add, correct, find, mark_saved.

    `events` are those that were saved, in their order, and `last_number` that of the last label in the tallies. `seed`
    keys the hashes of the aliases.
    """

    def __init__(self, max_known: int, *, seed: int, events: Iterable[JudgedEvent] = (), last_number: int = 0) -> None:
        self.seed = seed
        self._last_number = last_number
        self._events: OrderedDict[int, JudgedEvent] = OrderedDict()  # by their numbers
        self._numbers: dict[int, int] = {}  # by alias
        self._unsaved: deque[JudgedEvent] = deque(maxlen=MAX_EVENTS)
        for event in events:
            self._keep(event)
        self._known = RecentHashes(max_known, self._numbers, seed=seed)

    def number(self) -> int:
        """Returns the number of the next label."""
        self._last_number += 1
        return self._last_number

    def add(self, aliases: Iterable[bytes], label: JudgedLabel) -> None:
        """Remembers for long that an event was judged, and for a while how."""
        names = tuple(aliases)
        for name in names:
            self._known.add(name)
        hashes = tuple(hash_of(name, self.seed) for name in names)
        self._take_in(JudgedEvent(number=label.number, aliases=hashes, label=label))

    def correct(self, event: JudgedEvent, label: JudgedLabel) -> None:
        """Remembers that `label`, which has the label before in `corrected`, counts for the event."""
        self._take_in(msgspec.structs.replace(event, label=replace(label, corrected=None)))

    def find(self, alias: bytes) -> JudgedEvent | None:
        """Returns the event, if its label may be corrected."""
        number = self._numbers.get(hash_of(alias, self.seed))
        return None if number is None else self._events[number]

    def __contains__(self, alias: bytes) -> bool:
        return alias in self._known

    @property
    def unsaved(self) -> Sequence[JudgedEvent]:
        """What came or changed since `mark_saved`."""
        return tuple(self._unsaved)

    def mark_saved(self) -> None:
        self._unsaved.clear()

    def _take_in(self, event: JudgedEvent) -> None:
        self._keep(event)
        self._unsaved.append(event)

    def _keep(self, event: JudgedEvent) -> None:
        """Keeps the event in the place of what was known of it, and forgets the oldest one that is too many."""
        self._events[event.number] = event
        self._numbers.update(dict.fromkeys(event.aliases, event.number))
        if len(self._events) > MAX_EVENTS:
            number, oldest = self._events.popitem(last=False)
            for alias in oldest.aliases:
                if self._numbers.get(alias) == number:
                    del self._numbers[alias]
