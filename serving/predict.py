"""Makes answers from events and their token ids, under each task's plan. Pure: depends only on events, weights and
plans.

    predict_by_task: events --tasks, arms--> rows for each encoder --one forward pass each--> EncodingCache
                     each task --predict_many, from the cache--> its answers --_join--> one Answer for each event
    predict_many:    events --arm_for--> the arm of each row --its encoder--> z_BD --each version's head--> Answer

**Arms.** If the versions of two arms differ only in their heads, they share the encoder object. If they also use the
same precision, they share a forward pass, so two arms cost as much as one. Every live version with that encoder scores
every row, whichever version answers. The receipt contains all their predictions, so one label judges all versions.

If the arms have several encoders, a sample of the events goes through all of them, so that labels also compare versions
with different encoders. Up to PAIRED_PER_S events a second, the sample is all events; above that rate, it is
PAIRED_PER_S events a second. The sooner versions are compared, the sooner a better one answers.

**Tasks.** Tasks whose versions share an encoder and a precision share a forward pass; each task adds only a head. Two
encoders may share only their lower blocks, for example after slow rounds on one encoder. The shared blocks are then
computed once for the events of all these encoders, and each encoder continues with its upper blocks. The same is true
for the encoders of one task's arms. An encoder that shares nothing costs a forward pass of its own.

**Load.** If another full batch waits, events come faster than they are answered. The present batch then does no extra
work (`sheds_extras`): each event goes through one encoder only, and only texts of at least LONG_TOKENS get a vector;
the learner encodes the other texts itself. With the extra work, and three encoders in the plan, a replica answered half
as many events a second.

Shape suffixes: B texts of one encoder, D width.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import torch
from torch import Tensor

from model.packed import PackedEncoder
from model.ragged import RaggedBatch
from serving.encodings import EncodingCache, select_rows
from serving.models import ActiveVersions, LiveVersions, PrecisionChoice, Version
from serving.queue import EmbeddedText
from serving.ranking import Scored, VersionFingerprints, fingerprints_by_row, rank_texts
from wire.draws import PAIRED, arm_for, is_drawn
from wire.events import content
from wire.inputs import fields_of
from wire.kinds import ANSWER_FIELDS, field_with
from wire.receipts import Receipts, Verdicts
from wire.records import Answer, Arm, Event, TaskAnswer, TextVector

PAIRED_PER_S: Final = 50.0
"""Number of events a second that one replica passes through the encoders of all arms. Each further encoder costs a
forward pass."""

LONG_TOKENS: Final = 256
"""Answers to texts of at least this many tokens always contain the vector, because sending it is far cheaper than
encoding the text again."""

EncodeEvents: TypeAlias = Callable[[Sequence[Event], Sequence[list[int]], PackedEncoder, str], Tensor]
"""(events, token ids of each, encoder, precision) -> z_BD"""

Predict: TypeAlias = Callable[
    [Sequence[Event], Sequence[list[int]], ActiveVersions, Mapping[int, str], EncodingCache | None], list[Answer]
]
"""(events, token ids of each, live versions, precision by version number, cache) -> one answer for each event

