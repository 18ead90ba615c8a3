"""The gRPC methods of the Open Inference Protocol and of health checks.

    ModelInferRequest --tensors--> events --bridge--> answers --> ModelInferResponse

Inputs are typed contents or raw bytes, and outputs have the same form as the inputs. The API key is in the metadata, as
`x-api-key` or `authorization`. The metadata `x-priority`, `x-request-timeout-ms` and `traceparent` mean the same as
over HTTP, and the call's deadline counts, too. Errors have the gRPC status that is nearest to the HTTP status.

A call does not announce the length of its message. So a message that is being read counts as if it had the largest
possible size, and the number of messages that are read at the same time is bounded (`ReadSlots`). One address gets at
most half of the slots, so a client that begins messages and does not end them cannot block the others.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote
from weakref import WeakValueDictionary

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2

from serving.grpc.proto import SERVICE, message
from serving.http.access import Role
from serving.http.api import Api
from serving.http.connection import BODY_TIMEOUT
from serving.http.origin import to_network
from serving.http.problems import INTERNAL, Problem, RequestRefused
from serving.http.requests import (
    PRIORITY_HEADER,
    TOO_MANY_BYTES,
    RequestOptions,
    parse_priority,
    read_timeout_s,
    read_traceparent,
)
from serving.queue import Priority
from serving.v2 import (
    BYTES,
    Tensor,
    build_columns,
    build_metadata,
    decode_events,
    decode_texts,
    find_version,
    input_head,
    pack,
    server_metadata,
    unpack_texts,
    wrong_tensor,
)


class ReadSlots:
    """Slots for reading `num` messages at the same time. One event loop uses it."""

    def __init__(self, num: int) -> None:
        self._per_network = max(1, num // 2)
        self._slots = asyncio.Semaphore(num)
        self._by_network: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def slot(self, network: str) -> AsyncIterator[None]:
        """Waits for a slot for a message of `network`, and holds it until the block ends."""
        own = self._by_network.setdefault(network, asyncio.Semaphore(self._per_network))
        async with own, self._slots:
            yield


HEALTH: Final = "grpc.health.v1.Health"

CODES: Final = {
    HTTPStatus.BAD_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.REQUEST_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""The gRPC status for each HTTP status that a problem may have."""

NO_MESSAGE: Final = Problem(
    status=HTTPStatus.BAD_REQUEST, code="no_message", message="the call ended before its message"
)
"""The problem of a call without a message. If the library itself has ended the call, for example because the message is
too long, the client gets the library's status instead."""

CONTENTS: Final = {"FP32": "fp32_contents", "INT64": "int64_contents", "BOOL": "bool_contents"}
"""The name of the contents field for each datatype that we use, except BYTES."""

Method = Callable[[Any, Any], Awaitable[Any]]
"""(request, context) -> response"""

log = structlog.get_logger("grpc")


