"""Events to answers, by all tasks that they ask: each encoder reads each event once, and each task scores by its heads.

    events --tasks of each, arm of each task--> what each encoder reads --one forward--> Vectors
    task by task --predict, of these vectors--> its answers --joined--> one Answer for each event

Tasks whose versions share an encoder and a precision cost one forward together, and a head each. A task with an encoder
of its own costs a forward of its own.

Rejected: an item of the queue for each task (an event would be finished several times), and one `predict` over all
tasks (arms, verdicts and vectors are of one task, and would be told apart in every step).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec
import torch
from torch import Tensor

from model.packed import PackedEncoder
from serving.predict import Predict
from serving.terms import EmbeddedText
from serving.weights.active import Live
from serving.weights.health import Health
from serving.weights.precision import Choice
from wire.records import Answer, Event, TaskAnswer
from wire.rollout import arm_for
from wire.tasks import DEFAULT

TASK_FIELDS: Final = tuple(field.name for field in msgspec.structs.fields(TaskAnswer))


class Vectors:
    """The vectors of the events of one batch, by encoder and precision: each is computed once, whoever asks.

    The forwards count for the versions of all tasks, in the `health` of each.
    """

    def __init__(self, *health: Health) -> None:
        self._first, *self._others = health
        self._known: defaultdict[tuple[int, str], dict[int, Tensor]] = defaultdict(dict)

    def of(
        self, events: Sequence[Event], token_ids: Sequence[list[int]], encoder: PackedEncoder, precision: str
    ) -> Tensor:
        """Returns z_BD of events, which are known by their identity, and have these tokens. Raises BadTokens."""
        known = self._known[id(encoder), precision]
        new = [row for row, event in enumerate(events) if id(event) not in known]
        if new:
            picked = [events[row] for row in new]
            tokens = [token_ids[row] for row in new]
            z_BD = self._first.encode_events(picked, tokens, encoder, precision, others=self._others)
            known |= zip(map(id, picked), z_BD, strict=True)
            if len(new) == len(events):
                return z_BD
        return torch.stack([known[id(event)] for event in events])


def predict_by_task(
    predict: Predict, events: Sequence[Event], token_ids: Sequence[list[int]], live: Live, choice: Choice
) -> list[Answer]:
    """Returns the answer of each event, in order, by the tasks of `live` that it asks; at least one of them.

    Raises what `predict` raises.
    """
    if len(live) == 1:
        ((task, versions),) = live.items()
        return predict(events, token_ids, versions, choice.of_task(task))
    rows_of = {task: _rows_of(events, task) for task in live}
    vectors = _encoded(events, token_ids, live, rows_of, choice)
    found: list[dict[str, Answer]] = [{} for _ in events]
    time_ms = 0
    for task, rows in rows_of.items():
        versions = replace(live[task], encode_shared=vectors.of, answered_ms=time_ms)
        picked = [events[row] for row in rows]
        tokens = [token_ids[row] for row in rows]
        answers = predict(picked, tokens, versions, choice.of_task(task)) if rows else []
        for row, answer in zip(rows, answers, strict=True):
            found[row][task] = answer
            time_ms = answer.time_ms  # that of all: a receipt has the time of its answer
    return [_joined(event, answers) for event, answers in zip(events, found, strict=True)]


def _rows_of(events: Sequence[Event], task: str) -> list[int]:
    """Returns the rows of the events that ask a task; without any, an event asks all."""
    return [row for row, event in enumerate(events) if not event.tasks or task in event.tasks]


def by_task(answer: Answer | EmbeddedText) -> Iterator[tuple[str, TaskAnswer | EmbeddedText]]:
    """Yields what each task answers; a vector is by the default one."""
    if isinstance(answer, EmbeddedText):
        yield DEFAULT, answer
        return
    yield answer.task, answer
    yield from answer.tasks.items()


def _encoded(
    events: Sequence[Event],
    token_ids: Sequence[list[int]],
    live: Live,
    rows_of: Mapping[str, Sequence[int]],
    choice: Choice,
) -> Vectors:
    """Encodes each event by each encoder that answers it for a task: one batch for each encoder and precision."""
    wanted: defaultdict[tuple[PackedEncoder, str], set[int]] = defaultdict(set)
    for task, rows in rows_of.items():
        versions = live[task].versions
        precisions = choice.of_task(task)
        for row in rows:
            number = arm_for(events[row].entity, live[task].plan).version
            wanted[versions[number].model.encoder, precisions[number]].add(row)
    vectors = Vectors(*(versions.health for versions in live.values()))
    for (encoder, precision), found in wanted.items():
        rows = sorted(found)
        vectors.of([events[row] for row in rows], [token_ids[row] for row in rows], encoder, precision)
    return vectors


def _joined(event: Event, answers: Mapping[str, Answer]) -> Answer:
    """Returns one answer: that of the first task that is asked, with those of the others."""
    if len(answers) == 1:
        (answer,) = answers.values()
        return answer
    first, *others = dict.fromkeys(event.tasks) if event.tasks else sorted(answers)
    vector = next((answer.vector for answer in answers.values() if answer.vector), None)
    tasks = {task: _of_task(answers[task]) for task in others}
    return msgspec.structs.replace(answers[first], vector=vector, tasks=tasks)


def _of_task(answer: Answer) -> TaskAnswer:
    return TaskAnswer(**{name: getattr(answer, name) for name in TASK_FIELDS})
