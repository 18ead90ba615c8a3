"""The Open Inference Protocol in REST: by the examples of its specification, and by Triton's client."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.http as http
from tritonclient.utils import InferenceServerException

from serving.http.app import make_app
from serving.http.listener import Listener
from tests.serving.http.served_api import Response, ServedApi
from tests.serving.versions import label_of, live_versions

INFER = "/v2/models/lifelong/infer"
TEXT = "where is my card"


def texts(*values: str, name: str = "text", **changes: Any) -> dict[str, Any]:
    return {"name": name, "shape": [len(values)], "datatype": "BYTES", "data": [*values], **changes}


def read_outputs(response: Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.json()["outputs"]}


def test_the_health_endpoints_answer_by_their_status(served: ServedApi) -> None:
    paths = ("/v2/health/live", "/v2/health/ready", "/v2/models/lifelong/ready", "/v2/models/lifelong/versions/1/ready")
    assert [served.client.get(path).status_code for path in paths] == [200] * 4
    asleep = ServedApi()
    assert [asleep.client.get(path).status_code for path in paths] == [200, 503, 503, 404]


def test_the_metadata_has_the_form_of_the_specification(served: ServedApi) -> None:
    server = served.client.get("/v2").json()
    assert (server["name"], server["extensions"]) == ("lifelong", ["binary_tensor_data"])
    model = served.client.get("/v2/models/lifelong").json()
    assert (model["name"], model["versions"]) == ("lifelong", ["stable", "1"])
    assert model["inputs"][0] == {"name": "text", "datatype": "BYTES", "shape": [-1]}
    assert served.client.get("/v2/models/lifelong/versions/stable").json() == model


def test_the_example_of_a_request_is_answered_in_its_form(served: ServedApi) -> None:
    body = {"id": "42", "inputs": [texts(TEXT, "b")], "outputs": [{"name": "label"}]}
    response = served.client.post(INFER, json=body)
    labels = [label_of(1, text) for text in (TEXT, "b")]
    assert response.json() == {
        "model_name": "lifelong",
        "model_version": "",
        "id": "42",
        "outputs": [{"name": "label", "datatype": "BYTES", "shape": [2], "data": labels}],
    }


def test_data_may_be_nested_or_flat(served: ServedApi) -> None:
    """Tensor data: "a flattened, one-dimensional, row-major order representation", or nested arrays."""
    nested = texts(TEXT, shape=[1, 1], data=[[TEXT]])
    for given in (nested, texts(TEXT, shape=[1, 1])):
        assert read_outputs(served.client.post(INFER, json={"inputs": [given]}))["label"] == [label_of(1, TEXT)]


def test_an_answer_by_the_plan_is_published_and_has_a_receipt(served: ServedApi) -> None:
    inputs = [texts(TEXT), texts("e1", name="id"), texts("k", name="key")]
    outputs = read_outputs(served.client.post(INFER, json={"inputs": inputs}))
    assert (outputs["event_id"], outputs["arm"], outputs["version"]) == (["e1"], ["stable"], [1])
    assert outputs["receipt"][0]
    assert outputs["can_be_labelled"] == [True]


def test_a_named_version_answers_whatever_the_plan_says(served: ServedApi) -> None:
    served.pipeline.engine.activate(live_versions([1, 2], share=0.0, number=2))
    for version, number in (("candidate", 2), ("2", 2), ("stable", 1)):
        response = served.client.post(f"/v2/models/lifelong/versions/{version}/infer", json={"inputs": [texts(TEXT)]})
        outputs = read_outputs(response)
        assert (outputs["version"], outputs["label"]) == ([number], [label_of(number, TEXT)])
        assert (outputs["receipt"], outputs["can_be_labelled"]) == ([""], [False])
        assert response.json()["model_version"] == version


WRONG: list[dict[str, Any]] = [
    {},
    {"inputs": []},
    {"inputs": [texts(TEXT, datatype="FP32")]},
    {"inputs": [texts(TEXT, shape=[2])]},
    {"inputs": [texts(TEXT, shape=[1, 1, 1])]},
    {"inputs": [texts(TEXT, shape=["one"])]},
    {"inputs": [texts(TEXT, data=[5])]},
    {"inputs": [texts(TEXT, data=None)]},
    {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES"}]},
    {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 9}}]},
    {"inputs": [texts(TEXT), texts("x", name="image")]},
    {"inputs": [texts(*["x"] * 11)]},
    {"inputs": [texts(TEXT)], "outputs": [{"name": "probability"}]},
]


@pytest.mark.parametrize("body", WRONG)
def test_a_wrong_request_is_a_400_with_one_error(served: ServedApi, body: dict[str, Any]) -> None:
    response = served.client.post(INFER, json=body)
    assert (response.status_code, [*response.json()]) == (400, ["error"])
    assert isinstance(response.json()["error"], str)


@pytest.mark.parametrize("length", ["x", "-1", "9" * 20, "3"])
def test_a_wrong_length_of_the_json_is_a_400(served: ServedApi, length: str) -> None:
    body = json.dumps({"inputs": [texts(TEXT)]})
    response = served.client.post(INFER, content=body, headers={"inference-header-content-length": length})
    assert response.status_code == 400


def test_unknown_names_are_a_404(served: ServedApi) -> None:
    for path in ("/v2/models/resnet", "/v2/models/lifelong/versions/7/ready", "/v2/nothing"):
        response = served.client.get(path)
        assert (response.status_code, [*response.json()]) == (404, ["error"])


@pytest.fixture
def triton(served: ServedApi) -> Iterator[Any]:
    """Triton's client of a real port."""
    listener = Listener(make_app(served.api), host="127.0.0.1", port=0, drain_timeout_s=1)
    client = http.InferenceServerClient(f"127.0.0.1:{listener.port}")
    yield client
    client.close()
    listener.close()


@pytest.fixture
def given() -> Callable[[bool], Any]:
    def make_input(is_binary: bool) -> Any:
        tensor = http.InferInput("text", [2], "BYTES")
        tensor.set_data_from_numpy(np.array([TEXT, "caf\u00e9"], dtype=object), binary_data=is_binary)
        return tensor

    return make_input


@pytest.mark.parametrize("is_binary", [False, True])
def test_triton_s_client_gets_answers(triton: Any, given: Callable[[bool], Any], is_binary: bool) -> None:
    outputs = [http.InferRequestedOutput(name, binary_data=is_binary) for name in ("label", "score", "version")]
    for requested in (None, outputs):
        result = triton.infer("lifelong", [given(is_binary)], outputs=requested, request_id="r1")
        labels = [label if isinstance(label, str) else label.decode() for label in result.as_numpy("label")]
        assert labels == [label_of(1, text) for text in (TEXT, "caf\u00e9")]
        assert result.as_numpy("score").dtype == np.float32
        assert result.as_numpy("version").tolist() == [1, 1]
        assert result.get_response()["id"] == "r1"


def test_triton_s_client_reads_health_metadata_and_errors(triton: Any, given: Callable[[bool], Any]) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("lifelong", "stable")
    assert not triton.is_model_ready("resnet")
    assert triton.get_server_metadata()["name"] == "lifelong"
    assert triton.get_model_metadata("lifelong")["platform"] == "lifelong"
    with pytest.raises(InferenceServerException, match="unknown_model"):
        triton.infer("lifelong", [given(True)], model_version="7")
