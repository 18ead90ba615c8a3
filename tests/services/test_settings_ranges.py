"""Tests that every number has a range, that values in the range are accepted, and that all others are refused."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.settings import BadSettings, Settings, load, values_by_name
from services.settings_docs import schemas
from tests.services.known_settings import NUMBERS, bounds, facts


def inside(name: str) -> st.SearchStrategy[float]:
    """Returns a strategy for values in the range of the setting, its ends among them."""
    schema = schemas(Settings)[name]
    low, high = bounds(name)
    if schema["type"] == "integer":
        return st.integers(int(low), int(high))
    return st.floats(low, high, exclude_min="minimum" not in schema, exclude_max="maximum" not in schema)


def test_every_number_has_a_range_with_its_default_in_it() -> None:
    for name in NUMBERS:
        assert load(file=None, environ={}, flags={name: schemas(Settings)[name]["default"]}), bounds(name)


@given(st.sampled_from(NUMBERS), st.data())
def test_what_is_in_its_range_is_taken_unless_it_contradicts_another(name: str, data: st.DataObject) -> None:
    value = data.draw(inside(name))
    try:
        loaded = values_by_name(load(file=None, environ={}, flags={name: str(value)}).settings)[name]
    except BadSettings as error:
        (problem,) = error.problems
        assert name in problem and "must" in problem
    else:
        assert loaded == value
        assert type(loaded) is (int if schemas(Settings)[name]["type"] == "integer" else float)


@given(st.sampled_from(NUMBERS), st.data())
def test_what_is_outside_is_refused_with_the_range(name: str, data: st.DataObject) -> None:
    low, high = bounds(name)
    no_numbers = [] if schemas(Settings)[name]["type"] == "integer" else ["nan", "inf"]
    beyond = data.draw(st.sampled_from([low - 1, high + 1, *no_numbers]))
    with pytest.raises(BadSettings, match=re.escape(facts(name))):
        load(file=None, environ={}, flags={name: str(beyond)})
