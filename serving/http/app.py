"""The HTTP application: its operations, their routes, and the conversion of exceptions to responses.

    Api --list_operations--> Operation --make_app--> routes, and the document (`serving/http/openapi.py`)
    HttpEndpoint --open--> a port that serves these routes (`serving/http/listener.py`)

The records in this file only describe requests and responses for the OpenAPI document. The records that are decoded and
encoded are in the modules of the endpoints.
"""

import json
from collections.abc import Awaitable, Callable
from functools import cache
from http import HTTPStatus
from pathlib import Path
from threading import Event
from typing import Annotated, Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from serving.config import ServingConfig
from serving.endpoints import Core
from serving.http.access import Role, read_keys
from serving.http.api import REF, Api, Operation, json_response
from serving.http.cloud_events import CloudEventsApi
from serving.http.connection import connection_bounds
from serving.http.embeddings import EmbeddingsApi, EmbeddingsBody, EmbeddingsRequest
from serving.http.feedback import AcceptedBody, FeedbackApi, LabelBody
from serving.http.listener import Listener, await_port
from serving.http.problems import INTERNAL, ErrorBody, Problem, RequestId, RequestRefused, problem_response
from serving.http.schemas import MAX_ID_CHARS, AnswerBody
from serving.http.v2 import InferRequest, InferResponse, ModelReady, V2Api
from serving.served_task import ReplicaStatus
from serving.v2 import ModelMetadata, ServerMetadata
from wire.inputs import MAX_FEATURES, MAX_PARTS, Features, Part

Text = Annotated[
    str, msgspec.Meta(description="May be blank only if there are `features`. The first 131,072 characters are read.")
]
DescribedFeatures = Annotated[
    Features,
    msgspec.Meta(
        description="Numbers and categories by name, in addition to the text or instead of it.",
        extra_json_schema={"maxProperties": MAX_FEATURES, "propertyNames": {"pattern": r"\S"}},
    ),
]
DescribedParts = Annotated[
    list[Part],
    msgspec.Meta(description="Objects for other installed inputs, each with its `type`.", max_length=MAX_PARTS),
]
ShortText = Annotated[str, msgspec.Meta(max_length=MAX_ID_CHARS)]

REFUSED: Final = (400, 413, 415)
"""Error statuses of every request that has a body."""
UNAVAILABLE: Final = (408, 429, 431, 503, 504)
"""Error statuses of every request that waits for the model or the broker."""


class EventRequest(msgspec.Struct, frozen=True):
    """One event: a text, features, parts, or several of them.

    An event without an id gets one. `key` names the entity; events of one entity are answered by the same arm.
    """

    text: Text = ""
    features: DescribedFeatures = {}
    parts: DescribedParts = []
    id: ShortText = ""
    key: ShortText = ""
    tasks: Annotated[list[str], msgspec.Meta(description="The tasks that answer. Empty: all tasks.")] = []


class EventsRequest(msgspec.Struct, frozen=True):
    events: Annotated[list[EventRequest], msgspec.Meta(min_length=1)]


class LabelsRequest(msgspec.Struct, frozen=True):
    labels: Annotated[list[LabelBody], msgspec.Meta(min_length=1)]


def _list_elements(*records: type) -> msgspec.Meta:
    """Returns the annotation of a list whose elements are any of these records.

    A union type is not possible, because msgspec requires tags for a union of records.
    """
    refs = [{"$ref": REF.format(name=record.__name__)} for record in records]
    return msgspec.Meta(extra_json_schema={"items": {"anyOf": refs}})


class AnswersResponse(msgspec.Struct, frozen=True):
    """An answer or an error for each event."""

    answers: Annotated[list[Any], _list_elements(AnswerBody, ErrorBody)]


class LabelsResponse(msgspec.Struct, frozen=True):
    """For each label, the label that the broker has acknowledged, or an error."""

    labels: Annotated[list[Any], _list_elements(AcceptedBody, ErrorBody)]


ELEMENTS: Final = (AnswerBody, AcceptedBody, ErrorBody)
"""The records that occur only as elements of lists in other records."""


class Live(msgspec.Struct, frozen=True):
    live: bool


class Ready(msgspec.Struct, frozen=True):
    ready: bool


class EventData(msgspec.Struct, frozen=True):
    """The data of a CloudEvent of the type `lifelong.event.v1`: a text, features, parts, or several of them."""

    text: Text = ""
    features: DescribedFeatures = {}
    parts: DescribedParts = []
    key: ShortText = ""
    tasks: Annotated[list[str], msgspec.Meta(description="The tasks that answer. Empty: all tasks.")] = []


class AnswerData(msgspec.Struct, frozen=True):
    """The most important fields of the data of a CloudEvent of the type `lifelong.answer.v1`."""

    event_id: str
    text: str
    label: str | None
    score: float
    receipt: str


