"""Vectors in the form of OpenAI's API, and by its client."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest

from model.ragged import RaggedBatch
from serving.http.app import make_app
from serving.http.listener import Listener
from tests.serving.http.served_api import ServedApi, read_error
from tests.serving.versions import TINY, build_encoder, live_versions, tokenizer

TEXTS = ["where is my card", "a second, somewhat longer text"]


def expected() -> Any:
    return build_encoder().encode(RaggedBatch.of(tokenizer().encode_many(TEXTS))).numpy()


def test_a_text_becomes_a_unit_vector(served: ServedApi) -> None:
    body = served.client.post("/v1/embeddings", json={"input": TEXTS[0], "model": "lifelong"}).json()
    (found,) = body["data"]
    assert (body["object"], found["object"], found["index"], body["version"]) == ("list", "embedding", 0, 1)
    assert found["embedding"] == pytest.approx(expected()[0].tolist(), abs=1e-5)
    assert np.linalg.norm(found["embedding"]) == pytest.approx(1.0, abs=1e-4)
    assert body["usage"] == {"prompt_tokens": 6, "total_tokens": 6}


def test_nothing_of_it_is_published(served: ServedApi) -> None:
    served.client.post("/v1/embeddings", json={"input": TEXTS})
    counts = served.pipeline.counts.snapshot()
    assert (counts["embeddings"], "answers" in counts, "answers_not_published" in counts) == (2, False, False)


def test_a_version_may_be_named(served: ServedApi) -> None:
    served.pipeline.engine.activate(live_versions([1, 2], share=0.0, number=2))
    for model, number in (("lifelong", 1), ("lifelong:candidate", 2), ("lifelong:2", 2)):
        body = served.client.post("/v1/embeddings", json={"input": "a", "model": model}).json()
        assert (body["model"], body["version"]) == (model, number)
    assert read_error(served.client.post("/v1/embeddings", json={"input": "a", "model": "gpt"})) == "404 unknown_model"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": []},
        {"input": [1, 2]},
        {"input": ["a"] * 11},
        {"input": ""},
        {"input": ["a", " "]},
        {"input": "a", "encoding_format": "hex"},
        {"input": "a", "dimensions": 7},
    ],
)
def test_other_inputs_are_refused(served: ServedApi, body: dict[str, Any]) -> None:
    assert read_error(served.client.post("/v1/embeddings", json=body)) == "422 wrong_schema"


def test_without_weights_there_are_no_vectors() -> None:
    assert read_error(ServedApi().client.post("/v1/embeddings", json={"input": "a"})) == "503 no_weights"


@pytest.fixture
def openai_client(served: ServedApi) -> Iterator[Any]:
    listener = Listener(make_app(served.api), host="127.0.0.1", port=0, drain_timeout_s=1)
    with openai.OpenAI(base_url=f"http://127.0.0.1:{listener.port}/v1", api_key="none", max_retries=0) as client:
        yield client
    listener.close()


@pytest.mark.parametrize("encoding_format", [None, "float", "base64"])
def test_openai_s_client_gets_them_in_every_format(openai_client: Any, encoding_format: str | None) -> None:
    """Its client asks for base64 where it is given no format, and decodes it."""
    more = {} if encoding_format is None else {"encoding_format": encoding_format}
    response = openai_client.embeddings.create(model="lifelong", input=TEXTS, dimensions=TINY.d_model, **more)
    for row, found in enumerate(response.data):
        vector = found.embedding
        if isinstance(vector, str):
            vector = np.frombuffer(base64.b64decode(vector), "<f4")
        assert np.asarray(vector) == pytest.approx(expected()[row], abs=1e-5)
    assert response.usage.total_tokens > 10


def test_openai_s_client_understands_errors(openai_client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="no model of that name"):
        openai_client.embeddings.create(model="text-embedding-3-small", input="a")
