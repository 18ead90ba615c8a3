"""The three forms of a problem."""

from tests.serving.http.served_api import ServedApi


def test_a_client_that_accepts_problem_json_gets_it(served: ServedApi) -> None:
    """RFC 9457, section 3."""
    headers = {"accept": "application/problem+json, application/json", "x-request-id": "mine-1"}
    response = served.client.post("/v1/predict", json={"text": 5}, headers=headers)
    assert response.headers["content-type"] == "application/problem+json"
    detail = response.json()["detail"]
    assert "text" in detail
    assert response.json() == {
        "type": "urn:lifelong:problem:wrong_schema",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": detail,
        "code": "wrong_schema",
        "request_id": "mine-1",
    }


def test_unknown_paths_have_the_form_that_is_asked_for(served: ServedApi) -> None:
    headers = {"accept": "application/problem+json"}
    assert served.client.get("/v1/nothing", headers=headers).json()["code"] == "not_found"
    assert served.client.get("/v2/nothing", headers=headers).json() == {"error": "not_found: Not Found"}