The cache holds the batch's vectors; it is None if no other task or encoder shares the batch.
"""


def predict_many(
    events: Sequence[Event],
    token_ids: Sequence[list[int]],
    live: ActiveVersions,
    precisions: Mapping[int, str],
    encodings: EncodingCache | None = None,
    *,
    top_scores: int,
    receipts: Receipts,
    now_ms: Callable[[], int],
) -> list[Answer]:
    """Returns an answer with a receipt for each event, in order. `token_ids[i]` belong to `events[i]`, at least one.

    `precisions` has the precision of each version in `live`, by its number. The time of the answers is `now_ms()` after
    the scores are computed; if another task has answered the batch before (`encodings`), it is the time of those
    answers.

    Raises BadTokens. Raises ValueError if the model returns a value that is not finite.
    """
    encode = encodings.vectors if encodings else live.health.encode_events
    arms = [arm_for(event.entity, live.plan) for event in events]
    versions = [live.versions[arm.version] for arm in arms]
    predictions = _predict_with_own_encoders(encode, events, token_ids, live, versions, precisions, top_scores)
    if len(live.encoders) > 1 and not live.sheds_extras:
        of_others = _predict_with_other_encoders(encode, events, token_ids, live, versions, precisions, receipts)
        for row, others in of_others.items():
            predictions.fingerprints[row] = tuple(sorted(predictions.fingerprints[row] + others))
    time_ms = encodings.answered_ms if encodings and encodings.answered_ms else now_ms()
    answers: list[Answer] = []
    for row, (event, arm) in enumerate(zip(events, arms, strict=True)):
        verdicts = Verdicts(arm.name, arm.version, predictions.fingerprints[row])
        receipt = receipts.of(event.id, time_ms=time_ms, entity=event.entity, verdicts=verdicts, task=live.task)
        vector: TextVector | None = None
        z_D = predictions.vectors.get(row)
        encoding = versions[row].encoding
        if z_D is not None and encoding and _sends_vector(event, len(token_ids[row]), live):
            vector = receipts.vector(content(event), z_D.numpy().astype("<f4", copy=False).tobytes(), encoding)
        answers.append(
            _answer(
                event,
                predictions.scored[row],
                live,
                arm=arm,
                precision=precisions[arm.version],
                receipt=receipt,
                vector=vector,
                time_ms=time_ms,
            )
        )
    return answers


class _Predictions(NamedTuple):
    """What the versions predict, by row.

    - `scored`: the prediction of the version that answers the row
    - `fingerprints`: the predictions of all versions that have scored the row, for its receipt
    - `vectors`: z_D in the most accurate precision, if the row was encoded in it: the learner reuses no other one
    """

    scored: dict[int, Scored]
    fingerprints: dict[int, VersionFingerprints]
    vectors: dict[int, Tensor]


def _predict_with_own_encoders(
    encode: EncodeEvents,
    events: Sequence[Event],
    token_ids: Sequence[list[int]],
    live: ActiveVersions,
    versions: Sequence[Version],
    precisions: Mapping[int, str],
    top_scores: int,
) -> _Predictions:
    """Returns the predictions of the versions that share the encoder of the version that answers the row.

    `versions[i]` answers `events[i]`. There is one forward pass for each encoder and precision.
    """
    predictions = _Predictions({}, {}, {})
    for rows in group_rows([(id(version.model.encoder), precisions[version.number]) for version in versions]):
        first = versions[rows[0]]
        precision = precisions[first.number]
        picked = (events, token_ids) if len(rows) == len(events) else select_rows(rows, events, token_ids)
        z_BD = encode(*picked, first.model.encoder, precision)
        rankings = rank_texts(z_BD, live.cohorts[first.number], top_scores)
        # Each row is answered by the version of its arm alone.
        for indices in group_rows([versions[row].number for row in rows]):
            ranking = rankings[versions[rows[indices[0]]].number]
            predictions.scored.update(zip([rows[index] for index in indices], ranking.scored(indices), strict=True))
        predictions.fingerprints.update(zip(rows, fingerprints_by_row(rankings), strict=True))
        if precision == first.model.encoder.precisions[0]:
            predictions.vectors.update(zip(rows, z_BD, strict=True))
    return predictions


def _sends_vector(event: Event, num_tokens: int, live: ActiveVersions) -> bool:
    """Returns whether the answer to `event`, a text of `num_tokens`, contains the vector of the text."""
    # The vector of a truncated text depends on the length limit.
    is_whole = num_tokens < live.max_tokens
    return bool(event.text) and is_whole and (num_tokens >= LONG_TOKENS or not live.sheds_extras)


def _predict_with_other_encoders(
    encode: EncodeEvents,
    events: Sequence[Event],
    token_ids: Sequence[list[int]],
    live: ActiveVersions,
    versions: Sequence[Version],
    precisions: Mapping[int, str],
    receipts: Receipts,
) -> dict[int, VersionFingerprints]:
    """Returns, for each sampled row, the predictions of versions with another encoder than the version that answers.

    `versions[i]` answers `events[i]`. The sample depends on the ids and the rate of the events, never on their
    contents.
    """
    # One version stands for each encoder; `cohorts` has the other versions that share it.
    encoders = {live.versions[arm.version].model.encoder: live.versions[arm.version] for arm in live.plan.arms}
    sampled = [row for row, event in enumerate(events) if is_drawn(receipts.draws, PAIRED, event.id, live.paired_share)]
    fingerprints: dict[int, VersionFingerprints] = {}
    for encoder, first in encoders.items():
        rows = [row for row in sampled if versions[row].model.encoder is not encoder]
        if rows:
            z_BD = encode(*select_rows(rows, events, token_ids), encoder, precisions[first.number])
            rankings = rank_texts(z_BD, live.cohorts[first.number], 1)
            for row, others in zip(rows, fingerprints_by_row(rankings), strict=True):
                fingerprints[row] = fingerprints.get(row, ()) + others
    return fingerprints


def group_rows(keys: Sequence[Hashable]) -> list[list[int]]:
    """Returns one list of indices for each distinct key, in the order in which the keys first appear."""
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return list(groups.values())


def _answer(
    event: Event,
    scored: Scored,
    live: ActiveVersions,
    *,
    arm: Arm,
    precision: str,
    receipt: str,
    vector: TextVector | None,
    time_ms: int,
) -> Answer:
    version = live.versions[arm.version]
    predicted = scored.predicted
    label_fields: dict[str, Any] = {"label": None, **field_with(version.kind, predicted.value, ANSWER_FIELDS)}
    answer = Answer(
        event_id=event.id,
        **fields_of(event),
        score=predicted.score,
        scores=predicted.scores,
        weights_version=arm.version,
        arm=arm.name,
        precision=precision,
        rollout_revision=live.plan.revision,
        key=event.key,
        source=event.source,
        event_time_ms=event.time_ms,
        time_ms=time_ms,
        receipt=receipt,
        vector=vector,
        headers=event.headers,
        task=live.task,
        **label_fields,
    )
    return version.refusal.apply(answer, scored.certainty) if version.refusal else answer


def embed_many(token_ids: Sequence[list[int]], live: ActiveVersions) -> list[EmbeddedText]:
    """Returns the vector of each text.

    It is computed by the version of the first arm, in that version's most accurate precision. So it depends neither on
    the load nor on the arm of an entity. Raises BadTokens. Raises ValueError if the model returns a value that is not
    finite.
    """
    arm = live.plan.arms[0]
    version = live.versions[arm.version]
    precision = version.model.encoder.precisions[0]
    z_BD = live.health.encode(version.model.encoder, RaggedBatch.of(token_ids), precision)
    if not torch.isfinite(z_BD).all():
        raise ValueError(f"version {version.number} gives a vector that is not finite")
    return [
        EmbeddedText(
            z=z_D.numpy().astype("<f4", copy=False).tobytes(),
            weights_version=version.number,
            arm=arm.name,
            precision=precision,
            encoding=version.encoding,
            num_tokens=len(tokens),
        )
        for tokens, z_D in zip(token_ids, z_BD, strict=True)
    ]


TASK_FIELDS: Final = tuple(field.name for field in msgspec.structs.fields(TaskAnswer))


def predict_by_task(
    predict: Predict,
    events: Sequence[Event],
    token_ids: Sequence[list[int]],
    live: LiveVersions,
    choice: PrecisionChoice,
) -> list[Answer]:
    """Returns one answer for each event, in order, from the tasks that the event names.

    `live` must have at least one of these tasks. Raises the errors of `predict`.
    """
    # One task with one encoder is the usual case: it needs no cache.
    if len(live) == 1:
        ((task, versions),) = live.items()
        if len(versions.encoders) == 1:
            return predict(events, token_ids, versions, choice.of_task(task), None)
    rows_by_task = {task: _rows_for_task(events, task) for task in live}
    encodings = _encode(events, token_ids, live, rows_by_task, choice)
    answers_by_task: list[dict[str, Answer]] = [{} for _ in events]
    for task, rows in rows_by_task.items():
        picked, tokens = select_rows(rows, events, token_ids)
        answers = predict(picked, tokens, live[task], choice.of_task(task), encodings) if rows else []
        for row, answer in zip(rows, answers, strict=True):
            answers_by_task[row][task] = answer
            # All tasks' answers and receipts have the time of the first task's answer.
            encodings.answered_ms = answer.time_ms
    return [_join(event, answers) for event, answers in zip(events, answers_by_task, strict=True)]


def _rows_for_task(events: Sequence[Event], task: str) -> list[int]:
    """Returns the rows of the events that ask for the task. An event that names no task asks for all of them."""
    return [row for row, event in enumerate(events) if not event.tasks or task in event.tasks]


def _encode(
    events: Sequence[Event],
    token_ids: Sequence[list[int]],
    live: LiveVersions,
    rows_by_task: Mapping[str, Sequence[int]],
    choice: PrecisionChoice,
) -> EncodingCache:
    """Encodes each event with each encoder that answers it for a task, and returns the vectors.

    There is one forward pass for each group of encoders that share lower blocks, then one for each encoder and
    precision.
    """
    rows_by_encoder = _rows_for_encoders(events, live, rows_by_task, choice)
    encodings = EncodingCache(*(versions.health for versions in live.values()))
    for encoders, precision in _groups_with_shared_blocks(rows_by_encoder):
        rows = sorted(set().union(*(rows_by_encoder[encoder, precision] for encoder in encoders)))
        if rows:
            encodings.encode_shared_blocks(*select_rows(rows, events, token_ids), encoders, precision)
    for (encoder, precision), encoder_rows in rows_by_encoder.items():
        if encoder_rows:
            encodings.vectors(*select_rows(sorted(encoder_rows), events, token_ids), encoder, precision)
    return encodings


def _rows_for_encoders(
    events: Sequence[Event], live: LiveVersions, rows_by_task: Mapping[str, Sequence[int]], choice: PrecisionChoice
) -> dict[tuple[PackedEncoder, str], set[int]]:
    """Returns the rows of the events that each encoder and precision answers.

    The encoder of an arm has an entry even if it answers no row, because `predict` may need it for a sample of other
    arms' rows.
    """
    rows_by_encoder: dict[tuple[PackedEncoder, str], set[int]] = {}
    for task, rows in rows_by_task.items():
        plan = live[task].plan
        precisions = choice.of_task(task)
        rows_by_version: dict[int, set[int]] = {}
        for number in {arm.version for arm in plan.arms}:
            encoder = live[task].versions[number].model.encoder
            rows_by_version[number] = rows_by_encoder.setdefault((encoder, precisions[number]), set())
        for row in rows:
            rows_by_version[arm_for(events[row].entity, plan).version].add(row)
    return rows_by_encoder


def _groups_with_shared_blocks(
    keys: Iterable[tuple[PackedEncoder, str]],
) -> Iterator[tuple[list[PackedEncoder], str]]:
    """Yields each group of at least two encoders that have the first block in common, with their precision."""
    groups: defaultdict[tuple[str, str], list[PackedEncoder]] = defaultdict(list)
    for encoder, precision in keys:
        # `prefixes[1]` names the weights of the embedding and the first block.
        if encoder.prefixes:
            groups[precision, encoder.prefixes[1]].append(encoder)
    for (precision, _), encoders in groups.items():
        if len(encoders) > 1:
            yield encoders, precision


def _join(event: Event, answers: Mapping[str, Answer]) -> Answer:
    """Returns the first task's answer, with the other tasks' answers in its `tasks`.

    The tasks are in the order in which the event names them; if it names none, they are sorted by name.
    """
    if len(answers) == 1:
        (answer,) = answers.values()
        return answer
    first, *others = dict.fromkeys(event.tasks) if event.tasks else sorted(answers)
    # An answer has one vector: the first that a task has.
    vector = next((answer.vector for answer in answers.values() if answer.vector), None)
    tasks = {task: _to_task_answer(answers[task]) for task in others}
    return msgspec.structs.replace(answers[first], vector=vector, tasks=tasks)


def _to_task_answer(answer: Answer) -> TaskAnswer:
    return TaskAnswer(**{name: getattr(answer, name) for name in TASK_FIELDS})
