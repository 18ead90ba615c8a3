"""`lifelong try-message`: what a message becomes, and why it is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.services.command_line import lifelong

MAP = {
    "LIFELONG_BUS__MAP__EVENTS__TOPIC": "crm.messages",
    "LIFELONG_BUS__MAP__EVENTS__ID": "{ticket_id}",
    "LIFELONG_BUS__MAP__EVENTS__TEXT": "{body}",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "message.json"


def tried(file: Path, body: Any, *words: str, **environ: str) -> tuple[int, dict[str, Any]]:
    file.write_text(json.dumps(body) if not isinstance(body, str) else body)
    done = lifelong("try-message", str(file), *words, **environ)
    return done.returncode, json.loads(done.stdout)


def test_a_message_is_shown_as_what_it_becomes(file: Path) -> None:
    code, shown = tried(file, {"ticket_id": 7, "body": "hello"}, "--key", "k", "--header", "traceparent=00-ab", **MAP)
    assert code == 0
    assert shown["topic"] == "crm.messages"
    assert shown["event"]["id"] == "7" and shown["event"]["key"] == "k"
    assert shown["event"]["headers"] == [["traceparent", "00-ab"]]


def test_of_several_topics_that_have_the_map_all_are_named(file: Path) -> None:
    topics = MAP | {"LIFELONG_BUS__MAP__EVENTS__TOPIC": '["crm.mail", "crm.phone"]'}
    _, shown = tried(file, {"ticket_id": 7, "body": "hello"}, **topics)
    assert shown["topic"] == ["crm.mail", "crm.phone"]


def test_a_message_that_is_refused_says_what_mends_it(file: Path) -> None:
    code, shown = tried(file, {"ticket_id": 7, "bdy": "hello"}, **MAP)
    assert (code, shown["refused"]) == (2, "wrong_schema")
    assert "Did you mean 'bdy'?" in shown["detail"] and "[bus.map]" in shown["fix"]


@pytest.mark.parametrize("body", ["", "no json", "[1]"])
def test_no_value_is_a_bug(file: Path, body: str) -> None:
    code, shown = tried(file, body)
    assert code == 2 and shown["refused"] and shown["fix"]


def test_fields_that_nobody_reads_are_named(file: Path) -> None:
    code, shown = tried(file, {"event_id": "a", "labell": "b"}, "--as", "feedback")
    assert code == 2
    assert shown["ignored"] == ["labell (did you mean label?)"]


LABELS = {
    "LIFELONG_LABELS__MODE": "listed",
    "LIFELONG_LABELS__ALLOW": '["refund", "delivery"]',
    "LIFELONG_BUS__MAP__FEEDBACK__TOPIC": "crm.resolutions",
    "LIFELONG_BUS__MAP__FEEDBACK__EVENT_ID": "{ticket_id}",
    "LIFELONG_BUS__MAP__FEEDBACK__LABEL": "{queue}",
    "LIFELONG_TASKS": '{"tags": {"labels": {"kind": "multilabel", "mode": "open", "allow": []}}}',
}


@pytest.mark.parametrize(
    ("body", "reason", "told"),
    [
        ({"ticket_id": 7, "queue": "refund"}, None, ""),
        ({"ticket_id": 7, "queue": "refnud"}, "not_listed", "did you mean 'refund'?"),
        ({"ticket_id": 7, "queue": 300 * "x"}, "oversized", "at most 200 are learnt"),
        ({"ticket_id": 7, "queue": ["refund"]}, "wrong_schema", "`labels` takes a list of names"),
    ],
)
def test_a_label_that_would_not_be_learnt_is_refused(file: Path, body: Any, reason: str | None, told: str) -> None:
    code, shown = tried(file, body, "--as", "feedback", **LABELS)
    assert (code, shown.get("refused"), told in shown.get("detail", "")) == (2 if reason else 0, reason, True), shown


def test_the_kind_of_a_label_is_that_of_its_task(file: Path) -> None:
    label = {"event_id": "a", "label": "refund", "task": "tags"}
    unmapped = LABELS | {name: "" for name in LABELS if "MAP" in name}
    code, shown = tried(file, label, "--as", "feedback", **unmapped)
    assert (code, shown["refused"]) == (2, "wrong_kind")
    assert "send `labels`, a list" in shown["detail"]
    assert tried(file, label | {"labels": ["x"], "label": ""}, "--as", "feedback", **unmapped)[0] == 0


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = lifelong("try-message", str(tmp_path / "no.json"))
    assert done.returncode == 2 and "no.json" in done.stderr
