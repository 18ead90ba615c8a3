"""Two threads share parts of work: the results come in order, and each part is done once."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learner.rounds.worker import INLINE, in_order


@given(st.lists(st.integers(), max_size=20), st.booleans())
def test_results_come_in_order_and_each_part_is_done_once(parts: list[int], has_helper: bool) -> None:
    done = Counter[int]()

    def work(place: int) -> int:
        done[place] += 1
        return 2 * parts[place]

    with ThreadPoolExecutor(1) as helper:
        results = list(in_order(work, range(len(parts)), helper if has_helper else INLINE))
    assert results == [2 * part for part in parts]
    assert done == Counter(range(len(parts)))


def test_without_time_for_the_helper_the_caller_does_all_other_parts() -> None:
    begun, may_end = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as helper:
        # The helper is busy with another task.
        helper.submit(may_end.wait)

        def work(part: int) -> str:
            begun.set()
            return threading.current_thread().name

        assert list(in_order(work, range(5), helper)) == [threading.current_thread().name] * 5
        may_end.set()


def test_the_helper_begins_at_the_first_part_while_the_learner_does_the_last() -> None:
    both = threading.Barrier(2)

    def work(part: int) -> tuple[int, bool]:
        # Neither thread passes the barrier alone.
        both.wait(timeout=30)
        return part, threading.current_thread() is threading.main_thread()

    with ThreadPoolExecutor(1) as helper:
        assert list(in_order(work, range(2), helper)) == [(0, False), (1, True)]


def test_an_error_is_raised_and_the_parts_behind_it_are_left() -> None:
    def work(part: int) -> int:
        if part == 0:
            raise ValueError("the first")
        return part

    with ThreadPoolExecutor(1) as helper, pytest.raises(ValueError, match="the first"):
        list(in_order(work, range(50), helper))
    assert list(in_order(work, [3], INLINE)) == [3]
