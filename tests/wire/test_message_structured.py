"""Tests the structured mode of CloudEvents. tests/wire/test_mapping_records.py reads whole messages in this mode."""

import pytest

from wire.errors import BadMessage
from wire.message import is_structured, unpack_structured


@pytest.mark.parametrize(
    ("content_type", "is_it"),
    [("", False), ("application/json", False), ("Application/CloudEvents+JSON;charset=utf-8", True)],
)
def test_the_content_type_tells_the_mode(content_type: str, is_it: bool) -> None:
    assert is_structured(content_type) is is_it


def test_attributes_are_named_as_headers_and_others_are_ignored() -> None:
    event = {"specversion": "1.0", "id": "a", "data": {"text": "hello"}, "dataschema": "x", "ownattribute": 3}
    assert unpack_structured(event) == ({"ce_specversion": "1.0", "ce_id": "a"}, {"text": "hello"})


def test_data_that_is_not_an_object_is_refused() -> None:
    with pytest.raises(BadMessage, match="`data` is 'str'"):
        unpack_structured({"data": "hello"})
