"""The Open Inference Protocol in gRPC, and by Triton's client."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from serving.grpc.listener import GrpcListener
from serving.grpc.proto import SERVICE
from serving.grpc.service import HEALTH
from serving.http.access import KeyFile, Role, create_key
from serving.http.listener import DEFAULTS
from tests.serving.http.served_api import ServedApi
from tests.serving.versions import label_of, live_versions
from tests.waiting import eventually

TEXT = "where is my card"
CODES = grpc.StatusCode


def text_input(*texts: str, **changes: Any) -> dict[str, Any]:
    contents = {"bytes_contents": [text.encode() for text in texts]}
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "contents": contents, **changes}


def read_outputs(response: Any) -> dict[str, list[Any]]:
    """Returns the values of a response with typed contents, by the names of the outputs."""
    found: dict[str, list[Any]] = {}
    for output in response.outputs:
        ((_, values),) = output.contents.ListFields()
        found[output.name] = [value.decode() if isinstance(value, bytes) else value for value in values]
    return found


def exit_code(call: Callable[..., Any], method: str, **fields: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as caught:
        call(method, **fields)
    return caught.value.code()


def test_texts_become_answers_in_the_form_in_which_they_came(call: Callable[..., Any]) -> None:
    response = call("ModelInfer", model_name="lifelong", id="42", inputs=[text_input(TEXT, "b")])
    outputs = read_outputs(response)
    assert (response.id, response.model_name) == ("42", "lifelong")
    assert outputs["label"] == [label_of(1, text) for text in (TEXT, "b")]
    assert (outputs["version"], outputs["arm"], outputs["can_be_labelled"]) == ([1, 1], ["stable"] * 2, [True, True])
    chosen = call("ModelInfer", model_name="lifelong", inputs=[text_input(TEXT)], outputs=[{"name": "score"}])
    assert [output.name for output in chosen.outputs] == ["score"]


def test_a_named_version_answers(served: ServedApi, call: Callable[..., Any]) -> None:
    served.pipeline.engine.activate(live_versions([1, 2], share=0.0, number=2))
    response = call("ModelInfer", model_name="lifelong", model_version="candidate", inputs=[text_input(TEXT)])
    assert read_outputs(response)["label"] == [label_of(2, TEXT)]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"model_name": "resnet", "inputs": [text_input(TEXT)]}, CODES.NOT_FOUND),
        ({"model_name": "lifelong", "model_version": "7", "inputs": [text_input(TEXT)]}, CODES.NOT_FOUND),
        ({"model_name": "lifelong"}, CODES.INVALID_ARGUMENT),
        ({"model_name": "lifelong", "inputs": [text_input(TEXT, datatype="FP32")]}, CODES.INVALID_ARGUMENT),
        ({"model_name": "lifelong", "inputs": [text_input(TEXT, shape=[2])]}, CODES.INVALID_ARGUMENT),
        ({"model_name": "lifelong", "inputs": [text_input(*"abcdefghijk")]}, CODES.INVALID_ARGUMENT),
        (
            {"model_name": "lifelong", "inputs": [text_input(TEXT)], "raw_input_contents": [b"x", b"y"]},
            CODES.INVALID_ARGUMENT,
        ),
        (
            {"model_name": "lifelong", "inputs": [text_input(TEXT)], "metadata": [("x-priority", "x")]},
            CODES.INVALID_ARGUMENT,
        ),
    ],
)
def test_wrong_requests_have_the_status_of_their_fault(
    served: ServedApi, call: Callable[..., Any], fields: dict[str, Any], code: grpc.StatusCode
) -> None:
    assert exit_code(call, "ModelInfer", **fields) is code
    assert sum(served.pipeline.counts.snapshot().values()) == 1


def test_a_message_above_the_limit_is_refused_before_it_is_parsed(served: ServedApi, call: Callable[..., Any]) -> None:
    fields = {"model_name": "lifelong", "inputs": [text_input("x" * (1 << 20))]}
    assert exit_code(call, "ModelInfer", **fields) is CODES.RESOURCE_EXHAUSTED
    assert served.pipeline.counts.snapshot() == {}


def test_a_call_whose_deadline_is_over_is_not_computed() -> None:
    idle = ServedApi(timeout_s=60.0)
    idle.pipeline.engine.activate(live_versions([1]))
    listener = GrpcListener(idle.api, host="127.0.0.1", port=0, drain_timeout_s=1, bounds=DEFAULTS)
    client = triton.InferenceServerClient(f"127.0.0.1:{listener.port}")
    with pytest.raises(triton.InferenceServerException, match=r"(?i)deadline"):
        client.infer("lifelong", [triton_input()], client_timeout=0.1)
    client.close()
    eventually(lambda: len(idle.pipeline.queue) == 2)
    listener.close()
    idle.pipeline.engine.start()
    idle.drain()
    assert idle.pipeline.counts.snapshot() == {"abandoned": 2}


def test_a_failure_of_ours_tells_nothing_of_the_inside(served: ServedApi, call: Callable[..., Any]) -> None:
    def encode(texts: Any) -> list[list[int]]:
        raise KeyError("a secret")

    served.encode = encode
    with pytest.raises(grpc.RpcError) as caught:
        call("ModelInfer", model_name="lifelong", inputs=[text_input(TEXT)])
    assert caught.value.code() is CODES.INTERNAL
    assert "secret" not in caught.value.details()


def test_without_weights_it_is_live_and_not_ready() -> None:
    asleep = ServedApi()
    listener = GrpcListener(asleep.api, host="127.0.0.1", port=0, drain_timeout_s=1, bounds=DEFAULTS)
    with grpc.insecure_channel(f"127.0.0.1:{listener.port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        statuses = [stub.Check(health_pb2.HealthCheckRequest(service=name)).status for name in ("", SERVICE, "x")]
    listener.close()
    assert statuses == [2, 2, 3]  # not serving, not serving, unknown


def test_health_and_reflection_are_the_standard_ones(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    assert stub.Check(health_pb2.HealthCheckRequest()).status == 1
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {SERVICE, HEALTH} <= {*database.get_services()}
    assert database.FindFileContainingSymbol(SERVICE).service[0].name == "GRPCInferenceService"


def test_keys_are_asked_for_as_over_http(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, key = create_key(path, "shop", [Role.PREDICT], now_ms=5)
    with ServedApi(keys=KeyFile(path)).running() as served:
        listener = GrpcListener(served.api, host="127.0.0.1", port=0, drain_timeout_s=1, bounds=DEFAULTS)
        client = triton.InferenceServerClient(f"127.0.0.1:{listener.port}")
        with pytest.raises(triton.InferenceServerException, match="unauthenticated"):
            client.infer("lifelong", [triton_input()])
        assert client.infer("lifelong", [triton_input()], headers={"x-api-key": key}).as_numpy("label") is not None
        client.close()
        listener.close()


def triton_input() -> Any:
    tensor = triton.InferInput("text", [2], "BYTES")
    tensor.set_data_from_numpy(np.array([TEXT, "caf\u00e9"], dtype=object))
    return tensor


@pytest.fixture
def triton_client(listener: GrpcListener) -> Iterator[Any]:
    client = triton.InferenceServerClient(f"127.0.0.1:{listener.port}")
    yield client
    client.close()


def test_triton_s_client_gets_answers(triton_client: Any) -> None:
    result = triton_client.infer("lifelong", [triton_input()], request_id="r1")
    assert [label.decode() for label in result.as_numpy("label")] == [label_of(1, text) for text in (TEXT, "caf\u00e9")]
    assert result.as_numpy("score").dtype == np.float32
    assert result.as_numpy("version").tolist() == [1, 1]
    assert result.get_response().id == "r1"


def test_triton_s_client_reads_health_and_metadata(triton_client: Any) -> None:
    assert triton_client.is_server_live()
    assert triton_client.is_server_ready()
    assert triton_client.is_model_ready("lifelong", "stable")
    assert triton_client.get_server_metadata().name == "lifelong"
    metadata = triton_client.get_model_metadata("lifelong")
    assert [*metadata.versions] == ["stable", "1"]
    assert metadata.inputs[0].name == "text"
