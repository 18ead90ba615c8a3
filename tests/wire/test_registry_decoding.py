"""Tests that messages with a registered schema are decoded (Avro and JSON), and all others are refused."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from io import BytesIO
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.schema_registry import CUSTOMER, TICKET, Registry
from wire.bus.reading import readings
from wire.config import BusConfig
from wire.errors import BadMessage
from wire.mapping import EventMap, MapConfig
from wire.message import Message, Place
from wire.records import Event
from wire.registry import HEAD, UNREADABLE, RegistryDecoder, Schema, payload_decoder

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
VALUES = {"ticket_id": 7, "subject": None, "body": "where is it", "customer": {"name": "eve"}, "at": AT}


def avro(values: dict[str, Any]) -> bytes:
    named: dict[str, Any] = {}
    parse_schema(CUSTOMER, named_schemas=named)
    file = BytesIO()
    schemaless_writer(file, parse_schema(TICKET, named_schemas=named), values)
    return file.getvalue()


def framed(number: int, payload: bytes) -> bytes:
    return HEAD.pack(0, number) + payload


@pytest.fixture
def decode(registry: Registry) -> RegistryDecoder:
    registry.add_tickets(7)
    registry.add(8, {"type": "object"}, schemaType="JSON")
    registry.add(9, {"type": "string"})
    registry.add(10, "syntax", schemaType="PROTOBUF")
    registry.add(11, {"type": "no type"})
    return RegistryDecoder(registry.config)


def test_avro_and_json_become_objects(decode: RegistryDecoder, registry: Registry) -> None:
    for _ in range(3):
        assert decode(framed(7, avro(VALUES))) == {**VALUES, "at": "2026-11-28T12:00:00Z"}
        assert decode(framed(8, b'{"a": [1]}')) == {"a": [1]}
    assert set(registry.asked.values()) == {1}


@pytest.mark.parametrize(
    ("value", "reason", "why"),
    [
        (b"\0\0", "undecodable", "too few"),
        (framed(7, avro(VALUES)[:-1]), "undecodable", "does not match its schema 7"),
        (framed(7, avro(VALUES) + b"x"), "undecodable", "1 bytes are left"),
        (framed(8, b"{"), "undecodable", "does not match its schema 8"),
        (framed(8, b"[1]"), "wrong_schema", "is of a list"),
        (framed(9, b"\x02a"), "wrong_schema", "is of a str"),
        (framed(10, b""), "undecodable", "a schema of PROTOBUF"),
        (framed(11, b""), "undecodable", "is not an Avro schema"),
        (framed(12, b""), "undecodable", "has no /schemas/ids/12"),
        (framed(7, bytes(1 << 20)), "oversized", "at most"),
    ],
)
def test_a_payload_that_does_not_match_its_schema_is_refused(
    decode: RegistryDecoder, value: bytes, reason: str, why: str
) -> None:
    with pytest.raises(BadMessage, match=why) as refusal:
        decode(value)
    assert refusal.value.reason == reason


@given(st.binary(max_size=40))
def test_no_bytes_of_a_sender_raise_anything_else(payload: bytes) -> None:
    read = payload_decoder((Schema(json.dumps(CUSTOMER)), Schema(json.dumps(TICKET))))
    with suppress(*UNREADABLE):
        assert set(read(payload)) == set(VALUES)


def test_a_mapped_topic_is_decoded_with_the_registry(registry: Registry) -> None:
    registry.add_tickets(7)
    section = EventMap(topic=("crm",), id="{ticket_id}", text="{subject?}{body}", key="{customer.name}")
    config = BusConfig(map=MapConfig(events=section), registry=registry.config)
    reading = readings(config, [Event])["crm"]
    message = Message(key=None, value=framed(7, avro(VALUES)))
    event = reading.parse(message, Place(topic="crm", partition=0, offset=0))
    assert (event.id, event.text, event.key) == ("7", "where is it", "eve")
