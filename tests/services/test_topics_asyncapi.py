"""Tests that the AsyncAPI document describes the records, and that `docs/asyncapi.yaml` is up to date."""

import json
import re
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from services.topics import asyncapi_document
from services.versions import ROOT
from wire.envelope import to_message
from wire.records import TOPIC_RECORDS, Answer, Event, Feedback

FILE = ROOT / "docs" / "asyncapi.yaml"
HEADER = "# Made of the records by `python -m tests.services.test_topics_asyncapi`.\n"


def as_text() -> str:
    return HEADER + yaml.safe_dump(asyncapi_document(), sort_keys=False, width=120)


def test_the_file_in_the_docs_is_the_document() -> None:
    assert as_text() == FILE.read_text(), f"write it with `python -m {__name__}`"


def test_every_topic_is_described_and_every_reference_leads_somewhere() -> None:
    document = asyncapi_document("eu.")
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {f"eu.{record.TOPIC}" for record in TOPIC_RECORDS}
    for path in re.findall(r"'#/([^']+)'", str(document)):
        found: Any = document
        for name in path.split("/"):
            found = found[name]


def test_messages_of_ours_are_valid() -> None:
    components = asyncapi_document()["components"]
    answer = Answer(
        event_id="e",
        text="t",
        label=None,
        score=0.0,
        weights_version=1,
        arm="stable",
        precision="int8",
        rollout_revision=1,
    )
    for record in (Event(id="e", text="t", time_ms=5), answer, Feedback(event_id="e", label="a", source="s")):
        message = to_message(record)
        described = components["messages"][type(record).__name__]
        schema = {**components["schemas"][type(record).__name__], "components": components}
        Draft202012Validator(schema).validate(json.loads(message.value or b""))
        headers = {name: (value or b"").decode() for name, value in message.headers}
        Draft202012Validator(described["headers"]).validate(headers)
        assert {name for name in headers if name.startswith("ce_")} <= described["headers"]["properties"].keys()


if __name__ == "__main__":
    FILE.write_text(as_text())
