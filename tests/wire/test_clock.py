import time

from wire.clock import now_ms


def test_it_is_unix_time_in_milliseconds() -> None:
    before = time.time()
    assert before * 1000 - 1 <= now_ms() <= time.time() * 1000
