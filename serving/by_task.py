"""Events to answers, by all tasks that they ask: each encoder reads each event once, and each task scores by its heads.

    events --tasks of each, arm of each task--> what each encoder reads --one forward--> Vectors
    task by task --predict, of these vectors--> its answers --joined--> one Answer for each event

Tasks whose versions share an encoder and a precision cost one forward together, and a head each. Where encoders have
only their lower blocks in common, as after slow rounds on one encoder, these are computed once for the events of all
of them, and each encoder goes on with its upper blocks. So do the encoders of the arms of one task. An encoder that
shares nothing costs a forward of its own.

Rejected: an item of the queue for each task (an event would be finished several times), and one `predict` over all
tasks (arms, verdicts and vectors are of one task, and would be told apart in every step).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from model.packed import PackedEncoder
from model.quantized import QuantizedEncoder
from serving.predict import Predict
from serving.terms import EmbeddedText
from serving.weights.active import Live
from serving.weights.health import Vectors, of_rows
from serving.weights.precision import Choice
from wire.draws import arm_for
from wire.records import Answer, Event, TaskAnswer
from wire.tasks import DEFAULT

TASK_FIELDS: Final = tuple(field.name for field in msgspec.structs.fields(TaskAnswer))


def predict_by_task(
    predict: Predict, events: Sequence[Event], token_ids: Sequence[list[int]], live: Live, choice: Choice
) -> list[Answer]:
    """Returns the answer of each event, in order, by the tasks of `live` that it asks; at least one of them.

    Raises what `predict` raises.
    """
    if len(live) == 1 and len(_encoders(live)) == 1:
        ((task, versions),) = live.items()
        return predict(events, token_ids, versions, choice.of_task(task))
    rows_of = {task: _rows_of(events, task) for task in live}
    vectors = _encoded(events, token_ids, live, rows_of, choice)
    found: list[dict[str, Answer]] = [{} for _ in events]
    time_ms = 0
    for task, rows in rows_of.items():
        versions = replace(live[task], encode_shared=vectors.of, answered_ms=time_ms)
        picked, tokens = of_rows(rows, events, token_ids)
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


def _encoders(live: Live) -> set[PackedEncoder]:
    """Returns the encoders of all arms."""
    found: set[PackedEncoder] = set()
    for active in live.values():
        found |= {active.versions[arm.version].model.encoder for arm in active.plan.arms}
    return found


def _encoded(
    events: Sequence[Event],
    token_ids: Sequence[list[int]],
    live: Live,
    rows_of: Mapping[str, Sequence[int]],
    choice: Choice,
) -> Vectors:
    """Encodes each event by each encoder that answers it for a task: one batch for each encoder and precision, after
    one for the lower blocks of those that share some."""
    wanted = _wanted(events, live, rows_of, choice)
    vectors = Vectors(*(versions.health for versions in live.values()))
    for encoders, precision in _sharing(wanted):
        rows = sorted(set().union(*(wanted[encoder, precision] for encoder in encoders)))
        if rows:
            vectors.share(*of_rows(rows, events, token_ids), encoders, precision)
    for (encoder, precision), found in wanted.items():
        if found:
            vectors.of(*of_rows(sorted(found), events, token_ids), encoder, precision)
    return vectors


def _wanted(
    events: Sequence[Event], live: Live, rows_of: Mapping[str, Sequence[int]], choice: Choice
) -> dict[tuple[PackedEncoder, str], set[int]]:
    """Returns the rows of the events that each encoder answers, by its precision.

    The encoder of an arm is there if it answers none: `predict` asks it for a sample of those of other arms.
    """
    wanted: dict[tuple[PackedEncoder, str], set[int]] = {}
    for task, rows in rows_of.items():
        plan = live[task].plan
        precisions = choice.of_task(task)
        rows_of_version: dict[int, set[int]] = {}
        for number in {arm.version for arm in plan.arms}:
            encoder = live[task].versions[number].model.encoder
            rows_of_version[number] = wanted.setdefault((encoder, precisions[number]), set())
        for row in rows:
            rows_of_version[arm_for(events[row].entity, plan).version].add(row)
    return wanted


def _sharing(keys: Iterable[tuple[PackedEncoder, str]]) -> Iterator[tuple[list[QuantizedEncoder], str]]:
    """Yields the encoders that have the first block in common, where there are several, and their precision."""
    groups: defaultdict[tuple[str, str], list[QuantizedEncoder]] = defaultdict(list)
    for encoder, precision in keys:
        if isinstance(encoder, QuantizedEncoder) and encoder.prefixes:
            groups[precision, encoder.prefixes[1]].append(encoder)
    for (precision, _), encoders in groups.items():
        if len(encoders) > 1:
            yield encoders, precision


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
