"""Events and their token ids to answers, under the plan of each task: a pure function of the weights.

    predict_by_task: events --tasks of each, arm of each task--> what each encoder reads --one forward--> EncodingCache
                     task by task --predict_many, of its vectors--> its answers --joined--> one Answer for each event
    predict_many:    events --arm_for--> arm of each row --its encoder--> z_BD --each version's head--> Answer

Arms whose versions share the encoder object (only the head differs) and the precision share a forward: two arms cost as
much as one. Every live version that shares the encoder scores every row, whichever of them answers: what it names goes
into the receipt, so that a label judges all of them. If arms have several encoders, some events go through each of
them: the labels of these judge versions of different encoders, too. All do if few events come, and PAIRED_PER_S of
many: the sooner a version is judged, the fewer events wait for what it has learnt.

Tasks whose versions share an encoder and a precision cost one forward together, and a head each. If encoders have only
their lower blocks in common, as after slow rounds on one encoder, these are computed once for the events of all of
them, and each encoder goes on with its upper blocks. So do the encoders of the arms of one task. An encoder that shares
nothing costs a forward of its own.

A lean batch is one behind which another full one waits: the events come faster than they are answered. Each of them
goes through one encoder, and only answers to texts of LONG_TOKENS have a vector; with both, and three encoders in the
plan, a replica answered half as many events a second. The learner encodes the other texts itself.

Shape suffixes: B texts of one encoder, D width.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
import torch
from torch import Tensor

from model.packed import PackedEncoder
from model.ragged import RaggedBatch
from serving.encodings import EncodingCache, of_rows
from serving.models import ActiveVersions, Choice, Live, Version
from serving.queue import EmbeddedText
from serving.ranking import Scored, VersionNames, names_by_row, rankings_of
from wire.draws import PAIRED, arm_for, is_drawn
from wire.events import content
from wire.inputs import fields_of
from wire.kinds import ANSWER_FIELDS, field_with
from wire.receipts import Receipts, Verdicts
from wire.records import Answer, Arm, Event, TaskAnswer, TextVector

PAIRED_PER_S: Final = 50.0
"""Events a second that the encoders of all arms see, of one replica. Each costs a forward for each further encoder."""

LONG_TOKENS: Final = 256
"""The tokens of a text that costs so much more to encode than its vector to send that the vector is always sent."""

EncodeEvents: TypeAlias = Callable[[Sequence[Event], Sequence[list[int]], PackedEncoder, str], Tensor]
"""Returns z_BD of events, which have these tokens, by an encoder in a precision."""

Predict: TypeAlias = Callable[
    [Sequence[Event], Sequence[list[int]], ActiveVersions, Mapping[int, str], EncodingCache | None], list[Answer]
]
"""Answers events by their token ids, under the versions that are live, each in the precision of its number, of what is
encoded of their batch (None: nothing that another task or encoder shares)."""


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
    """Returns an answer for each event, in order, with its receipt. `token_ids[i]` are at least one, of `events[i]`.

    `precisions` has that of each version of `live`, by its number. `now_ms` is called when the scores are computed,
    unless another task has answered the batch of `encodings`.

    Raises BadTokens, and ValueError where the model returns a value that is not finite.
    """
    encode = encodings.vectors if encodings else live.health.encode_events
    arms = [arm_for(event.entity, live.plan) for event in events]
    versions = [live.versions[arm.version] for arm in arms]
    scored: dict[int, Scored] = {}
    names: dict[int, VersionNames] = {}
    vectors: dict[int, Tensor] = {}
    for rows in grouped([(id(version.model.encoder), precisions[version.number]) for version in versions]):
        first = versions[rows[0]]
        picked = (events, token_ids) if len(rows) == len(events) else of_rows(rows, events, token_ids)
        z_BD = encode(*picked, first.model.encoder, precisions[first.number])
        rankings = rankings_of(z_BD, live.cohorts[first.number], top_scores)
        for indices in grouped([versions[row].number for row in rows]):
            ranking = rankings[versions[rows[indices[0]]].number]
            scored.update(zip([rows[index] for index in indices], ranking.scored(indices), strict=True))
        names.update(zip(rows, names_by_row(rankings), strict=True))
        if precisions[first.number] == first.model.encoder.precisions[0]:
            vectors |= zip(rows, z_BD, strict=True)
    if len(live.encoders) > 1 and not live.is_lean:
        by_others = _names_by_other_encoders(encode, events, token_ids, live, versions, precisions, receipts)
        for row, others in by_others.items():
            names[row] = tuple(sorted(names[row] + others))
    time_ms = encodings.answered_ms if encodings and encodings.answered_ms else now_ms()
    answers: list[Answer] = []
    for row, event in enumerate(events):
        arm = arms[row]
        verdicts = Verdicts(arm.name, arm.version, names[row])
        receipt = receipts.of(event.id, time_ms=time_ms, entity=event.entity, verdicts=verdicts, task=live.task)
        vector: TextVector | None = None
        num_tokens = len(token_ids[row])
        # A text that was cut has another vector under another limit, and a lean batch sends those of long texts alone.
        is_sent = event.text and num_tokens < live.max_tokens and (num_tokens >= LONG_TOKENS or not live.is_lean)
        if is_sent and row in vectors and (encoding := versions[row].encoding):
            z = vectors[row].numpy().astype("<f4", copy=False).tobytes()
            vector = receipts.vector(content(event), z, encoding)
        answers.append(
            _answer(
                event,
                scored[row],
                live,
                arm=arm,
                precision=precisions[arm.version],
                receipt=receipt,
                vector=vector,
                time_ms=time_ms,
            )
        )
    return answers


def _names_by_other_encoders(
    encode: EncodeEvents,
    events: Sequence[Event],
    token_ids: Sequence[list[int]],
    live: ActiveVersions,
    versions: Sequence[Version],
    precisions: Mapping[int, str],
    receipts: Receipts,
) -> dict[int, VersionNames]:
    """Returns what versions with other encoders than that of the answer name, for the sampled rows.

    `versions[i]` answers `events[i]`. Which events are sampled depends on their ids, and on how many come, but never on
    what they say.
    """
    encoders = {live.versions[arm.version].model.encoder: live.versions[arm.version] for arm in live.plan.arms}
    sampled = [row for row, event in enumerate(events) if is_drawn(receipts.draws, PAIRED, event.id, live.paired_share)]
    names: dict[int, VersionNames] = {}
    for encoder, first in encoders.items():
        rows = [row for row in sampled if versions[row].model.encoder is not encoder]
        if rows:
            z_BD = encode(*of_rows(rows, events, token_ids), encoder, precisions[first.number])
            rankings = rankings_of(z_BD, live.cohorts[first.number], 1)
            for row, others in zip(rows, names_by_row(rankings), strict=True):
                names[row] = names.get(row, ()) + others
    return names


def grouped(keys: Sequence[Hashable]) -> list[list[int]]:
    """Returns the indices of equal keys, one list for each key."""
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
    said: dict[str, Any] = {"label": None, **field_with(version.kind, predicted.value, ANSWER_FIELDS)}
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
        **said,
    )
    return version.refusal.applied(answer, scored.certainty) if version.refusal else answer


def embed_many(token_ids: Sequence[list[int]], live: ActiveVersions) -> list[EmbeddedText]:
    """Returns the vector of each text by the first arm's version, in the most accurate of its precisions.

    So the vector of a text does not depend on the load, nor on which arm its entity meets. Raises BadTokens, and
    ValueError where the model returns a value that is not finite.
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
    predict: Predict, events: Sequence[Event], token_ids: Sequence[list[int]], live: Live, choice: Choice
) -> list[Answer]:
    """Returns the answer of each event, in order, by the tasks of `live` that it asks; at least one of them.

    Raises what `predict` raises.
    """
    if len(live) == 1:
        ((task, versions),) = live.items()
        if len(versions.encoders) == 1:
            return predict(events, token_ids, versions, choice.of_task(task), None)
    rows_of = {task: _rows_of(events, task) for task in live}
    encodings = _encoded(events, token_ids, live, rows_of, choice)
    found: list[dict[str, Answer]] = [{} for _ in events]
    for task, rows in rows_of.items():
        picked, tokens = of_rows(rows, events, token_ids)
        answers = predict(picked, tokens, live[task], choice.of_task(task), encodings) if rows else []
        for row, answer in zip(rows, answers, strict=True):
            found[row][task] = answer
            # That of all tasks: a receipt has the time of its answer.
            encodings.answered_ms = answer.time_ms
    return [_joined(event, answers) for event, answers in zip(events, found, strict=True)]


