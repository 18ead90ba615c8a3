"""One record of each topic, with every field set, and a plain message with its place."""

import json
from typing import Any

from wire.inputs import Features
from wire.message import Message, Place
from wire.receipts import Verdicts
from wire.records import (
    AdminAction,
    Answer,
    DeadLetter,
    Event,
    Feedback,
    Quarantined,
    TaskAnswer,
    TextVector,
    TopicRecord,
)

PLACE = Place(topic="events.v1", partition=3, offset=1042)

VERDICTS = Verdicts(arm="stable", version=3, names=((3, 0xA750374A),))

FEATURES: Features = {"amount": 12.5, "country": "nz"}

URGENCY = TaskAnswer(
    label="high",
    score=0.5,
    weights_version=3,
    arm="stable",
    precision="w8c",
    rollout_revision=2,
    scores=(("high", 0.5),),
    receipt="18bcfe569c8.ffeeddccbbaa99887766554433221100",
    refused=True,
    certainty=0.125,
)

SAMPLES: tuple[TopicRecord, ...] = (
    Event(
        id="e-17",
        text="My card d\u00e9clined",
        key="customer-9",
        source="shop",
        time_ms=1_700_000_000_123,
        features=FEATURES,
        tasks=("", "urgency"),
    ),
    Answer(
        event_id="e-17",
        text="My card d\u00e9clined",
        label="card_declined",
        score=0.75,
        weights_version=12,
        arm="candidate",
        precision="w8c",
        rollout_revision=4,
        scores=(("card_declined", 0.75), ("refund", 0.25)),
        key="customer-9",
        source="replica-1",
        event_time_ms=1_700_000_000_123,
        time_ms=1_700_000_000_456,
        receipt="18bcfe569c8.00112233445566778899aabbccddeeff",
        vector=TextVector(z=b"\x00\x00\x80\x3f", encoding="5f3a", code="00112233445566778899aabbccddeeff"),
        audit=True,
        refused=True,
        certainty=0.25,
        features=FEATURES,
        task="queue",
        tasks={"urgency": URGENCY},
    ),
    Feedback(
        event_id="e-17",
        label="card_declined",
        key="customer-9",
        source="desk",
        time_ms=1_700_000_100_000,
        receipt="18bcfe569c8.00112233445566778899aabbccddeeff",
        approval="ffeeddccbbaa99887766554433221100",
        event_source="shop",
        text="My card d\u00e9clined",
        answered="refund",
        proof="0123456789abcdef0123456789abcdef",
        features=FEATURES,
        task="urgency",
    ),
    Quarantined(
        reason="flip",
        event_id="e-17",
        label="card_declined",
        key="customer-9",
        source="desk",
        time_ms=1_700_000_100_000,
        receipt="18bcfe569c8.00112233445566778899aabbccddeeff",
        text="My card d\u00e9clined",
        answered="refund",
        event_source="shop",
        detail="ask for a receipt",
        features=FEATURES,
        task="urgency",
    ),
    DeadLetter(
        reason="undecodable",
        detail="no JSON",
        topic="events.v1",
        partition=3,
        offset=1042,
        payload=b"\x00\xff{",
        source="replica-1",
        time_ms=1_700_000_000_789,
    ),
    AdminAction(
        action="promote",
        outcome="asked",
        detail="version 12",
        client="127.0.0.1",
        number=7,
        source="page-1",
        time_ms=1_700_000_000_901,
        previous="a" * 64,
        code="b" * 64,
    ),
)


def answer_to(event_id: str, *, text: str = "hello", **others: Any) -> Answer:
    """Returns an answer with the required fields, and `others`."""
    return Answer(
        event_id=event_id,
        text=text,
        label=None,
        score=0.0,
        weights_version=1,
        arm="stable",
        precision="int8",
        rollout_revision=1,
        **others,
    )


def plain(body: object, *, key: bytes | None = None) -> Message:
    """Returns a message of plain JSON, as any producer may send it."""
    return Message(key=key, value=json.dumps(body).encode(), timestamp_ms=5)
