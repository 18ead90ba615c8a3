"""The application: its operations, each path with what answers it, and how an exception becomes a response.

    Api --operations_of--> Operation --make_app--> routes, and the document (`serving/http/openapi.py`)
    HttpEndpoint --open--> a port that answers by them (`serving/http/listener.py`)

The records here say what comes and goes, for the document: those that are read and written lie beside the endpoints.
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
from serving.http.connection import bounds_of
from serving.http.embeddings import EmbeddingsApi, EmbeddingsBody, EmbeddingsRequest
from serving.http.feedback import AcceptedBody, FeedbackApi, LabelBody
from serving.http.listener import Listener, await_port
from serving.http.problems import INTERNAL, ErrorBody, Problem, RequestId, RequestRefused, problem_response
from serving.http.schemas import MAX_ID_CHARS, AnswerBody
from serving.http.v2 import InferRequest, InferResponse, ModelReady, V2Api
from serving.served_task import ReplicaStatus
from serving.v2 import ModelMetadata, ServerMetadata
from wire.inputs import MAX_FEATURES, MAX_PARTS, Features, Part

Text = Annotated[str, msgspec.Meta(description="Blank only beside `features`. The first 131,072 characters are read.")]
DescribedFeatures = Annotated[
    Features,
    msgspec.Meta(
        description="Numbers and categories by their names, beside the text or in place of it.",
        extra_json_schema={"maxProperties": MAX_FEATURES, "propertyNames": {"pattern": r"\S"}},
    ),
]
DescribedParts = Annotated[
    list[Part],
    msgspec.Meta(description="Objects of further inputs that are installed, by their `type`.", max_length=MAX_PARTS),
]
ShortText = Annotated[str, msgspec.Meta(max_length=MAX_ID_CHARS)]

REFUSED: Final = (400, 413, 415)
"""The statuses of any request that has a body."""
UNAVAILABLE: Final = (408, 429, 431, 503, 504)
"""The statuses of any request that waits for the model or the broker."""


class EventRequest(msgspec.Struct, frozen=True):
    """One event: its text, its features, its parts, or several of them. Without an id it gets one; `key` names the
    entity, which always meets the same arm."""

    text: Text = ""
    features: DescribedFeatures = {}
    parts: DescribedParts = []
    id: ShortText = ""
    key: ShortText = ""
    tasks: Annotated[list[str], msgspec.Meta(description="The tasks that answer; without any, all do.")] = []


class EventsRequest(msgspec.Struct, frozen=True):
    events: Annotated[list[EventRequest], msgspec.Meta(min_length=1)]


class LabelsRequest(msgspec.Struct, frozen=True):
    labels: Annotated[list[LabelBody], msgspec.Meta(min_length=1)]


def _each_of(*records: type) -> msgspec.Meta:
    """Says that each element is one of these records: a union of them would have to be tagged."""
    refs = [{"$ref": REF.format(name=record.__name__)} for record in records]
    return msgspec.Meta(extra_json_schema={"items": {"anyOf": refs}})


class AnswersResponse(msgspec.Struct, frozen=True):
    """An answer, or what is wrong, for each event."""

    answers: Annotated[list[Any], _each_of(AnswerBody, ErrorBody)]


class LabelsResponse(msgspec.Struct, frozen=True):
    """A label that the broker has, or what is wrong, for each label."""

    labels: Annotated[list[Any], _each_of(AcceptedBody, ErrorBody)]


ELEMENTS: Final = (AnswerBody, AcceptedBody, ErrorBody)
"""The records that only lists of others have."""


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
    tasks: Annotated[list[str], msgspec.Meta(description="The tasks that answer; without any, all do.")] = []


class AnswerData(msgspec.Struct, frozen=True):
    """The data of a CloudEvent of the type `lifelong.answer.v1`, among other fields."""

    event_id: str
    text: str
    label: str | None
    score: float
    receipt: str


def operations_of(api: Api) -> list[Operation]:
    """Returns the operations, in the order in which the document shows them."""
    computed = (*REFUSED, *UNAVAILABLE)
    return [
        Operation(
            path="/v1/predict",
            endpoint=api.predict,
            summary="Answers one event, or a list of events.",
            body=(EventRequest, EventsRequest),
            answer=AnswersResponse,
            role=Role.PREDICT,
            errors=(*computed, 422),
        ),
        Operation(
            path="/v1/feedback",
            endpoint=FeedbackApi(api).feedback,
            summary="Sends the label of an event, or a list of labels, to the learner.",
            body=(LabelBody, LabelsRequest),
            answer=LabelsResponse,
            role=Role.FEEDBACK,
            errors=(*computed, 403, 422),
        ),
        Operation(
            path="/v1/embeddings",
            endpoint=EmbeddingsApi(api).embeddings,
            summary="Returns the vectors of texts, in the form of OpenAI's API.",
            body=(EmbeddingsRequest,),
            answer=EmbeddingsBody,
            role=Role.PREDICT,
            errors=(*computed, 404, 422),
        ),
        Operation(
            path="/v1/events",
            endpoint=CloudEventsApi(api).events,
            summary="Answers a CloudEvent in the mode in which it comes: binary, structured, or a batch.",
            body=(EventData,),
            answer=AnswerData,
            role=Role.PREDICT,
            headers=("ce-specversion", "ce-id", "ce-source", "ce-type"),
            errors=(*computed, 422),
        ),
        _plain("/v1/health/live", api.live, "Tells whether the replica works.", Live, needs_key=False),
        _plain("/v1/health/ready", api.ready, "Tells whether the replica can answer.", Ready, needs_key=False),
        _plain("/v1/status", api.show_status, "Shows what the replica serves and has counted.", ReplicaStatus),
        *_v2_operations(V2Api(api)),
    ]


def _plain(path: str, endpoint: Any, summary: str, answer: type, *, needs_key: bool = True) -> Operation:
    errors = (503,) if not needs_key else ()
    return Operation(path=path, endpoint=endpoint, summary=summary, answer=answer, needs_key=needs_key, errors=errors)


def _v2_operations(v2: V2Api) -> list[Operation]:
    operations = [
        _plain("/v2", v2.server, "Describes the server (Open Inference Protocol).", ServerMetadata),
        _plain("/v2/health/live", v2.api.live, "Tells whether the replica works.", Live, needs_key=False),
        _plain("/v2/health/ready", v2.api.ready, "Tells whether the replica can answer.", Ready, needs_key=False),
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
    """The port of HTTP, with all the operations."""

    def check(self, config: ServingConfig, stop: Event) -> None:
        if config.keys_file:
            read_keys(Path(config.keys_file))
        await_port(config.http_host, config.http_port, stop)

    def open(self, core: Core, config: ServingConfig) -> Listener:
        """Begins to listen. Raises OSError if it cannot."""
        api = core.api()
        return Listener(
            make_app(api),
            host=config.http_host,
            port=config.http_port,
            drain_timeout_s=config.drain_timeout_s,
            bounds=bounds_of(config),
            note=api.count_refused,
        )


ENDPOINT: Final = HttpEndpoint()


def make_app(api: Api) -> ASGIApp:
    """Returns the application."""
    operations = operations_of(api)

    @cache
    def described() -> tuple[bytes, Response]:
        """Returns the document and its page, which are made when somebody first asks."""
        from serving.http.openapi import POLICY, document_of, page_of

        document = document_of(operations, ELEMENTS)
        page = HTMLResponse(page_of(document), headers={"content-security-policy": POLICY})
        return json.dumps(document).encode(), page

    async def openapi(request: Request) -> Response:
        return json_response(described()[0])

    async def docs(request: Request) -> Response:
        return described()[1]

    async def refused(request: Request, error: RequestRefused) -> Response:
        if error.problem.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            api.count_refused(error.problem.code)
        return problem_response(request, error.problem)

    handlers: dict[Any, Callable[[Request, Any], Awaitable[Response]]] = {
        RequestRefused: refused,
        HTTPException: _http_exception,
        Exception: _internal,
    }
    routes = [Route(each.path, each.endpoint, methods=[each.method]) for each in operations]
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