def list_operations(api: Api) -> list[Operation]:
    """Returns all operations, in the order in which the document shows them."""
    errors = (*REFUSED, *UNAVAILABLE)
    return [
        Operation(
            path="/v1/predict",
            endpoint=api.predict,
            summary="Answers one event, or a list of events.",
            body=(EventRequest, EventsRequest),
            answer=AnswersResponse,
            role=Role.PREDICT,
            errors=(*errors, 422),
        ),
        Operation(
            path="/v1/feedback",
            endpoint=FeedbackApi(api).feedback,
            summary="Sends the label of an event, or a list of labels, to the learner.",
            body=(LabelBody, LabelsRequest),
            answer=LabelsResponse,
            role=Role.FEEDBACK,
            errors=(*errors, 403, 422),
        ),
        Operation(
            path="/v1/embeddings",
            endpoint=EmbeddingsApi(api).embeddings,
            summary="Returns the vectors of texts, in the format of OpenAI's API.",
            body=(EmbeddingsRequest,),
            answer=EmbeddingsBody,
            role=Role.PREDICT,
            errors=(*errors, 404, 422),
        ),
        Operation(
            path="/v1/events",
            endpoint=CloudEventsApi(api).events,
            summary="Answers a CloudEvent in the mode of the request: binary, structured, or a batch.",
            body=(EventData,),
            answer=AnswerData,
            role=Role.PREDICT,
            headers=("ce-specversion", "ce-id", "ce-source", "ce-type"),
            errors=(*errors, 422),
        ),
        _get_operation("/v1/health/live", api.live, "Tells whether the replica works.", Live, needs_key=False),
        _get_operation("/v1/health/ready", api.ready, "Tells whether the replica can answer.", Ready, needs_key=False),
        _get_operation(
            "/v1/status", api.show_status, "Shows the replica's versions, state and counters.", ReplicaStatus
        ),
        *_v2_operations(V2Api(api)),
    ]


def _get_operation(path: str, endpoint: Any, summary: str, answer: type, *, needs_key: bool = True) -> Operation:
    errors = (503,) if not needs_key else ()
    return Operation(path=path, endpoint=endpoint, summary=summary, answer=answer, needs_key=needs_key, errors=errors)


def _v2_operations(v2: V2Api) -> list[Operation]:
    operations = [
        _get_operation("/v2", v2.server, "Describes the server (Open Inference Protocol).", ServerMetadata),
        _get_operation("/v2/health/live", v2.api.live, "Tells whether the replica works.", Live, needs_key=False),
        _get_operation(
            "/v2/health/ready", v2.api.ready, "Tells whether the replica can answer.", Ready, needs_key=False
        ),
    ]
    for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        operations += [
            Operation(
                path=model, endpoint=v2.model, summary="Describes the model.", answer=ModelMetadata, errors=(404,)
            ),
            Operation(
                path=f"{model}/ready",
                endpoint=v2.model_ready,
                summary="Tells whether the model, or this version of it, can answer.",
                answer=ModelReady,
                needs_key=False,
                errors=(404, 503),
            ),
            Operation(
                path=f"{model}/infer",
                endpoint=v2.infer,
                summary="Answers a tensor of texts.",
                body=(InferRequest,),
                answer=InferResponse,
                role=Role.PREDICT,
                errors=(*REFUSED, *UNAVAILABLE, 404),
            ),
        ]
    return operations


class HttpEndpoint:
    """The HTTP port with all operations."""

    def check(self, config: ServingConfig, stop: Event) -> None:
        if config.keys_file:
            read_keys(Path(config.keys_file))
        await_port(config.http_host, config.http_port, stop)

    def open(self, core: Core, config: ServingConfig) -> Listener:
        """Starts to listen. Raises OSError if it cannot."""
        api = core.api()
        return Listener(
            make_app(api),
            host=config.http_host,
            port=config.http_port,
            drain_timeout_s=config.drain_timeout_s,
            bounds=connection_bounds(config),
            note=api.count_refused,
        )


ENDPOINT: Final = HttpEndpoint()


def make_app(api: Api) -> ASGIApp:
    """Returns the ASGI application."""
    operations = list_operations(api)

    @cache
    def documentation() -> tuple[bytes, Response]:
        """Returns the OpenAPI document and its page. They are made at the first request for one of them."""
        from serving.http.openapi import POLICY, make_document, render_page

        document = make_document(operations, ELEMENTS)
        page = HTMLResponse(render_page(document), headers={"content-security-policy": POLICY})
        return json.dumps(document).encode(), page

    async def openapi(request: Request) -> Response:
        return json_response(documentation()[0])

    async def docs(request: Request) -> Response:
        return documentation()[1]

    async def refused(request: Request, error: RequestRefused) -> Response:
        if error.problem.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            api.count_refused(error.problem.code)
        return problem_response(request, error.problem)

    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        RequestRefused: refused,
        HTTPException: _http_exception,
        Exception: _internal,
    }
    routes = [Route(operation.path, operation.endpoint, methods=[operation.method]) for operation in operations]
    routes += [Route("/openapi.json", openapi), Route("/docs", docs)]
    return RequestId(Starlette(routes=routes, exception_handlers=handlers), new_id=api.new_id)


async def _http_exception(request: Request, error: HTTPException) -> Response:
    status = HTTPStatus(error.status_code)
    problem = Problem(status=status, code=status.name.lower(), message=status.phrase)
    response = problem_response(request, problem)
    response.headers.update(error.headers or {})
    return response


async def _internal(request: Request, error: Exception) -> Response:
    return problem_response(request, INTERNAL)
