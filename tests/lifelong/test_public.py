"""The public package: its names, their import time, and records that are written and read again."""

import importlib.metadata
import subprocess
import sys

import pytest

import lifelong
from lifelong import Answer, BadMessage, DeadLetter, Event, Feedback, Message, Quarantined
from tests.test_architecture import HEAVY
from tests.wire.samples import PLACE, SAMPLES


def test_these_names_are_public() -> None:
    assert lifelong.__all__ == [
        "Answer",
        "AsyncClient",
        "BadMessage",
        "Client",
        "ClientError",
        "DeadLetter",
        "Encoder",
        "Event",
        "Feedback",
        "Head",
        "HeadSums",
        "Message",
        "NotAuthorized",
        "Outputs",
        "Place",
        "Quarantined",
        "RequestInvalid",
        "ServedAnswer",
        "ServiceUnavailable",
        "Strategy",
        "TaskAnswer",
        "UnknownAnswer",
        "__version__",
        "from_message",
        "to_message",
    ]
    assert all(getattr(lifelong, name).__doc__ for name in lifelong.__all__)


def test_the_version_is_that_of_the_distribution() -> None:
    assert lifelong.__version__ == importlib.metadata.version("lifelong")


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_a_record_is_read_as_it_was_written(record: Event | Answer | Feedback | DeadLetter | Quarantined) -> None:
    assert lifelong.from_message(type(record), lifelong.to_message(record), PLACE) == record


def test_a_message_that_is_no_record_is_refused_with_a_reason() -> None:
    with pytest.raises(BadMessage) as caught:
        lifelong.from_message(Event, Message(key=None, value=b"{}"), PLACE)
    assert caught.value.reason == "wrong_schema"


def test_nothing_heavy_is_imported() -> None:
    heavy = (*HEAVY, "kafka", "redis", "pydantic", "numpy", "structlog", "httpx2")
    code = f"import sys, lifelong; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
