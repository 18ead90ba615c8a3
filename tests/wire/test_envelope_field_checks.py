"""Tests which values of a parsed record are refused. `test_envelope_refusals` has the refusals of messages."""

import pytest

from tests.wire.samples import SAMPLES
from wire.envelope import MAX_FIELD_BYTES, check_fields
from wire.errors import BadMessage
from wire.records import Answer, Event, Feedback, TopicRecord


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_every_sample_passes(record: TopicRecord) -> None:
    check_fields(record)


@pytest.mark.parametrize(
    ("record", "reason", "said"),
    [
        (Event(id="e-1", features={"": 1.0}), "wrong_schema", "a name that is blank"),
        (Event(id="e-1"), "wrong_schema", "there are no `features`"),
        (Event(id="e" * (MAX_FIELD_BYTES + 1), text="a"), "oversized", "`id` has 1025 bytes"),
        (Event(id="e-1", text="a", time_ms=-1), "wrong_schema", "expected milliseconds since 1970"),
        (Feedback(event_id="e-1", label=" "), "wrong_schema", "`label` is blank"),
        (Feedback(event_id="e-1"), "wrong_schema", "`label` is blank"),
        (Feedback(event_id="e-1", label="a", labels=("b",)), "wrong_schema", "either `label` or `labels`"),
        (Feedback(event_id="e-1", label="a", value=1.0), "wrong_schema", "or `value`"),
        (Feedback(event_id="e-1", value=float("inf")), "wrong_schema", "not a finite number"),
        (Feedback(event_id="e-1", labels=("a", " ")), "wrong_schema", "a blank name"),
        (Feedback(event_id="e-1", labels=("a\x1db",)), "wrong_schema", "U\\+001D"),
        (Feedback(event_id="e-1", label="\x1da"), "wrong_schema", "U\\+001D"),
        (Feedback(event_id="e-1", labels=("a" * 1025,)), "oversized", "a label in `labels` has 1025 bytes"),
        (Feedback(event_id="e-1", label="a", features={"x": float("nan")}), "wrong_schema", "'x' is nan"),
    ],
)
def test_an_invalid_field_is_named(record: Event | Answer | Feedback, reason: str, said: str) -> None:
    with pytest.raises(BadMessage, match=said) as caught:
        check_fields(record)
    assert caught.value.reason == reason