@dataclass(frozen=True, slots=True)
class InferenceService:
    """The methods of the two services."""

    api: Api
    reads: ReadSlots
    body_timeout_s: float

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Returns the handlers for a `grpc.aio` server."""
        names = ("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer")
        methods: list[Method] = [
            self.server_live,
            self.server_ready,
            self.model_ready,
            self.server_metadata,
            self.model_metadata,
            self.model_infer,
        ]
        inference = {
            name: self._handler(method, message(f"{name}Request")) for name, method in zip(names, methods, strict=True)
        }
        health = {"Check": self._handler(self.health, health_pb2.HealthCheckRequest)}
        return [
            grpc.method_handlers_generic_handler(SERVICE, inference),
            grpc.method_handlers_generic_handler(HEALTH, health),
        ]

    async def server_live(self, request: Any, context: Any) -> Any:
        with suppress(RequestRefused):
            self.api.require_live()
            return message("ServerLiveResponse")(live=True)
        return message("ServerLiveResponse")(live=False)

    async def server_ready(self, request: Any, context: Any) -> Any:
        return message("ServerReadyResponse")(ready=self._is_ready)

    async def model_ready(self, request: Any, context: Any) -> Any:
        find_version(request.name, request.version, self.api.bridge.live)
        return message("ModelReadyResponse")(ready=self._is_ready)

    async def server_metadata(self, request: Any, context: Any) -> Any:
        self._client(context, None)
        metadata = server_metadata()
        return message("ServerMetadataResponse")(
            name=metadata.name, version=metadata.version, extensions=metadata.extensions
        )

    async def model_metadata(self, request: Any, context: Any) -> Any:
        self._client(context, None)
        find_version(request.name, request.version, self.api.bridge.live)
        metadata = build_metadata(self.api.bridge.live)
        response = message("ModelMetadataResponse")(
            name=metadata.name, versions=metadata.versions, platform=metadata.platform
        )
        for listed, tensors in ((response.inputs, metadata.inputs), (response.outputs, metadata.outputs)):
            for tensor in tensors:
                listed.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        return response

    async def model_infer(self, request: Any, context: Any) -> Any:
        client = self._client(context, Role.PREDICT)
        version = find_version(request.model_name, request.model_version, self.api.bridge.live)
        num_bytes = request.ByteSize()
        if not self.api.bodies.reserve(num_bytes):
            raise RequestRefused(TOO_MANY_BYTES)
        try:
            tensors = self._tensors(request)
            events = decode_events(tensors, now_ms=self.api.now_ms(), new_id=self.api.new_id)
            entries = self.api.admit(client, events)
            replies = await self.api.bridge.answer_many(entries, _read_options(context, version))
        finally:
            self.api.bodies.release(num_bytes)
        columns = build_columns(replies, [output.name for output in request.outputs])
        return _response(request, columns)

    async def health(self, request: Any, context: Any) -> Any:
        serving = health_pb2.HealthCheckResponse.ServingStatus
        if request.service not in ("", SERVICE):
            return health_pb2.HealthCheckResponse(status=serving.SERVICE_UNKNOWN)
        return health_pb2.HealthCheckResponse(status=serving.SERVING if self._is_ready else serving.NOT_SERVING)

    def _handler(self, method: Method, request_type: Any) -> grpc.RpcMethodHandler:
        async def answer(_: Any, context: Any) -> Any:
            """Returns the response. If there is an error, ends the call with a status that reveals no internals."""
            task = asyncio.ensure_future(self._read_and_answer(method, context))
            try:
                await asyncio.wait([task])
            finally:
                task.cancel()
            error = task.exception()
            if error is None:
                return task.result()
            problem = error.problem if isinstance(error, RequestRefused) else INTERNAL
            if problem is INTERNAL:
                log.error("call_failed", exc_info=error)
            elif problem.status < HTTPStatus.INTERNAL_SERVER_ERROR and problem is not NO_MESSAGE:
                self.api.count_refused(problem.code)
            code = CODES.get(problem.status, grpc.StatusCode.INVALID_ARGUMENT)
            return await context.abort(code, f"{problem.code}: {problem.message}")

        # As a stream handler it reads the message itself, after it has a slot. Clients see no difference.
        return grpc.stream_unary_rpc_method_handler(
            answer,
            request_deserializer=request_type.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )

    async def _read_and_answer(self, method: Method, context: Any) -> Any:
        """Reads the request as soon as it has a slot, and answers it. Raises RequestRefused."""
        network = to_network(parse_address(context.peer()))
        try:
            async with asyncio.timeout(self.body_timeout_s), self.reads.slot(network):
                request = await context.read()
        except TimeoutError:
            raise RequestRefused(BODY_TIMEOUT) from None
        if request is grpc.aio.EOF:
            raise RequestRefused(NO_MESSAGE)
        return await method(request, context)

    @property
    def _is_ready(self) -> bool:
        return self.api.bridge.not_ready_problem() is None

    def _client(self, context: Any, role: Role | None) -> Any:
        return self.api.access.client(parse_address(context.peer()), _metadata(context), role)

    def _tensors(self, request: Any) -> list[Tensor]:
        """Returns the inputs. Raises RequestRefused."""
        raws = request.raw_input_contents
        if raws and len(raws) != len(request.inputs):
            raise wrong_tensor(f"there are {len(request.inputs)} inputs, but raw contents of {len(raws)}")
        tensors: list[Tensor] = []
        for index, tensor in enumerate(request.inputs):
            head = input_head(tensor.name, tensor.datatype, list(tensor.shape), at_most=self.api.max_events)
            if raws:
                texts = unpack_texts(head.shown, raws[index], at_most=head.num)
            else:
                texts = decode_texts(head.shown, tensor.contents.bytes_contents)
            tensors.append(head.tensor(texts))
        return tensors


def parse_address(peer: str) -> str:
    """Returns the IP address of a gRPC peer.

    >>> parse_address("ipv4:203.0.113.7:5000"), parse_address("ipv6:%5B2001:db8::7%5D:5000")
    ('203.0.113.7', '2001:db8::7')
    """
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


def _metadata(context: Any) -> dict[str, str]:
    return {name: value for name, value in context.invocation_metadata() or () if isinstance(value, str)}


def _read_options(context: Any, version: int) -> RequestOptions:
    """Returns the options of a call."""
    metadata = _metadata(context)
    limits = [limit for limit in (read_timeout_s(metadata), context.time_remaining()) if limit is not None]
    return RequestOptions(
        # It never returns: gRPC cancels the call's coroutine if the client disconnects.
        disconnected=asyncio.Event().wait,
        timeout_s=min(limits, default=None),
        priority=parse_priority(metadata.get(PRIORITY_HEADER, Priority.NORMAL.name)),
        version=version,
        traceparent=read_traceparent(metadata),
    )


def _response(request: Any, columns: Sequence[Tensor]) -> Any:
    response = message("ModelInferResponse")(
        model_name=request.model_name, model_version=request.model_version, id=request.id
    )
    for column in columns:
        output = response.outputs.add(name=column.name, datatype=column.datatype, shape=column.shape)
        if request.raw_input_contents:
            response.raw_output_contents.append(pack(column))
        elif column.datatype == BYTES:
            output.contents.bytes_contents.extend(value.encode() for value in column.values)
        else:
            getattr(output.contents, CONTENTS[column.datatype]).extend(column.values)
    return response
