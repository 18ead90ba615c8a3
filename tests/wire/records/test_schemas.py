"""Tests that the published schemas are up to date, and that our messages satisfy them."""

import json

import msgspec
import pytest
from jsonschema import Draft202012Validator

from services.versions import ROOT
from tests.wire.samples import SAMPLES
from wire.envelope import to_message
from wire.records import TopicRecord
from wire.records.schemas import REF, SCHEMAS, schema_components

SENT = [sample for sample in SAMPLES if type(sample).__name__.lower() in SCHEMAS]


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_published_schemas_are_up_to_date(name: str) -> None:
    """Write it again with `lifelong topics schema NAME > docs/schemas/NAME.json`."""
    assert json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text()) == SCHEMAS[name]


@pytest.mark.parametrize("record", SENT, ids=lambda record: type(record).__name__)
def test_our_messages_satisfy_their_schemas(record: TopicRecord) -> None:
    schema = SCHEMAS[type(record).__name__.lower()]
    Draft202012Validator.check_schema(schema)
    value = to_message(record).value
    assert value is not None
    Draft202012Validator(schema).validate(json.loads(value))
    assert not Draft202012Validator(schema).is_valid({"text": 3})


class Described(msgspec.Struct):
    """Has several lines.

    This one is indented in the source,
      and this one more.
    """


def test_a_description_is_not_indented_in_any_release_of_msgspec() -> None:
    lines = ["Has several lines.", "", "This one is indented in the source,", "  and this one more."]
    assert schema_components([Described], REF)["Described"]["description"].splitlines() == lines
