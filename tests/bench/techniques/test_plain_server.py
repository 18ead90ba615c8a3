"""Tests that the plain server answers each text of a request."""

from starlette.testclient import TestClient

from bench.techniques.plain_server import NUM_CLASSES, make_app


def test_each_text_gets_a_class_and_its_probability() -> None:
    with TestClient(make_app()) as client:
        answers = client.post("/predict", json={"texts": ["where is my card", "a", "where is my card"]}).json()
        assert client.post("/predict", json={"text": "one"}).status_code == 422
    assert len(answers) == 3 and answers[0]["label"] == answers[2]["label"]
    assert all(0 <= answer["label"] < NUM_CLASSES and 1 / NUM_CLASSES <= answer["score"] <= 1 for answer in answers)
