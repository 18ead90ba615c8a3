"""`POST /v1/events`: CloudEvents 1.0 over HTTP. The response uses the mode of the request.

    ce-id, ce-source, ce-type headers and the data as body       binary mode, as on our topics
    application/cloudevents+json                                 structured mode: one object with the data inside
    application/cloudevents-batch+json                           a list of such objects

Events are decoded like messages from Kafka (`wire/envelope.py`), so the same bounds and error codes apply. An answer is
the same CloudEvent as in the topic of answers, without the vector. The client's name is put before the event's source
(`serving/http/access.py`), so no client can send events in another's name. If an answer is not published, it has the
extension attribute `unpublished`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from serving.http.access import Role
from serving.http.api import Api, json_response
from serving.http.origin import media_type
from serving.http.problems import Problem, RequestRefused, unwrap
from serving.http.requests import read_options
from serving.http.schemas import (
    SOURCE,
    UNREADABLE,
    Entry,
    Reply,
    Unpublished,
    decoding_problem,
    request_problem,
    schema_problem,
)
from wire.envelope import from_message, to_message
from wire.errors import BadMessage
from wire.message import CONTENT_TYPE, Message, Place, unpack_structured
from wire.records import Answer, Event

BATCH: Final = "application/cloudevents-batch+json"
PROBLEM_TYPE: Final = "lifelong.problem.v1"

PLACE: Final = Place(topic="http", partition=0, offset=0)
REQUIRED: Final = ("specversion", "id", "source", "type")
SAFE: Final = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""Characters that need no percent-encoding in a header: HTTP protocol binding, section 3.1.3.2."""

Attributes = Mapping[str, str]
"""The attributes of a CloudEvent by their names."""


_EVENT = msgspec.json.Decoder(dict[str, Any])
_BATCH = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class CloudEventsApi:
    """The endpoint for CloudEvents."""

    api: Api

    async def events(self, request: Request) -> Response:
        client = self.api.client(request, Role.PREDICT)
        mode = media_type(request.headers)
        with self.api.bodies.reader() as reader:
            body = unwrap(await reader.read(request))
            entries = self._read(body, mode, request.headers)
            replies = await self.api.bridge.answer_many(self.api.admit(client, entries), read_options(request))
            problem = request_problem(replies, is_list=mode == BATCH)
            if problem:
                raise RequestRefused(problem)
            return _response(replies, mode)

    def _read(self, body: bytes, mode: str, headers: Mapping[str, str]) -> list[Entry]:
        if mode == BATCH:
            raws: Sequence[bytes | msgspec.Raw] = _parse_json(_BATCH, body)
            if not 0 < len(raws) <= self.api.max_events:
                raise RequestRefused(
                    schema_problem(f"the batch has {len(raws)} events; give 1 to {self.api.max_events}")
                )
            return [self._structured(raw) for raw in raws]
        if mode == CONTENT_TYPE:
            return [self._structured(body)]
        attributes = {name[3:]: _percent_decoded(value) for name, value in headers.items() if name.startswith("ce-")}
        return [self._event(attributes, body)]

    def _structured(self, raw: bytes | msgspec.Raw) -> Entry:
        try:
            attributes, data = unpack_structured(_parse_json(_EVENT, raw))
        except RequestRefused as refused:
            return refused.problem
        except BadMessage as error:
            return _problem(error)
        return self._event({name[3:]: value for name, value in attributes.items()}, msgspec.json.encode(data))

    def _event(self, attributes: Attributes, data: bytes) -> Entry:
        """Returns the event, or its problem. An event without a time gets the current time."""
        missing = [name for name in REQUIRED if not attributes.get(name)]
        if missing:
            return schema_problem(f"the attribute `{missing[0]}` of the CloudEvent is missing")
        key = attributes.get("partitionkey", "")
        message = Message(
            key=key.encode() if key else None,
            value=data,
            headers=tuple((f"ce_{name}", value.encode()) for name, value in attributes.items()),
        )
        try:
            event = from_message(Event, message, PLACE)
        except BadMessage as error:
            return _problem(error)
        source = f"{SOURCE}/{event.source}" if event.source else SOURCE
        return msgspec.structs.replace(event, source=source, time_ms=event.time_ms or self.api.now_ms())


def _problem(error: BadMessage) -> Problem:
    status = HTTPStatus.BAD_REQUEST if error.reason == "undecodable" else HTTPStatus.UNPROCESSABLE_ENTITY
    return Problem(status=status, code=error.reason, message=error.detail)


def _parse_json(decoder: "msgspec.json.Decoder[Any]", data: bytes | msgspec.Raw) -> Any:
    try:
        return decoder.decode(data)
    except UNREADABLE as error:
        raise RequestRefused(decoding_problem(error)) from error


def _percent_decoded(value: str) -> str:
    return unquote_to_bytes(value.strip('"')).decode(errors="replace")


def _response(replies: Sequence[Reply], mode: str) -> Response:
    if mode == BATCH:
        events = [_structured(*_to_cloud_event(reply)) for reply in replies]
        return Response(msgspec.json.encode(events), media_type=BATCH)
    attributes, data = _to_cloud_event(replies[0])
    if mode == CONTENT_TYPE:
        return Response(msgspec.json.encode(_structured(attributes, data)), media_type=CONTENT_TYPE)
    return json_response(data, headers={f"ce-{name}": quote(value, safe=SAFE) for name, value in attributes.items()})


def _to_cloud_event(reply: Reply) -> tuple[dict[str, str], bytes]:
    """Returns the attributes and the data of the reply as a CloudEvent."""
    if isinstance(reply, Problem):
        attributes = {"specversion": "1.0", "id": reply.code, "source": "/", "type": PROBLEM_TYPE}
        return attributes, msgspec.json.encode({"code": reply.code, "message": reply.message})
    answer = reply.answer if isinstance(reply, Unpublished) else reply
    assert isinstance(answer, Answer), "this endpoint never requests vectors"
    message = to_message(msgspec.structs.replace(answer, vector=None))
    attributes = {name[3:]: (value or b"").decode() for name, value in message.headers if name.startswith("ce_")}
    if isinstance(reply, Unpublished):
        attributes["unpublished"] = "true"
    return attributes, message.value or b""


def _structured(attributes: Attributes, data: bytes) -> dict[str, Any]:
    return {**attributes, "datacontenttype": "application/json", "data": msgspec.Raw(data)}
