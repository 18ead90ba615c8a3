"""The events that have their label, for a while with what that is: a label may come again, or take its place. Pure.

    answer, label --add--> aliases by their hashes (`wire.recent`), and what was said of the last MAX_SAID events
    another label --repeated--> duplicate | correction | ambiguous

A label replaces the one before it if an operator has approved it, or if it lies in a mapped topic, which the operator
of the service has named (`bus.map.feedback.on_second_label`). The same label again is a duplicate. Beyond MAX_SAID
events nobody knows whether it is the same: it is a correction then, which changes nothing.

Rejected: looking for the label of the event in the replay memory (it holds events by class, and a search takes
milliseconds).
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Final

from learner.labels.outcomes import Unmatched
from learner.labels.sample import Waiting
from wire.events import aliases_of, corrected_alias, encoded_key, lookup_alias
from wire.recent import RecentHashes, hash_of
from wire.records import Feedback

MAX_SAID: Final = 10_000
"""Number of events of which it is known what they were said to be."""


class LabelledEvents:
    """Holds the events, by their `aliases`. A label is remembered as the hash of what it says."""

    def __init__(self, capacity: int, hashes: Iterable[int] = (), said: Mapping[int, int] | None = None) -> None:
        self.aliases = RecentHashes(capacity, hashes)
        self._said = OrderedDict(said or {})

    def add(self, answer: Waiting, feedback: Feedback) -> None:
        """Remembers that an event has this label now."""
        for alias in aliases_of(answer):
            self.aliases.add(alias)
        for alias in (encoded_key(answer.key), lookup_alias(feedback)):
            self._said[hash_of(alias)] = hash_of(feedback.target.encode())
            self._said.move_to_end(hash_of(alias))
        while len(self._said) > 2 * MAX_SAID:
            self._said.popitem(last=False)

    def forget(self, answers: Iterable[Waiting]) -> None:
        """Takes note that these events have no label any more."""
        aliases = list(chain.from_iterable(map(aliases_of, answers)))
        self.aliases.discard(aliases)
        for alias in aliases:
            self._said.pop(hash_of(alias), None)

    def repeated(self, feedback: Feedback, *, may_correct: bool) -> Unmatched:
        """Returns what becomes of a label whose event has one."""
        if not may_correct:
            return Unmatched.DUPLICATE
        alias = corrected_alias(feedback)
        if alias is not None and alias in self.aliases:
            return Unmatched.DUPLICATE if self._is_said(alias, feedback) else Unmatched.CORRECTION
        is_same = feedback.replaces and self._is_said(lookup_alias(feedback), feedback)
        return Unmatched.DUPLICATE if is_same else Unmatched.AMBIGUOUS

    @property
    def said(self) -> dict[int, int]:
        """The hashes of the labels by those of the aliases, oldest first."""
        return dict(self._said)

    def _is_said(self, alias: bytes, feedback: Feedback) -> bool:
        return self._said.get(hash_of(alias)) == hash_of(feedback.target.encode())
