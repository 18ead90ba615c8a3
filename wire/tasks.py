"""The tasks of a service: several questions about each event, each with labels, weights and a rollout of its own. Pure.

    Answer, Feedback, Quarantined --own--> as one task reads them    a learner or a rollout, which follow one
    Event, Feedback --check--> BadMessage: unknown_task              a task that the service does not have

The default task has no name, and is always there: a service without other tasks is that one. What comes without a task
is of it, as everything is that was written before there were tasks; an event without any is answered by all of them.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, TypeVar, cast

from wire.errors import BadMessage
from wire.message import shown
from wire.records import Answer, Event, Feedback, Quarantined, TopicRecord

DEFAULT: Final = ""
UNKNOWN_TASK: Final = "unknown_task"
"""The reason to refuse what is for a task that there is not."""

R = TypeVar("R", bound=TopicRecord)


@dataclass(frozen=True, slots=True)
class TaskNames:
    """The names of the tasks besides the default one, and which of them a reader is of."""

    names: tuple[str, ...] = ()
    reader: str = DEFAULT

    @property
    def all(self) -> tuple[str, ...]:
        return (DEFAULT, *self.names)

    def own(self, record: R) -> R | None:
        """Returns a record as the reader's task reads it: an answer as that of the task; None where it is of others."""
        if isinstance(record, Answer):
            return cast(R | None, record.of_task(self.reader))
        return None if isinstance(record, Feedback | Quarantined) and record.task != self.reader else record

    def check(self, record: TopicRecord) -> None:
        """Raises BadMessage where an event, or a label, is for a task that there is not."""
        if isinstance(record, Event | Feedback) and (problem := self.problem_of(record)):
            raise BadMessage(UNKNOWN_TASK, problem)

    def problem_of(self, record: Event | Feedback) -> str:
        """Returns what is wrong with the tasks that a record names, with the fix; "" where there are all of them."""
        asked = record.tasks if isinstance(record, Event) else (record.task,)
        return next((self.why_unknown(task) for task in asked if task not in self.all), "")

    def why_unknown(self, task: str) -> str:
        """Says that there is no such task, and which there are.

        >>> TaskNames(("urgency",)).why_unknown("urgent")
        "there is no task 'urgent'. Did you mean 'urgency'?"
        """
        close = get_close_matches(task, self.names, n=1)
        if close:
            fix = f"Did you mean {close[0]!r}?"
        elif self.names:
            fix = f"There are {', '.join(map(repr, self.names))}, and the default one, which has no name"
        else:
            fix = "There is the default one alone, which has no name: [tasks.NAME] in the settings adds others"
        return f"there is no task {shown(task)}. {fix}"
