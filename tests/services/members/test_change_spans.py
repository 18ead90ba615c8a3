"""Tests the parser of spans on the command line."""

import pytest

from model.config import Span
from model.errors import WrongConfig
from services.members.change import parse_span


def test_a_span_has_a_kind_and_numbers() -> None:
    assert parse_span("topk,topk=8,block=32,window=64") == Span(kind="topk", topk=8, block=32, window=64)
    assert parse_span("full") == Span(kind="full")


@pytest.mark.parametrize("text", ["near", "local,window", "local,width=3", "local,window=-1", "local", ""])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(WrongConfig):
        parse_span(text)
