"""The JSON bodies of HTTP: converts the bytes of requests to events, and outcomes to the bytes of responses. No
network.

{"text"?, "features"?, "parts"?, "id"?, "key"?}  or  {"events": [{...}, ...]}  -->  Event or Problem, one for each
Answer or Problem, one for each  -->  {"answers": [{...} or {"error": {...}}, ...]}
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import msgspec

from serving.http.problems import ErrorBody, Problem, ProblemBody
from serving.queue import EmbeddedText
from wire.inputs import EMPTY_CONTENT, Features, Part, fields_of, problem_of_content
from wire.records import MAX_EVENT_BYTES, MAX_TEXT_CHARS, Answer, Event, Feedback, TaskAnswer

SOURCE: Final = "http"
"""The source of HTTP events, before the name of their client. An id is unique within its source."""

MAX_ID_CHARS = 200

UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of the decoder for bytes that are not JSON, not UTF-8, nested too deep, or of another schema."""


@dataclass(frozen=True, slots=True)
class Unpublished:
    """An answer that will not be published. A label for it has no effect, because the learner cannot find the
    answer."""

    answer: Answer


TOO_LARGE = Problem(
    status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    code="too_large",
    message=f"the body has more than {MAX_EVENT_BYTES} bytes, or its `parts` are too large",
)

Entry: TypeAlias = Event | Problem
Reply: TypeAlias = Answer | Unpublished | EmbeddedText | Problem


class _EventBody(msgspec.Struct, frozen=True):
    text: str = ""
    id: str = ""
    key: str = ""
    features: Features = {}
    parts: tuple[Part, ...] = ()
    tasks: tuple[str, ...] = ()


class _Request(msgspec.Struct, frozen=True):
    text: str | msgspec.UnsetType = msgspec.UNSET
    id: str = ""
    key: str = ""
    features: Features = {}
    parts: tuple[Part, ...] = ()
    tasks: tuple[str, ...] = ()
    events: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET


_REQUESTS = msgspec.json.Decoder(_Request)
_EVENTS = msgspec.json.Decoder(_EventBody)


