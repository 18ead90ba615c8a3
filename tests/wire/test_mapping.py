"""Tests templates: paths, optional fields, values as text, and errors with their positions."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wire.errors import BadMessage
from wire.mapping import MAX_FILLED_BYTES, MAX_TEMPLATE_CHARS, Template

BODY: dict[str, Any] = {
    "subject": "Parcel",
    "body": "Where is it?",
    "number": 7,
    "big": 12345678901234567890,
    "share": 0.5,
    "urgent": True,
    "note": None,
    "customer": {"name": "Ada", "tags": ["vip", "eu"]},
    "with space": "ok",
    "agent.name": "Eve",
    "agent": {"name": "somebody else", "team.lead": "Bob"},
    "agent.gone": None,
}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5
)


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("{subject}\n{body}", "Parcel\nWhere is it?"),
        ("{number} {big} {share} {urgent}", "7 12345678901234567890 0.5 true"),
        ("{customer.name} {customer.tags.1}", "Ada eu"),
        ("{customer.tags}", '["vip","eu"]'),
        ("{with space}", "ok"),
        ("{agent.name} {agent.team.lead} {agent.gone?}", "Eve Bob "),
        ("{note?}|{gone?}|{customer.gone.deep?}", "||"),
        ("{{subject}} costs {number}", "{subject} costs 7"),
        ("no field", "no field"),
    ],
)
def test_fields_become_text(text: str, filled: str) -> None:
    assert Template.of(text, "t").fill(BODY) == filled


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{bdy}", "`bdy` is missing (setting t): there are 'subject, body, number"),
        ("{bdy}", "Did you mean 'body'?"),
        ("{note}", "`note` is null; write {note?} if it may be null"),
        ("{subject.name}", "there is no field in a JSON str"),
        ("{customer.tags.2}", "there is no field in a JSON list"),
        ("{customer.nam}", "Did you mean 'name'?"),
        ("{agent.gone}", "`agent.gone` is missing"),
        ("{customer.tags.vip}", "there is no field in a JSON list"),
    ],
)
def test_a_field_that_is_missing_is_named_with_the_nearest(text: str, told: str) -> None:
    with pytest.raises(BadMessage) as caught:
        Template.of(text, "t").fill(BODY)
    assert caught.value.reason == "wrong_schema"
    assert told in caught.value.detail


@pytest.mark.parametrize("text", ["{", "}", "{}", "a {b", "{a{b}}", "{.a}", "{a..b}", "{?}"])
def test_an_invalid_template_is_refused_with_its_position(text: str) -> None:
    with pytest.raises(ValueError, match=r"t: character \d+: write \{field\}"):
        Template.of(text, "t")


@pytest.mark.parametrize("text", ["{body.__class__}", "{body!r}", "{number:>9999999}", "{body[0]}"])
def test_a_template_reaches_only_fields(text: str) -> None:
    """A template of str.format could read attributes, and pad to any length."""
    with pytest.raises(BadMessage):
        Template.of(text, "t").fill(BODY)


def test_templates_and_their_texts_are_bounded() -> None:
    with pytest.raises(ValueError, match="characters"):
        Template.of("x" * (MAX_TEMPLATE_CHARS + 1), "t")
    with pytest.raises(BadMessage, match="longer than"):
        Template.of("{a}{a}", "t").fill({"a": "x" * MAX_FILLED_BYTES})


def test_one_field_alone_keeps_its_type() -> None:
    assert Template.of("{number}", "t").value(BODY) == 7
    assert Template.of("{number}!", "t").value(BODY) == "7!"


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=5), VALUES, max_size=5))
def test_any_template_is_refused_or_filled_or_names_the_missing_field(text: str, body: dict[str, Any]) -> None:
    try:
        Template.of(text, "t").fill(body)
    except BadMessage as error:
        assert error.detail
    except ValueError as error:
        assert "t: character" in str(error)
