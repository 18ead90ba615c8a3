"""Tests how values of messages are decoded. tests/wire/test_envelope_refusals.py tests the refusals of JSON."""

import pytest

from wire.errors import BadMessage
from wire.message import REGISTRY_MAGIC, decode_object


def test_only_values_with_a_registered_schema_use_the_decoder() -> None:
    assert decode_object(REGISTRY_MAGIC + b"x", lambda value: {"value": value}) == {"value": b"\0x"}
    assert decode_object(b'{"a": 1}', None) == decode_object(b'{"a": 1}', lambda value: {}) == {"a": 1}


def test_a_value_with_a_registered_schema_names_the_missing_setting() -> None:
    with pytest.raises(BadMessage, match=r"set bus\.registry\.url"):
        decode_object(REGISTRY_MAGIC, None)
    with pytest.raises(BadMessage, match="empty"):
        decode_object(b"", None)
