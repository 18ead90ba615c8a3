"""The published schemas are those of the records, and what we send satisfies them."""

import json

import msgspec
import pytest
from jsonschema import Draft202012Validator

from services.versions import ROOT
from tests.wire.samples import SAMPLES
from wire.envelope import to_message
from wire.records import TopicRecord
from wire.records.schemas import REF, SCHEMAS, components_of

SENT = [sample for sample in SAMPLES if type(sample).__name__.lower() in SCHEMAS]


@pytest.mark.parametrize("name", SCHEMAS)
def test_what_is_published_is_what_is_generated(name: str) -> None:
    """Write it again with `lifelong topics schema NAME > docs/schemas/NAME.json`."""
    assert json.loads((ROOT / "docs" / "schemas" / f"{name}.json").read_text()) == SCHEMAS[name]


@pytest.mark.parametrize("record", SENT, ids=lambda record: type(record).__name__)
def test_what_we_send_satisfies_its_schema(record: TopicRecord) -> None:
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


def test_a_description_has_no_indentation_of_the_source_whatever_the_release_of_msgspec() -> None:
    lines = ["Has several lines.", "", "This one is indented in the source,", "  and this one more."]
    assert components_of([Described], REF)["Described"]["description"].splitlines() == lines
