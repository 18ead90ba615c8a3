"""The signals that end the commands that run."""

import os
import signal
from collections.abc import Iterator

import pytest

from services.commands.run import stop_signal

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_handlers")
@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_sets_the_event_and_ends_nothing(number: signal.Signals) -> None:
    stop = stop_signal()
    assert not stop.is_set()
    os.kill(os.getpid(), number)
    assert stop.wait(5.0)
