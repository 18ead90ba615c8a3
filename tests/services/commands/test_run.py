"""The signals that end the commands that run, and whose state they do not touch."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.commands.context import stop_signal
from services.commands.exits import CONFIGURATION
from tests.services.command_line import lifelong
from wire.files import FolderOwner, claim_folder

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


@pytest.mark.live
@pytest.mark.parametrize(("command", "folder"), [("learn", "learner"), ("serve", "spool")])
def test_a_tenant_does_not_start_on_the_state_of_another(
    there: dict[str, str], tmp_path: Path, command: str, folder: str
) -> None:
    """Both have the state folder of this machine, and other prefixes."""
    claim_folder(tmp_path / folder, FolderOwner(bus_prefix="shop.", store_prefix="shop:"), "state_dir")
    done = lifelong(command, **there, LIFELONG_BUS__PREFIX="desk.")
    assert done.returncode == CONFIGURATION
    assert "the service with bus.prefix 'shop.'" in done.stderr and "state_dir" in done.stderr
