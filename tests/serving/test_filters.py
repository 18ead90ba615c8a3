"""The filters of a batch: each answer goes through all of them, in order, and nothing else does."""

import msgspec
import pytest

from serving.filters import apply_filters
from serving.queue import Batch, Item, ItemFailure
from tests.wire.samples import answer_to
from wire.records import Answer, Event


class Naming:
    """Adds a header with its name and the times that it was told."""

    def __init__(self, name: str) -> None:
        self._name = name

    def apply(self, answer: Answer, *, queued_s: float, took_s: float) -> Answer:
        header = (self._name, f"{queued_s:g} {took_s:g}")
        return msgspec.structs.replace(answer, headers=(*answer.headers, header))


def test_each_answer_goes_through_all_filters_in_order_with_its_own_times() -> None:
    failure = ItemFailure(event=Event(id="f", text="t"), reason="model_failed")
    batch: Batch[Item] = Batch([], 10.0, [9.0, 9.5, 10.0])
    first, second, third = apply_filters(
        [Naming("a"), Naming("b")], batch, [answer_to("x"), failure, answer_to("y")], began_s=10.0, ended_s=11.0
    )
    assert isinstance(first, Answer) and isinstance(third, Answer)
    assert first.headers == (("a", "1 2"), ("b", "1 2"))
    assert second is failure
    assert third.headers == (("a", "0 1"), ("b", "0 1"))


def test_a_filter_that_raises_ends_the_batch() -> None:
    """An answer that was not filtered must not leave: it may lack what the settings ask for."""

    class Broken:
        def apply(self, answer: Answer, *, queued_s: float, took_s: float) -> Answer:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        apply_filters([Broken()], Batch([], 0.0, [0.0]), [answer_to("x")], began_s=0.0, ended_s=0.0)
