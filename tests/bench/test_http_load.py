"""The clients of the benchmark over HTTP and gRPC, against real ports."""

from collections.abc import Iterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bench.http_load import over_grpc, over_http, post
from evals.results.row import NoResult
from serving.grpc.listener import GrpcListener
from serving.grpc.proto import message
from serving.http.app import make_app
from serving.http.listener import DEFAULTS, Listener
from tests.serving.http.served_api import ServedApi

METHOD = "/inference.GRPCInferenceService/"


@pytest.fixture
def served() -> Iterator[ServedApi]:
    with ServedApi().running() as served:
        yield served


@pytest.fixture
def port(served: ServedApi) -> Iterator[int]:
    listener = Listener(make_app(served.api), host="127.0.0.1", port=0, drain_timeout_s=1)
    yield listener.port
    listener.close()


def test_every_client_gets_answers_until_the_time_is_over(port: int, served: ServedApi) -> None:
    requests = [post("/v1/predict", {"text": text}, port=port) for text in ("a", "b")]
    load = over_http(port, requests, num_clients=3, seconds=0.5)
    assert load.requests_per_s > 0
    assert load.p50_ms <= load.p99_ms
    assert served.pipeline.counts.snapshot()["answers"] >= load.requests_per_s * 0.5


def test_a_refused_request_ends_the_measurement(port: int) -> None:
    with pytest.raises(NoResult, match="422"):
        over_http(port, [post("/v1/predict", {}, port=port)], num_clients=1, seconds=0.5)


def test_a_body_in_chunks_is_an_answer() -> None:
    async def in_chunks(request: Request) -> Response:
        return StreamingResponse(iter([b"[1, ", b"2]"]), media_type="application/json")

    app = Starlette(routes=[Route("/predict", in_chunks, methods=["POST"])])
    listener = Listener(app, host="127.0.0.1", port=0, drain_timeout_s=1)
    load = over_http(listener.port, [post("/predict", {}, port=listener.port)], num_clients=2, seconds=0.5)
    assert load.requests_per_s > 0
    listener.close()


def test_on_a_closed_port_there_is_no_result() -> None:
    with pytest.raises(NoResult, match="no answer"):
        over_http(1, [b""], num_clients=1, seconds=0.5)


def test_the_same_over_grpc(served: ServedApi) -> None:
    listener = GrpcListener(served.api, host="127.0.0.1", port=0, drain_timeout_s=1, bounds=DEFAULTS)
    request = message("ModelInferRequest")(model_name="lifelong")
    request.inputs.add(name="text", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a")
    wire = request.SerializeToString()
    load = over_grpc(listener.port, f"{METHOD}ModelInfer", [wire], num_clients=2, seconds=0.5)
    assert load.requests_per_s > 0
    with pytest.raises(NoResult, match="refused"):
        over_grpc(listener.port, f"{METHOD}ModelInfer", [b""], num_clients=1, seconds=0.5)
    listener.close()
