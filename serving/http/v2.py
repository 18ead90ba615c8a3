"""The Open Inference Protocol over REST: JSON tensors, and the extension for binary tensor data.

    GET  /v2/health/live, /v2/health/ready, /v2, /v2/models/{m}[/versions/{v}][/ready]
    POST /v2/models/{m}[/versions/{v}]/infer     tensors in, tensors out

If a request has the header `inference-header-content-length`, its body begins with this many bytes of JSON. The bytes
of the tensors that have `binary_data_size` follow, in their order. Every error is {"error": "..."}.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from serving.http.access import Role
from serving.http.api import Api, json_response
from serving.http.problems import unwrap
from serving.http.requests import read_options
from serving.http.schemas import UNREADABLE
from serving.v2 import (
    Tensor,
    build_columns,
    build_metadata,
    decode_events,
    find_version,
    input_head,
    pack,
    server_metadata,
    unpack_texts,
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
    """`outputs` names the outputs to return; if it is empty, all outputs are returned."""

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
    """The endpoints of the Open Inference Protocol."""

    api: Api

    async def server(self, request: Request) -> Response:
        self.api.client(request, None)
        return json_response(msgspec.json.encode(server_metadata()))

    async def model(self, request: Request) -> Response:
        self.api.client(request, None)
        self._version(request)
        return json_response(msgspec.json.encode(build_metadata(self.api.bridge.live)))

    async def model_ready(self, request: Request) -> Response:
        self._version(request)
        self.api.require_ready()
        return json_response(msgspec.json.encode(ModelReady(request.path_params["model"], True)))

    async def infer(self, request: Request) -> Response:
        client = self.api.client(request, Role.PREDICT)
        version = self._version(request)
        with self.api.bodies.reader() as reader:
            body = unwrap(await reader.read(request))
            inferred, tensors = self._read(body, request.headers.get(LENGTH_HEADER))
            events = decode_events(tensors, now_ms=self.api.now_ms(), new_id=self.api.new_id)
            entries = self.api.admit(client, events)
            replies = await self.api.bridge.answer_many(entries, read_options(request, version=version))
            columns = build_columns(replies, [output.name for output in inferred.outputs])
            return _response(request, inferred, columns)

    def _version(self, request: Request) -> int:
        path = request.path_params
        return find_version(path["model"], path.get("version", ""), self.api.bridge.live)

    def _read(self, body: bytes, json_length: str | None) -> tuple[InferRequest, list[Tensor]]:
        """Returns the request and its tensors. Raises RequestRefused."""
        digits = str(len(body)) if json_length is None else json_length
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 10):
            raise wrong_tensor(f"`{LENGTH_HEADER}` is not a number of bytes")
        end = int(digits)
        try:
            request = _REQUESTS.decode(body[:end])
        except UNREADABLE as error:
            raise wrong_tensor(f"the body is not a valid inference request: {error}") from error
        rest = body[end:]
        tensors: list[Tensor] = []
        for input_tensor in request.inputs:
            tensor, rest = self._tensor(input_tensor, rest)
            tensors.append(tensor)
        if rest:
            raise wrong_tensor(f"{len(rest)} bytes after the last tensor belong to no tensor")
        return request, tensors

    def _tensor(self, input_tensor: InputTensor, rest: bytes) -> tuple[Tensor, bytes]:
        """Returns the tensor, and the bytes of `rest` that belong to later tensors. Raises RequestRefused.

        If the input has no JSON data, its bytes are the first ones of `rest`.
        """
        head = input_head(input_tensor.name, input_tensor.datatype, input_tensor.shape, at_most=self.api.max_events)
        if not isinstance(input_tensor.data, msgspec.UnsetType):
            return head.tensor(_flat(input_tensor.data)), rest
        size = input_tensor.parameters.get("binary_data_size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(rest):
            raise wrong_tensor(f"`{head.shown}` has neither `data` nor as many bytes as `binary_data_size` states")
        return head.tensor(unpack_texts(head.shown, rest[:size], at_most=head.num)), rest[size:]


def _flat(data: Sequence[str | list[str]]) -> list[str]:
    """Returns the elements of a tensor of one or two dimensions in row-major order."""
    texts: list[str] = []
    for element in data:
        texts += [element] if isinstance(element, str) else element
    return texts


def _response(request: Request, inferred: InferRequest, columns: Sequence[Tensor]) -> Response:
    requested = {output.name: output.parameters.get("binary_data") for output in inferred.outputs}
    default = inferred.parameters.get("binary_data_output") is True
    outputs: list[OutputTensor] = []
    blobs: list[bytes] = []
    for column in columns:
        is_binary = requested.get(column.name)
        if is_binary is True or (is_binary is None and default):
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
