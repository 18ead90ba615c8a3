"""N6, B25 no. 11: a follower whose log has lost its last records, on a real Kafka."""

import pytest

from tests.brokers import take
from tests.lost_tails import CutTopics
from tests.waiting import eventually
from tests.wire.bus.traffic import patient, send
from wire.bus import Bus, Followed, Follower, Loss, Received
from wire.records import Feedback

pytestmark = pytest.mark.live


def labels(*numbers: int) -> list[Feedback]:
    return [Feedback(event_id=f"e{number}", label="a", time_ms=1) for number in numbers]


def names(received: list[Received[Feedback]]) -> list[str]:
    return [item.record.event_id for item in received]


def read_on(follower: Follower) -> tuple[list[str], list[Loss]]:
    """Reads to the end of the log; returns the records and the losses."""
    came: list[str] = []
    losses: list[Loss] = []

    def is_read() -> bool:
        followed: Followed = patient(follower.poll)(100)
        came.extend(names(followed.received))
        losses.extend(getattr(followed, "losses", ()))
        return bool(losses) and not followed.received and not follower.lag()

    eventually(is_read, within_s=60)
    return came, losses


def test_the_past_is_not_read_again_and_no_later_record_is_left_out(cut_topics: CutTopics) -> None:
    bus = Bus(cut_topics.config, "reader")
    name = cut_topics.partition(Feedback)
    publisher = bus.publisher()
    send(publisher, *labels(*range(5)))
    follower = bus.follow([Feedback], {})
    take(follower.poll, 5)
    cut_topics.remember(Feedback)
    send(publisher, *labels(*range(5, 10)))
    take(follower.poll, 5)
    before = follower.poll(0)
    cut_topics.cut(Feedback)
    assert read_on(follower) == ([], [Loss(name, 10, 5)])

    # The log has grown past the position of a follower that was closed: only the epoch shows the truncation.
    bus.close()
    bus = Bus(cut_topics.config, "later reader")
    send(bus.publisher(), *labels(*range(20, 30)))
    away = bus.follow([Feedback], before.offsets, marks=before.marks)
    assert read_on(away) == ([f"e{number}" for number in range(20, 30)], [Loss(name, 10, 5)])
    unmarked = bus.follow([Feedback], before.offsets)
    assert names(take(unmarked.poll, 5)) == [f"e{number}" for number in range(25, 30)], "no mark, nothing is noticed"
    after = away.poll(0)
    assert after.offsets == {name: 15} and after.marks[name].skip_ms == 0

    # A paused topic keeps its mark.
    away.pause([Feedback])
    away.resume([Feedback])
    cut_topics.cut(Feedback)
    assert read_on(away) == ([], [Loss(name, 15, 5)])
    bus.close()


def test_the_lost_records_do_not_count_as_lag(cut_topics: CutTopics) -> None:
    """The broker may not send the end of the log again before the next record arrives."""
    bus = Bus(cut_topics.config, "reader")
    publisher = bus.publisher()
    send(publisher, *labels(*range(5)))
    cut_topics.remember(Feedback)
    send(publisher, *labels(*range(5, 10)))
    follower = bus.follow([Feedback], {})
    take(follower.poll, 10)
    cut_topics.cut(Feedback)
    eventually(lambda: bool(getattr(patient(follower.poll)(100), "losses", ())))
    follower.poll(0)
    assert not follower.lag()
    bus.close()


def test_a_log_that_shows_a_copy_of_what_was_read_teaches_nothing(cut_topics: CutTopics) -> None:
    """The log was truncated before records that it has again: records with the same times were read before."""
    bus = Bus(cut_topics.config, "reader")
    name = cut_topics.partition(Feedback)
    send(bus.publisher(), *labels(*range(5)))
    follower = bus.follow([Feedback], {})
    take(follower.poll, 5)
    mark = follower.poll(0).marks[name]
    copied = bus.follow([Feedback], {name: 5}, marks={name: type(mark)(log="before it was moved", log_ms=mark.log_ms)})
    skipped = 0

    def is_read() -> bool:
        nonlocal skipped
        followed = copied.poll(100)
        assert not followed.received
        skipped += followed.num_skipped
        return skipped == 5

    eventually(is_read)
    amid = copied.poll(0)
    assert amid.marks[name].skip_ms == mark.log_ms, "a reader that starts in the middle continues to skip"
    send(bus.publisher(), *labels(5))
    restarted = bus.follow([Feedback], {name: 2}, marks=amid.marks)
    assert names(take(restarted.poll, 1)) == ["e5"]
    bus.close()
