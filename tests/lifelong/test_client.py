"""The blocking client against a running service: answers, labels with receipts, and refused requests."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from lifelong import (
    Client,
    ClientError,
    Event,
    Feedback,
    NotAuthorized,
    RequestInvalid,
    ServedAnswer,
    ServiceUnavailable,
    UnknownAnswer,
)
from serving.http.access import KeyFile, Role, create_key
from tests.lifelong.media.files import tone, wav
from tests.serving.kafka.fake_broker import FakeBroker
from tests.serving.versions import RECEIPTS, label_of
from wire.errors import BusUnavailable
from wire.rate_limits import TokenBuckets
from wire.records import MAX_EVENT_BYTES


def labels_in(fake_broker: FakeBroker) -> list[Feedback]:
    return [record for record, _ in fake_broker.sent if isinstance(record, Feedback)]


def test_an_answer_is_labelled_with_its_receipt(url: str, fake_broker: FakeBroker) -> None:
    with Client(url) as client:
        assert client.is_ready()
        answer = client.predict("where is my card", key="k")
        taken = client.feedback(answer, "lost card")
    assert isinstance(answer, ServedAnswer)
    assert (answer.text, answer.key, answer.source, answer.weights_version) == ("where is my card", "k", "http", 1)
    assert (answer.label, answer.can_be_labelled) == (answer.scores[0][0], True)
    (record,) = labels_in(fake_broker)
    assert RECEIPTS.refusal(record, is_required=True, max_age_ms=1_000) == ""
    assert (record.event_id, record.label, record.event_source) == (answer.event_id, "lost card", "http")
    assert taken.source == record.source == "127.0.0.1"


def test_the_id_of_an_event_is_enough_while_its_receipt_is_held(url: str, fake_broker: FakeBroker) -> None:
    with Client(url, max_receipts=2) as client:
        client.predict_many([Event(id=f"e{number}", text="hello") for number in range(3)])
        for event_id in ("e1", "e2"):
            client.feedback(event_id, "greeting")
        with pytest.raises(UnknownAnswer, match="'e0' is not among the last 2 answers"):
            client.feedback("e0", "greeting")
    assert [RECEIPTS.refusal(record, is_required=True, max_age_ms=1_000) for record in labels_in(fake_broker)] == [
        "",
        "",
    ]


def test_many_events_are_answered_in_order(url: str) -> None:
    texts = [f"text {number}" for number in range(25)]
    with Client(url, max_entries=10) as client:
        answers = client.predict_many(texts)
    assert [answer.text for answer in answers if isinstance(answer, ServedAnswer)] == texts
    assert len({answer.event_id for answer in answers if isinstance(answer, ServedAnswer)}) == 25


def test_a_wrong_event_or_label_fails_alone(url: str, fake_broker: FakeBroker) -> None:
    with Client(url) as client:
        answer, blank = client.predict_many(["hello", " "])
        assert isinstance(answer, ServedAnswer)
        assert isinstance(blank, RequestInvalid)
        assert (blank.code, blank.status) == ("wrong_schema", None)
        taken, refused = client.feedback_many([(answer, "greeting"), (answer, "x" * 2_000)])
        assert isinstance(taken, Feedback)
        assert isinstance(refused, RequestInvalid)
        with pytest.raises(RequestInvalid, match="wrong_schema: `text` is blank"):
            client.predict(" ")
        with pytest.raises(RequestInvalid, match="too_large"):
            client.predict("x" * MAX_EVENT_BYTES)
    assert len(labels_in(fake_broker)) == 1


def test_the_receipt_of_another_answer_is_refused(url: str) -> None:
    with Client(url) as client:
        one, other = client.predict("one"), client.predict("other")
        with pytest.raises(RequestInvalid, match="forged_receipt"):
            client.feedback(msgspec.structs.replace(one, receipt=other.receipt), "greeting")


def test_an_event_with_another_source_is_refused(url: str) -> None:
    with Client(url) as client, pytest.raises(ValueError, match="not 'shop'"):
        client.predict_many([Event(id="17", text="hello", source="shop")])


def test_an_api_key_limits_the_calls_to_its_roles(
    listen: Callable[..., str], tmp_path: Path, fake_broker: FakeBroker
) -> None:
    path = tmp_path / "keys.json"
    asks, labels = (create_key(path, role.value, [role], now_ms=5)[1] for role in (Role.PREDICT, Role.FEEDBACK))
    url = listen(keys=KeyFile(path))
    with Client(url) as unknown, pytest.raises(NotAuthorized) as caught:
        unknown.predict("hello")
    assert (caught.value.code, caught.value.status) == ("unauthenticated", 401)
    assert caught.value.request_id
    with Client(url, api_key=asks) as shop, Client(url, api_key=labels) as desk:
        answer = shop.predict("hello")
        with pytest.raises(NotAuthorized, match="forbidden: this needs an API key with the role 'feedback'"):
            shop.feedback(answer, "greeting")
        assert desk.feedback(answer, "greeting").source == "feedback"
        with pytest.raises(NotAuthorized):
            desk.feedback(answer, "farewell", correct=True)


def test_a_rate_limited_call_is_retried_after_the_time_in_retry_after(listen: Callable[..., str]) -> None:
    url = listen(limit=TokenBuckets(rate=2, burst=1, max_keys=9))
    with Client(url) as client:
        assert [client.predict("hello").label for _ in range(2)] == [label_of(1, "hello")] * 2
    with Client(url, timeout_s=0.5) as hasty, pytest.raises(ServiceUnavailable, match="rate_limited") as caught:
        hasty.predict("hello")
    assert caught.value.retry_after_s == 1.0


def test_a_label_is_sent_again_until_the_broker_has_it(listen: Callable[..., str], fake_broker: FakeBroker) -> None:
    url = listen(timeout_s=0.2)
    with Client(url) as client:
        answer = client.predict("hello")
        failures = iter([BusUnavailable("away")] * 3)
        fake_broker.says = lambda record: next(failures, None) if isinstance(record, Feedback) else None
        client.feedback(answer, "greeting")
    assert {record.label for record in labels_in(fake_broker)} == {"greeting"}


def test_an_unreachable_service_is_named(listen: Callable[..., str]) -> None:
    nobody = "http://127.0.0.1:9"
    with Client(nobody, timeout_s=0.3) as client:
        assert not client.is_ready()
        with pytest.raises(ServiceUnavailable, match=r"unreachable: no response from http://127.0.0.1:9/v1/predict"):
            client.predict("hello")
    with pytest.raises(ValueError, match="is not the URL of a service"):
        Client("127.0.0.1:8000")


def test_a_path_without_the_service_is_an_error(url: str) -> None:
    with Client(f"{url}/elsewhere") as client, pytest.raises(ClientError) as caught:
        client.predict("hello")
    assert (caught.value.code, caught.value.status) == ("not_found", 404)


def test_the_files_of_a_picture_and_a_sound_are_parts_of_the_event(url: str, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav(tone(440, 0.1)))
    with Client(url) as client, pytest.raises(RequestInvalid, match="cannot be read: the picture is not a PNG"):
        client.predict("hello", image=b"GIF89a", audio=tmp_path / "a.wav")
    with Client(url) as client, pytest.raises(RequestInvalid, match="the encoder has no stem for 'audio'"):
        client.predict(audio=tmp_path / "a.wav")
