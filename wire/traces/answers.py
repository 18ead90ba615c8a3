"""The traces of answers, until their labels come: a label continues the trace of its answer.

    Answer with a traceparent that is sampled --add--> TracedAnswers --of: the event of a label--> that traceparent

It is bounded, and in memory alone: a trace is a diagnosis, and no restart has to go on with it.

Rejected: a field of the label (its senders know no trace of ours), and of what the learner keeps until a label comes
(every checkpoint would carry it).
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from wire.recent import hash_of
from wire.records import Answer
from wire.traces.exporter import SAMPLED, TRACEPARENT

MAX_ANSWERS: Final = 10_000
"""Traced answers whose label has not come; the oldest are forgotten first."""


def traceparent_of(headers: Iterable[tuple[str, str]]) -> str:
    """Returns the traceparent among the headers of a record, "" where there is none."""
    return next((text for name, text in headers if name == TRACEPARENT), "")


class TracedAnswers:
    """Verbs: add, take. Of answers to events of one id, the last counts. Ids are kept as hashes."""

    def __init__(self, max_answers: int = MAX_ANSWERS) -> None:
        self._max_answers = max_answers
        self._found: OrderedDict[int, tuple[str, str]] = OrderedDict()

    def add(self, answer: Answer) -> None:
        """Remembers an answer, where its trace is sampled."""
        parent = traceparent_of(answer.headers)
        if not parent.endswith(SAMPLED):
            return
        name = hash_of(answer.event_id.encode())
        self._found[name] = (answer.source, parent)
        self._found.move_to_end(name)
        if len(self._found) > self._max_answers:
            self._found.popitem(last=False)

    def take(self, event_id: str, source: str | None) -> str:
        """Returns the traceparent of the answer to an event, and forgets it; "" where none is known.

        `source` is None where the label does not say it.
        """
        name = hash_of(event_id.encode())
        answered, parent = self._found.get(name, ("", ""))
        if not parent or source not in (None, answered):
            return ""
        del self._found[name]
        return parent