def _rows_of(events: Sequence[Event], task: str) -> list[int]:
    """Returns the rows of the events that ask a task; without any, an event asks all."""
    return [row for row, event in enumerate(events) if not event.tasks or task in event.tasks]


def _encoded(
    events: Sequence[Event],
    token_ids: Sequence[list[int]],
    live: Live,
    rows_of: Mapping[str, Sequence[int]],
    choice: Choice,
) -> EncodingCache:
    """Encodes each event by each encoder that answers it for a task: one batch for each encoder and precision, after
    one for the lower blocks of those that share some."""
    wanted = _wanted(events, live, rows_of, choice)
    encodings = EncodingCache(*(versions.health for versions in live.values()))
    for encoders, precision in _sharing(wanted):
        rows = sorted(set().union(*(wanted[encoder, precision] for encoder in encoders)))
        if rows:
            encodings.share(*of_rows(rows, events, token_ids), encoders, precision)
    for (encoder, precision), found in wanted.items():
        if found:
            encodings.vectors(*of_rows(sorted(found), events, token_ids), encoder, precision)
    return encodings


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


def _sharing(keys: Iterable[tuple[PackedEncoder, str]]) -> Iterator[tuple[list[PackedEncoder], str]]:
    """Yields the encoders that have the first block in common, where there are several, and their precision."""
    groups: defaultdict[tuple[str, str], list[PackedEncoder]] = defaultdict(list)
    for encoder, precision in keys:
        if encoder.prefixes:
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
