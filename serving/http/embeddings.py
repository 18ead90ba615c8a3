"""`POST /v1/embeddings` in the format of OpenAI's API: returns a unit vector for each text, as numbers or as base64.

The model `lifelong` returns the stable version's vectors; `lifelong:VERSION` returns the vectors of an arm or of a
version's number. `encoding` names the function from texts to vectors: only vectors with equal names may be compared. A
vector store should keep the name with its vectors, and embed its texts again when the name changes.
"""

import base64
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from serving.http.access import Role
from serving.http.api import Api, json_response
from serving.http.problems import Problem, RequestRefused, unwrap
from serving.http.requests import read_options
from serving.http.schemas import UNREADABLE, Entry, Reply, decoding_problem, make_event, schema_problem
from serving.queue import EmbeddedText
from serving.v2 import MODEL, find_version


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`input` is a text or a list of texts. Token ids are refused, because they would come from another tokenizer."""

    input: str | list[str]
    model: str = MODEL
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str = ""


class EmbeddingBody(msgspec.Struct, frozen=True, kw_only=True):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class TokenUsage(msgspec.Struct, frozen=True, kw_only=True):
    prompt_tokens: int
    total_tokens: int


class EmbeddingsBody(msgspec.Struct, frozen=True, kw_only=True):
    """`version` and `encoding` are our additions; the other fields are OpenAI's."""

    object: Literal["list"] = "list"
    data: list[EmbeddingBody]
    model: str
    usage: TokenUsage
    version: int
    encoding: str


_REQUESTS = msgspec.json.Decoder(EmbeddingsRequest)


@dataclass(frozen=True, slots=True)
class EmbeddingsApi:
    """The endpoint for vectors."""

    api: Api

    async def embeddings(self, request: Request) -> Response:
        client = self.api.client(request, Role.PREDICT)
        with self.api.bodies.reader() as reader:
            body = _read(unwrap(await reader.read(request)))
            model, _, version = body.model.partition(":")
            number = find_version(model, version or self._stable, self.api.bridge.live)
            events = self._events(body)
            options = read_options(request, version=number, is_embedding=True)
            replies = await self.api.bridge.answer_many(self.api.admit(client, events), options)
            vectors = [_require_vector(reply) for reply in replies]
            _check_dimensions(body, vectors)
            return json_response(msgspec.json.encode(_to_body(body, vectors)))

    @property
    def _stable(self) -> str:
        """The number of the stable version, which is the default; "" before the first weights."""
        live = self.api.bridge.live
        return str(live.plan.arms[0].version) if live else ""

    def _events(self, body: EmbeddingsRequest) -> list[Entry]:
        texts = [body.input] if isinstance(body.input, str) else body.input
        if not 0 < len(texts) <= self.api.max_events:
            raise RequestRefused(schema_problem(f"`input` has {len(texts)} texts; give 1 to {self.api.max_events}"))
        now_ms = self.api.now_ms()
        return [unwrap(make_event({"text": text}, "", "", now_ms=now_ms, new_id=self.api.new_id)) for text in texts]


def _read(body: bytes) -> EmbeddingsRequest:
    try:
        return _REQUESTS.decode(body)
    except UNREADABLE as error:
        raise RequestRefused(decoding_problem(error)) from error


def _require_vector(reply: Reply) -> EmbeddedText:
    """Returns the vector. Raises RequestRefused for a problem, because this API has no format for partial results."""
    if isinstance(reply, Problem):
        raise RequestRefused(reply)
    assert isinstance(reply, EmbeddedText), "the request was for vectors"
    return reply


def _check_dimensions(request: EmbeddingsRequest, vectors: Sequence[EmbeddedText]) -> None:
    """Raises RequestRefused if the request wants another width: truncated vectors would be meaningless."""
    width = len(array("f", vectors[0].z))
    if request.dimensions not in (None, width):
        raise RequestRefused(
            schema_problem(f"`dimensions` is {request.dimensions}, but vectors have {width}: leave `dimensions` out")
        )


def _to_body(request: EmbeddingsRequest, vectors: Sequence[EmbeddedText]) -> EmbeddingsBody:
    num_tokens = sum(vector.num_tokens for vector in vectors)
    return EmbeddingsBody(
        data=[
            EmbeddingBody(index=index, embedding=_format_vector(vector.z, request.encoding_format))
            for index, vector in enumerate(vectors)
        ],
        model=request.model,
        usage=TokenUsage(prompt_tokens=num_tokens, total_tokens=num_tokens),
        version=vectors[0].weights_version,
        encoding=vectors[0].encoding,
    )


def _format_vector(z: bytes, encoding_format: str) -> list[float] | str:
    return base64.b64encode(z).decode() if encoding_format == "base64" else array("f", z).tolist()
