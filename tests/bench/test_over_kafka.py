"""The time at which the answer to each event was read."""

from contextlib import closing

import pytest

from bench.over_kafka import collect_read_times
from tests.evals.load.test_ledger import answer
from wire.bus import Bus
from wire.records import Answer

pytestmark = pytest.mark.live


def test_the_first_answer_to_each_event_counts_and_others_do_not(bus: Bus) -> None:
    answers = [answer(event_id, "x") for event_id in ("a", "of another run", "a", "b")]
    bus.publisher().send_all(answers, 30.0)
    read_s: dict[str, float] = {}
    with closing(bus.follow([Answer], {})) as follower:
        collect_read_times(follower, {"a", "b"}, read_s)
    assert set(read_s) == {"a", "b"}
