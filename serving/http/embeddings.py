"""`POST /v1/embeddings` in the form of OpenAI's API: texts in, unit vectors out, as numbers or as base64.

The model is `lifelong`, whose vectors are those of the stable version, or `lifelong:VERSION` with the name of an arm or
a number. `encoding` names how the vectors were made: those of equal names may be compared, so a store of vectors keeps
it beside them, and embeds its texts anew when it changes.
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
from serving.http.problems import Problem, RequestRefused, accepted
from serving.http.requests import ask_of
from serving.http.schemas import UNREADABLE, Entry, Reply, event_of, wrong, wrong_shape
from serving.queue import EmbeddedText
from serving.v2 import MODEL, version_of


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`input` is a text or a list of texts. Ids of tokens are refused: they would be those of another tokenizer."""

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
    """`version` and `encoding` are ours; the rest is OpenAI's."""

    object: Literal["list"] = "list"
    data: list[EmbeddingBody]
    model: str
    usage: TokenUsage
    version: int
    encoding: str


_REQUESTS = msgspec.json.Decoder(EmbeddingsRequest)


@dataclass(frozen=True, slots=True)
class EmbeddingsApi:
    """The endpoint."""

    api: Api

    async def embeddings(self, request: Request) -> Response:
        client = self.api.client(request, Role.PREDICT)
        with self.api.bodies.room() as room:
            asked = _read(accepted(await room.read(request)))
            model, _, version = asked.model.partition(":")
            number = version_of(model, version or self._stable, self.api.bridge.live)
            events = self._events(asked)
            ask = ask_of(request, version=number, is_embedding=True)
            replies = await self.api.bridge.answer_many(self.api.admit(client, events), ask)
            found = [_vector_of(reply) for reply in replies]
            _check_dimensions(asked, found)
            return json_response(msgspec.json.encode(_body_of(asked, found)))

    @property
    def _stable(self) -> str:
        """The number of the version whose vectors are given where none is named; "" before the first weights."""
        live = self.api.bridge.live
        return str(live.plan.arms[0].version) if live else ""

    def _events(self, asked: EmbeddingsRequest) -> list[Entry]:
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        if not 0 < len(texts) <= self.api.max_events:
            raise RequestRefused(wrong_shape(f"`input` has {len(texts)} texts; give 1 to {self.api.max_events}"))
        now_ms = self.api.now_ms()
        return [accepted(event_of({"text": text}, "", "", now_ms=now_ms, new_id=self.api.new_id)) for text in texts]


def _read(body: bytes) -> EmbeddingsRequest:
    try:
        return _REQUESTS.decode(body)
    except UNREADABLE as error:
        raise RequestRefused(wrong(error)) from error


def _vector_of(reply: Reply) -> EmbeddedText:
    """Returns the vector. Raises RequestRefused: a list with a gap would have no form in this API."""
    if isinstance(reply, Problem):
        raise RequestRefused(reply)
    assert isinstance(reply, EmbeddedText), "vectors were asked for"
    return reply


def _check_dimensions(asked: EmbeddingsRequest, found: Sequence[EmbeddedText]) -> None:
    """Raises RequestRefused where another width was asked for: a part of a vector would not be a vector of the text."""
    width = len(array("f", found[0].z))
    if asked.dimensions not in (None, width):
        raise RequestRefused(wrong_shape(f"`dimensions` is {asked.dimensions}; vectors have {width}"))


def _body_of(asked: EmbeddingsRequest, found: Sequence[EmbeddedText]) -> EmbeddingsBody:
    num_tokens = sum(each.num_tokens for each in found)
    return EmbeddingsBody(
        data=[
            EmbeddingBody(index=index, embedding=_shown(each.z, asked.encoding_format))
            for index, each in enumerate(found)
        ],
        model=asked.model,
        usage=TokenUsage(prompt_tokens=num_tokens, total_tokens=num_tokens),
        version=found[0].weights_version,
        encoding=found[0].encoding,
    )


def _shown(z: bytes, encoding_format: str) -> list[float] | str:
    return base64.b64encode(z).decode() if encoding_format == "base64" else array("f", z).tolist()
