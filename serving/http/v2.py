"""The Open Inference Protocol in REST: JSON tensors, and the extension for binary tensor data.

    GET  /v2/health/live, /v2/health/ready, /v2, /v2/models/{m}[/versions/{v}][/ready]
    POST /v2/models/{m}[/versions/{v}]/infer     tensors in, tensors out

With the header `inference-header-content-length` the body is that many bytes of JSON, and after them the bytes of the
tensors that have `binary_data_size`, in order. Every error is {"error": "..."}.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from serving.http.access import Role
from serving.http.api import Api, json_response
from serving.http.problems import accepted
from serving.http.requests import ask_of
from serving.http.schemas import UNREADABLE
from serving.v2 import (
    Tensor,
    columns_of,
    events_of,
    input_head,
    metadata_of,
    pack,
    server_metadata,
    unpack_texts,
    version_of,
    wrong_tensor,
)

LENGTH_HEADER: Final = "inference-header-content-length"


class InputTensor(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[str | list[str]] | msgspec.UnsetType = msgspec.UNSET


class RequestedOutput(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The outputs that are named are returned; where none is, all are."""

    inputs: list[InputTensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[RequestedOutput] = []


class OutputTensor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, int] | msgspec.UnsetType = msgspec.UNSET
    data: list[str | float | int | bool] | msgspec.UnsetType = msgspec.UNSET


class InferResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    model_name: str
    model_version: str
    id: str = ""
    outputs: list[OutputTensor]


class ModelReady(msgspec.Struct, frozen=True):
    name: str
    ready: bool


_REQUESTS = msgspec.json.Decoder(InferRequest)


@dataclass(frozen=True, slots=True)
class V2Api:
    """The endpoints."""

    api: Api

    async def server(self, request: Request) -> Response:
        self.api.client(request, None)
        return json_response(msgspec.json.encode(server_metadata()))

    async def model(self, request: Request) -> Response:
        self.api.client(request, None)
        self._version(request)
        return json_response(msgspec.json.encode(metadata_of(self.api.bridge.live)))

    async def model_ready(self, request: Request) -> Response:
        self._version(request)
        self.api.require_ready()
        return json_response(msgspec.json.encode(ModelReady(request.path_params["model"], True)))

    async def infer(self, request: Request) -> Response:
        client = self.api.client(request, Role.PREDICT)
        version = self._version(request)
        with self.api.bodies.room() as room:
            body = accepted(await room.read(request))
            inferred, tensors = self._read(body, request.headers.get(LENGTH_HEADER))
            events = events_of(tensors, now_ms=self.api.now_ms(), new_id=self.api.new_id)
            entries = self.api.admit(client, events)
            replies = await self.api.bridge.answer_many(entries, ask_of(request, version=version))
            columns = columns_of(replies, [output.name for output in inferred.outputs])
            return _response(request, inferred, columns)

    def _version(self, request: Request) -> int:
        path = request.path_params
        return version_of(path["model"], path.get("version", ""), self.api.bridge.live)

    def _read(self, body: bytes, json_length: str | None) -> tuple[InferRequest, list[Tensor]]:
        """Returns the request and its tensors. Raises RequestRefused."""
        digits = str(len(body)) if json_length is None else json_length
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
            raise wrong_tensor(f"`{LENGTH_HEADER}` is not a number of bytes")
        end = int(digits)
        try:
            request = _REQUESTS.decode(body[:end])
        except UNREADABLE as error:
            raise wrong_tensor(f"the body is no inference request: {error}") from error
        rest = body[end:]
        tensors: list[Tensor] = []
        for given in request.inputs:
            tensor, rest = self._tensor(given, rest)
            tensors.append(tensor)
        if rest:
            raise wrong_tensor(f"{len(rest)} bytes after the last tensor belong to none")
        return request, tensors

    def _tensor(self, given: InputTensor, rest: bytes) -> tuple[Tensor, bytes]:
        """Returns a tensor, whose bytes may be the first of `rest`, and the bytes after them. Raises RequestRefused."""
        head = input_head(given.name, given.datatype, given.shape, at_most=self.api.max_events)
        if not isinstance(given.data, msgspec.UnsetType):
            return head.tensor(_flat(given.data)), rest
        size = given.parameters.get("binary_data_size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
            raise wrong_tensor(f"`{head.shown}` has neither `data` nor as many bytes as `binary_data_size` says")
        return head.tensor(unpack_texts(head.shown, rest[:size], at_most=head.num)), rest[size:]


def _flat(data: Sequence[str | list[str]]) -> list[str]:
    """Returns the elements of a tensor of one or two dimensions in row-major order."""
    texts: list[str] = []
    for element in data:
        texts += [element] if isinstance(element, str) else element
    return texts


def _response(request: Request, inferred: InferRequest, columns: Sequence[Tensor]) -> Response:
    asked = {output.name: output.parameters.get("binary_data") for output in inferred.outputs}
    default = inferred.parameters.get("binary_data_output") is True
    outputs: list[OutputTensor] = []
    blobs: list[bytes] = []
    for column in columns:
        chosen = asked.get(column.name)
        if chosen is True or (chosen is None and default):
            blobs.append(pack(column))
            size = {"binary_data_size": len(blobs[-1])}
            outputs.append(
                OutputTensor(name=column.name, datatype=column.datatype, shape=column.shape, parameters=size)
            )
        else:
            data = list(column.values)
            outputs.append(OutputTensor(name=column.name, datatype=column.datatype, shape=column.shape, data=data))
    path = request.path_params
    head = msgspec.json.encode(
        InferResponse(model_name=path["model"], model_version=path.get("version", ""), id=inferred.id, outputs=outputs)
    )
    if not blobs:
        return json_response(head)
    headers = {LENGTH_HEADER: str(len(head))}
    return Response(b"".join((head, *blobs)), headers=headers, media_type="application/octet-stream")
