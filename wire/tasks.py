"""The tasks of a service: several questions about each event. Each has its own labels, weights and rollout. Pure.

    Answer, Feedback, Quarantined --for_reader--> the part for one task: each learner and rollout has one task
    Event, Feedback --check--> BadMessage (unknown_task) if the service does not have the task

The default task has no name, and every service has it. A record that names no task belongs to the default task, also if
an older program wrote it. If an event names no tasks, all tasks answer it.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final, TypeVar, cast

from wire.errors import BadMessage
from wire.message import quote_text
from wire.records import Answer, Event, Feedback, Quarantined, TopicRecord

DEFAULT: Final = ""
UNKNOWN_TASK: Final = "unknown_task"
"""The reason to refuse an event or a label of a task that the service does not have."""

R = TypeVar("R", bound=TopicRecord)


@dataclass(frozen=True, slots=True)
class TaskNames:
    """The names of the tasks besides the default one, and the task that a reader belongs to."""

    names: tuple[str, ...] = ()
    reader: str = DEFAULT

    @property
    def all(self) -> tuple[str, ...]:
        return (DEFAULT, *self.names)

    def for_reader(self, record: R) -> R | None:
        """Returns the part of a record that is for the reader's task; None if the record is only for other tasks.

        For an answer, this is the answer of that task.
        """
        if isinstance(record, Answer):
            return cast(R | None, record.of_task(self.reader))
        return None if isinstance(record, Feedback | Quarantined) and record.task != self.reader else record

    def check(self, record: TopicRecord) -> None:
        """Raises BadMessage if an event or a label names a task that the service does not have."""
        if isinstance(record, Event | Feedback) and (problem := self.find_problem(record)):
            raise BadMessage(UNKNOWN_TASK, problem)

    def find_problem(self, record: Event | Feedback) -> str:
        """Returns what is wrong with the tasks that a record names, with the fix; "" if the service has all of them."""
        tasks = record.tasks if isinstance(record, Event) else (record.task,)
        return next((self.unknown_task_message(task) for task in tasks if task not in self.all), "")

    def unknown_task_message(self, task: str) -> str:
        """Returns a sentence that says that there is no such task, with a suggestion.

        >>> TaskNames(("urgency",)).unknown_task_message("urgent")
        "there is no task 'urgent'. Did you mean 'urgency'?"
        """
        close = get_close_matches(task, self.names, n=1)
        if close:
            fix = f"Did you mean {close[0]!r}?"
        elif self.names:
            fix = f"There are {', '.join(map(repr, self.names))}, and the default one, which has no name"
        else:
            fix = "There is only the default task, which has no name: [tasks.NAME] in the settings adds others"
        return f"there is no task {quote_text(task)}. {fix}"
