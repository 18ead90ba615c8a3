import threading
from collections.abc import Iterator

from structlog.testing import capture_logs

from learner.leadership import BACKOFF, retry_until
from wire.errors import StoreUnavailable


class Impatient(threading.Event):
    """An event that does not wait, and records the timeouts."""

    def __init__(self) -> None:
        super().__init__()
        self.waited_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited_s.append(timeout or 0.0)
        return self.is_set()


def away(times: int) -> Iterator[StoreUnavailable]:
    return iter([StoreUnavailable("nobody is there")] * times)


def test_a_server_is_asked_until_it_answers_and_said_to_be_away_once() -> None:
    stop = Impatient()
    errors = away(6)

    def ask() -> str:
        for error in errors:
            raise error
        return "here"

    with capture_logs() as logs:
        assert retry_until(ask, stop) == "here"
    assert [log["event"] for log in logs] == ["waiting_for_server"]
    for waited_s, longest_s in zip(stop.waited_s, [1.0, 2.0, 4.0, 8.0, 10.0, 10.0], strict=True):
        assert waited_s <= longest_s
        assert waited_s >= (1 - BACKOFF.jitter) * longest_s


def test_waiting_ends_when_told_to_stop() -> None:
    stop = Impatient()

    def ask() -> None:
        stop.set()
        raise StoreUnavailable("nobody is there")

    assert retry_until(ask, stop) is None
