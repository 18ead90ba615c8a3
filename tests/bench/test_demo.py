"""The rows of the demo ask for the kinds of messages that its stream has."""

from itertools import chain

from bench.demo import MADE, WRITTEN
from evals.streams.data import SUPPORT, load


def test_the_stream_has_both_kinds_of_test_items() -> None:
    items = list(chain.from_iterable(stage.test for stage in load(SUPPORT, None).stages))
    assert {item.kind for item in items} == {MADE, WRITTEN}
