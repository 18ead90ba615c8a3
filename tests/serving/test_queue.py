"""The queue in front of the model."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from serving.errors import QueueClosed, QueueFull
from serving.queue import DEFAULT, Batch, BatchQueue, ItemOptions, Priority, QueueState, ignore_abandoned


@dataclass(frozen=True)
class Text:
    num_tokens: int
    num_bytes: int = 1
    item_options: ItemOptions = DEFAULT


def make_queue(
    *,
    max_items: int = 100,
    max_bytes: int = 1 << 20,
    items: int = 4,
    tokens: int = 100,
    wait_ms: float = 0.0,
    on_abandoned: Callable[[int], None] = ignore_abandoned,
) -> BatchQueue[Text]:
    return BatchQueue(
        max_items=max_items,
        max_bytes=max_bytes,
        max_batch_items=items,
        max_batch_tokens=tokens,
        max_wait_ms=wait_ms,
        on_abandoned=on_abandoned,
    )


def list_lengths(batch: Batch[Text] | None) -> list[int]:
    assert batch is not None
    return [item.num_tokens for item in batch.items]


@pytest.mark.parametrize(
    ("lengths", "fitting"),
    [
        ([5], 1),
        ([5, 5], 2),
        ([5, 5, 1], 2),  # the budget is full
        ([4, 4, 4], 2),  # the third does not fit
        ([99], 1),  # longer than the budget: alone
        ([99, 1], 1),
        ([1, 99], 1),  # in order: nothing overtakes
        ([1, 1, 1, 1, 1], 4),  # the number of items is full
    ],
)
def test_a_batch_is_the_longest_prefix_within_the_budget(lengths: list[int], fitting: int) -> None:
    queue = make_queue(tokens=10, items=4)
    queue.submit_many([Text(length) for length in lengths])
    assert list_lengths(queue.take()) == lengths[:fitting]


def test_what_came_while_the_model_was_busy_is_one_batch() -> None:
    queue = make_queue()
    for length in (1, 2, 3):
        queue.submit(Text(length))
    assert list_lengths(queue.take()) == [1, 2, 3]


def test_batches_keep_the_order() -> None:
    queue = make_queue(tokens=10)
    assert queue.submit_many([Text(length) for length in (6, 6, 3, 2)]) == 4
    assert [list_lengths(queue.take()) for _ in range(3)] == [[6], [6, 3], [2]]


def test_a_full_queue_refuses_at_once() -> None:
    queue = make_queue(max_items=2)
    queue.submit_many([Text(1), Text(2)])
    with pytest.raises(QueueFull, match="2 texts wait already"):
        queue.submit(Text(3))


def test_as_many_are_taken_as_there_is_room_for() -> None:
    queue = make_queue(max_items=3)
    assert queue.submit_many([Text(1), Text(2)]) == 2
    assert queue.load == pytest.approx(2 / 3)
    assert queue.submit_many([Text(3), Text(4)]) == 1
    assert (len(queue), queue.load) == (3, 1.0)


def test_the_queue_is_bounded_in_bytes_too() -> None:
    """B22: the number of texts alone bounds no memory, since a text may be long."""
    queue = make_queue(max_bytes=100)
    assert queue.submit_many([Text(1, num_bytes=60), Text(2, num_bytes=40), Text(3, num_bytes=1)]) == 2
    assert queue.load == 1.0
    assert list_lengths(queue.take()) == [1, 2]
    assert queue.submit_many([Text(4, num_bytes=100)]) == 1


def test_room_comes_back_when_a_batch_is_taken() -> None:
    queue = make_queue(max_items=1)
    for length in (1, 2, 3):
        queue.submit(Text(length))
        assert list_lengths(queue.take()) == [length]


def test_a_closed_queue_hands_out_what_it_has_and_ends() -> None:
    queue = make_queue()
    queue.submit(Text(7))
    queue.close()
    assert list_lengths(queue.take()) == [7]
    assert queue.take() is None
    assert queue.state is QueueState.CLOSED
    with pytest.raises(QueueClosed):
        queue.submit(Text(8))


def test_close_ends_a_consumer_that_waits() -> None:
    queue = make_queue()
    found: list[Batch[Text] | None] = []
    consumer = threading.Thread(target=lambda: found.append(queue.take()))
    consumer.start()
    queue.close()
    consumer.join(5)
    assert found == [None]


def test_an_idle_model_waits_for_company_until_the_deadline() -> None:
    queue = make_queue(wait_ms=50)
    queue.submit(Text(1))
    started_s = time.monotonic()
    assert list_lengths(queue.take()) == [1]
    assert time.monotonic() - started_s > 0.04


def test_a_full_batch_does_not_wait() -> None:
    queue = make_queue(wait_ms=60_000, items=2)
    queue.submit_many([Text(1), Text(2)])
    assert list_lengths(queue.take()) == [1, 2]


def test_a_text_that_waited_long_enough_does_not_wait_again() -> None:
    now_s = [0.0]
    queue: BatchQueue[Text] = BatchQueue(
        max_items=9, max_bytes=99, max_batch_items=9, max_batch_tokens=9, max_wait_ms=1_000, clock=lambda: now_s[0]
    )
    queue.submit(Text(1))
    now_s[0] = 1.0  # the model was busy meanwhile
    batch = queue.take()
    assert batch is not None
    assert batch.ready_s == 0.0


def test_company_that_fills_the_batch_ends_the_wait() -> None:
    queue = make_queue(wait_ms=60_000, items=2)
    queue.submit(Text(1))
    late = threading.Timer(0.05, lambda: queue.submit(Text(2)))
    late.start()
    assert list_lengths(queue.take()) == [1, 2]
    late.join()


@pytest.mark.parametrize(("lengths", "is_full"), [([1], False), ([1, 1], True), ([10], True)])
def test_a_full_batch_waits_when_items_or_tokens_fill_one(lengths: list[int], is_full: bool) -> None:
    queue = make_queue(items=2, tokens=10)
    queue.submit_many([Text(length) for length in lengths])
    assert queue.has_full_batch == is_full


def test_many_producers_lose_nothing() -> None:
    queue = make_queue(max_items=10_000, items=32)

    def produce() -> None:
        for _ in range(500):
            queue.submit(Text(1))

    producers = [threading.Thread(target=produce) for _ in range(4)]
    for producer in producers:
        producer.start()
    count = 0
    while count < 2_000:
        count += len(list_lengths(queue.take()))
    for producer in producers:
        producer.join()
    assert (count, len(queue)) == (2_000, 0)


URGENT = ItemOptions(priority=Priority.HIGH)
LATER = ItemOptions(priority=Priority.LOW)


def test_an_urgent_text_overtakes_those_of_the_last_second_and_no_others() -> None:
    now_s = [0.0]
    queue: BatchQueue[Text] = BatchQueue(
        max_items=9, max_bytes=99, max_batch_items=1, max_batch_tokens=9, max_wait_ms=0, clock=lambda: now_s[0]
    )
    for now_s[0], length, item_options in ((0.0, 1, DEFAULT), (0.1, 2, LATER), (0.6, 3, DEFAULT), (1.5, 4, URGENT)):
        queue.submit(Text(length, item_options=item_options))
    now_s[0] = 3.0
    queue.submit(Text(5, item_options=URGENT))
    assert [list_lengths(queue.take()) for _ in range(5)] == [[1], [4], [3], [2], [5]]


def test_what_nobody_waits_for_takes_no_place_in_a_batch() -> None:
    gone = ItemOptions(is_wanted=lambda: False)
    dropped: list[int] = []
    queue = make_queue(items=2, tokens=10, on_abandoned=dropped.append)
    queue.submit_many(
        [Text(1, item_options=gone), Text(2), Text(9, item_options=gone), Text(3), Text(4, item_options=gone)]
    )
    batch = queue.take()
    assert (list_lengths(batch), dropped, len(queue)) == ([2, 3], [2], 1)
    queue.close()
    assert queue.take() is None, "no batch is empty"
    assert (dropped, len(queue)) == ([2, 1], 0)