class AnswerBody(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as a client sees it.

    A label for the answer repeats `event_id`, `key` and `receipt` unchanged, and `source` as `event_source`.

    - `can_be_labelled`: false if the answer is not published, so that a label for it has no effect
    - `audit`: whether the answer asks for a label
    - `refused`: whether the version was not certain enough, so that `label` is the fallback label; see `Answer`
    - `labels`, `value`, `output`: the prediction if labels are sets, scores, or of another kind; then `label` is null
    - `task`, `tasks`: the task of this answer, and the other tasks' answers. Each has its own receipt; a label names
      its task, and repeats that task's receipt.
    """

    event_id: str
    source: str
    label: str | None
    score: float
    scores: tuple[tuple[str, float], ...]
    weights_version: int
    arm: str
    precision: str
    rollout_revision: int
    key: str
    receipt: str
    can_be_labelled: bool = True
    audit: bool = False
    refused: bool = False
    certainty: float | None = None
    labels: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    value: float | msgspec.UnsetType = msgspec.UNSET
    output: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET
    task: str | msgspec.UnsetType = msgspec.UNSET
    tasks: dict[str, TaskAnswer] | msgspec.UnsetType = msgspec.UNSET


class AnswersBody(msgspec.Struct, frozen=True):
    answers: list[AnswerBody | ErrorBody]


def read_request(
    body: bytes, *, max_events: int, now_ms: int, new_id: Callable[[], str]
) -> tuple[list[Entry], bool] | Problem:
    """Returns the events of a request, and whether the request is a list.

    In a list, each invalid event becomes a problem. Returns a single problem if the request itself is invalid.
    """
    try:
        request = _REQUESTS.decode(body)
    except UNREADABLE as error:
        return decoding_problem(error)
    text = "" if isinstance(request.text, msgspec.UnsetType) else request.text
    events = request.events
    is_one = isinstance(request.text, str) or bool(request.features) or bool(request.parts)
    if is_one and isinstance(events, msgspec.UnsetType):
        one = _EventBody(text, request.id, request.key, request.features, request.parts, request.tasks)
        return [_to_event(one, now_ms=now_ms, new_id=new_id)], False
    if isinstance(events, msgspec.UnsetType) or is_one:
        return schema_problem("give either `text` (or `features`, or both) or `events`")
    if not 0 < len(events) <= max_events:
        return schema_problem(f"`events` has {len(events)} entries; give 1 to {max_events}")
    return [_entry(raw, now_ms=now_ms, new_id=new_id) for raw in events], True


def request_problem(replies: Sequence[Reply | Feedback], *, is_list: bool) -> Problem | None:
    """Returns the problem of the whole request; None if the response has answers.

    If the request is not a list, it is the problem of its only event. If the request is a list, it is a problem of the
    replica that all its events have.
    """
    first = replies[0]
    if not isinstance(first, Problem):
        return None
    if not is_list:
        return first
    is_shared = all(isinstance(reply, Problem) and reply.status >= HTTPStatus.BAD_GATEWAY for reply in replies)
    return first if is_shared else None


def write_replies(replies: Sequence[Reply]) -> bytes:
    """Returns the body of a response."""
    return msgspec.json.encode(AnswersBody([_to_body(reply) for reply in replies]))


def _entry(raw: msgspec.Raw, *, now_ms: int, new_id: Callable[[], str]) -> Entry:
    try:
        body = _EVENTS.decode(raw)
    except UNREADABLE as error:
        return decoding_problem(error)
    return _to_event(body, now_ms=now_ms, new_id=new_id)


def _to_event(body: _EventBody, *, now_ms: int, new_id: Callable[[], str]) -> Entry:
    event = make_event(fields_of(body), body.id, body.key, now_ms=now_ms, new_id=new_id)
    return event if isinstance(event, Problem) else msgspec.structs.replace(event, tasks=body.tasks)


def make_event(content: Mapping[str, Any], event_id: str, key: str, *, now_ms: int, new_id: Callable[[], str]) -> Entry:
    """Returns an event with this content (text, features, parts), or the problem of the content.

    If `event_id` is empty, the event gets a new id.
    """
    fields = {**EMPTY_CONTENT, **content}
    if problem := problem_of_content(**fields):
        return schema_problem(problem)
    for name, value in (("id", event_id), ("key", key)):
        if len(value) > MAX_ID_CHARS:
            return schema_problem(f"`{name}` has more than {MAX_ID_CHARS} characters")
    # The rest is never read.
    fields["text"] = fields["text"][:MAX_TEXT_CHARS]
    return Event(id=event_id or new_id(), key=key, source=SOURCE, time_ms=now_ms, **fields)


def decoding_problem(error: Exception) -> Problem:
    """Returns the problem of bytes that a decoder refused with one of UNREADABLE."""
    if isinstance(error, msgspec.ValidationError):
        return schema_problem(str(error))
    return Problem(status=HTTPStatus.BAD_REQUEST, code="not_json", message="the body is not JSON in UTF-8")


def schema_problem(message: str) -> Problem:
    return Problem(status=HTTPStatus.UNPROCESSABLE_ENTITY, code="wrong_schema", message=message)


def _to_body(reply: Reply) -> AnswerBody | ErrorBody:
    if isinstance(reply, Problem):
        return ErrorBody(ProblemBody(reply.code, reply.message))
    if isinstance(reply, Unpublished):
        return _answer_body(reply.answer, can_be_labelled=False)
    assert isinstance(reply, Answer), "the endpoints of answers never request vectors"
    return _answer_body(reply, can_be_labelled=True)


def _answer_body(answer: Answer, *, can_be_labelled: bool) -> AnswerBody:
    return AnswerBody(
        event_id=answer.event_id,
        source=answer.source,
        label=answer.label,
        score=answer.score,
        scores=answer.scores,
        weights_version=answer.weights_version,
        arm=answer.arm,
        precision=answer.precision,
        rollout_revision=answer.rollout_revision,
        key=answer.key,
        receipt=answer.receipt,
        can_be_labelled=can_be_labelled,
        audit=answer.audit,
        refused=answer.refused,
        certainty=answer.certainty,
        labels=msgspec.UNSET if answer.labels is None else answer.labels,
        value=msgspec.UNSET if answer.value is None else answer.value,
        output=msgspec.UNSET if answer.output is None else answer.output,
        task=answer.task or msgspec.UNSET,
        tasks=answer.tasks or msgspec.UNSET,
    )
