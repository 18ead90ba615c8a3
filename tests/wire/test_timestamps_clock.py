import time

from wire.timestamps import now_ms


def test_it_is_unix_time_in_milliseconds() -> None:
    before_ms = time.time() * 1000
    moment_ms = now_ms()
    assert moment_ms >= before_ms - 1
    assert moment_ms <= time.time() * 1000
