"""Tests that records in flight are bounded in number and in bytes."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from wire.bus.publisher import InFlight


@given(st.lists(st.integers(1, 60), max_size=60))
def test_the_bounds_are_kept(sizes: list[int]) -> None:
    """B22: both bounds hold; a record that is larger than the bound is sent alone."""
    room = InFlight(max_records=4, max_bytes=50)
    inside: list[int] = []
    for size in sizes:
        while not room.acquire(size, timeout_s=0):
            assert len(inside) == 4 or sum(inside) + size > 50
            room.release(inside.pop(0))
        inside.append(size)
        assert len(inside) <= 4
        assert sum(inside) <= 50 or len(inside) == 1


def test_who_waits_is_let_in_when_there_is_room() -> None:
    room = InFlight(max_records=1, max_bytes=50)
    assert room.acquire(10, timeout_s=0)
    entered: list[bool] = []
    waiting = threading.Thread(target=lambda: entered.append(room.acquire(10, timeout_s=30)))
    waiting.start()
    room.release(10)
    waiting.join()
    assert entered == [True]
