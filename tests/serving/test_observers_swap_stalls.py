"""The stall of a swap, from the times of the batches around it."""

from threading import Thread

from serving.observers import NUM_STALLS, StallReport, SwapStalls
from serving.queue import Batch, Item
from tests.serving.versions import live_versions


def run_batch(stalls: SwapStalls, number: int | None, *, ready_s: float, start_s: float, end_s: float) -> None:
    live = {} if number is None else {"": live_versions([1], number=number)}
    batch: Batch[Item] = Batch([], ready_s, [])
    stalls.batch_began(batch, live, start_s)
    stalls.batch_ended(batch, live, [], end_s)


def test_a_stall_is_from_the_end_of_the_batch_before_or_from_when_the_next_was_ready() -> None:
    stalls = SwapStalls()
    run_batch(stalls, 1, ready_s=0.0, start_s=1.0, end_s=2.0)
    run_batch(stalls, 1, ready_s=1.5, start_s=2.25, end_s=3.0)
    run_batch(stalls, 2, ready_s=2.5, start_s=3.5, end_s=4.0)
    run_batch(stalls, 3, ready_s=5.0, start_s=5.125, end_s=6.0)
    assert stalls.report == StallReport(2, (500.0, 125.0), (250.0, 250.0))
    assert stalls.seen_number == 3


def test_the_first_weights_replace_nothing_and_skipped_swaps_cost_nothing() -> None:
    stalls = SwapStalls()
    run_batch(stalls, None, ready_s=0.0, start_s=1.0, end_s=2.0)
    assert stalls.report == StallReport(0, (), ())
    run_batch(stalls, 2, ready_s=2.0, start_s=3.0, end_s=4.0)
    assert stalls.report == StallReport(1, (0.0,), (0.0,))
    run_batch(stalls, 4, ready_s=4.0, start_s=4.5, end_s=5.0)
    assert stalls.report == StallReport(3, (0.0, 0.0, 500.0), (0.0, 0.0, 1_000.0))


def test_only_the_last_stalls_are_kept() -> None:
    stalls = SwapStalls()
    for number in range(1, NUM_STALLS + 10):
        run_batch(stalls, number, ready_s=float(number), start_s=float(number), end_s=float(number))
    assert stalls.report.num == NUM_STALLS + 8
    assert len(stalls.report.stalls_ms) == NUM_STALLS


def test_whoever_waits_for_a_batch_is_told_when_it_begins() -> None:
    stalls = SwapStalls()
    assert not stalls.await_number(2, timeout_s=0.0)
    batches = Thread(target=run_batch, args=(stalls, 3), kwargs={"ready_s": 0.0, "start_s": 0.0, "end_s": 0.0})
    batches.start()
    assert stalls.await_number(2, timeout_s=60.0)
    assert stalls.await_number(3, timeout_s=0.0)
    batches.join()


def test_whoever_waits_for_the_next_batch_is_told_when_it_begins_under_whatever_weights() -> None:
    stalls = SwapStalls()
    run_batch(stalls, 1, ready_s=0.0, start_s=0.0, end_s=0.0)
    assert not stalls.await_next(timeout_s=0.0), "the one before does not count"
    told: list[bool] = []
    waiter = Thread(target=lambda: told.append(stalls.await_next(timeout_s=60.0)))
    waiter.start()
    while waiter.is_alive():
        run_batch(stalls, 1, ready_s=0.0, start_s=0.0, end_s=0.0)
    assert told == [True]
